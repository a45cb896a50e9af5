"""The engine beside the other runtimes: same weights, outputs compared first, then timed in turns.

    python bench/peers.py --setup          # their environments, under bench/.venvs
    python bench/peers.py                  # all of it: about half an hour
    python bench/peers.py --points "1.0 @ 224" --rounds 10

Each runtime is a process of its own, in an environment of its own where packages clash. In every round each runs a
burst, in changing order; the ratio to the engine is taken round by round, because a shared machine is never the same
for long.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
from points import POINTS, ROOT, stem, write_models

from mobilenetv2.complexity import complexity
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.plan import plan
from mobilenetv2.model_file import read

VENVS = ROOT / "bench" / ".venvs"
AGREE = 1e-3  # of the largest logit: a runtime that differs by more computes something else and is not timed
BURST_S = 0.15

# environment: what is installed in it. torch 2.13 is the newest that all of them take.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "main": ("torch==2.13.0", "onnxruntime", "openvino", "ncnn", "pnnx", "onnx", "onnxscript", "ai-edge-litert"),
    "convert": ("torch==2.13.0", "litert-torch"),
    "executorch": ("torch==2.13.0", "executorch"),
}
OUR_OWN = ("numpy", "safetensors", "pillow")  # what our modules need in them


@dataclass(frozen=True, slots=True)
class Runtime:
    """`function` is the worker's; `converted` says in which environment what kind of file is made for it."""

    function: str
    environment: str | None = "main"
    converted: tuple[str, str, str] | None = None  # environment, kind, suffix
    batches: bool = True


RUNTIMES: dict[str, Runtime] = {
    "engine": Runtime("engine", None),
    "engine, uint8 pixels": Runtime("engine_uint8", None),
    "LiteRT": Runtime("litert", converted=("convert", "litert", ".tflite")),
    "ExecuTorch": Runtime("executorch", "executorch", ("executorch", "executorch", ".pte"), batches=False),
    "OpenVINO": Runtime("openvino", converted=("main", "onnx", ".onnx")),
    "ONNX Runtime": Runtime("onnxruntime", converted=("main", "onnx", ".onnx")),
    "ncnn": Runtime("ncnn", converted=("main", "ncnn", ".ncnn"), batches=False),
    "torch.compile": Runtime("torch_compile"),
    "torch": Runtime("torch_eager"),
}


class Worker:
    """A runtime's process. `problem` says why there is none."""

    def __init__(self, name: str, point: str, threads: int, batch: int) -> None:
        self.name = name
        runtime = RUNTIMES[name]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'bench'}", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        command = [str(python(runtime.environment)), "bench/worker.py", runtime.function, point, str(threads)]
        self._process = subprocess.Popen(
            [*command, str(batch)], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = self._out.readline()
        self.ready: dict[str, float] = json.loads(line) if line else {}
        self.problem = None
        if not line:
            assert self._process.stderr is not None
            self.problem = (self._process.stderr.read().strip().splitlines() or ["ended without a word"])[-1][:120]
        elif name != "engine, uint8 pixels" and self.ready["difference"] > AGREE:
            self.problem = f"differs by {self.ready['difference']:.1e} of the largest logit"

    @property
    def _out(self) -> Any:
        return self._process.stdout

    def burst(self, count: int) -> list[float]:
        """Seconds of `count` inferences."""
        assert self._process.stdin is not None
        print(count, file=self._process.stdin, flush=True)
        return json.loads(self._out.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def python(environment: str | None) -> Path:
    return Path(sys.executable) if environment is None else VENVS / environment / "bin" / "python"


def setup() -> None:
    """The environments that are not there yet."""
    for name, packages in ENVIRONMENTS.items():
        if not python(name).exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENVS / name)], check=True)
            subprocess.run([str(python(name)), "-m", "pip", "install", "-q", *packages, *OUR_OWN], check=True)


def convert(points: list[str]) -> None:
    """The model files, and what each runtime reads; a conversion that fails shows when its runtime starts."""
    write_models()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'bench'}"}
    for point in points:
        for runtime in RUNTIMES.values():
            if runtime.converted is None or Path(f"{stem(point)}{runtime.converted[2]}").exists():
                continue
            where, kind, _ = runtime.converted
            command = [str(python(where)), "bench/convert.py", kind, point]
            say(f"{point}: {kind}")
            subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)


