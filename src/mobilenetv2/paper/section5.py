"""Section 5: an inverted residual in t parts, F(x) = sum of (A_i N B_i)(x): memory and time against t.

Memory by the paper's formula comes from the spec. Time is measured with the engine's own kernels: every part is a
block of n / t expanded channels that works on its whole map, and the parts' maps are added up. Beside them stands the
engine's own schedule, which keeps rows instead. Bytes are of float32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.charts import new_figure, png
from mobilenetv2.complexity import complexity
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine import pack, walker
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Block
from mobilenetv2.engine.plan import Buffer, Plan, Step, fitted
from mobilenetv2.engine.program import Program, compiled
from mobilenetv2.engine.schedule import Cpu, Limits, balanced
from mobilenetv2.engine.walker import Output
from mobilenetv2.engine.workers import Memory
from mobilenetv2.errors import UsageError
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.spec import Backbone, BlockSpec, Classifier, ConvSpec, Spec

Float32Array = npt.NDArray[np.float32]
PARTS = (1, 2, 3, 4, 5, 6, 8, 16)
_WHOLE = Limits(whole_panel_bytes=1 << 40, whole_depthwise_bytes=1 << 40)
PAPER = Spec(Backbone(), Classifier(outputs=1000))


@dataclass(frozen=True, slots=True)
class Split:
    """The network's blocks in `t` parts each; t = 0: the engine's own schedule, t = None: one channel at a time.

    `formula_bytes`: most that is live at once by the paper's formula (for t = 1 one layer after the other).
    `own_bytes`: what our kernels need for the same, at the block that needs most. `seconds`: all blocks with an
    expansion, one thread, a median over rounds of all of them, of which eight in ten took `seconds_80`. The last three
    are None where they were not measured.
    """

    t: int | None
    formula_bytes: int | None
    own_bytes: int | None = None
    seconds: float | None = None
    seconds_80: tuple[float, float] | None = None


def memory(network: Spec = PAPER, size: int = 224, *, parts: Sequence[int] = PARTS) -> list[Split]:
    """The formula's peak over the network for each t of `parts`, and for t = n; input and output of a block are whole.

    A part holds its expanded and its depthwise channels; without an expansion it reads the input itself.
    """
    costs = complexity(network, size)
    blocks = spec.blocks(network.backbone)
    inside = {conv.name for block in blocks for conv in block.convolutions}
    others = max(layer.live for layer in costs.layers if layer.name not in inside)
    areas = _areas(network, size)
    peaks = [
        costs.peak.live if t == 1 else max(others, *(_split_elements(block, area, t) for block, area in areas))
        for t in (*parts, None)
    ]
    return [Split(t, 4 * peak) for t, peak in zip((*parts, None), peaks, strict=True)]


def measure(
    network: Spec = PAPER,
    size: int = 224,
    *,
    parts: Sequence[int] = PARTS,
    rounds: int = 20,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Split]:
    """`memory` with time and our own bytes; the engine's own schedule is last, with the arena of its whole plan.

    In every round each t runs each block once, one after the other. All results are compared with those of t = 1 before
    anything is timed. Raises `UsageError` where they differ.
    """
    cpu = cpus.chosen()
    runs: dict[int, list[Runner]] = {t: [] for t in (*parts, 0)}
    wide = [(block, sizes) for block, sizes in _maps(network, size) if block.expand is not None]
    for done, (block, sizes) in enumerate(wide):
        x = np.random.default_rng(block.index).normal(size=(*sizes, block.in_channels)).astype(np.float32)
        weights = random_weights(block)
        for t, own in runs.items():
            own.append(Runner(block, x, weights, cpu, t))
        first = runs[parts[0]][-1].run().copy()
        for t, own in runs.items():
            apart = float(np.abs(own[-1].run() - first).max() / np.abs(first).max())
            if apart > 1e-4:
                raise UsageError(f"block {block.index} in {t} parts differs by {apart:.1e} from {parts[0]} part(s)")
        progress(done + 1, len(wide) + rounds)
    times: dict[int, list[float]] = {t: [] for t in runs}
    for number in range(rounds):
        for t, own in runs.items():
            start = time.perf_counter()
            for runner in own:
                runner.run()
            times[t].append(time.perf_counter() - start)
        progress(len(wide) + number + 1, len(wide) + rounds)
    seconds = {t: statistics.median(found) for t, found in times.items()}
    spread = {t: tuple(np.quantile(found, (0.1, 0.9)).tolist()) for t, found in times.items()}
    own_plan = fitted(network, (size, size), cpu)
    return [
        *(
            row if row.t is None else replace(
                row, own_bytes=max(runner.bytes for runner in runs[row.t]), seconds=seconds[row.t],
                seconds_80=spread[row.t],
            )
            for row in memory(network, size, parts=parts)
        ),
        Split(0, None, own_plan.arena_bytes, seconds[0], spread[0]),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """One block's folded layers; biases of the first two and of the projection."""

    expand: Folded
    depthwise: Folded
    project: Folded


