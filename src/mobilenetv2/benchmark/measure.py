"""How fast a model runs here, in the engine and in the other runtimes that are installed.

Every runtime is a process of its own. Its answer is compared with the reference's before anything is timed; then all
take turns, a burst each, and the ratio to the engine is taken turn by turn, because a machine is never the same for
long.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import __version__, model_file
from mobilenetv2.benchmark.runtimes import MODEL, RUNTIMES, Array, Result
from mobilenetv2.engine import cpu
from mobilenetv2.errors import BenchmarkError, UsageError, unknown_name
from mobilenetv2.model_file import ModelFile
from mobilenetv2.predictor import default_threads
from mobilenetv2.terminal import table

# of the largest output, or of a mask's pixels: a runtime that differs by more computes something else and is not timed
AGREE = 1e-3
BURST_S = 0.15
ENGINE = "engine"
PIXELS = "engine, uint8 pixels"  # its input is another, so its answer cannot be compared

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured: the network's files under `stem`, for `batch` pictures at a time on `threads` threads."""

    stem: Path
    size: tuple[int, int]
    channels: int
    threads: int
    batch: int
    result: Result = "outputs"


@dataclass(slots=True)
class Timing:
    """One runtime in one setting. `problem` says why it was not timed. Seconds are of whole calls, of all images."""

    runtime: str
    threads: int
    batch: int
    result: Result = "outputs"
    problem: str | None = None
    difference: float = float("nan")  # to the reference: a part of the largest output, or a share of a mask's pixels
    first_s: float = float("nan")  # from import to the first answer
    memory_bytes: int = 0  # at most, beyond Python with NumPy
    bursts: list[list[float]] = field(default_factory=list)
    ratio: float = float("nan")  # its time / the engine's, the median of all turns

    @property
    def seconds(self) -> tuple[float, float, float]:
        """The median, and between what 80 % of all calls lay."""
        low, middle, high = np.quantile([value for burst in self.bursts for value in burst], (0.1, 0.5, 0.9))
        return float(middle), float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        known: dict[str, Any] = {"runtime": self.runtime, "threads": self.threads, "batch": self.batch}
        if self.problem is not None:
            return {**known, "problem": self.problem}
        middle, low, high = self.seconds
        return {
            **known,
            "ms": 1e3 * middle,
            "ms_10": 1e3 * low,
            "ms_90": 1e3 * high,
            "images_per_second": self.batch / middle,
            "time_by_engines": self.ratio,
            "first_answer_ms": 1e3 * self.first_s,
            "memory_bytes": self.memory_bytes,
            **({} if self.runtime == PIXELS else {"difference": self.difference}),
        }


