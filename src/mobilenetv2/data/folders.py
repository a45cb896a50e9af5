"""Folders of data sets: what in them is a picture, what their parts are called."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mobilenetv2.errors import FileError
from mobilenetv2.picture_formats import ENDINGS, UNREAD_PHOTOS
from mobilenetv2.text import counted

# What people call the parts of a data set; any capitals.
SPLITS: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PARTS = ("train", "val", "test")  # in this order
EVALUATED = ("val", "test", "train")  # which part is used where none is asked for


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders, except hidden ones, and the files in `folder`, sorted by name. Raises `FileError`.

    What is neither (pipes, devices, sockets, links to them) is left out: opening it could wait, or read, for ever.
    """
    folders, files_here, _ = _names(folder)
    return [folder / name for name in folders], [folder / name for name in files_here]


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """The files in `folder` with one of these suffixes, in any capitals, except hidden ones, sorted by name."""
    return [folder / name for name in _names(folder)[1] if name.lower().endswith(suffixes) and name[0] != "."]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in `folder` itself, sorted by name."""
    return files_with(folder, *ENDINGS)


def _names(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """The folders, the files, and what is neither."""
    folders: list[str] = []
    files_here: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry)):  # a link to what has gone
                    files_here.append(entry.name)
                elif not entry.is_dir():
                    others.append(entry.name)
                elif not entry.name.startswith("."):
                    folders.append(entry.name)
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error.strerror or error}") from None
    return sorted(folders), sorted(files_here), sorted(others)


def files_below(folder: Path, unread: list[Path] | None = None) -> Iterator[Path]:
    """Every file in `folder` and the folders below it, in the order of their names. What lies there and is neither a
    file nor a folder is added to `unread`."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        folders, files_here, others = _names(here)
        inner = [here / name for name in folders]
        waiting.extend(reversed([one for one in inner if not one.is_symlink()]))  # a link may be a loop
        if unread is not None:
            unread += [here / name for name in others]
        yield from (here / name for name in files_here)


def unread_in(folders: Iterable[Path]) -> list[Path]:
    """What lies in these folders themselves and is meant to be read, but is not: photos of other formats (`is_unread`),
    and what is no regular file."""
    found: list[Path] = []
    for folder in sorted(set(folders)):
        _, files_here, others = _names(folder)
        found += [folder / name for name in (*files_here, *others) if name in others or is_unread(folder / name)]
    return found


def unread_sentences(unread: Sequence[str]) -> list[str]:
    """A sentence for each kind of what is not read, which counts it and names the first."""
    by_ending: dict[str, list[str]] = defaultdict(list)
    for file in unread:
        ending = os.path.splitext(file)[1].lower()
        by_ending[ending if ending in UNREAD_PHOTOS else ""].append(file)
    lines: list[str] = []
    for ending, found in sorted(by_ending.items()):
        if ending:
            one = len(found) == 1
            what = "is a photo" if one else "are photos"
            lines.append(
                f"{counted(len(found), f'{ending} file')} {what} in a format that is not read: {UNREAD_PHOTOS[ending]} "
                f"({some(found, 2)})"
            )
        else:
            lines += [f"{file} is no regular file but a pipe, a device or the like: left out" for file in found]
    return lines


def is_unread(file: Path) -> bool:
    """Whether it is a photo, by its name, of a format that is not read, such as .heic."""
    return file.suffix.lower() in UNREAD_PHOTOS and not file.name.startswith(".")


def is_picture(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".")  # macOS adds "._name.jpg"


def part_in(name: str) -> str | None:
    """The part that a word in `name` means: "instances_val2017" is of "val"; None where no word or several do."""
    found = {SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
