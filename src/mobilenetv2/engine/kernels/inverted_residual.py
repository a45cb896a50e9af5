"""An inverted residual as one function: its expanded tensor exists only as a few rows, or a few channels, at a time.

Streaming: for each stripe of output rows, panel by panel of expanded channels: expand the rows that the ring lacks,
run the depthwise over the ring; then project the stripe. Nothing is expanded twice, except at the edge between two
threads' rows. Whole: where the map is small, a thread expands its panels over all of it, one after the other through
one small buffer; when all threads have done so, they share out the tiles of the projection.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobilenetv2.engine.ir import Kernel, Module, Number, Pointer, Value
from mobilenetv2.engine.kernels.depthwise import Target, depthwise_row
from mobilenetv2.engine.kernels.memory import share, zero
from mobilenetv2.engine.kernels.product import Pixels, panel_weights, product, tiles
from mobilenetv2.engine.kernels.sources import Copy, Expansion, Source, StemRows
from mobilenetv2.engine.operations import Block, sections
from mobilenetv2.engine.schedule import Panel

POINTERS = ("source", "target", "weights", "scratch", "shared", "team")
NUMBERS = ("is_bytes", "thread", "threads")


def emit(module: Module, name: str, block: Block, barrier: Kernel) -> Kernel:
    """The function `name` that computes one thread's part of `block`."""
    f = module.function(name, POINTERS, NUMBERS)
    writer = _Writer(f, block)
    scratch = sections(block.scratch)[0]
    zero(f, f.scratch + scratch["ring"], block.ring)  # the padding in it stays zero
    if block.schedule.whole:
        writer.whole(barrier)
    else:
        writer.streamed(f.scratch + scratch["wide"])
    f.end()
    return f


