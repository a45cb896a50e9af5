"""Annotated pictures: what files state about them, how faulty boxes are repaired or left out, and what remains.

A box is [x1, y1, x2, y2]: its left, upper, right and lower edge in pixels of the upright picture, whose own edges are
0, 0, width and height. A box that covers one pixel is 1 wide. N boxes of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mobilenetv2 import limits

Form = Literal["coco", "voc", "yolo"]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# What can be wrong, in words for one and for many.
FAULTS: dict[str, tuple[str, str]] = {
    "malformed": ("an annotation that cannot be understood", "annotations that cannot be understood"),
    "not finite": ("a box that is no finite numbers", "boxes that are no finite numbers"),
    "unknown class": ("a box of a class that is not listed", "boxes of classes that are not listed"),
    "swapped": ("a box with swapped corners", "boxes with swapped corners"),
    "outside": ("a box that reaches outside its picture", "boxes that reach outside their picture"),
    "degenerate": ("a box without an area", "boxes without an area"),
    "duplicate": ("a box that is stated twice", "boxes that are stated twice"),
    "no picture": ("an annotation without a picture", "annotations without a picture"),
    "no annotation": ("a picture without an annotation file", "pictures without an annotation file"),
    "no mask": ("a picture without a mask", "pictures without a mask"),
    "mask alone": ("a mask without a picture", "masks without a picture"),
    "unread": ("a file that is not read", "files that are not read"),
    "unreadable": ("a picture whose size cannot be read", "pictures whose size cannot be read"),
}

# Pixels that a box may reach outside unnoticed: COCO's files round to 0.01, YOLO's to 1e-6 of up to 10,000.
OUTSIDE_TOLERANCE = 0.05

# What an object is called in the files of each form, so that it can be found there.
_ITEMS: dict[Form, str] = {"coco": "annotation", "voc": "object", "yolo": "line"}


@dataclass(frozen=True, slots=True, eq=False)
class DetectionSample:
    """A picture file and its objects.

    `size` is height and width as far as they were stated or read. `boxes_xyxy` [N, 4] lie inside the picture and have
    an area, rounded to float32 too. (They are not rounded here, because overlaps of 0.5 occur exactly: with float32
    COCO's own test scores 0.50349 instead of 0.50365.) `labels` [N] index the data's names. `difficult` [N] marks
    objects that VOC does not count, `crowd` [N] boxes around many objects of a class (COCO). `areas` [N] are the
    objects' own in pixels (COCO: of their outline), else those of the boxes.
    """

    path: Path
    size: tuple[int, int] | None
    boxes_xyxy: FloatArray
    labels: IntArray
    difficult: BoolArray
    crowd: BoolArray
    areas: FloatArray

    @property
    def ignored(self) -> BoolArray:
        """[N]: neither to be found nor a mistake where it is found."""
        return self.difficult | self.crowd


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong: a kind out of `FAULTS`, the file to look into, what stands there, what was done about it.

    `picture` and `box_xyxy` are set where it is about a box that can be drawn.
    """

    kind: str
    file: str
    value: str
    done: str
    picture: Path | None = None
    box_xyxy: tuple[float, float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.value}: {FAULTS[self.kind][0]}, {self.done}"


class StatedBox(NamedTuple):
    """An object as a file states it; `number` finds it there, `area` is NaN where none is stated."""

    number: int
    label: str
    box_xyxy: tuple[float, float, float, float]
    difficult: bool = False
    crowd: bool = False
    area: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class StatedPicture:
    """A picture with what its annotation says; `file` is where that stands, `size` height and width."""

    path: Path
    file: str
    size: tuple[int, int] | None
    boxes: Sequence[StatedBox]


@dataclass(frozen=True, slots=True, eq=False)
class StatedPart:
    """One part of a data set as its files state it; `names` is empty where the boxes alone name the classes."""

    pictures: Sequence[StatedPicture]
    names: tuple[str, ...]
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a data set lie: "train", "val", "test" as far as it is divided, else "all".

    `read` reads one of `parts`, or of VOC's "trainval", which is one of `more`.
    """

    form: Form
    parts: tuple[str, ...]
    read: Callable[[str], StatedPart]
    more: tuple[str, ...] = ()


def make_sample(
    path: Path,
    boxes_xyxy: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    size: tuple[int, int] | None = None,
    difficult: npt.ArrayLike | None = None,
    crowd: npt.ArrayLike | None = None,
    areas: npt.ArrayLike | None = None,
) -> DetectionSample:
    """A sample from anything like arrays; nothing is difficult or a crowd, and areas are those of the boxes, unless
    given."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    return DetectionSample(
        path=path,
        size=size,
        boxes_xyxy=boxes,
        labels=np.asarray(labels, np.int64).reshape(-1),
        difficult=np.zeros(len(boxes), bool) if difficult is None else np.asarray(difficult, bool).reshape(-1),
        crowd=np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
        areas=_areas(boxes) if areas is None else np.asarray(areas, np.float64).reshape(-1),
    )


def stated_size(height: int, width: int) -> tuple[int, int] | None:
    """A picture's size as a file states it; None where it states 0, as some tools do.

    A number beyond any picture's becomes the limit: it stays wrong, which is found, and can be computed with.
    """
    most = limits.STATED_SIDE
    return (min(height, most), min(width, most)) if height > 0 and width > 0 else None


