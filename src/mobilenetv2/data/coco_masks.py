"""COCO's outlines as masks: polygons and run lengths of a picture's objects, painted as classes on background.

Larger objects are painted first, so that what lies on them is seen. Crowds do not count, save where single objects lie
on them. Class 0 is background; the others are the categories in the order of their ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, limits
from mobilenetv2.data import coco
from mobilenetv2.data.annotation import Fault
from mobilenetv2.data.masks import BACKGROUND, IGNORE, UInt8Array
from mobilenetv2.errors import DatasetError
from mobilenetv2.spec_fields import MOST_CLASSES
from mobilenetv2.text import quoted

_FAR = 10  # times the picture's side: what lies farther outside is no outline of this picture

_WIDEST = 60  # bits below the highest letter of a run length

Polygons = tuple[npt.NDArray[np.float64], ...]
Runs = npt.NDArray[np.int64]  # lengths of runs down the columns, the first of pixels outside the object


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One object: its class and its outline, as polygons (x, y, x, y, ... in pixels) or as run lengths."""

    label: int
    outline: Polygons | Runs
    crowd: bool = False

    def runs(self, height: int, width: int) -> Runs:
        """Run lengths of the object, as pycocotools draws polygons."""
        if isinstance(self.outline, np.ndarray):
            return self.outline
        from pycocotools import mask

        drawn = mask.merge(mask.frPyObjects([polygon.tolist() for polygon in self.outline], height, width))
        return np.array(run_lengths(drawn["counts"]), np.int64)  # its own decoder makes NumPy 2 warn


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The objects of a picture of this `size` (height, width); `file` is where they stand."""

    file: Path
    picture: Path
    size: tuple[int, int]
    objects: Sequence[Outline]

    def __str__(self) -> str:
        return str(self.file)

    def read(self) -> UInt8Array:
        """[H, W]: the class of each pixel, or `IGNORE`.

        Raises `DatasetError` where the picture has another size than was stated: a wrong number must not decide how
        much memory a mask takes. Raises as `image.size` does too.
        """
        height, width = image.size(self.picture)
        if (height, width) != self.size:
            raise DatasetError(
                f"{self.picture} has {width} x {height} pixels, but {self.file} states {self.size[1]} x {self.size[0]}"
            )
        if height * width > image.MAX_PIXELS:
            raise DatasetError(f"{self.picture} has {width} x {height} pixels: the limit is {image.MAX_PIXELS:,}")
        drawn = [(one, one.runs(*self.size)) for one in self.objects]
        areas = [int(runs[1::2].sum()) for _, runs in drawn]
        if sum(areas) > limits.OUTLINED_PIXELS:
            raise DatasetError(
                f"{self.file}: the objects of {self.picture} cover {sum(areas):,} pixels: the limit is "
                f"{limits.OUTLINED_PIXELS:,}"
            )
        columns = np.zeros(height * width, np.uint8)  # one below another, as run lengths count
        for i in sorted(range(len(drawn)), key=lambda i: (not drawn[i][0].crowd, -areas[i])):
            one, runs = drawn[i]
            ends = np.cumsum(runs)
            for start, end in zip(ends[:-1:2].tolist(), ends[1::2].tolist(), strict=True):
                columns[start:end] = IGNORE if one.crowd else one.label
        return np.ascontiguousarray(columns.reshape(width, height).T)


@dataclass(frozen=True, slots=True, eq=False)
class StatedOutlines:
    """A COCO file as class masks: its pictures, the names of the classes, and what was left out."""

    pictures: Sequence[tuple[Path, Outlines]]
    names: tuple[str, ...]
    faults: Sequence[Fault]


def read(file: Path, *, images: Path | None = None) -> StatedOutlines:
    """What `file` states. Its pictures lie in `images`, else where they are found near the file.

    Raises `DatasetError` where the file is not of this form, has boxes only, or none of its pictures is found.
    """
    content = coco.content_of(file)
    faults: list[Fault] = []
    names, label_of = coco.categories(file, content["categories"])
    names = (BACKGROUND, *(name for name in names if name != BACKGROUND))
    if len(names) > MOST_CLASSES:
        raise DatasetError(f"{file} has {len(names)} classes: masks of 8 bits have room for {MOST_CLASSES}")
    sizes, file_names = coco.listed_images(file, content["images"], faults)
    found = coco.found_pictures(file, file_names, sizes, images, faults)
    objects: dict[Any, list[Outline]] = defaultdict(list)
    stated = 0
    for number, one in enumerate(content["annotations"], start=1):
        try:
            number = one.get("id", number)
            image_id, label, outline = one["image_id"], label_of.get(one["category_id"]), one["segmentation"]
            size = found[image_id][1] if image_id in found else None
            crowd = bool(one.get("iscrowd"))
            stated += bool(outline)
        except (AttributeError, KeyError, TypeError):
            faults.append(coco.malformed(file, f"annotation {number}", one, "segmentation, image_id and category_id"))
            continue
        if label is None:
            value = f"annotation {number}: no category has the id {one['category_id']!r}"
            faults.append(Fault("unknown class", str(file), value, "left out"))
        elif image_id not in file_names:
            value = f"annotation {number}: no image has the id {image_id!r}"
            faults.append(Fault("no picture", str(file), value, "left out"))
        elif size is not None:
            try:
                objects[image_id].append(Outline(names.index(label), _outline(outline, *size), crowd))
            except (KeyError, OverflowError, TypeError, ValueError) as error:
                value = f"annotation {number} ({label}): {' '.join(str(error).split()):.100}"
                faults.append(Fault("malformed", str(file), value, "left out"))
    if content["annotations"] and not stated:
        raise DatasetError(f"{file} has boxes but no outlines: segmentation needs polygons or run lengths")
    pictures = [(path, Outlines(file, path, size, objects[image_id])) for image_id, (path, size) in found.items()]
    return StatedOutlines(pictures, names, faults)


def _outline(stated: Any, height: int, width: int) -> Polygons | Runs:
    """Checked here, because pycocotools and NumPy's repeat trust what they are given. Raises `ValueError` and its
    like."""
    if isinstance(stated, dict):
        size, counts = stated["size"], stated["counts"]
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError(f"the size of run lengths is [height, width], got {quoted(size)}")
        if size != [height, width]:
            stated = f"{quoted(size[1])} x {quoted(size[0])}"
            raise ValueError(f"run lengths of {stated} pixels, but the picture has {width} x {height}")
        runs = np.array(run_lengths(counts) if isinstance(counts, str) else counts, np.int64)
        pixels = height * width
        if runs.ndim != 1 or (runs < 0).any() or (runs > pixels).any():
            raise ValueError(f"a run length that is not between 0 and {pixels}")
        # each is below 1.7e8 by now, and a list of 5e10 of them is no file: the sum does not wrap
        if runs.sum() != pixels:
            raise ValueError(f"run lengths of {runs.sum()} pixels, but the picture has {pixels}")
        return runs
    polygons = tuple(np.array(polygon, np.float64) for polygon in stated)
    if not polygons:
        raise ValueError("no outline: polygons or run lengths are expected")
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon is x, y of three corners or more")
        if not (np.isfinite(polygon).all() and np.abs(polygon).max() <= _FAR * max(height, width)):
            raise ValueError(f"a polygon far outside its picture of {width} x {height}")
    steps = (np.abs(np.diff(p.reshape(-1, 2), axis=0, append=p[:2].reshape(1, 2))).max(axis=1) for p in polygons)
    if (length := sum(float(step.sum()) + len(step) for step in steps)) > limits.OUTLINE_LENGTH:
        raise ValueError(f"an outline of {length:,.0f} pixels: the limit is {limits.OUTLINE_LENGTH:,}")
    return polygons


def run_lengths(text: str | bytes) -> list[int]:
    """COCO's compressed run lengths: 5 bits a letter, the lowest first, as differences to the last but one."""
    text = text.decode() if isinstance(text, bytes) else text
    if len(text) > limits.RUN_LETTERS:
        raise ValueError(f"{len(text):,} letters of compressed run lengths: the limit is {limits.RUN_LETTERS:,}")
    lengths: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            letter = ord(text[place]) - 48
            if not 0 <= letter < 64:
                raise ValueError(f"the letter {text[place]!r} in compressed run lengths")
            if shift > _WIDEST:
                raise ValueError("a run length of more than 64 bits")
            value |= (letter & 0x1F) << shift
            more, place, shift = bool(letter & 0x20), place + 1, shift + 5
            if more and place == len(text):
                raise ValueError("compressed run lengths that are cut short")
            if not more and letter & 0x10:
                value -= 1 << shift  # a negative number
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths
