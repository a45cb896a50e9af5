"""How a k x k convolution is cut up: tiles of rows and columns that see the same places of the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

from mobilenetv2.engine.schedule import Cpu, Group, Panel, balanced, groups, panels, tile_cycles, vectors
from mobilenetv2.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Piece:
    """Output rows (or columns) `start` .. `start + size` of a map: those of one tile of a k x k convolution."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Run:
    """`count` pieces of one size, one after the other: one loop in the code."""

    first: int  # the first piece's number
    piece: Piece
    count: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a k x k convolution runs: a tile is a piece of rows times a piece of columns times a panel of channels.

    All pixels of a piece see the same rows (columns) of the kernel inside the map, so that what lies outside is left
    out, not multiplied by zero: at dilation 18 of a map of 33 x 33 that is six tenths of the work.
    """

    rows: tuple[Piece, ...]
    columns: tuple[Piece, ...]
    panels: tuple[Panel, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups(self.panels)


def kernel_range(conv: ConvSpec, place: int, size: int) -> tuple[int, int]:
    """The first row of the kernel that lies inside a map of `size` rows for output row `place`, and beyond the last.

    It is never empty: with either padding the kernel's middle lies inside.
    """
    first = place * conv.stride - conv.pads(size)[0]
    inside = [i for i in range(conv.kernel) if 0 <= first + i * conv.dilation < size]
    return inside[0], inside[-1] + 1


def pieces(conv: ConvSpec, size: int, most: int) -> tuple[Piece, ...]:
    """The output rows for `size` input rows in pieces of at most `most`, each of which sees the same kernel rows."""
    result: list[Piece] = []
    start = 0
    for _, equal in groupby(range(conv.out_size(size)), key=lambda place: kernel_range(conv, place, size)):
        count = len(list(equal))
        for length in balanced(count, -(-count // most)):
            result.append(Piece(start, length))
            start += length
    return tuple(result)


def runs(of: tuple[Piece, ...]) -> tuple[Run, ...]:
    """Neighbouring pieces of equal size together."""
    result: list[Run] = []
    number = 0
    for _, equal in groupby(of, key=lambda piece: piece.size):
        members = list(equal)
        result.append(Run(number, members[0], len(members)))
        number += len(members)
    return tuple(result)


@lru_cache(maxsize=256)
def tiling(
    conv: ConvSpec, height: int, width: int, cpu: Cpu, *, threads: int = 1, most_rows: int | None = None
) -> Tiling:
    """The cheapest tiles for a k x k convolution of a map of `height` x `width`, as `product` chooses them.

    `most_rows`: of a piece. A thread gets some pieces of rows of some panels.
    """
    lines, across = conv.out_size(height), conv.out_size(width)
    best: tuple[float, Tiling] | None = None
    for most in range(1, min(4, len(vectors(conv.out_channels, cpu.lanes, beyond=True))) + 1):
        parts = panels(conv.out_channels, cpu.lanes, most, beyond=True)
        widest = max(len(panel.widths) for panel in parts)
        room = (cpu.registers - widest - cpu.spare) // widest
        for tall in range(1, min(room, lines, most_rows or lines) + 1):
            for wide in range(1, min(room // tall, across) + 1):
                found = Tiling(pieces(conv, height, tall), pieces(conv, width, wide), parts)
                units = len(found.rows) * len(parts)
                cost = _tiling_cycles(conv, height, width, found) * -(-units // threads) / units
                if best is None or cost < best[0]:
                    best = cost, found
    assert best is not None
    return best[1]


def bands(of: tuple[Piece, ...], most: int, *, threads: int = 1) -> tuple[tuple[int, int], ...]:
    """Pieces of rows in bands of about `most` rows, as (first piece, beyond the last), as many for every thread."""
    height = of[-1].start + of[-1].size
    count = stripes(height, most, threads=threads)
    wanted = (n * height // count for n in range(count))
    starts = [next((i for i, piece in enumerate(of) if piece.start >= start), len(of)) for start in wanted]
    return tuple(pair for pair in pairwise((*starts, len(of))) if pair[0] < pair[1])


def stripes(total: int, most: int, *, threads: int = 1) -> int:
    """In how many parts to cut `total` rows or pixels, none of them above `most`, so that threads have equally many."""
    count = -(-total // max(most, 1))
    return min(-(-count // threads) * threads, total)


def _tiling_cycles(conv: ConvSpec, height: int, width: int, chosen: Tiling) -> float:
    def shapes(pieces: tuple[Piece, ...], size: int) -> Counter[tuple[int, int]]:
        """How many pieces there are of each (size, rows of the kernel)."""
        ranges = ((piece.size, kernel_range(conv, piece.start, size)) for piece in pieces)
        return Counter((length, last - first) for length, (first, last) in ranges)

    across = shapes(chosen.columns, width).items()
    cycles = 0.0
    for (tall, down), lines in shapes(chosen.rows, height).items():
        for (wide, along), times in across:
            depth = down * along * conv.in_channels
            for group in chosen.groups:
                cycles += lines * times * group.count * tile_cycles(tall * wide, len(group.panel.widths), depth)
    return cycles