class Worker:
    """A runtime's process, which `python` runs; `timing.problem` says why there is none."""

    def __init__(
        self, runtime: str, setting: Setting, *, python: str = sys.executable,
        environment: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        arguments = (
            runtime,
            setting.stem,
            setting.threads,
            setting.batch,
            *setting.size,
            setting.channels,
            setting.result,
        )
        self._process = subprocess.Popen(
            [python, "-m", "mobilenetv2.benchmark.worker", *map(str, arguments)], env=dict(environment),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.timing = Timing(runtime, setting.threads, setting.batch, setting.result)
        reply = self._reply()
        if reply is None:
            return
        self.timing.difference, self.timing.first_s = reply["difference"], reply["first_s"]
        self.timing.memory_bytes = reply["peak_bytes"]
        largest = "largest output" if setting.result == "outputs" else "mask's pixels"
        if runtime != PIXELS and not self.timing.difference <= AGREE:
            self.timing.problem = f"differs by {self.timing.difference:.1e} of the {largest}"

    def burst(self, count: int) -> list[float]:
        """Seconds of `count` calls; none where the process has ended, which `timing.problem` then says."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(count, file=self._process.stdin, flush=True)
        return self._reply() or []

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self.timing.problem = (self._process.stderr.read().strip().splitlines() or ["ended without a word"])[-1][:120]
        return None

    def close(self) -> None:
        """End the process, if it has not been ended."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def take_turns(workers: Sequence[Worker], rounds: int, progress: Progress = lambda done, total: None) -> list[Timing]:
    """Times the workers, the first of which is the engine, and closes them."""
    counts: dict[Worker, int] = {}
    for worker in workers:
        warm = worker.burst(5) if worker.timing.problem is None else []
        counts[worker] = max(3, min(200, int(BURST_S / min(warm)))) if warm else 0
    for turn in range(rounds):
        start = turn % len(workers)
        for worker in (*workers[start:], *workers[:start]):
            if worker.timing.problem is None:
                worker.burst(2)
                worker.timing.bursts.append(worker.burst(counts[worker]))
        progress(turn + 1, rounds)
    timings = [worker.timing for worker in workers]
    for worker in workers:
        worker.close()
    for timing in timings:
        if timing.problem is None and timings[0].problem is None:
            pairs = zip(timing.bursts, timings[0].bursts, strict=True)
            timing.ratio = statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)
    return timings


def benchmark(
    model: ModelFile,
    *,
    size: tuple[int, int] | None = None,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    runtimes: Sequence[str] | None = None,
    rounds: int = 10,
    progress: Progress = lambda done, total: None,
) -> list[Timing]:
    """Every setting in every runtime: those named, or all that are installed, the engine first.

    `threads` are, where not given, one and what `mobilenetv2.load` would take.

    Raises `UsageError` for a runtime that is unknown, or named and not installed; `BenchmarkError` where the engine
    itself does not run.
    """
    for name in runtimes or ():
        if name not in RUNTIMES:
            raise unknown_name("runtime", name, list(RUNTIMES))
        if RUNTIMES[name].missing:
            raise UsageError(f"{name} needs pip install {' '.join(RUNTIMES[name].missing)}")
    names = [name for name in runtimes or installed() if name != ENGINE]
    threads = threads or sorted({1, default_threads()})
    size = size or model.info.preprocessing.size
    channels = model.info.spec.backbone.in_channels
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory(prefix="mobilenetv2-bench-") as folder:
        stem = Path(folder) / "model"
        prepare(model, stem, size)
        problems = {name: convert(name, stem, size) for name in names}
        for number, (count, batch) in enumerate((count, batch) for batch in batches for count in threads):
            setting = Setting(stem, size, channels, count, batch)
            able = [ENGINE]
            able += [name for name in names if problems[name] is None and not (batch > 1 and RUNTIMES[name].static)]
            Worker(ENGINE, setting).close()  # its machine code is in the cache from here on, as it is with every use
            with contextlib.ExitStack() as open_workers:
                workers = [open_workers.enter_context(contextlib.closing(Worker(name, setting))) for name in able]
                if workers[0].timing.problem is not None:
                    raise BenchmarkError(f"the engine does not run this model: {workers[0].timing.problem}")
                total = rounds * len(threads) * len(batches)
                before = rounds * number
                timings += take_turns(workers, rounds, lambda done, _, b=before, t=total: progress(b + done, t))
    timings += [Timing(name, 0, 0, problem=problem) for name, problem in problems.items() if problem is not None]
    return timings


def text(timings: Sequence[Timing]) -> str:
    """Timings as a table, and a line for each runtime that is missing or failed."""
    header = ("runtime", "threads", "batch", "ms", "10 to 90 %", "images/s", "time / engine's", "start, ms", "MiB")
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    for timing in timings:
        if timing.problem is not None:
            notes.append(f"{timing.runtime}: not timed: {timing.problem}")
            continue
        middle, low, high = (1e3 * value for value in timing.seconds)
        rows.append(
            (
                timing.runtime, timing.threads, timing.batch, f"{middle:.2f}", f"{low:.2f} to {high:.2f}",
                f"{1e3 * timing.batch / middle:.0f}", f"{timing.ratio:.2f}", f"{1e3 * timing.first_s:.0f}",
                f"{timing.memory_bytes / 2**20:.0f}",
            )
        )  # fmt: skip
    missing = {name: runtime.missing for name, runtime in RUNTIMES.items() if runtime.missing}
    notes += [f"{name}: not installed: pip install {' '.join(packages)}" for name, packages in missing.items()]
    return "\n".join((table(rows, header=header, right=range(1, len(header))), "", *notes)).rstrip()


def machine() -> str:
    """What the figures were measured on, and when."""
    versions = f"Python {platform.python_version()}, mobilenetv2 {__version__}"
    return f"{cpu.model_name()}, {os.cpu_count()} CPUs, {platform.system()}, {versions}, {datetime.date.today()}"


def installed() -> list[str]:
    """The runtimes that can be used, except those that take longer to start than to be measured."""
    return [name for name, runtime in RUNTIMES.items() if not runtime.missing and name not in (PIXELS, "torch.compile")]


def prepare(model: ModelFile, stem: Path, size: tuple[int, int], pixels: Array | None = None) -> None:
    """The model file under `stem`, and the outputs and the mask that workers compare theirs with.

    They are of `pixels`, float32 [1, H, W, C] as the network takes them, or of noise.
    """
    from mobilenetv2.benchmark import masks
    from mobilenetv2.benchmark.worker import pixels_of
    from mobilenetv2.engine.reference import ReferenceBackend

    model_file.write(stem.with_suffix(MODEL), model)
    if pixels is not None:
        np.save(stem.with_suffix(".npy"), pixels)
    pixels = pixels_of(stem, size, channels=model.info.spec.backbone.in_channels, batch=1)
    expected: dict[str, Any] = dict(ReferenceBackend(model, dtype=np.float64).run(pixels))
    if model.info.task == "segmentation":
        masks.write(model.info, stem, expected["logits_map"].shape[2])
        expected["mask"] = masks.expected(model.info, expected["logits_map"], size)
    np.savez(stem.with_suffix(".npz"), **expected)


def convert(
    runtime: str, stem: Path, size: tuple[int, int], *, python: str = sys.executable,
    environment: Mapping[str, str] = os.environ, mask: bool = False,
) -> str | None:  # fmt: skip
    """Make the file that `runtime` reads, if it is not there or older than the code that makes it; the last line of
    what went wrong."""
    file, code = RUNTIMES[runtime].file(stem, mask=mask), Path(__file__).with_name("convert.py")
    if file.exists() and file.stat().st_mtime > code.stat().st_mtime:
        return None
    command = [python, "-m", "mobilenetv2.benchmark.convert", runtime, str(stem), *map(str, size), *["mask"] * mask]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1][:120]
