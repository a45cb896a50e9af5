"""Where the engine's time goes: every step checked, then timed alone and in its place in the network.

    python bench/blocks.py
    python bench/blocks.py --points "1.4 @ 224" --rounds 50

A segmentation network's steps are followed by that which makes the mask. Alone, a step finds its weights and maps in
the caches; in sequence, the others have pushed them out. What is lost is the time beyond that of its multiply-adds at
this machine's measured peak. One thread, bound to one core.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from points import POINTS, image, stem, task_of, write_models

from mobilenetv2 import spec, upsample
from mobilenetv2.benchmark.masks import places
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine import describe, pack, reference
from mobilenetv2.engine.head_operations import Branch, Mean, PixelHead, Pointwise
from mobilenetv2.engine.masks import Masks
from mobilenetv2.engine.operations import Block, Chain, Linear, Pool
from mobilenetv2.engine.plan import Plan, Step, plan
from mobilenetv2.engine.program import Program, compiled
from mobilenetv2.engine.workers import Memory
from mobilenetv2.model_file import ModelFile, read
from mobilenetv2.spec import ConvSpec, deeplab

ALONE = 5  # calls in a row, in every round


@dataclass(slots=True)
class Measured:
    """One step, called through a plan that has no other; seconds of each call."""

    name: str
    multiply_adds: int
    schedule: str
    call: Callable[[], Any]
    difference: float
    alone: list[float] = field(default_factory=list)
    in_sequence: list[float] = field(default_factory=list)


class Steps:
    """A network's steps one by one, in the memory that the whole plan gives them."""

    def __init__(self, model: ModelFile, planned: Plan, pixels: Any) -> None:
        self._hold = pack.pack(model, planned), Memory(1, planned.arena), pixels, np.zeros(planned.results, np.float32)
        weights, space, _, self.results = self._hold
        self.arena = space.arenas[0]
        self._places = [array.ctypes.data for array in (pixels, weights, self.arena, self.results, space.words)]
        self._plan = planned

    def call(self, steps: tuple[Step, ...]) -> Callable[[], None]:
        program = Program(compiled(replace(self._plan, steps=steps)))
        places = self._places

        def run(hold: Any = program) -> None:
            hold.run(*places, 0, 0, 1)

        return run

    def result(self, step: Step) -> Any:
        """Memory from where `step` writes on, flat."""
        buffer = self._plan.buffers.get(step.target)
        if buffer is not None:
            return self.arena[buffer.at + step.target_at :]
        output = next(output for output in self._plan.outputs if output.name == step.target)
        return self.results[output.at + step.target_at :]


def expected(model: ModelFile, planned: Plan, pixels: Any) -> list[Any]:
    """What the reference makes of each step's input, which is what it made of the steps before, in float64."""
    backend = reference.ReferenceBackend(model, dtype=np.float64)
    convs = {conv.name: conv for conv in spec.all_convolutions(model.info.spec)}
    maps: dict[str, Any] = {"image": pixels.astype(np.float64)}
    results: list[Any] = []
    for step in planned.steps:
        x = maps[step.source]
        layers = iter(step.layers.values())
        match step.operation:
            case Mean():
                x = reference.global_mean(x)[:, np.newaxis, np.newaxis]
            case PixelHead():
                parts = [np.broadcast_to(maps["pooling map"], (*x.shape[:3], maps["pooling map"].shape[-1]))]
                parts.append(backend._convolution(x, convs[next(layers)]))
                x = backend._chain(np.concatenate(parts, axis=-1), (convs[layer] for layer in layers))
            case Pointwise() if step.inputs:
                x = part_of_projection(backend, convs[next(layers)], x, step.inputs[""])
            case Branch():
                raise SystemExit(f"{step.name}: atrous branches are not measured")
            case Linear():
                layer = next(layers)
                x = reference.linear(x, *(backend._tensors[f"{layer}.{part}"] for part in ("weight", "bias")))
            case Block() | Chain():
                blocks = step.operation.blocks if isinstance(step.operation, Chain) else (step.operation,)
                for block in blocks:
                    source = x
                    for part in (block.stem, block.expand, block.depthwise, block.project):
                        x = x if part is None else backend._convolution(x, convs[next(layers)])
                    x = x + source if block.shortcut == "bottleneck" else x
            case _:
                x = backend._convolution(x, convs[next(layers)])
                x = reference.global_mean(x) if isinstance(step.operation, Pool) else x
        maps[step.target] = x
        results.append(x)
    return results


def part_of_projection(backend: reference.ReferenceBackend, conv: ConvSpec, x: Any, channels: tuple[int, int]) -> Any:
    """What `channels` of its input give to the projection of all branches, before its activation."""
    weight = backend._tensors[f"{conv.name}.weight"][:, slice(*channels)]
    bare = replace(conv, in_channels=weight.shape[1])
    norm = {part: backend._tensors[f"{conv.norm}.{part}"] for part in spec.NORM_PARTS}
    eps = spec.norm_eps(backend.info.spec, conv)
    return reference.batch_norm(reference.convolve(x, weight, bare), norm, eps)


