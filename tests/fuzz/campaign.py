"""Many cases: shared out over processes, counted by class, faults told apart by where they happened, and kept."""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fuzz import sandbox
from fuzz.sandbox import Verdict
from fuzz.targets import Target

_MODULES = (
    "models", "checkpoints", "keras_files", "graphs", "pictures", "annotations", "filesets", "engines",
    "downloads", "commands",
)  # fmt: skip
_SAID_EVERY_S = 10.0  # where stderr is no terminal
_PAST = 0.2  # of each class's cases, at least: else it tests the front door only


@dataclass(slots=True)
class Fault:
    """A kind of fault: the same exception at the same line. `first` is the case that is kept."""

    kind: str
    where: str
    first: int
    detail: str
    note: str
    count: int = 1


@dataclass(slots=True)
class Result:
    """What came of one class. `past`: cases that got past the first check; `seconds`: of CPU, of all its cases."""

    cases: int = 0
    past: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    largest: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)


def targets() -> dict[str, Target]:
    """Every class by name."""
    modules = [importlib.import_module(f"fuzz.{name}") for name in _MODULES]
    return {target.name: target for module in modules for target in module.TARGETS}


def shares(chosen: Sequence[Target], cases: int, *, each: bool = False) -> dict[Target, int]:
    """How many cases each class gets: `cases` each, or together, by their shares."""
    whole = sum(target.share for target in chosen)
    return {target: cases if each else max(1, round(cases * target.share / whole)) for target in chosen}


def run(counts: dict[Target, int], *, seed: int, jobs: int, out: Path) -> dict[str, Result]:
    """Run cases 0 to n - 1 of each class, the classes one after the other, each in `jobs` processes."""
    found = {target.name: Result() for target in counts}
    progress = _Progress(sum(counts.values()))
    for target, count in counts.items():
        shutil.rmtree(out / target.name, ignore_errors=True)
        workers = [_start(target, seed, range(job, count, jobs), out) for job in range(min(jobs, count))]
        open_pipes = {handle: b"" for _, handle in workers}
        while open_pipes:
            for handle in select.select(list(open_pipes), [], [])[0]:
                *lines, rest = (open_pipes[handle] + (more := os.read(handle, 1 << 16))).split(b"\n")
                open_pipes[handle] = rest
                if not more:
                    os.close(handle)
                    del open_pipes[handle]
                for line in lines:
                    told = json.loads(line)
                    _count(found[target.name], told["number"], Verdict(**told["verdict"]))
                    progress.advance(target.name, sum(len(result.faults) for result in found.values()))
        for process, _ in workers:
            if os.waitpid(process, 0)[1]:
                raise SystemExit(f"a process of the class {target.name} ended before its time: see above")
    progress.end()
    return found


def replay(target: Target, seed: int, number: int, out: Path) -> int:
    """Run one case again, say everything about it, and leave its input in `out`."""
    scratch = sandbox.scratch()
    try:
        verdict = _one(target, _prepared(target, scratch), seed, number, scratch, out / "replay")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{target.name} {number} of seed {seed}: {verdict.note}")
    print(f"{verdict.outcome} {verdict.kind} {verdict.where}, {verdict.seconds:.2f} s, {verdict.mebibytes:.0f} MiB")
    print(verdict.detail)
    print(f"its input: {out / 'replay' / str(number)}")
    return verdict.outcome == "fault"


def text(found: dict[str, Result], *, seed: int, out: Path) -> str:
    """The table, then each fault with the command that repeats it."""
    rows = [("class", "cases", "past", "accepted", "faults", "cases/s", "slowest s", "largest MiB")]
    for name, one in found.items():
        speed = f"{one.cases / one.seconds:.0f}" if one.seconds else ""
        past, accepted = (f"{count} ({100 * count / max(one.cases, 1):.0f} %)" for count in (one.past, one.accepted))
        ends = (f"{one.slowest:.1f}", f"{one.largest:.0f}")
        rows.append((name, f"{one.cases:,}", past, accepted, str(len(one.faults)), speed, *ends))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    total = sum(one.cases for one in found.values())
    lines.append(f"{total:,} cases, {sum(len(one.faults) for one in found.values())} faults, seed {seed}")
    for name, one in found.items():
        if one.cases >= 50 and one.past < _PAST * one.cases:
            lines.append(f"{name}: only {one.past} of {one.cases} cases got past the first check: a fifth should")
        for fault in sorted(one.faults.values(), key=lambda fault: -fault.count):
            last = (
                fault.detail.strip().rpartition("\n")[2] if fault.kind[:1].isupper() and "SIG" not in fault.kind else ""
            )
            lines.append(f"\n{name}: {fault.kind} at {fault.where}, {fault.count} times ({fault.note})")
            if last:
                lines.append(f"    {sandbox.shown(last)}")
            lines.append(
                f"    again: make fuzz SEED={seed} CLASS={name} CASE={fault.first}    kept: {out}/{name}/{fault.first}"
            )
    return "\n".join(lines)


