"""The check of labelled pictures, drawn: faults in red, else some pictures of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, plots
from mobilenetv2.data.check import GALLERY, DataCheck
from mobilenetv2.data.classification import ClassificationData, Sample
from mobilenetv2.errors import FileError, ImageError


def write_gallery(path: str | os.PathLike[str], found: DataCheck, parts: Mapping[str, ClassificationData]) -> None:
    """A PNG for people of the `gallery`. Raises `FileError`."""
    plots.write_png(path, plots.contact_sheet(gallery(found, parts)))


def gallery(found: DataCheck, parts: Mapping[str, ClassificationData], *, most: int = GALLERY) -> list[plots.Tile]:
    """Every fault that can be seen (red, up to twice `most` pictures), else some pictures of each class.

    A picture that cannot be read, or is no longer there, is grey.
    """
    sample_of = {str(sample.picture): sample for data in parts.values() for sample in data.samples}
    labels = {str(sample.picture): data.names[sample.label] for data in parts.values() for sample in data.samples}
    part_of = {str(sample.picture): part for part, data in parts.items() for sample in data.samples}
    wanted: list[tuple[str, tuple[str, ...], bool | None]] = [
        (file, (Path(file).name, reason.removeprefix(f"{file} ")), False) for file, reason in found.unreadable[:most]
    ]
    for groups, what in (
        (found.leaks, "in several parts"),
        (found.contradictions, "in several classes"),
        (found.duplicates, "twice"),
    ):
        for file in (file for group in groups for file in group):
            here = f"{part_of[file]}/{labels[file]}" if file in labels else "no longer there"
            wanted.append((file, (f"{what}: {here}", Path(file).name), False))
    bad = {file for file, _, _ in wanted}
    sound = _spread([file for file in labels if file not in bad], max(most - len(wanted), 0))
    wanted += [(file, (labels[file], Path(file).name), None) for file in sound]
    wanted = wanted[: 2 * most]
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        seen = pool.map(_thumbnail, (sample_of.get(file) for file, _, _ in wanted))
        return [plots.Tile(rgb, lines, right) for rgb, (_, lines, right) in zip(seen, wanted, strict=True)]


def _thumbnail(sample: Sample | None) -> npt.NDArray[np.uint8]:
    try:
        if sample is not None:
            return plots.thumbnail(image.read(sample.picture))
    except (ImageError, FileError):
        pass
    return np.full((plots.TILE, plots.TILE, 3), 200, np.uint8)


def _spread(items: Sequence[str], most: int) -> list[str]:
    if not items or not most:
        return []
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[int(i)] for i in places]
