"""Charts keep what they show: one to a thousand classes, any label."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import charts
from mobilenetv2.errors import UsageError
from mobilenetv2.metrics import Calibration, ConfusionMatrix, Reliability


def confusion(classes: int, pairs: dict[tuple[int, int], int]) -> np.ndarray:
    matrix = ConfusionMatrix(classes)
    for (true, answer), count in pairs.items():
        matrix.add([answer] * count, [true] * count)
    return matrix.compute()


@pytest.mark.parametrize("classes", [1, 2, 30, 31, 1000])
def test_a_confusion_matrix_of_any_size_becomes_a_png(classes: int) -> None:
    counts = confusion(classes, {(i, (i + i % 2) % classes): 2 for i in range(classes)})
    with Image.open(
        io.BytesIO(charts.confusion(counts, [f"a rather long name of class {i}" for i in range(classes)]))
    ) as drawn:
        assert drawn.format == "PNG"
        assert 300 < drawn.width < 3000
        assert len(drawn.convert("RGB").getcolors(1 << 24) or []) > 50


def test_only_classes_with_pictures_are_named() -> None:
    few = charts.confusion(confusion(3, {(i, i): 1 for i in range(3)}), ["name"] * 3)
    assert few == charts.confusion(confusion(1000, {(i, i): 1 for i in range(3)}), ["name"] * 1000)


def test_answers_outside_the_shown_classes_and_missing_answers_have_their_columns() -> None:
    drawn = {
        charts.confusion(confusion(9, {(0, 0): 3, (1, 1): 3, **extra}), ["name"] * 9)
        for extra in ({}, {(0, 7): 1}, {(0, -1): 1}, {(0, 7): 1, (0, -1): 1})
    }
    assert len(drawn) == 4


def test_labels_with_mathematics_and_letters_that_the_font_lacks_do_not_stop_the_drawing() -> None:
    names = ["$x^2$ and $", "猫", "line\nbreak", r"\frac{", "_ ^ {}"]
    assert charts.confusion(confusion(5, {(i, 0): 1 for i in range(5)}), names)


@pytest.mark.parametrize("epochs", [1, 2, 600])
@pytest.mark.parametrize("measured", [True, False])
def test_curves_of_any_run_become_a_png(epochs: int, measured: bool) -> None:
    scores = {"val_loss": 3.0, "val_accuracy": 0.5} if measured else {}
    rows = [{"epoch": i, "learning_rate": 0.1 / i, "train_loss": 2 / i, **scores} for i in range(1, epochs + 1)]
    drawn = charts.curves(rows, epochs)
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.format == "PNG"
        assert picture.width == (3 if measured else 2) * 440
    assert drawn == charts.curves(rows, epochs)
    assert drawn != charts.curves(rows)


def test_curves_without_an_epoch_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one epoch"):
        charts.curves([])


def test_a_matrix_without_pictures_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one picture"):
        charts.confusion(ConfusionMatrix(3).compute(), ["a", "b", "c"])


def calibrated(*answers: tuple[float, bool]) -> Reliability:
    calibration = Calibration()
    for confidence, right in answers:
        calibration.add([confidence], [right])
    return calibration.compute()


def test_a_reliability_diagram_shows_the_gap_and_how_sure_the_answers_are() -> None:
    drawn = {
        charts.reliability(calibrated(*answers))
        for answers in (
            [(0.9, True)],  # could be surer
            [(0.9, False)],  # too sure
            [(0.9, True), (0.9, False)],
            [(0.9, True), (0.1, True)],
            [(0.0, False), (1.0, True)],
        )
    }
    assert len(drawn) == 5
    for chart in drawn:
        with Image.open(io.BytesIO(chart)) as picture:
            assert picture.format == "PNG"
            assert picture.height > 600


def test_a_reliability_diagram_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one picture"):
        charts.reliability(calibrated())


def test_charts_leave_matplotlibs_global_state_alone() -> None:
    charts.confusion(confusion(2, {(0, 0): 1}), ["a", "b"])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
