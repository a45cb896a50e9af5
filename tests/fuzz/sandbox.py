"""One case in a forked child, under limits, and what became of it: the only place that knows what a fault is."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import mobilenetv2
from mobilenetv2.errors import Error

_MAKING_S = 60  # of CPU time for a case's input and what another reader thinks of it; the slowest takes 5
CPU_S = 10  # of one case; the slowest real input, a photo of 100 megapixels, takes 3
STILL_S = 15  # of no work at all, every thread asleep: it waits for a pipe, a server or itself
WALL_S = 600  # whatever it does; a machine with other work gives a case a fraction of a core
MEMORY = 1 << 30  # bytes beyond the parent's; a photo of 100 megapixels is 300 MB
LONGEST = 2_000  # characters of one message
_ADDRESSES = MEMORY + (1 << 28)  # so much may be asked for: not all of it is filled
_STACK = 1 << 23
_DISK = 1 << 28

ROOT = os.path.dirname(os.path.abspath(mobilenetv2.__file__)) + os.sep
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DUMPED = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, what separates lines and paragraphs
_TURNING = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # bidirectional marks

Outcome = Literal["accepted", "refused", "fault"]


class WrongAnswerError(Exception):
    """What a case raises where an answer is there and is not right."""


@dataclass(frozen=True, slots=True)
class Case:
    """An input that was made in the working folder. `run` gives it to the project; `sound` says whether it gets past
    the first check there, such as a zip's directory: it asks another reader than the project's."""

    run: Callable[[], object]
    sound: Callable[[], bool]
    note: str = ""
    threads: int = 2  # that it may start; each reserves 8 MB of addresses for its stack


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case. Of a fault, `kind` is the exception or the limit, and `where` the innermost line of the
    project; `detail` is for people."""

    outcome: Outcome
    past: bool
    kind: str = ""
    where: str = ""
    detail: str = ""
    note: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


