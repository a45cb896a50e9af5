"""The network's ends: the stem where it runs by itself, the last convolution with its mean, the classifier."""

from __future__ import annotations

from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels.inverted_residual import NUMBERS, POINTERS
from mobilenetv2.engine.kernels.memory import share
from mobilenetv2.engine.kernels.product import Pixels, panel_weights, product, tiles, writer
from mobilenetv2.engine.kernels.sources import StemRows
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Linear, Pool, Stem
from mobilenetv2.engine.schedule import LINE


def emit_stem(module: Module, name: str, stem: Stem) -> Kernel:
    """One thread's rows of the stem's map."""
    f = module.function(name, POINTERS, NUMBERS)
    at = sections(stem.weights)[0]
    rows = StemRows(
        stem, f.source, f.is_bytes, f.scratch, stem.lines(1),
        *(f.weights + at[part] for part in ("scale", "shift", "expand.weight", "expand.bias")),
    )  # fmt: skip
    begin, end = share(f, stem.out[0])
    with f.loop(begin, end) as y:
        rows.prepare(f, y, y + 1, first=f.equal(y, begin))
        row = f.target + y * (stem.out[1] * stem.conv.out_channels)
        for group in stem.product.groups:
            with f.loop(0, group.count) as number:
                start = group.panel.start + number * group.panel.channels
                rows.row(f, y, group.panel, start, row + start, stem.conv.out_channels)
    f.end()
    return f


def emit_pool(module: Module, name: str, pool: Pool) -> Kernel:
    """One thread's panels of mean(activate(pixels x weights)): the sums of a panel stay in registers."""
    f = module.function(name, POINTERS, NUMBERS)
    shape, at = pool.product, sections(pool.weights)[0]
    begin, end = share(f, len(shape.panels))
    for group in shape.groups:
        panel = group.panel
        with f.loop(f.most(begin, group.first), f.least(end, group.first + group.count)) as number:
            start = panel.start + (number - group.first) * panel.channels
            weights = panel_weights(panel, start, shape.depth, f.weights + at["weight"], f.weights + at["bias"])
            totals: list[Value] = [f.constant(0, width) for width in panel.widths]

            def finish(first: Number, m: int, sums: list[Value], totals: list[Value] = totals) -> None:
                for n, value in enumerate(sums):
                    totals[n] = f.add(totals[n], f.activate(value, pool.activation))

            # the following step's weights lie behind this one's, and its threads share them out as these panels are
            turns = tiles(shape) * shape.depth
            beside = f.weights + sections(pool.weights)[1] + number * (turns * pool.next_lines * LINE)

            def turn(i: Number, beside: Pointer = beside) -> None:
                for line in range(pool.next_lines):
                    f.prefetch(beside + i * (pool.next_lines * LINE) + line * LINE)

            product(f, shape, Pixels([f.source], shape.depth, shape.depth), weights, finish, carry=totals, turn=turn)
            for offset, total in zip(panel.offsets, totals, strict=True):
                mean = f.multiply(total, f.constant(1 / shape.rows, total.type.count))
                f.store(mean, f.target + start + offset)
    f.end()
    return f


def emit_linear(module: Module, name: str, linear: Linear) -> Kernel:
    """One thread's panels of features x weights."""
    f = module.function(name, POINTERS, NUMBERS)
    shape, at = linear.product, sections(linear.weights)[0]
    begin, end = share(f, len(shape.panels))
    for group in shape.groups:
        panel = group.panel
        with f.loop(f.most(begin, group.first), f.least(end, group.first + group.count)) as number:
            start = panel.start + (number - group.first) * panel.channels
            # no asking ahead: this step only waits for memory, and more requests make it slower (52 -> 66 us, Zen 4)
            weights = panel_weights(
                panel, start, shape.depth, f.weights + at["weight"], f.weights + at["bias"], ahead=0
            )
            write = writer(f, panel, f.target + start, shape.channels, "linear")
            product(f, shape, Pixels([f.source], shape.depth, shape.depth), weights, write)
    f.end()
    return f
