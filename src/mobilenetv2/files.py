"""Files on disk: read with one clear error, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilenetv2.errors import FileError, UsageError


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Turn the system's errors about reading `path` into a `FileError` of one line."""
    path = Path(path)
    try:
        if path.is_dir():
            raise FileError(f"{path} is a folder: a file is expected here")
        yield path
    except FileNotFoundError as error:
        raise FileError(f"{error.filename or path} does not exist") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole file. Raises `FileError` where it does not exist or cannot be read."""
    with reading(path) as file:
        return file.read_bytes()


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    The new file is on the disk (fsync) before it gets the name, so a crash or a full disk leaves the old
    file or none. The folder is made if it does not exist. Raises `FileError`.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # the suffix is kept: writers such as Pillow and matplotlib choose the format by it
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 is for secrets
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write the whole of `data`, atomically. Raises `FileError`."""
    with writing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically. Raises `FileError`."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write plain JSON values, atomically, in letters that people read. Raises `FileError`."""
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    # bytes of a file's name that are no UTF-8 become the escapes that JSON has for them
    write_bytes(path, text.encode(errors="backslashreplace"))


def home() -> Path:
    """Where downloaded files are kept: the environment variable MOBILENETV2_HOME, else `mobilenetv2` in the folder
    XDG_CACHE_HOME, else `~/.cache/mobilenetv2`."""
    if named := os.environ.get("MOBILENETV2_HOME"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilenetv2"


def parse_bytes(text: str, option: str) -> int:
    """ "512KB" as 512,000, "1MiB" as 1,048,576, "4GB" as 4,000,000,000. Raises `UsageError`, which names `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(i?)[bB]?", text)
    if found is None:
        raise UsageError(f"{option} must be a number of bytes such as 512KB or 1MiB, got {text!r}")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " kmg".index(found[2].lower() or " "))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
