"""A predictor measured on labelled pictures: the same for every backend."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import charts, files, image, metrics, plots
from mobilenetv2.data.classification import ClassificationData, Sample
from mobilenetv2.errors import DatasetError, Error, FileError, ImageError, UsageError
from mobilenetv2.metrics import Calibration, ConfusionMatrix, Macro, PerClass, Reliability, TopK
from mobilenetv2.predictor import Predictor
from mobilenetv2.results import Classification
from mobilenetv2.text import LONGEST_LINE, joined, plain

TOP = 5
WEAKEST = 10  # classes that the text lists
MISTAKES = 60  # drawn unless told otherwise


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture whose first answer was not its class."""

    sample: Sample
    answer: Classification


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How a model did on `n` pictures, fractions 0..1.

    `names` are the L classes in the model's order. `samples` are the pictures in the order of the data, `answers`
    [n] their first answers and `confidences` [n] the scores of these. `confusion` is [L, L + 1] as in
    `metrics.ConfusionMatrix.compute()`. `mistakes` are in the order of the data. `unreadable` are the files that
    could not be read, with the reason; they are not among the `n`. `seconds` is the time for everything,
    reading included.
    """

    n: int
    top1: float
    top5: float
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    answers: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]
    calibration: Reliability
    mistakes: tuple[Mistake, ...]
    unreadable: tuple[tuple[str, str], ...]
    seconds: float
    backend: str
    split: str | None = None

    @property
    def per_class(self) -> PerClass:
        return metrics.per_class(self.confusion)

    @property
    def macro(self) -> Macro:
        return metrics.macro(self.per_class)

    @property
    def interval95(self) -> tuple[float, float]:
        """The 95 % interval of `top1`."""
        return metrics.interval(int(self.per_class.right.sum()), self.n)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the scores, and a row for each class that has pictures or was answered."""
        macro = self.macro
        return {
            "task": "classification",
            "n": self.n,
            "top1": round(self.top1, 6),
            "top5": round(self.top5, 6),
            "top1_interval95": [round(bound, 6) for bound in self.interval95],
            "macro_precision": round(macro.precision, 6),
            "macro_recall": round(macro.recall, 6),
            "macro_f1": round(macro.f1, 6),
            "ece": round(self.calibration.ece, 6),
            "mce": round(self.calibration.mce, 6),
            "backend": self.backend,
            "split": self.split,
            "seconds": round(self.seconds, 3),
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "calibration": self._calibration_rows(),
            "classes": self.class_rows(),
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """A row for each class that has pictures or was answered; a fraction of nothing is None."""
        table = self.per_class
        seen = np.flatnonzero(table.pictures + table.answered)
        return [
            {
                "index": int(i),
                "label": self.names[i],
                "pictures": int(table.pictures[i]),
                "answered": int(table.answered[i]),
                "precision": json_number(table.precision[i]),
                "recall": json_number(table.recall[i]),
                "f1": json_number(table.f1[i]),
            }
            for i in map(int, seen)
        ]

    def text(self) -> str:
        """The scores, the classes that did worst, and what was most often taken for what."""
        low, high = self.interval95
        macro, calibration = self.macro, self.calibration
        present = int((self.per_class.pictures > 0).sum())
        lines = [
            f"{self.n:,} pictures of {present:,} classes, backend {self.backend}, "
            f"{self.seconds:.1f} s ({self.n / max(self.seconds, 1e-9):.1f} pictures/s)",
            f"top-1 {100 * self.top1:6.2f} %   95 % interval {100 * low:.1f} to {100 * high:.1f}",
            *([f"top-5 {100 * self.top5:6.2f} %"] if len(self.names) > TOP else []),  # it would always be 100
            f"mean over the classes: precision {100 * macro.precision:.2f} %, recall {100 * macro.recall:.2f} %, "
            f"F1 {100 * macro.f1:.2f} %",
            f"calibration: ECE {100 * calibration.ece:.2f} %, MCE {100 * calibration.mce:.2f} % "
            f"({len(calibration.pictures)} bins), mean confidence {100 * calibration.mean_confidence:.2f} %",
        ]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} pictures could not be read and are left out")
        return joined([*lines, *self._class_table(), *self._confused()])

    def __str__(self) -> str:
        return self.text()

    def _calibration_rows(self) -> list[dict[str, Any]]:
        found, bins = self.calibration, len(self.calibration.pictures)
        return [
            {
                "from": round(i / bins, 6),
                "to": round((i + 1) / bins, 6),
                "pictures": int(found.pictures[i]),
                "confidence": json_number(found.confidence[i]),
                "accuracy": json_number(found.accuracy[i]),
            }
            for i in range(bins)
        ]

    def _class_table(self) -> list[str]:
        table = self.per_class
        present = np.flatnonzero(table.pictures)
        # the weakest first; of equally weak ones the larger, whose figure means more
        weakest = sorted(map(int, present), key=lambda i: (table.recall[i], -table.pictures[i], i))[:WEAKEST]
        width = min(max(len("class"), *(len(self.names[i]) for i in weakest)), 40)
        title = "classes" if len(present) <= WEAKEST else f"the {WEAKEST} weakest of {len(present)} classes"
        lines = ["", f"{title}:", f"  {'class':{width}}  pictures  precision   recall       F1"]
        lines.extend(
            f"  {cut(self.names[i], width):{width}}  {table.pictures[i]:8d}  {_percent(table.precision[i]):>9}"
            f"  {_percent(table.recall[i]):>7}  {_percent(table.f1[i]):>7}"
            for i in weakest
        )
        return lines

    def _confused(self) -> list[str]:
        pairs = metrics.confused_pairs(self.confusion, limit=5)
        if not pairs:
            return []
        shown = [
            f"  {count:4d}  {plain(self.names[true])} -> {plain(self.names[answer])}" for true, answer, count in pairs
        ]
        return ["", "most often confused (true -> answer):", *shown]


