"""How a published file gets onto this machine: whole, right and once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mobilenetv2 import files, http_requests
from mobilenetv2.errors import DownloadError, FileError
from mobilenetv2.text import plain as shown

LARGEST = 100_000_000  # bytes; the largest checkpoint published has 25 million
LARGEST_STATED = 1 << 46  # bytes of a file of any kind, 70 TB; one object of S3 has at most 50 TB
CUTS = 100  # times that one call goes on after a broken connection: more is no bad line but a server that means it

Report = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


@dataclass(frozen=True, slots=True)
class Version:
    """What a server says of a file: its size in bytes, and a mark that changes with it ("" where it has none)."""

    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Download:
    """What to bring and where to: the file at `url` is to lie at `path`.

    `sha256` is the published hash in lower-case hex digits, all 64 or the first of them, "" where there is
    none; `label` is what messages and the progress bar call the file. Beside `path` there may lie, while it is
    under way, `.part` (what has come) and `.part.version` (the server's mark of the file it is a part of), and
    for good `.lock` (empty) and `.sha256` (the hash noted, in the form that sha256sum reads).

    `version` stands in for the hash of a file that a person named and nobody published, as `ask` gave it: that
    version alone is taken, whatever its size, from plain http too; no hash is noted, and waiting is not told.
    """

    url: str
    path: Path
    sha256: str
    label: str
    version: Version | None = None

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def size_so_far(self) -> int:
        return self.beside(".part").stat().st_size if self.has_part() else 0

    def has_part(self) -> bool:
        """Whether a part lies there. What is no file, or leads elsewhere, is removed: it is not ours."""
        for own in (self.beside(".part"), self.beside(".part.version")):
            if own.is_symlink() or (own.exists() and not own.is_file()):
                own.unlink()
        return self.beside(".part").exists()

    def version_so_far(self) -> str:
        """The server's mark of what the part is a part of; "" where there is none that a server could have sent."""
        note = self.beside(".part.version")
        if not self.has_part() or not note.exists():
            return ""
        with open(note, "rb") as file:
            return http_requests.mark(file.read(http_requests.MARK + 1).decode("latin-1"))

    def start_over(self) -> None:
        self.beside(".part").unlink(missing_ok=True)
        self.beside(".part.version").unlink(missing_ok=True)

    def refused(self, reason: str) -> DownloadError:
        return DownloadError(f"cannot fetch {self.url} ({reason}): {self.by_hand()}")

    def by_hand(self) -> str:
        if self.version is not None:
            return "try again later"
        return f"download it by other means and put it at {self.path}"


def ask(url: str) -> Version | None:
    """What the server says of the file at `url`, which may be plain http; None where it has no such file or gives it
    to nobody (403, 404, 410).

    Raises `DownloadError` where there is no answer, or none that tells the size.
    """
    try:
        for method in ("HEAD", "GET"):  # not every server answers HEAD
            with _request(url, {"Range": "bytes=0-0"}, plain=True, method=method) as response:
                status, sent = response.status, response.headers
            if status in (404, 410):
                return None
            size = re.fullmatch(r"bytes 0-0/(\d+)", sent.get("Content-Range", "")) if status == 206 else None
            size = size[1] if size is not None else sent.get("Content-Length", "") if status == 200 else ""
            if size.isdecimal():
                if len(size) > 20 or int(size) > LARGEST_STATED:
                    raise DownloadError(f"cannot fetch {url} (the server says that it has {shown(size)} bytes)")
                return Version(int(size), http_requests.version(sent))
    except http_requests.BROKEN as error:
        raise DownloadError(f"cannot fetch {url} ({http_requests.reason(error)}): try again later") from None
    if status == 403:  # S3's answer for what is not there
        return None
    raise DownloadError(f"cannot fetch {url} (the server answers {status}, and no size): try again later")


def fetch(wanted: Download, *, progress: bool | None = None) -> Path:
    """`wanted.path`, there and checked: downloaded, or found where an earlier call or a person put it.

    Either way its sha256 is compared with the published one. Where none is published, the hash is noted beside
    the file the first time, which is said on stderr, and every later call compares with the note. A download
    goes to a `.part` file, which the next call continues, and gets its name when it is complete and right.
    Several processes may ask at once: one downloads, the others wait. `progress` shows a bar with speed and
    time left on stderr; None means only on a terminal. Without a `version`, only https is followed (http from
    127.0.0.1).

    Raises `DownloadError` where the file cannot be had, saying what to fetch by hand and where to put it, or
    where it is not the published file; `FileError` where it cannot be written.
    """
    path = wanted.path
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _lock(wanted):
                if not path.exists():  # another process may have brought it while this one waited
                    _download(wanted, progress=progress)
                    return path
        _check(wanted, path, way_out=f"delete {path} to download it again")
    except OSError as error:
        raise FileError(f"cannot write {error.filename or path}: {error.strerror or error}") from None
    return path


def _download(wanted: Download, *, progress: bool | None) -> None:
    part, continued = wanted.beside(".part"), wanted.has_part()
    with _bar(wanted.label, progress=progress) as report:
        _receive_all(wanted, report)
    try:
        _check(wanted, part, way_out="it was removed; try again later, or import another file")
    except DownloadError:
        wanted.start_over()
        if not continued:
            raise
        _download(wanted, progress=progress)  # the part was of another file: once more, from nothing
        return
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, wanted.path)
    wanted.start_over()


