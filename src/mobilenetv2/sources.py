"""What people name as photos (files, folders, patterns, lists, pipes, addresses), taken apart into single photos."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mobilenetv2 import files, limits, patterns
from mobilenetv2.errors import DownloadError, Error, FileError, UsageError
from mobilenetv2.image import Source
from mobilenetv2.picture_formats import ENDINGS, UNREAD_PHOTOS
from mobilenetv2.text import counted, plain, quoted

STDIN = "-"
LIST_ENDING = ".txt"
MODEL_ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo: `name` as answers call it, and why it cannot be one, where that is known already.

    `base` is the folder that was named, of a photo that was found below it.
    """

    name: str
    problem: Error | None = None
    base: str = ""

    def source(self) -> Source | Error:
        """What `image.read` takes for it, or why there is nothing. To be asked once: a pipe's content comes once."""
        if self.problem is not None:
            return self.problem
        try:
            return one(self.name)
        except Error as error:
            return error

    @property
    def place(self) -> PurePath:
        """What is made of the photo is called so, with another ending: below a folder that was named, the photo's path
        in there; else the photo's own name. Relative, and never outside."""
        if self.base:
            return PurePath(os.path.relpath(self.name, self.base)).with_suffix("")
        if self.name == STDIN:
            return PurePath("stdin")
        if is_address(self.name):
            path = re.sub(r"^\w+://[^/?#]*|[?#].*$", "", self.name)
            return PurePath(re.sub(r"[^\w.-]+", "-", PurePath(path).stem).strip(".-")[:80] or "photo")
        return PurePath(PurePath(self.name).stem or "photo")


@dataclass(slots=True)
class Photos:
    """Photos in the order in which they were named, those of a folder sorted by name, and what was left out."""

    photos: list[Photo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Brought:
    """A picture that comes once, from standard input, a pipe or a server: asked for at the first call, then kept."""

    def __init__(self, name: str, bring: Callable[[], bytes]) -> None:
        self._name, self._bring = name, bring
        self._came: bytes | Error | None = None

    def read_bytes(self) -> bytes:
        if self._came is None:
            try:
                self._came = self._bring()
            except Error as error:
                self._came = error
        if isinstance(self._came, Error):
            raise self._came
        return self._came

    def __str__(self) -> str:
        return self._name


def find(named: Iterable[str | os.PathLike[str]]) -> Photos:
    """The photos that are meant: of each name in turn, whatever it stands for.

    A folder stands for the pictures in it and below it, hidden files left out; a pattern (`*`, `?`, `[abc]`, and `**`
    for any folders), where no file has that name, for the files that match it, those without a picture's ending left
    out unless the pattern ends in an ending of its own; a `.txt` file for the photos that it lists; `-` for the picture
    whose bytes standard input has; an address (http, https) for the picture there. Any other name is a photo.
    What cannot be found is a `Photo` with an `Error`, so that the others are answered all the same.
    """
    found = Photos()
    for name in named:
        name = os.fspath(name)
        if os.path.isdir(name):
            _add_folder(found, name)
        elif name.lower().endswith(LIST_ENDING) and files.is_regular(name):
            _add_list(found, name)
        elif patterns.is_pattern(name) and not is_address(name) and not os.path.lexists(name):
            _add_pattern(found, name)
        else:
            found.photos.append(Photo(name))
    return found


def one(photo: Source) -> Source:
    """What `image.read` takes for one photo that a program names: an address is fetched, a pipe read; everything else
    as it is. Raises `UsageError` for what stands for many photos, for models, and for what is no picture of any kind.
    """
    if not isinstance(photo, str | os.PathLike):
        if isinstance(photo, int) and not isinstance(photo, bool):
            raise UsageError(_CAMERA.format(plain(photo)))
        return photo
    name = os.fspath(photo)
    if not isinstance(name, str):
        raise UsageError("a photo's name must be a text; the bytes of a file are given as bytes")
    if not name:
        raise UsageError("the name of a photo is empty")
    if name == STDIN:
        return Brought("standard input", _stdin)
    if is_address(name):
        return Brought(name, lambda: _fetched(name))
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        mode = 0
    if problem := _other_kind(name, mode):
        raise problem
    if mode == 0 or stat.S_ISREG(mode):  # what does not exist is said where it is read
        return photo
    return Brought(name, lambda: files.read_bytes(name, limit=limits.PICTURE_BYTES))


def is_address(name: str) -> bool:
    return re.match(r"https?://", name, re.IGNORECASE) is not None


_CAMERA = (
    "{} is no file, and cameras are not read: take a picture first, such as with "
    "ffmpeg -f v4l2 -i /dev/video0 -frames:v 1 photo.jpg"
)


def _other_kind(name: str, mode: int) -> Error | None:
    """Why a name stands for no photo where people take it for one; `mode` is the file's, 0 where there is none."""
    if (name.isascii() and name.isdecimal() and not mode) or name.startswith("/dev/video"):
        return UsageError(_CAMERA.format(plain(name)))
    if not mode:
        if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", name):
            return UsageError(f"{name}: addresses of {scheme[1]} are not fetched, only those of http and https")
        if patterns.is_pattern(name):
            return UsageError(f"{name} does not exist; predictor.many takes patterns")
        return None
    ending = os.path.splitext(name)[1].lower()
    if stat.S_ISDIR(mode):
        return UsageError(f"{name} is a folder: predictor.many({quoted(name)}) answers for each photo in it")
    if ending == LIST_ENDING:
        return UsageError(f"{name} is a list: predictor.many({quoted(name)}) answers for each photo of it")
    if ending == MODEL_ENDING:
        return UsageError(f"{name} is a model file and no photo: are the model and the photo swapped?")
    return None


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- is the picture that standard input has, and it has none: write ... < photo.jpg")
    blocks: list[bytes] = []
    left = limits.PICTURE_BYTES
    while block := sys.stdin.buffer.read(1 << 20):
        blocks.append(block)
        left -= len(block)
        if left < 0:
            raise FileError(f"standard input has more than {limits.PICTURE_BYTES:,} bytes: the limit of a picture")
    return b"".join(blocks)


def _fetched(url: str) -> bytes:
    """The file behind an address. Raises `DownloadError` where there is none, and `FileError` for a very large one."""
    import tempfile
    import urllib.parse

    from mobilenetv2 import download

    try:
        urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url} is no address: {error}") from None
    version = download.ask(url)
    if version is None:
        raise DownloadError(f"{url} does not exist, or its server gives it to nobody")
    if version.size > limits.PICTURE_BYTES:
        raise FileError(f"{url} has {version.size:,} bytes: the limit of a picture is {limits.PICTURE_BYTES:,}")
    with tempfile.TemporaryDirectory(prefix="mobilenetv2-") as folder:
        wanted = download.Download(url, Path(folder, "photo"), sha256="", label=url, version=version)
        return files.read_bytes(download.fetch(wanted, progress=False), limit=limits.PICTURE_BYTES)


