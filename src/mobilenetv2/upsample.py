"""From a small map of logits to the best class of every pixel of a larger picture: what lies in between is bilinear.

`best_classes` is the definition; `engine.masks` has the same, made for a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError

Float32Array = npt.NDArray[np.float32]
MOST_CLASSES = 256  # that uint8 can name


@dataclass(frozen=True, slots=True)
class Places:
    """Where each output row (or column) lies in a map of `size`: `part` of the way from row `low` to the next one."""

    size: int
    low: npt.NDArray[np.intp]
    part: Float32Array

    @property
    def next(self) -> npt.NDArray[np.intp]:
        """The row after `low`; beyond the last one there is the last one again."""
        return np.minimum(self.low + 1, self.size - 1)


BestClasses = Callable[[Float32Array, Places, Places], npt.NDArray[np.uint8]]


def places(at: npt.ArrayLike, size: int) -> Places:
    """Rows at `at` [n], measured between the centres of a map's first row (0) and its last (size - 1), or outside."""
    inside = np.clip(np.asarray(at, np.float64), 0, size - 1)
    low = inside.astype(np.intp)
    return Places(size, low, (inside - low).astype(np.float32))


def resized(size: int, out: int, *, align_corners: bool) -> Places:
    """The rows of a map of `size` rows resized to `out`: what `engine.reference.resize` mixes."""
    return places(in_map(np.arange(out) + 0.5, size, out, align_corners=align_corners), size)


def in_map(at: npt.ArrayLike, size: int, out: int, *, align_corners: bool) -> npt.NDArray[np.float64]:
    """Where places of a picture of `out` rows lie in a map of `size` rows that is resized to it.

    `at` is measured from the picture's edge, so that its first row's centre is 0.5; the result from the centre of the
    map's first row. With `align_corners` the corner pixels' centres stay where they are (TensorFlow's DeepLab),
    otherwise the map's edges do (PyTorch's default).
    """
    at = np.asarray(at, np.float64)
    return (at - 0.5) * (size - 1) / max(out - 1, 1) if align_corners else at * size / out - 0.5


def best_classes(logits_BhwL: Float32Array, rows: Places, columns: Places) -> npt.NDArray[np.uint8]:
    """The index of the largest logit (the first of equals) of every pixel: uint8 [B, H, W].

    Rows are mixed first, then columns, in float32. Raises `UsageError` for more than 256 classes.
    """
    check_classes(logits_BhwL.shape[-1])
    result = np.empty((len(logits_BhwL), len(rows.low), len(columns.low)), np.uint8)
    for image, logits_hwL in zip(result, logits_BhwL, strict=True):
        for line, low, following, part in zip(image, rows.low, rows.next, rows.part, strict=True):
            mixed_wL = logits_hwL[low] + (logits_hwL[following] - logits_hwL[low]) * part
            first = mixed_wL[columns.low]
            line[:] = (first + (mixed_wL[columns.next] - first) * columns.part[:, np.newaxis]).argmax(-1)
    return result


def check_classes(count: int) -> None:
    """Raises `UsageError` for more classes than a mask can name."""
    if count > MOST_CLASSES:
        raise UsageError(f"a mask can name {MOST_CLASSES} classes, got {count}")
