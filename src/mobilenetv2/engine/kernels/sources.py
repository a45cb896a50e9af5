"""Where a block's expanded rows come from: a pointwise expansion, the stem, or the input itself.

Each source writes row `y`, a panel's channels, to `place`, the next pixel `stride` elements further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel
from mobilenetv2.engine.kernels.memory import each_vector, zero
from mobilenetv2.engine.kernels.product import Pixels, panel_weights, product, store_all, writer
from mobilenetv2.engine.operations import Stem
from mobilenetv2.engine.schedule import Panel, Product
from mobilenetv2.spec import Activation


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a map, `size` elements each: all of them, or a ring of the last `lines`."""

    place: Pointer
    size: int
    lines: int | None = None

    def at(self, y: Number) -> Pointer:
        return self.place + (y if self.lines is None else y % self.lines) * self.size


class Source(Protocol):
    def prepare(self, f: Kernel, low: Number, high: Number, *, first: Value) -> None:
        """Called before the rows `low` .. `high` are asked for; `first` holds where no rows came before them."""
        ...

    def row(self, f: Kernel, y: Number, panel: Panel, start: Number, place: Pointer, stride: int) -> None:
        """Row `y` of a panel whose first channel is `start`."""
        ...


@dataclass(frozen=True, slots=True)
class Expansion:
    """Rows of a pointwise convolution and its activation."""

    map: Rows
    width: int
    shape: Product
    weight: Pointer
    bias: Pointer
    activation: Activation

    def prepare(self, f: Kernel, low: Number, high: Number, *, first: Value) -> None:
        pass

    def row(self, f: Kernel, y: Number, panel: Panel, start: Number, place: Pointer, stride: int) -> None:
        depth = self.shape.depth
        pixels = Pixels([self.map.at(y)], depth, depth)
        weights = panel_weights(panel, start, depth, self.weight, self.bias)
        write = writer(f, panel, place, stride, self.activation)
        product(f, self.shape, pixels, weights, write, rows=self.width)

    def whole(self, f: Kernel, panel: Panel, start: Number, place: Pointer, row_gap: int) -> None:
        """All rows, tiles running on from row to row; in memory `row_gap` pixels lie between rows."""
        depth = self.shape.depth
        weights = panel_weights(panel, start, depth, self.weight, self.bias)

        def write(first: Number, m: int, sums: list[Value]) -> None:
            pixel = first + m
            at = place + (pixel + (pixel // self.width) * row_gap) * panel.channels
            store_all(f, panel, at, sums, self.activation)

        product(f, self.shape, Pixels([self.map.place], depth, depth), weights, write)


@dataclass(frozen=True, slots=True)
class Copy:
    """The input's own rows, for a block without expansion."""

    map: Rows
    width: int
    channels: int

    def prepare(self, f: Kernel, low: Number, high: Number, *, first: Value) -> None:
        pass

    def row(self, f: Kernel, y: Number, panel: Panel, start: Number, place: Pointer, stride: int) -> None:
        row = self.map.at(y) + start
        with f.loop(0, self.width) as x:
            pixel, target = row + x * self.channels, place + x * stride
            for at, width in zip(panel.offsets, panel.widths, strict=True):
                f.store(f.load(pixel + at, width), target + at)


@dataclass(frozen=True, slots=True)
class StemRows:
    """Rows of the first convolution, from normalised input rows that are kept in a ring of `lines`.

    Zero padding is exact because the zeros lie beside and around the normalised rows, not the pixels.
    """

    stem: Stem
    image: Pointer
    is_bytes: Number
    ring: Pointer
    lines: int
    scale: Pointer
    shift: Pointer
    weight: Pointer
    bias: Pointer

    def prepare(self, f: Kernel, low: Number, high: Number, *, first: Value) -> None:
        stem, conv = self.stem, self.stem.conv
        low, high = f.most(low, 0), f.least(high, stem.out[0])
        # counted from the first row of padding; the row that the previous output row ended with is there already
        overlap = f.choose(first, 0, conv.kernel - conv.stride)
        with f.loop(low * conv.stride + overlap, (high - 1) * conv.stride + conv.kernel) as line:
            self._normalised(f, line)

    def _normalised(self, f: Kernel, line: Number) -> None:
        stem = self.stem
        before, after = (n * stem.conv.in_channels for n in stem.conv.pads(stem.width))
        top, size = stem.conv.pads(stem.height)[0], stem.width * stem.conv.in_channels
        place = self._line(line)
        zero(f, place, before)
        zero(f, place + (before + size), after)
        target = place + before
        inside = f.both(f.less(top - 1, line), f.less(line, top + stem.height))
        with f.when(f.no(inside)):
            zero(f, target, size)
        with f.when(inside):
            with f.when(f.equal(self.is_bytes, 0)):
                row = self.image + (line - top) * size
                each_vector(f, size, lambda i, width: f.store(f.load(row + i, width), target + i))
            with f.when(f.less(0, self.is_bytes)):
                pixels = self.image.bytes + (line - top) * size

                def normalise(i: Number, width: int) -> None:
                    value = f.load_bytes(pixels + i, width)
                    scale, shift = f.load(self.scale + i, width), f.load(self.shift + i, width)
                    f.store(f.fma(value, scale, shift), target + i)

                each_vector(f, size, normalise)

    def _line(self, line: Number) -> Pointer:
        return self.ring + (line % self.lines) * self.stem.line

    def row(self, f: Kernel, y: Number, panel: Panel, start: Number, place: Pointer, stride: int) -> None:
        conv = self.stem.conv
        run = conv.kernel * conv.in_channels
        lines = [self._line(y * conv.stride + i) for i in range(conv.kernel)]
        pixels = Pixels(lines, run, conv.stride * conv.in_channels)
        weights = panel_weights(panel, start, conv.kernel * run, self.weight, self.bias)
        write = writer(f, panel, place, stride, conv.activation)
        product(f, self.stem.product, pixels, weights, write, rows=self.stem.out[1])
