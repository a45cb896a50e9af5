"""Where shards are read from: this disk, or a folder of bounded size into which those of a URL are fetched when needed.

The folder is `shards` in `files.home()`. Several processes share it: a shard that one of them fetches is there for
all, the least recently used one goes first, and one that goes while another process has it open stays readable there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from mobilenetv2 import download, files
from mobilenetv2.errors import DatasetError, DownloadError, FileError

BOUND = "MOBILENETV2_SHARD_CACHE"  # the environment variable: most bytes of fetched shards, such as 20GB
_BOUND = "4GB"
_KNOWN_BYTES = 1 << 30  # of what is known of shards, about 40 bytes a picture for an index, 100 for a check
_MOST_OPEN = 64  # shards of one process
_ASKED_AT_ONCE = 16
_GIVEN_UP_S = 3600  # without a byte: nobody fetches this part of a shard any more
_PAUSES_S = (1.0, 5.0, 20.0)  # before a server is asked again that did not answer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar in one version: `place` is its path or URL as people wrote it, `version` the time of its last change in
    ns, or the server's mark of it."""

    place: str
    size: int
    version: str

    @property
    def remote(self) -> bool:
        return is_url(self.place)

    @property
    def name(self) -> str:
        """The file's own name."""
        return name_of(self.place)

    @property
    def kept(self) -> Path:
        """Where what is known of this version of it is kept, up to the suffix."""
        place = self.place if self.remote else os.path.abspath(self.place)
        key = hashlib.sha256(f"{place}\n{self.size}\n{self.version}".encode()).hexdigest()
        return files.home() / "shards" / key[:40]


def is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def absolute(place: str) -> str:
    """A path as it holds in any folder; a URL, and what begins with one, as it is."""
    return place if is_url(place) else os.path.abspath(place)


def name_of(place: str) -> str:
    """The file name in a path or URL; of what is no URL after all, such as http://[x, what follows the last slash."""
    try:
        path = urllib.parse.unquote(urllib.parse.urlsplit(place).path) if is_url(place) else place
    except ValueError:
        path = place
    return re.split(r"[/\\]" if os.name == "nt" else "/", path)[-1]


def bound() -> int:
    """Most bytes that fetched shards may take. Raises `UsageError` where the environment says something else."""
    return files.parse_bytes(os.environ.get(BOUND) or _BOUND, BOUND)


def locate(places: Sequence[str]) -> list[Shard | None]:
    """Each with its present version; None where there is no such file. Raises `DownloadError`, `FileError`."""
    with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="ask") as pool:
        return list(pool.map(_locate, places))


def read(shard: Shard, offset: int, size: int) -> bytes:
    """`size` bytes of it, fewer only at its end; a shard that is not here is fetched first, whole.

    Raises `FileError`, `DownloadError`, and `DatasetError` where it is no longer the version it was.
    """
    file = _opened(shard)
    data = b""
    try:
        if not shard.remote:
            _check_unchanged(shard, file.handle)  # it may be written over under way
        while len(data) < size and (more := _read_at(file.handle, offset + len(data), size - len(data))):
            data += more
    except OSError as error:
        raise FileError(f"{shard.place} cannot be read: {error.strerror or error}") from None
    return data


@contextlib.contextmanager
def stream(shard: Shard) -> Iterator[BinaryIO]:
    """The whole of it, to be read from its beginning. Raises as `read` does."""
    file = _opened(shard)
    try:
        with open(os.dup(file.handle), "rb") as opened:
            opened.seek(0)
            yield opened
    except OSError as error:
        raise FileError(f"{shard.place} cannot be read: {error.strerror or error}") from None


def keep(shard: Shard, suffix: str, found: bytes) -> None:
    """Keep what was found out about a shard; a folder that cannot be written is no error."""
    with contextlib.suppress(FileError, OSError):
        files.write_bytes(shard.kept.with_suffix(suffix), hashlib.sha256(found).digest() + found)
        _trim(suffix, _KNOWN_BYTES)


def kept(shard: Shard, suffix: str) -> bytes | None:
    """What `keep` kept of this version of it; None where nothing is there, or it is damaged."""
    path = shard.kept.with_suffix(suffix)
    try:
        text = path.read_bytes()
        os.utime(path)  # it was used now
    except OSError:
        return None
    digest, found = text[:32], text[32:]
    return found if hashlib.sha256(found).digest() == digest else None


# ---- one version of one shard


