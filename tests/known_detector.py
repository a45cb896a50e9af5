"""A detector whose answers are known, and pictures for it: the raw outputs that mean given boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenetv2 import boxes, image
from mobilenetv2.data.annotation import DetectionSample, make_sample
from mobilenetv2.data.detection import DetectionData
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import Backbone, Spec, SSDLite

NAMES = ("ant", "bee", "cat")
HEIGHT, WIDTH = 120, 160  # of the pictures
Box = tuple[float, float, float, float]
Row = tuple[int, float, Box]  # class, score, box in pixels
A, B, C, D = (10, 10, 60, 50), (80, 20, 150, 70), (20, 70, 70, 110), (90, 80, 150, 115)
NEAR_B = (84, 22, 150, 70)  # overlaps B by 0.9

TRUTHS = [[(0, A), (1, B)], [(0, A), (2, C), (2, D)], [], [(1, B)]]
ANSWERS: list[list[Row]] = [
    [(0, 0.9, A), (1, 0.8, NEAR_B)],  # both right
    [(0, 0.7, A), (1, 0.6, C), (2, 0.1, D)],  # right; a cat is called bee; the other one is found, but hardly
    [(0, 0.5, B)],  # nothing is there
    [],  # missed
]


class Oracle:
    """A backend that says about picture i, which has the grey level 3 i, what row i of `answers` has."""

    name = "oracle"

    def __init__(
        self, answers: Sequence[Sequence[Row]], names: tuple[str, ...] = NAMES, *, size: int = 96, **head: Any
    ) -> None:
        fields: dict[str, Any] = {"classes": len(names), "most_per_class": 1000, **head}
        self.info = ModelInfo(Spec(Backbone(width_mult=0.35), SSDLite(**fields)), image.recipe("ssd", size), names)
        self.answers = answers
        self.batches: list[int] = []

    def run(self, images_BHWC: Any, /) -> dict[str, np.ndarray]:
        self.batches.append(len(images_BHWC))
        raws = [raw_of(self.info, self.answers[int(one[16, 16, 0]) // 3]) for one in images_BHWC]
        return {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}


def raw_of(info: ModelInfo, rows: Sequence[Row], size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict[str, np.ndarray]:
    """Raw outputs [1, ...] that mean these boxes on a picture of this height and width: an anchor speaks for each."""
    head = info.spec.head
    assert isinstance(head, SSDLite)
    anchors_A4 = boxes.anchors(info.spec, info.preprocessing.size)
    logits = np.full((1, len(anchors_A4), head.outputs), -20, np.float32)
    deltas = np.zeros((1, len(anchors_A4), 4), np.float32)
    for a, (label, score, box) in enumerate(rows):
        norm_cxcywh = boxes.cxcywh_from_xyxy(np.array(box) / [size[1], size[0], size[1], size[0]])
        deltas[0, a] = boxes.encode(norm_cxcywh, anchors_A4[a], head.coder)
        logits[0, a, label + 1] = math.log(score / (1 - score))
    return {"class_logits": logits, "box_deltas": deltas}


def pictures(
    folder: Path, truths: Sequence[Sequence[tuple[int, Box]]], names: tuple[str, ...] = NAMES, **flags: Any
) -> DetectionData:
    """Picture i is grey level 3 i; `flags` are `make_sample`'s for the first one."""
    samples: list[DetectionSample] = []
    for i, rows in enumerate(truths):
        path = folder / f"picture {i}.png"
        Image.new("L", (WIDTH, HEIGHT), 3 * i).save(path)
        found, labels = [box for _, box in rows], [label for label, _ in rows]
        samples.append(make_sample(path, found, labels, size=(HEIGHT, WIDTH), **(flags if i == 0 else {})))
    return DetectionData(tuple(samples), names, "voc", split="val")


def known(truths: Sequence[Sequence[tuple[int, Box]]], score: float = 0.9) -> list[list[Row]]:
    """The answers of a detector that finds everything."""
    return [[(label, score, box) for label, box in rows] for rows in truths]
