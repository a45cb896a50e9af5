"""The networks that the paper compares MobileNetV2 with, as convolutions in the order in which they run.

They are data to count, not networks to run: MobileNetV1 (arXiv 1704.04861, table 1), ShuffleNet (arXiv 1707.01083,
table 1), and the heads that the tables put on them and on MobileNetV2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mobilenetv2.complexity import LayerCost, chain, complexity
from mobilenetv2.spec import Backbone, ConvSpec, DeepLab, Spec, SSDLite, all_convolutions, deeplab, ssdlite

V1_BLOCKS: tuple[tuple[int, int], ...] = (
    # channels, stride of the depthwise convolution
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
SHUFFLENET_STAGES: tuple[tuple[int, int], ...] = ((240, 4), (480, 8), (960, 4))  # channels at 1x for g = 3, units
CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Network:
    """`stem` on the picture, a pooling of stride `pool`, then `body`; `classifier` on the mean of what that gives."""

    name: str
    stem: tuple[ConvSpec, ...]
    body: tuple[ConvSpec, ...]
    pool: int
    classifier: ConvSpec

    def features(self, size: int) -> tuple[LayerCost, ...]:
        """What stem and body cost at `size` pixels."""
        first = chain(self.stem, size)
        return (*first, *chain(self.body, -(-first[-1].output[0] // self.pool)))

    def costs(self, size: int) -> tuple[LayerCost, ...]:
        """What the whole classifier costs at `size` pixels."""
        return (*self.features(size), *chain((self.classifier,), 1))


def mobilenet_v1(output_stride: int = 32) -> Network:
    """MobileNetV1 at width 1; below stride 32 its last strides become dilation, by TensorFlow's atrous rule."""
    body: list[ConvSpec] = []
    channels, so_far, dilation = 32, 2, 1
    for i, (out_channels, nominal) in enumerate(V1_BLOCKS):
        kept = so_far * nominal <= output_stride
        body.append(_conv(f"{i}.depthwise", channels, channels, 3, nominal if kept else 1, channels, dilation))
        body.append(_conv(f"{i}.pointwise", channels, out_channels))
        so_far, dilation = (so_far * nominal, dilation) if kept else (so_far, dilation * nominal)
        channels = out_channels
    return Network("MobileNetV1", (_conv("stem", 3, 32, 3, 2),), tuple(body), 1, _linear(channels))


