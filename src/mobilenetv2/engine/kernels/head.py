"""What heads are made of beside blocks: a pointwise convolution, a mean over the map, a bilinear resize.

Each writes into a slice of a map's channels, so that maps side by side are never copied together.
"""

from __future__ import annotations

from mobilenetv2.engine.addresses import Number, Value
from mobilenetv2.engine.head_operations import Mean, Pointwise, Resize
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels.inverted_residual import NUMBERS, POINTERS
from mobilenetv2.engine.kernels.memory import each_vector, share
from mobilenetv2.engine.kernels.product import Pixels, deal, panel_weights, product, writer
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.schedule import Panel, groups, panels

MEAN_VECTORS = 8  # summed side by side: enough to hide an addition's latency


def emit_pointwise(module: Module, name: str, pointwise: Pointwise) -> Kernel:
    """One thread's tiles of activate(pixels x weights + bias)."""
    f = module.function(name, POINTERS, NUMBERS)
    shape, into, at = pointwise.product, pointwise.into, sections(pointwise.weights)[0]

    def part(panel: Panel, start: Number, first: Number, last: Number) -> None:
        weights = panel_weights(panel, start, shape.depth, f.weights + at["weight"], f.weights + at["bias"])
        write = writer(f, panel, f.target + (into.start + start), into.channels, pointwise.activation)
        product(f, shape, Pixels([f.source], shape.depth, shape.depth), weights, write, first=first, last=last)

    deal(f, shape, part)
    f.end()
    return f


def emit_mean(module: Module, name: str, mean: Mean) -> Kernel:
    """One thread's channels: the sums of a panel stay in registers."""
    f = module.function(name, POINTERS, NUMBERS)
    parts = panels(mean.channels, f.cpu.lanes, MEAN_VECTORS)
    begin, end = share(f, len(parts))
    for group in groups(parts):
        panel = group.panel
        with f.loop(f.most(begin, group.first), f.least(end, group.first + group.count)) as number:
            start = panel.start + (number - group.first) * panel.channels
            totals: list[Value] = [f.constant(0, width) for width in panel.widths]
            with f.loop(0, mean.pixels, carry=totals) as pixel:
                row = f.source + start + pixel * mean.channels
                for n, (at, width) in enumerate(zip(panel.offsets, panel.widths, strict=True)):
                    totals[n] = f.add(totals[n], f.load(row + at, width))
            for at, total in zip(panel.offsets, totals, strict=True):
                f.store(f.multiply(total, f.constant(1 / mean.pixels, total.type.count)), f.target + start + at)
    f.end()
    return f


def emit_resize(module: Module, name: str, resize: Resize) -> Kernel:
    """One thread's output rows, each pixel mixed from four."""
    f = module.function(name, POINTERS, NUMBERS)
    channels, (height, width), into = resize.channels, resize.size, resize.into
    begin, end = share(f, resize.out[0])
    with f.loop(begin, end) as y:
        above, below, down = _between(f, y, height, resize.out[0], align_corners=resize.align_corners)
        upper, lower = (f.source + row * (width * channels) for row in (above, below))
        row = f.target + into.start + y * (resize.out[1] * into.channels)
        with f.loop(0, resize.out[1]) as x:
            left, right, across = _between(f, x, width, resize.out[1], align_corners=resize.align_corners)
            corners = [line + column * channels for line in (upper, lower) for column in (left, right)]
            target = row + x * into.channels

            def mix(i: Number, lanes: int) -> None:
                a, b, c, d = (f.load(corner + i, lanes) for corner in corners)
                sideways, downwards = f.lanes(across, lanes), f.lanes(down, lanes)
                top, bottom = _mix(f, a, b, sideways), _mix(f, c, d, sideways)
                f.store(_mix(f, top, bottom, downwards), target + i)

            each_vector(f, channels, mix)
    f.end()
    return f


def _between(f: Kernel, i: Number, size: int, out: int, *, align_corners: bool) -> tuple[Number, Number, Value]:
    """The two of `size` pixels that output pixel `i` of `out` lies between, and how far it is from the first.

    Its place is a fraction of whole numbers, so that no rounding can choose the wrong pixels.
    """
    if align_corners:
        place, unit = i * (size - 1), max(out - 1, 1)
    else:
        place, unit = f.most((i * 2 + 1) * size - out, 0), 2 * out
    low = place // unit
    return low, f.least(low + 1, size - 1), f.ratio(place - low * unit, unit)


def _mix(f: Kernel, a: Value, b: Value, part: Value) -> Value:
    return f.fma(f.subtract(b, a), part, a)
