"""How well masks agree with the truth: mean intersection over union, per class, pixel accuracy, and near boundaries.

Shape letters: H W of a mask, L classes (background is one of them where the data has it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError

IGNORE = 255  # the class of pixels that do not count, in every mask
BANDS = (1, 2, 4, 8, 16, 32)  # pixels to either side of a boundary

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskScores:
    """What a confusion matrix [L, L] of pixels says: rows are true classes, columns found ones; fractions 0..1.

    `iou` [L] is right / (true + found - right) of each class. It is NaN where a class is neither true nor found
    anywhere: such classes are left out of the mean, as Pascal VOC's and TensorFlow's code do. A class that is found but
    never true has 0, and counts. `recall` [L] (right / true, also called class accuracy) and `precision` [L] (right /
    found) are NaN where nothing is true, or found.
    """

    confusion: IntArray
    iou: FloatArray
    recall: FloatArray
    precision: FloatArray

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that are true or found; NaN where no pixel counted."""
        return _mean(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """The share of pixels whose class is right; NaN where no pixel counted."""
        return float(np.trace(self.confusion) / self.pixels) if self.pixels else math.nan

    @property
    def class_accuracy(self) -> float:
        """The mean of `recall` over the classes that are true somewhere."""
        return _mean(self.recall)

    @property
    def weighted_iou(self) -> float:
        """The mean of `iou` weighted by the classes' true pixels ("frequency weighted")."""
        true_L = self.confusion.sum(axis=1)
        return float(np.nansum(self.iou * true_L) / self.pixels) if self.pixels else math.nan

    @property
    def pixels(self) -> int:
        """How many counted."""
        return int(self.confusion.sum())

    @property
    def absent(self) -> tuple[int, ...]:
        """Classes without a true pixel."""
        return tuple(np.flatnonzero(self.confusion.sum(axis=1) == 0).tolist())


class MeanIoU:
    """One confusion matrix over the pixels of all pictures: Pascal VOC's rule, not a mean over pictures."""

    def __init__(self, classes: int, *, ignore: int = IGNORE) -> None:
        if classes < 1:
            raise UsageError(f"MeanIoU needs at least one class, got {classes}")
        self.classes = classes
        self.ignore = ignore
        self.confusion: IntArray = np.zeros((classes, classes), np.int64)

    def add(self, found: npt.ArrayLike, true: npt.ArrayLike) -> IntArray:
        """Count the pixels of a picture, [H, W] both, where `true` is not `ignore`; gives its own confusion [L, L].

        Raises `UsageError` where the shapes differ or a value is no class.
        """
        counts = confusion(found, true, self.classes, ignore=self.ignore)
        self.confusion += counts
        return counts

    def compute(self) -> MaskScores:
        return scores(self.confusion)


def confusion(found: npt.ArrayLike, true: npt.ArrayLike, classes: int, *, ignore: int = IGNORE) -> IntArray:
    """Pixels by true class (rows) and found class (columns), [L, L], where `true` [H, W] is not `ignore`.

    Raises `UsageError` where the shapes differ or a value is no class.
    """
    found_HW, true_HW = np.asarray(found), np.asarray(true)
    if found_HW.shape != true_HW.shape:
        raise UsageError(f"the masks differ in size: found {list(found_HW.shape)}, true {list(true_HW.shape)}")
    if found_HW.dtype.kind not in "iu" or true_HW.dtype.kind not in "iu":
        raise UsageError(f"masks are whole numbers, got {found_HW.dtype} and {true_HW.dtype}")
    counted = true_HW != ignore
    true_P, found_P = true_HW[counted].astype(np.int64), found_HW[counted].astype(np.int64)
    for name, values in (("true", true_P), ("found", found_P)):
        if len(values) and not 0 <= values.min() <= values.max() < classes:
            wrong = values.min() if values.min() < 0 else values.max()
            raise UsageError(f"a {name} mask has the value {wrong}: its classes are 0 to {classes - 1}")
    return np.bincount(true_P * classes + found_P, minlength=classes * classes).reshape(classes, classes)


def scores(confusion_LL: IntArray) -> MaskScores:
    """The figures of a confusion matrix."""
    right_L = np.diagonal(confusion_LL)
    true_L, found_L = confusion_LL.sum(axis=1), confusion_LL.sum(axis=0)
    return MaskScores(
        confusion=confusion_LL.copy(),
        iou=_share(right_L, true_L + found_L - right_L),
        recall=_share(right_L, true_L),
        precision=_share(right_L, found_L),
    )


@dataclass(frozen=True, slots=True)
class Band:
    """The figures of the pixels at most `width` from a boundary: how many there are, mean IoU and pixel accuracy."""

    width: int
    pixels: int
    miou: float
    pixel_accuracy: float


class BoundaryQuality:
    """`MeanIoU` over the pixels near boundaries alone, in bands of several widths: the "trimap" of Kohli et al. 2009
    (Robust higher order potentials, section 6), by which DeepLab's papers judge how sharp masks are.

    A boundary runs between pixels of different true classes, and around what is ignored. A pixel lies in the band of
    width n where a pixel at a boundary is at most n - 1 columns and n - 1 rows away: width 1 is those at it.
    """

    def __init__(self, classes: int, *, widths: Sequence[int] = BANDS, ignore: int = IGNORE) -> None:
        if not widths or min(widths) < 1:
            raise UsageError(f"widths must be from 1 pixel up, got {tuple(widths)}")
        self.widths = tuple(widths)
        self._bands = [MeanIoU(classes, ignore=ignore) for _ in widths]

    def add(self, found: npt.ArrayLike, true: npt.ArrayLike) -> None:
        """Count a picture, [H, W] both. Raises `UsageError` as `MeanIoU.add` does."""
        found_HW, true_HW = np.asarray(found), np.asarray(true)
        if found_HW.shape != true_HW.shape:
            raise UsageError(f"the masks differ in size: found {list(found_HW.shape)}, true {list(true_HW.shape)}")
        edge_HW = boundary(true_HW)
        for width, metric in zip(self.widths, self._bands, strict=True):
            near_HW = widened(edge_HW, width - 1)
            metric.add(found_HW[near_HW], true_HW[near_HW])

    def compute(self) -> tuple[Band, ...]:
        found = [metric.compute() for metric in self._bands]
        return tuple(
            Band(width, one.pixels, one.miou, one.pixel_accuracy) for width, one in zip(self.widths, found, strict=True)
        )


def boundary(mask_HW: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """[H, W]: the pixels that have another value to the left, right, above or below."""
    edge_HW = np.zeros(mask_HW.shape, bool)
    across, down = mask_HW[:, 1:] != mask_HW[:, :-1], mask_HW[1:] != mask_HW[:-1]
    edge_HW[:, 1:] |= across
    edge_HW[:, :-1] |= across
    edge_HW[1:] |= down
    edge_HW[:-1] |= down
    return edge_HW


def widened(marked_HW: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """[H, W]: the pixels with a marked one at most `by` columns and rows away."""
    if not by:
        return marked_HW
    height, width = marked_HW.shape
    # counts of a square are four corners of the table of sums
    sums = np.zeros((height + 1, width + 1), np.int32)
    sums[1:, 1:] = marked_HW.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    y, x = np.arange(height), np.arange(width)
    top, bottom = np.maximum(y - by, 0), np.minimum(y + by + 1, height)
    left, right = np.maximum(x - by, 0), np.minimum(x + by + 1, width)
    rows = sums[bottom] - sums[top]
    return rows[:, right] > rows[:, left]


def agreement(one: npt.ArrayLike, other: npt.ArrayLike, *, ignore: int = IGNORE) -> tuple[int, int]:
    """(pixels with the same class, pixels compared) of two masks [H, W], where neither is `ignore`.

    Raises `UsageError` where the shapes differ.
    """
    one_HW, other_HW = np.asarray(one), np.asarray(other)
    if one_HW.shape != other_HW.shape:
        raise UsageError(f"the masks differ in size: {list(one_HW.shape)} and {list(other_HW.shape)}")
    compared_HW = (one_HW != ignore) & (other_HW != ignore)
    return int((compared_HW & (one_HW == other_HW)).sum()), int(compared_HW.sum())


def _share(part: IntArray, whole: IntArray) -> FloatArray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
