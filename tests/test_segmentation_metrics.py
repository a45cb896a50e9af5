"""Mean IoU is what its formula says, counted pixel by pixel; so are the bands near boundaries."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.data.masks import read_mask
from mobilenetv2.data.segmentation import open_segmentation
from mobilenetv2.errors import UsageError
from mobilenetv2.segmentation_metrics import (
    BoundaryQuality,
    MeanIoU,
    agreement,
    boundary,
    confusion,
    scores,
    widened,
)

seeds = st.integers(0, 2**32 - 1)


def masks(seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A found mask and a true one with something to ignore."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 20, 2))
    true = rng.integers(0, classes, shape).astype(np.uint8)
    found = np.where(rng.random(shape) < 0.6, true, rng.integers(0, classes, shape)).astype(np.uint8)
    true[rng.random(shape) < 0.2] = 255
    return found, true


@given(seeds)
def test_the_confusion_is_the_pixels_counted_one_by_one(seed: int) -> None:
    found, true = masks(seed)
    slow = np.zeros((4, 4), np.int64)
    for f, t in zip(found.reshape(-1).tolist(), true.reshape(-1).tolist(), strict=True):
        if t != 255:
            slow[t, f] += 1
    assert (confusion(found, true, 4) == slow).all()


@given(st.lists(seeds, min_size=1, max_size=4))
def test_mean_iou_is_of_the_pixels_of_all_pictures_together(many: list[int]) -> None:
    pairs = [masks(seed) for seed in many]
    metric = MeanIoU(4)
    for pair in pairs:
        metric.add(*pair)
    result = metric.compute()
    found = np.concatenate([pair[0].reshape(-1) for pair in pairs])
    true = np.concatenate([pair[1].reshape(-1) for pair in pairs])
    found, true = found[true != 255], true[true != 255]
    ious = []
    for c in range(4):
        union = ((found == c) | (true == c)).sum()
        expected = ((found == c) & (true == c)).sum() / union if union else math.nan
        assert result.iou[c] == pytest.approx(expected, nan_ok=True)
        ious += [expected] if union else []
    if len(true):
        assert result.miou == pytest.approx(np.mean(ious))
        assert result.pixel_accuracy == pytest.approx((found == true).mean())
        shares = np.bincount(true, minlength=4) / len(true)
        assert result.weighted_iou == pytest.approx(np.nansum(result.iou * shares))
    else:
        assert math.isnan(result.miou)
        assert math.isnan(result.pixel_accuracy)


def test_an_absent_class_is_left_out_unless_it_is_found() -> None:
    true = np.array([[0, 0, 1, 1]])
    absent = scores(confusion(true, true, 3))
    assert (absent.miou, absent.absent) == (1, (2,))
    assert math.isnan(absent.iou[2])
    invented = scores(confusion(np.array([[0, 2, 1, 1]]), true, 3))
    assert invented.iou.tolist() == [0.5, 1, 0]
    assert (invented.miou, invented.absent) == (0.5, (2,))
    assert invented.class_accuracy == 0.75  # of the classes that are true somewhere


@given(seeds)
def test_the_widest_band_has_every_pixel_and_narrow_ones_lie_in_wide_ones(seed: int) -> None:
    found, true = masks(seed)
    metric, whole = BoundaryQuality(4, widths=(1, 2, 3, 40)), MeanIoU(4)
    metric.add(found, true)
    whole.add(found, true)
    bands = metric.compute()
    assert [band.pixels for band in bands] == sorted(band.pixels for band in bands)
    if boundary(true).any():
        assert bands[-1].pixels == whole.compute().pixels
        assert bands[-1].miou == pytest.approx(whole.compute().miou, nan_ok=True)
    else:
        assert bands[-1].pixels == 0


@settings(deadline=None)
@given(seeds, st.integers(0, 5))
def test_a_widened_mark_is_a_square_around_every_marked_pixel(seed: int, by: int) -> None:
    rng = np.random.default_rng(seed)
    marked = rng.random(tuple(rng.integers(1, 15, 2))) < 0.1
    slow = np.zeros_like(marked)
    for y, x in zip(*np.nonzero(marked), strict=True):
        slow[max(y - by, 0) : y + by + 1, max(x - by, 0) : x + by + 1] = True
    assert (widened(marked, by) == slow).all()


def test_a_boundary_has_two_sides_and_runs_around_what_is_ignored() -> None:
    mask = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 255]])
    assert boundary(mask).astype(int).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]]
    metric = BoundaryQuality(2, widths=(1,))
    metric.add(np.zeros((4, 4), int), mask)
    (band,) = metric.compute()
    assert (band.pixels, band.pixel_accuracy, band.miou) == (6, 4 / 6, (4 / 6 + 0) / 2)


def test_agreement_compares_what_counts_in_both() -> None:
    assert agreement([[0, 1, 2, 255]], [[0, 2, 255, 255]]) == (1, 2)


def test_wrong_arguments_are_said_in_one_line() -> None:
    for act, words in (
        (lambda: MeanIoU(0), "at least one class, got 0"),
        (lambda: MeanIoU(2).add(np.zeros((2, 3), int), np.zeros((3, 2), int)), "differ in size"),
        (lambda: MeanIoU(2).add(np.zeros((2, 3)), np.zeros((2, 3), int)), "whole numbers, got float64"),
        (lambda: MeanIoU(2).add(np.array([[2]]), np.array([[0]])), "mask has the value 2: its classes are 0 to 1"),
        (lambda: MeanIoU(2).add(np.array([[0]]), np.array([[-1]])), "a true mask has the value -1"),
        (lambda: BoundaryQuality(2, widths=()), "from 1 pixel up"),
        (lambda: BoundaryQuality(2).add(np.zeros((2, 3), int), np.zeros((3, 2), int)), "differ in size"),
        (lambda: agreement([[0]], [[0, 1]]), "differ in size"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            act()


def test_the_stored_masks_of_litert_score_what_was_measured_elsewhere(real_data: Path) -> None:
    folder = real_data / "segmentation" / "voc2012_49"
    data, metric = open_segmentation(folder), MeanIoU(21)
    for sample in data.samples:
        found = read_mask(folder / "reference_litert_masks" / f"{sample.path.stem}.png").values
        assert found is not None
        metric.add(found, sample.read_mask())
    assert metric.compute().miou == pytest.approx(0.757, abs=5e-4)
