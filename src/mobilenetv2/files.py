"""Files on disk: read with one clear error, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mobilenetv2 import limits
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


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, limit: int = limits.STREAM_BYTES) -> Iterator[BinaryIO]:
    """The file for reading, with seeking: what a pipe or a device gives is read into memory first.

    Raises `FileError` where it does not exist, cannot be read, or gives more than `limit` bytes, such as /dev/zero.
    """
    with reading(path) as file, open(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            yield io.BytesIO(_bounded(stream, os.fspath(file), limit))
        else:
            yield stream


def read_bytes(path: str | os.PathLike[str], *, limit: int = limits.STREAM_BYTES) -> bytes:
    """The whole file. Raises `FileError` where it does not exist, cannot be read, or has more than `limit` bytes."""
    with opened(path, limit=limit) as stream:
        return _bounded(stream, os.fspath(path), limit)


@contextlib.contextmanager
def on_disk(path: str | os.PathLike[str], *, limit: int = limits.STREAM_BYTES) -> Iterator[Path]:
    """A regular file with what lies at `path`: for readers that open a file by its name, or more than once.

    That is `path` itself, or a copy, removed at the end, of what a pipe or a device gives. Raises as `opened`.
    """
    with reading(path) as file:
        if is_regular(file) or not file.exists():
            yield file
            return
        with tempfile.TemporaryDirectory(prefix="mobilenetv2-") as folder:
            copy = Path(folder) / file.name
            with open(file, "rb") as stream, open(copy, "wb") as target:
                for block in _blocks(stream, limit + 1):
                    target.write(block)
            if copy.stat().st_size > limit:
                raise FileError(f"{file} has more than {limit:,} bytes: the limit of what is read from a stream")
            yield copy


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a file lies there, or a link leads to one: no folder, pipe, device or socket.

    For files that a data set or a folder brings, which nobody has named: opening a pipe could wait for ever.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well, and is removed when it does not.

    The new file is on the disk (fsync) before it gets the name, so a crash or a full disk leaves the old file or none.
    A symbolic link is written through: the file it leads to is replaced, the link stays. What is no regular file (a
    device, a pipe, a socket, /dev/stdout) is written to and never replaced. The folder is made if it does not exist.
    Raises `FileError`.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        target, mode = _target(path)
        direct = target is None
        folder = Path(tempfile.gettempdir()) if target is None else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        prefix, suffix = _temporary_name(path)
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if direct:
            _pour(temporary, path)
            return
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask() if mode is None else mode)  # mkstemp's 0600 is for secrets
        assert target is not None
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from None
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise FileError(f"cannot write {path}: a file's name cannot contain a zero byte") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
    """The temporary files of `writing(path)` whose process was killed; nobody may be writing to `path` meanwhile."""
    path = Path(path)
    prefix, suffix = map(re.escape, _temporary_name(path))
    name = re.compile(rf"{prefix}[a-z0-9_]{{8}}{suffix}")  # as tempfile makes them
    folder = Path(os.path.realpath(path)).parent
    return sorted(file for file in folder.glob(".*") if name.fullmatch(file.name) and not file.is_dir())


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
    XDG_CACHE_HOME, else `~/.cache/mobilenetv2`. Raises `FileError` where there is none of them."""
    if named := os.environ.get("MOBILENETV2_HOME"):
        return Path(named)
    return caches() / "mobilenetv2"


def caches() -> Path:
    """The user's folder of what can be made or fetched again: XDG_CACHE_HOME, else `~/.cache`. Raises `FileError` for a
    user without a home directory, as in containers that run under a number of their own."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise FileError("this user has no home directory: set XDG_CACHE_HOME to a folder") from None


def parse_bytes(text: str, option: str) -> int:
    """ "512KB" as 512,000, "1MiB" as 1,048,576, "4GB" as 4,000,000,000. Raises `UsageError`, which names `option`."""
    found = re.fullmatch(r"(\d{1,30}(?:\.\d{1,30})?)\s*([kKmMgG]?)(i?)[bB]?", text, re.ASCII)
    if found is None:
        raise UsageError(f"{option} must be a number of bytes such as 512KB or 1MiB, got {text!r}")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " kmg".index(found[2].lower() or " "))


def _temporary_name(path: Path) -> tuple[str, str]:
    """How a temporary file's name begins and ends. Writers such as Pillow and matplotlib choose the format by its
    suffix."""
    return f".{path.stem[:40]}-", path.suffix[:40]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _bounded(stream: BinaryIO, name: str, limit: int) -> bytes:
    """All of the stream. Raises `FileError` beyond `limit`, before more than that is in memory."""
    content = io.BytesIO()  # which gives its bytes away without a copy
    for block in _blocks(stream, limit + 1):
        content.write(block)
    if content.tell() > limit:
        raise FileError(f"{name} has more than {limit:,} bytes: the limit of what is read at once")
    return content.getvalue()


def _blocks(stream: BinaryIO, most: int) -> Iterator[bytes]:
    while most > 0 and (block := stream.read(min(most, 1 << 20))):
        most -= len(block)
        yield block


def _target(path: Path) -> tuple[Path | None, int | None]:
    """The file that takes the new content, links followed, and its permissions where it exists; None for the file where
    `path` is to be written to as it stands. Raises `OSError`, and `FileError` for a folder."""
    if _is_open_file(path):
        return None, None
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), None
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot write {path}: it is a folder")
    return (Path(os.path.realpath(path)), stat.S_IMODE(mode)) if stat.S_ISREG(mode) else (None, None)


def _is_open_file(path: Path) -> bool:
    """Whether the name, links followed, is that of an open file (/dev/stdout, /proc/self/fd/3).

    Replacing that file would leave its other users with the old one.
    """
    for _ in range(40):  # as many links as Linux follows
        folder = os.path.realpath(path.parent)
        if folder == "/dev/fd" or re.fullmatch(r"/proc/[^/]+(/task/[^/]+)?/fd", folder):
            return True
        try:
            path = path.parent / os.readlink(path)
        except (OSError, ValueError):
            return False
    return False


def _pour(temporary: Path, path: Path) -> None:
    """Write the content into what lies at `path` and is no regular file."""
    with open(temporary, "rb") as source:
        try:
            sink = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISSOCK(os.stat(path).st_mode):
                raise
            import socket

            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(os.fspath(path))
                connection.sendfile(source)
            return
        with open(sink, "wb") as stream:
            shutil.copyfileobj(source, stream)
