"""Imports the checkpoints of PyTorch's family: torchvision, timm, Hugging Face, d-li14, tonylins, mmpretrain."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.image import Preprocessing
from mobilenetv2.importers import huggingface, names
from mobilenetv2.importers.complete import published
from mobilenetv2.importers.huggingface import Config
from mobilenetv2.importers.structure import DEPTHS, backbone_of
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import STAGES, Backbone, ConvSpec, Padding, Spec

DEFAULT_SIZE = 224
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_TORCHVISION_V2 = "7ebf99e0"  # begins the sha256 of torchvision's second weights, and is in their file's name
_TORCHVISION_V1 = "b0353104"
_FIRST_OF_IMAGENET = "tench"


class Shaped(Protocol):
    """A tensor of a file, or an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Conventions:
    """What a source's tensors do not say: how it pads, batch norm's epsilon, how it prepares pictures."""

    padding: Padding
    bn_eps: float
    recipe: str  # a name of `image.recipe`


CONVENTIONS: Mapping[str, Conventions] = {
    "torchvision": Conventions("symmetric", 1e-5, "torchvision-v1"),
    "timm": Conventions("symmetric", 1e-5, "timm"),
    "huggingface": Conventions("same", 1e-3, "hf"),
    "d_li14": Conventions("symmetric", 1e-5, "torchvision-v1"),
    "tonylins": Conventions("symmetric", 1e-5, "torchvision-v1"),
    "mmpretrain": Conventions("symmetric", 1e-5, "torchvision-v1"),
}


def read(
    path: Path, tensors: Mapping[str, StoredTensor], notes: list[str], *, source: str | None = None,
    size: int | None = None, sha256: str = "",
) -> ModelFile:  # fmt: skip
    """The classifier in the `tensors` of `path`; `source` None: found out from their names. `notes` are put into it.

    The network follows from the tensors' shapes; each of its tensors is there and none is left over, or
    `WeightsError` names one. The input size is `size`, else what a configuration beside the file says, else
    the file's name ("_96", "160x160"), else 224.
    """
    tensors = {name.removeprefix("mobilenet_v2."): tensor for name, tensor in tensors.items()}  # Hugging Face's
    source = source or _source(path, tensors)
    skeleton = _skeleton(path, source, tensors)
    theirs = names.of(source, skeleton)
    check_names(path, source, set(theirs.values()), set(tensors))
    found = {ours: tensors[name] for ours, name in theirs.items()}
    network, labels, config = _network(source, skeleton, found), (), None
    if source == "huggingface":
        config = huggingface.config_beside(path)
        if config.output_stride is None and published(sha256) is None:
            taken = CONVENTIONS[source]
            notes.append(
                f"{huggingface.CONFIG} is not beside the weights: padding {taken.padding!r}, batch norm's epsilon "
                f"{taken.bn_eps:g} and relu6 were taken, as the published ones have them"
            )
        network, labels = _configured(path, network, config)
    for ours, shape in spec.tensors(network).items():
        tensor = found[ours]
        if tensor.shape != shape:
            raise WeightsError(f"{path}: tensor {theirs[ours]} is {list(tensor.shape)}, expected {list(shape)}")
    note_precisions(found.values(), notes)
    info = ModelInfo(
        spec=network,
        preprocessing=_preprocessing(path, source, network.backbone, size, sha256, notes, config),
        labels=labels,
        provenance={"source": source, "notes": notes},
    )
    return ModelFile(info, {ours: float32(path, theirs[ours], tensor) for ours, tensor in found.items()})


def _source(path: Path, tensors: Mapping[str, StoredTensor]) -> str:
    source = names.recognise(name.removeprefix("mobilenet_v2.") for name in tensors)
    if source is not None:
        return source
    if any(name.endswith(("zero_point", "_packed_params")) for name in tensors):
        raise WeightsError(f"{path} is a quantised PyTorch checkpoint: import the float checkpoint it was made from")
    shown = ", ".join(list(tensors)[:3])
    raise WeightsError(
        f"{path} has the tensors of no known MobileNetV2 ({shown}, ...): known are {', '.join(names.NAMINGS)}"
    )


def _skeleton(path: Path, source: str, tensors: Mapping[str, StoredTensor]) -> Backbone:
    """A network with the file's count of blocks: of whatever width, as names do not depend on it."""
    count = names.count_blocks(source, tensors)
    for depth in DEPTHS:
        if sum(depth) == count:
            return Backbone(stages=tuple((t, c, n, s) for (t, c, _, s), n in zip(STAGES, depth, strict=True)))
    known = ", ".join(str(sum(depth)) for depth in DEPTHS)
    raise WeightsError(f"{path} has {count} inverted residuals under {source}'s names: known are {known}")


