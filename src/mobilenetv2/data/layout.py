"""How data sets of pictures lie on disks: which files are pictures, which names mean a split, what a folder holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
ORDER = ("train", "val", "test")


def entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders, save hidden ones, and the files in `folder`, sorted by name. Raises `FileError`."""
    folders: list[Path] = []
    files_here: list[Path] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.is_dir():
                    files_here.append(Path(entry.path))
                elif not entry.name.startswith("."):
                    folders.append(Path(entry.path))
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error.strerror or error}") from None
    return sorted(folders), sorted(files_here)


def is_picture(name: str) -> bool:
    """Whether a file of this name is one; macOS adds hidden files such as "._photo.jpg"."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few, for a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
