"""The inner loop of everything: pixels x weights -> a tile of output in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel
from mobilenetv2.engine.kernels.memory import share
from mobilenetv2.engine.schedule import AHEAD_BYTES, LINE, Panel, Product, balanced
from mobilenetv2.spec import Activation

Turn = Callable[[Number], None]  # what else a turn of the inner loop does, given its number among all of a panel's
Finish = Callable[[Number, int, list[Value]], None]  # (the tile's first row, row in the tile, its vectors)


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where rows of a product are read: row m is, one after the other, `depth` elements at `lines[i] + m * stride`.

    One line for a pointwise convolution; three for a 3x3 one, whose pixel sees three runs of the input.
    """

    lines: Sequence[Pointer]
    depth: int
    stride: int


@dataclass(frozen=True, slots=True)
class Weights:
    """One panel's weights [K, channels], its biases, and its widths.

    `ahead`: the inner loop asks for the weights this many elements further on, those of later steps included.
    `bias_step`: elements from one row's biases to the next one's, which are the same for all rows where it is 0.
    """

    panel: Panel
    weight: Pointer
    bias: Pointer
    ahead: int
    bias_step: int = 0


def panel_weights(
    panel: Panel, start: Number, depth: int, weight: Pointer, bias: Pointer, *, ahead: int = AHEAD_BYTES // 4,
    bias_step: int = 0,
) -> Weights:  # fmt: skip
    """The weights of the panel whose first channel is `start`, in a product's packed `weight` and `bias`."""
    return Weights(panel, weight + start * depth, bias + start, ahead, bias_step)


def tile(f: Kernel, rows: int, pixels: Pixels, first: Number, weights: Weights, turn: Turn) -> list[list[Value]]:
    """bias + pixels x weights for `rows` rows from `first`: sums[row][vector], added up in the order of K."""
    panel = weights.panel
    sums = start(f, rows, weights, first)
    for number, line in enumerate(pixels.lines):
        weight = weights.weight + number * pixels.depth * panel.channels
        offsets = [m * pixels.stride for m in range(rows)]
        accumulate(f, sums, line + first * pixels.stride, offsets, weight, weights, pixels.depth, turn)
    return by_row(sums, rows)


def start(f: Kernel, rows: int, weights: Weights, first: Number = 0) -> list[Value]:
    """The sums of a tile before anything is added: the biases, row by row from `first`, vector by vector."""
    parts = list(zip(weights.panel.offsets, weights.panel.widths, strict=True))
    bias, step = weights.bias + first * weights.bias_step, weights.bias_step
    return [f.load(bias + (m * step + at), width) for m in range(rows) for at, width in parts]


def accumulate(
    f: Kernel, sums: list[Value], pixel: Pointer, offsets: Sequence[int], weight: Pointer, weights: Weights,
    depth: int, turn: Turn = lambda _: None,
) -> None:  # fmt: skip
    """Add `depth` elements of K to a tile's sums: row m's lie at `pixel + offsets[m]`, their weights at `weight`."""
    panel = weights.panel
    parts = list(zip(panel.offsets, panel.widths, strict=True))
    with f.loop(0, depth, carry=sums) as k:
        row = weight + k * panel.channels
        vectors = [f.load(row + at, width) for at, width in parts]
        if weights.ahead:
            for line in range(0, panel.channels, LINE):
                f.prefetch(row + (weights.ahead + line))
        turn(k)
        for m, offset in enumerate(offsets):
            element = pixel + k + offset
            lanes = {width: f.splat(element, width) for width in panel.widths}
            for n, vector in enumerate(vectors):
                i = m * len(parts) + n
                sums[i] = f.fma(lanes[panel.widths[n]], vector, sums[i])


def by_row(sums: list[Value], rows: int) -> list[list[Value]]:
    """A tile's sums as sums[row][vector]."""
    each = len(sums) // rows
    return [sums[m * each : (m + 1) * each] for m in range(rows)]


def product(
    f: Kernel, shape: Product, pixels: Pixels, weights: Weights, finish: Finish, *, rows: int | None = None,
    first: Number = 0, last: Number | None = None, carry: list[Value] | None = None, turn: Turn = lambda _: None,
) -> None:  # fmt: skip
    """All rows for one panel, tile by tile, or the tiles `first` .. `last`; `finish` takes each row's sums.

    The tiles' rows differ by at most one: a ragged last tile would waste the registers it does not fill.
    """
    sizes = balanced(shape.rows if rows is None else rows, tiles(shape, rows))
    last = len(sizes) if last is None else last
    start = begin = 0
    for height in sorted(set(sizes), reverse=True):
        end = begin + sizes.count(height)
        base = start - begin * height
        low, high = f.most(first, begin), f.least(last, end)
        if not (isinstance(low, int) and isinstance(high, int)) or low < high:
            with f.loop(low, high, carry=carry) as number:
                row = number * height + base

                def numbered(k: Number, number: Number = number) -> None:
                    turn(number * shape.depth + k)

                for m, sums in enumerate(tile(f, height, pixels, row, weights, numbered)):
                    finish(row, m, sums)
        start += (end - begin) * height
        begin = end


def every_panel(
    f: Kernel, shape: Product, rows: int, source: Pointer, weight: Pointer, bias: Pointer, target: Pointer,
    activation: Activation, *, bias_step: int = 0,
) -> None:  # fmt: skip
    """activate(pixels x weights + bias) for `rows` pixels that lie one after the other, as those of `target` do."""
    for group in shape.groups:
        with f.loop(0, group.count) as number:
            first = group.panel.start + number * group.panel.channels
            weights = panel_weights(group.panel, first, shape.depth, weight, bias, bias_step=bias_step)
            write = writer(f, group.panel, target + first, shape.channels, activation)
            product(f, shape, Pixels([source], shape.depth, shape.depth), weights, write, rows=rows)


def deal(f: Kernel, shape: Product, part: Callable[[Panel, Number, Number, Number], None]) -> None:
    """This thread's share of a product's tiles: `part(panel, its first channel, its first tile, beyond its last)`."""
    count = tiles(shape)
    begin, end = share(f, len(shape.panels) * count)
    for group in shape.groups:
        beyond = (end + (count - 1)) // count
        low, high = f.most(begin // count, group.first), f.least(beyond, group.first + group.count)
        with f.loop(low, high) as number:
            start = group.panel.start + (number - group.first) * group.panel.channels
            before = number * count
            part(group.panel, start, f.most(begin, before) - before, f.least(end, before + count) - before)


def tiles(shape: Product, rows: int | None = None) -> int:
    """How many tiles `rows` rows (all of them, if not given) make."""
    return -(-(shape.rows if rows is None else rows) // shape.tile.rows)


def writer(f: Kernel, panel: Panel, place: Pointer, stride: int, activation: Activation) -> Finish:
    """A `Finish` that activates and stores row m at `place + m * stride`."""

    def write(first: Number, m: int, sums: list[Value]) -> None:
        store_all(f, panel, place + first * stride + m * stride, sums, activation)

    return write


def store_all(f: Kernel, panel: Panel, place: Pointer, sums: list[Value], activation: Activation) -> None:
    for at, lanes, value in zip(panel.offsets, panel.stored, sums, strict=True):
        f.store(f.activate(value, activation), place + at, lanes)
