"""The depthwise 3x3 convolution of one output row, for the channels of one panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel
from mobilenetv2.engine.schedule import Panel, balanced
from mobilenetv2.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Target:
    """Where output pixels go: `place + x * stride`. `adds`: what lies there is added to them."""

    place: Pointer
    stride: int
    adds: bool


def depthwise_row(
    f: Kernel, conv: ConvSpec, panel: Panel, rows: Sequence[Pointer], weight: Pointer, bias: Pointer, target: Target,
    *, columns: int, together: int,
) -> None:  # fmt: skip
    """`columns` output pixels from three padded `rows` of expanded pixels, `together` of them in one inner loop.

    Output pixel x looks at the ring's pixels x * stride + kx * dilation: the padding lies in the ring.
    """
    resident = f.cpu.registers >= 32
    for at, width in zip(panel.offsets, panel.widths, strict=True):
        shift = f.load(bias + at, width)
        weights = [f.load(weight + 9 * at + i * width, width) for i in range(9)] if resident else []
        sizes = balanced(columns, -(-columns // together))
        start = 0
        for count in sorted(set(sizes), reverse=True):
            turns = sizes.count(count)
            with f.loop(start, start + turns * count, count) as x:
                sums: list[Value] = [shift] * count
                for ky, row in enumerate(rows):
                    pixel = row + x * (conv.stride * panel.channels) + at
                    inputs: dict[int, Value] = {}
                    for kx in range(3):
                        i = 3 * ky + kx
                        factor = weights[i] if resident else f.load(weight + 9 * at + i * width, width)
                        for t in range(count):
                            column = t * conv.stride + kx * conv.dilation
                            if column not in inputs:  # neighbours share inputs: each is read once
                                inputs[column] = f.load(pixel + column * panel.channels, width)
                            sums[t] = f.fma(inputs[column], factor, sums[t])
                _finish(f, conv, sums, target, x, at)
            start += turns * count


def _finish(f: Kernel, conv: ConvSpec, sums: list[Value], target: Target, x: Number, at: int) -> None:
    pixel = target.place + x * target.stride + at
    for t, value in enumerate(sums):
        place = pixel + t * target.stride
        wide = f.activate(value, conv.activation)
        f.store(f.add(wide, f.load(place, value.type.count)) if target.adds else wide, place)