@np.errstate(over="ignore", invalid="ignore")  # corners of 1e308 become infinite in float32: they have no area then
def repaired(
    pictures: Sequence[StatedPicture], classes: Mapping[str, int], form: Form
) -> tuple[list[DetectionSample], list[Fault]]:
    """Each picture with its sound boxes, and every fault among the stated ones, in order.

    Swapped corners (VOC) are put right, and what reaches outside the picture is cut off. Left out are boxes that are
    not finite, of a class that is not in `classes`, without an area, outside altogether, or the same as another of
    their class in the same picture.
    """
    stated = [box for picture in pictures for box in picture.boxes]
    counts = [len(picture.boxes) for picture in pictures]
    picture_N = np.repeat(np.arange(len(pictures)), counts)
    written_N4 = np.array([box.box_xyxy for box in stated], np.float64).reshape(-1, 4)
    labels_N = np.array([classes.get(box.label, -1) for box in stated], np.int64)
    sizes_P2 = np.array([picture.size or (math.inf, math.inf) for picture in pictures], np.float64).reshape(-1, 2)
    edges_N4 = sizes_P2[picture_N][:, [1, 0, 1, 0]]
    found: list[tuple[int, str, str]] = []

    def mark(which_N: BoolArray, kind: str, done: str) -> None:
        found.extend((int(i), kind, done) for i in np.flatnonzero(which_N))

    finite_N = np.asarray(np.isfinite(written_N4).all(axis=1))
    mark(~finite_N, "not finite", "left out")
    keep_N = finite_N & (labels_N >= 0)
    mark(finite_N & ~keep_N, "unknown class", "left out")

    boxes_N4 = np.where(finite_N[:, None], written_N4, 0)
    if form == "voc":
        swapped_N = keep_N & (boxes_N4[:, 2:] < boxes_N4[:, :2]).any(axis=1)
        mark(swapped_N, "swapped", "put right")
        boxes_N4 = np.concatenate(
            [np.minimum(boxes_N4[:, :2], boxes_N4[:, 2:]), np.maximum(boxes_N4[:, :2], boxes_N4[:, 2:])], axis=1
        )
    inside_N4 = np.clip(boxes_N4, 0, edges_N4)
    beyond_N = keep_N & (np.abs(inside_N4 - boxes_N4).max(axis=1, initial=0) > OUTSIDE_TOLERANCE)
    empty_N = keep_N & ~_has_area(inside_N4.astype(np.float32))
    gone_N = beyond_N & empty_N & _has_area(boxes_N4)
    mark(beyond_N & ~empty_N, "outside", "clipped")
    mark(gone_N, "outside", "left out")
    mark(empty_N & ~gone_N, "degenerate", "left out")
    keep_N &= ~empty_N
    twice_N = _repeated(keep_N, picture_N, labels_N, inside_N4)
    mark(twice_N, "duplicate", "left out")
    keep_N &= ~twice_N

    areas_N = np.array([box.area for box in stated], np.float64)
    areas_N = np.where(np.isfinite(areas_N) & (areas_N > 0), areas_N, _areas(inside_N4))
    difficult_N = np.array([box.difficult for box in stated], bool)
    crowd_N = np.array([box.crowd for box in stated], bool)
    ends_P = np.cumsum(counts, dtype=np.int64)
    samples: list[DetectionSample] = []
    for picture, count, end in zip(pictures, counts, ends_P, strict=True):
        kept = np.flatnonzero(keep_N[end - count : end]) + (end - count)
        samples.append(
            DetectionSample(
                picture.path,
                picture.size,
                inside_N4[kept],
                labels_N[kept],
                difficult_N[kept],
                crowd_N[kept],
                areas_N[kept],
            )
        )
    found.sort(key=lambda one: one[0])
    faults = [_fault(kind, done, stated[i], pictures[picture_N[i]], form) for i, kind, done in found]
    return samples, faults


def _fault(kind: str, done: str, box: StatedBox, picture: StatedPicture, form: Form) -> Fault:
    numbers = ", ".join(f"{number:.6g}" for number in box.box_xyxy)
    of = f" of {picture.size[1]} x {picture.size[0]}" if kind == "outside" and picture.size else ""
    value = f"{_ITEMS[form]} {box.number}: {box.label} {numbers}{of}"
    return Fault(kind, picture.file, value, done, picture.path, box.box_xyxy)


def _has_area(boxes_N4: npt.NDArray[np.floating]) -> BoolArray:
    return (boxes_N4[:, 2] > boxes_N4[:, 0]) & (boxes_N4[:, 3] > boxes_N4[:, 1])


def _areas(boxes_N4: FloatArray) -> FloatArray:
    return np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1)


def _repeated(keep_N: BoolArray, picture_N: IntArray, labels_N: IntArray, boxes_N4: FloatArray) -> BoolArray:
    """Which kept boxes equal an earlier kept one."""
    kept = np.flatnonzero(keep_N)
    columns = (*boxes_N4[kept].astype(np.float32).T, labels_N[kept], picture_N[kept])
    order = np.lexsort(columns)  # stable: the first of equal ones stays first
    same = np.ones(max(len(kept) - 1, 0), bool)
    for column in columns:
        same &= np.diff(column[order]) == 0
    repeated_N = np.zeros(len(keep_N), bool)
    repeated_N[kept[order[1:][same]]] = True
    return repeated_N
