"""What each source calls the tensors of an SSDLite detector, and what it does with them that names do not say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from mobilenetv2 import spec
from mobilenetv2.importers import names, origins
from mobilenetv2.importers.names import Pair
from mobilenetv2.importers.origins import Origins
from mobilenetv2.importers.parts import boxes_xy_first
from mobilenetv2.preprocessing import Preprocessing, recipe
from mobilenetv2.spec import Padding, Spec, ssdlite, ssdlite_anchors
from mobilenetv2.spec.ssdlite import Anchors


@dataclass(frozen=True, slots=True)
class DetectorSource:
    """One source of detectors. `marks` are tensors that together occur in no other source's files.

    `origins` lists those of every tensor of a network; their names do not depend on channels. `head` are the fields of
    `SSDLite` that no tensor tells.
    """

    marks: tuple[str, ...]
    origins: Callable[[Spec], Origins]
    padding: Padding
    bn_eps: float
    preprocessing: Preprocessing
    head: Mapping[str, Any]


def recognise(found: Iterable[str]) -> str | None:
    """The source that has such names, or None."""
    found = set(found)
    return next((name for name, source in SOURCES.items() if found.issuperset(source.marks)), None)


# -- qfgaohao: vision/ssd/mobilenet_v2_ssd_lite.py, vision/utils/box_utils.py


def _qfgaohao(network: Spec) -> Origins:
    """tonylins' backbone; extras are inverted residuals; the heads' depthwise convolutions have a bias."""
    net = network.backbone
    pairs = [_renamed(pair, "features.", "base_net.") for pair in names.of_convolutions("tonylins", net)]
    yield from origins.with_norm(spec.convolutions(net), pairs)
    layers = ssdlite.layers(network)
    for i, chain in enumerate(layers.extras):
        yield from origins.with_norm(
            chain, [(f"extras.{i}.conv.{3 * j}", f"extras.{i}.conv.{3 * j + 1}") for j in range(3)]
        )
    for theirs, chains in (("classification", layers.class_heads), ("regression", layers.box_heads)):
        for k, (*depthwise, predict) in enumerate(chains):
            name = f"{theirs}_headers.{k}"
            for conv in depthwise:
                yield from origins.with_norm([conv], [(f"{name}.0", f"{name}.1")], biased=True)
            yield from origins.plain(predict, f"{name}.3" if depthwise else name)


def _renamed(pair: Pair, before: str, after: str) -> Pair:
    return pair[0].replace(before, after, 1), pair[1].replace(before, after, 1)


# -- mmdetection: configs/ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py, necks/ssd_neck.py, dense_heads/ssd_head.py


def _mmdetection(network: Spec) -> Origins:
    """mmpretrain's backbone; each module is a convolution `conv` with its batch norm `bn`."""
    net = network.backbone
    yield from origins.with_norm(spec.convolutions(net), names.of_convolutions("mmpretrain", net))
    layers = ssdlite.layers(network)
    for i, chain in enumerate(layers.extras):
        name = f"neck.extra_layers.{i}"
        modules = (f"{name}.0", f"{name}.1.depthwise_conv", f"{name}.1.pointwise_conv")
        yield from origins.with_norm(chain, [(f"{module}.conv", f"{module}.bn") for module in modules])
    for theirs, chains in (("cls", layers.class_heads), ("reg", layers.box_heads)):
        for k, (depthwise, predict) in enumerate(chains):
            name = f"bbox_head.{theirs}_convs.{k}"
            yield from origins.with_norm([depthwise], [(f"{name}.0.conv", f"{name}.0.bn")])
            yield from origins.plain(predict, f"{name}.1")


# -- TensorFlow's Object Detection API, release 1: ssdlite_mobilenet_v2_coco


