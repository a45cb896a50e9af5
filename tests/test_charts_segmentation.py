"""Charts of segmentation show what was computed, for few classes and for many."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mobilenetv2.charts_segmentation import boundary, class_iou, mask_confusion
from mobilenetv2.errors import UsageError
from mobilenetv2.segmentation_metrics import BoundaryQuality, MaskScores, MeanIoU


def measured(classes: int) -> tuple[MaskScores, BoundaryQuality, list[str]]:
    rng = np.random.default_rng(classes)
    true = np.repeat(np.repeat(rng.integers(0, classes, (30, 30)), 4, axis=0), 4, axis=1)
    found = np.where(rng.random(true.shape) < 0.7, true, rng.integers(0, classes, true.shape))
    total, bands = MeanIoU(classes), BoundaryQuality(classes)
    total.add(found, true)
    bands.add(found, true)
    return total.compute(), bands, [f"class {i} $x^2$" for i in range(classes)]


@pytest.mark.parametrize("classes", [1, 3, 70])
def test_charts_are_drawn_for_any_number_of_classes(classes: int) -> None:
    found, bands, names = measured(classes)
    charts = [class_iou(found, names), mask_confusion(found, names)]
    if classes > 1:
        charts.append(boundary(bands.compute(), found))
    for content in charts:
        shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert shown.std() > 5
        assert max(shown.shape) < 3000


def test_nothing_cannot_be_drawn() -> None:
    nothing = MeanIoU(3).compute()
    for act in (
        lambda: class_iou(nothing, "abc"),
        lambda: mask_confusion(nothing, "abc"),
        lambda: boundary(BoundaryQuality(3).compute(), nothing),
    ):
        with pytest.raises(UsageError, match="got none"):
            act()
