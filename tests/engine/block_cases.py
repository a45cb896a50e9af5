"""Shapes of blocks, and how far the engine is from the reference on one.

A sample of the cases runs always; all of them with MOBILENETV2_ALL_BLOCKS=1 (half an hour).
"""

import itertools
import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import single

from mobilenetv2 import spec
from mobilenetv2.engine import plan, reference, walker
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.schedule import Cpu, Limits
from mobilenetv2.spec import BlockSpec, ConvSpec, Padding
from mobilenetv2.spec_fields import backbone

Array = single.Array
AGREE = 1e-4  # of the largest output
LEVELS = ("x86-64", "haswell", "skylake-avx512")
CHANNELS = (7, 8, 9, 17, 24, 40)
SIZES = ((1, 1), (3, 5), (7, 7), (14, 14), (57, 31), (112, 112))
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
LIMITS = {"whole": Limits(), "rows": Limits(whole_depthwise_bytes=0, stripe_rows=3), "row": Limits(0, 0, 1)}


@dataclass(frozen=True)
class Case:
    block: BlockSpec
    size: tuple[int, int]
    limits: str
    level: str
    threads: int

    def __str__(self) -> str:
        b = self.block
        channels = "-".join(str(conv.out_channels) for conv in b.convolutions)
        how = f"s{b.stride} d{b.depthwise.dilation} {b.depthwise.padding} {self.limits} {self.level}"
        return f"{b.in_channels}-{channels} {self.size[0]}x{self.size[1]} {how} {self.threads}t"


def made(channels: int, out: int, expanded: int | None, stride: int, dilation: int, padding: Padding) -> BlockSpec:
    wide = expanded or channels
    shortcut = "bottleneck" if stride == 1 and channels == out else "none"
    expand = None if expanded is None else ConvSpec("e", None, channels, wide, activation="relu6")
    depthwise = ConvSpec(
        "d", None, wide, wide, kernel=3, stride=stride, dilation=dilation, groups=wide, padding=padding,
        activation="relu6",
    )  # fmt: skip
    return BlockSpec(1, "b", expand, depthwise, ConvSpec("p", None, wide, out, activation="linear"), shortcut)


def of_odd_channels() -> list[Case]:
    cases: list[Case] = []
    for i, (channels, size, stride, dilation, padding, how, level, expands) in enumerate(
        itertools.product(
            CHANNELS, SIZES, (1, 2), (1, 2, 4), ("symmetric", "same"), LIMITS, LEVELS, (None, 1, 3),
        )
    ):  # fmt: skip
        out = channels if i % 2 else CHANNELS[i % len(CHANNELS)]
        expanded = None if expands is None else expands * channels
        block = made(channels, out, expanded, stride, dilation, padding)
        cases.append(Case(block, size, how, level, 1 + i // 2 % 2))
    return cases


def of_the_paper() -> list[Case]:
    """Every block shape of the paper's widths where it stands in the network, at 224 pixels and dilated at 113."""
    shapes: dict[tuple[Any, ...], Case] = {}
    for width, padding, (side, stride) in itertools.product(
        WIDTHS, ("symmetric", "same"), ((224, 32), (113, 16), (113, 8))
    ):
        net = backbone(width_mult=width, padding=padding, output_stride=stride)
        size = spec.stem(net).out_size(side)
        for block in spec.blocks(net):
            for number, level in enumerate(LEVELS):
                case = Case(block, (size, size), "whole", level, 1 + (block.index + number) % 2)
                convs = tuple(walker.nameless(conv) for conv in block.convolutions)
                shapes.setdefault((convs, block.shortcut, size, level), case)
            size = block.depthwise.out_size(size)
    return list(shapes.values())


def chosen(cases: list[Case], count: int) -> list[Case]:
    if os.environ.get("MOBILENETV2_ALL_BLOCKS") == "1":
        return cases
    small = [case for case in cases if case.size[0] * case.size[1] * case.block.depthwise.out_channels < 200_000]
    return random.Random(1).sample(small, count)


def random_conv(conv: ConvSpec, rng: np.random.Generator) -> tuple[Array, Array]:
    """A weight in PyTorch's order and a bias, so that activations neither die nor explode."""
    fan = np.prod(conv.weight_shape[1:])
    return rng.normal(0, np.sqrt(2 / fan), conv.weight_shape), rng.normal(0, 0.3, conv.out_channels)


def expected_of(block: BlockSpec, x: Array, convs: dict[str, tuple[Array, Array]]) -> Array:
    result = x
    for name, (weight, bias) in convs.items():
        conv: ConvSpec = getattr(block, name)
        result = reference.activate(reference.convolve(result, weight, conv) + bias, conv.activation)
    return result + x if block.shortcut == "bottleneck" else result


def difference(case: Case, cpu: Cpu, call: single.Call | None = None) -> float:
    """The largest difference to the reference in float64, as a part of its largest output."""
    rng = np.random.default_rng(len(str(case)))
    block, (height, width) = case.block, case.size
    x = rng.normal(0, 1, (1, height, width, block.in_channels)).astype(np.float32)
    convs = {name: random_conv(conv, rng) for name in walker.PARTS if (conv := getattr(block, name)) is not None}
    expected = expected_of(block, x.astype(np.float64), convs)
    operation = walker.block_operation(block, None, case.size, cpu, LIMITS[case.limits])
    folded = {
        name: Folded(weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0]), bias)
        for name, (weight, bias) in convs.items()
    }
    in_place = plan.in_place(operation, case.threads)
    found = single.run(
        operation, x, folded, expected.shape, cpu, threads=case.threads, in_place=in_place, call=call
    )  # fmt: skip
    return float(np.abs(found - expected).max() / np.abs(expected).max())
