"""Training: its speed and memory beside torchvision's and timm's networks, and how pictures keep up: a report.

    python bench/training.py              # all of it: about forty minutes
    python bench/training.py --quick      # whether it works: small pictures, few steps; the report goes to bench/.work

Every row is a process of its own that begins with the same weights, and whose first step is compared with
torchvision's before anything is timed. A step is the same work for all, so that times can be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import report_path
from PIL import Image
from points import WORK
from training_steps import CLASSES, Setting, milliseconds_by_kind, write_reference
from training_turns import Process, say, take_turns

from mobilenetv2 import files
from mobilenetv2.benchmark import measure

LIBRARIES = ("torch", "torchvision", "timm", "lightning", "pillow", "numpy")
NETWORKS = {"mobilenetv2": "ours", "torchvision": "torchvision", "timm": "timm"}
SOURCES: dict[str, dict[str, Any]] = {
    "files, 0 workers": {"source": "files", "workers": 0},
    "files, 1 worker": {"source": "files", "workers": 1},
    "files, 2 workers": {"source": "files", "workers": 2},
    "memory": {"source": "memory"},
}
CORES = os.cpu_count() or 1

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    `steps` are input size, batch and steps in a turn. `inputs` are width, input size, batch, and batches in a turn,
    before which `warm` batches use up what was prepared meanwhile. `recipes` are those whose augmentation is timed, the
    first one with training too. `pictures` is the files' size in pixels.
    """

    rounds: int
    steps: tuple[tuple[int, int, int], ...] = ((224, 32, 2), (96, 32, 8))
    # 1000 pictures make 25 batches of 40; batches of 32 would not be even
    inputs: tuple[tuple[float, int, int, int], ...] = ((1.0, 224, 40, 10), (0.35, 96, 40, 40))
    warm: int = 6
    recipes: tuple[str, ...] = ("cosine", "basic", "torchvision-v2")
    threads: tuple[int, ...] = tuple(sorted({1, CORES}))
    pictures: tuple[int, int] = (500, 375)  # as most of ImageNet's


QUICK = Plan(
    rounds=1, steps=((64, 8, 2),), inputs=((0.35, 64, 8, 4),), warm=1, recipes=("cosine",), threads=(1,),
    pictures=(100, 75),
)  # fmt: skip


def step_times(work: Path, plan: Plan, device: str) -> list[str]:
    """Tables: a step in a bare loop over the three networks, and in this package's own loop."""
    lines: list[str] = []
    header = (
        "", "ms a step", "10 to 90 %", "pictures/s", "time / ours", "CPU s / s", "page faults a step", "loss differs",
        "gradients differ",
    )  # fmt: skip
    for size, batch, steps in plan.steps:
        for threads in plan.threads if device == "cpu" else plan.threads[-1:]:
            common = Setting("ours", str(work), size=size, batch=batch, threads=threads, device=device)
            write_reference(common)
            processes = take_turns(_on_cpu(common) if device == "cpu" else _on_gpu(common), plan.rounds, 1, steps)
            rows = [_step_row(process, processes["mobilenetv2"]) for process in processes.values()]
            lines += [f"### {size} pixels, batch {batch}, threads: {threads}", "", *table(header, rows), ""]
    return lines


def _on_cpu(common: Setting) -> dict[str, Setting]:
    bare = {name: dataclasses.replace(common, way=way) for name, way in NETWORKS.items()}
    kept = {f"{name}, memory kept": dataclasses.replace(setting, keeping=True) for name, setting in bare.items()}
    recipes = {f"`mobilenetv2 train`, {recipe}": recipe for recipe in ("cosine", "torchvision-v2")}
    fitted = {name: dataclasses.replace(common, way="fit", recipe=recipe) for name, recipe in recipes.items()}
    return {**bare, **kept, **fitted}


def _on_gpu(common: Setting) -> dict[str, Setting]:
    half = dataclasses.replace(common, half=True)
    bare = {name: dataclasses.replace(half, way=way) for name, way in NETWORKS.items()}
    compiled = {f"{name}, compiled": dataclasses.replace(setting, compiled=True) for name, setting in bare.items()}
    return {**bare, **compiled, "`mobilenetv2 train`, cosine": dataclasses.replace(half, way="fit")}