# -- folders and patterns


def _add_folder(found: Photos, folder: str) -> None:
    left_out = _LeftOut()
    before = len(found.photos)
    for file in patterns.files_below(folder):
        if isinstance(file, Error):
            found.photos.append(Photo(folder, file))
        elif left_out.keeps(file):
            found.photos.append(Photo(os.fspath(file), base=folder))
    _say(found, folder, len(found.photos) - before, left_out)


def _add_pattern(found: Photos, pattern: str) -> None:
    left_out = _LeftOut()
    parts = PurePath(pattern).parts
    literal = next(i for i, part in enumerate(parts) if patterns.is_pattern(part))
    base = os.path.join(*parts[:literal]) if literal else ""
    ending = os.path.splitext(parts[-1])[1]
    everything = bool(ending) and not patterns.is_pattern(ending)  # *.jpg, *.dat: the ending that was asked for
    before = len(found.photos)
    for file in patterns.matching(base, parts[literal:]):
        if files.is_regular(file) if everything else left_out.keeps(Path(file)):
            found.photos.append(Photo(file, base=base or "."))
    if len(found.photos) == before and not left_out.counts:
        found.photos.append(Photo(pattern, FileError(f"{pattern} does not exist, and no file matches it")))
    else:
        _say(found, pattern, len(found.photos) - before, left_out)


class _LeftOut:
    """Counts the files that are no pictures, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def keeps(self, file: Path) -> bool:
        if file.name.startswith("."):
            self.counts["hidden"] += 1
        elif file.suffix.lower() not in ENDINGS:
            self.counts[file.suffix.lower() or "without an ending"] += 1
        elif not files.is_regular(file):
            self.counts["links to nothing"] += 1
        else:
            return True
        return False

    def __str__(self) -> str:
        most = self.counts.most_common(6)
        rest = len(self.counts) - len(most)
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in most)
        return kinds + (f" and {counted(rest, 'other kind')}" if rest else "")


def _say(found: Photos, name: str, kept: int, left_out: _LeftOut) -> None:
    if not kept:
        others = f" but {left_out}" if left_out.counts else ""
        endings = ", ".join(sorted(ENDINGS))
        found.photos.append(Photo(name, FileError(f"{name} has no pictures{others}; endings that are read: {endings}")))
    elif left_out.counts:
        total = counted(left_out.counts.total(), "file")
        found.notes.append(f"{name}: {counted(kept, 'picture')}; {total} left out: {left_out}")
    for ending, number in left_out.counts.most_common():
        if ending in UNREAD_PHOTOS:
            found.notes.append(f"{name}: {counted(number, f'{ending} file')} cannot be read: {UNREAD_PHOTOS[ending]}")


# -- lists


def _add_list(found: Photos, path: str) -> None:
    try:
        data = files.read_bytes(path, limit=limits.LIST_BYTES)
    except Error as error:
        found.photos.append(Photo(path, error))
        return
    if b"\0" in data:
        problem = FileError(f"{path} is no text: a list has the path of a photo on each line")
        found.photos.append(Photo(path, problem))
        return
    before = len(found.photos)
    folder = os.path.dirname(path)
    for line in os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split(
        "\n"
    ):  # not splitlines, which would split names too
        name = line.strip()
        if name and not name.startswith("#"):
            found.photos.append(_listed(name, folder))
    if len(found.photos) == before:
        problem = FileError(f"{path} lists no photos: the path of a photo is expected on each line")
        found.photos.append(Photo(path, problem))


def _listed(name: str, folder: str) -> Photo:
    """A line of a list in `folder`. A relative path is looked for there, else in the current folder."""
    if is_address(name) or os.path.isabs(name):
        return Photo(name)
    beside = os.path.join(folder, name)
    if not os.path.lexists(beside) and os.path.lexists(name):
        return Photo(name)
    return Photo(beside, base="" if ".." in PurePath(name).parts else folder or ".")
