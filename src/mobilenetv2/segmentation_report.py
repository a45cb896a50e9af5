"""What an evaluation of masks leaves in a folder: tables, charts, the masks, and overlays beside the truth.

On a drawing the photo is on the left, the true classes in the middle and those that were found on the right; what does
not count is paler in the truth.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import charts_segmentation, files, image, plots, segmentation_metrics
from mobilenetv2.errors import UsageError
from mobilenetv2.evaluate import csv_text, json_number, slug
from mobilenetv2.evaluate_segmentation import CLASS_COLUMNS, MaskOutcome, SegmentationEvaluation
from mobilenetv2.results import write_mask

DRAWN = 40  # pictures, unless told otherwise
GOOD = 0.75  # a picture's own mean IoU from which its edge on a contact sheet is green

_SHEET, _COLUMNS, _PANEL = 12, 2, 260
_NAMED = 4  # classes below a picture on a sheet
_PANELS = 480


def details(evaluation: SegmentationEvaluation) -> dict[str, Any]:
    """`to_json()` with two more keys: "confusion", [true class, found class, pixels] for each pair that occurred, and
    "pictures", the scores of each."""
    counts = evaluation.scores.confusion
    rows, columns = np.nonzero(counts)
    return {
        **evaluation.to_json(),
        "confusion": np.stack([rows, columns, counts[rows, columns]], axis=1).tolist(),
        "pictures": [
            {
                "file": str(one.truth.path),
                "miou": json_number(one.miou),
                "pixel_accuracy": json_number(one.pixel_accuracy),
            }
            for one in evaluation.outcomes
        ],
    }


def write_report(evaluation: SegmentationEvaluation, folder: str | os.PathLike[str], *, limit: int = DRAWN) -> Path:
    """Write all that is known into `folder`, which is made if it does not exist, and return it.

    `report.json` is `details()` and `classes.csv` `class_rows()` below a line with their names. `class_iou.png`,
    `confusion.png` and `boundary.png` are charts. `predictions_1.png` ... show the `limit` pictures with the lowest
    mean IoU of their own, worst first. `masks` has every mask that was found, class numbers with VOC's colours.

    Raises `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    folder = Path(folder)
    files.write_json(folder / "report.json", details(evaluation))
    files.write_text(folder / "classes.csv", csv_text(evaluation.class_rows(), CLASS_COLUMNS))
    found, names = evaluation.scores, evaluation.names
    charts = {
        "class_iou": lambda: charts_segmentation.class_iou(found, names),
        "confusion": lambda: charts_segmentation.mask_confusion(found, names),
        "boundary": lambda: charts_segmentation.boundary(evaluation.bands, found),
    }
    for name, draw_chart in charts.items():
        file = folder / f"{name}.png"
        if found.pixels and (name != "boundary" or any(band.pixels for band in evaluation.bands)):
            files.write_bytes(file, draw_chart())
        else:
            file.unlink(missing_ok=True)  # of an earlier report
    for one in evaluation.outcomes:
        write_mask(folder / "masks" / f"{one.truth.path.stem}.png", one.mask)
    _write_sheets(evaluation, worst_first(evaluation.outcomes, limit), folder, "predictions")
    return folder


def save_mistakes(evaluation: SegmentationEvaluation, folder: str | os.PathLike[str], *, limit: int = DRAWN) -> Path:
    """Draw the pictures with wrong pixels into `folder`, the worst first: a file for each, and contact sheets of all.

    At most `limit` are drawn. Files are named by rank and picture: `001_street.png`. Returns `folder`. Raises
    `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    folder = Path(folder)
    worst = worst_first([one for one in evaluation.outcomes if one.pixel_accuracy < 1], limit)
    for rank, one in enumerate(worst, start=1):
        drawn = draw(one, evaluation.names, side=_PANELS)
        plots.write_png(folder / f"{rank:03d}_{slug(one.truth.path.stem)}.png", drawn)
    _write_sheets(evaluation, worst, folder, "contact_sheet")
    return folder


def worst_first(outcomes: Sequence[MaskOutcome], limit: int) -> list[MaskOutcome]:
    """The `limit` with the lowest mean IoU of their own; those where nothing counts come last."""
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    return sorted(outcomes, key=lambda one: math.inf if math.isnan(one.miou) else one.miou)[:limit]


def draw(outcome: MaskOutcome, names: Sequence[str], *, side: int) -> plots.UInt8Array:
    """The photo, the true classes and the found ones beside each other, RGB; `side` is the longer one of each."""
    rgb = image.read(outcome.truth.path)
    true, found = outcome.truth.read_mask(), outcome.mask
    photo = plots.photo_with_boxes(rgb, (), sides=(side, side))
    painted = [plots.photo_with_mask(rgb, mask_HW, names, sides=(side, side)) for mask_HW in (true, found)]
    return plots.side_by_side(plots.side_by_side(photo, painted[0]), painted[1])


def _words(outcome: MaskOutcome, names: Sequence[str]) -> tuple[str, str]:
    """The picture's mean IoU and name, and those of its classes that were found worst."""
    if math.isnan(outcome.miou):
        return f"nothing counts  {outcome.truth.path.name}", ""
    true_HW = outcome.truth.read_mask()
    counts = segmentation_metrics.confusion(outcome.mask, true_HW, len(names))
    iou = segmentation_metrics.scores(counts).iou
    true = [int(i) for i in np.argsort(iou, kind="stable") if counts[i].any()]  # as the mean's classes are
    worst = [i for i in true[:_NAMED] if iou[i] < GOOD]
    listed = ", ".join(f"{names[i]} {100 * iou[i]:.0f} %" for i in worst)
    return f"{100 * outcome.miou:.0f} %  {outcome.truth.path.name}", listed


def _write_sheets(evaluation: SegmentationEvaluation, outcomes: Sequence[MaskOutcome], folder: Path, name: str) -> None:
    """`name`_1.png ... with the pictures in order; further ones, of an earlier report, are removed."""
    sheets = [outcomes[i : i + _SHEET] for i in range(0, len(outcomes), _SHEET)]
    for number, shown in enumerate(sheets, start=1):
        tiles = [
            plots.Tile(draw(one, evaluation.names, side=_PANEL), _words(one, evaluation.names), right=one.miou >= GOOD)
            for one in shown
        ]
        cell = 3 * _PANEL + 16, _PANEL
        plots.write_png(folder / f"{name}_{number}.png", plots.contact_sheet(tiles, columns=_COLUMNS, cell=cell))
    number = len(sheets) + 1
    while (old := folder / f"{name}_{number}.png").exists():
        old.unlink()
        number += 1
