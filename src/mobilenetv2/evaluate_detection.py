"""A detector measured on pictures with boxes: the same for every backend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import metrics
from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.data.detection import DetectionData
from mobilenetv2.detection_matching import NONE, DetectionConfusion, Matches, match
from mobilenetv2.detection_metrics import CocoAP, CocoScores, VocAP, VocScores
from mobilenetv2.errors import DatasetError, Error, UsageError
from mobilenetv2.evaluate import WEAKEST, cut, json_number
from mobilenetv2.predictor import Predictor
from mobilenetv2.results import Detections, coco_categories
from mobilenetv2.spec import ssdlite
from mobilenetv2.text import joined, plain

LEAST_SCORE = 0.01  # average precision needs the unsure boxes too
MOST = 200  # boxes of a picture, as in SSD's own evaluation; the 100 surest of each class are all that COCO's looks at
SURE = 0.25  # boxes below it are looked at for average precision alone


@dataclass(frozen=True, slots=True, eq=False)
class FoundBoxes:
    """What was found on a picture, as the metrics take it: [D, 4] in pixels, [D] and [D]."""

    boxes_xyxy: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A picture with its objects and what was found on it; `matches` are those of the sure boxes."""

    truth: DetectionSample
    answer: Detections
    matches: Matches

    @property
    def right(self) -> int:
        """Objects that were found as what they are."""
        return int(self.matches.right.sum())

    @property
    def confused(self) -> int:
        """Objects that were found as another class."""
        return int((self.matches.true_of != NONE).sum()) - self.right

    @property
    def missed(self) -> int:
        return int(self.matches.missed.sum())

    @property
    def false(self) -> int:
        """Sure boxes where no object is."""
        return int(self.matches.false.sum())

    @property
    def mistakes(self) -> int:
        return self.confused + self.missed + self.false

    @property
    def f1(self) -> float:
        """The share of right boxes among the true and the sure ones together; 1 where there are none."""
        boxes = 2 * (self.right + self.confused) + self.missed + self.false
        return 2 * self.right / boxes if boxes else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class DetectionEvaluation:
    """How a detector did on `n` pictures, fractions 0..1; NaN where there was nothing to find.

    `names` are the L classes in the model's order and `categories` their COCO ids. `coco` and `voc` are made of boxes
    from `score` up, of which a picture has at most `most`, after non-maximum suppression at `iou`. `confusion`
    [L + 1, L + 1] is `DetectionConfusion.compute()`: it counts, as `outcomes` do, boxes from the score `sure` up that
    overlap an object by at least 0.5. `outcomes` are the pictures in the order of the data. Where `count_difficult`,
    difficult objects are as all others, and `outcomes` have none.

    `unreadable` are the files that could not be read, with the reason; they are not among the `n`. `seconds` is the
    time for everything, reading included.
    """

    n: int
    names: tuple[str, ...]
    categories: tuple[int, ...]
    coco: CocoScores
    voc: VocScores
    confusion: npt.NDArray[np.int64]
    outcomes: tuple[Outcome, ...]
    score: float
    iou: float
    most: int
    sure: float
    count_difficult: bool
    unreadable: tuple[tuple[str, str], ...]
    seconds: float
    backend: str
    split: str | None = None

    @property
    def boxes(self) -> int:
        """Objects that are to be found: neither difficult, unless these count, nor crowds."""
        return int(self.confusion[:-1].sum())

    @property
    def became(self) -> dict[str, int]:
        """How many boxes of all pictures are right, confused, missed and false, as `Outcome` says."""
        return {name: sum(getattr(one, name) for one in self.outcomes) for name in BECAME}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the scores, how they were taken, and `class_rows()`."""
        return {
            "task": "detection",
            "n": self.n,
            **{name: None if value is None else round(value, 6) for name, value in self.coco.to_json().items()},
            "voc_ap50": json_number(self.voc.ap50),
            "boxes": self.boxes,
            **self.became,
            "sure_score": self.sure,
            "score": self.score,
            "iou": self.iou,
            "most": self.most,
            "difficult": "count" if self.count_difficult else "ignore",
            "backend": self.backend,
            "split": self.split,
            "seconds": round(self.seconds, 3),
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "classes": self.class_rows(),
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """A row (its keys are `CLASS_COLUMNS`) for each class that has objects or was found; a fraction of nothing is
        None. `found`, `right`, `precision`, `recall` and `f1` are those of the sure boxes."""
        boxes, found = self.confusion.sum(axis=1)[:-1], self.confusion.sum(axis=0)[:-1]
        rows: list[dict[str, Any]] = []
        for i in map(int, np.flatnonzero(boxes + found)):
            right = int(self.confusion[i, i])
            values = (
                i, self.names[i], int(boxes[i]), int(found[i]), right, _share(right, found[i]), _share(right, boxes[i]),
                _share(2 * right, boxes[i] + found[i]), json_number(self.voc.per_class[i]),
                json_number(self.coco.per_class[i]),
            )  # fmt: skip
            rows.append(dict(zip(CLASS_COLUMNS, values, strict=True)))
        return rows

    def text(self) -> str:
        """The scores, the classes that did worst, and what was most often taken for what."""
        coco, became = self.coco, self.became
        present = sum(curve.true > 0 for curve in self.voc.curves)
        lines = [
            f"{self.n:,} pictures, {self.boxes:,} boxes of {present:,} classes, backend {self.backend}, "
            f"{self.seconds:.1f} s ({self.n / max(self.seconds, 1e-9):.1f} pictures/s)",
            f"VOC   AP50 {_percent(self.voc.ap50)} %",
            f"COCO  AP {_percent(coco.ap)} %   AP50 {_percent(coco.ap50)}   AP75 {_percent(coco.ap75)}   "
            f"small {_percent(coco.ap_small)}   medium {_percent(coco.ap_medium)}   large {_percent(coco.ap_large)}",
            f"COCO  AR {_percent(coco.ar100)} %   AR1 {_percent(coco.ar1)}   AR10 {_percent(coco.ar10)}   "
            f"small {_percent(coco.ar_small)}   medium {_percent(coco.ar_medium)}   large {_percent(coco.ar_large)}",
            f"from a score of {self.score:g} up, suppressed at an overlap of {self.iou:g}, at most {self.most} boxes "
            f"a picture; difficult objects {'count' if self.count_difficult else 'do not count'}",
            f"from a score of {self.sure:g} up: {became['right']:,} boxes right, {became['confused']:,} of another "
            f"class, {became['missed']:,} missed, {became['false']:,} false",
        ]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} pictures could not be read and are left out")
        return joined([*lines, *self._class_table(), *self._confused()])

    def __str__(self) -> str:
        return self.text()

    def _class_table(self) -> list[str]:
        present = [row for row in self.class_rows() if row["boxes"]]
        if not present:
            return []
        # the weakest first; of equally weak ones the larger, whose figure means more
        weakest = sorted(present, key=lambda row: (row["voc_ap50"], -row["boxes"], row["index"]))[:WEAKEST]
        width = min(max(len("class"), *(len(row["label"]) for row in weakest)), 40)
        title = "classes" if len(present) <= WEAKEST else f"the {WEAKEST} weakest of {len(present)} classes"
        columns = (("voc_ap50", "VOC AP"), ("ap", "COCO AP"), ("precision", "precision"), ("recall", "recall"))
        return [
            "",
            f"{title} (precision and recall from a score of {self.sure:g} up):",
            f"  {'class':{width}}  boxes" + "".join(f"  {head:>9}" for _, head in columns),
            *(
                f"  {cut(row['label'], width):{width}}  {row['boxes']:5d}"
                + "".join(f"  {_percent(row[key]):>9}" for key, _ in columns)
                for row in weakest
            ),
        ]

    def _confused(self) -> list[str]:
        pairs = metrics.confused_pairs(self.confusion[:-1], limit=5)
        if not pairs:
            return []
        shown = [
            f"  {count:4d}  {plain(self.names[true])} -> {plain(self.names[found])}" for true, found, count in pairs
        ]
        return ["", "most often confused (true -> found):", *shown]


CLASS_COLUMNS = ("index", "label", "boxes", "found", "right", "precision", "recall", "f1", "voc_ap50", "ap")
BECAME = ("right", "confused", "missed", "false")


def evaluate(
    predictor: Predictor,
    data: DetectionData,
    *,
    score: float = LEAST_SCORE,
    iou: float | None = None,
    most: int = MOST,
    count_difficult: bool = False,
    progress: Callable[[int, int], None] | None = None,
    batch: int = 8,
) -> DetectionEvaluation:
    """Ask `predictor` about every picture of `data`, whose labels are the model's classes.

    Boxes from `score` up are taken, after non-maximum suppression at an overlap of `iou` (None: the model's own), at
    most `most` of a picture. `count_difficult` makes difficult objects (VOC) ordinary ones. `batch` pictures go through
    the network at a time; `progress(done, total)` is called after each picture. Pictures that cannot be read are named
    in the result and left out of its scores.

    Raises `UsageError` where `data` was opened for other classes or an option is out of its range, `DatasetError` where
    the data is empty or no picture of it could be read, and `Error` where the network's output is not finite.
    """
    info = predictor.info
    if info.task != "detection":
        raise UsageError(f"pictures with boxes measure detection; this is a model for {info.task}")
    if data.names != tuple(info.label(i) for i in range(info.classes)):
        raise UsageError(
            f"the data's {len(data.names)} classes are not the model's {info.classes} in the model's order: "
            "open it with open_detection(path, classes=predictor.info)"
        )
    if not data.samples:
        raise DatasetError("the data set has no pictures to evaluate")
    sure = max(SURE, score)
    coco, voc = CocoAP(info.classes), VocAP(info.classes)
    confusion = DetectionConfusion(info.classes, score=sure)
    outcomes: list[Outcome] = []
    unreadable: list[tuple[str, str]] = []
    start = time.perf_counter()
    paths = (sample.path for sample in data.samples)
    answers = predictor.many(paths, score=score, iou=iou, most=most, batch=batch, errors="yield")
    for done, (truth, answer) in enumerate(zip(data.samples, answers, strict=True), start=1):
        if isinstance(answer, Error):
            unreadable.append((str(truth.path), str(answer)))
        else:
            assert isinstance(answer, Detections)
            if count_difficult:
                truth = replace(truth, difficult=np.zeros_like(truth.difficult))
            found = found_boxes(answer)
            for metric in (coco, voc, confusion):
                metric.add(truth, found)
            outcomes.append(Outcome(truth, answer, match(truth, found, score=sure)))
        if progress is not None:
            progress(done, len(data.samples))
    if not outcomes:
        raise DatasetError(f"none of the {len(data.samples)} pictures could be read; the first: {unreadable[0][1]}")
    return DetectionEvaluation(
        n=len(outcomes),
        names=data.names,
        categories=coco_categories(info),
        coco=coco.compute(),
        voc=voc.compute(),
        confusion=confusion.compute(),
        outcomes=tuple(outcomes),
        score=score,
        iou=ssdlite.head_of(info.spec).iou_threshold if iou is None else iou,
        most=most,
        sure=sure,
        count_difficult=count_difficult,
        unreadable=tuple(unreadable),
        seconds=time.perf_counter() - start,
        backend=predictor.backend.name,
        split=data.split,
    )


def found_boxes(answer: Detections) -> FoundBoxes:
    """The boxes of an answer as arrays, in its order."""
    found = answer.detections
    return FoundBoxes(
        np.array([one.box_xyxy for one in found], np.float64).reshape(-1, 4),
        np.array([one.index for one in found], np.int64),
        np.array([one.score for one in found], np.float64),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / int(whole), 6) if whole else None


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"
