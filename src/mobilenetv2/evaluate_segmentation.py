"""Masks measured on pictures with masks: a model's, the same for every backend, or those that another program left."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mobilenetv2 import metrics
from mobilenetv2.data.masks import UInt8Array, read_mask
from mobilenetv2.data.segmentation import SegmentationData, SegmentationSample
from mobilenetv2.data.segmentation_augment import sizes_differ
from mobilenetv2.errors import DatasetError, Error, FileError, UsageError
from mobilenetv2.evaluate import cut, json_number
from mobilenetv2.predictor import Predictor
from mobilenetv2.results import Segmentation, class_names
from mobilenetv2.segmentation_metrics import Band, BoundaryQuality, MaskScores, MeanIoU, agreement, scores
from mobilenetv2.text import joined, plain


@dataclass(frozen=True, slots=True, eq=False)
class MaskOutcome:
    """A picture and the mask that was found on it: the mean IoU over its own classes, and the share of right pixels;
    NaN both where none of its pixels counts. `packed` is the mask, compressed: some 5 kB."""

    truth: SegmentationSample
    miou: float
    pixel_accuracy: float
    shape: tuple[int, int]
    packed: bytes

    @property
    def mask(self) -> UInt8Array:
        """[H, W]: the class that was found at each pixel."""
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationEvaluation:
    """How well masks agree with the truth on `n` pictures.

    `names` are the classes, background among them; `scores` is made of one confusion matrix over all pixels that count,
    and `bands` of those near boundaries. `outcomes` are the pictures in the order of the data. `unreadable` are the
    files that could not be read or whose mask cannot be used, with the reason; they are not among the `n`. `seconds`
    is the time for everything, reading included.
    """

    n: int
    names: tuple[str, ...]
    scores: MaskScores
    bands: tuple[Band, ...]
    outcomes: tuple[MaskOutcome, ...]
    unreadable: tuple[tuple[str, str], ...]
    seconds: float
    backend: str
    split: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the scores, the classes without a true pixel ("absent"), and `class_rows()`."""
        return {
            "task": "segmentation",
            "n": self.n,
            "miou": json_number(self.scores.miou),
            "pixel_accuracy": json_number(self.scores.pixel_accuracy),
            "class_accuracy": json_number(self.scores.class_accuracy),
            "weighted_iou": json_number(self.scores.weighted_iou),
            "pixels": self.scores.pixels,
            "absent": [self.names[i] for i in self.scores.absent],
            "boundary": [
                {
                    "width": band.width,
                    "pixels": band.pixels,
                    "miou": json_number(band.miou),
                    "pixel_accuracy": json_number(band.pixel_accuracy),
                }
                for band in self.bands
            ],
            "backend": self.backend,
            "split": self.split,
            "seconds": round(self.seconds, 3),
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "classes": self.class_rows(),
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """A row (its keys are `CLASS_COLUMNS`) for each class; a fraction of nothing is None."""
        found = self.scores
        true_L, found_L = found.confusion.sum(axis=1), found.confusion.sum(axis=0)
        rows: list[dict[str, Any]] = []
        for i, name in enumerate(self.names):
            shares = (json_number(column[i]) for column in (found.iou, found.recall, found.precision))
            rows.append(dict(zip(CLASS_COLUMNS, (i, name, int(true_L[i]), int(found_L[i]), *shares), strict=True)))
        return rows

    def text(self) -> str:
        """The scores, the classes that did worst, and what was most often taken for what."""
        found = self.scores
        narrow = next((band for band in self.bands if band.pixels), None)
        lines = [
            f"{self.n:,} pictures, {found.pixels:,} pixels of {len(self.names) - len(found.absent)} classes, backend "
            f"{self.backend}, {self.seconds:.1f} s ({self.n / max(self.seconds, 1e-9):.1f} pictures/s)",
            f"mean IoU {_percent(found.miou)} %   pixel accuracy {_percent(found.pixel_accuracy)}   "
            f"class accuracy {_percent(found.class_accuracy)}   weighted IoU {_percent(found.weighted_iou)}",
        ]
        if narrow is not None:
            shares = "   ".join(f"{band.width} px {_percent(band.miou)}" for band in self.bands)
            lines.append(f"mean IoU near boundaries, at most so far away: {shares}")
        if found.absent:
            wrong = [i for i in found.absent if not math.isnan(found.iou[i])]
            counted = f"; {_names(self.names, wrong)} found all the same, which counts as 0" if wrong else ""
            lines.append(f"no true pixel of {_names(self.names, found.absent)}, left out of the means{counted}")
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} pictures or masks could not be used and are left out")
        return joined([*lines, *self._class_table(), *self._confused()])

    def __str__(self) -> str:
        return self.text()

    def _class_table(self) -> list[str]:
        present = [row for row in self.class_rows() if row["pixels"]]
        if not present:
            return []
        weakest = sorted(present, key=lambda row: (row["iou"], -row["pixels"]))[:SHOWN]
        width = min(max(len("class"), *(len(row["label"]) for row in weakest)), 40)
        title = "classes" if len(weakest) == len(present) else f"the {len(weakest)} weakest of {len(present)} classes"
        return [
            "",
            f"{title}, weakest first:",
            f"  {'class':{width}}  {'pixels':>11}  {'IoU':>6}  {'recall':>6}  precision",
            *(
                f"  {cut(row['label'], width):{width}}  {row['pixels']:11,}  {_percent(row['iou']):>6}  "
                f"{_percent(row['recall']):>6}  {_percent(row['precision']):>9}"
                for row in weakest
            ),
        ]

    def _confused(self) -> list[str]:
        counts = self.scores.confusion
        pairs = metrics.confused_pairs(np.column_stack([counts, np.zeros(len(counts), np.int64)]), limit=5)
        if not pairs:
            return []
        shown = [
            f"  {_percent(count / self.scores.pixels):>5} %  {plain(self.names[true])} -> {plain(self.names[found])}"
            for true, found, count in pairs
        ]
        return ["", "most often confused (true -> found), of all pixels:", *shown]


