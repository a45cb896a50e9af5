"""The report of a detector's run: average precision, classes, what is confused, drawn pictures beside the truth."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import charts_detection, detection_report, evaluate_detection
from mobilenetv2.data import detection_check
from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.data.classification import place
from mobilenetv2.data.detection import AS_FOUND, DetectionData, Places, open_parts
from mobilenetv2.data.detection_check import DetectionCheck
from mobilenetv2.detection_matching import match
from mobilenetv2.detection_metrics import Curve, VocScores
from mobilenetv2.errors import Error
from mobilenetv2.evaluate_detection import DetectionEvaluation, Outcome, found_boxes
from mobilenetv2.plots import Tile
from mobilenetv2.predictor import Predictor
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, bar, chart, percent, photos, table, tag
from mobilenetv2.report.tasks import BATCH, Card, Progress, Section, held_out_of
from mobilenetv2.results import Detection, Detections

DRAWN = 12  # pictures beside their truth: 40 KB each
GALLERY = 24
LEARNED = 0.01  # average precision at an overlap of 0.5: boxes at random reach less

NOUN, NETWORK, PREDICT, ADD_UP = "detector", "SSDLite on MobileNetV2", " --draw drawn", True
NEEDED = frozenset(
    ("n", "boxes", "voc_ap50", "ap", "ap75", "sure_score", "classes", "confusion", "curves", "worst", "right",
     "confused", "missed", "false", "backend")
)  # fmt: skip


def read_check(values: Any) -> DetectionCheck:
    return detection_check.from_json(values)


def held_out(dataset: str, settings: Mapping[str, Any], check: DetectionCheck | None) -> DetectionData:
    parts = open_parts(dataset, places=_places(settings))
    if "val" in parts:
        data = parts["val"]
        left_out: set[str] = set()
        if check is not None:
            left_out = {file for file, _ in check.unreadable}.union(*check.leaks)
        samples = [sample for sample in data.samples if str(sample.path) not in left_out]
    else:
        data = parts["train"] if "train" in parts else parts["all"]
        samples = held_out_of(data.samples, dataset, settings, lambda sample: place(sample.path, dataset))
    return dataclasses.replace(data, samples=tuple(samples), split="val")


def measure(predictor: Predictor, data: DetectionData, progress: Progress | None) -> dict[str, Any]:
    """`detection_report.details`, "curves" with each class's recall and precision, and "worst": what was found on the
    pictures that are drawn, the worst first."""
    found = evaluate_detection.evaluate(predictor, data, progress=progress, batch=BATCH)
    return {**detection_report.details(found), "curves": _thin(found.voc), "worst": _worst(found)}


def outcome(facts: Facts) -> dict[str, Any]:
    ap50, ap = _scores(facts)
    return {"ap50": ap50, "ap": ap}


def card(facts: Facts) -> Card | None:
    ap50, ap = _scores(facts)
    if ap50 is None:
        return None
    coco = f"COCO’s AP (overlaps of 0.50 to 0.95) {percent(ap)}"
    found = facts.evaluation
    more = "" if found is None else f", {found['boxes']:,} boxes on {found['n']:,} pictures"
    return "val mAP@0.5", percent(ap50), coco + more


def judgement(facts: Facts) -> str | None:
    ap50, _ = _scores(facts)
    if ap50 is None or ap50 >= LEARNED:
        return None
    return f"An average precision of {percent(ap50)} is next to nothing: train for more epochs, or on more pictures."


def sections(facts: Facts) -> list[Section]:
    return [("How well it does", _classes(facts)), ("The pictures where it errs most", _drawn(facts))]


def count_rows(facts: Facts) -> list[tuple[str, Mapping[str, int]]]:
    assert isinstance(facts.check, DetectionCheck)
    return [("pictures", {**facts.check.pictures, **facts.used}), ("of them without a box", facts.check.without)]


def gallery(facts: Facts) -> list[Html]:
    assert isinstance(facts.check, DetectionCheck)
    parts = {part: data for part, data in _parts(facts).items() if part in facts.check.counts}
    faults = tuple(fault for data in parts.values() for fault in data.faults)  # with the boxes that are drawn
    tiles = detection_check.gallery(dataclasses.replace(facts.check, faults=faults), parts, most=GALLERY)
    return [photos(tiles)] if parts and tiles else []


def _scores(facts: Facts) -> tuple[float | None, float | None]:
    """Average precision at an overlap of 0.5, and COCO's: the engine's where it measured the model, else training's."""
    if facts.evaluation is not None:
        return facts.evaluation["voc_ap50"], facts.evaluation["ap"]
    scores = facts.scores
    return scores.get("val_ap50"), scores.get("val_ap")


