"""An inverted residual as one function: its expanded tensor exists only as a few rows, or a few channels, at a time.

Streaming: for each stripe of output rows, panel by panel of expanded channels: expand the rows that the ring lacks,
run the depthwise over the ring; then project the stripe. Nothing is expanded twice, except at the edge between two
threads' rows. A chain of blocks streams too: each asks the one before it for the rows that it is about to expand, so
the maps between them exist as a few rows only. Whole: where the map is small, a thread expands its panels over all of
it, one after the other through one small buffer; when all threads have done so, they share out the tiles of the
projection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mobilenetv2.engine.addresses import Number, Pointer, Value
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels.depthwise import Target, depthwise_row
from mobilenetv2.engine.kernels.memory import share, zero
from mobilenetv2.engine.kernels.product import Pixels, deal, panel_weights, product
from mobilenetv2.engine.kernels.sources import Copy, Expansion, Rows, Source, StemRows
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Block, Chain
from mobilenetv2.engine.schedule import Panel

POINTERS = ("source", "target", "weights", "scratch", "shared", "team")
NUMBERS = ("is_bytes", "thread", "threads")


def emit(module: Module, name: str, block: Block, barrier: Kernel) -> Kernel:
    """The function `name` that computes one thread's part of `block`."""
    f = module.function(name, POINTERS, NUMBERS)
    weights, scratch = _places(f.weights, block.weights), _places(f.scratch, block.scratch)
    writer = _Writer(f, block, weights, scratch, _map(f.source, block, before=True), _map(f.target, block), None)
    writer.clear()
    if block.schedule.whole:
        writer.whole(barrier)
    else:
        writer.streamed()
    f.end()
    return f


def emit_chain(module: Module, name: str, chain: Chain) -> Kernel:
    """The function `name` that computes one thread's rows of the last block's map and what they need of the others."""
    f = module.function(name, POINTERS, NUMBERS)
    weights, scratch = _places(f.weights, chain.weights), _places(f.scratch, chain.scratch)
    source, writer = _map(f.source, chain.blocks[0], before=True), None
    for i, block in enumerate(chain.blocks):
        target = _map(f.target, block)
        if i < len(chain.blocks) - 1:
            target = Rows(scratch[f"{i}.rows"], target.size, chain.lines(i))
        writer = _Writer(f, block, _part(weights, i), _part(scratch, i), source, target, writer)
        writer.clear()
        source = target
    assert writer is not None
    writer.streamed()
    f.end()
    return f


def _places(base: Pointer, parts: Iterable[tuple[str, int]]) -> dict[str, Pointer]:
    return {name: base + at for name, at in sections(parts)[0].items()}