def _count(result: Result, number: int, verdict: Verdict) -> None:
    result.cases += 1
    result.past += verdict.past
    result.accepted += verdict.outcome == "accepted"
    result.seconds += verdict.seconds
    result.slowest, result.largest = max(result.slowest, verdict.seconds), max(result.largest, verdict.mebibytes)
    if verdict.outcome == "fault":
        key = f"{verdict.kind} {verdict.where}"
        if key in result.faults:
            result.faults[key].count += 1
        else:
            result.faults[key] = Fault(verdict.kind, verdict.where, number, verdict.detail, verdict.note)


def _start(target: Target, seed: int, numbers: range, out: Path) -> tuple[int, int]:
    """A process that runs these cases of a class and tells of each on a pipe: its number, and the pipe."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    status = 1
    scratch = sandbox.scratch()
    try:
        os.close(reading)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        make = _prepared(target, scratch)
        gc.collect()
        gc.freeze()  # the children's collector need not look at what they all share, which would copy its pages
        seen: set[str] = set()
        with open(writing, "wb", buffering=0) as pipe:
            for number in numbers:
                verdict = _one(target, make, seed, number, scratch, out / target.name, seen)
                pipe.write(json.dumps({"number": number, "verdict": asdict(verdict)}).encode() + b"\n")
        status = 0
    except BaseException as error:
        if not isinstance(error, BrokenPipeError):
            sys.excepthook(type(error), error, error.__traceback__)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        sys.stderr.flush()
        os._exit(status)


def _prepared(target: Target, scratch: Path) -> Any:
    """The class's maker, made in an environment of its own: nobody's cache, home or proxy."""
    for name, folder in (("HOME", "home"), ("XDG_CACHE_HOME", "cache"), ("MOBILENETV2_HOME", "ours")):
        os.environ[name] = str(scratch / folder)
        (scratch / folder).mkdir()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update({"no_proxy": "*", "NO_COLOR": "1", "COLUMNS": "120"})
    (scratch / "good").mkdir()
    return target.prepare(scratch / "good")


def _one(
    target: Target, make: Any, seed: int, number: int, scratch: Path, out: Path, seen: set[str] | None = None
) -> Verdict:
    """The verdict on a case. Its folder is kept in `out` where it is the first of its fault, or `seen` is None."""
    folder = scratch / str(number)
    folder.mkdir()
    verdict = sandbox.judge(partial(make, random.Random(f"{seed} {target.name} {number}"), folder), folder)
    key = f"{verdict.kind} {verdict.where}"
    if seen is None or (verdict.outcome == "fault" and key not in seen):
        if seen is not None:
            seen.add(key)
        kept = out / str(number)
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, kept, symlinks=True, ignore_dangling_symlinks=True, ignore=_special)
        about = json.dumps({**asdict(verdict), "seed": seed, "class": target.name, "case": number}, indent=1)
        (out / f"{number}.json").write_text(about)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("out", "err", "crash"):
        (scratch / f"{number}.{name}").unlink(missing_ok=True)
    return verdict


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes and sockets, which cannot be copied."""
    places = [Path(folder, name) for name in names]
    return [place.name for place in places if not (place.is_file() or place.is_dir() or place.is_symlink())]


class _Progress:
    """A line on stderr: how many cases, how fast, how many faults, how long it will take."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._began, self._said = total, 0, time.monotonic(), 0.0
        self._terminal = sys.stderr.isatty()

    def advance(self, name: str, faults: int) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._said < (0.2 if self._terminal else _SAID_EVERY_S):
            return
        self._said = now
        speed = self._done / max(now - self._began, 1e-9)
        left = int((self._total - self._done) / speed)
        line = (
            f"{name}: {self._done:,} of {self._total:,} cases, {speed:.0f}/s, {faults} faults, "
            f"{left // 60}:{left % 60:02} left"
        )
        print(
            f"\r{line:<79}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr, flush=True
        )

    def end(self) -> None:
        if self._terminal:
            print(f"\r{'':79}\r", end="", file=sys.stderr, flush=True)
