"""The engine beside the other runtimes: same weights, outputs compared first, then timed in turns.

    python bench/peers.py --setup          # their environments, under bench/.venvs
    python bench/peers.py                  # all of it, a report for each task: about fifty minutes
    python bench/peers.py --points "1.0 @ 224" --rounds 10
    python bench/peers.py --points "DeepLabv3 1.0 @ 513 OS16" --segmenter DEEPLAB.safetensors --photo PHOTO.jpg

Each runtime is a process of its own, in an environment of its own where packages clash. In every round each runs a
burst, in changing order; the ratio to the engine is taken round by round, because a shared machine is never the same
for long.
"""

from __future__ import annotations

import argparse
import math
import operator
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import machine
import numpy as np
import points as chosen
from points import POINTS, ROOT, TYPICAL, stem, task_of, write_models

from mobilenetv2 import image
from mobilenetv2.benchmark.measure import PIXELS, Setting, Timing, Worker, convert, take_turns
from mobilenetv2.benchmark.runtimes import RUNTIMES, Result
from mobilenetv2.complexity import complexity
from mobilenetv2.engine import abi
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.plan import plan
from mobilenetv2.model_file import read
from mobilenetv2.results import decode_detections
from mobilenetv2.spec import DeepLab, ssdlite

VENVS = ROOT / "bench" / ".venvs"
OUTPUTS: tuple[Result, ...] = ("outputs",)
CANDIDATES = 100  # scores of a busy picture that are worth a box

# environment: what is installed in it. torch 2.13 is the newest that all of them take.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "main": ("torch==2.13.0", "onnxruntime", "openvino", "ncnn", "pnnx", "onnx", "onnxscript", "ai-edge-litert"),
    "convert": ("torch==2.13.0", "litert-torch"),
    "executorch": ("torch==2.13.0", "executorch"),
}
OUR_OWN = ("numpy", "safetensors", "pillow")  # what our modules need in them
# which environment a runtime runs in (None: this one), and in which its file is made
RUNS_IN: dict[str, str | None] = {"engine": None, "engine, uint8 pixels": None, "ExecuTorch": "executorch"}
CONVERTED_IN = {"LiteRT": "convert", "ExecuTorch": "executorch"}


def python(environment: str | None) -> Path:
    return Path(sys.executable) if environment is None else VENVS / environment / "bin" / "python"


def setup() -> None:
    """The environments that are not there yet."""
    for name, packages in ENVIRONMENTS.items():
        if not python(name).exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENVS / name)], check=True)
            subprocess.run([str(python(name)), "-m", "pip", "install", "-q", *packages, *OUR_OWN], check=True)


