"""The report of a classifier's run: accuracy, classes, calibration, mistakes."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilenetv2 import charts, evaluate, image, metrics, plots
from mobilenetv2.data import check as checking
from mobilenetv2.data import check_gallery
from mobilenetv2.data.check import DataCheck, open_parts
from mobilenetv2.data.classification import ClassificationData, Picture, is_there, open_classification, place, splits
from mobilenetv2.errors import Error
from mobilenetv2.metrics import Reliability
from mobilenetv2.plots import Tile
from mobilenetv2.predictor import Predictor
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, bar, chart, percent, photos, table, tag
from mobilenetv2.report.tasks import BATCH, Card, Progress, Section, held_out_of

MISTAKES = 24  # thumbnails: 8 KB each
GALLERY = 24

NOUN, NETWORK, PREDICT, ADD_UP = "classifier", "MobileNetV2", "", True
NEEDED = frozenset(("n", "top1", "top1_interval95", "macro_recall", "calibration", "classes", "confusion", "mistakes"))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of `n` held-out pictures whose first answer is right, and its 95 % interval; fractions 0..1."""

    share: float
    low: float
    high: float
    n: int


def read_check(values: Any) -> DataCheck:
    return checking.from_json(values)


def held_out(dataset: str, settings: Mapping[str, Any], check: DataCheck | None) -> ClassificationData:
    parts = splits(dataset)
    if "val" in parts:
        data = open_classification(dataset, split="val")
        left_out: set[str] = set()
        if check is not None:
            left_out = {file for file, _ in check.unreadable}.union(*check.contradictions, *check.leaks)
        samples = [sample for sample in data.samples if str(sample.picture) not in left_out]
    else:
        data = open_classification(dataset, split="train" if "train" in parts else None)
        samples = held_out_of(data.samples, dataset, settings, lambda sample: place(sample.picture, dataset))
    return dataclasses.replace(data, samples=tuple(samples), split="val")


def measure(predictor: Predictor, data: ClassificationData, progress: Progress | None) -> dict[str, Any]:
    return evaluate.details(evaluate.evaluate(predictor, data, progress=progress, batch=BATCH))


def outcome(facts: Facts) -> dict[str, Any]:
    found = _accuracy(facts)
    return {
        "accuracy": None if found is None else found.share,
        "accuracy_interval95": None if found is None else [found.low, found.high],
    }


def card(facts: Facts) -> Card | None:
    found = _accuracy(facts)
    if found is None:
        return None
    interval = f"95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} %, {found.n:,} pictures"
    return "val accuracy", percent(found.share), interval


def judgement(facts: Facts) -> str | None:
    found = _accuracy(facts)
    if found is None:
        return None
    guessed = 1 / facts.info.classes
    if facts.evaluation is not None:  # always the largest class
        guessed = max(row["pictures"] for row in facts.evaluation["classes"]) / found.n
    if found.low > guessed:
        return None
    return (
        f"On {found.n:,} pictures an accuracy of {percent(found.share)} cannot be told from guessing "
        f"({percent(guessed)}): train for more epochs, or measure on more pictures."
    )


def sections(facts: Facts) -> list[Section]:
    return [("How well it does", _classes(facts)), ("The surest mistakes", _mistakes(facts))]


def count_rows(facts: Facts) -> list[tuple[str, Mapping[str, int]]]:
    return []


def gallery(facts: Facts) -> list[Html]:
    assert isinstance(facts.check, DataCheck)
    parts = {part: data for part, data in _parts(facts).items() if part in facts.check.counts}
    return [photos(check_gallery.gallery(facts.check, parts, most=GALLERY))] if parts else []


def _accuracy(facts: Facts) -> Accuracy | None:
    """The engine's where it measured the model, else what training did; None where nothing was held out."""
    if facts.evaluation is not None:
        low, high = facts.evaluation["top1_interval95"]
        return Accuracy(facts.evaluation["top1"], low, high, facts.evaluation["n"])
    share, n = facts.scores.get("val_accuracy"), facts.pictures.get("val")
    if share is None or not n:
        return None
    low, high = metrics.interval(min(round(share * n), n), n)
    return Accuracy(share, low, high, n)


