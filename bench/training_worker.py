"""One way to train, in a process of its own, which is told over stdin how many steps to take.

    python bench/training_worker.py SETTING     (a `Setting` as JSON; bench/training_turns.py starts these)

After the first step, and then after each line with two numbers, steps to warm up and steps to time, the answer is one
line of JSON: a `Burst`'s fields.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset
from training_steps import DECAY, MOMENTUM, RATE, Setting, State, build, differences, fixed, gradients, steps

from mobilenetv2 import image
from mobilenetv2.benchmark.worker import _peak_bytes
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import MobileNetV2, save_tensors
from mobilenetv2.train import find, fit
from mobilenetv2.train.batches import Batch, Batches, Keys, training_batches
from mobilenetv2.train.classification import Classifier
from mobilenetv2.train.memory import keeping_memory
from mobilenetv2.train.pictures import CACHE_BYTES, open_training_data
from mobilenetv2.train.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Burst:
    """`seconds` of each step; of all of them `cpu` seconds, those of child processes too, and page `faults`.

    `peak_bytes` is the most memory of the process, or of its GPU, until now. Only the first burst has `kept_bytes`,
    which waited for the first step's gradients, and how far that step is from torchvision's: `loss` and `gradients`,
    as parts of the loss and of the largest gradient.
    """

    seconds: list[float]
    cpu: float
    faults: int
    peak_bytes: int
    kept_bytes: int = 0
    loss: float = 0.0
    gradients: float = 0.0


class Beat:
    """Called before each step: times the one before, reports, and waits for what to do next."""

    def __init__(self, setting: Setting) -> None:
        self.kept_bytes = 0
        self._setting = setting
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever a library prints is no reply
        self._warm, self._due = 1, 2  # calls: the first comes before any step
        self._seconds: list[float] = []
        self._before = _cpu_seconds(), _page_faults()
        self._began = time.perf_counter()

    def __call__(self, state: Callable[[], State] | None = None) -> None:
        if self._setting.device != "cpu":
            torch.cuda.synchronize()
        self._seconds.append(time.perf_counter() - self._began)
        if len(self._seconds) == self._due:
            self._reply(state)
        elif len(self._seconds) == self._warm:
            self._before = _cpu_seconds(), _page_faults()
        self._began = time.perf_counter()

    def _reply(self, state: Callable[[], State] | None) -> None:
        cpu, faults = _cpu_seconds() - self._before[0], _page_faults() - self._before[1]
        burst = Burst(self._seconds[self._warm :], cpu, faults, self._peak(), self.kept_bytes)
        if state is not None and self._setting.comparable:
            loss, gradient = differences(self._setting, *state())
            burst = dataclasses.replace(burst, loss=loss, gradients=gradient)
        print(json.dumps(dataclasses.asdict(burst)), file=self._replies, flush=True)
        with contextlib.suppress(AttributeError):  # whose turn it is needs the memory
            ctypes.CDLL(None).malloc_trim(0)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        warm, timed = map(int, line.split())
        self._warm, self._due, self._seconds = warm, warm + timed, []

    def _peak(self) -> int:
        return _peak_bytes() if self._setting.device == "cpu" else torch.cuda.max_memory_allocated()


def main(setting: Setting) -> None:
    if setting.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(setting.threads)
    torch.set_flush_denormal(True)  # as `fit` does
    beat = Beat(setting)
    with keeping_memory() if setting.keeping else contextlib.nullcontext():
        {"fit": _fit, "pictures": _pictures}.get(setting.way, _bare)(setting, beat)


def _bare(setting: Setting, beat: Beat) -> None:
    beat()
    for beat.kept_bytes, state in steps(setting):
        beat(state)


def _fit(setting: Setting, beat: Beat) -> None:
    """`fit` itself, which `beat` holds up between steps."""
    started = Classifier.on_train_batch_start

    def start(module: Classifier, batch: Batch, batch_idx: int) -> None:
        beat(lambda: (module._losses[-1].item(), gradients(module.network)))
        started(module, batch, batch_idx)

    Classifier.on_train_batch_start = start  # type: ignore[method-assign]
    if setting.source == "fixed":
        batches = Batches(
            _Fixed(fixed(setting)), lambda epoch: [[(0, i) for i in range(setting.batch)]] * 1000, workers=0
        )
        task = importlib.import_module("mobilenetv2.train.classification_task")
        vars(task)["training_batches"] = lambda *args, **division: batches
    network = build(dataclasses.replace(setting, way="ours"))[0]
    assert isinstance(network, MobileNetV2)
    info = ModelInfo(network.spec, image.recipe("torchvision-v2", setting.size))
    fit(
        Path(setting.work) / "pictures.csv",
        Path(setting.work) / f"run_{os.getpid()}",
        recipe=_recipe(setting),
        init=ModelFile(info, save_tensors(network)),
        progress=False,
        accelerator="cpu" if setting.device == "cpu" else "gpu",
        precision="bf16-mixed" if setting.half else "32-true",
        workers=setting.workers,
        recompute=setting.recompute,
        cache_bytes=_cache_bytes(setting),
    )


def _pictures(setting: Setting, beat: Beat) -> None:
    data = open_training_data(Path(setting.work) / "pictures.csv", seed=0, cache_bytes=_cache_bytes(setting))
    batches = training_batches(data.train, _recipe(setting), setting.size, workers=setting.workers)
    beat()
    for epoch in range(100_000):
        batches.set_epoch(epoch)
        for _ in batches:
            beat()


def _recipe(setting: Setting) -> Recipe:
    """A published recipe with the bare loop's optimiser and batches, for as long as it is wanted."""
    return dataclasses.replace(
        find(setting.recipe), epochs=100_000, batch_size=setting.batch, optimiser="sgd", learning_rate=RATE,
        momentum=MOMENTUM, nesterov=False, weight_decay=DECAY, schedule="constant", warmup=0.0, dropout=0.0,
        train_size=None,
    )  # fmt: skip


def _cache_bytes(setting: Setting) -> int:
    return CACHE_BYTES if setting.source == "memory" else 0


class _Fixed(Dataset[Batch]):
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __getitem__(self, keys: Keys) -> Batch:
        return self._batch


def _cpu_seconds() -> float:
    """What this process and its children have used, those that have ended too."""
    try:
        children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    except OSError:  # not Linux
        return time.process_time()
    ticks = 0
    for pid in ("self", *children):
        with contextlib.suppress(OSError):  # ended meanwhile
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main(Setting(**json.loads(sys.argv[1])))
