"""Machine code kept on disk between runs. Weights are not in it.

One file per plan, CPU and version under `$XDG_CACHE_HOME/mobilenetv2/engine`, a folder that only its owner may
enter, because what lies in it is executed. `MOBILENETV2_CACHE=off` turns it off.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from mobilenetv2 import __version__, files, notes
from mobilenetv2.errors import FileError

LIMIT_BYTES = 64 << 20  # about 300 networks; the least recently used go first
_MAGIC = b"mobilenetv2 engine 3\n"
_DIGEST_BYTES = 32


def machine_code(plan: str, build: Callable[[], bytes], *, usable: Callable[[bytes], bool] = bool) -> bytes:
    """What `build` makes, or what it made before for the same `plan` with the same kernels, compiler and package.

    A damaged file, one of another owner, or one that is not `usable` is as good as none; a folder that cannot be
    written is no error, and where there is no home directory to have it in, that is said once.
    """
    if os.environ.get("MOBILENETV2_CACHE", "").lower() == "off":
        return build()
    try:
        place = folder()
    except FileError as error:
        notes.once("cache", f"the engine compiles every time and keeps nothing: {error}")
        return build()
    key = hashlib.sha256("\0".join((sources_digest(), *_versions(), plan)).encode()).hexdigest()
    path = place / f"{key}.code"
    found = _read(path, key)
    if found is None or not usable(found):
        found = build()
        _write(path, key, found)
    return found


def folder() -> Path:
    """Where the files lie. Raises `FileError` where there is no home directory."""
    return files.caches() / "mobilenetv2" / "engine"


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """A digest of the engine's own source, so that changed kernels are never answered with old code."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


@lru_cache(maxsize=1)
def _versions() -> tuple[str, str]:
    try:
        return __version__, metadata.version("llvmlite")
    except metadata.PackageNotFoundError:  # llvmlite in a bundle without metadata, or none: `build` says so
        return __version__, ""


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _read(path: Path, key: str) -> bytes | None:
    """The code in `path` if it is ours, whole, and writable by nobody else."""
    try:
        if not _ours(path.parent.lstat()):
            return None
        # opening a pipe would wait, and a link may lead anywhere
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not (stat.S_ISREG(status.st_mode) and _ours(status) and status.st_size <= LIMIT_BYTES):
                return None
            content = file.read()
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    code = content[head:]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) : head] != _digest(key, code):
        return None
    with suppress(OSError):
        os.utime(path)  # it was used now
    return code


def _ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _write(path: Path, key: str, code: bytes) -> None:
    """Under a temporary name first: another process sees the whole file or none."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + _digest(key, code) + code)
            os.replace(temporary, path)
        except BaseException:  # no room, something in the way, Ctrl-C
            Path(temporary).unlink(missing_ok=True)
            raise
        _trim(path.parent)


def _trim(place: Path) -> None:
    """Forget the least recently used files beyond the limit, and what an interrupted write left behind."""
    found = sorted(
        ((status.st_mtime, status.st_size, path) for path in place.iterdir() if (status := path.lstat())), reverse=True
    )
    total = 0
    newest = found[0][0] if found else 0
    for changed, size, path in found:
        total += size
        if total > LIMIT_BYTES or (path.name.startswith(".new-") and changed < newest - 3600):
            with suppress(OSError):  # a folder that somebody put there
                path.unlink(missing_ok=True)
