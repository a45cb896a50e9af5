"""One run at a time in a folder: a lock that goes with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mobilenetv2.errors import FileError, UsageError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

NAME = ".lock"

_held: set[int] = set()  # descriptors of the locks of this process


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this block no other process gets this far in the same folder, which is made if it does not exist.

    What is made here and still empty at the end is removed. Where the system or the file system has no locks, nothing
    is guarded. Raises `UsageError` where another run is at work, `FileError` where the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder for the run")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = _lock(folder / NAME)
        except OSError as error:
            raise FileError(f"cannot write {folder}: {error.strerror or error}") from None
        try:
            yield
        finally:
            if handle is not None:
                _held.discard(handle)
                with contextlib.suppress(OSError):
                    (folder / NAME).unlink(missing_ok=True)
                os.close(handle)
    finally:
        for path in made:  # the deepest first
            with contextlib.suppress(OSError):
                path.rmdir()


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock. Raises `OSError` where the file cannot be made."""
    if fcntl is None:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise UsageError(
                f"another run is at work in {path.parent}{holder}: wait until it has ended, or choose another folder "
                "(--out)"
            ) from None
        except OSError:  # a file system without locks
            os.close(handle)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if _is(handle, path):
            break
        os.close(handle)  # its holder removed it as it ended: this is no longer the file of that name
    with contextlib.suppress(OSError):  # a full disk: nobody can be told who it is
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    _held.add(handle)
    return handle


def _is(handle: int, path: Path) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)


def _holder(handle: int) -> str:
    try:
        number = os.pread(handle, 20, 0).decode().strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return f" (process {number})" if number.isdecimal() else ""


def _let_go() -> None:
    """Workers that decode pictures are forks, and may outlive a killed run by some seconds: they hold nothing."""
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
