"""Other libraries' checkpoints of named tensors: torch's zip and stream, safetensors, NumPy's npz, and
Hugging Face's folders."""

from __future__ import annotations

import io
import json
import os
import pickletools
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import values
from fuzz.archives import Member, unzip, zip_changed, zipped
from fuzz.models import joined, split
from fuzz.sandbox import Case
from fuzz.targets import Maker, Target, imported
from mobilenetv2 import model_file
from mobilenetv2.importers import import_file

Change = Callable[[random.Random, str, bytes], bytes]

HINTS = (
    "mobilenet_v2", "MobileNetV2ForImageClassification", "relu6", "relu", "tf", 8, 16, 32, 224, [224, 224],
    {"height": 96, "width": 96}, {"shortest_edge": 256}, {"0": "cat", "1": "dog"}, 2, 3, 0.001, 1 / 255,
    [0.5, 0.5, 0.5], "F32", "F16", "BF16", "F64", "I64", [0, 8],
)  # fmt: skip


def imports(path: Path) -> Callable[[], None]:
    """Import the file, and check what came of it as if it were to be written."""

    def run() -> None:
        model = import_file(path)
        model_file.check(model, name=str(path))
        json.dumps(model.info.provenance)

    return run


def warm(path: Path) -> None:
    """Import a good file in the parent, so that no child has to import modules: 0.1 s each."""
    import_file(path)


# -- torch


def _prepare_torch(folder: Path) -> Maker:
    if (writer := os.fork()) == 0:  # torch stays in a process of its own: each fork of this one would cost 30 ms more
        try:
            _write_torch(folder)
        finally:
            os._exit(0)
    os.waitpid(writer, 0)
    for name in ("zip", "stream"):
        warm(folder / f"{name}.pth")
    archives = [unzip((folder / f"{name}.pth").read_bytes()) for name in ("zip", "half")]
    stream = (folder / "stream.pth").read_bytes()

    def make(rng: random.Random, here: Path) -> Case:
        path, roll = here / "weights.pth", rng.random()
        if roll < 0.55:
            path.write_bytes(zipped(_of_pickle(rng, rng.choice(archives))))
        elif roll < 0.7:
            path.write_bytes(zipped(zip_changed(rng, rng.choice(archives))))
        elif roll < 0.85:
            path.write_bytes(_pickle_changed(rng, stream))
        else:
            data = rng.choice((stream, zipped(archives[0])))
            path.write_bytes(values.bytes_changed(rng, data))
        return Case(imports(path), lambda: _is_pickle(path))

    return make


def _write_torch(folder: Path) -> None:
    import torch

    plain = {name: torch.from_numpy(value) for name, value in imported().tensors.items()}
    half = {name: value.bfloat16() for name, value in plain.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in half.items()}, "best": 0.5}
    for name, content, new in (("zip", plain, True), ("half", wrapped, True), ("stream", plain, False)):
        torch.save(content, folder / f"{name}.pth", _use_new_zipfile_serialization=new)


def _of_pickle(rng: random.Random, members: list[Member]) -> list[Member]:
    return [
        Member.of(one.name, _pickle_changed(rng, one.content)) if one.name.endswith(b"data.pkl") else one
        for one in members
    ]