def evaluate(
    predictor: Predictor,
    data: ClassificationData,
    *,
    progress: Callable[[int, int], None] | None = None,
    batch: int = 8,
) -> Evaluation:
    """Ask `predictor` about every picture of `data`, whose labels are the model's classes.

    `batch` pictures go through the network at a time; `progress(done, total)` is called after each picture.
    Pictures that cannot be read are named in the result and left out of its scores.

    Raises `UsageError` where `data` was opened for other classes, `DatasetError` where it is empty or no
    picture of it could be read, and `Error` where the network's output is not finite or a shard cannot be had.
    """
    info = predictor.info
    if info.task != "classification":
        raise UsageError(f"labelled pictures measure classification; this is a model for {info.task}")
    if data.names != tuple(info.label(i) for i in range(info.classes)):
        raise UsageError(
            f"the data's {len(data.names)} classes are not the model's {info.classes} in the model's order: "
            "open it with open_classification(path, classes=predictor.info)"
        )
    if not data.samples:
        raise DatasetError("the data set has no pictures to evaluate")
    top_k, matrix = TopK(info.classes, ks=(1, TOP)), ConfusionMatrix(info.classes)
    calibration = Calibration()
    read: list[tuple[Sample, int, float]] = []  # with the first answer and its confidence
    mistakes: list[Mistake] = []
    unreadable: list[tuple[str, str]] = []
    start = time.perf_counter()
    answers = predictor.many((sample.picture for sample in data.samples), top=TOP, batch=batch, errors="yield")
    for done, (sample, answer) in enumerate(zip(data.samples, answers, strict=True), start=1):
        if isinstance(answer, FileError | ImageError):
            unreadable.append((str(sample.picture), str(answer)))
        elif isinstance(answer, Error):  # a shard that cannot be had
            raise answer
        else:
            assert isinstance(answer, Classification)
            indices = [found.index for found in answer.predictions]
            confidence = answer.predictions[0].score
            read.append((sample, indices[0], confidence))
            calibration.add([confidence], [indices[0] == sample.label])
            top_k.add([indices], [sample.label])
            matrix.add(indices[:1], [sample.label])
            if indices[0] != sample.label:
                mistakes.append(Mistake(sample, answer))
        if progress is not None:
            progress(done, len(data.samples))
    if not top_k.n:
        raise DatasetError(f"none of the {len(data.samples)} pictures could be read; the first: {unreadable[0][1]}")
    samples, first_answers, confidences = zip(*read, strict=True)
    scores = top_k.compute()
    return Evaluation(
        n=top_k.n,
        top1=scores["top1"],
        top5=scores[f"top{TOP}"],
        names=data.names,
        samples=samples,
        answers=np.array(first_answers, dtype=np.int64),
        confidences=np.array(confidences, dtype=np.float64),
        confusion=matrix.compute(),
        calibration=calibration.compute(),
        mistakes=tuple(mistakes),
        unreadable=tuple(unreadable),
        seconds=time.perf_counter() - start,
        backend=predictor.backend.name,
        split=data.split,
    )


