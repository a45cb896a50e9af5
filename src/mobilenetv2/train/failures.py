"""What ends a run early, in one line each: what happened, the way out, and what is there."""

from __future__ import annotations

import re
import shutil

import torch

from mobilenetv2.errors import DatasetError, DownloadError, FileError, ImageError, TrainingError
from mobilenetv2.train.recipes import Recipe

_OF_WORKERS = (DatasetError, DownloadError, FileError, ImageError)  # a worker sends its traceback too
_SIGNAL = re.compile(r"is killed by signal: ([\w ]+)")


class Interrupted(TrainingError):  # noqa: N818 : not an error
    """The run was stopped, by Ctrl-C or SIGTERM, before there was a model."""

    exit_code = 130


def explained(error: Exception, recipe: Recipe, left: str) -> TrainingError | None:
    """`error` as the user can mend it, with what is `left` of the run at the end; None where it is our own bug."""
    reason = _reason(error, recipe)
    return None if reason is None else TrainingError(f"{reason}; {left}")


def _reason(error: Exception, recipe: Recipe) -> str | None:
    if isinstance(error, TrainingError):
        return str(error)
    if isinstance(error, _OF_WORKERS):
        text = error.args[0] if error.args else ""
        return str(text).splitlines()[-1].removeprefix(f"mobilenetv2.errors.{type(error).__name__}: ")
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        half = max(recipe.batch_size // 2, 2)
        return (
            f"memory does not suffice for batches of {recipe.batch_size}: try --set batch_size={half} "
            f"--set accumulate={2 * recipe.accumulate}, or --recompute"
        )
    if isinstance(error, OSError):
        of = f"{error.filename}: " if error.filename else ""
        return (
            f"the system refuses to go on ({of}{error.strerror or error}): --workers 0 needs fewer files and processes"
        )
    # PyTorch says "exited unexpectedly", with the signal in what that comes from
    return _of_worker(f"{error} {error.__cause__ or ''}") if isinstance(error, RuntimeError) else None


def _of_worker(text: str) -> str | None:
    """Why a process that decodes pictures ended; None where the message is not about one."""
    found = _SIGNAL.search(text)
    if found is not None and found[1].startswith("Bus error"):
        size = _shared_memory()
        return (
            f"the processes that decode pictures have too little shared memory{size}: use --workers 0, or give the "
            "container more (docker run --shm-size=1g)"
        )
    if found is not None:
        why = "as the system does when memory is short" if found[1].startswith("Killed") else "from outside"
        return f"a process that decodes pictures was ended ({found[1]}), {why}: --workers 0 does without them"
    if "DataLoader worker" in text and "exited unexpectedly" in text:
        return "a process that decodes pictures has ended unexpectedly: --workers 0 does without them"
    if "Too many open files" in text or "ancdata" in text:
        return "the processes that decode pictures need more open files than allowed (ulimit -n): use --workers 0"
    if "can't start new thread" in text:
        return "the system allows no more threads or processes (ulimit -u): use --workers 0"
    return None


def _shared_memory() -> str:
    try:
        return f" (/dev/shm has {shutil.disk_usage('/dev/shm').total / 2**20:,.0f} MiB)"
    except OSError:
        return ""


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
