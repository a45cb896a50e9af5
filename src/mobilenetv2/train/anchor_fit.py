"""Whether anchors are of the sizes that a data set's objects have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.spec.ssdlite import Anchors

ENOUGH = 0.5  # an anchor with the object's centre learns it from this overlap on (matching's own threshold)


def shapes(samples: Iterable[DetectionSample], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Width and height of every object [N, 2] in a network's input of `size`, in units of its shorter side."""
    found = [
        (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]) / sample.size[::-1] * size[::-1] / min(size)
        for sample in samples
        if sample.size is not None and len(sample.boxes_xyxy)
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def share_with_an_anchor(shapes_N2: npt.NDArray[np.float64], anchors: Sequence[Anchors]) -> float:
    """The share of objects that overlap some anchor enough where both have the same centre; 1 where there are none."""
    if not len(shapes_N2):
        return 1.0
    anchors_A2 = np.array([pair for pairs in anchors for pair in pairs])
    shared_NA = np.minimum(shapes_N2[:, None], anchors_A2).prod(-1)
    together_NA = shapes_N2.prod(-1)[:, None] + anchors_A2.prod(-1) - shared_NA
    return float(((shared_NA / together_NA).max(axis=1) >= ENOUGH).mean())
