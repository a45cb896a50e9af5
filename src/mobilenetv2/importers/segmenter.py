"""A Mobile DeepLabv3 out of what a graph file shows: its path of convolutions, and the head on its last map."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilenetv2 import spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import parts
from mobilenetv2.importers.parts import Layer
from mobilenetv2.spec import Background, DeepLab, Spec

_VOC = 21  # outputs of networks for Pascal VOC, the first one for the background; others rarely have one


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """Its convolutions. `path` runs from the stem to the last block's projection.

    `project` reads the outputs of `branches` side by side; the one of them at place `pooled` is that on the mean.
    """

    path: tuple[Layer, ...]
    shortcuts: dict[int, int]  # place whose output another output is added to -> that other's place
    branches: tuple[Layer, ...]
    pooled: int
    project: Layer
    logits: Layer
    align_corners: bool


def build(found: Segmenter) -> tuple[Spec, dict[str, parts.Float32Array]]:
    """The network and its tensors. Raises `WeightsError` where it is none of this project, naming the convolution."""
    body, rest = parts.split(found.path, found.shortcuts)
    if body.last is not None:
        extra = (body.last, *rest)
        raise WeightsError(f"{extra[0].name!r} follows the blocks: a Mobile DeepLabv3 has its head there")
    stride = math.prod(layer.stride[0] for layer in body.layers)
    net = spec_fields.backbone(**{**dataclasses.asdict(parts.find_net(body)), "output_stride": stride})
    channels = found.project.outputs
    pooling = found.branches[found.pooled]
    branches = [layer for i, layer in enumerate(found.branches) if i != found.pooled]
    branches.sort(key=lambda layer: layer.dilation)  # the 1x1 convolution is the only one that has none
    atrous = branches[1:]
    outputs = found.logits.outputs
    background = background_of(outputs)
    rates = tuple(layer.dilation[0] * stride // 16 for layer in atrous)
    head = spec_fields.deeplab(
        classes=outputs - (background != "none"),
        background=background,
        aspp=bool(atrous),
        channels=channels,
        rates=rates or DeepLab().rates,
        align_corners=found.align_corners,
    )
    network = spec_fields.network(net, head)
    project = dataclasses.replace(found.project, weight=_reordered(found, [pooling, *branches]))
    layers = [pooling, *branches, project, found.logits]
    network = parts.fitted(network, body, layers)
    return network, dict(parts.folded_tensors(network, (*body.layers, *layers)))


def background_of(outputs: int) -> Background:
    """Which of a network's outputs per place stands for the background, where nobody says it."""
    return "first" if outputs == _VOC else "none"


def _reordered(found: Segmenter, order: Sequence[Layer]) -> parts.Array:
    """The projection's weights for branches that lie side by side in `order`."""
    sizes = [layer.outputs for layer in found.branches]
    if sum(sizes) != found.project.weight.shape[1]:
        raise WeightsError(
            f"{found.project.name!r} reads {found.project.weight.shape[1]} channels, but there are {sum(sizes)}"
        )
    pieces = np.split(found.project.weight, np.cumsum(sizes)[:-1], axis=1)
    by_layer = {id(layer): piece for layer, piece in zip(found.branches, pieces, strict=True)}
    return np.concatenate([by_layer[id(layer)] for layer in order], axis=1)
