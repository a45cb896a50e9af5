"""How a step is made of a layer or a block: its operation, cut up for a CPU, and the maps that it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mobilenetv2.engine import schedule, tiling
from mobilenetv2.engine.head_operations import Branch, Convolution, PixelHead, Pointwise, Slice
from mobilenetv2.engine.operations import Block, Chain, Operation, Stem
from mobilenetv2.engine.schedule import Cpu, Dealt, Limits, Product
from mobilenetv2.spec import BlockSpec, ConvSpec

PARTS = ("expand", "depthwise", "project")
PROJECTION = "projection"  # the map of what DeepLabv3's atrous branches give to the projection


@dataclass(frozen=True, slots=True)
class Map:
    """What flows between steps: float32 [height, width, channels]. "image" and the outputs are the caller's memory."""

    name: str
    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        return self.height * self.width * self.channels


@dataclass(frozen=True, slots=True)
class Output:
    """What the caller gets of one image: its shape, and where it begins among all that the image's steps give."""

    name: str
    shape: tuple[int, ...]
    at: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Work:
    """One fused step before it has memory. `layers` are the names of its convolutions by part.

    It writes from element `target_at` of `target` on. `shared` names what its operation keeps for all threads, or the
    map that it reads beside its source. `inputs`: of a layer that several steps share, by part, the input channels that
    this step multiplies, from first to beyond the last.
    """

    name: str
    operation: Operation
    layers: Mapping[str, str]
    source: Map
    target: Map
    target_at: int = 0
    shared: str = ""
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def block_operation(
    block: BlockSpec, stem: Stem | None, size: tuple[int, int], cpu: Cpu, limits: Limits, *, keep: bool = False,
    rowwise: bool = False, threads: int = 1,
) -> Block:  # fmt: skip
    """`block` whose depthwise reads a map of `size` (height, width); see `schedule.block`."""
    conv = stem.conv if stem else None
    chosen = schedule.block(block, conv, *size, cpu, limits, keep=keep, rowwise=rowwise, threads=threads)
    if stem is not None and chosen.expand is not None:
        stem = replace(stem, product=chosen.expand)
    return Block(
        stem, nameless(block.expand) if block.expand else None, nameless(block.depthwise), nameless(block.project),
        block.shortcut, *size, chosen,
    )  # fmt: skip


def nameless(conv: ConvSpec) -> ConvSpec:
    """Without the names of its tensors: layers of one shape are one operation."""
    return replace(conv, name="", norm=None)


def _names(block: BlockSpec, stem: str = "") -> dict[str, str]:
    own = {part: conv.name for part in PARTS if (conv := getattr(block, part)) is not None}
    return {"expand": stem, **own} if stem else own


