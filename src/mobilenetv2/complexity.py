"""What a network costs, counted from its spec alone: parameters, multiply-adds, activations.

Conventions, as in the paper and TF-Slim's tables: one multiply and one add count once; batch norm is folded
into its convolution and biases are not counted; a parameter is anything that is trained (weights, batch norm's
scale and shift, biases), not batch norm's running statistics. Activations are counted in elements, so that
bytes are elements x 1, 2 or 4 for int8, float16 or float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mobilenetv2.errors import UsageError
from mobilenetv2.spec import BlockSpec, ConvSpec, Spec, blocks, last, linear, stem


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer at one input size. `output` is (height, width, channels).

    `live` counts the elements that exist while the layer runs one layer at a time: its input, its output, and
    what a later shortcut needs. Activations are applied in place.
    """

    name: str
    operation: str
    output: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    live: int

    @property
    def elements(self) -> int:
        height, width, channels = self.output
        return height * width * channels


@dataclass(frozen=True, slots=True)
class Complexity:
    """The costs of a network at one input size (height, width)."""

    size: tuple[int, int]
    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def largest(self) -> LayerCost:
        """The layer with the largest output tensor."""
        return max(self.layers, key=lambda layer: layer.elements)

    @property
    def peak(self) -> LayerCost:
        """The layer during which most elements are live, run one layer at a time.

        1,505,280 for width 1.0 at 224: what every runtime that materialises the wide tensor needs at least.
        """
        return max(self.layers, key=lambda layer: layer.live)


def complexity(spec: Spec, size: int | tuple[int, int]) -> Complexity:
    """The costs of `spec` for an input of `size` pixels (one number: a square; or height, width).

    Raises `UsageError` if the size is not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UsageError(f"the input size must be positive, got {height} x {width}")
    return Complexity((height, width), tuple(_layers(spec, height, width)))


def _layers(spec: Spec, height: int, width: int) -> Iterator[LayerCost]:
    net = spec.backbone
    cost = _conv(stem(net), height, width)
    yield cost
    wide = 0  # the previous block's expanded tensor, where the next block adds it
    all_blocks = blocks(net)
    for block, following in zip(all_blocks, (*all_blocks[1:], None), strict=True):
        costs = _block(block, cost.output[0], cost.output[1], wide)
        yield from costs
        cost = costs[-1]
        adds_wide = following is not None and following.shortcut == "expansion"
        wide = costs[-2].elements if adds_wide else 0
    cost = _conv(last(net), *cost.output[:2])
    yield cost
    channels = cost.output[2]
    yield LayerCost("pool", "global mean", (1, 1, channels), 0, 0, cost.elements + channels)
    layer = linear(spec)
    weights = layer.in_features * layer.out_features
    live = layer.in_features + layer.out_features
    parameters = weights + layer.out_features
    yield LayerCost(layer.name, "linear", (1, 1, layer.out_features), parameters, weights, live)


def _block(block: BlockSpec, height: int, width: int, wide: int) -> list[LayerCost]:
    """The block's layers; `wide` elements of the previous block wait to be added to the depthwise output."""
    costs: list[LayerCost] = []
    source = height * width * block.in_channels if block.shortcut == "bottleneck" else 0
    for conv in block.convolutions:
        is_first, is_last = conv is block.convolutions[0], conv is block.project
        # the first layer's own input is the shortcut's source, and counted as its input
        kept = (0 if is_first else source) + (0 if is_last else wide)
        costs.append(_conv(conv, height, width, kept))
        height, width, _ = costs[-1].output
    return costs


def _conv(conv: ConvSpec, height: int, width: int, kept: int = 0) -> LayerCost:
    out_height, out_width = conv.out_size(height), conv.out_size(width)
    weights = conv.out_channels * (conv.in_channels // conv.groups) * conv.kernel**2
    parameters = weights + (2 * conv.out_channels if conv.norm else 0) + (conv.out_channels if conv.bias else 0)
    output = (out_height, out_width, conv.out_channels)
    live = height * width * conv.in_channels + out_height * out_width * conv.out_channels + kept
    return LayerCost(conv.name, _operation(conv), output, parameters, weights * out_height * out_width, live)


def _operation(conv: ConvSpec) -> str:
    kind = "depthwise" if conv.groups > 1 and conv.groups == conv.in_channels else "conv"
    text = f"{kind} {conv.kernel}x{conv.kernel}"
    if conv.stride > 1:
        text += f" /{conv.stride}"
    if conv.dilation > 1:
        text += f" dilation {conv.dilation}"
    return text