@dataclass(frozen=True, slots=True)
class _Writer:
    f: Kernel
    block: Block

    def streamed(self, wide: Pointer) -> None:
        f, height, stripe = self.f, self.block.out[0], self.block.schedule.stripe
        full, left = divmod(height, stripe)
        begin, end = share(f, full + (left > 0))
        with f.loop(begin, f.least(end, full)) as number:
            self._stripe(number * stripe, stripe, wide, first=f.equal(number, begin))
        if left:
            with f.when(f.both(f.less(full, end), f.less(begin, end))):
                self._stripe(full * stripe, left, wide, first=f.equal(begin, full))

    def _stripe(self, y: Number, rows: int, wide: Pointer, *, first: Value) -> None:
        """Output rows `y` .. `y + rows`. `first`: this thread has expanded nothing yet."""
        f, block = self.f, self.block
        conv = block.depthwise
        top, reach = conv.pads(block.height)[0], 2 * conv.dilation + 1
        # rows of the ring are counted from the first row of padding, so none is below 0
        low = f.choose(first, y * conv.stride, (y - 1) * conv.stride + reach)
        high = (y + (rows - 1)) * conv.stride + reach
        source = self._source()
        source.prepare(f, low - top, high - top, first=first)
        for group in block.schedule.groups:
            with f.loop(0, group.count) as number:
                start = group.panel.start + number * group.panel.channels
                ring = f.scratch + sections(block.scratch)[0]["ring"] + start * (block.ring_rows * block.columns)
                with f.loop(low, high) as row:
                    self._ring_row(source, row, top, group.panel, start, ring)
                with f.loop(0, rows) as i:
                    self._depthwise(group.panel, start, ring, y + i, wide + i * self._row_of(wide=True))
        shape = block.schedule.project
        for group in shape.groups:
            with f.loop(0, group.count) as number:
                self._project(group.panel, group.panel.start + number * group.panel.channels, wide, y, rows)

    def _ring_row(self, source: Source, row: Number, top: int, panel: Panel, start: Number, ring: Pointer) -> None:
        f, block = self.f, self.block
        left = block.depthwise.pads(block.width)[0]
        place = ring + (row % block.ring_rows) * (block.columns * panel.channels) + left * panel.channels
        inside = f.both(f.less(top - 1, row), f.less(row, top + block.height))
        with f.when(inside):
            source.row(f, row - top, panel, start, place, panel.channels)
        with f.when(f.no(inside)):
            zero(f, place, block.width * panel.channels)

    def whole(self, barrier: Kernel) -> None:
        f, block = self.f, self.block
        chosen = block.schedule
        top, left = block.depthwise.pads(block.height)[0], block.depthwise.pads(block.width)[0]
        begin, end = share(f, len(chosen.panels))
        source = self._source()
        for group in chosen.groups:
            low, high = f.most(begin, group.first), f.least(end, group.first + group.count)
            with f.loop(low, high) as number:
                panel = group.panel
                start = panel.start + (number - group.first) * panel.channels
                place = f.scratch + (top * block.columns + left) * panel.channels
                self._clear_edges()
                if isinstance(source, Expansion):
                    source.whole(f, panel, start, place, block.columns - block.width)
                else:
                    with f.loop(0, block.height) as y:
                        source.row(f, y, panel, start, place + y * (block.columns * panel.channels), panel.channels)
                with f.loop(0, block.out[0]) as y:
                    self._depthwise(panel, start, f.scratch, y, f.shared + y * self._row_of(wide=True))
        f.call(barrier, f.team, f.threads)
        shape = chosen.project
        count = tiles(shape)
        begin, end = share(f, len(shape.panels) * count)
        for group in shape.groups:
            beyond = (end + (count - 1)) // count
            low, high = f.most(begin // count, group.first), f.least(beyond, group.first + group.count)
            with f.loop(low, high) as number:
                start = group.panel.start + (number - group.first) * group.panel.channels
                before = number * count
                part = f.most(begin, before) - before, f.least(end, before + count) - before
                self._project(group.panel, start, f.shared, 0, block.out[0], part=part)

    def _clear_edges(self) -> None:
        """Panels of other widths lie elsewhere in the buffer: the padding must be zero again."""
        if len({panel.channels for panel in self.block.schedule.panels}) > 1:
            zero(self.f, self.f.scratch, self.block.ring)

    def _source(self) -> Source:
        f, block = self.f, self.block
        at = sections(block.weights)[0]
        if block.stem is not None:
            return StemRows(
                block.stem, f.source, f.is_bytes, f.scratch + sections(block.scratch)[0]["lines"], block.lines,
                *(f.weights + at[part] for part in ("scale", "shift", "expand.weight", "expand.bias")),
            )  # fmt: skip
        if block.expand is None or block.schedule.expand is None:
            return Copy(f.source, block.width, block.depthwise.in_channels)
        weight, bias = f.weights + at["expand.weight"], f.weights + at["expand.bias"]
        return Expansion(f.source, block.width, block.schedule.expand, weight, bias, block.expand.activation)

    def _depthwise(self, panel: Panel, start: Number, ring: Pointer, y: Number, place: Pointer) -> None:
        """Output row `y` of a panel from its ring (or its whole map, which is a ring that is never full)."""
        f, block = self.f, self.block
        conv = block.depthwise
        at = sections(block.weights)[0]
        rows = [
            ring + ((y * conv.stride + ky * conv.dilation) % block.ring_rows) * (block.columns * panel.channels)
            for ky in range(3)
        ]
        target = Target(place + start, conv.out_channels, block.shortcut == "expansion")
        weight, bias = f.weights + at["depthwise.weight"] + start * 9, f.weights + at["depthwise.bias"] + start
        depthwise_row(
            f, conv, panel, rows, weight, bias, target,
            columns=block.out[1], together=block.schedule.depthwise_columns,
        )  # fmt: skip

    def _project(
        self, panel: Panel, start: Number, wide: Pointer, y: Number, rows: int,
        *, part: tuple[Number, Number | None] = (0, None),
    ) -> None:  # fmt: skip
        """One panel of the projection of `rows` depthwise rows to the output rows from `y`, shortcut included."""
        f, block = self.f, self.block
        shape, out = block.schedule.project, block.project.out_channels
        at = sections(block.weights)[0]
        weights = panel_weights(
            panel, start, shape.depth, f.weights + at["project.weight"], f.weights + at["project.bias"]
        )
        offset = y * self._row_of(wide=False) + start

        def finish(first: Number, m: int, sums: list[Value]) -> None:
            pixel = first * out + m * out
            target, source = f.target + offset + pixel, f.source + offset + pixel
            for at, value in zip(panel.offsets, sums, strict=True):
                bottleneck = f.activate(value, block.project.activation)
                if block.shortcut == "bottleneck":
                    bottleneck = f.add(bottleneck, f.load(source + at, value.type.count))
                f.store(bottleneck, target + at)

        pixels = Pixels([wide], shape.depth, shape.depth)
        product(f, shape, pixels, weights, finish, rows=rows * block.out[1], first=part[0], last=part[1])

    def _row_of(self, *, wide: bool) -> int:
        """Elements of an output row, of the depthwise or of the projection."""
        conv = self.block.depthwise if wide else self.block.project
        return self.block.out[1] * conv.out_channels
