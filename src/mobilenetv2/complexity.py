"""What a network costs, counted from its spec alone: parameters, multiply-adds, activations.

Conventions, as in the paper and TF-Slim's tables: one multiply and one add count once; batch norm is folded
into its convolution and biases are not counted; a parameter is anything that is trained (weights, batch norm's
scale and shift, biases), not batch norm's running statistics. Activations are counted in elements, so that
bytes are elements x 1, 2 or 4 for int8, float16 or float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mobilenetv2.errors import UsageError
from mobilenetv2.spec import (
    BlockSpec,
    ConvSpec,
    DeepLab,
    Spec,
    SSDLite,
    blocks,
    deeplab,
    has_last,
    last,
    linear,
    ssdlite,
    stem,
    taps,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer at one input size. `output` is (height, width, channels).

    `live` counts the elements that exist while the layer runs one layer at a time: its input, its output, and
    what a later shortcut or head needs. Activations are applied in place; what the heads give is not kept.
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


def chain(convs: Sequence[ConvSpec], size: int) -> tuple[LayerCost, ...]:
    """The costs of convolutions that run one after the other, for a square input of `size` pixels."""
    costs: list[LayerCost] = []
    for conv in convs:
        costs.append(_conv(conv, *(costs[-1].output[:2] if costs else (size, size))))
    return tuple(costs)


def _layers(spec: Spec, height: int, width: int) -> Iterator[LayerCost]:
    costs = list(_backbone(spec, height, width))
    if isinstance(spec.head, SSDLite):
        yield from _detector(spec, costs)
        return
    yield from costs
    if isinstance(spec.head, DeepLab):
        yield from _segmenter(spec, costs[-1])
        return
    cost = costs[-1]
    channels = cost.output[2]
    yield LayerCost("pool", "global mean", (1, 1, channels), 0, 0, cost.elements + channels)
    layer = linear(spec)
    weights = layer.in_features * layer.out_features
    live = layer.in_features + layer.out_features
    parameters = weights + layer.out_features
    yield LayerCost(layer.name, "linear", (1, 1, layer.out_features), parameters, weights, live)


def _backbone(spec: Spec, height: int, width: int) -> Iterator[LayerCost]:
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
    if has_last(spec):
        yield _conv(last(net), *cost.output[:2])


def _detector(spec: Spec, costs: list[LayerCost]) -> Iterator[LayerCost]:
    """The backbone's layers, then extras, then heads; maps wait for the heads that read them."""
    names = _tapped(spec)
    made: dict[str, LayerCost] = {}
    source = None
    for cost in costs:
        waiting = sum(other.elements for other in made.values() if other is not source)
        yield replace(cost, live=cost.live + waiting)
        source = cost
        if cost.name in names:
            made[cost.name] = cost
    maps = [made[name] for name in names]
    found = ssdlite.layers(spec)
    for chain in found.extras:
        waiting = sum(other.elements for other in maps[:-1])
        costs = _chain(chain, maps[-1], waiting, again=True)
        yield from costs
        maps.append(costs[-1])
    for k, (class_head, box_head) in enumerate(zip(found.class_heads, found.box_heads, strict=True)):
        waiting = sum(other.elements for other in maps[k + 1 :])
        yield from _chain(class_head, maps[k], waiting, again=True)
        yield from _chain(box_head, maps[k], waiting, again=False)


def _segmenter(spec: Spec, source: LayerCost) -> Iterator[LayerCost]:
    """The map waits for all branches, and they for each other; the mean's is one place, joined to all of them."""
    found, size = deeplab.layers(spec), source.output[:2]
    channels = source.output[2]
    yield LayerCost("pool", "global mean", (1, 1, channels), 0, 0, source.elements + channels)
    pooled = _conv(found.pooling, 1, 1, source.elements)
    yield pooled
    made = [pooled.elements]
    for branch in found.branches:
        # the map is the branch's input, which is counted, and goes with the last one
        cost = _conv(branch, *size, sum(made))
        yield cost
        made.append(cost.elements)
    yield _conv(found.project, *size)
    yield _conv(found.logits, *size)


def _tapped(spec: Spec) -> list[str]:
    """The names of the layers whose outputs the detector's first heads read."""
    names: list[str] = []
    for name in ssdlite.head_of(spec).taps:
        tap = taps(spec.backbone)[name]
        block = None if tap.block is None else blocks(spec.backbone)[tap.block]
        if block is None:
            names.append(last(spec.backbone).name)
        else:
            names.append(block.expand.name if tap.expanded and block.expand else block.project.name)
    return names


def _chain(convs: Sequence[ConvSpec], source: LayerCost, kept: int, *, again: bool) -> list[LayerCost]:
    """One after the other; `kept` elements wait meanwhile, and so does the source where it is read `again`."""
    costs: list[LayerCost] = []
    for conv in convs:
        waiting = kept + (source.elements if again and costs else 0)
        costs.append(_conv(conv, *(costs[-1] if costs else source).output[:2], waiting))
    return costs


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
