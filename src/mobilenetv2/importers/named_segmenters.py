"""Imports Mobile DeepLabv3 from files of named tensors: Hugging Face's, torchvision's, TensorFlow's variables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import huggingface, origins, segmenter_names
from mobilenetv2.importers.huggingface import Config
from mobilenetv2.importers.segmenter import background_of
from mobilenetv2.importers.segmenter_names import SOURCES, SegmenterSource
from mobilenetv2.importers.structure import backbone_of
from mobilenetv2.importers.torch_family import width_of, with_channels
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.preprocessing import Preprocessing
from mobilenetv2.spec import Backbone, Background, DeepLab, Spec, deeplab

Array = npt.NDArray[np.float32]

_FITS = (
    "imported are networks whose head on the last block's map is image pooling, a 1x1 and perhaps three atrous 3x3 "
    "convolutions, a 1x1 projection and 1x1 logits"
)


def recognise(path: Path, tensors: Mapping[str, StoredTensor]) -> str | None:
    """The source of networks for masks that has such names, or None.

    Raises `WeightsError` where they are those of a network for masks that does not fit, saying what it has.
    """
    found = origins.network_tensors(tensors, [])
    if (text := segmenter_names.stranger(found)) is not None:
        raise WeightsError(f"{path} is a network for masks that does not fit, {text}; {_FITS}")
    return segmenter_names.recognise(found)


def read(
    path: Path, tensors: Mapping[str, StoredTensor], notes: list[str], *, source: str, size: int | None = None,
    output_stride: int | None = None,
) -> ModelFile:  # fmt: skip
    """The network for masks among the `tensors` of `path`, named as `source` names them; `notes` are put into it.

    Widths, branches and classes follow from names and shapes; of Hugging Face's, the rest from the configuration that
    lies beside the file. The output stride is `output_stride`, else what that says, else the source's usual one, and a
    note says so: weights are the same for each of them. Each tensor of the network is there, and of the others none is
    left over but those that masks do not depend on, or `WeightsError` names one.
    """
    rules = SOURCES[source]
    tensors = origins.network_tensors(tensors, notes)
    if rules.unused and (left := [name for name in tensors if re.match(rules.unused, name)]):
        notes.append(f"{len(left)} tensors were left out ({min(left)}, ...): masks do not depend on them")
        tensors = {name: tensor for name, tensor in tensors.items() if name not in left}
    config = huggingface.config_beside(path) if source == "huggingface" else _conventions(rules)
    if config.output_stride is None and output_stride is None:
        notes.append(
            f"the output stride is not in the file: {rules.output_stride} was taken, --output-stride N says another"
        )
    stride = output_stride or config.output_stride or rules.output_stride
    branches = segmenter_names.atrous_branches(source, tensors)
    rates = _rates(path, rules, branches, stride, notes)
    skeleton = Spec(Backbone(), spec_fields.deeplab(aspp=branches > 0, rates=rates))
    theirs = dict(rules.origins(skeleton, tensors))
    found = origins.make(path, source, theirs, tensors, notes)
    net = _backbone(skeleton.backbone, found, dataclasses.replace(config, output_stride=stride))
    layers = deeplab.layers(skeleton)
    channels, outputs = width_of(found, layers.project), width_of(found, layers.logits)
    labels, background = huggingface.classes(path, config, outputs)
    head = _head(rules, skeleton, channels, outputs, background)
    network = spec_fields.network(net, head)
    origins.check_shapes(path, network, found, theirs)
    info = ModelInfo(
        network, _preprocessing(path, rules, config, size, net.in_channels, notes), labels,
        provenance={"source": source, "notes": notes},
    )  # fmt: skip
    return ModelFile(info, found)


def _conventions(rules: SegmenterSource) -> Config:
    return Config(padding=rules.padding, bn_eps=rules.bn_eps)


def _rates(path: Path, rules: SegmenterSource, branches: int, stride: int, notes: list[str]) -> tuple[int, ...]:
    """The atrous branches' rates at output stride 16, as a spec counts them."""
    usual = DeepLab().rates
    if rules.dilations is not None:
        usual = tuple(dilation * stride // 16 for dilation in rules.dilations)
    if branches not in (0, len(usual)):
        raise WeightsError(f"{path} has {branches} atrous branches, whose rates no file says: known are {len(usual)}")
    if branches:
        shown = ", ".join(str(rate * 16 // stride) for rate in usual)
        notes.append(f"the atrous rates are not in the file: {shown} were taken, the usual ones")
    return usual


def _backbone(skeleton: Backbone, found: Mapping[str, Array], config: Config) -> Backbone:
    images = found[f"{spec.stem(skeleton).name}.weight"].shape
    return backbone_of(
        skeleton, lambda conv: width_of(found, conv), last=False, in_channels=images[1] if len(images) == 4 else 3,
        padding=config.padding, bn_eps=config.bn_eps, activation=config.activation,
        output_stride=config.output_stride,
    )  # fmt: skip


def _head(
    rules: SegmenterSource, skeleton: Spec, channels: int, outputs: int, background: Background | None
) -> DeepLab:
    background = background or background_of(outputs)
    known = deeplab.head_of(skeleton)
    return spec_fields.deeplab(
        classes=outputs - (background != "none"), background=background, channels=channels, aspp=known.aspp,
        rates=known.rates, **rules.head,
    )  # fmt: skip


def _preprocessing(
    path: Path, rules: SegmenterSource, config: Config, size: int | None, channels: int, notes: list[str]
) -> Preprocessing:
    """A picture is fitted into the network's input as a whole, as TensorFlow's DeepLab does it."""
    if size is None and config.size is None:
        notes.append(f"the input size is not in the file: {rules.size} was taken, --size N says another")
    sides = size or config.size or rules.size
    fitted, pixels = image.recipe("deeplab", sides), image.recipe(rules.recipe, sides)
    if pixels.mean != fitted.mean:
        fitted = dataclasses.replace(fitted, mean=pixels.mean, std=pixels.std, recipe="custom")
    return with_channels(huggingface.prepared(path, fitted, config, notes, channels=channels), channels, notes)
