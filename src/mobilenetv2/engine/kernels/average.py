"""The likeliest class of every pixel of a picture after several looks at it: resized, made scores, added, compared.

One row of the picture at a time, class after class, with its pixels side by side in the lanes of vectors: the scores of
that row are all that is ever stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mobilenetv2.engine import abi
from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels import team
from mobilenetv2.engine.kernels.mask import between, store_row
from mobilenetv2.engine.kernels.memory import share
from mobilenetv2.engine.schedule import Cpu

# e^x is 2^n e^r with n = x / ln 2, rounded: |r| <= ln(2) / 2. In a sum with SHIFT the lowest bits are that integer.
SHIFT = 1.5 * 2**23
LN2_HIGH = 355 / 512  # so few bits that n times it is exact; the rest of ln 2 is subtracted after it
LEAST = -87.0  # no score is smaller than e^-87, which is still a normal float32
DEGREE = 7  # of the Taylor polynomial of e^r: what it leaves out is below 1e-8


def emit(cpu: Cpu) -> Module:
    """The module whose function `run` makes a mask from looks: see `abi` for its arguments."""
    module = Module(cpu)
    f = module.function(abi.ENTRY, abi.POINTERS, abi.NUMBERS, public=True)
    words = f.weights.words
    width, looks, classes, stride, space, scratch = (
        f.word(words + at) for at in (abi.WIDTH, abi.LOOKS, abi.CLASSES, abi.STRIDE, abi.LINE_SPACE, abi.SCRATCH)
    )
    sums = f.arena + f.thread * scratch
    values = sums + classes * stride
    mixed = values + classes * stride
    row = _Row(f, classes, stride, sums, values, mixed, mixed + space)
    begin, end = share(f, f.word(words + abi.HEIGHT))
    with f.loop(begin, end) as y:
        with _vectors(f, classes * stride) as x:
            f.store(f.constant(0, cpu.lanes), sums + x)
        with f.loop(0, looks) as number:
            entry = words + abi.AVERAGE_HEADER + number * abi.LOOK_WORDS
            table, logits, top, left, size = (f.word(entry + i) for i in range(abi.LOOK_WORDS))
            look = _Look(f.weights + table * 2, f.image + logits, size)
            with f.when(f.both(f.less(top, y + 1), f.less(y, top + look.word(abi.HEIGHT)))):
                _resize(row, look, y - top)
                _add_scores(row, look.word(abi.WIDTH), left)
        with _vectors(f, width) as x:
            store_row(f, _best(row, x), f.outputs.bytes + y * width, x, width, row.steps + space)
    f.end()
    team.emit(module, f, team.emit_barrier(module))
    return module


@dataclass(frozen=True, slots=True)
class _Row:
    """A thread's scratch memory: for each class the picture's row of `sums` and a look's of `values`, `stride` elements
    from one class to the next; and a row of a map with the `steps` from each of its pixels to the following one."""

    f: Kernel
    classes: Number
    stride: Number
    sums: Pointer
    values: Pointer
    mixed: Pointer
    steps: Pointer

    def each_class(self, body: Callable[[Number, Number], None], carry: list[Value]) -> None:
        """`body(class, elements that it lies behind the first one)`, with values that flow as in `Kernel.loop`."""
        with self.f.loop(0, self.classes, carry=carry, turns=True) as label:
            body(label, label * self.stride)


@dataclass(frozen=True, slots=True)
class _Look:
    """Its part of the table, as that of a mask is; its map; the elements of a row of that."""

    table: Pointer
    logits: Pointer
    size: Number

    def word(self, at: int) -> Number:
        return self.table.f.word(self.table.words + at)


def _resize(row: _Row, look: _Look, y: Number) -> None:
    """The values of row `y` of what the look sees, rounded as `mask` rounds them."""
    f, lanes = row.f, row.f.cpu.lanes
    line = look.table.words + look.word(abi.LINES) + y * 2
    upper, lower = (look.logits + f.word(line + i) for i in range(2))
    down = look.table + look.word(abi.ROW_PARTS) + y
    with _vectors(f, look.size) as i:
        above = f.load(upper + i, lanes)
        f.store(between(f, above, f.subtract(f.load(lower + i, lanes), above), f.splat(down, lanes)), row.mixed + i)
    with _vectors(f, look.size) as i:
        following = f.load(row.mixed + row.classes + i, lanes)
        f.store(f.subtract(following, f.load(row.mixed + i, lanes)), row.steps + i)
    with _vectors(f, row.classes) as i:  # behind the last pixel there is that pixel again
        f.store(f.constant(0, lanes), row.steps + (look.size - row.classes) + i)
    column_parts = look.table + look.word(abi.COLUMN_PARTS)
    with f.loop(0, look.word(abi.RUN_COUNT)) as number:
        run = look.table.words + look.word(abi.RUNS) + number * 3
        pixel, first, count = (f.word(run + i) for i in range(3))
        with _vectors(f, count) as i:
            part, place = f.load(column_parts + first + i, lanes), row.values + first + i

            def mix(label: Number, at: Number, pixel: Number = pixel, part: Value = part, to: Pointer = place) -> None:
                value, step = (f.splat(line + pixel + label, lanes) for line in (row.mixed, row.steps))
                f.store(between(f, value, step, part), to + at)

            row.each_class(mix, [])


def _add_scores(row: _Row, count: Number, left: Number) -> None:
    """Softmax of `count` values of each class, added to the picture's sums from column `left` on."""
    f, lanes = row.f, row.f.cpu.lanes
    with _vectors(f, count) as x:
        most = [f.load(row.values + x, lanes)]

        def compare(label: Number, at: Number) -> None:
            most[0] = _most(f, f.load(row.values + x + at, lanes), most[0])

        row.each_class(compare, most)
        total = [f.constant(0, lanes)]

        def power(label: Number, at: Number) -> None:
            place = row.values + x + at
            found = _exp(f, f.subtract(f.load(place, lanes), most[0]))
            f.store(found, place)
            total[0] = f.add(total[0], found)

        row.each_class(power, total)
        counts = f.greater(f.lanes(f.ratio(count - x, 1), lanes), f.counting(lanes))
        share = f.select(counts, f.divide(f.constant(1, lanes), total[0]), f.constant(0, lanes))

        def add(label: Number, at: Number) -> None:
            place = row.sums + left + x + at
            f.store(f.fma(f.load(row.values + x + at, lanes), share, f.load(place, lanes)), place)

        row.each_class(add, [])


