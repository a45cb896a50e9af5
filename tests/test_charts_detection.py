"""Charts of detection show what was computed, for one class and for many."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenetv2.charts_detection import detection_confusion, precision_recall
from mobilenetv2.data.annotation import make_sample
from mobilenetv2.detection_matching import DetectionConfusion
from mobilenetv2.detection_metrics import VocAP, VocScores
from mobilenetv2.errors import UsageError


class Found:
    def __init__(self, boxes_xyxy: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
        self.boxes_xyxy, self.labels, self.scores = boxes_xyxy, labels, scores


def measured(classes: int) -> tuple[VocScores, np.ndarray]:
    rng = np.random.default_rng(classes)
    corners = rng.uniform(0, 200, (20 * classes, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 90, corners.shape)], axis=1)
    labels = rng.integers(0, classes, len(boxes))
    near = boxes + rng.normal(0, 5, boxes.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    found = Found(
        near,
        np.where(rng.random(len(boxes)) < 0.8, labels, rng.integers(0, classes, len(boxes))),
        rng.random(len(boxes)),
    )
    metric, confusion = VocAP(classes), DetectionConfusion(classes)
    for one in (metric, confusion):
        one.add(make_sample(Path("x"), boxes, labels), found)
    return metric.compute(), confusion.compute()


@pytest.mark.parametrize("classes", [1, 10, 35])
def test_charts_are_pictures_of_a_sensible_size(classes: int) -> None:
    scores, counts = measured(classes)
    names = [f"class $ {i} with a name that is rather long, longer than any" for i in range(classes)]
    for drawn in (precision_recall(scores, names), detection_confusion(counts, names)):
        chart = Image.open(io.BytesIO(drawn))
        assert 300 < chart.width < 2500
        assert 300 < chart.height < 2500
        assert len(chart.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one true box, got none"):
        precision_recall(VocAP(2).compute(), ["a", "b"])
    with pytest.raises(UsageError, match="at least one box, got none"):
        detection_confusion(DetectionConfusion(2).compute(), ["a", "b"])