def check_names(path: Path, source: str, expected: set[str], found: set[str]) -> None:
    parts = [
        f"tensor {min(some)}{f' and {len(some) - 1} more' if len(some) > 1 else ''} {what}"
        for some, what in ((expected - found, "missing"), (found - expected, "left over"))
        if some
    ]
    if parts:
        raise WeightsError(f"{path} is not a MobileNetV2 of {source}: {'; '.join(parts)}")


def _network(source: str, skeleton: Backbone, tensors: Mapping[str, StoredTensor]) -> Spec:
    """The spec with the channels of `tensors` (under our names)."""

    images = tensors[f"{spec.stem(skeleton).name}.weight"].shape
    logits = tensors[f"{spec.linear(Spec(skeleton)).name}.bias"].shape
    net = backbone_of(
        skeleton, lambda conv: width_of(tensors, conv), in_channels=images[1] if len(images) == 4 else 3,
        padding=CONVENTIONS[source].padding, bn_eps=CONVENTIONS[source].bn_eps,
    )  # fmt: skip
    return Spec(net, spec_fields.classifier(outputs=logits[0] if logits else 0))


def _configured(path: Path, network: Spec, config: Config) -> tuple[Spec, tuple[str, ...]]:
    """The network as `config` says it is run, and its classes' names unless they are ImageNet's, which have better."""
    net = dataclasses.replace(
        network.backbone, padding=config.padding, bn_eps=config.bn_eps, activation=config.activation,
        output_stride=config.output_stride or network.backbone.output_stride,
    )  # fmt: skip
    outputs = network.head.outputs
    names, background = huggingface.classes(path, config, outputs)
    if len(names) == 1000 and names[0].lower().startswith(_FIRST_OF_IMAGENET):
        names = ()
    return Spec(net, spec_fields.classifier(outputs=outputs, background=background or "none")), names


def _preprocessing(
    path: Path, source: str, net: Backbone, size: int | None, sha256: str, notes: list[str], config: Config | None
) -> Preprocessing:
    recipe = CONVENTIONS[source].recipe
    if source == "torchvision":
        if _TORCHVISION_V2 in path.name or sha256.startswith(_TORCHVISION_V2):
            recipe = "torchvision-v2"
        elif not (_TORCHVISION_V1 in path.name or sha256.startswith(_TORCHVISION_V1)):
            notes.append(
                "prepared as torchvision's first weights were (shortest side 256): its two sets of weights have the "
                "same structure, and this file is neither as published"
            )
    sides = size or (config and config.size) or _size_in_name(path.name)
    if sides is None and config is not None:  # the others' files that are not for 224 say it in their names
        notes.append(f"the input size is not in the file: {DEFAULT_SIZE} was taken, --size N says another")
    preprocessing = image.recipe(recipe, sides or DEFAULT_SIZE)
    if config is not None:
        preprocessing = huggingface.prepared(path, preprocessing, config, notes, channels=net.in_channels)
    return with_channels(preprocessing, net.in_channels, notes)


def with_channels(preprocessing: Preprocessing, channels: int, notes: list[str]) -> Preprocessing:
    """`preprocessing`, which is for RGB, for a network of `channels` input channels."""
    if channels == len(preprocessing.mean):
        return preprocessing
    notes.append(f"how its {channels} input channels were normalised is unknown: (pixel - 127.5) / 127.5")
    middle = (127.5,) * channels
    return dataclasses.replace(preprocessing, mean=middle, std=middle, recipe="custom")


def width_of(tensors: Mapping[str, Shaped], conv: ConvSpec) -> int:
    """The outputs of `conv` among `tensors` (under our names).

    By majority: where one tensor is misshapen it is that one which the check of shapes will name.
    """
    sizes = [tensors[name].shape[:1] for name in spec.conv_tensors(conv)]
    return (Counter(sizes).most_common(1)[0][0] or (0,))[0]


def _size_in_name(name: str) -> int | None:
    """The input size in names such as mobilenet_v2_0.35_96 and mobilenetv2_160x160-64dc7fa1.pth."""
    found = re.search(r"(?<!\d)(\d{2,3})x\1(?!\d)", name) or re.search(
        r"_(96|128|160|192|224|256|288|320)(?![\dx])", name
    )
    return int(found[1]) if found else None


def float32(path: Path, name: str, tensor: StoredTensor) -> npt.NDArray[np.float32]:
    """The tensor's values. Raises `WeightsError` where they are not floating-point numbers."""
    if tensor.dtype not in _FLOATS:
        raise WeightsError(f"{path}: tensor {name} is {tensor.dtype}, expected one of {', '.join(_FLOATS)}")
    return np.array(tensor.values(), dtype=np.float32, order="C")  # a copy: views of one storage may overlap


def note_precisions(tensors: Iterable[StoredTensor], notes: list[str]) -> None:
    """Put into `notes` which types became float32, if any."""
    if other := {tensor.dtype for tensor in tensors} - {"float32"}:
        notes.append(f"{' and '.join(sorted(other))} tensors were turned into float32")
