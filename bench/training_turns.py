"""Ways to train, each a process of its own, timed in turns: a machine is never the same for long."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from points import ROOT
from training_steps import Setting
from training_worker import Burst

AGREE, AGREE_HALF = 1e-3, 0.2  # of the largest gradient: what differs by more computes something else


@dataclass(slots=True)
class Process:
    """A way to train. `first` is of its first step; `problem` says why it is not timed."""

    name: str
    setting: Setting
    first: Burst | None = None
    problem: str = ""
    bursts: list[Burst] = field(default_factory=list)
    _process: Any = None

    def start(self) -> None:
        script = str(Path(__file__).with_name("training_worker.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, json.dumps(dataclasses.asdict(self.setting))],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(self.setting.threads)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first = self._reply()
        if self.first is not None and self.first.gradients > (AGREE_HALF if self.setting.half else AGREE):
            self.problem = f"its gradients differ by {self.first.gradients:.0e} of the largest"

    def burst(self, warm: int, steps: int) -> None:
        """`steps` steps more are in `bursts`, unless the process has ended; `warm` steps before them are not."""
        with contextlib.suppress(BrokenPipeError):
            print(warm, steps, file=self._process.stdin, flush=True)
        reply = self._reply()
        if reply is not None:
            self.bursts.append(reply)

    def close(self) -> None:
        self._process.stdin.close()  # its end ends the process, and the processes that this one has
        self._process.stdout.close()
        self._process.stderr.close()
        self._process.wait()

    def _reply(self) -> Burst | None:
        line = self._process.stdout.readline()
        if line:
            return Burst(**json.loads(line))
        self.problem = (self._process.stderr.read().strip().splitlines() or ["ended without a word"])[-1][:160]
        return None

    @property
    def seconds(self) -> list[float]:
        return [value for burst in self.bursts for value in burst.seconds]

    @property
    def pictures_per_second(self) -> float:
        """Over whole turns: batches come unevenly from several processes."""
        return self.setting.batch * len(self.seconds) / sum(self.seconds)

    @property
    def busy(self) -> float:
        """CPU seconds per second."""
        return sum(burst.cpu for burst in self.bursts) / sum(self.seconds)

    @property
    def faults(self) -> float:
        """Page faults of a step."""
        return sum(burst.faults for burst in self.bursts) / len(self.seconds)

    def ratio(self, other: Process) -> float:
        """Its time by that of `other`, the median of all turns."""
        pairs = zip(self.bursts, other.bursts, strict=True)
        return statistics.median(statistics.median(a.seconds) / statistics.median(b.seconds) for a, b in pairs)


def take_turns(settings: Mapping[str, Setting], rounds: int, warm: int, steps: int) -> dict[str, Process]:
    """All of them timed in changing order."""
    processes = [Process(name, setting) for name, setting in settings.items()]
    with contextlib.ExitStack() as stack:
        for process in processes:
            say(f"{process.name}, {process.setting.size} pixels, {process.setting.threads} threads")
            process.start()
            stack.callback(process.close)
        for turn in range(rounds):
            start = turn % len(processes)
            for process in (*processes[start:], *processes[:start]):
                if not process.problem:
                    process.burst(warm, steps)
            say(f"turn {turn + 1} of {rounds}")
    return {process.name: process for process in processes}


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