SHOWN = 21  # classes that the text lists: all of Pascal VOC's
CLASS_COLUMNS = ("index", "label", "pixels", "found", "iou", "recall", "precision")


def evaluate(
    predictor: Predictor,
    data: SegmentationData,
    *,
    progress: Callable[[int, int], None] | None = None,
    batch: int = 1,
    **options: Any,
) -> SegmentationEvaluation:
    """Ask `predictor` about every picture of `data`, whose classes are `class_names(predictor.info)`.

    `batch` pictures go through the network at a time; `options` are the predictor's; `progress(done, total)` is called
    after each picture. Raises as `evaluate_masks` does, and `UsageError` where `data` was opened for other classes.
    """
    if predictor.info.task != "segmentation":
        raise UsageError(f"pictures with masks measure segmentation; this is a model for {predictor.info.task}")
    names = class_names(predictor.info)
    if data.names != names:
        raise UsageError(
            f"the data's {len(data.names)} classes are not the model's {len(names)} in the model's order: "
            "open it with open_segmentation(path, classes=class_names(predictor.info))"
        )
    paths = (sample.path for sample in data.samples)
    answers = predictor.many(paths, batch=batch, errors="yield", **options)
    masks = (answer if isinstance(answer, Error) else cast("Segmentation", answer).mask for answer in answers)
    return evaluate_masks(data, masks, backend=predictor.backend.name, progress=progress)


def evaluate_masks(
    data: SegmentationData,
    masks: Iterable[UInt8Array | Error],
    *,
    backend: str,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentationEvaluation:
    """Compare masks, [H, W] of class numbers, with those of `data`, one for each of its pictures in their order.

    An `Error` stands for a mask that is not there. It, and a true mask that cannot be read or has another size than
    the picture, is named in the result and left out of its scores.

    Raises `UsageError` where a mask that was found has a value that is no class, `DatasetError` where the data is empty
    or nothing of it could be used.
    """
    if not data.samples:
        raise DatasetError("the data set has no pictures to evaluate")
    total, bands = MeanIoU(len(data.names)), BoundaryQuality(len(data.names))
    outcomes: list[MaskOutcome] = []
    unreadable: list[tuple[str, str]] = []
    start = time.perf_counter()
    for done, (sample, found) in enumerate(zip(data.samples, masks, strict=True), start=1):
        true_HW = found if isinstance(found, Error) else _true_mask(sample, found.shape)
        if isinstance(true_HW, Error):
            unreadable.append((str(sample.path), str(true_HW)))
        else:
            assert not isinstance(found, Error)
            own = scores(total.add(found, true_HW))
            bands.add(found, true_HW)
            present = own.confusion.sum(axis=1) > 0
            miou = float(own.iou[present].mean()) if present.any() else math.nan
            packed = zlib.compress(np.ascontiguousarray(found, np.uint8).tobytes(), 1)
            outcomes.append(MaskOutcome(sample, miou, own.pixel_accuracy, found.shape, packed))
        if progress is not None:
            progress(done, len(data.samples))
    if not outcomes:
        raise DatasetError(f"none of the {len(data.samples)} pictures could be used; the first: {unreadable[0][1]}")
    return SegmentationEvaluation(
        n=len(outcomes),
        names=data.names,
        scores=total.compute(),
        bands=bands.compute(),
        outcomes=tuple(outcomes),
        unreadable=tuple(unreadable),
        seconds=time.perf_counter() - start,
        backend=backend,
        split=data.split,
    )


def stored_masks(data: SegmentationData, folder: Path) -> Iterator[UInt8Array | Error]:
    """The values of `folder`'s PNG files of the pictures' names, as another program left them; an `Error` each where
    there is none or it is coloured."""
    for sample in data.samples:
        file = folder / f"{sample.path.stem}.png"
        try:
            values_HW = read_mask(file).values
        except Error as error:
            yield error
            continue
        yield FileError(f"{file} is coloured: classes are expected as values") if values_HW is None else values_HW


def share_of_equal_pixels(one: SegmentationEvaluation, other: SegmentationEvaluation) -> float:
    """The share of pixels, of pictures in both, that got the same class: of all, whether they count or not."""
    masks = {outcome.truth.path: outcome.mask for outcome in other.outcomes}
    pairs = [(outcome.mask, masks[outcome.truth.path]) for outcome in one.outcomes if outcome.truth.path in masks]
    same, compared = np.array([agreement(*pair) for pair in pairs], np.int64).reshape(-1, 2).sum(axis=0).tolist()
    return same / compared if compared else math.nan


def _true_mask(sample: SegmentationSample, shape: tuple[int, ...]) -> UInt8Array | Error:
    try:
        mask_HW = sample.read_mask()
    except Error as error:
        return error
    return mask_HW if mask_HW.shape == shape else DatasetError(sizes_differ(sample, shape, mask_HW.shape))


def _names(names: tuple[str, ...], which: Iterable[int]) -> str:
    return ", ".join(plain(names[i]) for i in which)


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"