def start(name: str, point: str, threads: int, batch: int, result: Result = "outputs") -> Worker:
    size = POINTS[point][0]
    setting = Setting(stem(point), (size, size), 3, threads, batch, result)
    return Worker(name, setting, python=str(python(RUNS_IN.get(name, "main"))), environment=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TORCH_CPP_LOG_LEVEL": "ERROR"}


def convert_all(points: list[str]) -> None:
    """The model files, and what each runtime reads; a conversion that fails shows when its runtime starts."""
    write_models()
    for point in points:
        size = POINTS[point][0]
        forms = [(name, mask) for mask in (False, True)[: 1 + (task_of(point) == "segmentation")] for name in RUNTIMES]
        for name, mask in forms:
            where = str(python(CONVERTED_IN.get(name, "main")))
            problem = convert(name, stem(point), (size, size), python=where, environment=environment(), mask=mask)
            if problem is not None:
                say(f"{point}: {name}{', mask' * mask}: {problem}")


def compare(point: str, threads: int, batch: int, rounds: int) -> list[str]:
    """A table: every runtime's times for `point`, and their ratio to the engine's; for masks a second one."""
    heading = f"{point}, {threads} thread{'s' * (threads > 1)}, batch {batch}"
    names = [name for name, runtime in RUNTIMES.items() if batch == 1 or not runtime.static]
    outputs: list[tuple[str, Result]] = [(name, "outputs") for name in names]
    if task_of(point) != "segmentation":
        more = [] if batch > 1 or task_of(point) != "detection" else [decoding(point), ""]
        return [*turns(heading, point, outputs, threads, batch, rounds), *more]
    both: list[tuple[str, Result]] = [(name, result) for name in names for result in mask_results(name)]
    return [
        *turns(f"{heading}: the network only, logits", point, outputs, threads, batch, rounds),
        *turns(f"{heading}: to the mask", point, both, threads, batch, rounds),
    ]


def mask_results(name: str) -> tuple[Result, ...]:
    """The ways in which a runtime comes to a mask: the engine has one."""
    return ("mask",) if name.startswith("engine") else ("mask", "mask after")


def turns(
    heading: str, point: str, forms: Sequence[tuple[str, Result]], threads: int, batch: int, rounds: int
) -> list[str]:
    """The table of the runtimes that take turns, each to its result."""

    def progress(done: int, total: int) -> None:
        say(f"{heading}: round {done} of {total}")

    rows: list[tuple[float, str]] = []
    for timing in take_turns([start(name, point, threads, batch, result) for name, result in forms], rounds, progress):
        if timing.problem is not None:
            rows.append((float("inf"), f"| {label(timing)} | not timed: {timing.problem} | | | | |"))
            continue
        middle, low, high = (1e3 * value for value in timing.seconds)
        difference = "" if timing.runtime == PIXELS else f"{timing.difference:.0e}"
        figures = f"{middle:.3f} | {low:.3f} to {high:.3f} | {1e3 * batch / middle:.0f} | {timing.ratio:.2f}"
        rows.append((timing.ratio, f"| {label(timing)} | {figures} | {difference} |"))
    unlike = "difference" if forms[0][1] == "outputs" else "pixels of another class"
    return [
        f"### {heading}",
        "",
        f"| runtime | ms, median | 10 to 90 % | images/s | time / engine's | {unlike} |",
        "|---|---|---|---|---|---|",
        *(row for _, row in sorted(rows, key=operator.itemgetter(0))),
        "",
    ]


def label(timing: Timing) -> str:
    return f"{timing.runtime}, then the engine's mask" if timing.result == "mask after" else timing.runtime


def decoding(point: str) -> str:
    """A line: what decoding and suppression take beside the network, where so many boxes reach the least score."""
    info = read(stem(point).with_suffix(".safetensors")).info
    head = ssdlite.head_of(info.spec)
    with np.load(stem(point).with_suffix(".npz")) as stored:
        raw = {name: stored[name] for name in stored.files}
    first = 1 if head.background == "first" else 0
    reached = np.sort(raw["class_logits"][..., first:], axis=None)[-CANDIDATES]
    raw["class_logits"] = raw["class_logits"] - reached + math.log(head.score_threshold / (1 - head.score_threshold))
    _, geometry = image.load(np.zeros((480, 640, 3), np.uint8), info.preprocessing)
    seconds: list[float] = []
    for _ in range(50):
        begun = time.perf_counter()
        found = decode_detections(raw, info, geometry)
        seconds.append(time.perf_counter() - begun)
    return (
        f"Decoding and suppression, the same NumPy for every runtime, where {CANDIDATES} scores reach the threshold "
        f"({len(found.detections)} boxes are left): {1e3 * statistics.median(seconds):.2f} ms more."
    )


def starts(point: str) -> list[str]:
    """A table: loading to first answer, and memory beyond Python and NumPy, in fresh processes."""
    rows: list[str] = []
    masks = task_of(point) == "segmentation"
    forms: list[tuple[str, Result]] = [
        (name, result) for name in RUNTIMES for result in (mask_results(name) if masks else OUTPUTS)
    ]
    for name, result in forms:
        found = [start(name, point, 2, 1, result) for _ in range(3)]
        for worker in found:
            worker.close()
        timings = [worker.timing for worker in found]
        if timings[0].problem is None:
            first = statistics.median(timing.first_s for timing in timings) * 1000
            peak = statistics.median(timing.memory_bytes for timing in timings) / 2**20
            rows.append(f"| {label(timings[0])} | {first:.0f} | {peak:.0f} |")
    return [
        f"### Start and memory, {point}{', to the mask' * masks}, 2 threads",
        "",
        "Import to first answer, and the most memory of the process beyond Python with NumPy; three fresh processes "
        "each, disk caches warm (the engine's machine code cached).",
        "",
        "| runtime | first answer, ms | MiB |",
        "|---|---|---|",
        *rows,
        "",
    ]


# LiteRT without XNNPACK lays the activations of its own kernels out in one arena; their addresses tell its size
LITERT_ARENA = """
import sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
interpreter = Interpreter(sys.argv[1], num_threads=1, experimental_op_resolver_type=plain)
interpreter.allocate_tensors()
places = []
for operation in interpreter._get_ops_details():
    for index in operation["outputs"]:
        view = interpreter.tensor(index)()
        places.append((view.ctypes.data, view.ctypes.data + view.nbytes))
print(max(end for _, end in places) - min(begin for begin, _ in places))
"""


def arenas(points: Sequence[str]) -> list[str]:
    """A table: the engine's memory for activations beside LiteRT's, and what one layer at a time needs at least."""
    rows: list[str] = []
    for point in points:
        size = POINTS[point][0]
        network = read(stem(point).with_suffix(".safetensors")).info.spec
        ours = [plan(network, (size, size), cpus.chosen(), threads=n).arena_bytes for n in (1, 2)]
        layers = 4 * complexity(network, size).peak.live
        rows.append(arena_row(point, ours, litert_arena(stem(point).with_suffix(".tflite")), layers))
        if isinstance(network.head, DeepLab):
            height, width = (-(-size // network.backbone.output_stride) for _ in range(2))
            scratch = 4 * abi.mask_scratch(width, network.head.outputs)
            ours = [bytes_ + scratch * n for n, bytes_ in enumerate(ours, start=1)]
            theirs = litert_arena(RUNTIMES["LiteRT"].file(stem(point), mask=True))
            layers = max(layers, 4 * network.head.outputs * (height * width + size * size))
            rows.append(arena_row(f"{point}, to the mask", ours, theirs, layers))
    return [
        "### Memory for activations, bytes",
        "",
        "LiteRT's: the arena of its own kernels, as far as it holds the maps; XNNPACK's workspace is its own affair.",
        "",
        "| network | engine, 1 thread | 2 threads | LiteRT | layer by layer | that / engine, 1 thread |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def litert_arena(file: Path) -> str:
    command = [str(python("main")), "-c", LITERT_ARENA, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{int(done.stdout):,}" if done.returncode == 0 else f"failed: {done.stderr.strip()[-80:]}"


def arena_row(name: str, ours: Sequence[int], theirs: str, layers: int) -> str:
    return f"| {name} | {ours[0]:,} | {ours[1]:,} | {theirs} | {layers:,} | {layers / ours[0]:.1f} |"


def versions() -> str:
    """The runtimes' versions as their environments have them."""
    code = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    found: list[str] = []
    for environment, packages in ENVIRONMENTS.items():
        names = [package.split("==")[0] for package in packages if package not in ("pnnx", "onnxscript")]
        done = subprocess.run(
            [str(python(environment)), "-c", code, *names], capture_output=True, text=True, check=False
        )
        found.append(done.stdout.strip())
    return "; ".join(found)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make the environments and stop")
    parser.add_argument("--points", nargs="*", default=list(POINTS), choices=list(POINTS), metavar="POINT")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--segmenter", type=Path, help="model file with real weights for the segmentation point")
    parser.add_argument("--photo", type=Path, help="what it is measured on; goes with --segmenter")
    parser.add_argument("--into", type=Path, help="folder of the reports, else bench/results")
    options = parser.parse_args()
    # of paths the names alone: where they lie says nothing to a reader
    command_line = shlex.join(Path(word).name if "/" in word else word for word in sys.argv[1:])
    if (options.segmenter is None) != (options.photo is None):
        parser.error("--segmenter and --photo go together")
    setup()
    if options.segmenter is not None:
        chosen.use(options.segmenter, options.photo)
    if options.setup:
        return
    convert_all(options.points)
    for task in dict.fromkeys(map(task_of, options.points)):
        points = [point for point in options.points if task_of(point) == task]
        command = f"python bench/peers.py {command_line}"
        real = task == "segmentation" and options.segmenter is not None
        weights = f"the weights of {options.segmenter.name} on {options.photo.name}" if real else "random weights"
        lines = [*opening(task, command, weights), *body(points, options.threads, options.batches, options.rounds)]
        path = machine.report_path("peers" if task == "classification" else f"peers-{task}", options.into)
        path.write_text("\n".join(lines))
        print("\n".join(lines))
        say(f"written to {path}")


def opening(task: str, command: str, weights: str) -> list[str]:
    masks = (
        "To the mask: the class of every pixel of the input, the logits resized bilinearly, then argmax. Each of the "
        "others once in a graph of its own, and once with the engine's code after its logits. Their graphs add the "
        "pooling branch to every place, as the engine does (`benchmark.convert.Added`): less work than repeating and "
        "stacking it."
    )
    return [
        f"# The engine beside other runtimes: {task}, float32",
        "",
        f"{cpus.model_name()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}. {versions()}.",
        f"`{command}`: {weights}, NumPy arrays in and out; the peers' input "
        "is float32 in the layout that they want, transposed before. `difference`: to the reference in float64, as a "
        "part of the largest output. One thread is bound to one core.",
        "",
        *([masks, ""] if task == "segmentation" else []),
        "| this machine, in the same run | |",
        "|---|---|",
        *machine.rows(),
        "",
    ]


def body(points: Sequence[str], threads: Sequence[int], batches: Sequence[int], rounds: int) -> list[str]:
    """Every point one picture at a time; then several at a time, and the start, of the task's typical one."""
    lines: list[str] = []
    for point in points:
        for count in threads:
            lines += compare(point, count, 1, rounds)
    for point in points:
        if point in TYPICAL:
            for batch in batches:
                if batch > 1 and task_of(point) != "segmentation":
                    lines += compare(point, max(threads), batch, max(3, rounds // 3))
            lines += starts(point)
    return [*lines, *arenas(points)]


if __name__ == "__main__":
    main()