def _locate(place: str) -> Shard | None:
    if is_url(place):
        version = _patiently(lambda: download.ask(place), _PAUSES_S[:1])  # a wrong name should be told soon
        return None if version is None else Shard(place, version.size, version.mark)
    try:
        status = os.stat(place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{place} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{place} is no regular file: a shard is read at many places")
    return Shard(place, status.st_size, str(status.st_mtime_ns))


def _patiently(call: Callable[[], T], pauses: Sequence[float]) -> T:
    """What `call` gives, tried again after each of the pauses where the server cannot be had."""
    for pause in pauses:
        try:
            return call()
        except DownloadError:
            time.sleep(pause)
    return call()


# ---- what this process has open


class _Open:
    """A file, closed when the last one who reads from it lets go."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __del__(self) -> None:
        os.close(self.handle)


_lock = threading.Lock()
_open: OrderedDict[Shard, _Open] = OrderedDict()  # the most recently used last


def _forget() -> None:
    """In a new worker process: its parent's files are not in its use, and no thread of it holds the lock."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _opened(shard: Shard) -> _Open:
    with _lock:
        if (found := _open.get(shard)) is not None:
            _open.move_to_end(shard)
            return found
    if shard.remote:
        with _lock:
            _close(beside=shard.size, least=1)  # what is closed may be removed for it
        found = _Open(_fetched(shard))
    else:
        found = _Open(_found(shard))
    with _lock:
        found = _open.setdefault(shard, found)  # another thread may have been quicker
        _open.move_to_end(shard)
        _close(beside=0, least=2)
    return found


def _close(*, beside: int, least: int) -> None:
    """Close the least recently used shards, so that few enough are open and, where they were fetched, small enough
    `beside` this many bytes; `least` of them stay, because pictures are mixed over two shards."""
    most = bound() - beside
    while len(_open) > least and (len(_open) > _MOST_OPEN or sum(shard.size for shard in _open if shard.remote) > most):
        _open.popitem(last=False)


def _found(shard: Shard) -> int:
    try:
        return os.open(shard.place, _HOW)
    except OSError as error:
        raise FileError(f"{shard.place} cannot be read: {error.strerror or error}") from None


def _check_unchanged(shard: Shard, handle: int) -> None:
    status = os.fstat(handle)
    if (status.st_size, str(status.st_mtime_ns)) != (shard.size, shard.version):
        raise DatasetError(f"{shard.place} has changed since this run began: start it again")


def _fetched(shard: Shard) -> int:
    path = shard.kept.with_suffix(".tar")
    wanted = download.Download(shard.place, path, "", shard.name, download.Version(shard.size, shard.version))
    for _ in range(5):
        try:
            handle = os.open(path, _HOW)
        except FileNotFoundError:
            _make_room(shard)
            _patiently(lambda: download.fetch(wanted, progress=False), _PAUSES_S)
            continue  # it may be gone again: another process made room
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
        with contextlib.suppress(OSError):
            os.utime(path)  # it was used now
        return handle
    raise FileError(f"{path} does not stay there: give shards more room, {BOUND} is {bound()} bytes")


_HOW = os.O_RDONLY | getattr(os, "O_BINARY", 0)

if sys.platform == "win32":

    def _read_at(handle: int, offset: int, size: int) -> bytes:
        with _lock:
            os.lseek(handle, offset, os.SEEK_SET)
            return os.read(handle, size)
else:

    def _read_at(handle: int, offset: int, size: int) -> bytes:
        return os.pread(handle, size, offset)  # not by the file's position, which threads and workers share


# ---- the folder of fetched shards


def _make_room(wanted: Shard) -> None:
    """Remove fetched shards that this process does not use, until `wanted` fits beside the others."""
    with _lock:
        used = {shard.kept.with_suffix(".tar") for shard in _open}
    coming = wanted.size
    for path in wanted.kept.parent.glob("*.tar.part"):
        if (status := _status(path)) is None or path.name.startswith(wanted.kept.name):
            continue
        if time.time() - status.st_mtime > _GIVEN_UP_S:
            path.unlink(missing_ok=True)
        else:
            coming += status.st_size
    _trim(".tar", bound() - coming, keep=used)


def _trim(suffix: str, most: int, keep: Container[Path] = ()) -> None:
    """Remove the least recently used of the kept files until those of this suffix have at most `most` bytes."""
    found = [(status.st_mtime_ns, status.st_size, path)
             for path in (files.home() / "shards").glob(f"*{suffix}") if (status := _status(path))]  # fmt: skip
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        if path not in keep:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
            total -= size


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
