"""Machine code kept on disk between runs. Weights are not in it.

One file per plan, CPU and version under `$XDG_CACHE_HOME/mobilenetv2/engine`, a folder that only its owner may
enter, because what lies in it is executed. `MOBILENETV2_CACHE=off` turns it off.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from mobilenetv2 import __version__

LIMIT_BYTES = 64 << 20  # about 300 networks; the least recently used go first
_MAGIC = b"mobilenetv2 engine 3\n"
_DIGEST_BYTES = 32


def machine_code(plan: str, build: Callable[[], bytes]) -> bytes:
    """What `build` makes, or what it made before for the same `plan` with the same kernels, compiler and package.

    A damaged file, or one of another owner, is as good as none; a folder that cannot be written is no error.
    """
    if os.environ.get("MOBILENETV2_CACHE", "").lower() == "off":
        return build()
    key = hashlib.sha256("\0".join((sources_digest(), *_versions(), plan)).encode()).hexdigest()
    path = folder() / f"{key}.code"
    found = _read(path, key)
    if found is None:
        found = build()
        _write(path, key, found)
    return found


def folder() -> Path:
    """Where the files lie."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mobilenetv2" / "engine"


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """A digest of the engine's own source, so that changed kernels are never answered with old code."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


@lru_cache(maxsize=1)
def _versions() -> tuple[str, str]:
    return __version__, metadata.version("llvmlite")


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _read(path: Path, key: str) -> bytes | None:
    """The code in `path` if it is ours, whole, and writable by nobody else."""
    try:
        for place in (path.parent, path):
            status = place.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                return None
        content = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    code = content[head:]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) : head] != _digest(key, code):
        return None
    with suppress(OSError):
        os.utime(path)  # it was used now
    return code


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
        except OSError:
            Path(temporary).unlink(missing_ok=True)
        _trim(path.parent)


def _trim(place: Path) -> None:
    """Forget the least recently used files beyond the limit, and what an interrupted write left behind."""
    files = sorted(
        ((status.st_mtime, status.st_size, path) for path in place.iterdir() if (status := path.lstat())), reverse=True
    )
    total = 0
    newest = files[0][0] if files else 0
    for changed, size, path in files:
        total += size
        if total > LIMIT_BYTES or (path.name.startswith(".new-") and changed < newest - 3600):
            path.unlink(missing_ok=True)
