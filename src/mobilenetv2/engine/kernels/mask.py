"""The best class of every pixel of a picture from a small map of logits: resized and compared in registers.

Neighbouring output pixels that lie between the same two columns of the map are computed side by side, in the lanes of
a vector, one class after the other: a value per class and pixel exists in a register only.
"""

from __future__ import annotations

from mobilenetv2.engine import abi
from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels import team
from mobilenetv2.engine.kernels.memory import each_vector, share, zero
from mobilenetv2.engine.schedule import Cpu


def emit(cpu: Cpu, width: int, classes: int) -> Module:
    """The module whose function `run` makes masks of maps that are `width` pixels wide: see `abi` for its arguments.

    Sums are rounded as NumPy rounds them: the masks are the definition's (`upsample.best_classes`) to the last pixel.
    """
    module = Module(cpu)
    f = module.function(abi.ENTRY, abi.POINTERS, abi.NUMBERS, public=True)
    words, size = f.weights.words, width * classes
    row_parts, column_parts = (f.weights + f.word(words + at) for at in (abi.ROW_PARTS, abi.COLUMN_PARTS))
    mixed = f.arena + f.thread * abi.mask_scratch(width, classes)
    steps = mixed + size
    begin, end = share(f, f.word(words + abi.HEIGHT))
    with f.loop(begin, end) as y:
        line = words + f.word(words + abi.LINES) + y * 2
        upper, lower = (f.image + f.word(line + i) for i in range(2))
        down = row_parts + y

        def mix(i: Number, lanes: int) -> None:
            above = f.load(upper + i, lanes)
            f.store(between(f, above, f.subtract(f.load(lower + i, lanes), above), f.splat(down, lanes)), mixed + i)

        def difference(i: Number, lanes: int) -> None:
            f.store(f.subtract(f.load(mixed + classes + i, lanes), f.load(mixed + i, lanes)), steps + i)

        each_vector(f, size, mix)
        if width > 1:
            each_vector(f, size - classes, difference)
        zero(f, steps + (size - classes), classes)
        across = f.word(words + abi.WIDTH)
        target = f.outputs.bytes + y * across
        with f.loop(0, f.word(words + abi.RUN_COUNT)) as number:
            run = words + f.word(words + abi.RUNS) + number * 3
            pixel, first, count = (f.word(run + i) for i in range(3))
            with f.loop(0, (count + (cpu.lanes - 1)) // cpu.lanes) as vector:
                x = first + vector * cpu.lanes
                best = _best(f, mixed + pixel, steps + pixel, f.load(column_parts + x, cpu.lanes), classes)
                store_row(f, best, target, x, across, steps + size)
    f.end()
    team.emit(module, f, team.emit_barrier(module))
    return module


def _best(f: Kernel, pixel: Pointer, steps: Pointer, part: Value, classes: int) -> Value:
    """The first of the largest classes, for output pixels that are `part` of the way from `pixel` to the next."""
    lanes = part.type.count
    label = f.labels(0, lanes)
    most = between(f, f.splat(pixel, lanes), f.splat(steps, lanes), part)
    for i in range(1, classes):
        value = between(f, f.splat(pixel + i, lanes), f.splat(steps + i, lanes), part)
        more = f.greater(value, most)
        most, label = f.select(more, value, most), f.select(more, f.labels(i, lanes), label)
    return label


def between(f: Kernel, value: Value, step: Value, part: Value) -> Value:
    """`part` of `step` beyond `value`, rounded twice, as NumPy does."""
    return f.add(value, f.multiply(step, part))


def store_row(f: Kernel, labels: Value, row: Pointer, x: Number, across: Number, spare: Pointer) -> None:
    """A row's labels from column `x` on: beyond the run, where the next one will write, but not beyond the row."""
    lanes = labels.type.count
    fits = f.less(x + (lanes - 1), across)
    with f.when(fits):
        f.store_labels(labels, row + x)
    with f.when(f.no(fits)):
        aside = spare.bytes
        f.store_labels(labels, aside)
        with f.loop(0, across - x) as i:
            f.copy_byte(aside + i, row + x + i)