def random_weights(block: BlockSpec, *, seed: int = 0) -> BlockWeights:
    """Normal weights that keep the size of what flows about the same."""
    rng = np.random.default_rng(seed)

    def folded(conv: ConvSpec) -> Folded:
        depth = conv.kernel**2 * conv.in_channels // conv.groups
        return Folded(
            rng.normal(0, (2 / depth) ** 0.5, (depth, conv.out_channels)), rng.normal(0, 0.1, conv.out_channels)
        )

    assert block.expand is not None
    return BlockWeights(folded(block.expand), folded(block.depthwise), folded(block.project))


class Runner:
    """`block` without its shortcut on the map `x` [H, W, C] in `t` parts; t = 0: as the engine would by itself.

    `bytes`: the maps before and after, the part's own map that is added (none for one part), and scratch memory.
    Raises `UsageError` for more parts than there are expanded channels.
    """

    def __init__(self, block: BlockSpec, x: Float32Array, weights: BlockWeights, cpu: Cpu, t: int) -> None:
        channels = block.depthwise.out_channels
        if not 0 <= t <= channels:
            raise UsageError(f"t must be 1 to the block's {channels} expanded channels, got {t}")
        height, width, _ = x.shape
        widths = balanced(channels, t) if t else (channels,)
        limits = _WHOLE if t else Limits()
        self._calls: list[tuple[Program, Float32Array]] = []
        start = scratch = 0
        for count in widths:
            plan = _plan(_part(block, count), (height, width), cpu, limits)
            self._calls.append((_program(plan), _laid(plan, weights, start, count)))
            scratch = max(scratch, plan.arena)
            start += count
        out = block.depthwise.out_size(height), block.depthwise.out_size(width), block.out_channels
        self._x = np.ascontiguousarray(x)
        self._part, self._sum = (np.zeros(out, np.float32) for _ in range(2))
        self._space = Memory(1, max(scratch, 1))
        maps = self._x.size + self._sum.size * (1 if len(widths) == 1 else 2)
        self.bytes = 4 * (maps + scratch)

    def run(self) -> Float32Array:
        """The block's output [h, w, C]; the same array at every call."""
        for number, (program, weights) in enumerate(self._calls):
            target = self._part if number else self._sum
            program.run(
                self._x.ctypes.data, weights.ctypes.data, self._space.arenas[0].ctypes.data, target.ctypes.data,
                self._space.address, 0, 0, 1,
            )  # fmt: skip
            if number:
                self._sum += self._part
        return self._sum


def table(splits: Sequence[Split] = ()) -> Table:
    """Memory by the formula, and what `measure` found where `splits` are given."""
    splits = splits or memory()
    measured = any(split.seconds is not None for split in splits)
    columns = HEADER if measured else HEADER[:2]
    lines = tuple(
        (
            f"t = {name}" if name[0] in "0123456789n" else name,
            tuple(Cell("", value) for value in values[: len(columns) - 1]),
        )
        for name, *values in rows(splits)
    )
    return Table("section5", "Section 5: an inverted residual in t parts, float32", columns[1:], lines)


def rows(splits: Sequence[Split]) -> list[tuple[str, ...]]:
    """A line per t: what it is, the formula's bytes, our bytes, milliseconds, what eight rounds in ten took."""
    names = {0: "the engine's own: rows, or the whole map panel by panel", None: "n"}
    return [
        (
            names[split.t] if split.t in names else str(split.t),
            *("" if value is None else f"{value:,}" for value in (split.formula_bytes, split.own_bytes)),
            "" if split.seconds is None else f"{1e3 * split.seconds:.2f}",
            "" if split.seconds_80 is None else " to ".join(f"{1e3 * end:.2f}" for end in split.seconds_80),
        )
        for split in splits
    ]  # fmt: skip


HEADER = ("t", "bytes by the formula", "bytes of our kernels", "ms", "10 to 90 %")


