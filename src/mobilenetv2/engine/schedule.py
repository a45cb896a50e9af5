"""How each product and each block is cut up, as pure functions of shapes and a CPU; every number has its reason.

A *tile* is what one inner loop keeps in registers: `rows` output pixels times `vectors` vectors of output
channels. A *panel* is the channels of one tile; its weights lie together in memory. A *stripe* is the output rows
that a block computes at a time, and its expanded rows wait in a ring, one ring per panel of expanded channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Literal

from mobilenetv2.spec import BlockSpec, ConvSpec

STORE_CYCLES = 2.2  # per accumulator after the K loop: bias, clamp, store
TILE_CYCLES = 8  # per tile: pointers, loop entry
FMA_LATENCY = 4  # cycles on every x86 since Skylake and on Arm's big cores; two FMA start per cycle
# Weights are asked for this far ahead of their use, across steps: they stand in the order of use, and 14 MB of them
# pass through the caches with every picture. Whole network, 1.0 at 224, 1 thread: 4 to 5 % less time (Zen 4, 11.2026).
AHEAD_BYTES = 256 << 10
Dealt = Literal["alone", "panels", "tiles"]  # what of a product goes to several threads: nothing, its panels, its tiles
COPIED_VECTORS = 2  # in a panel of channels that are not expanded
LINE = 16  # float32 elements of a cache line


@dataclass(frozen=True, slots=True)
class Limits:
    """How much memory schedules may take, for a core with 1 MiB of L2. A budget makes them tighter (`plan.fitted`).

    A block works on its whole map at once where one panel's expanded map stays near the core (`whole_panel_bytes`) and
    the depthwise output fits half of L2 (`whole_depthwise_bytes`); otherwise it streams rows, as many at a time as
    `stripe_rows` and, for rings and depthwise rows, `stripe_bytes` (a quarter of L2, beside the weights) allow. A map
    larger than `chain_bytes` does not stay near the core between two blocks: they are chained.
    """

    whole_panel_bytes: int = 64 << 10
    whole_depthwise_bytes: int = 512 << 10
    stripe_rows: int = 8
    stripe_bytes: int = 256 << 10
    chain_bytes: int = 512 << 10


@dataclass(frozen=True, slots=True)
class Cpu:
    """What kernels need to know of a CPU. `name` is LLVM's for its kind; `lanes` float32 in a vector.

    `native`: code is made for exactly the CPU that is here, which this text identifies; for its kind where it is "".
    """

    name: str
    architecture: str
    lanes: int
    registers: int
    spare: int  # registers that an inner loop needs beside sums and weights
    fused: bool = True  # has multiply-add in one instruction
    native: str = ""
    held: int = 0  # registers with constants (the clamp's 0 and 6) that LLVM keeps through a whole function

    @property
    def triple(self) -> str:
        """LLVM's target. The object format is Linux's on every system: `link` reads no other."""
        return f"{self.architecture}-unknown-linux-gnu"


@dataclass(frozen=True, slots=True)
class Panel:
    """Channels `start` .. `start + channels` in vectors of these widths.

    The last `beyond` lanes are no channels: what is in them is computed and thrown away.
    """

    start: int
    widths: tuple[int, ...]
    beyond: int = 0

    @property
    def channels(self) -> int:
        return sum(self.widths) - self.beyond

    @property
    def stored(self) -> tuple[int, ...]:
        """How many lanes of each vector are channels."""
        return (*self.widths[:-1], self.widths[-1] - self.beyond)

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(sum(self.widths[:i]) for i in range(len(self.widths)))


@dataclass(frozen=True, slots=True)
class Group:
    """`count` panels of the same vectors, one after the other: one loop in the code."""

    first: int  # the first panel's number
    panel: Panel
    count: int


@dataclass(frozen=True, slots=True)
class Tile:
    rows: int
    vectors: int


@dataclass(frozen=True, slots=True)
class Product:
    """[rows, depth] x [depth, channels]: its tile, and its channels in panels."""

    rows: int
    depth: int
    channels: int
    tile: Tile
    panels: tuple[Panel, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups(self.panels)


@dataclass(frozen=True, slots=True)
class BlockSchedule:
    """How one inverted residual runs. `whole`: the stripe is the whole map, panel by panel."""

    whole: bool
    stripe: int
    panels: tuple[Panel, ...]  # of expanded channels
    expand: Product | None
    depthwise_columns: int
    project: Product

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups(self.panels)


def vectors(channels: int, lanes: int, *, beyond: bool = False) -> tuple[int, ...]:
    """`channels` as whole vectors and narrower ones for what is left: 24 lanes of 16 are (16, 8), 7 are (4, 2, 1).

    Where lanes may go `beyond` the channels, one vector takes all that is left: a multiply-add takes as long for 1
    lane as for 8, and as for 16 on some CPUs.
    """
    widths = [lanes] * (channels // lanes)
    left, width = channels % lanes, lanes // 2
    if beyond and left:
        return (*widths, 8 if left <= 8 <= lanes else lanes)
    while left:
        if left >= width:
            widths.append(width)
            left -= width
        width //= 2
    return tuple(widths)


def panels(channels: int, lanes: int, most: int, *, beyond: bool = False) -> tuple[Panel, ...]:
    """`channels` in panels of at most `most` vectors, as even as possible: five vectors by 4 are 3 + 2, not 4 + 1."""
    widths = vectors(channels, lanes, beyond=beyond)
    count = -(-len(widths) // most)
    result: list[Panel] = []
    first = start = 0
    for sharing in balanced(len(widths), count):
        result.append(Panel(start, widths[first : first + sharing]))
        first += sharing
        start += result[-1].channels
    result[-1] = replace(result[-1], beyond=start - channels)
    return tuple(result)


def groups(of: tuple[Panel, ...]) -> tuple[Group, ...]:
    """Neighbouring panels of equal vectors together."""
    result: list[Group] = []
    number = 0
    for _, equal in groupby(of, key=lambda panel: (panel.widths, panel.beyond)):
        members = list(equal)
        result.append(Group(number, members[0], len(members)))
        number += len(members)
    return tuple(result)


def balanced(total: int, parts: int) -> tuple[int, ...]:
    """`total` in `parts` that differ by at most one, the larger ones first."""
    small, larger = divmod(total, parts)
    return (small + 1,) * larger + (small,) * (parts - larger)


@lru_cache(maxsize=1024)
def product(
    rows: int, depth: int, channels: int, cpu: Cpu, *, widest: int = 8, held: int = 0, dealt: Dealt = "alone",
    threads: int = 1, beyond: bool = False,
) -> Product:  # fmt: skip
    """The cheapest tile for [rows, depth] x [depth, channels] whose registers do not spill.

    Accumulators, one row of weights and `cpu.spare` must fit: 14 x 2 needs 28 + 2 + 1 of 32, and 7 x 4 would need
    33: it spills and runs at half speed. `held` registers are taken by the code around it. What is `dealt` out to
    `threads` costs what the busiest of them does: three panels on two threads cost as much as four. `beyond`: see
    `vectors`; weights and biases are read so far, which their sections' alignment allows.
    """
    best: tuple[float, Tile, tuple[Panel, ...]] | None = None
    for most in range(1, min(widest, len(vectors(channels, cpu.lanes, beyond=beyond))) + 1):
        parts = panels(channels, cpu.lanes, most, beyond=beyond)
        widest_part = max(len(panel.widths) for panel in parts)
        for height in range(1, min(rows, cpu.registers) + 1):
            if height * widest_part + widest_part + cpu.spare + held > cpu.registers:
                break
            cost = _product_cycles(rows, depth, parts, height)
            if dealt != "alone":
                units = len(parts) * (-(-rows // height) if dealt == "tiles" else 1)
                cost *= -(-units // threads) / units
            if best is None or cost < best[0]:
                best = cost, Tile(height, most), parts
    assert best is not None
    return Product(rows, depth, channels, best[1], best[2])


def _product_cycles(rows: int, depth: int, parts: tuple[Panel, ...], height: int) -> float:
    """Cycles of a core that starts two FMA and two loads per cycle."""
    cycles = 0.0
    count = -(-rows // height)
    low, more = divmod(rows, count)  # tiles of two heights at most, see `balanced`
    for group in groups(parts):
        for tall, times in ((low + 1, more), (low, count - more)):
            cycles += group.count * times * tile_cycles(tall, len(group.panel.widths), depth)
    return cycles


def tile_cycles(tall: int, wide: int, depth: int) -> float:
    """Of a tile of `tall` pixels and `wide` vectors of channels."""
    step = max(tall * wide / 2, (tall + wide) / 2, FMA_LATENCY)
    return step * depth + tall * wide * STORE_CYCLES + TILE_CYCLES


def depthwise_columns(columns: int, stride: int, cpu: Cpu) -> int:
    """Output pixels that a depthwise inner loop computes together.

    With 32 registers the nine weights stay in registers beside 7 accumulators and the inputs they share (9 at
    stride 1, 15 at stride 2 come and go), 6 on NEON; with 16 the weights of one kernel row stay.
    """
    most = (7 if stride == 1 and cpu.spare == 1 else 6) if cpu.registers >= 32 else 4
    return max(balanced(columns, -(-columns // most)))


def ring_rows(conv: ConvSpec, stripe: int) -> int:
    """Expanded rows that `stripe` rows of depthwise output look at."""
    return (stripe - 1) * conv.stride + 2 * conv.dilation + 1


def block(
    block: BlockSpec, stem: ConvSpec | None, height: int, width: int, cpu: Cpu, limits: Limits, *, keep: bool,
    rowwise: bool, threads: int = 1,
) -> BlockSchedule:  # fmt: skip
    """The schedule of a block whose depthwise reads a map of `height` x `width`.

    `stem`: the convolution that makes the expanded rows in the block's stead (the network's first block has no
    expansion). `keep`: the depthwise output must exist as a whole, because a shortcut joins it.
    `rowwise`: the block is computed row by row, in a chain.
    """
    conv = block.depthwise
    expanded, out_height, out_width = conv.out_channels, conv.out_size(height), conv.out_size(width)
    source = stem or block.expand

    def finished(stripe: int, *, whole: bool) -> BlockSchedule:
        expand = None
        if source is not None:
            depth = source.kernel * source.kernel * source.in_channels
            rows = height * width if whole and stem is None else width
            dealt: Dealt = "panels" if whole else "alone"
            expand = product(rows, depth, expanded, cpu, widest=4, dealt=dealt, threads=threads)
        parts = expand.panels if expand else panels(expanded, cpu.lanes, COPIED_VECTORS)
        columns = depthwise_columns(out_width, conv.stride, cpu)
        # a shortcut would be read beyond the channels too, and there may be no memory
        project = product(
            stripe * out_width, expanded, block.out_channels, cpu, dealt="tiles" if whole else "alone",
            held=_held(cpu, copied=source is None and not whole), threads=threads, beyond=block.shortcut == "none",
        )  # fmt: skip
        return BlockSchedule(whole, stripe, parts, expand, columns, project)

    if rowwise:
        return finished(1, whole=False)
    whole = finished(out_height, whole=True)
    widest = max(panel.channels for panel in whole.panels)
    fits = (
        4 * widest * ring_rows(conv, out_height) * row_columns(conv, width) <= limits.whole_panel_bytes
        and 4 * out_height * out_width * expanded <= limits.whole_depthwise_bytes
    )
    if keep or (fits and stem is None):
        return whole
    stripe = _stripe(block, height, width, cpu, limits, copied=source is None, threads=threads)
    return finished(stripe, whole=False)


def _held(cpu: Cpu, *, copied: bool) -> int:
    """Registers with the depthwise's clamp in a projection's inner loop.

    Where rows are `copied` LLVM keeps it on every CPU: 6 x 2 tiles spilled with AVX2, at half speed.
    """
    return max(cpu.held, 2) if copied else cpu.held


def row_columns(conv: ConvSpec, width: int) -> int:
    """Columns of an expanded row in the ring: the map's, and the zeros that the depthwise reads beside it."""
    return width + sum(conv.pads(width))


