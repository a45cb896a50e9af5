"""The report of a segmentation network's run: intersection over union, what is confused, overlays beside the truth."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenetv2 import charts_segmentation, evaluate_segmentation, plots, segmentation_metrics, segmentation_report
from mobilenetv2.data import segmentation_check
from mobilenetv2.data.classification import place
from mobilenetv2.data.segmentation import Places, SegmentationData, SegmentationSample, open_parts
from mobilenetv2.data.segmentation_check import SegmentationCheck
from mobilenetv2.errors import Error
from mobilenetv2.evaluate_segmentation import MaskOutcome, SegmentationEvaluation
from mobilenetv2.plots import Tile
from mobilenetv2.predictor import Predictor
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, bar, chart, key, percent, photos, table, tag
from mobilenetv2.report.tasks import BATCH, Card, Progress, Section, held_out_of
from mobilenetv2.results import class_names

DRAWN = 12  # pictures beside their truth
_PANEL = 260  # pixels of a picture's longer side

NOUN, NETWORK, PREDICT, ADD_UP = "segmentation network", "DeepLabv3 on MobileNetV2", " --draw drawn", False
NEEDED = frozenset(("n", "miou", "pixel_accuracy", "classes", "confusion", "boundary", "worst", "backend"))


def read_check(values: Any) -> SegmentationCheck:
    return segmentation_check.from_json(values)


def held_out(dataset: str, settings: Mapping[str, Any], check: SegmentationCheck | None) -> SegmentationData:
    parts = open_parts(dataset, places=_places(settings))
    if "val" in parts:
        data = parts["val"]
        left_out: set[str] = set()
        if check is not None:
            wrong = (file for file, _ in (*check.unreadable, *check.masks))
            left_out = {*wrong, *check.blank}.union(*check.leaks)
        samples = [sample for sample in data.samples if str(sample.path) not in left_out]
    else:
        data = parts["train"] if "train" in parts else parts["all"]
        samples = held_out_of(data.samples, dataset, settings, lambda sample: place(sample.path, dataset))
    return dataclasses.replace(data, samples=tuple(samples), split="val")


def measure(predictor: Predictor, data: SegmentationData, progress: Progress | None) -> dict[str, Any]:
    """`segmentation_report.details`, and "worst": the masks that were found on the pictures that are drawn, the worst
    first."""
    found = evaluate_segmentation.evaluate(predictor, data, progress=progress, batch=BATCH)
    return {**segmentation_report.details(found), "worst": _worst(found)}


def outcome(facts: Facts) -> dict[str, Any]:
    miou, accuracy = _scores(facts)
    return {"miou": miou, "pixel_accuracy": accuracy}


def card(facts: Facts) -> Card | None:
    miou, accuracy = _scores(facts)
    if miou is None:
        return None
    n = facts.pictures.get("val") if facts.evaluation is None else facts.evaluation["n"]
    return "val mean IoU", percent(miou), f"{percent(accuracy)} of the pixels are right, {n:,} pictures"


def judgement(facts: Facts) -> str | None:
    miou, _ = _scores(facts)
    guessed = 1 / len(class_names(facts.info))  # one class everywhere has at most this mean
    if miou is None or miou > guessed:
        return None
    return (
        f"A mean IoU of {percent(miou)} is no more than one class everywhere can reach ({percent(guessed)}): train for "
        "more epochs, or on more pictures."
    )


def sections(facts: Facts) -> list[Section]:
    return [("How well it does", _classes(facts)), ("The pictures where it errs most", _drawn(facts))]


def count_rows(facts: Facts) -> list[tuple[str, Mapping[str, int]]]:
    assert isinstance(facts.check, SegmentationCheck)
    return [("pictures", {**facts.check.pictures, **facts.used})]


def gallery(facts: Facts) -> list[Html]:
    assert isinstance(facts.check, SegmentationCheck)
    parts = {part: data for part, data in _parts(facts).items() if part in facts.check.counts}
    try:
        tiles = segmentation_check.gallery(facts.check, parts) if parts else []
    except Error:  # a picture has gone since
        tiles = []
    return [_key(facts.check.names), photos(tiles)] if tiles else []


def _scores(facts: Facts) -> tuple[float | None, float | None]:
    """Mean IoU and pixel accuracy: the engine's where it measured the model, else training's."""
    if facts.evaluation is not None:
        return facts.evaluation["miou"], facts.evaluation["pixel_accuracy"]
    scores = facts.scores
    return scores.get("val_miou"), scores.get("val_pixel_accuracy")


def _classes(facts: Facts) -> list[Html]:
    found = facts.evaluation
    if found is None:
        return []
    names = class_names(facts.info)
    counts = np.zeros((len(names), len(names)), np.int64)
    for true, answer, pixels in found["confusion"]:
        counts[true, answer] = pixels
    measured = sorted((row for row in found["classes"] if row["pixels"]), key=lambda row: (row["iou"], -row["pixels"]))
    rows = [
        (row["label"], f"{row['pixels']:,}", bar(row["iou"]), percent(row["iou"]), percent(row["recall"]),
         percent(row["precision"]))
        for row in measured
    ]  # fmt: skip
    shown = (
        f"Measured by the {found['backend']} on {found['n']:,} pictures that training has not seen, the weakest class "
        f"first: mean IoU {percent(found['miou'])}, {percent(found['pixel_accuracy'])} of the pixels are right."
    )
    parts = [tag("p", shown)]
    if rows:
        scores = segmentation_metrics.scores(counts)
        header = ("class", "pixels", "", "IoU", "recall", "precision")
        parts += [
            table(rows, header=header, right=(1, 3, 4, 5)),
            chart(charts_segmentation.class_iou(scores, names), "Intersection over union of each class"),
            chart(charts_segmentation.mask_confusion(scores, names), f"Confusion matrix of {len(names)} classes"),
        ]
        bands = [segmentation_metrics.Band(**band) for band in found["boundary"] if band["pixels"]]
        if bands:
            parts.append(chart(charts_segmentation.boundary(bands, scores), "How right masks are near boundaries"))
    return parts


def _worst(evaluation: SegmentationEvaluation) -> list[dict[str, Any]]:
    return [
        {
            "file": str(one.truth.path),
            "miou": None if math.isnan(one.miou) else one.miou,
            "shape": list(one.shape),
            "mask": base64.b64encode(one.packed).decode(),
        }
        for one in segmentation_report.worst_first(evaluation.outcomes, DRAWN)
    ]


def _drawn(facts: Facts) -> list[Html]:
    if facts.evaluation is None:
        return []
    samples = {str(sample.path): sample for data in _parts(facts).values() for sample in data.samples}
    names = class_names(facts.info)
    drawn = [_tile(one, samples.get(one["file"]), names) for one in facts.evaluation["worst"]]
    tiles = [tile for tile in drawn if tile is not None]
    if not tiles:
        return []
    text = (
        "The photo is on the left, the true classes in the middle and those that were found on the right, by the mean "
        "IoU of the picture’s own classes. What does not count is paler in the truth."
    )
    return [tag("p", text), _key(names), photos(tiles, wide=True)]


def _key(names: Sequence[str]) -> Html:
    return key((colour, names[i]) for i, colour in plots.painted(names))


def _tile(one: Mapping[str, Any], sample: SegmentationSample | None, names: tuple[str, ...]) -> Tile | None:
    """None where the picture is no longer there."""
    if sample is None:
        return None
    miou = math.nan if one["miou"] is None else one["miou"]
    height, width = one["shape"]
    found = MaskOutcome(sample, miou, math.nan, (height, width), base64.b64decode(one["mask"]))
    try:
        rgb = segmentation_report.draw(found, names, side=_PANEL)
    except Error:
        return None
    return Tile(rgb, (f"mean IoU {percent(one['miou'])}", sample.path.name))


def _parts(facts: Facts) -> Mapping[str, SegmentationData]:
    """The data set's pictures; none where they are no longer there."""
    if facts.dataset is None:
        return {}
    try:
        return open_parts(facts.dataset, places=_places(facts.settings))
    except Error:
        return {}


def _places(settings: Mapping[str, Any]) -> Places:
    found = settings.get("places")
    return Places.from_json(found) if isinstance(found, dict) else Places()