def shufflenet(scale: float, *, stem: int, groups: int = 3) -> Network:
    """ShuffleNet at a scale of its units' channels; a unit of stride 2 is joined to its pooled input."""
    body: list[ConvSpec] = []
    channels = stem
    for s, (width, units) in enumerate(SHUFFLENET_STAGES):
        out_channels = round(width * scale)
        for i in range(units):
            made = out_channels - channels if i == 0 else out_channels
            body += shuffle_unit(f"{s}.{i}", channels, made, out_channels // 4, 2 if i == 0 else 1, groups, i + s == 0)
            channels = out_channels
    return Network(f"ShuffleNet {scale:g}x", (_conv("stem", 3, stem, 3, 2),), tuple(body), 2, _linear(channels))


def shuffle_unit(
    name: str, in_channels: int, out_channels: int, narrow: int, stride: int, groups: int, ungrouped: bool = False
) -> tuple[ConvSpec, ...]:
    """ShuffleNet's unit: grouped 1x1, depthwise, grouped 1x1; the very first 1x1 is not grouped."""
    return (
        _conv(f"{name}.0", in_channels, narrow, groups=1 if ungrouped else groups),
        replace(_conv(f"{name}.1", narrow, narrow, 3, stride, narrow), activation="linear"),
        replace(_conv(f"{name}.2", narrow, out_channels, groups=groups), activation="linear"),
    )


def v1_detector(size: int) -> tuple[LayerCost, ...]:
    """MobileNetV1 with SSDLite on its 512 channels at stride 16 and its 1024 at stride 32 (section 6.2)."""
    network = mobilenet_v1()
    found = ssdlite.layers(Spec(head=SSDLite()))
    costs = network.features(size)
    maps = [_before_stride_32(costs), costs[-1].output]
    extras = [_reading(found.extras[0], maps[-1][2]), *found.extras[1:]]
    result = list(costs)
    for extra in extras:
        made = chain(extra, maps[-1][0])
        result += made
        maps.append(made[-1].output)
    for heads in (found.class_heads, found.box_heads):
        for head, source in zip(heads, maps, strict=True):
            result += chain(_reading(head, source[2]), source[0])
    return tuple(result)


def v2_segmenter(size: int, output_stride: int, *, aspp: bool, padded: bool = False) -> tuple[LayerCost, ...]:
    """Mobile DeepLabv3 on MobileNetV2's 320 channels. `padded`: see `atrous_excess`."""
    spec = Spec(Backbone(output_stride=output_stride), DeepLab(aspp=aspp))
    costs = complexity(spec, size).layers
    return atrous_excess(costs, all_convolutions(spec)) if padded else costs


def v1_segmenter(size: int, output_stride: int, *, aspp: bool, padded: bool = False) -> tuple[LayerCost, ...]:
    """The same head on MobileNetV1's 1024 channels."""
    network, found = (
        mobilenet_v1(output_stride),
        deeplab.layers(Spec(Backbone(output_stride=output_stride), DeepLab(aspp=aspp))),
    )
    source = network.body[-1].out_channels
    backbone = network.features(size)
    edge = backbone[-1].output[0]
    branches = [replace(conv, in_channels=source) for conv in found.branches]
    pooling = chain((replace(found.pooling, in_channels=source),), 1)
    head = [cost for branch in branches for cost in chain((branch,), edge)]
    costs = (*backbone, *pooling, *head, *chain((found.project, found.logits), edge))
    convs = (*network.stem, *network.body, found.pooling, *branches, found.project, found.logits)
    return atrous_excess(costs, convs) if padded else costs


def atrous_excess(costs: Sequence[LayerCost], convs: Sequence[ConvSpec]) -> tuple[LayerCost, ...]:
    """The same costs where a convolution of dilation d is computed on a map padded to a multiple of d.

    So did TensorFlow 1: it cut the map into d x d smaller ones (space_to_batch), of equal size.
    """
    dilations = {conv.name: conv.dilation for conv in convs}
    result: list[LayerCost] = []
    for cost in costs:
        d, (height, width, _) = dilations.get(cost.name, 1), cost.output
        grown = -(-height // d) * d * -(-width // d) * d
        result.append(replace(cost, multiply_adds=cost.multiply_adds * grown // (height * width)))
    return tuple(result)


def parameters(costs: Sequence[LayerCost]) -> int:
    return sum(cost.parameters for cost in costs)


def multiply_adds(costs: Sequence[LayerCost]) -> int:
    return sum(cost.multiply_adds for cost in costs)


def _before_stride_32(costs: Sequence[LayerCost]) -> tuple[int, int, int]:
    """The last map at stride 16."""
    final = costs[-1].output[0]
    return [cost.output for cost in costs if cost.output[0] > final][-1]


def _reading(convs: Sequence[ConvSpec], channels: int) -> tuple[ConvSpec, ...]:
    """The same layers on a map of `channels`."""
    first, *rest = convs
    if first.groups == 1:
        return (replace(first, in_channels=channels), *rest)
    wide = replace(first, in_channels=channels, out_channels=channels, groups=channels)
    return (wide, replace(rest[0], in_channels=channels), *rest[1:])


def _conv(
    name: str, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1
) -> ConvSpec:
    return ConvSpec(
        name, f"{name}.norm", in_channels, out_channels, kernel=kernel, stride=stride, groups=groups,
        dilation=dilation, activation="relu",
    )  # fmt: skip


def _linear(channels: int) -> ConvSpec:
    return ConvSpec("classifier", None, channels, CLASSES, activation="linear", bias=True)