def _best(row: _Row, x: Number) -> Value:
    """The first of the classes with the largest sums."""
    f, lanes = row.f, row.f.cpu.lanes
    found = [f.load(row.sums + x, lanes), f.labels(0, lanes)]

    def compare(label: Number, at: Number) -> None:
        value = f.load(row.sums + x + at, lanes)
        more = f.greater(value, found[0])
        found[:] = f.select(more, value, found[0]), f.select(more, f.labels(label, lanes), found[1])

    row.each_class(compare, found)
    return found[1]


def _exp(f: Kernel, x: Value) -> Value:
    """e^x for x of at most 0, but not less than e^`LEAST`; within 2 units of the last place."""
    lanes = x.type.count
    x = _most(f, x, f.constant(LEAST, lanes))
    shifted = f.fma(x, f.constant(1 / math.log(2), lanes), f.constant(SHIFT, lanes))
    n = f.subtract(shifted, f.constant(SHIFT, lanes))
    r = f.fma(n, f.constant(-LN2_HIGH, lanes), x)
    r = f.fma(n, f.constant(LN2_HIGH - math.log(2), lanes), r)
    power = f.constant(1 / math.factorial(DEGREE), lanes)
    for k in reversed(range(DEGREE)):
        power = f.fma(power, r, f.constant(1 / math.factorial(k), lanes))
    return f.times_power_of_two(power, shifted)


def _most(f: Kernel, a: Value, b: Value) -> Value:
    """The larger one; `b` where one of them is no number."""
    return f.select(f.greater(a, b), a, b)


@contextmanager
def _vectors(f: Kernel, size: Number) -> Iterator[Number]:
    """The first element of each of the vectors that hold `size` elements, and perhaps some beyond them."""
    with f.loop(0, (size + (f.cpu.lanes - 1)) // f.cpu.lanes) as vector:
        yield vector * f.cpu.lanes