def _step_row(process: Process, ours: Process) -> Row:
    if process.problem or process.first is None:
        return (process.name, f"not timed: {process.problem}", *[""] * 7)
    low, middle, high = np.quantile([1e3 * value for value in process.seconds], (0.1, 0.5, 0.9))
    differences = (process.first.loss, process.first.gradients)
    return (
        process.name, f"{middle:.1f}", f"{low:.1f} to {high:.1f}", f"{1e3 * process.setting.batch / middle:.1f}",
        "" if ours.problem else f"{process.ratio(ours):.2f}", f"{process.busy:.2f}", f"{process.faults:,.0f}",
        *(f"{value:.0e}" if process.setting.comparable else "" for value in differences),
    )  # fmt: skip


def operations(work: Path, plan: Plan) -> list[str]:
    """A table: milliseconds of a step by kind of operation."""
    size, batch, _ = plan.steps[0]
    common = Setting("ours", str(work), size=size, batch=batch, threads=plan.threads[-1])
    rows: list[Row] = []
    for name, way in NETWORKS.items():
        for keeping in (False, True):
            found = milliseconds_by_kind(dataclasses.replace(common, way=way, keeping=keeping))
            times = (f"{value:.0f}" for value in (*found.values(), sum(found.values())))
            rows.append((f"{name}{', memory kept' * keeping}", *times))
    return [f"{size} pixels, batch {batch}, threads: {plan.threads[-1]}.", "", *table(("", *found, "sum"), rows), ""]


def memory(work: Path, plan: Plan) -> list[str]:
    """A table: what waits for the gradients, the process's peak, and the time of a step."""
    size, batch, steps = plan.steps[0]
    common = Setting("ours", str(work), size=size, batch=batch, threads=plan.threads[-1])
    write_reference(common)
    settings = {name: dataclasses.replace(common, way=way) for name, way in NETWORKS.items()}
    settings["mobilenetv2, recompute"] = dataclasses.replace(common, recompute=True)
    for name in ("mobilenetv2", "mobilenetv2, recompute"):
        settings[f"{name}, memory kept"] = dataclasses.replace(settings[name], keeping=True)
    processes = take_turns(settings, plan.rounds, 1, steps)
    rows: list[Row] = []
    for process in processes.values():
        if process.problem or process.first is None:
            rows.append((process.name, f"not measured: {process.problem}", *[""] * 4))
            continue
        kept, peak = process.first.kept_bytes / 2**20, process.bursts[-1].peak_bytes / 2**20
        times = f"{1e3 * statistics.median(process.seconds):.1f}", f"{process.ratio(processes['mobilenetv2']):.2f}"
        rows.append((process.name, f"{kept:,.0f}", f"{peak:,.0f}", *times, f"{process.first.gradients:.0e}"))
    header = ("", "MiB for the gradients", "MiB of the process", "ms a step", "time / ours", "gradients differ")
    return [f"{size} pixels, batch {batch}, threads: {plan.threads[-1]}.", "", *table(header, rows), ""]


def inputs(work: Path, plan: Plan) -> list[str]:
    """Tables: pictures alone by source and recipe, and with the training that they are for."""
    lines: list[str] = []
    header = (
        "pictures from", *(f"alone, {recipe}" for recipe in plan.recipes), "training alone", "both", "of the slower",
        "CPU s / s",
    )  # fmt: skip
    for width, size, batch, steps in plan.inputs:
        common = Setting("pictures", str(work), size=size, width=width, batch=batch, threads=plan.threads[-1])
        write_reference(common)
        training = _alone(dataclasses.replace(common, way="fit"), plan, steps)
        rows: list[Row] = []
        for name, source in SOURCES.items():
            alone = [
                _alone(dataclasses.replace(common, recipe=recipe, **source), plan, steps) for recipe in plan.recipes
            ]
            both = _alone(dataclasses.replace(common, way="fit", **source), plan, steps)
            speeds = [process.pictures_per_second for process in (*alone, training, both)]
            share = speeds[-1] / min(speeds[0], speeds[-2])
            rows.append((name, *(f"{speed:.1f}" for speed in speeds), f"{100 * share:.0f} %", f"{both.busy:.2f}"))
        lines += [
            f"### Width {width:g} at {size} pixels, batch {batch}, threads: {plan.threads[-1]}",
            "",
            *table(header, rows),
            "",
        ]
    return lines


