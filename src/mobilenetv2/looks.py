"""Several looks of a segmentation network at one picture, and the classes that they find likeliest together.

`best_on_average` is the definition; `engine.averages` has the same, made for a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mobilenetv2.upsample import Float32Array, Places, check_classes

ROWS = 16  # of a picture at a time: of 513 pixels and 21 classes they stay in a core's cache


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A map of logits [h, w, L] of a part of a picture, which begins at `top` and `left`: `rows` and `columns` say
    where each of the part's rows and columns lies in the map."""

    logits: Float32Array
    rows: Places
    columns: Places
    top: int = 0
    left: int = 0

    @property
    def bottom(self) -> int:
        """The first row below the part."""
        return self.top + len(self.rows.low)

    def within(self, first: int, last: int) -> Look:
        """What it sees of the picture's rows from `first` to before `last`, as a look at a picture of only those."""
        begin, end = max(first - self.top, 0), max(last - self.top, 0)
        rows = Places(self.rows.size, self.rows.low[begin:end], self.rows.part[begin:end])
        return replace(self, rows=rows, top=max(self.top - first, 0))


BestOnAverage = Callable[[Sequence[Look], tuple[int, int]], npt.NDArray[np.uint8]]


def best_on_average(looks: Sequence[Look], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The class [H, W] of each pixel of a picture of `size` whose softmax score, averaged over all looks that see the
    pixel, is largest (the first of equals). A look's logits are resized to its part before the softmax.

    Scores are kept for `ROWS` rows at a time. Raises `UsageError` for more than 256 classes.
    """
    check_classes(looks[0].logits.shape[-1])
    mask_HW = np.empty(size, np.uint8)
    for first in range(0, size[0], ROWS):
        last = min(first + ROWS, size[0])
        mask_HW[first:last] = summed_scores(
            [look.within(first, last) for look in looks], (last - first, size[1])
        ).argmax(-1)
    return mask_HW


def summed_scores(looks: Sequence[Look], size: tuple[int, int]) -> Float32Array:
    """The softmax scores [H, W, L] of all looks at a picture of `size`, resized and added up."""
    total_HWL = np.zeros((*size, looks[0].logits.shape[-1]), np.float32)
    for look in looks:
        found_HWL = _scores(look)
        height, width = found_HWL.shape[:2]
        total_HWL[look.top : look.top + height, look.left : look.left + width] += found_HWL
    return total_HWL


def _scores(look: Look) -> Float32Array:
    rows, columns = look.rows, look.columns
    upper, lower = look.logits[rows.low], look.logits[rows.next]
    mixed_HwL = upper + (lower - upper) * rows.part[:, np.newaxis, np.newaxis]
    steps_HwL = mixed_HwL.take(columns.next, 1)
    found_HWL = mixed_HwL.take(columns.low, 1)
    steps_HwL -= found_HWL
    steps_HwL *= columns.part[:, np.newaxis]
    found_HWL += steps_HwL
    found_HWL -= found_HWL.max(-1, keepdims=True)
    np.exp(found_HWL, out=found_HWL)
    found_HWL /= found_HWL.sum(-1, keepdims=True)
    return found_HWL