def judge(make: Callable[[], Case], folder: Path) -> Verdict:
    """Make a case in `folder`, which is the child's working folder, and run it. Both happen in the child."""
    files = {name: folder.parent / f"{folder.name}.{name}" for name in ("out", "err", "crash")}
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(make, folder, files, writing)
    os.close(writing)
    lines, stopped = _lines(reading, child)
    os.close(reading)
    _, status, used = os.wait4(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left behind
    return _verdict(lines, stopped, status, used, files["crash"])


def _lines(handle: int, child: int) -> tuple[list[dict[str, Any]], str]:
    """What the child says, line by line, and why it was ended, where it was."""
    data, began, stopped = b"", time.monotonic(), ""
    still, seen = began, 0
    while True:
        now = time.monotonic()
        if select.select([handle], [], [], 0.5 if now - began < 2 else 2)[0]:
            if not (more := os.read(handle, 1 << 16)):
                break
            data += more
            continue
        awake, work = _activity(child)
        if awake or work != seen:
            still, seen = now, work
        if now - began > WALL_S or now - still > STILL_S:
            stopped = f"more than {WALL_S} s" if now - began > WALL_S else "waits without end"
            _dump(child)
            os.killpg(child, signal.SIGKILL)
            break
    return [json.loads(line) for line in data.split(b"\n")[:-1]], stopped


def _activity(child: int) -> tuple[bool, int]:
    """Whether one of its threads works or would, and how long all of them did."""
    awake, work = False, 0
    for thread in Path(f"/proc/{child}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            fields = thread.read_text().rpartition(") ")[2].split()
            awake = awake or fields[0] in "RD"
            work += int(fields[11]) + int(fields[12])
    return awake, work


def _dump(child: int) -> None:
    """Let it write where it is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGXCPU)
        time.sleep(0.3)


def _verdict(
    lines: list[dict[str, Any]], stopped: str, status: int, used: resource.struct_rusage, crash: Path
) -> Verdict:
    begun = next((line for line in lines if "resident" in line), None)
    if begun is None:
        return Verdict("fault", False, "the fuzzer", "fuzz", "no case was made: " + _text(crash)[:1000])
    beyond = used.ru_maxrss * 1024 - begun["resident"]
    found = next((Verdict(**line) for line in lines if "outcome" in line), None)
    more = {"note": begun["note"], "seconds": used.ru_utime + used.ru_stime, "mebibytes": max(beyond, 0) / (1 << 20)}
    if found is None:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if stopped:
            kind = stopped
        elif number in (signal.SIGXCPU, signal.SIGKILL):
            kind = f"more than {CPU_S} s of CPU"
        else:
            kind = signal.Signals(number).name if number else f"ended with {os.waitstatus_to_exitcode(status)}"
        dumped = _text(crash)
        found = Verdict("fault", begun["sound"], kind, _dumped(dumped), dumped[:4000])
    elif found.outcome != "fault" and beyond > MEMORY:
        found = Verdict("fault", found.past, "more than 1 GiB", found.where, found.detail)
    return Verdict(**{**asdict(found), **more})


def _child(make: Callable[[], Case], folder: Path, files: dict[str, Path], handle: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        crash = open(files["crash"], "w")  # noqa: SIM115 - the process ends with it
        faulthandler.enable(crash)
        faulthandler.register(signal.SIGXCPU, crash, chain=True)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(files[name], os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        resource.setrlimit(resource.RLIMIT_CPU, (_MAKING_S, resource.RLIM_INFINITY))
        try:
            case = make()
            sound = _is_sound(case)
        except BaseException:
            crash.write(traceback.format_exc())
            crash.flush()
            raise
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")  # what making the case took is forgotten
        _say(handle, {"resident": _pages(1), "sound": sound, "note": case.note})
        _limit(case.threads)
        _say(handle, asdict(_run(case, sound)))
    finally:
        sys.stdout.flush()
        os._exit(0)


def _is_sound(case: Case) -> bool:
    """Another reader's opinion: whatever it raises, or warns of, is a no."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case.sound()
    except Exception:  # noqa: BLE001 - its errors are many libraries'
        return False


def _run(case: Case, sound: bool) -> Verdict:
    warned: list[tuple[str, str, str]] = []

    def warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        warned.append((category.__name__, _innermost(traceback.extract_stack()), f"{filename}:{lineno}: {message}"))

    def unraisable(found: Any) -> None:
        error = found.exc_value
        warned.append(
            (type(error).__name__, _innermost(traceback.extract_tb(error.__traceback__)), f"ignored: {error}")
        )

    warnings.simplefilter("always")
    warnings.showwarning = warn  # recorded, not raised, so that the project goes the way that it goes for people
    sys.unraisablehook = unraisable
    threading.excepthook = unraisable
    refused = where = ""
    try:
        case.run()
    except Error as error:
        refused, where = str(error), _of_error(error)
        if "MemoryError" in refused:  # it was caught, and called a damage
            return Verdict("fault", True, "more than 1 GiB", where, refused[:4000])
        if wrong := wrong_message(refused):
            return Verdict("fault", True, wrong, where, refused[:4000])
    except BaseException as error:  # noqa: BLE001 - every other exception is what is looked for
        detail = "".join(traceback.format_exception(error))
        return Verdict("fault", sound, type(error).__name__, _of_error(error), detail[-4000:])
    if warned:
        kind, where, detail = warned[0]
        return Verdict("fault", True, kind, where, detail[:2000])
    if refused:
        return Verdict("refused", sound, "", where, refused)
    return Verdict("accepted", True)


def wrong_message(text: str) -> str | None:
    """What is wrong with a message of one line, None where nothing is."""
    if len(text) > LONGEST:
        return "a message that is too long"
    if "\n" in text or "\r" in text:
        return "a message of several lines"
    return "a message with control characters" if has_controls(text) else None


def has_controls(text: str) -> bool:
    """Whether a terminal would obey a character of it, or show others in another order."""
    if text.isascii() and text.isprintable():
        return False
    return any(unicodedata.category(letter) in _ESCAPED or letter in _TURNING for letter in text)


def shown(text: str, most: int = 200) -> str:
    """The text as the fuzzer itself may print it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:most])


def _limit(threads: int) -> None:
    gc.collect(0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_S + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 2))
    addresses = _pages(0) + _ADDRESSES + threads * _STACK
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_DISK, _DISK))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _pages(column: int) -> int:
    """Bytes of addresses (0) or of memory (1) that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[column]) * resource.getpagesize()


def _say(handle: int, value: object) -> None:
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(handle, data) :]


def _of_error(error: BaseException) -> str:
    """The innermost line of the project, of the error itself, or of what it was made of."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(stack: traceback.StackSummary) -> str:
    for frame in reversed(stack):
        if frame.filename.startswith(ROOT):
            return f"{frame.filename.removeprefix(ROOT)}:{frame.lineno}"
    outside = [frame for frame in stack if frame.filename.startswith(_OWN)]
    return f"fuzz/{os.path.basename(outside[-1].filename)}:{outside[-1].lineno}" if outside else "?"


def _dumped(text: str) -> str:
    """The innermost line of the project in what faulthandler wrote, whose calls begin with the innermost."""
    for file, line, _ in _DUMPED.findall(text):
        if file.startswith(ROOT):
            return f"{file.removeprefix(ROOT)}:{line}"
    return "?"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def scratch() -> Path:
    """A folder in memory where there is one: a case writes files of some KB, thousands of times."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=base))
