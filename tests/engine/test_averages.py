"""Masks of several looks made in the engine are those of the NumPy definition, but where scores are all but equal."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_head import levels, runnable_levels, threads

from mobilenetv2 import looks, upsample
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.averages import Averages
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError
from mobilenetv2.looks import Look

NEAR = 1e-5  # of a look's scores, which add up to 1: two classes nearer than this may change places
sides = st.integers(1, 40)
Size = tuple[int, int]


@st.composite
def parts(draw: st.DrawFn) -> tuple[Size, list[tuple[Size, Size, Size]]]:
    """A picture's size, and of each look its map's size, its part's, and where that begins."""
    height, width = draw(sides), draw(sides)
    found: list[tuple[Size, Size, Size]] = []
    for _ in range(draw(st.integers(1, 5))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        part = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
        found.append((draw(st.tuples(st.integers(1, 9), st.integers(1, 9))), part, (top, left)))
    return (height, width), found


def look(of_map: Size, part: Size, at: Size = (0, 0), *, classes: int, seed: int = 0, spread: float = 3) -> Look:
    logits = np.random.default_rng(seed).normal(0, spread, (*of_map, classes)).astype(np.float32)
    rows, columns = (upsample.resized(a, b, align_corners=True) for a, b in zip(of_map, part, strict=True))
    return Look(logits, rows, columns, *at)


def assert_best(mask_HW: np.ndarray, seen: Sequence[Look]) -> None:
    """Every pixel's class has the largest of the definition's summed scores, but for rounding."""
    sums_HWL = looks.summed_scores(seen, (mask_HW.shape[0], mask_HW.shape[1]))
    found_HW = np.take_along_axis(sums_HWL, mask_HW[..., np.newaxis], -1)[..., 0]
    assert (found_HW >= sums_HWL.max(-1) - NEAR * len(seen)).all()


@settings(max_examples=60, deadline=None)
@given(picture=parts(), classes=st.integers(1, 30), cpu=levels, threads=threads)
def test_a_mask_is_the_definitions(
    picture: tuple[Size, list[tuple[Size, Size, Size]]], classes: int, cpu: Cpu, threads: int
) -> None:
    size, placed = picture
    seen = [look(*where, classes=classes, seed=i) for i, where in enumerate(placed)]
    found = Averages(cpu, threads=threads)(seen, size)
    assert found.dtype == np.uint8
    assert found.shape == size
    assert_best(found, seen)
    covered = np.zeros(size, bool)
    for _, (height, width), (top, left) in placed:
        covered[top : top + height, left : left + width] = True
    assert not found[~covered].any()  # what nobody sees


@pytest.mark.few(10)
@pytest.mark.parametrize("cpu", runnable_levels(), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("width", [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 513])
def test_widths_around_those_of_vectors(cpu: Cpu, width: int) -> None:
    made = Averages(cpu)  # one for all sizes
    for seen in (
        [look((5, 3), (7, width), classes=21, seed=i) for i in range(3)],
        [look((2, 9), (7, width), classes=21), look((1, 1), (3, 1), (4, width - 1), classes=21, seed=1)],
    ):
        assert_best(made(seen, (7, width)), seen)


@pytest.mark.parametrize("cpu", runnable_levels(), ids=lambda cpu: cpu.name)
def test_one_look_gives_the_classes_of_the_largest_logits(cpu: Cpu) -> None:
    one = look((17, 23), (65, 91), classes=256)
    expected = upsample.best_classes(one.logits[np.newaxis], one.rows, one.columns)[0]
    assert (Averages(cpu, threads=3)([one], (65, 91)) == expected).mean() > 0.999  # but for equal scores


@pytest.mark.parametrize("cpu", runnable_levels(), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("spread", [1e-3, 1, 30, 1e4, 1e30])
def test_logits_may_be_of_any_size(cpu: Cpu, spread: float) -> None:
    seen = [look((3, 4), (9, 21), classes=7, seed=i, spread=spread) for i in range(4)]
    assert_best(Averages(cpu)(seen, (9, 21)), seen)


def test_equal_scores_are_the_first_class() -> None:
    one = look((2, 2), (9, 33), classes=5, spread=0)
    assert not Averages(cpus.host())([one, one], (9, 33)).any()


def test_the_definition_keeps_what_a_picture_in_one_piece_would_have() -> None:
    seen = [look((5, 4), (40, 30), classes=6), look((3, 3), (20, 11), (17, 19), classes=6, seed=1)]
    np.testing.assert_array_equal(looks.best_on_average(seen, (40, 30)), looks.summed_scores(seen, (40, 30)).argmax(-1))


def test_more_classes_than_a_byte_can_name_are_refused() -> None:
    for best in (looks.best_on_average, Averages(cpus.host())):
        with pytest.raises(UsageError, match=r"256 classes, got 257"):
            best([look((1, 1), (2, 2), classes=257)], (2, 2))
