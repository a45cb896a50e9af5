"""Which network a checkpoint's channel counts belong to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mobilenetv2 import spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.spec import STAGES, WIDTHS, Activation, Backbone, ConvSpec, Padding, Stage

# timm's depth multipliers 1, 1.2 (mobilenetv2_110d) and 1.4 (mobilenetv2_120d): blocks per stage
DEPTHS: tuple[tuple[int, ...], ...] = ((1, 2, 3, 4, 3, 3, 1), (1, 3, 4, 5, 4, 4, 1), (1, 3, 5, 6, 5, 5, 1))
# published widths first, then round ones: several widths may round to the same channels
_WIDTHS = tuple(dict.fromkeys((*WIDTHS, *(n / 20 for n in range(1, 41)), *(n / 100 for n in range(5, 201)))))
_DIVISORS = (8, 4)  # 4: d-li14 at width 0.1


@dataclass(frozen=True, slots=True)
class BlockChannels:
    """One inverted residual as its tensors show it: channels of its input, depthwise convolution and output."""

    inputs: int
    expanded: int
    outputs: int
    has_expansion: bool  # whether there is an expansion convolution


def backbone_of(skeleton: Backbone, width: Callable[[ConvSpec], int], *, last: bool = True, **fields: Any) -> Backbone:
    """The backbone whose convolutions have the outputs that `width` says; `skeleton` has their names and blocks.

    `last` says whether it has a last convolution; `fields` are those of `find_backbone`, which it raises as.
    """
    stem = inputs = width(spec.stem(skeleton))
    blocks: list[BlockChannels] = []
    for block in spec.blocks(skeleton):
        expanded, outputs = (width(conv) for conv in block.convolutions[-2:])
        blocks.append(BlockChannels(inputs, expanded, outputs, block.expand is not None))
        inputs = outputs
    return find_backbone(blocks, stem=stem, last=width(spec.last(skeleton)) if last else None, **fields)


def find_backbone(
    blocks: Sequence[BlockChannels], *, stem: int, last: int | None, in_channels: int = 3,
    padding: Padding, bn_eps: float, activation: Activation = "relu6", output_stride: int = 32,
) -> Backbone:  # fmt: skip
    """The backbone with exactly these channels: `stem` and `last` are outputs of the first and last convolution, None
    where there is no last one.

    Tried in this order: the paper's table and timm's deeper ones at a width under the TensorFlow rule; the same
    with a stem or last convolution of its own width; a table of this network's own (`width_mult` 1,
    `round_nearest` 1) with the paper's strides. Raises `WeightsError` where the count of blocks, or a block, is
    not one of a MobileNetV2.
    """
    _check(blocks, stem, last, in_channels)
    depth = next(depth for depth in DEPTHS if sum(depth) == len(blocks))
    found = next(_known(tuple(blocks), stem, last, depth), None) or _own(blocks, stem, last, depth)
    return dataclasses.replace(
        found, in_channels=in_channels, padding=padding, bn_eps=bn_eps, activation=activation,
        output_stride=output_stride,
    )  # fmt: skip


def stages_of(block_count: int) -> tuple[tuple[int, int], ...]:
    """(stage, index in the stage) of each block, both from 0. Raises `WeightsError` for an unknown count of blocks."""
    for depth in DEPTHS:
        if sum(depth) == block_count:
            return tuple((stage, i) for stage, n in enumerate(depth) for i in range(n))
    known = ", ".join(str(sum(depth)) for depth in DEPTHS)
    raise WeightsError(f"the network has {block_count} inverted residuals: known are networks with {known}")


def _check(blocks: Sequence[BlockChannels], stem: int, last: int | None, in_channels: int) -> None:
    stages_of(len(blocks))
    ends = (stem, in_channels, *(() if last is None else (last,)))
    if min(*ends, *(min(block.expanded, block.outputs) for block in blocks)) < 1:
        raise WeightsError("a convolution of the network has no channels")
    inputs = stem
    for i, block in enumerate(blocks):
        if block.inputs != inputs:
            raise WeightsError(f"block {i} takes {block.inputs} channels, but {inputs} come from the layer before it")
        if not block.has_expansion and block.expanded != block.inputs:
            raise WeightsError(f"block {i} has no expansion convolution, but a depthwise of {block.expanded} channels")
        inputs = block.outputs


def _known(
    blocks: tuple[BlockChannels, ...], stem: int, last: int | None, depth: tuple[int, ...]
) -> Iterator[Backbone]:
    near: list[Backbone] = []
    for net in _candidates(depth):
        if _channels(net) == blocks or _channels(dataclasses.replace(net, stem_channels=stem)) == blocks:
            if spec.stem(net).out_channels == stem and last in (None, spec.last(net).out_channels):
                yield net
            near.append(net)
    for net in near:
        own_stem = None if spec.stem(net).out_channels == stem else stem
        own_last = None if spec.last(net).out_channels == last else last
        yield dataclasses.replace(net, stem_channels=own_stem, last_channels=own_last)


def _candidates(depth: tuple[int, ...]) -> Iterator[Backbone]:
    stages = tuple((t, c, n, s) for (t, c, _, s), n in zip(STAGES, depth, strict=True))
    for divisor in _DIVISORS:
        for width in _WIDTHS:
            yield Backbone(width_mult=width, stages=stages, round_nearest=divisor)


@functools.lru_cache(maxsize=2048)
def _channels(net: Backbone) -> tuple[BlockChannels, ...]:
    return tuple(
        BlockChannels(block.in_channels, block.depthwise.out_channels, block.out_channels, block.expand is not None)
        for block in spec.blocks(net)
    )


def _own(blocks: Sequence[BlockChannels], stem: int, last: int | None, depth: tuple[int, ...]) -> Backbone:
    """A stage table that says these channels outright; a block like the one before it joins its row."""
    strides = [s if i == 0 else 1 for (*_, s), n in zip(STAGES, depth, strict=True) for i in range(n)]
    rows: list[Stage] = []
    for i, (block, stride) in enumerate(zip(blocks, strides, strict=True)):
        ratio = block.expanded / block.inputs
        t = int(ratio) if ratio.is_integer() else ratio
        if t == 1 and block.has_expansion:
            raise WeightsError(f"block {i} has an expansion convolution that does not expand: no table says that")
        if rows and stride == 1 and rows[-1][:2] == (t, block.outputs):
            rows[-1] = (t, block.outputs, rows[-1][2] + 1, rows[-1][3])
        else:
            rows.append((t, block.outputs, 1, stride))
    return Backbone(stages=tuple(rows), round_nearest=1, stem_channels=stem, last_channels=last)
