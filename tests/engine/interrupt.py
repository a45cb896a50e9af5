"""Ctrl-C, once and twice, at every moment of an engine's, its masks' and its averages' work: what they answer then.

`python tests/engine/interrupt.py --pairs 500 --runs 10000` is the long version of what `test_interruption` runs.
"""

from __future__ import annotations

import argparse
import dis
import inspect
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from mobilenetv2 import engine, upsample
from mobilenetv2.engine import Engine
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.averages import Averages
from mobilenetv2.engine.masks import Masks
from mobilenetv2.looks import Look
from mobilenetv2.model_file import ModelFile

Array = np.ndarray[Any, Any]
BATCHES = (1, 4, 33)
ENGINE = str(Path(engine.__file__).parent)
# The instructions after which CPython looks for signals (3.11 to 3.13); between others no Ctrl-C can strike.
LOOKS_FOR_SIGNALS = {"RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}
SENDER = """
import os, sys, time
for line in sys.stdin:
    for pause in map(float, line.split()):
        time.sleep(pause)
        os.kill(os.getppid(), 2)
    print("sent", flush=True)
"""


class Caller:
    """One thing that is called again and again, and the answer that it must give each time."""

    def __init__(self, name: str, call: Callable[[], Array]) -> None:
        self.name, self._call, self._expected = name, call, call()
        self.runs = self.wrong = 0
        begun = time.monotonic()
        call()
        self.seconds = time.monotonic() - begun

    def run(self) -> None:
        """Call it once; an answer that is not the expected one counts as wrong."""
        junk = np.full(self._expected.shape, 7, self._expected.dtype)
        del junk  # what an answer that nobody wrote would consist of
        right = np.array_equal(self._call(), self._expected)
        self.runs += 1
        self.wrong += not right


def callers(model: ModelFile, size: int, threads: int) -> list[Caller]:
    """An engine with batches of each size, masks, and averages."""
    rng = np.random.default_rng(0)
    made = Engine(model, size=size, threads=threads)
    found: list[Caller] = []
    for batch in BATCHES:
        images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
        found.append(Caller(f"batch {batch}", lambda images=images: made.run(images)["logits"]))
    logits = rng.normal(0, 1, (3, 9, 9, 21)).astype(np.float32)
    places = upsample.resized(9, 65, align_corners=True)
    masks, averages = Masks(9, 21, cpus.host(), threads=threads), Averages(cpus.host(), threads=threads)
    seen = [Look(one, places, places) for one in logits]
    found.append(Caller("masks", lambda: masks(logits, places, places)))
    found.append(Caller("averages", lambda: averages(seen, (65, 65))))
    return found


# ---- real signals


class Struck:
    """How many Ctrl-C have come. They are raised only where `loud` is set, so that the harness itself is not hit."""

    def __init__(self) -> None:
        self.count, self.loud = 0, False
        signal.signal(signal.SIGINT, self._strike)

    def _strike(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.loud:
            raise KeyboardInterrupt

    def work(self, caller: Caller, until: int, longest_s: float) -> None:
        """Call again and again until so many have come, or too much time has passed: two at once count as one."""
        begun = time.monotonic()
        while self.count < until and time.monotonic() < begun + longest_s:
            self.loud = True
            caller.run()
            self.loud = False


class Sender:
    """Another process that sends SIGINT to this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         start_new_session=True)  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._sent = self._process.stdin, self._process.stdout

    def send(self, *pauses: float) -> None:
        """A signal after each of the pauses, in seconds."""
        self._orders.write((" ".join(map(str, pauses)) + "\n").encode())
        self._orders.flush()

    def wait(self) -> None:
        assert self._sent.readline() == b"sent\n"

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


def pairs(caller: Caller, count: int, longest_s: float, sender: Sender, struck: Struck) -> None:
    """`count` times two signals, up to `longest_s` apart; then the answers must be right."""
    rng = random.Random(count)
    for _ in range(count):
        until = struck.count + 2
        sender.send(rng.uniform(0, 0.01), rng.uniform(0, longest_s))
        try:
            try:
                struck.work(caller, until, 0.3 + longest_s)
            except KeyboardInterrupt:  # goes on, as a notebook would
                struck.work(caller, until, 0.3 + longest_s)
        except KeyboardInterrupt:
            pass
        struck.loud = False
        sender.wait()
        for _ in range(3):
            caller.run()


def beside_single_ones(caller: Caller, runs: int, sender: Sender, struck: Struck) -> None:
    """`runs` answers, while a signal comes every few of them, 5 ms apart or more."""
    rng = random.Random(runs)
    until = caller.runs + runs
    while caller.runs < until:
        sender.send(rng.uniform(0.005, 0.01 + 5 * caller.seconds))
        with suppress(KeyboardInterrupt):
            struck.work(caller, struck.count + 1, 1 + 10 * caller.seconds)
        struck.loud = False
        sender.wait()


# ---- at every instruction where one can strike


def struck_at(work: Callable[[], Any], first: int, second: int | None = None) -> bool:
    """Do `work`, with a Ctrl-C at the `first` place of the engine's own code where one can strike, and another at the
    `second` call or return after that. False where the work was done before."""
    seen = after = 0
    last: dict[FrameType, str] = {}
    hit = False

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen, hit
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            before, last[frame] = last.get(frame), _instructions(frame.f_code)[frame.f_lasti]
            if before in LOOKS_FOR_SIGNALS:
                seen += 1
                if seen == first:
                    hit = True
                    if second is not None:
                        sys.setprofile(profile)
                    raise KeyboardInterrupt  # ends the tracing
        return trace

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal after
        # one in a generator that is being thrown away would be printed and lost
        if frame.f_code.co_filename.startswith(ENGINE) and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            after += 1
            if after == second:
                raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
        sys.setprofile(None)
    return hit


_KNOWN: dict[CodeType, dict[int, str]] = {}


def _instructions(code: CodeType) -> dict[int, str]:
    if code not in _KNOWN:
        _KNOWN[code] = {found.offset: found.opname for found in dis.get_instructions(code)}
    return _KNOWN[code]


def at_every_place(caller: Caller, seconds: int) -> int:
    """Strike everywhere in a call and, for each place, at up to `seconds` events after it; after each, and after one
    more strike while the engine renews itself, the answer must be right. How many places there are."""
    for first in itertools.count(1):
        hit = False
        for second in (None, *range(1, seconds + 1)):
            hit = struck_at(caller.run, first, second)
            struck_at(caller.run, 1 + (first * 7 + (second or 0)) % 60)  # within the renewal
            caller.run()
        if not hit:
            return first - 1
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="a classifier's model file; else random weights")
    chosen = parser.parse_args()
    if chosen.model:
        from mobilenetv2 import model_file

        model = model_file.read(chosen.model)
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from conftest import make_random_model

        model = make_random_model(outputs=10, stages=((1, 16, 1, 1), (6, 24, 2, 2), (4, 40, 2, 1)))
    measured = callers(model, 64, chosen.threads)
    struck, sender = Struck(), Sender()
    for caller in measured:
        pairs(caller, chosen.pairs, 0.05, sender, struck)
        print(f"{caller.name}: {chosen.pairs} pairs, {struck.count} strikes so far, {caller.runs} answers, "
              f"{caller.wrong} wrong", flush=True)  # fmt: skip
    for caller in measured:
        caller.runs = caller.wrong = 0
        beside_single_ones(caller, chosen.runs, sender, struck)
        print(f"{caller.name}: {caller.runs} answers beside single Ctrl-Cs ({struck.count} strikes so far), "
              f"{caller.wrong} wrong", flush=True)  # fmt: skip
    sender.close()
    sys.exit(any(caller.wrong for caller in measured))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
