"""The network as fused steps, and where each of their buffers lies in one arena.

Maps are float32 NHWC without padding. A step reads one map and writes the next; where a shortcut adds the map
that is read, the sum takes its place if nobody can still be reading it. Scratch memory lives during its step only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mobilenetv2.engine import lower, schedule
from mobilenetv2.engine.operations import Block, Chain, Linear, Operation, Pool, Stem, aligned, sections
from mobilenetv2.engine.schedule import Cpu, Limits
from mobilenetv2.errors import UsageError
from mobilenetv2.spec import BlockSpec, ConvSpec, Spec

# Tighter and tighter, the cheapest in time first: rows instead of whole maps for the blocks with the largest ones, one
# row at a time, every map between the first blocks as rows
_LADDER = (
    Limits(),
    Limits(stripe_rows=2),
    Limits(stripe_rows=1),
    Limits(chain_bytes=0),
    Limits(stripe_rows=1, chain_bytes=0),
    *(
        Limits(whole_depthwise_bytes=kib << 10, stripe_rows=1, chain_bytes=chain)
        for kib in (256, 128, 64, 32, 0)
        for chain in (512 << 10, 0)
    ),
)
_PARTS = ("expand", "depthwise", "project")


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of the arena, used by the steps `first` to `last`. Sizes and offsets are in float32 elements."""

    name: str
    size: int
    first: int
    last: int
    at: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One fused step: `layers` are the names of its convolutions by part; offsets are in float32 elements."""

    name: str
    operation: Operation
    layers: Mapping[str, str]
    multiply_adds: int
    weights_at: int
    source: str  # buffer names; "image" and "logits" are the caller's memory
    target: str
    scratch: str | None
    shared: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the generated code and its memory depend on: no weights."""

    size: tuple[int, int]
    channels: int
    outputs: int
    threads: int
    cpu: Cpu
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    weights: int
    arena: int

    @property
    def arena_bytes(self) -> int:
        return 4 * self.arena

    def offset(self, buffer: str) -> int:
        return self.buffers[buffer].at


