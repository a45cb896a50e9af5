"""The backbone that all tasks share, as data: which blocks, how wide, how strided, and where features are read.

The stage table of the paper (Table 2) and the few switches around it decide everything: channel counts,
tensor names, shapes, dilations, feature taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Padding = Literal["symmetric", "same"]
Activation = Literal["relu6", "relu", "linear"]
Shortcut = Literal["bottleneck", "expansion", "none"]
Background = Literal["none", "first", "last"]
Stage = tuple[float, int, int, int]

STAGES: tuple[Stage, ...] = (
    # expansion t, channels c, blocks n, stride s of the first block       (paper, Table 2)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # the widths that were published with weights


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """One convolution with what follows it. `name` and `norm` are the prefixes of its tensors' names."""

    name: str
    norm: str | None  # the batch norm after it; None: it has none
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding = "symmetric"
    activation: Activation = "relu6"
    bias: bool = False
    bn_eps: float | None = None  # of the batch norm after it; None: the backbone's

    def out_size(self, size: int) -> int:
        """Rows (or columns) of the output for `size` rows of input: ceil(size / stride), either padding."""
        return -(-size // self.stride)

    def pads(self, size: int) -> tuple[int, int]:
        """Zeros that are read before and after `size` rows (or columns) of input.

        "symmetric" puts (kernel - 1) / 2 x dilation before; "same" is TensorFlow's SAME: as few as possible,
        the odd one after. They coincide at stride 1, and at stride 2 where `size` is odd.
        """
        reach = (self.kernel - 1) * self.dilation
        needed = max((self.out_size(size) - 1) * self.stride + reach + 1 - size, 0)
        before = reach // 2 if self.padding == "symmetric" else needed // 2
        return before, max(needed - before, 0)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """[out, in / groups, kernel, kernel], PyTorch's order."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """An inverted residual (paper, section 3.3): expand, depthwise, project, and perhaps a shortcut.

    `shortcut`: "bottleneck" adds the block's input to its output; "expansion" adds the previous block's
    expanded tensor (after its depthwise convolution) to this block's, as in the ablation of Figure 6 b.
    """

    index: int
    name: str
    expand: ConvSpec | None  # None where the expansion factor is 1
    depthwise: ConvSpec
    project: ConvSpec
    shortcut: Shortcut

    @property
    def in_channels(self) -> int:
        return (self.expand or self.depthwise).in_channels

    @property
    def out_channels(self) -> int:
        return self.project.out_channels

    @property
    def stride(self) -> int:
        return self.depthwise.stride

    @property
    def convolutions(self) -> tuple[ConvSpec, ...]:
        return (self.depthwise, self.project) if self.expand is None else (self.expand, self.depthwise, self.project)


@dataclass(frozen=True, slots=True)
class Tap:
    """A named place in the backbone where features are read.

    `block` is the block's index, or None for the map after the last convolution; `expanded` means the
    tensor inside that block after its expansion, before its depthwise convolution. `stride` is input
    size / feature size, counting what `output_stride` took away.
    """

    name: str
    block: int | None
    expanded: bool
    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Backbone:
    """What decides the shared network. `spec_fields.backbone(...)` makes one from unchecked values."""

    width_mult: float = 1.0
    stages: tuple[Stage, ...] = STAGES
    round_nearest: int = 8
    stem_channels: int | None = None  # None: 32 x width_mult, rounded
    last_channels: int | None = None  # None: 1280 x max(1, width_mult), rounded
    in_channels: int = 3
    padding: Padding = "symmetric"
    bn_eps: float = 1e-5
    output_stride: int = 32
    activation: Activation = "relu6"
    bottleneck: Activation = "linear"  # "relu6": the ablation of Figure 6 a
    shortcut: Shortcut = "bottleneck"  # the others: the ablation of Figure 6 b


def make_divisible(value: float, divisor: int, min_value: int | None = None) -> int:
    """`value` rounded to a multiple of `divisor`, at least `min_value`, never more than 10 % below `value`.

    The TensorFlow rule; every published checkpoint's channel counts follow from it.
    """
    rounded = max(min_value or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def stem(net: Backbone) -> ConvSpec:
    """The first convolution: 3x3, stride 2."""
    channels = net.stem_channels or make_divisible(STEM_CHANNELS * net.width_mult, net.round_nearest)
    return ConvSpec(
        "features.0.0", "features.0.1", net.in_channels, channels, kernel=3, stride=2,
        padding=net.padding, activation=net.activation,
    )  # fmt: skip


def blocks(net: Backbone) -> tuple[BlockSpec, ...]:
    """The inverted residuals in order; 17 of them for the paper's table.

    `output_stride` below 32 follows TensorFlow's atrous rule: the block that gives up its stride keeps the
    dilation it would have had, and the blocks after it are dilated by the stride it gave up.
    """
    result: list[BlockSpec] = []
    in_channels = stem(net).out_channels
    stride_so_far, dilation = 2, 1
    for t, c, n, s in net.stages:
        out_channels = make_divisible(c * net.width_mult, net.round_nearest)
        for i in range(n):
            nominal = s if i == 0 else 1
            stride, next_dilation = nominal, dilation
            # 32 means the table's own strides, even where a custom table goes beyond it
            if net.output_stride < 32 and stride_so_far * nominal > net.output_stride:
                stride, next_dilation = 1, dilation * nominal
            stride_so_far *= stride
            previous = result[-1] if result else None
            result.append(_block(net, len(result), in_channels, out_channels, t, stride, dilation, previous))
            dilation = next_dilation
            in_channels = out_channels
    return tuple(result)


def last(net: Backbone) -> ConvSpec:
    """The 1x1 convolution after the blocks; below width 1 it keeps its 1280 channels."""
    all_blocks = blocks(net)
    name = f"features.{len(all_blocks) + 1}"
    in_channels = all_blocks[-1].out_channels
    return ConvSpec(
        f"{name}.0", f"{name}.1", in_channels, last_channels(net), padding=net.padding, activation=net.activation
    )


def last_channels(net: Backbone) -> int:
    """Of the last convolution."""
    return net.last_channels or make_divisible(LAST_CHANNELS * max(1.0, net.width_mult), net.round_nearest)


def convolutions(net: Backbone) -> tuple[ConvSpec, ...]:
    """Every convolution of the backbone in the order in which it runs; 52 for the paper's table."""
    return (stem(net), *(conv for block in blocks(net) for conv in block.convolutions), last(net))


def taps(net: Backbone) -> dict[str, Tap]:
    """The backbone's features by name.

    `sN` is the output of the last block at stride N in the undilated network, and keeps that name when
    `output_stride` is smaller; `sN.expanded` is the expanded tensor inside the block that leaves stride N;
    `out` is the map after the last convolution. For the paper's table: s2 (block 0), s4 (2), s8 (5),
    s16 (12), s32 (16), and s16.expanded, the 576 channels inside block 13.
    """
    result: dict[str, Tap] = {}
    all_blocks = blocks(net)
    strides = [s if i == 0 else 1 for _, _, n, s in net.stages for i in range(n)]
    nominal = actual = 2
    for block, stride in zip(all_blocks, strides, strict=True):
        if stride > 1 and block.expand is not None:
            name = f"s{nominal}.expanded"
            result[name] = Tap(name, block.index, True, block.expand.out_channels, actual)
        nominal *= stride
        actual *= block.stride
        name = f"s{nominal}"
        result[name] = Tap(name, block.index, False, block.out_channels, actual)
    result["out"] = Tap("out", None, False, last(net).out_channels, actual)
    return result


def conv_tensors(conv: ConvSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of one convolution's tensors: weight, bias if any, and its batch norm's four."""
    result: dict[str, tuple[int, ...]] = {f"{conv.name}.weight": conv.weight_shape}
    if conv.bias:
        result[f"{conv.name}.bias"] = (conv.out_channels,)
    if conv.norm is not None:
        for part in NORM_PARTS:
            result[f"{conv.norm}.{part}"] = (conv.out_channels,)
    return result


NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def block(
    *, in_channels: int, out_channels: int, expansion: float, stride: int, net: Backbone, name: str = "",
) -> BlockSpec:  # fmt: skip
    """One inverted residual by itself (stride 1 or 2), for those who build networks of their own."""
    return _block(net, 0, in_channels, out_channels, expansion, stride, 1, None, name)


def _block(
    net: Backbone, index: int, in_channels: int, out_channels: int, t: float, stride: int, dilation: int,
    previous: BlockSpec | None, name: str | None = None,
) -> BlockSpec:  # fmt: skip
    name = f"features.{index + 1}.conv." if name is None else name
    expanded = round(in_channels * t)
    expand = None
    if t != 1:
        expand = ConvSpec(
            f"{name}0.0", f"{name}0.1", in_channels, expanded, padding=net.padding, activation=net.activation
        )
    k = 0 if expand is None else 1
    depthwise = ConvSpec(
        f"{name}{k}.0", f"{name}{k}.1", expanded, expanded, kernel=3, stride=stride, dilation=dilation,
        groups=expanded, padding=net.padding, activation=net.activation,
    )  # fmt: skip
    project = ConvSpec(
        f"{name}{k + 1}",
        f"{name}{k + 2}",
        expanded,
        out_channels,
        padding=net.padding,
        activation=net.bottleneck,
    )
    shortcut: Shortcut = "none"
    # stride and channels both decide: block 1 at width 0.35 keeps 8 channels but halves the map
    if net.shortcut == "bottleneck" and stride == 1 and in_channels == out_channels:
        shortcut = "bottleneck"
    if net.shortcut == "expansion" and stride == 1 and previous and previous.depthwise.out_channels == expanded:
        shortcut = "expansion"
    return BlockSpec(index, name, expand, depthwise, project, shortcut)