def mask_step(model: ModelFile, planned: Plan, logits_BhwL: Any) -> Measured:
    """The mask of the input's size from its logits, as `Engine.best_classes` is called; the row of a map that lies
    between two is mixed once, and then every pixel's classes."""
    head = deeplab.head_of(model.info.spec)
    height, width = logits_BhwL.shape[1:3]
    rows, columns = places((height, width), planned.size, align_corners=head.align_corners)
    masks = Masks(width, head.outputs, planned.cpu)
    wrong = float((masks(logits_BhwL, rows, columns) != upsample.best_classes(logits_BhwL, rows, columns)).mean())
    multiply_adds = head.outputs * planned.size[0] * (width + planned.size[1])
    return Measured("resize + argmax", multiply_adds, "", lambda: masks(logits_BhwL, rows, columns), wrong)


def difference(found: Any, wanted: Any) -> float:
    return float(np.abs(found[: wanted.size] - wanted.ravel()).max() / np.abs(wanted).max())


def measure(point: str, rounds: int) -> list[str]:
    """The table of one network."""
    model = read(stem(point).with_suffix(".safetensors"))
    size = POINTS[point][0]
    pixels = image(point)
    planned = plan(model.info.spec, (size, size), cpus.chosen())
    steps = Steps(model, planned, pixels)
    all_of_them: list[Measured] = []
    for step, wanted in zip(planned.steps, expected(model, planned, pixels), strict=True):
        call = steps.call((step,))
        call()
        unlike = difference(steps.result(step), wanted)
        all_of_them.append(Measured(step.name, step.multiply_adds, describe.schedule_text(step), call, unlike))
    network, nothing = steps.call(planned.steps), steps.call(())
    mask = None
    if task_of(point) == "segmentation":
        network()
        mask = mask_step(model, planned, steps.results.reshape(1, *planned.outputs[0].shape))
        all_of_them.append(mask)

    def whole() -> None:
        network()
        if mask is not None:
            mask.call()

    peaks: list[float] = []
    wholes: list[float] = []
    for number in range(rounds):
        for measured in all_of_them:
            measured.call()  # bring it into the caches
            measured.alone += [seconds(measured.call) for _ in range(ALONE)]
        for measured in all_of_them:
            measured.in_sequence.append(seconds(measured.call))
        whole()
        wholes += [seconds(whole) for _ in range(ALONE)]
        if number % 10 == 0:
            peaks.append(machine.peak(planned.cpu))
            print(f"{point}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    between = statistics.median(seconds(nothing) for _ in range(1000))
    return table(point, all_of_them, statistics.median(wholes), between, max(peaks))


def table(point: str, measured: list[Measured], whole: float, between: float, peak: float) -> list[str]:
    rows: list[str] = []
    sums = [0.0, 0.0, 0.0]
    for one in measured:
        alone, placed = (statistics.median(times) - between for times in (one.alone, one.in_sequence))
        ideal = one.multiply_adds / peak
        sums = [a + b for a, b in zip(sums, (ideal, alone, placed), strict=True)]
        rows.append(
            f"| {one.name} | {one.multiply_adds / 1e6:.1f} | {1e6 * alone:.0f} | {1e6 * placed:.0f} "
            f"| {100 * ideal / alone:.0f} | {100 * ideal / placed:.0f} | {1e6 * (placed - ideal):.0f} "
            f"| {one.difference:.0e} | {one.schedule} |"
        )
    ideal, alone, placed = sums
    return [
        f"### {point}",
        "",
        "| step | M multiply-adds | alone, us | in sequence, us | % of peak alone | in sequence | us lost | difference "
        "| schedule |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        f"| sum | {ideal * peak / 1e6:.1f} | {1e6 * alone:.0f} | {1e6 * placed:.0f} | {100 * ideal / alone:.0f} "
        f"| {100 * ideal / placed:.0f} | {1e6 * (placed - ideal):.0f} | | |",
        f"| the network as one call | | | {1e6 * whole:.0f} | | {100 * ideal / whole:.0f} "
        f"| {1e6 * (whole - ideal):.0f} | | |",
        "",
    ]


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", nargs="*", default=list(POINTS), choices=list(POINTS), metavar="POINT")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--into", type=Path, help="folder of the report, else bench/results")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    write_models()
    lines = [
        "# The engine's steps, float32, one thread",
        "",
        f"{cpus.model_name()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}; medians of {options.rounds} rounds. `python bench/blocks.py`",
        "",
        "Alone: called again and again. In sequence: each after the one before it. Lost: beyond its multiply-adds at "
        "the peak of this run. Difference: its map to the reference's in float64, as a part of its largest value; "
        "of the mask, the share of pixels with another class.",
        "",
    ]
    for point in options.points:
        lines += measure(point, options.rounds)
    path = machine.report_path("blocks", options.into)
    path.write_text("\n".join(lines))
    print("\n".join(lines))
    print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
