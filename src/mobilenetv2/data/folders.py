"""Folders of data sets: what in them is a picture, what their parts are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobilenetv2.errors import FileError

PICTURE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)  # fmt: skip

# What people call the parts of a data set; any capitals.
SPLITS: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PARTS = ("train", "val", "test")  # in this order
EVALUATED = ("val", "test", "train")  # which part is used where none is asked for


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders, save hidden ones, and the files in `folder`, sorted by name. Raises `FileError`."""
    folders, files_here = _names(folder)
    return [folder / name for name in folders], [folder / name for name in files_here]


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """The files in `folder` with one of these suffixes, in any capitals, save hidden ones, sorted by name."""
    return [folder / name for name in _names(folder)[1] if name.lower().endswith(suffixes) and name[0] != "."]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in `folder` itself, sorted by name."""
    return files_with(folder, *PICTURE_SUFFIXES)


def _names(folder: Path) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    files_here: list[str] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.is_dir():
                    files_here.append(entry.name)
                elif not entry.name.startswith("."):
                    folders.append(entry.name)
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error.strerror or error}") from None
    return sorted(folders), sorted(files_here)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and the folders below it, in the order of their names."""
    waiting = [folder]
    while waiting:
        folders, files_here = entries(waiting.pop())
        waiting.extend(reversed([inner for inner in folders if not inner.is_symlink()]))  # a link may be a loop
        yield from files_here


def is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")  # macOS adds "._name.jpg"


def part_in(name: str) -> str | None:
    """The part that a word in `name` means: "instances_val2017" is of "val"; None where no word or several do."""
    found = {SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
