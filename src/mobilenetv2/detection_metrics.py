"""How often objects are found: COCO's average precision and VOC's.

Shape letters: N true boxes and D found boxes of a picture, L classes. Boxes are x1, y1, x2, y2 in pixels.

Where there is nothing to find a figure is NaN: average precision of a class without true boxes, say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Truth(Protocol):
    """The objects of a picture, as `data.annotation.DetectionSample` has them: [N, 4] and [N]."""

    @property
    def boxes_xyxy(self) -> npt.NDArray[np.floating]: ...
    @property
    def labels(self) -> npt.NDArray[np.integer]: ...
    @property
    def difficult(self) -> BoolArray: ...
    @property
    def crowd(self) -> BoolArray: ...
    @property
    def areas(self) -> npt.NDArray[np.floating]: ...


class Found(Protocol):
    """What was found on a picture, in any order: boxes [D, 4], classes [D] from 0, scores [D]."""

    @property
    def boxes_xyxy(self) -> npt.NDArray[np.floating]: ...
    @property
    def labels(self) -> npt.NDArray[np.integer]: ...
    @property
    def scores(self) -> npt.NDArray[np.floating]: ...


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's twelve numbers, fractions 0..1: the mean over the classes that have true boxes.

    `ap`: average precision, mean of the overlaps 0.50, 0.55 ... 0.95; `ap50`, `ap75` at one of them; `ap_small`,
    `ap_medium`, `ap_large` of objects with areas below 32², between, and above 96² pixels. `ar1`, `ar10`, `ar100`: the
    largest recall with so many boxes per picture and class. `per_class` [L] has each class's `ap`.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: tuple[float, ...]

    def to_json(self) -> dict[str, float | None]:
        """The twelve numbers; null where there was nothing to find."""
        numbers = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "per_class"}
        return {name: None if math.isnan(value) else value for name, value in numbers.items()}


class CocoAP:
    """COCO's average precision, computed by pycocotools.

    Found boxes that match nothing but a crowd, or a difficult object unless `count_difficult`, are neither right nor
    wrong. At most 100 boxes of a picture and class count, the surest ones.
    """

    def __init__(self, classes: int, *, count_difficult: bool = False) -> None:
        self.classes = at_least_one(classes)
        self.count_difficult = count_difficult
        self.n = 0
        self._truth: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._boxes = 0  # ids count from 1: pycocotools takes 0 for none

    def add(self, truth: Truth, found: Found) -> None:
        """Count a picture. Raises `UsageError` where arrays do not fit together or a label is no class."""
        check_fit(truth, found, self.classes)
        ignored_N = truth.crowd if self.count_difficult else truth.crowd | truth.difficult
        true_N4, found_D4 = _xywh(truth.boxes_xyxy), _xywh(found.boxes_xyxy)
        for i, label in enumerate(truth.labels.tolist()):
            self._boxes += 1
            self._truth[self.n, label].append(
                {
                    "id": self._boxes,
                    "bbox": true_N4[i],
                    "area": float(truth.areas[i]),
                    "iscrowd": int(truth.crowd[i]),
                    "ignore": int(ignored_N[i]),
                }
            )
        for i, label in enumerate(found.labels.tolist()):
            self._boxes += 1
            self._found[self.n, label].append(
                {
                    "id": self._boxes,
                    "bbox": found_D4[i],
                    "area": float(found_D4[i, 2] * found_D4[i, 3]),
                    "score": float(found.scores[i]),
                }
            )
        self.n += 1

    def compute(self) -> CocoScores:
        """The scores of all pictures so far."""
        if not self._truth:
            return CocoScores(*[math.nan] * 12, per_class=(math.nan,) * self.classes)
        from pycocotools.cocoeval import COCOeval

        evaluation: Any = COCOeval(iouType="bbox")
        evaluation.params.imgIds = list(range(self.n))
        evaluation.params.catIds = sorted({label for _, label in (*self._truth, *self._found)})
        # pycocotools' own reading of its files takes nothing but crowds for ignored
        evaluation._gts, evaluation._dts = defaultdict(list, self._truth), defaultdict(list, self._found)
        evaluation._prepare = lambda: None
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a table
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        precisions_TRKAM = evaluation.eval["precision"]  # overlap, recall, class, area range, boxes per picture
        per_class = [math.nan] * self.classes
        for k, label in enumerate(evaluation.params.catIds):
            known = precisions_TRKAM[:, :, k, 0, -1]
            per_class[label] = float(known[known > -1].mean()) if (known > -1).any() else math.nan
        numbers = [float(value) if value > -1 else math.nan for value in evaluation.stats]
        return CocoScores(*numbers, per_class=tuple(per_class))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall of a class as boxes are taken in, surest first; arrays [D] over all pictures.

    `true` boxes are to be found. `ap` is NaN where there are none.
    """

    true: int
    scores: FloatArray
    precision: FloatArray
    recall: FloatArray
    ap: float

    def envelope(self) -> FloatArray:
        """The largest precision at this recall or any higher one."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def corners(self) -> tuple[FloatArray, FloatArray]:
        """Recall and precision where the envelope falls: few points from which it can be drawn."""
        envelope = self.envelope()
        last = np.append(envelope[1:] != envelope[:-1], True)[: len(envelope)]
        return self.recall[last], envelope[last]


@dataclass(frozen=True, slots=True)
class VocScores:
    """`ap50`: the mean of the classes that have true boxes, 0..1; `curves` [L]."""

    ap50: float
    curves: tuple[Curve, ...]

    @property
    def per_class(self) -> tuple[float, ...]:
        return tuple(curve.ap for curve in self.curves)


class VocAP:
    """Pascal VOC's average precision at an overlap of 0.5.

    Each found box, surest first, belongs to the true box of its class that it overlaps most: right where the overlap
    (intersection over union) is at least 0.5 and no surer box had it, wrong otherwise. Those that belong to a difficult
    object, unless `count_difficult`, or to a crowd, are neither. `points` is "area" for the whole area under the curve
    (VOC 2010 and later) or "11" for the mean of 11 recalls (VOC 2007).
    """

    def __init__(self, classes: int, *, count_difficult: bool = False, points: Literal["area", "11"] = "area") -> None:
        if points not in ("area", "11"):
            raise UsageError(f"points must be 'area' or '11', got {points!r}")
        self.classes = at_least_one(classes)
        self.count_difficult = count_difficult
        self.points = points
        self._true = np.zeros(self.classes, np.int64)
        self._labels: list[IntArray] = []
        self._scores: list[FloatArray] = []
        self._right: list[BoolArray] = []

    def add(self, truth: Truth, found: Found) -> None:
        """Count a picture. Raises `UsageError` where arrays do not fit together or a label is no class."""
        check_fit(truth, found, self.classes)
        ignored_N = truth.crowd if self.count_difficult else truth.crowd | truth.difficult
        self._true += np.bincount(truth.labels[~ignored_N], minlength=self.classes)
        order_D = np.argsort(-found.scores.astype(np.float64), kind="stable")
        labels_D, scores_D = found.labels[order_D].astype(np.int64), found.scores[order_D].astype(np.float64)
        overlaps_DN = overlaps(found.boxes_xyxy[order_D], truth.boxes_xyxy, truth.crowd)
        overlaps_DN[labels_D[:, None] != truth.labels] = 0
        counted_D, right_D = np.ones(len(labels_D), bool), np.zeros(len(labels_D), bool)
        taken_N = np.zeros(len(truth.labels), bool)
        for d in range(len(labels_D) if len(taken_N) else 0):
            best = int(overlaps_DN[d].argmax())
            if overlaps_DN[d, best] >= 0.5:
                counted_D[d] = not ignored_N[best]
                right_D[d] = not taken_N[best]
                taken_N[best] = True
        self._labels.append(labels_D[counted_D])
        self._scores.append(scores_D[counted_D])
        self._right.append(right_D[counted_D])

    def compute(self) -> VocScores:
        """The scores of all pictures so far."""
        labels = np.concatenate([np.zeros(0, np.int64), *self._labels])
        scores = np.concatenate([np.zeros(0), *self._scores])
        right = np.concatenate([np.zeros(0, bool), *self._right])
        curves: list[Curve] = []
        for label in range(self.classes):
            own = np.flatnonzero(labels == label)
            own = own[np.argsort(-scores[own], kind="stable")]
            curves.append(self._curve(int(self._true[label]), scores[own], right[own]))
        known = [curve.ap for curve in curves if curve.true]
        return VocScores(float(np.mean(known)) if known else math.nan, tuple(curves))

    def _curve(self, true: int, scores: FloatArray, right: BoolArray) -> Curve:
        hits = np.cumsum(right, dtype=np.int64)
        precision = hits / np.arange(1, len(hits) + 1)
        recall = hits / true if true else np.zeros(len(hits))
        curve = Curve(true, scores, precision, recall, math.nan)
        if not true:
            return curve
        envelope = curve.envelope()
        if self.points == "area":
            ap = float((np.diff(recall, prepend=0.0) * envelope).sum())
        else:
            ap = sum(float(envelope[recall >= i / 10].max(initial=0)) for i in range(11)) / 11
        return dataclasses.replace(curve, ap=ap)


def overlaps(
    found_xyxy: npt.NDArray[np.floating], true_xyxy: npt.NDArray[np.floating], crowd_N: BoolArray
) -> FloatArray:
    """Intersection over union [D, N]; over the found box alone where the true one is a crowd."""
    if not len(found_xyxy) or not len(true_xyxy):
        return np.zeros((len(found_xyxy), len(true_xyxy)))
    from pycocotools import mask

    iou: Any = mask.iou  # its annotations are narrower than its documentation
    return np.asarray(iou(_xywh(found_xyxy), _xywh(true_xyxy), crowd_N.astype(np.uint8)), np.float64)


def _xywh(boxes_xyxy: npt.NDArray[np.floating]) -> FloatArray:
    boxes = boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def at_least_one(classes: int) -> int:
    """`classes`. Raises `UsageError` where it is below 1."""
    if classes < 1:
        raise UsageError(f"a metric needs at least one class, got {classes}")
    return classes


def check_fit(truth: Truth, found: Found, classes: int) -> None:
    """Raises `UsageError` where arrays do not fit together, a label is no class or a number is not finite."""
    for what, boxes_xyxy, labels, others in (
        ("true", truth.boxes_xyxy, truth.labels, (truth.difficult, truth.crowd, truth.areas)),
        ("found", found.boxes_xyxy, found.labels, (found.scores,)),
    ):
        n = len(labels)
        if boxes_xyxy.shape != (n, 4) or any(other.shape != (n,) for other in others):
            shapes = [list(array.shape) for array in (boxes_xyxy, labels, *others)]
            raise UsageError(f"{what} boxes must be [boxes, 4] with one label each, got {shapes}")
        if n and not (labels.min() >= 0 and labels.max() < classes):
            raise UsageError(f"labels of {what} boxes must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        if not np.isfinite(boxes_xyxy).all() or not all(np.isfinite(other).all() for other in others):
            raise UsageError(f"{what} boxes and their scores must be finite numbers")