def details(evaluation: Evaluation) -> dict[str, Any]:
    """`to_json()` with two more keys: "confusion", a [true class, answer, pictures] triple for each pair that
    occurred, and "mistakes", one object per wrong answer."""
    counts = evaluation.confusion[:, :-1]
    rows, columns = np.nonzero(counts)
    return {
        **evaluation.to_json(),
        "confusion": np.stack([rows, columns, counts[rows, columns]], axis=1).tolist(),
        "mistakes": [
            {
                "file": str(mistake.sample.picture),
                "true": {"index": mistake.sample.label, "label": evaluation.names[mistake.sample.label]},
                "predictions": mistake.answer.to_json()["predictions"],
            }
            for mistake in evaluation.mistakes
        ],
    }


def write_report(evaluation: Evaluation, folder: str | os.PathLike[str]) -> Path:
    """`report.json`, `classes.csv`, `confusion.png` and `reliability.png` in `folder`; returns `folder`.

    The folder is made if it does not exist. The JSON is `details()`, the table `class_rows()` below a line with their
    names; a fraction of nothing is an empty cell. Raises `FileError`.
    """
    folder = Path(folder)
    files.write_json(folder / "report.json", details(evaluation))
    files.write_bytes(folder / "confusion.png", charts.confusion(evaluation.confusion, evaluation.names))
    files.write_bytes(folder / "reliability.png", charts.reliability(evaluation.calibration))
    rows = evaluation.class_rows()
    files.write_text(folder / "classes.csv", csv_text(rows, rows[0]))
    return folder


def save_mistakes(evaluation: Evaluation, folder: str | os.PathLike[str], *, limit: int = MISTAKES) -> Path:
    """Draw wrong answers into `folder`, the surest first: a file for each and `contact_sheet.png` of them all.

    At most `limit` are drawn. Files are named by rank, true class and answer: `001_tabby_as_lynx.png`.
    Returns `folder`. Raises `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    folder = Path(folder)
    surest = sorted(evaluation.mistakes, key=lambda mistake: -mistake.answer.predictions[0].score)[:limit]
    tiles: list[plots.Tile] = []
    for rank, mistake in enumerate(surest, start=1):
        true, answer = evaluation.names[mistake.sample.label], mistake.answer.predictions[0]
        rgb = image.read(mistake.sample.picture)
        drawn = mistake.answer.draw(rgb, title=f"true class: {true}")
        plots.write_png(folder / f"{rank:03d}_{slug(true)}_as_{slug(answer.label)}.png", drawn)
        lines = (f"{100 * answer.score:.0f} % {answer.label}", f"true: {true}")
        tiles.append(plots.Tile(plots.thumbnail(rgb), lines, right=False))
    if tiles:
        plots.write_png(folder / "contact_sheet.png", plots.contact_sheet(tiles))
    return folder


def json_number(value: float) -> float | None:
    """`value` to 6 decimals, and None for NaN, which JSON has not."""
    return None if math.isnan(value) else round(float(value), 6)


def cut(text: str, width: int) -> str:
    """`text`, made safe to show, in at most `width` letters; "…" ends it where some are missing."""
    text = plain(text[:LONGEST_LINE], None)
    return text if len(text) <= width else text[: width - 1] + "…"


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Collection[str]) -> str:
    """`rows` below a line with the names of their columns; what is None is an empty cell."""
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def slug(label: str) -> str:
    """`label` as part of a file's name on any system."""
    return re.sub(r"[^\w-]+", "-", label).strip("-")[:24] or "class"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"