def _part(places: dict[str, Pointer], number: int) -> dict[str, Pointer]:
    """A chain's places of block `number`, under the names that they have in a block alone."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): place for name, place in places.items() if name.startswith(prefix)}


def _map(place: Pointer, block: Block, *, before: bool = False) -> Rows:
    """The map that a block reads (`before`) or writes."""
    if before:
        conv = block.expand or block.depthwise
        return Rows(place, block.width * conv.in_channels)
    return Rows(place, block.out[1] * block.project.out_channels)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the code of one block. `before` writes the block that its source rows come from, in a chain."""

    f: Kernel
    block: Block
    weights: dict[str, Pointer]
    scratch: dict[str, Pointer]
    source: Rows
    target: Rows
    before: _Writer | None

    def clear(self) -> None:
        """Zero the ring: the padding in it stays zero."""
        zero(self.f, self.scratch["ring"], self.block.ring)

    def streamed(self) -> None:
        f, height, stripe = self.f, self.block.out[0], self.block.schedule.stripe
        full, left = divmod(height, stripe)
        begin, end = share(f, full + (left > 0))
        with f.loop(begin, f.least(end, full)) as number:
            self._stripe(number * stripe, stripe, first=f.equal(number, begin))
        if left:
            with f.when(f.both(f.less(full, end), f.less(begin, end))):
                self._stripe(full * stripe, left, first=f.equal(begin, full))

    def _stripe(self, y: Number, rows: int, *, first: Value) -> None:
        """Output rows `y` .. `y + rows`. `first`: this thread has expanded nothing yet."""
        f, block, wide = self.f, self.block, self.scratch["wide"]
        conv = block.depthwise
        top, reach = conv.pads(block.height)[0], 2 * conv.dilation + 1
        # rows of the ring are counted from the first row of padding, so none is below 0
        low = f.choose(first, y * conv.stride, (y - 1) * conv.stride + reach)
        high = (y + (rows - 1)) * conv.stride + reach
        if self.before is not None:
            self.before.rows(low - top, high - top, first=first)
        source = self._expanded()
        source.prepare(f, low - top, high - top, first=first)
        if block.copies:
            low = y * conv.stride
        for group in block.schedule.groups:
            with f.loop(0, group.count) as number:
                start = group.panel.start + number * group.panel.channels
                ring = self.scratch["ring"]
                if block.copies:
                    self._clear_edges()
                else:
                    ring += start * (block.ring_rows * block.columns)
                with f.loop(low, high) as row:
                    self._ring_row(source, row, top, group.panel, start, ring)
                with f.loop(0, rows) as i:
                    self._depthwise(group.panel, start, ring, y + i, wide + i * self._wide_row)
        shape = block.schedule.project
        for group in shape.groups:
            with f.loop(0, group.count) as number:
                self._project(group.panel, group.panel.start + number * group.panel.channels, wide, y, rows)

    def rows(self, low: Number, high: Number, *, first: Value) -> None:
        """Output rows `low` .. `high` as far as they lie in the map, one by one; `first` holds for the first call."""
        f = self.f
        low, high = f.most(low, 0), f.least(high, self.block.out[0])
        with f.loop(low, high) as y:
            self._stripe(y, 1, first=f.both(first, f.equal(y, low)))

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
        source = self._expanded()
        for group in chosen.groups:
            low, high = f.most(begin, group.first), f.least(end, group.first + group.count)
            with f.loop(low, high) as number:
                panel = group.panel
                start = panel.start + (number - group.first) * panel.channels
                place = self.scratch["ring"] + (top * block.columns + left) * panel.channels
                self._clear_edges()
                if isinstance(source, Expansion):
                    source.whole(f, panel, start, place, block.columns - block.width)
                else:
                    with f.loop(0, block.height) as y:
                        source.row(f, y, panel, start, place + y * (block.columns * panel.channels), panel.channels)
                with f.loop(0, block.out[0]) as y:
                    self._depthwise(panel, start, self.scratch["ring"], y, f.shared + y * self._wide_row)
        f.call(barrier, f.team, f.threads)

        def part(panel: Panel, start: Number, first: Number, last: Number) -> None:
            self._project(panel, start, f.shared, 0, block.out[0], part=(first, last))

        deal(f, chosen.project, part)

    def _clear_edges(self) -> None:
        """Panels of other widths lie elsewhere in the buffer: the padding must be zero again."""
        if len({panel.channels for panel in self.block.schedule.panels}) > 1:
            self.clear()

    def _expanded(self) -> Source:
        """Where the expanded rows come from."""
        f, block, at = self.f, self.block, self.weights
        if block.stem is not None:
            first = (at["scale"], at["shift"], at["expand.weight"], at["expand.bias"])
            return StemRows(block.stem, self.source.place, f.is_bytes, self.scratch["lines"], block.lines, *first)
        if block.expand is None or block.schedule.expand is None:
            return Copy(self.source, block.width, block.depthwise.in_channels)
        weight, bias = at["expand.weight"], at["expand.bias"]
        return Expansion(self.source, block.width, block.schedule.expand, weight, bias, block.expand.activation)

    def _depthwise(self, panel: Panel, start: Number, ring: Pointer, y: Number, place: Pointer) -> None:
        """Output row `y` of a panel from its ring (or its whole map, which is a ring that is never full)."""
        f, block = self.f, self.block
        conv = block.depthwise
        rows = [
            ring + ((y * conv.stride + ky * conv.dilation) % block.ring_rows) * (block.columns * panel.channels)
            for ky in range(3)
        ]
        target = Target(place + start, conv.out_channels, block.shortcut == "expansion")
        weight, bias = self.weights["depthwise.weight"] + start * 9, self.weights["depthwise.bias"] + start
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
        weights = panel_weights(panel, start, shape.depth, self.weights["project.weight"], self.weights["project.bias"])
        target, shortcut = self.target.at(y) + start, self.source.at(y) + start

        def finish(first: Number, m: int, sums: list[Value]) -> None:
            pixel = first * out + m * out
            for at, lanes, value in zip(panel.offsets, panel.stored, sums, strict=True):
                bottleneck = f.activate(value, block.project.activation)
                if block.shortcut == "bottleneck":
                    bottleneck = f.add(bottleneck, f.load(shortcut + pixel + at, value.type.count))
                f.store(bottleneck, target + pixel + at, lanes)

        pixels = Pixels([wide], shape.depth, shape.depth)
        product(f, shape, pixels, weights, finish, rows=rows * block.out[1], first=part[0], last=part[1])

    @property
    def _wide_row(self) -> int:
        """Elements of a row of depthwise output."""
        return self.block.out[1] * self.block.depthwise.out_channels
