"""Where things are on a photo: decoded from a detector's raw outputs, as text, JSON, COCO's entries, and drawn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import boxes, checks, plots, text
from mobilenetv2.image import Geometry
from mobilenetv2.metrics import real_classes
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.results.scores import not_finite, percent, shown_label, sigmoid, softmax
from mobilenetv2.spec import ssdlite


@dataclass(frozen=True, slots=True)
class Detection:
    """One object. `index` counts real classes from 0; `score` is 0..1; the box is in pixels of the photo, from its left
    and top edge, within it."""

    index: int
    label: str
    score: float
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detections:
    """What is where on a photo: best first, perhaps nothing."""

    detections: tuple[Detection, ...]

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """One line per object: the score in per cent, the label, left, top, right and bottom in pixels."""
        if not self.detections:
            return "  nothing found"
        labels = [shown_label(d.label) for d in self.detections]
        widest = max(map(len, labels))
        return text.joined(
            f"{percent(d.score):>8}  {label:{widest}}  {' '.join(f'{x:6.0f}' for x in d.box_xyxy)}"
            for d, label in zip(self.detections, labels, strict=True)
        )

    def to_json(self, *, file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Plain JSON values, `file` (where given) as it was written. A box is [left, top, right, bottom] in pixels,
        rounded to hundredths; scores are rounded to 6 decimals."""
        return {
            **({} if file is None else {"file": os.fspath(file)}),
            "task": "detection",
            "detections": [
                {"index": d.index, "label": d.label, "score": round(d.score, 6), "box": _rounded(d.box_xyxy)}
                for d in self.detections
            ],
        }

    def to_coco(self, image_id: int | str, categories: Sequence[int]) -> list[dict[str, Any]]:
        """Entries of COCO's list of results: {image_id, category_id, bbox, score}, bbox [left, top, width, height].

        `categories` has the category id of each class: see `coco_categories`.
        """
        return [
            {
                "image_id": image_id,
                "category_id": categories[d.index],
                "bbox": _rounded(boxes.xywh_from_xyxy(np.array(d.box_xyxy)).tolist()),
                "score": round(d.score, 6),
            }
            for d in self.detections
        ]

    def draw(self, rgb: npt.NDArray[np.uint8], *, title: str = "") -> npt.NDArray[np.uint8]:
        """The photo [H, W, 3] with each box, its label and score; `title` is a line below.

        The photo's longer side comes out as 480 to 1600 pixels, in its own proportions. A class has the same colour on
        every photo.
        """
        found = [
            plots.Box(d.box_xyxy, plots.colour_of(d.index), f"{d.label} {percent(d.score)}") for d in self.detections
        ]
        return plots.photo_with_boxes(rgb, found, title=title)


def decode_detections(
    raw: Mapping[str, npt.NDArray[np.float32]],
    info: ModelInfo,
    geometry: Geometry,
    *,
    score: float | None = None,
    iou: float | None = None,
    most: int | None = None,
) -> Detections:
    """What `raw` of one photo ("class_logits" [1, A, outputs], "box_deltas" [1, A, 4]) says is on it.

    Scores are sigmoid or softmax, as the model says; background is left out. Of each class, boxes are kept that have at
    least `score` and overlap none that is better by more than `iou`: at most `most` in all. None means what the model
    file says. Boxes are cut to the photo; what lies outside it is left out.

    Raises `UsageError` for options out of their range, and `Error` where the outputs are not finite.
    """
    head = ssdlite.head_of(info.spec)
    score = head.score_threshold if score is None else checks.number("score", score, 0, 1)
    iou = head.iou_threshold if iou is None else checks.number("iou", iou, 0, 1)
    most = head.most if most is None else checks.whole("most", most)
    height, width = info.preprocessing.size
    anchors_A4 = boxes.anchors(info.spec, (height, width))
    logits_AO, deltas_A4 = raw["class_logits"][0], raw["box_deltas"][0]
    assert logits_AO.shape == (len(anchors_A4), head.outputs), (logits_AO.shape, len(anchors_A4), head.outputs)
    if not (np.isfinite(logits_AO).all() and np.isfinite(deltas_A4).all()):
        raise not_finite()
    scores_AL = real_classes((sigmoid if head.score == "sigmoid" else softmax)(logits_AO), head.background)
    boxes_A4 = boxes.xyxy_from_cxcywh(boxes.decode(deltas_A4, anchors_A4, head.coder))
    places, classes = boxes.nms(
        boxes_A4, scores_AL, iou_threshold=iou, score_threshold=score, most_per_class=head.most_per_class, most=most
    )  # fmt: skip
    on_photo = geometry.boxes_to_photo(boxes_A4[places] * (width, height, width, height))
    on_photo = boxes.clip(on_photo, geometry.photo_width, geometry.photo_height)
    inside = boxes.area(on_photo) > 0
    return Detections(
        tuple(
            Detection(int(index), info.label(int(index)), float(scores_AL[place, index]), _four(box))
            for place, index, box in zip(places[inside], classes[inside], on_photo[inside], strict=True)
        )
    )


def coco_categories(info: ModelInfo) -> tuple[int, ...]:
    """COCO's category id of each class: what the model file's ids say where they are numbers, else 1, 2, 3, ..."""
    if info.label_ids and all(name.isdecimal() for name in info.label_ids):
        return tuple(int(name) for name in info.label_ids)
    return tuple(range(1, info.classes + 1))


def coco_image_id(file: str | os.PathLike[str]) -> int | str:
    """COCO's pictures are named by their id: 000000000139.jpg is 139. Other files stand under their name."""
    stem = Path(file).stem
    return int(stem) if stem.isascii() and stem.isdecimal() else stem


def _four(box: npt.NDArray[np.floating]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in values]