class Walker:
    """Collects steps, with what their schedules depend on."""

    def __init__(self, cpu: Cpu, threads: int, limits: Limits) -> None:
        self.limits = limits
        self.steps: list[Work] = []
        self._cpu = cpu
        self._threads = threads

    def product(
        self, rows: int, depth: int, channels: int, *, widest: int = 8, dealt: Dealt = "alone", beyond: bool = False
    ) -> Product:
        return schedule.product(
            rows, depth, channels, self._cpu, widest=widest, dealt=dealt, threads=self._threads, beyond=beyond
        )

    def add(
        self, name: str, operation: Operation, layers: Mapping[str, str], source: Map, out: tuple[int, int], *,
        target: str = "", target_at: int = 0, shared: str = "", inputs: Mapping[str, tuple[int, int]] | None = None,
    ) -> Map:  # fmt: skip
        """One more step; the map of `out` pixels that it writes, which is its own where there is no other `target`."""
        written = Map(target or f"{name} map", *out, operation.map_channels)
        self.steps.append(Work(name, operation, layers, source, written, target_at, shared, inputs or {}))
        return written

    def pointwise(
        self, name: str, conv: ConvSpec, source: Map, *, target: str = "", target_at: int = 0,
        inputs: Mapping[str, tuple[int, int]] | None = None,
    ) -> Map:  # fmt: skip
        """A 1x1 convolution whose map must exist."""
        size = source.height, source.width
        shape = self.product(
            source.height * source.width, conv.in_channels, conv.out_channels, dealt="tiles", beyond=True
        )
        operation = Pointwise(conv.activation, size, shape, Slice(0, conv.out_channels))
        return self.add(
            name, operation, {"": conv.name}, source, size, target=target, target_at=target_at, inputs=inputs
        )

    def convolution(self, name: str, conv: ConvSpec, source: Map, *, target: str = "", target_at: int = 0) -> Map:
        """A k x k convolution that is not depthwise."""
        size = source.height, source.width
        bare = nameless(conv)
        operation = Convolution(bare, *size, tiling.tiling(bare, *size, self._cpu, threads=self._threads))
        layers = {"": conv.name}
        return self.add(name, operation, layers, source, operation.out, target=target, target_at=target_at)

    def branch(
        self, name: str, conv: ConvSpec, project: ConvSpec, inputs: tuple[int, int], source: Map, sums: Map
    ) -> Map:
        """An atrous branch's share of the projection, added to `sums`: the map of it, or one row for all pixels."""
        size, bare, limits = (source.height, source.width), nameless(conv), self.limits
        most = min(limits.stripe_rows, max(limits.stripe_bytes // (4 * source.width * conv.out_channels), 1))
        tiles = tiling.tiling(bare, *size, self._cpu, threads=self._threads, most_rows=most)
        bands = tiling.bands(tiles.rows, most, threads=self._threads)
        rows = max(sum(piece.size for piece in tiles.rows[first:last]) for first, last in bands)
        shape = self.product(rows * source.width, conv.out_channels, project.out_channels)
        joins = sums.name == PROJECTION
        operation = Branch(bare, *size, tiles, bands, shape, joins)
        return self.add(
            name, operation, {"conv": conv.name, "project": project.name}, source, size,
            target=PROJECTION, shared=sums.name, inputs={"project": inputs},
        )  # fmt: skip

    def pixel_head(
        self, convs: tuple[ConvSpec, ConvSpec, ConvSpec], inputs: tuple[int, int], source: Map, sums: Map
    ) -> Map:
        """The 1x1 branch, the projection of all branches, of which `sums` has the others' shares, and the logits."""
        branch, project, logits = convs
        size, limits = (source.height, source.width), self.limits
        near = limits.stripe_bytes // (4 * (branch.out_channels + project.out_channels))
        pixels, most = source.height * source.width, min(limits.stripe_rows * source.width, near)
        stripes = tiling.stripes(pixels, most, threads=self._threads)
        rows = -(-pixels // stripes)
        products = (
            self.product(rows, branch.in_channels, branch.out_channels, beyond=True),
            self.product(rows, branch.out_channels, project.out_channels),
            self.product(rows, logits.in_channels, logits.out_channels, beyond=True),
        )
        activations = branch.activation, project.activation, logits.activation
        operation = PixelHead(activations, size, products, stripes, joins=sums.name == PROJECTION)
        names: dict[str, str] = dict(zip(PixelHead.PARTS, (conv.name for conv in convs), strict=True))
        return self.add(
            "branch 0 + project + logits", operation, names, source, size,
            target="logits_map", shared=sums.name, inputs={"project": inputs},
        )  # fmt: skip

    def block(
        self, name: str, block: BlockSpec, source: Map, *, first: tuple[Stem, str] | None = None, keep: bool = False,
        shared: str = "", target: str = "", target_at: int = 0,
    ) -> Map:  # fmt: skip
        """An inverted residual, or what is left of one; `first`: the stem, with its layer's name, is its expansion."""
        stem, layer = first or (None, "")
        size = stem.out if stem else (source.height, source.width)
        operation = block_operation(block, stem, size, self._cpu, self.limits, keep=keep, threads=self._threads)
        name = f"stem + {name}" if stem else name
        return self.add(
            name, operation, _names(block, layer), source, operation.out,
            target=target, target_at=target_at, shared=shared or f"{name} depthwise",
        )  # fmt: skip

    def convolutions(
        self, name: str, convs: tuple[ConvSpec, ...], source: Map, *, target: str = "", target_at: int = 0
    ) -> Map:
        """What a detector puts on a map: a 1x1 convolution, a 3x3, or a 1x1 before a 3x3.

        Where the 3x3 is a depthwise and a 1x1, these are a block in all but name.
        """
        *before, conv = convs
        if conv.kernel > 1 or not before:
            for squeeze in before:
                source = self.pointwise(f"{name} squeeze", squeeze, source)
            write = self.pointwise if conv.kernel == 1 else self.convolution
            return write(name, conv, source, target=target, target_at=target_at)
        *expand, depthwise = before
        block = BlockSpec(0, name, expand[0] if expand else None, depthwise, conv, "none")
        return self.block(name, block, source, target=target, target_at=target_at)

    def chain(self, name: str, blocks: tuple[BlockSpec, ...], stem: Stem, layer: str, source: Map) -> Map:
        """The stem, whose layer is called `layer`, and the first blocks as one step, row by row."""
        operations: list[Block] = []
        names: dict[str, str] = {}
        size = stem.out
        for i, block in enumerate(blocks):
            before = None if i else stem
            operations.append(
                block_operation(block, before, size, self._cpu, self.limits, rowwise=True, threads=self._threads)
            )
            names.update((f"{i}.{part}", own) for part, own in _names(block, "" if i else layer).items())
            size = operations[-1].out
        return self.add(name, Chain(tuple(operations)), names, source, size)
