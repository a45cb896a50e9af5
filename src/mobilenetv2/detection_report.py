"""What an evaluation of a detector leaves in a folder: tables, COCO's files, charts, and drawings beside the truth.

On a drawing the objects are on the left and what was found is on the right, from the score `sure` up. Green is what was
found as what it is; amber an object that was missed or found as another class; red a found box where no object is, or
of another class than its object; grey what does not count. A drawing of many boxes names the mistakes only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobilenetv2 import boxes, charts_detection, files, image, plots
from mobilenetv2.errors import UsageError
from mobilenetv2.evaluate import csv_text, slug
from mobilenetv2.evaluate_detection import BECAME, CLASS_COLUMNS, DetectionEvaluation, Outcome
from mobilenetv2.results import coco_image_id

DRAWN = 60  # pictures, unless told otherwise
MISSED: plots.Colour = (255, 169, 77)

_SHEET = 15  # pictures of a contact sheet
_COLUMNS = 3
_PANEL = 300  # pixels of a picture's longer side on a contact sheet
_PANELS = (480, 800)  # the same where it has a file of its own: least and most
_NAMED = 6, 25  # boxes of a panel that are all named, on a sheet and in a file


class Judged(Protocol):
    """The classes' names, and the score from which on boxes are looked at."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def sure(self) -> float: ...


def details(evaluation: DetectionEvaluation) -> dict[str, Any]:
    """`to_json()` with two more keys: "confusion", a [true class, found class, boxes] triple for each pair that
    occurred, background as -1, and "pictures", what became of the boxes of each."""
    background = len(evaluation.names)
    rows, columns = np.nonzero(evaluation.confusion)
    triples = np.stack([rows, columns, evaluation.confusion[rows, columns]], axis=1)
    triples[:, :2][triples[:, :2] == background] = -1
    return {
        **evaluation.to_json(),
        "confusion": triples.tolist(),
        "pictures": [
            {"file": str(one.truth.path), **{name: getattr(one, name) for name in BECAME}}
            for one in evaluation.outcomes
        ],
    }


