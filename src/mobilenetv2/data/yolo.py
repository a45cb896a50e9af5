"""YOLO's form of detection data: a text file per picture, a line per object, and a data.yaml or obj.data above them.

A line is `class x y width height`, the box's middle and size as fractions of the upright picture. A longer line is the
outline of an object, `class x1 y1 x2 y2 x3 y3 ...`, which becomes the box around it; with `kpt_shape` in data.yaml what
follows the box are key points, which are not looked at. A picture without a text file, or with an empty one, has no
objects.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenetv2 import files, image, limits
from mobilenetv2.data.annotation import Fault, Layout, StatedBox, StatedPart, StatedPicture
from mobilenetv2.data.folders import SPLITS, entries, files_below, files_with, is_picture, pictures_in, some
from mobilenetv2.data.yolo_plan import NAME_FILES, Plan, description, plan_of
from mobilenetv2.errors import DatasetError, Error

_PATH = 4_096  # letters of a path, as many as Linux takes
_NO_LABELS = frozenset((*NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt"))


def layout(path: Path, *, images: Path | None, labels: Path | None, names: Sequence[str] | None) -> Layout:
    """The parts of a data.yaml, an obj.data, or a folder that `recognises` knows.

    `images` is the folder of the pictures, `labels` that of the text files, `names` the classes in order. Raises
    `DatasetError` where something is missing, with the option that completes it.
    """
    plan = plan_of(path, images, names)
    return Layout("yolo", tuple(plan.parts), lambda part: _read(plan, part, images, labels))


def recognises(folder: Path) -> bool:
    """Whether a data.yaml or obj.data is in the folder, or text files in a `labels` in it or in its parts."""
    if description(folder) is not None:
        return True
    places = [folder, *(inner for inner in entries(folder)[0] if inner.name.lower() in SPLITS)]
    if any(inner.name == "labels" and _has_labels(inner) for place in places for inner in entries(place)[0]):
        return True
    return any(file.name in NAME_FILES for file in files_with(folder, *NAME_FILES)) and bool(pictures_in(folder))


def _has_labels(folder: Path) -> bool:
    return any(_is_label(file) for file in files_below(folder))


def _is_label(file: Path) -> bool:
    return file.suffix.lower() == ".txt" and file.name.lower() not in _NO_LABELS and not file.name.startswith(".")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A picture, or None where it is missing, and where its text file may be, in this order."""

    name: str
    picture: Path | None
    labels: Sequence[Path]


def _read(plan: Plan, part: str, images: Path | None, labels: Path | None) -> StatedPart:
    listed: list[_Listed] = []
    for place in plan.parts[part]:
        listed += _in_folder(place, labels) if place.is_dir() else _in_list(place, plan.source, images, labels)
    if not any(one.picture for one in listed):
        what = f"the {part} part" if part != "all" else "it"
        raise DatasetError(f"{plan.source}: {what} has no pictures in {some(list(map(str, plan.parts[part])))}: "
                           "name their folder with --images")  # fmt: skip
    faults: list[Fault] = []
    pictures: list[StatedPicture] = []
    known: set[Path] = set()
    without: list[Path] = []
    for one in listed:
        if one.picture is None:
            faults.append(Fault("no picture", str(plan.source), f"{one.name} does not exist", "left out"))
            continue
        file = next(filter(os.path.isfile, one.labels), None)
        try:
            size = image.size(one.picture)
        except Error as error:
            faults.append(Fault("unreadable", str(one.picture), str(error), "left out"))
            continue
        boxes: list[StatedBox] = []
        if file is None:
            without.append(one.picture)
        else:
            known.add(file)
            boxes = list(_lines(file, size, plan, faults))
        pictures.append(StatedPicture(one.picture, str(file or one.picture), size, boxes))
    if not known:
        tried = some([str(file) for file in listed[0].labels])
        raise DatasetError(f"{plan.source}: no picture has a text file ({tried} ...): name their folder with --labels")
    faults += [
        Fault("no annotation", str(picture), f"{picture.stem}.txt does not exist", "kept as a picture without objects")
        for picture in without
    ]
    faults += _strays(known, {one.picture.parent for one in listed if one.picture})
    return StatedPart(pictures, tuple(dict.fromkeys(plan.names[i] for i in sorted(plan.names))), faults)


def _in_folder(folder: Path, labels: Path | None) -> Iterator[_Listed]:
    for file in files_below(folder):
        if is_picture(file):
            text = file.with_suffix(".txt")
            below = text.relative_to(folder)
            places = (
                _label_files(text)
                if labels is None
                else (labels / below, labels / folder.name / below, labels / text.name)
            )
            yield _Listed(str(file), file, places)


def _in_list(file: Path, source: Path, images: Path | None, labels: Path | None) -> Iterator[_Listed]:
    """Pictures as a text file lists them: from its own folder, from that of `source`, or by Darknet's paths."""
    for line in files.read_bytes(file, limit=limits.LIST_BYTES).decode("utf-8-sig", "replace").splitlines():
        if not line.strip():
            continue
        written = Path(line.strip()[:_PATH].replace("\\", "/"))
        if not written.name:  # "/" or ".": no file's name
            yield _Listed(line.strip(), None, ())
            continue
        tails = [Path(*written.parts[i:]) for i in range(len(written.parts))]
        places = [base / tail for tail in tails for base in dict.fromkeys((file.parent, source.parent))]
        shown = places if images is None else [images / tail for tail in tails]
        picture = next(filter(os.path.isfile, shown), None)
        texts = [place.with_suffix(".txt") for place in places]
        if labels is not None:
            texts = [labels / tail.with_suffix(".txt") for tail in tails]
        elif picture is not None:
            texts = [*_label_files(picture.with_suffix(".txt")), *(t for text in texts for t in _label_files(text))]
        yield _Listed(line.strip(), picture, texts)


def _label_files(text: Path) -> tuple[Path, ...]:
    """In `labels` where the picture is in `images`, else beside the picture."""
    parts = list(text.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() == "images":
            parts[i] = "labels"
            return Path(*parts), text
    return (text,)


def _lines(file: Path, size: tuple[int, int], plan: Plan, faults: list[Fault]) -> Iterator[StatedBox]:
    height, width = size
    lines = files.read_bytes(file, limit=limits.NAMES_BYTES).decode("utf-8-sig", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            kind, *values = map(float, words)
            index = int(kind)
            whole = index == kind
        except (OverflowError, ValueError):
            whole, index, values = False, 0, []
        outline = len(values) >= 6 and len(values) % 2 == 0 and not plan.key_points
        if not whole or not (len(values) == 4 or outline or (plan.key_points and len(values) > 4)):
            value = f"line {number}: class x y width height are expected, got {line.strip()!r:.60}"
            faults.append(Fault("malformed", str(file), value, "left out"))
            continue
        if not all(map(math.isfinite, values)):
            x1 = y1 = x2 = y2 = math.nan
        elif outline:
            x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        else:
            x, y, w, h = values[:4]
            x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        box_xyxy = (x1 * width, y1 * height, x2 * width, y2 * height)
        yield StatedBox(number, plan.names.get(index) or f"class {index}", box_xyxy)


def _strays(known: set[Path], picture_folders: set[Path]) -> Iterator[Fault]:
    """Text files beside those that were read whose picture is in none of the folders."""
    stems = {file.stem for folder in picture_folders for file in pictures_in(folder)}
    for folder in sorted({file.parent for file in known}):
        for file in files_with(folder, ".txt"):
            if _is_label(file) and file not in known and file.stem not in stems:
                yield Fault("no picture", str(file), f"no picture is called {file.stem}", "left out")