def _alone(setting: Setting, plan: Plan, steps: int) -> Process:
    """Not in turns: one process's workers would prepare pictures in another one's turn."""
    name = f"{setting.way}, {setting.recipe}, {setting.source}, {setting.workers} workers"
    process = take_turns({name: setting}, max(1, plan.rounds // 3), plan.warm, steps)[name]
    if process.problem:
        raise SystemExit(f"{name}: {process.problem}")
    return process


def on_a_gpu(work: Path, plan: Plan) -> list[str]:
    """The tables of `step_times` in bfloat16, where there is a GPU."""
    if not torch.cuda.is_available():
        return ["No GPU on this machine.", ""]
    return [f"{torch.cuda.get_device_name()}, bfloat16 by autocast.", "", *step_times(work, plan, "cuda")]


def write_pictures(work: Path, size: tuple[int, int]) -> float:
    """`pictures.csv` and a JPEG file of noise of several scales for each class; how large they are, in kB."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        noise = [rng.integers(0, 256, (3 * side, 4 * side, 3), np.uint8) for side in (2, 8, 32, 96)]
        layers = [np.asarray(Image.fromarray(layer).resize(size)) for layer in noise]
        pixels = np.average(layers, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(work / f"{label}.jpg", quality=90)
    files.write_text(work / "pictures.csv", "".join(f"{label}.jpg,{label}\n" for label in range(CLASSES)))
    return sum(file.stat().st_size for file in work.glob("*.jpg")) / CLASSES / 1e3


def table(header: Row, rows: Sequence[Row]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)]


def report(work: Path, plan: Plan, command: str) -> list[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    width, height = plan.pictures
    say("making pictures")
    kilobytes = write_pictures(work, plan.pictures)
    return [
        "# Training",
        "",
        f"{measure.machine()}. {versions}.",
        f"`{command}`: random weights, the same in every row; float32 but on a GPU.",
        "",
        "## A step",
        "",
        "Forward, cross entropy, backward, SGD with momentum, the same batch again and again, channels_last. The first "
        "rows are one bare loop over each network. *Memory kept*: that loop within `train.memory.keeping_memory`. "
        "`mobilenetv2 train`: `fit` by the named recipe with the same optimiser and batch, all that it does between "
        "steps included. *Time / ours*: by the bare loop over our network, turn by turn. *Differs*: the first step, "
        "from torchvision's, as parts of the loss and of the largest gradient. One thread is bound to one core.",
        "",
        *step_times(work, plan, "cpu"),
        "## Where the time goes",
        "",
        "Milliseconds of one step of the bare loop, as torch's profiler has them.",
        "",
        *operations(work, plan),
        "## Memory",
        "",
        "*For the gradients*: storages that wait for them after the loss, the weights not counted. *Of the process*: "
        "the most that it has had, libraries included. *Recompute*: `MobileNetV2.recompute`.",
        "",
        *memory(work, plan),
        "## Pictures",
        "",
        f"{CLASSES} JPEG files of {width} x {height} pixels and {kilobytes:.0f} kB; pictures per second. *Alone*: "
        "`train.batches.training_batches`, augmented as three recipes do. *Training alone*: `fit` on the same batch "
        "again and again. *Both*: `fit` on the pictures, as cosine augments them; *of the slower*: what that leaves of "
        "the slower one's speed alone. CPU seconds per second are of both, all processes together.",
        "",
        *inputs(work, plan),
        "## On a GPU",
        "",
        *on_a_gpu(work, plan),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="small pictures, few steps, a report in bench/.work")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan(options.rounds)
    command = f"python bench/training.py {'--quick' if options.quick else f'--rounds {plan.rounds}'}"
    with tempfile.TemporaryDirectory(prefix="mobilenetv2-training-") as work:
        text = "\n".join(report(Path(work), plan, command))
    path = WORK / "training_quick.md" if options.quick else report_path("training")
    files.write_text(path, text)
    print(text)
    say(f"written to {path}")


if __name__ == "__main__":
    main()