def _check(wanted: Download, file: Path, *, way_out: str) -> None:
    """Compare `file` with the published or the noted hash; note it where there is neither."""
    note = wanted.beside(".sha256")
    for one in (file, note):
        if one.exists() and not files.is_regular(one):  # reading a pipe would wait
            raise FileError(f"{one} is no file: remove it")
    if wanted.version is not None:
        if file.stat().st_size != wanted.version.size:
            raise DownloadError(f"{file} has not the {wanted.version.size} bytes of {wanted.url}; {way_out}")
        return
    with files.reading(file), open(file, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if wanted.sha256:
        expected, whose = wanted.sha256, "the published one"
    elif note.exists():
        expected, whose = files.read_bytes(note).decode(errors="replace")[:64], f"the one noted in {note}"
    else:
        files.write_text(note, f"{found}  {wanted.path.name}\n")
        print(
            f"{wanted.label}: no sha256 is published; that of this file is now noted in {note}",
            file=sys.stderr,
        )
        return
    if not expected or not found.startswith(expected):
        raise DownloadError(
            f"{file} is not the file published at {wanted.url}: its sha256 is {found}, {whose} is {expected}; {way_out}"
        )


# -- one request after the other


class _CutError(Exception):
    """The connection ended before the file did; what came is kept."""


def _receive_all(wanted: Download, report: Report) -> None:
    """Receive until the part is complete, going on after a cut for as long as each request brings something."""
    for cuts in itertools.count(1):
        before = wanted.size_so_far()
        try:
            while not _receive(wanted, report):
                wanted.start_over()
            return
        except _CutError as cut:
            so_far = wanted.size_so_far()
            if so_far <= before or cuts > CUTS:
                raise DownloadError(
                    f"the download of {wanted.url} broke off after {so_far} bytes ({cut}): "
                    f"run it again to go on, or {wanted.by_hand()}"
                ) from None
            time.sleep(0.2)


def _receive(wanted: Download, report: Report) -> bool:
    """Ask for what is missing in the part and append it; False where the part is of no use to this server.

    Raises `_CutError` where the connection breaks and `DownloadError` where the server refuses.
    """
    part, version = wanted.beside(".part"), wanted.version_so_far()
    have = wanted.size_so_far()
    if have and not version and not wanted.sha256:
        return False  # nothing would notice that the file has changed since
    wish = {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {}) if have else {}
    with _open(wanted, wish) as response:
        sent = response.headers
        if have and response.status == 416:
            return sent.get("Content-Range") == f"bytes */{have}"  # then nothing was missing
        if have and response.status == 206 and not sent.get("Content-Range", "").startswith(f"bytes {have}-"):
            return False
        if response.status != 200 and not (have and response.status == 206):
            raise wanted.refused(f"the server answers {response.status} {shown(response.reason)}")
        if sent.get_content_type() == "text/html":
            raise wanted.refused("the server answers with a web page")
        if response.status == 200:  # all of it: the file has changed, or the server does not know ranges
            have = 0
        total = None if response.length is None else have + response.length
        if wanted.version is not None and Version(total or 0, http_requests.version(sent)) != wanted.version:
            raise wanted.refused("it has changed there since this run began")
        largest = LARGEST if wanted.version is None else wanted.version.size
        if total is not None and total > largest:
            raise wanted.refused(f"it has {total} bytes, at most {largest} are taken")
        if total is None and not response.chunked and sent.get("Content-Length") is not None:
            raise wanted.refused(f"the server says that it has {shown(sent['Content-Length'])} bytes")
        files.write_text(wanted.beside(".part.version"), http_requests.version(sent))
        response.expect(largest)
        with open(part, "ab" if have else "wb") as file:
            report(have, total)
            for piece in _pieces(response):
                have += len(piece)
                if have > largest:
                    file.truncate(0)  # of no use to a later try
                    raise wanted.refused(f"it does not end after {largest} bytes")
                file.write(piece)
                report(have, total)
    if not have and wanted.version is None:
        raise wanted.refused("it is empty there")
    if total is not None and have < total:
        raise _CutError(f"{total} were announced")
    return True


def _pieces(response: http_requests.Response) -> Iterator[bytes]:
    try:
        while piece := response.read1(1 << 16):
            yield piece
    except http_requests.BROKEN as error:
        raise _CutError(http_requests.reason(error)) from None


def _open(wanted: Download, wish: dict[str, str]) -> http_requests.Response:
    """The server's answer, be it a refusal. Raises `DownloadError` where there is none."""
    try:
        return _request(wanted.url, wish, plain=wanted.version is not None)
    except http_requests.BROKEN as error:
        raise wanted.refused(http_requests.reason(error)) from None


def _request(url: str, wish: dict[str, str], *, plain: bool, method: str = "GET") -> http_requests.Response:
    """As `_open`, but with the errors of urllib. `plain` follows http where `url` itself begins with it."""
    plain = plain and url.startswith("http:")
    written = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # spaces and letters that are not ASCII
    return http_requests.request(written, wish, method=method, allow=lambda place: _require_safe(place, plain=plain))


def _require_safe(url: str, *, plain: bool) -> None:
    parts = urllib.parse.urlsplit(url)
    parts.port  # noqa: B018 - raises ValueError for one that is none; a socket would be left open
    if parts.scheme != "https" and not (parts.scheme == "http" and (plain or parts.hostname == "127.0.0.1")):
        raise DownloadError(f"will not fetch {shown(url, 200)}: only https is trusted")


# -- one process at a time, seen by a person


@contextlib.contextmanager
def _lock(wanted: Download) -> Iterator[None]:
    """Hold the `.lock` file; the system frees it when a process dies. It stays: removing it would be a race."""
    # opening a pipe of this name for writing alone would wait
    how = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    with open(wanted.beside(".lock"), "r+b", buffering=0, opener=lambda name, _: os.open(name, how, 0o666)) as file:
        if not _try_lock(file):
            if wanted.version is None:
                print(f"{wanted.label}: another process is downloading it, waiting", file=sys.stderr)
            while not _try_lock(file):
                time.sleep(0.1)
        yield


def _try_lock(file: IO[bytes] | io.FileIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def _bar(label: str, *, progress: bool | None) -> Iterator[Report]:
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda done, total: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
