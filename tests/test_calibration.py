"""Calibration against a hand calculation, the slow way bin by bin, and answers that are as right as they are sure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2.errors import UsageError
from mobilenetv2.metrics import Calibration


@st.composite
def sure_answers(draw):
    """Confidences, many of them on the edges of bins, and whether the answers are right."""
    edge = st.integers(0, 15).map(lambda i: i / 15)
    pairs = draw(st.lists(st.tuples(st.floats(0, 1) | edge, st.booleans()), min_size=1, max_size=40))
    confidences, right = zip(*pairs, strict=True)
    return np.array(confidences), np.array(right)


def calibrated(confidences, right, bins=15):
    calibration = Calibration(bins)
    calibration.add(confidences, right)
    return calibration.compute()


def test_calibration_by_hand():
    found = calibrated([0.62, 0.64, 0.99, 0.95, 0.97, 0.1], [True, False, True, True, False, True])
    # bins (0.6, 0.667]: 1 of 2 right at 0.63; (0.933, 1]: 2 of 3 at 0.97; (0.067, 0.133]: 1 of 1 at 0.1
    assert {int(i): int(found.pictures[i]) for i in np.flatnonzero(found.pictures)} == {1: 1, 9: 2, 14: 3}
    assert found.confidence[[1, 9, 14]] == pytest.approx([0.1, 0.63, 0.97])
    assert found.accuracy[[1, 9, 14]] == pytest.approx([1, 1 / 2, 2 / 3])
    assert found.ece == pytest.approx((1 * 0.9 + 2 * 0.13 + 3 * (0.97 - 2 / 3)) / 6)
    assert found.mce == pytest.approx(0.9)
    assert (found.mean_confidence, found.mean_accuracy) == pytest.approx((4.27 / 6, 4 / 6))


@given(sure_answers(), st.integers(1, 20))
def test_calibration_is_what_counting_bin_by_bin_gives(answers, bins):
    confidences, right = answers
    gaps = []
    for i in range(bins):
        low = -1 if i == 0 else i / bins  # 0 is in the first bin
        inside = [j for j, sure in enumerate(confidences) if low < sure <= (i + 1) / bins]
        if inside:
            gaps.append((len(inside), abs(np.mean(right[inside]) - np.mean(confidences[inside]))))
    found = calibrated(confidences, right, bins)
    assert sum(count for count, _ in gaps) == found.pictures.sum() == len(right)  # none is lost, 0 and 1 included
    assert found.ece == pytest.approx(sum(count * gap for count, gap in gaps) / len(right))
    assert found.mce == pytest.approx(max(gap for _, gap in gaps))
    assert 0 <= found.ece <= found.mce + 1e-12  # with one bin both are the same, but for rounding
    assert found.mce <= 1


@given(sure_answers(), st.randoms(), st.integers(0, 40))
def test_neither_the_order_nor_the_batches_of_adding_matter_for_calibration(answers, random, cut):
    confidences, right = answers
    order = list(range(len(right)))
    random.shuffle(order)
    parts = Calibration()
    for part in (order[:cut], order[cut:]):
        parts.add(confidences[part], right[part])
    found, whole = parts.compute(), calibrated(confidences, right)
    assert (found.pictures == whole.pictures).all()
    assert np.array_equal(found.accuracy, whole.accuracy, equal_nan=True)
    assert found.confidence == pytest.approx(whole.confidence, nan_ok=True)
    assert found.ece == pytest.approx(whole.ece)


def test_every_edge_belongs_to_the_bin_below_it():
    found = calibrated([i / 15 for i in range(16)], [True] * 16)
    assert found.pictures.tolist() == [2] + [1] * 14  # 0 is in the first bin beside 1 / 15
    found = calibrated(np.nextafter([i / 15 for i in range(15)], 1), [True] * 15)
    assert found.pictures.tolist() == [1] * 15


def test_always_sure_and_wrong_is_an_error_of_1_and_sure_and_right_one_of_0():
    wrong, right = calibrated([1.0] * 9, [False] * 9), calibrated([1.0] * 9, [True] * 9)
    assert (wrong.ece, wrong.mce, right.ece, right.mce) == (1, 1, 0, 0)


def test_answers_that_are_right_as_often_as_they_are_sure_have_next_to_no_error():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0, 1, 200_000)
    found = calibrated(confidences, rng.uniform(0, 1, 200_000) < confidences)
    # the standard deviation of a bin's accuracy is at most sqrt(0.25 / 13,333) = 0.0043
    assert found.ece < 0.0043
    assert found.mce < 4 * 0.0043
    assert calibrated(confidences**0.5, rng.uniform(0, 1, 200_000) < confidences).ece > 0.1  # too sure


def test_calibration_of_nothing_is_nan():
    found = calibrated([], [])
    assert all(map(math.isnan, (found.ece, found.mce, found.mean_confidence, found.mean_accuracy)))


@pytest.mark.parametrize(
    ("confidences", "right", "message"),
    [
        ([1.01], [True], "confidences must be 0 to 1, got 1.01 to 1.01"),
        ([-0.1, 0.5], [True, True], "confidences must be 0 to 1, got -0.1 to 0.5"),
        ([math.nan], [True], "confidences must be 0 to 1"),
        ([0.5], [True, False], r"must be \[pictures\] both, got \(1,\) and \(2,\)"),
        ([[0.5]], [[True]], r"must be \[pictures\] both"),
        ([0.5], [3], "right must be True or False for each picture, got int64"),
    ],
)
def test_what_is_no_confidence_is_refused(confidences, right, message):
    with pytest.raises(UsageError, match=message):
        calibrated(confidences, right)


def test_calibration_without_bins_is_refused():
    with pytest.raises(UsageError, match="at least one bin, got 0"):
        Calibration(0)