def _classes(facts: Facts) -> list[Html]:
    found = facts.evaluation
    if found is None:
        return []
    names = facts.names
    counts = np.zeros((len(names), len(names) + 1), np.int64)  # the last column is "no answer": never the engine's
    taken_for: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for true, answer, pictures in found["confusion"]:
        counts[true, answer] = pictures
        if answer != true:
            taken_for[true].append((pictures, answer))

    def confused(index: int) -> str:
        if not taken_for[index]:
            return ""
        pictures, answer = max(taken_for[index], key=lambda pair: (pair[0], -pair[1]))
        return f"{names[answer]} ({pictures})"

    # the weakest first; of equally weak ones the larger, whose figure means more
    measured = sorted(
        (row for row in found["classes"] if row["pictures"]), key=lambda row: (row["recall"], -row["pictures"])
    )
    rows = [
        (row["label"], f"{row['pictures']:,}", bar(row["recall"]), percent(row["recall"]),
         percent(row["precision"]), percent(row["f1"]), confused(row["index"]))
        for row in measured
    ]  # fmt: skip
    header = ("class", "pictures", "", "accuracy", "precision", "F1", "most often taken for")
    shown = (
        f"Measured by the {found['backend']} on {found['n']:,} pictures that training has not seen, the weakest class "
        f"first. The mean of the classes’ accuracies is {percent(found['macro_recall'])}."
    )
    return [
        tag("p", shown),
        table(rows, header=header, right=(1, 3, 4, 5)),
        chart(charts.confusion(counts, names), f"Confusion matrix of {len(measured)} classes"),
        tag("p", "Whether answers are right as often as the model is sure of them:"),
        chart(charts.reliability(_reliability(found["calibration"])), "Reliability diagram"),
    ]


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Reliability:
    pictures = np.array([bin_["pictures"] for bin_ in bins], np.int64)
    confidence, accuracy = (np.array([bin_[name] for bin_ in bins], float) for name in ("confidence", "accuracy"))
    return Reliability(pictures, confidence, accuracy)  # None has become NaN


def _mistakes(facts: Facts) -> list[Html]:
    if facts.evaluation is None:
        return []
    mistakes = facts.evaluation["mistakes"]
    if not mistakes:
        return [tag("p", f"None: all {facts.evaluation['n']:,} answers were right.")]
    surest = sorted(mistakes, key=lambda mistake: -mistake["predictions"][0]["score"])[:MISTAKES]
    shown = f"{len(mistakes):,} of {facts.evaluation['n']:,} answers were wrong"
    most = f"; the {len(surest)} that the model was surest of" if len(surest) < len(mistakes) else ""
    pictures = {str(sample.picture): sample.picture for data in _parts(facts).values() for sample in data.samples}
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        tiles = [
            tile for tile in pool.map(lambda mistake: _mistake(mistake, pictures, facts), surest) if tile is not None
        ]
    return [tag("p", f"{shown}{most if tiles else ''}."), *([photos(tiles)] if tiles else [])]


def _mistake(mistake: Mapping[str, Any], pictures: Mapping[str, Picture], facts: Facts) -> Tile | None:
    """None where the picture is no longer there."""
    picture = pictures.get(mistake["file"])
    if picture is None:
        return None
    try:
        rgb = plots.thumbnail(image.read(picture))
    except Error:
        return None
    answer = mistake["predictions"][0]
    where = place(picture, facts.dataset or "")
    lines = (f"{answer['label']} ({percent(answer['score'])})", f"true class: {mistake['true']['label']}", where)
    return Tile(rgb, lines, right=False)


def _parts(facts: Facts) -> Mapping[str, ClassificationData]:
    """The data set's pictures; none where they are no longer there."""
    if facts.dataset is None or not is_there(facts.dataset):
        return {}
    try:
        return open_parts(facts.dataset)
    except Error:  # the folder is there, the pictures are not
        return {}
