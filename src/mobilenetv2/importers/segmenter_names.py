"""What each source calls the tensors of a Mobile DeepLabv3, what names do not say, and how near ones are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.importers import names, origins
from mobilenetv2.importers.origins import Origin, Origins
from mobilenetv2.spec import Padding, Spec, deeplab

Array = npt.NDArray[Any]
Names = Collection[str]


@dataclass(frozen=True, slots=True)
class SegmenterSource:
    """One source of networks for masks. `marks` are beginnings of names that together occur in no other's files.

    `origins` lists those of every tensor of a network, given the names in the file; `atrous` is the beginning of the
    names of an atrous branch, with its number in a group. `output_stride`, `dilations` (None: `DeepLab`'s rates) and
    `head`, fields of `DeepLab`, are what no tensor tells. `unused` begins the names of tensors that masks do not
    depend on.
    """

    marks: tuple[str, ...]
    origins: Callable[[Spec, Names], Origins]
    atrous: str | None
    unused: str | None
    padding: Padding
    bn_eps: float
    recipe: str  # of the pixels' mean and standard deviation: a name of `image.recipe`
    size: int
    output_stride: int
    dilations: tuple[int, ...] | None = None
    head: Mapping[str, Any] = field(default_factory=dict)


def recognise(found: Names) -> str | None:
    """The source that has such names, or None."""
    return next((name for name, source in SOURCES.items() if _has(found, *source.marks)), None)


def stranger(found: Names) -> str | None:
    """What a network for masks of such names has that none here has, or None."""
    return next((text for marks, text in STRANGERS if _has(found, *marks)), None)


def atrous_branches(source: str, found: Names) -> int:
    """How many atrous branches the names of a `source` file speak of."""
    pattern = SOURCES[source].atrous
    return 0 if pattern is None else len({match[1] for name in found if (match := re.match(pattern, name))})


def _has(found: Names, *marks: str) -> bool:
    return all(any(re.match(mark, name) for name in found) for mark in marks)


# -- Hugging Face: transformers/models/mobilenet_v2/modeling_mobilenet_v2.py, MobileNetV2ForSemanticSegmentation


def _huggingface(network: Spec, found: Names) -> Origins:
    """The head reads the last block's map; the pooling branch comes first; batch norm in the head has its own eps."""
    net, layers = network.backbone, deeplab.layers(network)
    prefix = "mobilenet_v2." if any(name.startswith("mobilenet_v2.") for name in found) else ""
    pairs = [(f"{prefix}{conv}", f"{prefix}{norm}") for conv, norm in names.of_convolutions("huggingface", net)]
    yield from origins.with_norm(spec.convolutions(net)[:-1], pairs[:-1])
    heads = [f"segmentation_head.{name}" for name in ("conv_pool", "conv_aspp", "conv_projection")]
    pairs = [(f"{name}.convolution", f"{name}.normalization") for name in heads]
    yield from origins.with_norm([layers.pooling, *layers.branches, layers.project], pairs)
    yield from origins.plain(layers.logits, "segmentation_head.classifier.convolution")


# -- torchvision: models/segmentation/deeplabv3.py, ASPP on the first 18 of mobilenet_v2().features


def _torchvision(network: Spec, found: Names) -> Origins:
    """The branches' order is 1x1, atrous, pooling; the logits follow the projection."""
    net, layers = network.backbone, deeplab.layers(network)
    root = "backbone.features." if any(name.startswith("backbone.features.") for name in found) else "backbone."
    pairs = [
        (conv.replace("features.", root, 1), norm.replace("features.", root, 1))
        for conv, norm in names.of_convolutions("torchvision", net)
    ]
    yield from origins.with_norm(spec.convolutions(net)[:-1], pairs[:-1])
    aspp, count = "classifier.0.convs", len(layers.branches)
    yield from origins.with_norm([layers.pooling], [(f"{aspp}.{count}.1", f"{aspp}.{count}.2")])
    yield from origins.with_norm(layers.branches, [(f"{aspp}.{i}.0", f"{aspp}.{i}.1") for i in range(count)])
    for ours, origin in origins.with_norm([layers.project], [("classifier.0.project.0", "classifier.0.project.1")]):
        reordered = Origin(origin.names, lambda values: _pooling_first(values, count + 1))
        yield ours, reordered if ours == f"{layers.project.name}.weight" else origin
    places = [match[1] for name in found if (match := re.match(r"(classifier\.[1-9]\d*)\.weight$", name))]
    yield from origins.plain(layers.logits, min(places, default="classifier.1"))


def _pooling_first(weights: Array, branches: int) -> Array:
    """A projection's weights for branches of which the last one now is the first one."""
    pieces = np.split(weights, branches, axis=1)
    return np.concatenate([pieces[-1], *pieces[:-1]], axis=1)


# -- TensorFlow: research/deeplab, model.py


def _tensorflow(network: Spec, found: Names) -> Origins:
    layers = deeplab.layers(network)
    yield from origins.backbone_variables(network.backbone, "MobilenetV2")
    yield from origins.variables(layers.pooling, "image_pooling")
    for i, branch in enumerate(layers.branches):
        yield from origins.variables(branch, f"aspp{i}")
    yield from origins.variables(layers.project, "concat_projection")
    yield from origins.variables(layers.logits, "logits/semantic")


SOURCES: Mapping[str, SegmenterSource] = {
    "huggingface": SegmenterSource(
        marks=(r"(mobilenet_v2\.)?conv_stem\.", r"segmentation_head\.(conv_|classifier)"),
        origins=_huggingface,
        atrous=None,
        unused=r"(mobilenet_v2\.)?conv_1x1\.",
        padding="same",
        bn_eps=1e-3,
        recipe="hf",
        size=513,
        output_stride=8,
    ),
    "torchvision": SegmenterSource(
        marks=(r"backbone\.(features\.)?\d+\.(0\.0|conv)\.", r"classifier\.0\.(convs|project)\."),
        origins=_torchvision,
        atrous=r"classifier\.0\.convs\.([1-9]\d*)\.0\.",
        unused=r"aux_classifier\.",
        padding="symmetric",
        bn_eps=1e-5,
        recipe="torchvision-v1",
        size=520,
        output_stride=32,
        dilations=(12, 24, 36),
        head={"align_corners": False, "dropout": 0.5},
    ),
    "tensorflow": SegmenterSource(
        marks=(r"MobilenetV2/", r"(image_pooling|aspp0|concat_projection|logits/semantic)/"),
        origins=_tensorflow,
        atrous=r"aspp([1-9]\d*)/",
        unused=None,
        padding="same",
        bn_eps=1e-3,
        recipe="deeplab",
        size=513,
        output_stride=16,
    ),
}

_ASPP_ON_IT = r"classifier\.0\.(convs|project)\."
# Beginnings of names that together are only in such files, the more telling ones first.
STRANGERS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((r"classifier\.(cbr|low_classifier)\.",), "torchvision's LR-ASPP: two maps, one of them gated by a sigmoid"),
    ((r"backbone\.(features\.)?\d+\.block\.",), "on a MobileNetV3"),
    ((r"backbone\.layer1\.0\.conv1\.", r"(aux_)?classifier\.\d"), "on a ResNet"),
    (
        (r"backbone\.(low|high)_level_features\.", r"classifier\.aspp\."),
        "VainF's DeepLabv3+: a decoder joins a second map",
    ),
    (
        (r"backbone\.(low|high)_level_features\.", r"classifier\.classifier\."),
        "VainF's DeepLabv3: a 3x3 convolution follows the projection, and its blocks put the zeros of their borders "
        "before the expansion",
    ),
    ((r"aspp\.aspp1\.atrous_conv\.",), "jfzhang95's DeepLabv3+: a decoder joins a second map"),
    (
        (r"backbone\.", r"decode_head\."),
        "mmsegmentation's: its projection is 3x3 and other blocks are dilated",
    ),
    (
        (r"encoder\.features\.", r"decoder\.", r"segmentation_head\."),
        "segmentation_models.pytorch's: its head reads the map after the last convolution",
    ),
    (
        (r"backbone\.(features\.)?18\.0\.", _ASPP_ON_IT),
        "torchvision's DeepLabv3, but its head reads the map after the last convolution (features.18)",
    ),
    (
        (r"backbone\.", _ASPP_ON_IT, r"classifier\.[1-9]\d*\.running_mean"),
        "torchvision's DeepLabv3: in its head a 3x3 convolution (classifier.1) follows the projection",
    ),
    ((r"backbone\.(features\.)?\d+\.(0\.0|conv)\.", r"classifier\.0\.weight"), "torchvision's FCN"),
    ((r"MobilenetV2/", r"decoder/"), "TensorFlow's DeepLabv3+: a decoder joins a second map"),
    ((r"MobilenetV2/", r"aspp\d+_depthwise/"), "TensorFlow's DeepLabv3 with separable atrous convolutions"),
)  # fmt: skip