def plan(
    network: Spec,
    size: tuple[int, int],
    cpu: Cpu,
    *,
    threads: int = 1,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Plan:
    """The plan of `network` for images of `size` (height, width), with scratch memory for `threads`."""
    builder = _Builder(cpu, threads)
    layers = lower.layers(network)
    height, width = size
    stem = Stem(
        _nameless(layers.stem), height, width,
        schedule.product(
            layers.stem.out_size(width), 9 * layers.stem.in_channels, layers.stem.out_channels, cpu, widest=4
        ),
    )  # fmt: skip
    keeps = {block.index - 1 for block in layers.blocks if block.shortcut == "expansion"}
    # a shortcut around the first block needs the stem's map
    fused = layers.blocks[0].expand is None and layers.blocks[0].shortcut == "none" and 0 not in keeps
    if not fused:
        builder.add("stem", stem, {"expand": layers.stem.name}, _multiply_adds(layers.stem, height, width), stem.out)
    height, width = stem.out
    chained = _chained(layers.blocks, keeps, stem.out, limits) if fused else 0
    chain: list[Block] = []
    names: dict[str, str] = {}
    cost = 0
    for block in layers.blocks:
        source = stem if fused and block.index == 0 else None
        keep = block.index in keeps or block.shortcut == "expansion"
        operation = _block(
            block, source, height, width, cpu, limits, keep=keep, rowwise=block.index < chained, threads=threads
        )
        own = {part: conv.name for part in _PARTS if (conv := getattr(block, part)) is not None}
        if source is not None:
            own = {"expand": layers.stem.name, **own}
            cost += _multiply_adds(layers.stem, *size)
        cost += sum(_multiply_adds(conv, height, width) for conv in block.convolutions if conv is not block.project)
        height, width = operation.out
        cost += _multiply_adds(block.project, height, width)
        if block.index < chained:
            chain.append(operation)
            names.update((f"{block.index}.{part}", layer) for part, layer in own.items())
            if block.index == chained - 1:
                builder.add(f"stem + blocks 0-{block.index}", Chain(tuple(chain)), names, cost, operation.out)
                cost = 0
            continue
        name = f"block {block.index}" if source is None else f"stem + block {block.index}"
        builder.add(name, operation, own, cost, operation.out, wide=keep, joins=block.shortcut == "expansion")
        cost = 0
    last, linear = layers.last, layers.linear
    pool = Pool(
        last.activation,
        schedule.product(
            height * width, last.in_channels, last.out_channels, cpu, widest=4, dealt="panels", threads=threads
        ),
        next_weights=linear.in_features * linear.out_features,
    )
    builder.add("last + mean", pool, {"": last.name}, _multiply_adds(last, height, width), (1, 1))
    classify = Linear(
        schedule.product(1, linear.in_features, linear.out_features, cpu, dealt="panels", threads=threads)
    )
    builder.add("classifier", classify, {"": linear.name}, linear.in_features * linear.out_features, (1, 1))
    return builder.finished(size, layers)


def fitted(network: Spec, size: tuple[int, int], cpu: Cpu, *, threads: int = 1, budget: int | None = None) -> Plan:
    """The fastest plan whose arena takes at most `budget` bytes; None means as many as make it fastest.

    Raises `UsageError`, which names the smallest arena there is, where none fits.
    """
    smallest = 0
    for limits in _LADDER:
        found = plan(network, size, cpu, threads=threads, limits=limits)
        if budget is None or found.arena_bytes <= budget:
            return found
        smallest = min(smallest or found.arena_bytes, found.arena_bytes)
    raise UsageError(
        f"the activations do not fit {budget:,} bytes: the smallest possible is {smallest:,} bytes "
        f"({size[0]} x {size[1]}, {threads} thread{'s' * (threads > 1)})"
    )


def _chained(blocks: tuple[BlockSpec, ...], keeps: set[int], size: tuple[int, int], limits: Limits) -> int:
    """How many blocks the first step computes row by row, the stem's map being of `size`; 0 for no such step.

    As long as the map between two would not stay near the core, up to the first block with a stride: a thread computes
    the rows at the edge of its part again, and with every further stride twice as many.
    """
    height, width = size
    for number, block in enumerate(blocks):
        if number in keeps or block.shortcut == "expansion" or block.depthwise.dilation > 1:
            return number if number > 1 else 0
        height, width = block.depthwise.out_size(height), block.depthwise.out_size(width)
        between = 4 * height * width * block.out_channels
        if block.depthwise.stride > 1 or between <= limits.chain_bytes:
            return number + 1 if number else 0
    return 0


def _block(
    block: BlockSpec, stem: Stem | None, height: int, width: int, cpu: Cpu, limits: Limits, *, keep: bool,
    rowwise: bool, threads: int = 1,
) -> Block:  # fmt: skip
    conv = stem.conv if stem else None
    chosen = schedule.block(block, conv, height, width, cpu, limits, keep=keep, rowwise=rowwise, threads=threads)
    if stem is not None and chosen.expand is not None:
        stem = replace(stem, product=chosen.expand)
    return Block(
        stem, _nameless(block.expand) if block.expand else None, _nameless(block.depthwise), _nameless(block.project),
        block.shortcut, height, width, chosen,
    )  # fmt: skip


def _nameless(conv: ConvSpec) -> ConvSpec:
    return replace(conv, name="", norm=None)


def _multiply_adds(conv: ConvSpec, height: int, width: int) -> int:
    out, per_group, rows, columns = conv.weight_shape
    return out * per_group * rows * columns * conv.out_size(height) * conv.out_size(width)


class _Builder:
    """Collects steps and the buffers between them."""

    def __init__(self, cpu: Cpu, threads: int) -> None:
        self._cpu = cpu
        self._threads = threads
        self._steps: list[Step] = []
        self._buffers: dict[str, Buffer] = {}
        self._source = "image"
        self._wide = ""
        self._weights = 0

    def add(
        self, name: str, operation: Operation, layers: Mapping[str, str], multiply_adds: int, out: tuple[int, int], *,
        wide: bool = False, joins: bool = False,
    ) -> None:  # fmt: skip
        """The next step. `wide`: the next may need its depthwise output; `joins`: it adds to the previous one's."""
        number = len(self._steps)
        scratch = shared = None
        _, weights = sections(operation.weights)
        if operation.shared:
            shared = self._wide if joins else self._new(f"{name} depthwise", operation.shared, number)
            self._until(shared, number)
        self._wide = shared if wide and shared else ""
        _, size = sections(operation.scratch)
        if size:
            scratch = self._new(f"{name} scratch", size * self._threads, number)
        self._until(self._source, number)
        target = self._target(name, operation, out, number)
        self._steps.append(
            Step(name, operation, layers, multiply_adds, self._weights, self._source, target, scratch, shared)
        )
        self._weights += weights
        self._source = target

    def _target(self, name: str, operation: Operation, out: tuple[int, int], number: int) -> str:
        if isinstance(operation, Linear):
            return "logits"
        if isinstance(operation, Block):
            # Rows that are still to be expanded lie below the rows that are written, and a whole map is expanded
            # before any of it is written; but with rows dealt out, a neighbour still reads the edge of another's.
            alone = operation.schedule.whole or self._threads == 1
            if operation.shortcut == "bottleneck" and alone:
                return self._source
        return self._new(f"{name} map", out[0] * out[1] * operation.map_channels, number)

    def _new(self, name: str, size: int, number: int) -> str:
        self._buffers[name] = Buffer(name, aligned(size), number, number)
        return name

    def _until(self, name: str, number: int) -> None:
        if name in self._buffers:
            self._buffers[name] = replace(self._buffers[name], last=number)

    def finished(self, size: tuple[int, int], layers: lower.Layers) -> Plan:
        placed = place(list(self._buffers.values()))
        arena = max(buffer.at + buffer.size for buffer in placed)
        return Plan(
            size, layers.stem.in_channels, layers.linear.out_features, self._threads, self._cpu, tuple(self._steps),
            {buffer.name: buffer for buffer in placed}, self._weights, arena,
        )  # fmt: skip


def place(buffers: list[Buffer]) -> list[Buffer]:
    """The buffers with offsets: no two that live at the same step overlap. Largest first, each as low as it fits."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda buffer: (-buffer.size, buffer.first)):
        at = 0
        for other in sorted(placed, key=lambda other: other.at):
            meets = other.first <= buffer.last and buffer.first <= other.last
            if meets and at + buffer.size > other.at and other.at + other.size > at:
                at = other.at + other.size
        placed.append(replace(buffer, at=at))
    return sorted(placed, key=lambda buffer: (buffer.first, buffer.name))
