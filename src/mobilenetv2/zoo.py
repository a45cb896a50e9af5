"""Which MobileNetV2 classifiers are published, where, and how good they are said to be.

A name is `source/width-resolution`, followed by what tells the source's files of one size apart:
`keras/0.35-96`, `torchvision/1.0-224-v2`, `tflite/1.0-224-quant`. What is fetched is the publisher's own
file, which the importer of that source reads.

Files are kept at `<home>/zoo/<name>/<file name of the URL>`, where `<home>` is `files.home()`.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobilenetv2 import download, files
from mobilenetv2.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Entry:
    """One published checkpoint, as its publisher describes it.

    `source` names the importer; `licence` is an SPDX name, or "other" where the publisher says just that.
    `sha256` is in lower-case hex digits: all 64, or the first 8 where the publisher puts them into the file
    name, or "" where none is published. `megabytes` is in millions of bytes, rounded as given, None where
    unknown. `top1` and `top5` are fractions of ImageNet's validation pictures at this resolution, None where
    unknown. For `keras` and `huggingface` they are those of the TF-Slim weights from which the files were
    converted.
    """

    name: str
    source: str
    url: str
    licence: str
    width_mult: float
    resolution: int
    sha256: str
    megabytes: float | None
    top1: float | None
    top5: float | None

    @property
    def file_name(self) -> str:
        return urllib.parse.urlsplit(self.url).path.rpartition("/")[2]


def entries() -> tuple[Entry, ...]:
    """Every checkpoint, grouped by source."""
    return _ENTRIES


def find(name: str) -> Entry:
    """The entry of this name. Raises `UsageError` with the nearest name for any other."""
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    raise unknown_name("model", name, [entry.name for entry in _ENTRIES])


def path_of(entry: Entry, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Where the file lies or would lie; `cache` stands for `<home>/zoo`. Nothing is looked at or made."""
    return Path(cache if cache is not None else files.home() / "zoo") / entry.name / entry.file_name


def fetch(entry: Entry, *, cache: str | os.PathLike[str] | None = None, progress: bool | None = None) -> Path:
    """The publisher's file at `path_of(entry)`, downloaded if it is not there, its hash checked in any case.

    Promises and errors are those of `download.fetch`.
    """
    path = path_of(entry, cache=cache)
    return download.fetch(download.Download(entry.url, path, entry.sha256, entry.name), progress=progress)


# Top-1 and top-5 in per cent in the README of TF-Slim's MobileNetV2.
_TF_SLIM = {
    "0.35": {96: (45.5, 70.4), 128: (50.8, 75.0), 160: (55.7, 79.1), 192: (58.2, 81.2), 224: (60.3, 82.9)},
    "0.5": {96: (51.2, 75.8), 128: (57.7, 80.8), 160: (61.0, 83.2), 192: (63.9, 85.4), 224: (65.4, 86.4)},
    "0.75": {96: (58.8, 81.6), 128: (63.2, 85.3), 160: (66.4, 87.3), 192: (68.7, 88.9), 224: (69.8, 89.6)},
    "1.0": {96: (60.3, 83.2), 128: (65.3, 86.9), 160: (68.8, 89.0), 192: (70.7, 90.1), 224: (71.8, 91.0)},
    "1.3": {224: (74.4, 92.1)},
    "1.4": {224: (75.0, 92.5)},
}

# Hashes that no file name holds: Hugging Face shows them; those of tflite were taken from the files of the commit.
_SHA256 = {
    "huggingface/0.35-96": "639728f97c1f86fcba4a0b7e3f6ba415cc3dbb3cbd2c467b029a7ce811ae2334",
    "huggingface/0.75-160": "963ae7c2b05f7ead5130bcc8d28e67bb5bafaf44bc51312f94e62c2d9e20cc66",
    "huggingface/1.0-224": "94f61c6902b411e6b730cfe2443c8b2d983a2d50d289c4bd7083e0583ccdfe76",
    "huggingface/1.4-224": "a5c7f052fbbaf60880d9f9dbc12550e5ddb4375f9b8a96cc1d488103689b6ec6",
    "tflite/1.0-224-quant": "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
    "tflite/1.0-224-ptq": "5d3137241276e79c86d14a74fe43581398ae0e815191d3dba45495b810840e8c",
}

_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_HUGGINGFACE = "https://huggingface.co/google/mobilenet_v2_"
_KERAS = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_"
)
_D_LI14 = "https://github.com/d-li14/mobilenetv2.pytorch/raw/master/pretrained/"
_TONYLINS = "https://www.dropbox.com/s/47tyzpofuuyyv1b/"
_MMPRETRAIN = "https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/"
_CORAL = "https://github.com/google-coral/test_data/raw/104342d2d3480b3e66203073dac24f4e2dbb4c41/"