def _tensorflow(network: Spec) -> Origins:
    """The variables' names; a box is ty, tx, th, tw."""
    net, layers = network.backbone, ssdlite.layers(network)
    root = "FeatureExtractor/MobilenetV2"
    yield from origins.backbone_variables(net, root)
    yield from origins.variables(spec.last(net), f"{root}/Conv_1")
    for i, (squeeze, depthwise, widen) in enumerate(layers.extras, 2):
        # the names hold channels: those of the released network, whatever the width
        depth = RELEASED_EXTRAS[i - 2]
        yield from origins.variables(squeeze, f"{root}/layer_19_1_Conv2d_{i}_1x1_{depth // 2}")
        yield from origins.variables(depthwise, f"{root}/layer_19_2_Conv2d_{i}_3x3_s2_{depth}_depthwise")
        yield from origins.variables(widen, f"{root}/layer_19_2_Conv2d_{i}_3x3_s2_{depth}")
    for theirs, chains, order in (
        ("ClassPredictor", layers.class_heads, lambda values: values),
        ("BoxEncodingPredictor", layers.box_heads, boxes_xy_first),
    ):
        for k, (depthwise, predict) in enumerate(chains):
            yield from origins.variables(depthwise, f"BoxPredictor_{k}/{theirs}_depthwise")
            yield from origins.variables(predict, f"BoxPredictor_{k}/{theirs}", outputs=order)


# -- what they share


def _caffe_anchors(smallest: Sequence[float], size: int, *, most: float = math.inf) -> tuple[Anchors, ...]:
    """Of each map: a square, one of the mean with the next size, ratios 2, 1/2, 3 and 1/3; no side above `most`."""
    result: list[Anchors] = []
    for small, large in pairwise(smallest):
        mean = math.sqrt(small * large)
        shapes = [(small, small), (mean, mean)]
        for ratio in (2, 3):
            wide, high = small * math.sqrt(ratio), small / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)]
        result.append(tuple((min(w / size, most), min(h / size, most)) for w, h in shapes))
    return tuple(result)


def _opencv(size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    """Stretched by OpenCV's bilinear rule, which reads four pixels whatever the scale."""
    return replace(recipe("ssd", size), interpolation="tf2-bilinear", mean=mean, std=std, recipe="custom")


RELEASED_EXTRAS = (512, 256, 256, 128)
_CODER = (10.0, 10.0, 5.0, 5.0)

SOURCES: Mapping[str, DetectorSource] = {
    "qfgaohao": DetectorSource(
        marks=("base_net.0.0.weight", "base_net.1.conv.0.weight", "classification_headers.0.0.weight"),
        origins=_qfgaohao,
        padding="symmetric",
        bn_eps=1e-5,
        preprocessing=_opencv(300, (127.0,) * 3, (128.0,) * 3),
        head={
            "background": "first",
            "score": "softmax",
            "linear_extras": True,
            "pointwise_last": True,
            "anchors": _caffe_anchors((60, 105, 150, 195, 240, 285, 330), 300, most=1.0),
            "steps": tuple(step / 300 for step in (16, 32, 64, 100, 150, 300)),
            "coder": _CODER,
            "iou_threshold": 0.45,
        },
    ),
    "mmdetection": DetectorSource(
        marks=("backbone.conv1.conv.weight", "bbox_head.cls_convs.0.0.conv.weight"),
        origins=_mmdetection,
        padding="symmetric",
        bn_eps=1e-3,
        preprocessing=_opencv(320, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        head={
            "background": "last",
            "score": "softmax",
            "taps": ("s16", "out"),
            "anchors": _caffe_anchors((48, 100, 150, 202, 253, 304, 320), 320),
            "steps": tuple(step / 320 for step in (16, 32, 64, 107, 160, 320)),
            "coder": _CODER,
            "iou_threshold": 0.45,
            "most_per_class": 200,
            "most": 200,
        },
    ),
    "tensorflow": DetectorSource(
        marks=(
            "FeatureExtractor/MobilenetV2/Conv/weights",
            "BoxPredictor_0/ClassPredictor_depthwise/depthwise_weights",
        ),
        origins=_tensorflow,
        padding="same",
        bn_eps=1e-3,
        preprocessing=recipe("ssd-tf", 300),
        head={"background": "first", "score": "sigmoid", "anchors": ssdlite_anchors(), "coder": _CODER},
    ),
}