def compare(point: str, threads: int, batch: int, rounds: int) -> list[str]:
    """A table: every runtime's times for `point`, and their ratio to the engine's."""
    names = [name for name, runtime in RUNTIMES.items() if batch == 1 or runtime.batches]
    workers = [Worker(name, point, threads, batch) for name in names]
    alive = [worker for worker in workers if worker.problem is None]
    counts: dict[str, int] = {}
    for worker in alive:
        warm = worker.burst(5)
        counts[worker.name] = max(3, min(200, int(BURST_S / min(warm))))
    seconds: dict[str, list[list[float]]] = {worker.name: [] for worker in alive}
    for turn in range(rounds):
        for worker in alive[turn % len(alive) :] + alive[: turn % len(alive)]:
            worker.burst(2)
            seconds[worker.name].append(worker.burst(counts[worker.name]))
        say(f"{point}, {threads} threads, batch {batch}: round {turn + 1} of {rounds}")
    ours = [statistics.median(burst) for burst in seconds["engine"]]
    rows: list[tuple[float, str]] = []
    for worker in alive:
        bursts = seconds[worker.name]
        times = np.array([value for burst in bursts for value in burst]) * 1000
        ratio = statistics.median(statistics.median(burst) / our for burst, our in zip(bursts, ours, strict=True))
        low, middle, high = np.quantile(times, (0.1, 0.5, 0.9))
        per_second = 1000 * batch / middle
        difference = "" if worker.name == "engine, uint8 pixels" else f"{worker.ready['difference']:.0e}"
        figures = f"{middle:.3f} | {low:.3f} to {high:.3f} | {per_second:.0f} | {ratio:.2f} | {difference}"
        rows.append((ratio, f"| {worker.name} | {figures} |"))
    for worker in workers:
        worker.close()
        if worker.problem is not None:
            rows.append((float("inf"), f"| {worker.name} | not timed: {worker.problem} | | | | |"))
    return [
        f"### {point}, {threads} thread{'s' * (threads > 1)}, batch {batch}",
        "",
        "| runtime | ms, median | 10 to 90 % | images/s | time / engine's | difference |",
        "|---|---|---|---|---|---|",
        *(row for _, row in sorted(rows)),
        "",
    ]


def starts(point: str) -> list[str]:
    """A table: loading to first answer, and memory beyond Python and NumPy, in fresh processes."""
    rows: list[str] = []
    for name in RUNTIMES:
        found = [Worker(name, point, 2, 1) for _ in range(3)]
        for worker in found:
            worker.close()
        if found[0].problem is None:
            first = statistics.median(worker.ready["first_s"] for worker in found) * 1000
            peak = statistics.median(worker.ready["peak_bytes"] for worker in found) / 2**20
            rows.append(f"| {name} | {first:.0f} | {peak:.0f} |")
    return [
        f"### Start and memory, {point}, 2 threads",
        "",
        "Import to first answer, and the most memory of the process beyond Python with NumPy; three fresh processes "
        "each, disk caches warm (the engine's machine code cached).",
        "",
        "| runtime | first answer, ms | MiB |",
        "|---|---|---|",
        *rows,
        "",
    ]


def arenas() -> list[str]:
    """A table: the engine's memory for activations beside what one layer at a time needs at least."""
    rows: list[str] = []
    for point, (size, _) in POINTS.items():
        network = read(stem(point).with_suffix(".safetensors")).info.spec
        ours = [plan(network, (size, size), cpus.chosen(), threads=n).arena_bytes for n in (1, 2)]
        layers = 4 * complexity(network, size).peak.live
        rows.append(f"| {point} | {ours[0]:,} | {ours[1]:,} | {layers:,} | {layers / ours[0]:.1f} |")
    head = "| network | engine, 1 thread | 2 threads | layer by layer | ratio |"
    return ["### Memory for activations, bytes", "", head, "|---|---|---|---|---|", *rows, ""]


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
    options = parser.parse_args()
    setup()
    if options.setup:
        return
    convert(options.points)
    lines = [
        "# The engine beside other runtimes, float32",
        "",
        f"{machine.cpu_name()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}. {versions()}.",
        f"`python bench/peers.py --rounds {options.rounds}`: random weights, NumPy arrays in and out; the peers' input "
        "is float32 in the layout that they want, transposed before. `difference`: to the reference in float64, as a "
        "part of the largest logit. One thread is bound to one core.",
        "",
        "| this machine, in the same run | |",
        "|---|---|",
        *machine.rows(),
        "",
    ]
    for point in options.points:
        for threads in options.threads:
            lines += compare(point, threads, 1, options.rounds)
    for batch in options.batches:
        if batch > 1 and "1.0 @ 224" in options.points:
            lines += compare("1.0 @ 224", max(options.threads), batch, max(3, options.rounds // 3))
    if "1.0 @ 224" in options.points:
        lines += starts("1.0 @ 224")
    lines += arenas()
    path = machine.report_path("peers")
    path.write_text("\n".join(lines))
    print("\n".join(lines))
    say(f"written to {path}")


if __name__ == "__main__":
    main()
