"""The convolutions that a graph file shows, and which backbone they are.

Shared by the importers that find a network by walking a graph (TFLite, ncnn), in which batch norm is folded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.spec import Activation, Backbone, Padding, Spec

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Pair = tuple[int, int]

BN_EPS = 1e-3  # TensorFlow's; it cancels, as the stored variance is 1 - epsilon
_PADDINGS: tuple[Padding, ...] = ("same", "symmetric")  # the first one where both read the same zeros


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution, or a linear layer as a 1x1 convolution; (rows, columns) where there are pairs."""

    name: str  # in the file, for messages
    depthwise: bool
    weight: Array  # [out, in / groups, kernel rows, kernel columns]
    bias: Array
    stride: Pair
    dilation: Pair
    in_size: Pair
    pads: tuple[Pair, Pair]  # zeros that are read before and after, along rows and along columns
    activations: frozenset[Activation]  # what the graph does next is any of these: they give the same numbers
    clipped_at: float = math.inf  # the greatest value that its output can hold

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    layers: tuple[Layer, ...]  # expansion (if any), depthwise, projection
    shortcut: bool


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The parts of a backbone in their order; the last one is not in a network for segmentation."""

    stem: Layer
    blocks: tuple[Block, ...]
    last: Layer | None

    @property
    def layers(self) -> tuple[Layer, ...]:
        inside = (layer for block in self.blocks for layer in block.layers)
        return (self.stem, *inside, *(() if self.last is None else (self.last,)))


def split(layers: Sequence[Layer], shortcuts: Mapping[int, int]) -> tuple[Body, tuple[Layer, ...]]:
    """The backbone that a path of convolutions begins with, and the rest of the path.

    `shortcuts` has for each place in `layers` where another output is added that output's place. Where the path ends
    with a block, the backbone has no last convolution. Raises `WeightsError` where a convolution stands where a
    MobileNetV2 has none.
    """
    if len(layers) < 3:
        raise WeightsError(f"the graph has {len(layers)} convolutions in a row: it is no MobileNetV2")
    blocks: list[Block] = []
    at = 1
    while at + 1 < len(layers) and (layers[at].depthwise or layers[at + 1].depthwise):
        count = 2 if layers[at].depthwise else 3
        found = tuple(layers[at : at + count])
        if len(found) < count or found[-1].depthwise:
            raise WeightsError(f"{found[-1].name!r} is not at a place where a MobileNetV2 has a projection")
        end = at + count - 1
        if end in shortcuts and shortcuts[end] != at - 1:
            raise WeightsError(f"{found[-1].name!r} does not start a shortcut over one block")
        blocks.append(Block(found, end in shortcuts))
        at = end + 1
    inside = {end for end in shortcuts if end >= at}
    if inside:
        raise WeightsError(f"{layers[min(inside)].name!r} has a shortcut where a MobileNetV2 has none")
    last = None if at == len(layers) else layers[at]
    return Body(layers[0], tuple(blocks), last), tuple(layers[at + 1 :])


def find_net(body: Body) -> Backbone:
    """The backbone with these channels and activations; its padding is found by `fitted`."""
    channels = [
        BlockChannels(
            inputs=block.layers[0].outputs if len(block.layers) == 2 else block.layers[0].weight.shape[1],
            expanded=block.layers[-2].outputs,
            outputs=block.layers[-1].outputs,
            has_expansion=len(block.layers) == 3,
        )
        for block in body.blocks
    ]
    projections = {id(block.layers[-1]) for block in body.blocks}
    wide = [layer for layer in body.layers if id(layer) not in projections]
    activation: Activation = "relu6" if all("relu6" in layer.activations for layer in wide) else "relu"
    last = None if body.last is None else body.last.outputs
    return find_backbone(
        channels, stem=body.stem.outputs, last=last, in_channels=body.stem.weight.shape[1],
        padding="same", bn_eps=BN_EPS, activation=activation,
    )  # fmt: skip


def fitted(network: Spec, body: Body, head: Sequence[Layer] = ()) -> Spec:
    """`network` with the padding of the graph's layers; `head` are those of `ssdlite.convolutions`, in their order.

    Raises `WeightsError` where strides, dilations, padding, shortcuts, activations or shapes are not the network's.
    """
    layers = (*body.layers, *head)
    nets = [Spec(dataclasses.replace(network.backbone, padding=padding), network.head) for padding in _PADDINGS]
    misfits = [next(_misfits(body, layers, net), None) for net in nets]
    if None not in misfits:
        raise WeightsError(f"the graph is not this project's MobileNetV2: {misfits[0]}")
    return nets[misfits.index(None)]


def folded_tensors(network: Spec, layers: Iterable[Layer]) -> Iterator[tuple[str, Float32Array]]:
    """Names and values for the convolutions of `network`: batch norm as the identity that adds the layer's bias."""
    for layer, conv in zip(layers, spec.all_convolutions(network), strict=True):
        yield f"{conv.name}.weight", as_float32(layer.weight, layer.name)
        if conv.norm is None:
            yield f"{conv.name}.bias", as_float32(layer.bias, layer.name)
            continue
        ones = np.ones(conv.out_channels)
        variance = 1 - spec.norm_eps(network, conv)
        norm = {"weight": ones, "bias": layer.bias, "running_mean": 0 * ones, "running_var": variance * ones}
        for part in spec.NORM_PARTS:
            yield f"{conv.norm}.{part}", as_float32(norm[part], layer.name)


def boxes_xy_first(values: Array) -> Array:
    """TensorFlow's box heads give dy, dx, dh, dw for each anchor: their outputs (along axis 0) as dx, dy, dw, dh."""
    return values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]].reshape(values.shape)


def as_float32(values: Array, name: str) -> Float32Array:
    """`values` as float32, C-contiguous. Raises `WeightsError` where one is not finite."""
    result = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(result).all():
        raise WeightsError(f"the weights of {name!r} are not finite: the file is damaged")
    return result


def _misfits(body: Body, layers: Sequence[Layer], network: Spec) -> Iterator[str]:
    """What the graph does in another way than `network`, one line each."""
    for layer, conv in zip(layers, spec.all_convolutions(network), strict=True):
        pairs: list[tuple[str, Any, Any]] = [
            ("weights", layer.weight.shape, conv.weight_shape),
            ("stride", layer.stride, (conv.stride, conv.stride)),
            ("dilation", layer.dilation, (conv.dilation, conv.dilation)),
            ("padding", layer.pads, (conv.pads(layer.in_size[0]), conv.pads(layer.in_size[1]))),
        ]
        for what, has, expected in pairs:
            if has != expected:
                yield f"{layer.name!r} has {what} {has}, expected {expected}"
        if conv.activation not in layer.activations:
            yield f"{layer.name!r} is followed by {' or '.join(layer.activations)}, expected {conv.activation}"
    for block, row in zip(body.blocks, spec.blocks(network.backbone), strict=True):
        if block.shortcut != (row.shortcut == "bottleneck"):
            yield f"{block.layers[-1].name!r} {'starts' if block.shortcut else 'lacks'} a shortcut"