def _classes(facts: Facts) -> list[Html]:
    found = facts.evaluation
    if found is None:
        return []
    names = facts.names
    background = len(names)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for true, answer, boxes in found["confusion"]:
        counts[true, answer] = boxes  # -1 is background: the last one
    # the weakest first; of equally weak ones the larger, whose figure means more
    measured = sorted(
        (row for row in found["classes"] if row["boxes"]), key=lambda row: (row["voc_ap50"], -row["boxes"])
    )
    rows = [
        (row["label"], f"{row['boxes']:,}", bar(row["voc_ap50"]), percent(row["voc_ap50"]), percent(row["ap"]),
         percent(row["precision"]), percent(row["recall"]), _confused(counts[row["index"]], row["index"], names))
        for row in measured
    ]  # fmt: skip
    shown = (
        f"Measured by the {found['backend']} on {found['n']:,} pictures with {found['boxes']:,} boxes that training "
        f"has not seen, the weakest class first: mAP@0.5 {percent(found['voc_ap50'])}, COCO’s AP {percent(found['ap'])}"
        f", AP75 {percent(found['ap75'])}. From a score of {found['sure_score']:g} up, which precision and recall are "
        f"about, {found['right']:,} boxes are right, {found['confused']:,} of another class, {found['missed']:,} missed"
        f" and {found['false']:,} false."
    )
    header = ("class", "boxes", "", "AP at 0.5", "COCO’s AP", "precision", "recall", "most often taken for")
    parts = [tag("p", shown), table(rows, header=header, right=(1, 3, 4, 5, 6))] if rows else [tag("p", shown)]
    if rows:
        curves = charts_detection.precision_recall(_curves(found, background), names)
        parts.append(chart(curves, "Precision at each recall, of each class"))
    if counts.any():
        text = f"Confusion matrix of {len(measured)} classes and background"
        parts.append(chart(charts_detection.detection_confusion(counts, names), text))
    return parts


def _confused(row: npt.NDArray[np.int64], own: int, names: Sequence[str]) -> str:
    """What a class was most often taken for, background included."""
    others = row.copy()
    others[own] = 0
    most = int(others.argmax())
    if not others[most]:
        return ""
    return f"{names[most] if most < len(names) else 'background'} ({others[most]:,})"


def _thin(voc: VocScores) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for index, curve in enumerate(voc.curves):
        if curve.true:
            recall, precision = (np.round(values, 6).tolist() for values in curve.corners())
            kept.append({"index": index, "true": curve.true, "ap": curve.ap, "recall": recall, "precision": precision})
    return kept


def _curves(found: Mapping[str, Any], classes: int) -> VocScores:
    """What `_thin` kept."""
    nothing = np.zeros(0)
    curves = [Curve(0, nothing, nothing, nothing, float("nan")) for _ in range(classes)]
    for one in found["curves"]:
        recall, precision = np.array(one["recall"], float), np.array(one["precision"], float)
        curves[one["index"]] = Curve(one["true"], nothing, precision, recall, one["ap"])
    return VocScores(float("nan") if found["voc_ap50"] is None else found["voc_ap50"], tuple(curves))


@dataclass(frozen=True, slots=True)
class _Judged:
    names: tuple[str, ...]
    sure: float


def _worst(evaluation: DetectionEvaluation) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for one in detection_report.worst_first(evaluation.outcomes, DRAWN):
        sure = Detections(tuple(box for box in one.answer.detections if box.score >= evaluation.sure))
        kept.append(sure.to_json(file=str(one.truth.path)))
    return kept


def _drawn(facts: Facts) -> list[Html]:
    if facts.evaluation is None:
        return []
    samples = {str(sample.path): sample for data in _parts(facts).values() for sample in data.samples}
    judged = _Judged(facts.names, facts.evaluation["sure_score"])
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="draw") as pool:
        drawn = pool.map(lambda one: _tile(one, samples.get(one["file"]), judged), facts.evaluation["worst"])
        tiles = [tile for tile in drawn if tile is not None]
    if not tiles:
        return []
    text = (
        "The objects are on the left, what was found is on the right. Green: found as what it is. Amber: missed, or "
        "found as another class. Red: found where no object is, or of another class than its object. Grey does not "
        "count. Where there are many boxes, the mistakes are named."
    )
    return [tag("p", text), photos(tiles, wide=True)]


def _tile(one: Mapping[str, Any], sample: DetectionSample | None, judged: _Judged) -> Tile | None:
    """None where the picture is no longer there."""
    if sample is None:
        return None
    answer = Detections(
        tuple(Detection(box["index"], box["label"], box["score"], tuple(box["box"])) for box in one["detections"])
    )
    try:
        found = Outcome(sample, answer, match(sample, found_boxes(answer), score=judged.sure))
        return detection_report.tile(found, judged)
    except Error:
        return None


def _parts(facts: Facts) -> Mapping[str, DetectionData]:
    """The data set's pictures; none where they are no longer there."""
    if facts.dataset is None:
        return {}
    try:
        return open_parts(facts.dataset, places=_places(facts.settings))
    except Error:
        return {}


def _places(settings: Mapping[str, Any]) -> Places:
    found = settings.get("places")
    return Places(**{name: Path(at) for name, at in found.items()}) if isinstance(found, dict) else AS_FOUND
