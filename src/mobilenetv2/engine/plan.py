"""Where each buffer of a network's fused steps lies in one arena, and from when to when.

Maps are float32 NHWC without padding. A map lives from the first step that writes it to the last that reads it; where
a shortcut adds the map that is read, the sum takes its place if nobody can still be reading it. Scratch memory lives
during its step only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mobilenetv2.engine.needs import aligned, sections
from mobilenetv2.engine.operations import Block, Operation, multiply_adds
from mobilenetv2.engine.schedule import Cpu, Limits
from mobilenetv2.engine.walk import walk
from mobilenetv2.engine.walker import Output, Work
from mobilenetv2.errors import UsageError
from mobilenetv2.spec import Spec

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
    """One fused step: `layers` are the names of its convolutions by part; offsets are in float32 elements.

    It writes from element `target_at` of its target on. `inputs`: see `walker.Work`.
    """

    name: str
    operation: Operation
    layers: Mapping[str, str]
    weights_at: int
    source: str  # buffers' names; "image" and the outputs' are the caller's memory
    target: str
    target_at: int = 0
    scratch: str | None = None
    shared: str | None = None
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def multiply_adds(self) -> int:
        return multiply_adds(self.operation)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the generated code and its memory depend on: no weights."""

    size: tuple[int, int]
    channels: int
    outputs: tuple[Output, ...]
    threads: int
    cpu: Cpu
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    weights: int
    arena: int

    @property
    def arena_bytes(self) -> int:
        return 4 * self.arena

    @property
    def results(self) -> int:
        """Elements of one image's outputs together."""
        return sum(output.size for output in self.outputs)


def plan(
    network: Spec,
    size: tuple[int, int],
    cpu: Cpu,
    *,
    threads: int = 1,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Plan:
    """The plan of `network` for images of `size` (height, width), with scratch memory for `threads`."""
    works, outputs = walk(network, size, cpu, threads=threads, limits=limits)
    works = _read_by_someone(works, outputs)
    last_read = {work.source.name: number for number, work in enumerate(works)}
    callers = {"image", *(output.name for output in outputs)}
    buffers: dict[str, Buffer] = {}
    home: dict[str, str] = {}  # the buffer that a map lies in, where it is not its own
    steps: list[Step] = []
    weights = 0

    def used(name: str, elements: int, number: int) -> str:
        """Buffer `name`, which step `number` needs."""
        if name not in callers:
            first = buffers[name].first if name in buffers else number
            buffers[name] = Buffer(name, aligned(elements), first, number)
        return name

    for number, work in enumerate(works):
        operation, source, target = work.operation, work.source, work.target
        per_thread = sections(operation.scratch)[1]
        shared = used(work.shared, operation.shared, number) if operation.shared else None
        scratch = used(f"{work.name} scratch", per_thread * threads, number) if per_thread else None
        read = used(home.get(source.name, source.name), source.size, number)
        if in_place(operation, threads) and last_read[source.name] == number:
            home[target.name] = read
        else:
            used(target.name, target.size, number)
        steps.append(
            Step(
                work.name, operation, work.layers, weights, read, home.get(target.name, target.name), work.target_at,
                scratch, shared, work.inputs,
            )
        )  # fmt: skip
        weights += sections(operation.weights)[1]
    placed = place(list(buffers.values()))
    arena = max(buffer.at + buffer.size for buffer in placed)
    return Plan(
        size, network.backbone.in_channels, outputs, threads, cpu, tuple(steps),
        {buffer.name: buffer for buffer in placed}, weights, arena,
    )  # fmt: skip


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


def _read_by_someone(works: Sequence[Work], outputs: Sequence[Output]) -> list[Work]:
    """The steps whose map another step reads, or the caller."""
    read = {output.name for output in outputs}
    kept: list[Work] = []
    for work in reversed(works):
        if work.target.name in read:
            read |= {work.source.name, work.shared}
            kept.append(work)
    return kept[::-1]


def in_place(operation: Operation, threads: int) -> bool:
    """Whether a step may write where it reads.

    Rows that are still to be expanded lie below the rows that are written, and a whole map is expanded before any of it
    is written. But with rows dealt out a neighbour still reads the edge of another's, and rows that are copied are read
    again for the next stripe.
    """
    if not isinstance(operation, Block) or operation.shortcut != "bottleneck":
        return False
    return operation.schedule.whole or (threads == 1 and not operation.copies)


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