def write_report(evaluation: DetectionEvaluation, folder: str | os.PathLike[str], *, limit: int = DRAWN) -> Path:
    """Write all that is known into `folder`, which is made if it does not exist, and return it.

    `report.json` is `details()` and `classes.csv` `class_rows()` below a line with their names. `detections.json` is
    COCO's list of results and `truth.json` the objects in COCO's form: pycocotools reads both (and takes difficult
    objects for ordinary ones). `precision_recall.png` and `confusion.png` are drawn where there are boxes for them.
    `predictions_1.png` ... show the `limit` pictures with the smallest share of right boxes, worst first.

    Raises `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    folder = Path(folder)
    files.write_json(folder / "report.json", details(evaluation))
    files.write_text(folder / "classes.csv", csv_text(evaluation.class_rows(), CLASS_COLUMNS))
    truth, found = coco_files(evaluation)
    files.write_text(folder / "truth.json", json.dumps(truth))
    files.write_text(folder / "detections.json", json.dumps(found))  # 80 bytes a box: on one line
    curves, confusion = folder / "precision_recall.png", folder / "confusion.png"
    if evaluation.boxes:
        files.write_bytes(curves, charts_detection.precision_recall(evaluation.voc, evaluation.names))
    else:
        curves.unlink(missing_ok=True)  # of an earlier report
    if evaluation.confusion.any():
        files.write_bytes(confusion, charts_detection.detection_confusion(evaluation.confusion, evaluation.names))
    else:
        confusion.unlink(missing_ok=True)
    _write_sheets(evaluation, worst_first(evaluation.outcomes, limit), folder, "predictions")
    return folder


def save_mistakes(evaluation: DetectionEvaluation, folder: str | os.PathLike[str], *, limit: int = DRAWN) -> Path:
    """Draw pictures with mistakes into `folder`, the worst first: a file for each, and contact sheets of them all.

    At most `limit` are drawn. Files are named by rank and picture: `001_street.png`. Returns `folder`. Raises
    `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    folder = Path(folder)
    worst = worst_first((one for one in evaluation.outcomes if one.mistakes), limit)
    for rank, one in enumerate(worst, start=1):
        drawn = draw(one, evaluation, sides=_PANELS, named=_NAMED[1], titles=True)
        plots.write_png(folder / f"{rank:03d}_{slug(one.truth.path.stem)}.png", drawn)
    _write_sheets(evaluation, worst, folder, "contact_sheet")
    return folder


def worst_first(outcomes: Iterable[Outcome], limit: int) -> list[Outcome]:
    """The `limit` with the smallest share of right boxes; of equal ones those with more mistakes first."""
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    return sorted(outcomes, key=lambda one: (one.f1, -one.mistakes))[:limit]


def coco_files(evaluation: DetectionEvaluation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The objects as a COCO data set, and what was found as COCO's list of results.

    A picture's id is the number or the name of its file, as `coco_image_id` has it, or its place in the data where
    these are not all different. Names of files are relative to the folder that holds them all.
    """
    samples = [one.truth for one in evaluation.outcomes]
    ids = [coco_image_id(sample.path) for sample in samples]
    if len(set(ids)) < len(ids) or len({type(one) for one in ids}) > 1:
        ids = list(range(1, len(ids) + 1))
    above = os.path.commonpath([sample.path.absolute().parent for sample in samples])
    found: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for key, one in zip(ids, evaluation.outcomes, strict=True):
        sample = one.truth
        found += one.answer.to_coco(key, evaluation.categories)
        size = {} if sample.size is None else {"height": sample.size[0], "width": sample.size[1]}
        images.append({"id": key, "file_name": os.path.relpath(sample.path.absolute(), above), **size})
        boxes_xywh = boxes.xywh_from_xyxy(sample.boxes_xyxy).tolist()
        for n, (label, box) in enumerate(zip(sample.labels.tolist(), boxes_xywh, strict=True)):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": key,
                    "category_id": evaluation.categories[label],
                    "bbox": box,
                    "area": float(sample.areas[n]),
                    "iscrowd": int(sample.crowd[n]),
                    "ignore": int(sample.difficult[n]),
                }
            )
    named = zip(evaluation.categories, evaluation.names, strict=True)
    categories = [{"id": key, "name": name} for key, name in named]
    return {"images": images, "annotations": objects, "categories": categories}, found


def tile(outcome: Outcome, evaluation: Judged) -> plots.Tile:
    """One picture of a contact sheet: `draw`, how many boxes are right, the file's name."""
    drawn = draw(outcome, evaluation, sides=(_PANEL, _PANEL), named=_NAMED[0])
    return plots.Tile(drawn, ("; ".join(_titles(outcome)), outcome.truth.path.name), right=not outcome.mistakes)


def draw(
    outcome: Outcome, evaluation: Judged, *, sides: tuple[int, int], named: int, titles: bool = False
) -> plots.UInt8Array:
    """One picture twice, RGB: its objects on the left, what was found on the right.

    The longer side of each becomes one of `sides`, the least and the largest. Where one has more than `named` boxes
    only the mistakes are named, at most so many. `titles` are lines below that count the boxes.
    """
    rgb = image.read(outcome.truth.path)
    return plots.side_by_side(
        *(
            plots.photo_with_boxes(rgb, _labelled(marks, named), title=title if titles else "", sides=sides)
            for marks, title in zip(_marks(outcome, evaluation), _titles(outcome), strict=True)
        )
    )


def _marks(outcome: Outcome, evaluation: Judged) -> tuple[list[plots.Box], list[plots.Box]]:
    """The boxes of the objects and of what was found."""
    truth, matches = outcome.truth, outcome.matches
    objects: list[plots.Box] = []
    for n, (label, box) in enumerate(zip(truth.labels.tolist(), truth.boxes_xyxy.tolist(), strict=True)):
        right = not matches.missed[n] and bool(matches.right[matches.found_of[n]])
        colour = plots.FAINT if truth.ignored[n] else plots.RIGHT if right else MISSED
        objects.append(plots.Box(tuple(box), colour, evaluation.names[label]))
    found: list[plots.Box] = []
    for d, one in enumerate(outcome.answer.detections):
        if one.score < evaluation.sure:
            continue
        matched = matches.true_of[d] >= 0
        colour = plots.RIGHT if matches.right[d] else plots.WRONG if matched or matches.false[d] else plots.FAINT
        found.append(plots.Box(one.box_xyxy, colour, f"{one.label} {100 * one.score:.0f} %"))
    return objects, found


def _labelled(marks: Sequence[plots.Box], named: int) -> list[plots.Box]:
    """Mistakes on top, and as many texts as find room."""
    ranks = {MISSED: 0, plots.WRONG: 0, plots.RIGHT: 1, plots.FAINT: 2}
    ordered = sorted(marks, key=lambda mark: ranks[mark.colour])
    if len(ordered) <= named:
        return ordered
    return [
        plots.Box(mark.xyxy, mark.colour, mark.text if ranks[mark.colour] == 0 and place < named else "")
        for place, mark in enumerate(ordered)
    ]


def _titles(outcome: Outcome) -> tuple[str, str]:
    objects = outcome.right + outcome.confused + outcome.missed
    found = outcome.right + outcome.confused + outcome.false
    confused = f", {outcome.confused} of another class" if outcome.confused else ""
    return f"{objects} true, {outcome.missed} missed", f"{found} found, {outcome.false} false{confused}"


def _write_sheets(evaluation: DetectionEvaluation, outcomes: Sequence[Outcome], folder: Path, name: str) -> None:
    """`name`_1.png ... with the pictures in order; further ones, of an earlier report, are removed."""
    sheets = [outcomes[i : i + _SHEET] for i in range(0, len(outcomes), _SHEET)]
    for number, shown in enumerate(sheets, start=1):
        tiles = [tile(one, evaluation) for one in shown]
        cell = 2 * _PANEL + 8, _PANEL
        plots.write_png(folder / f"{name}_{number}.png", plots.contact_sheet(tiles, columns=_COLUMNS, cell=cell))
    number = len(sheets) + 1
    while (old := folder / f"{name}_{number}.png").exists():
        old.unlink()
        number += 1