def _table() -> Iterator[Entry]:
    bsd, apache = "BSD-3-Clause", "Apache-2.0"

    v1, v2 = "mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth"
    yield _row("torchvision/1.0-224-v1", _TORCHVISION + v1, bsd, (71.878, 90.286), megabytes=14.21)
    yield _row("torchvision/1.0-224-v2", _TORCHVISION + v2, bsd, (72.154, 90.822), megabytes=14.26)

    yield _row("timm/0.5-224", _TIMM + "mobilenetv2_050-3d30d450.pth", apache, (65.928, 86.114))
    yield _row("timm/1.0-224", _TIMM + "mobilenetv2_100_ra-b33bc2c4.pth", apache, (72.910, 91.000))
    # more blocks than the paper's network has: timm's depth multipliers 1.2 and 1.4
    yield _row("timm/1.1-224-110d", _TIMM + "mobilenetv2_110d_ra-77090ade.pth", apache, (75.056, 92.186))
    yield _row("timm/1.2-224-120d", _TIMM + "mobilenetv2_120d_ra-5987e2ed.pth", apache, (77.300, 93.516))
    yield _row("timm/1.4-224", _TIMM + "mobilenetv2_140_ra-21a4e913.pth", apache, (76.528, 93.008))

    # safetensors where there are any (for 0.35 in a commit that was never merged), else the zip pickle
    commit = "5d96f9d4a2d8dfc954023eeaa456d88c1503ea1f"
    for width, size, file, megabytes in (
        ("0.35", 96, f"{commit}/model.safetensors", 6.81),
        ("0.75", 160, "main/pytorch_model.bin", 10.8),
        ("1.0", 224, "main/model.safetensors", 14.2),
        ("1.4", 224, "main/pytorch_model.bin", 24.7),
    ):
        url = f"{_HUGGINGFACE}{width}_{size}/resolve/{file}"
        yield _row(f"huggingface/{width}-{size}", url, "other", _TF_SLIM[width][size], megabytes=megabytes)

    for width, sizes in _TF_SLIM.items():
        for size, scores in sizes.items():
            yield _row(f"keras/{width}-{size}", f"{_KERAS}{width}_{size}.h5", apache, scores)

    for what, file, top1, top5 in (
        ("0.1-224", "mobilenetv2_0.1-7d1d638a.pth", 34.896, 56.564),
        ("0.25-224", "mobilenetv2_0.25-b61d2159.pth", 52.352, 75.932),
        ("0.35-224", "mobilenetv2_0.35-b2e15951.pth", 60.092, 82.172),
        ("0.5-224", "mobilenetv2_0.5-eaa6f9ad.pth", 64.592, 85.392),
        ("0.75-224", "mobilenetv2_0.75-dace9791.pth", 69.952, 88.986),
        ("1.0-96", "mobilenetv2_96x96-ff0e83d8.pth", 62.696, 84.046),
        ("1.0-128", "mobilenetv2_128x128-fd66a69d.pth", 66.740, 86.952),
        ("1.0-160", "mobilenetv2_160x160-64dc7fa1.pth", 69.504, 88.848),
        ("1.0-192", "mobilenetv2_192x192-e423d99e.pth", 71.076, 89.760),
        ("1.0-224", "mobilenetv2_1.0-0c6065bc.pth", 72.192, 90.534),
        ("1.0-224-v2", "mobilenetv2-c5e733a8.pth", 72.834, 91.060),
    ):
        yield _row(f"d_li14/{what}", _D_LI14 + file, apache, (top1, top5))

    # the seven digits in this name are not torch.hub's eight: nobody says what they are a hash of
    yield _row("tonylins/1.0-224", _TONYLINS + "mobilenetv2_1.0-f2a8633.pth.tar?dl=1", apache, (71.8, None))

    file = "mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth"
    yield _row("mmpretrain/1.0-224", _MMPRETRAIN + file, apache, (71.86, 90.42))

    # 8-bit files; no accuracy is published beside them
    quant, ptq = "mobilenet_v2_1.0_224_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    yield _row("tflite/1.0-224-quant", _CORAL + quant, apache, (None, None), megabytes=3.61)
    yield _row("tflite/1.0-224-ptq", _CORAL + ptq, apache, (None, None), megabytes=4.07)


def _row(
    name: str,
    url: str,
    licence: str,
    scores: tuple[float | None, float | None],
    *,
    megabytes: float | None = None,
) -> Entry:
    """A row from what its publisher prints: `scores` in per cent; what the names say is read out of them."""
    source, _, what = name.partition("/")
    width, resolution = what.split("-")[:2]
    # the convention of torch.hub and of mmpretrain: -<first 8 digits of the sha256>.pth
    prefix = re.search(r"-([0-9a-f]{8})\.pth$", url)
    top1, top5 = (None if score is None else round(score / 100, 6) for score in scores)
    return Entry(
        name=name,
        source=source,
        url=url,
        licence=licence,
        width_mult=float(width),
        resolution=int(resolution),
        sha256=_SHA256.get(name) or (prefix[1] if prefix else ""),
        megabytes=megabytes,
        top1=top1,
        top5=top5,
    )


_ENTRIES = tuple(_table())