def _pickle_changed(rng: random.Random, data: bytes) -> bytes:
    """Numbers and texts of the pickle's own operations, which stay operations; then, at times, bytes."""
    found = [(code, argument, at) for code, argument, at in _operations(data) if at is not None]
    changed = bytearray(data)
    for _ in range(1 + int(rng.expovariate(1.0))):
        code, argument, at = rng.choice(found)
        if code.name in ("BININT1", "BININT2", "BININT") and isinstance(argument, int):
            size = {"BININT1": 1, "BININT2": 2, "BININT": 4}[code.name]
            number = rng.choice((0, 1, argument + 1, argument - 1, argument * 2, 255, 65_535, (1 << 31) - 1, -1))
            changed[at + 1 : at + 1 + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        elif code.name == "BINUNICODE" and isinstance(argument, str) and argument:
            length = len(argument.encode())
            text = rng.choice(("\x1b[31m", "weight", "0", "é", argument[::-1], "cpu")).encode() * length
            changed[at + 5 : at + 5 + length] = text[:length]
        elif code.name == "GLOBAL" or rng.random() < 0.1:
            where = at + rng.randrange(30)
            changed[where : where + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


def _operations(data: bytes) -> list[tuple[Any, Any, int | None]]:
    """Those of all pickles that follow each other in the data."""
    stream, found, start = io.BytesIO(data), list[tuple[Any, Any, int | None]](), 0
    try:
        while start < len(data):
            found += [(code, argument, at) for code, argument, at in pickletools.genops(stream)]
            start = stream.tell()
    except ValueError:
        pass  # the numbers behind the last one
    return found


def _is_pickle(path: Path) -> bool:
    data = path.read_bytes()
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    return sum(1 for _ in pickletools.genops(data)) > 0


# -- safetensors, npz, Hugging Face


def _prepare_safetensors(folder: Path) -> Maker:
    import safetensors
    import safetensors.numpy

    model = imported()
    data = safetensors.numpy.save(dict(model.tensors), {"format": "pt"})
    (folder / "good.safetensors").write_bytes(data)
    warm(folder / "good.safetensors")

    def make(rng: random.Random, here: Path) -> Case:
        path = here / "weights.safetensors"
        path.write_bytes(_safetensors_changed(rng, data))
        return Case(imports(path), lambda: bool(safetensors.safe_open(path, "numpy").keys()))

    return make


def _safetensors_changed(rng: random.Random, data: bytes) -> bytes:
    """Its header as a tree, where tensors keep their places; two tensors exchanged or renamed; bytes."""
    header, numbers = split(data)
    roll = rng.random()
    if roll < 0.35:
        return joined(values.changed(rng, header, hints=HINTS, times=1), numbers)
    if roll < 0.75:
        names = [name for name in header if name != "__metadata__"]
        a, b = rng.sample(names, 2)
        what = rng.random()
        if what < 0.3:
            header[a], header[b] = header[b], header[a]
        elif what < 0.6:
            header[rng.choice((rng.choice(values.TEXTS), a + ".x", "module." + a))] = header.pop(a)
        elif what < 0.8:
            header[a]["shape"] = rng.choice(
                ([*header[a]["shape"], 1], header[a]["shape"][::-1], [int(np.prod(header[a]["shape"]))])
            )
        else:
            header["__metadata__"] = {rng.choice(values.TEXTS): rng.choice(values.TEXTS) for _ in range(3)}
        return joined(header, numbers)
    if roll < 0.85:
        return joined(header, values.bytes_changed(rng, numbers, times=20)[: len(numbers)].ljust(len(numbers), b"\0"))
    return values.bytes_changed(rng, data)


def _prepare_npz(folder: Path) -> Maker:
    np.savez(folder / "good.npz", **imported().tensors)  # pyright: ignore[reportArgumentType] - names with dots
    warm(folder / "good.npz")
    members = unzip((folder / "good.npz").read_bytes())

    def make(rng: random.Random, here: Path) -> Case:
        path = here / "weights.npz"
        data = zipped(zip_changed(rng, members, _npy_changed))
        path.write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.1 else data)
        return Case(imports(path), lambda: _is_zip(path))

    return make


def _npy_changed(rng: random.Random, name: str, content: bytes) -> bytes:
    """The header as the text that it is, with its length right; or the numbers."""
    length = int.from_bytes(content[8:10], "little")
    text, numbers = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    roll = rng.random()
    if roll < 0.25:
        text = values.text_changed(rng, text, separators=r"[\s,:(){}']+")
    elif roll < 0.5:
        shape = rng.choice(
            ("(10000000000,)", "(1000000, 1000000)", "(-1,)", "()", "(0,)", "(3, 3", "(1e9,)", "(True,)", "('a',)")
        )
        text = text[: text.find("'shape'")] + f"'shape': {shape}, }}\n"
    elif roll < 0.6:
        text = text.replace(
            "<f4", rng.choice(("<f8", "|O", ">f4", "<U5", "<M8[s]", "<c8", "|S4", "<f2", "V4", "|b1", "<i8"))
        )
    elif roll < 0.7:
        text += " " * rng.choice((100, 20_000, 60_000))
    elif roll < 0.85:
        numbers = values.bytes_changed(rng, numbers)
    else:
        return values.bytes_changed(rng, content)
    raw = text.encode("latin-1", "replace")[:65_535]
    return content[:8] + len(raw).to_bytes(2, "little") + raw + numbers


def _is_zip(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return all(info.file_size < 1 << 24 for info in archive.infolist()) and archive.testzip() is None


def _prepare_huggingface(folder: Path) -> Maker:
    import safetensors.numpy

    from mobilenetv2.importers import names

    model = imported(padding="same", bn_eps=1e-3)
    theirs = names.of("huggingface", model.info.spec.backbone)
    weights = safetensors.numpy.save({theirs[name]: value for name, value in model.tensors.items()}, {"format": "pt"})
    config = {
        "model_type": "mobilenet_v2", "architectures": ["MobileNetV2ForImageClassification"], "depth_multiplier": 0.1,
        "hidden_act": "relu6", "output_stride": 32, "layer_norm_eps": 0.001, "tf_padding": True, "num_channels": 3,
        "first_layer_is_expansion": True, "finegrained_output": True, "image_size": 96,
        "id2label": {"0": "background", "1": "cat", "2": "dog", "3": "owl"}, "label2id": {"background": 0, "cat": 1},
    }  # fmt: skip
    processor = {
        "do_resize": True, "size": {"shortest_edge": 128}, "resample": 2, "do_center_crop": True, "do_rescale": True,
        "crop_size": {"height": 96, "width": 96}, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "MobileNetV2ImageProcessor",
    }  # fmt: skip
    for name, content in (("config.json", json.dumps(config).encode()), ("model.safetensors", weights)):
        (folder / name).write_bytes(content)
    warm(folder)

    def make(rng: random.Random, here: Path) -> Case:
        texts = {"config.json": config, "preprocessor_config.json": processor}
        for name, tree in texts.items():
            text = values.dumps(values.changed(rng, tree, hints=HINTS, gentle=0.9) if rng.random() < 0.7 else tree)
            data = text.encode("utf-8", "surrogatepass")
            (here / name).write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.1 else data)
        changed = _safetensors_changed(rng, weights) if rng.random() < 0.2 else weights
        (here / "model.safetensors").write_bytes(changed)
        return Case(imports(here), lambda: all(isinstance(json.loads((here / n).read_bytes()), dict) for n in texts))

    return make


TARGETS = (
    Target("torch", _prepare_torch, 1.0),
    Target("safetensors", _prepare_safetensors, 0.7),
    Target("npz", _prepare_npz, 0.7),
    Target("huggingface", _prepare_huggingface, 1.0),
)