def draw(splits: Sequence[Split]) -> bytes:
    """A PNG: bytes against t, and time where it was measured; the engine's own schedule as a dashed line."""
    known = [split for split in splits if split.t]
    timed = any(split.seconds is not None for split in splits)
    figure = new_figure(figsize=(9.6 if timed else 5.4, 3.8))
    panels = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    own = next((split for split in splits if split.t == 0), None)
    series = [("formula_bytes", 1 / 1024, "KiB", "the paper's formula", "#4a90c2")]
    if timed:
        series.append(("own_bytes", 1 / 1024, "KiB", "our kernels", "#f08c00"))
        series.append(("seconds", 1e3, "ms", "all blocks in t parts", "#f08c00"))
    for field, scale, unit, name, colour in series:
        axes = panels[int(field == "seconds")]
        axes.plot(
            [s.t for s in known], [scale * getattr(s, field) for s in known], "o-", color=colour, ms=4, label=name
        )
        axes.set(xlabel="t", ylabel=unit)
    if own is not None:
        for axes, value in zip(panels, (own.own_bytes, own.seconds), strict=True):
            scale = 1e3 if axes is panels[-1] else 1 / 1024
            axes.axhline(scale * float(value or 0), color="black", ls="--", lw=1, label="the engine's own schedule")
    for axes in panels:
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    return png(figure)


def _maps(network: Spec, size: int) -> list[tuple[BlockSpec, tuple[int, int]]]:
    """Each block with the height and width of the map that it reads."""
    height = width = spec.stem(network.backbone).out_size(size)
    found: list[tuple[BlockSpec, tuple[int, int]]] = []
    for block in spec.blocks(network.backbone):
        found.append((block, (height, width)))
        height, width = block.depthwise.out_size(height), block.depthwise.out_size(width)
    return found


def _areas(network: Spec, size: int) -> list[tuple[BlockSpec, tuple[int, int]]]:
    """Each block with the pixels of its input and of its output."""
    return [
        (block, (height * width, block.depthwise.out_size(height) * block.depthwise.out_size(width)))
        for block, (height, width) in _maps(network, size)
    ]


def _split_elements(block: BlockSpec, areas: tuple[int, int], t: int | None) -> int:
    before, after = areas
    part = 1 if t is None else -(-block.depthwise.out_channels // t)
    inside = part * (after + (before if block.expand is not None else 0))
    return block.in_channels * before + block.out_channels * after + inside


def _part(block: BlockSpec, channels: int) -> BlockSpec:
    """`block` with so many expanded channels and without its shortcut."""
    assert block.expand is not None
    depthwise = replace(block.depthwise, in_channels=channels, out_channels=channels, groups=channels)
    return BlockSpec(
        block.index, block.name, replace(block.expand, out_channels=channels), depthwise,
        replace(block.project, in_channels=channels), "none",
    )  # fmt: skip


def _plan(block: BlockSpec, size: tuple[int, int], cpu: Cpu, limits: Limits) -> Plan:
    """One block as a plan of its own: it reads the caller's map and writes the caller's."""
    operation = walker.block_operation(block, None, size, cpu, limits)
    per_thread = sections(operation.scratch)[1]
    scratch, shared = Buffer("scratch", per_thread, 0, 0), Buffer("shared", operation.shared, 0, 0, at=per_thread)
    output = Output("map", (*operation.out, block.out_channels))
    step = Step(block.name, operation, {}, 0, "image", "map", scratch="scratch", shared="shared")
    return Plan(
        size, block.in_channels, (output,), 1, cpu, (step,), {"scratch": scratch, "shared": shared},
        sections(operation.weights)[1], per_thread + operation.shared,
    )  # fmt: skip


def _laid(plan: Plan, weights: BlockWeights, start: int, count: int) -> Float32Array:
    """The weights of the expanded channels from `start` on; the projection's bias goes with the first part."""
    operation = plan.steps[0].operation
    assert isinstance(operation, Block)
    result = pack.aligned_zeros(plan.weights)
    chosen = slice(start, start + count)
    bias = weights.project.bias if start == 0 else np.zeros_like(weights.project.bias)
    for part, folded in (
        ("expand", Folded(weights.expand.weight[:, chosen], weights.expand.bias[chosen])),
        ("depthwise", Folded(weights.depthwise.weight[:, chosen], weights.depthwise.bias[chosen])),
        ("project", Folded(weights.project.weight[chosen], bias)),
    ):
        for section, laid in pack.convolution(operation, part, folded):
            pack.lay(result, operation, section, laid)
    return result


def _program(plan: Plan) -> Program:
    """Compiled once for every shape: names do not reach the code."""
    plan = replace(plan, steps=(replace(plan.steps[0], name=""),))
    if repr(plan) not in _PROGRAMS:
        _PROGRAMS[repr(plan)] = Program(compiled(plan))
    return _PROGRAMS[repr(plan)]


_PROGRAMS: dict[str, Program] = {}