def _stripe(
    block: BlockSpec, height: int, width: int, cpu: Cpu, limits: Limits, *, copied: bool, threads: int
) -> int:  # fmt: skip
    """Rows per stripe that make the projection's tiles cheapest per pixel, while everything stays near the core.

    Where rows are `copied`, not expanded, one panel's are kept; those beside the stripe are copied again for the next.
    """
    conv = block.depthwise
    out_height, out_width = conv.out_size(height), conv.out_size(width)
    kept = panels(conv.out_channels, cpu.lanes, COPIED_VECTORS)[0].channels if copied else conv.out_channels
    row_bytes = 4 * kept * row_columns(conv, width)
    held = _held(cpu, copied=copied)
    best = (float("inf"), 1)
    for stripe in range(1, min(limits.stripe_rows, out_height) + 1):
        near = ring_rows(conv, stripe) * row_bytes + stripe * 4 * out_width * conv.out_channels
        if stripe > 1 and near > limits.stripe_bytes:
            break
        cycles = 0.0
        for rows, times in ((stripe, out_height // stripe), (out_height % stripe, 1)):
            if rows:
                chosen = product(rows * out_width, conv.out_channels, block.out_channels, cpu, held=held)
                cycles += times * _product_cycles(chosen.rows, chosen.depth, chosen.panels, chosen.tile.rows)
        if copied:
            count = -(-out_height // stripe)
            # cache lines read for every stripe: the rows, and the weights of a head with many outputs
            lines = conv.out_channels * (ring_rows(conv, stripe) * width + block.out_channels) // LINE
            cycles = (cycles + count * lines) * (-(-count // threads) * threads / count)
        best = min(best, (cycles * (1 + 0.01 * stripe), stripe))  # a taller stripe must be worth its memory
    return best[1]
