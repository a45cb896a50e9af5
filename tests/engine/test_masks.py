"""Masks made in the engine are those of the NumPy definition, to the last pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_head import levels, runnable_levels, threads

from mobilenetv2 import upsample
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine import reference
from mobilenetv2.engine.masks import Masks
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError

sides = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)), out=st.tuples(sides, sides), classes=st.integers(1, 30),
    batch=st.integers(1, 4), align_corners=st.booleans(), cpu=levels, threads=threads,
)  # fmt: skip
def test_a_mask_is_the_definitions(
    size: tuple[int, int], out: tuple[int, int], classes: int, batch: int, align_corners: bool, cpu: Cpu, threads: int
) -> None:
    logits = np.random.default_rng(classes).normal(0, 1, (batch, *size, classes)).astype(np.float32)
    rows, columns = (upsample.resized(a, b, align_corners=align_corners) for a, b in zip(size, out, strict=True))
    expected = upsample.best_classes(logits, rows, columns)
    found = Masks(size[1], classes, cpu, threads=threads)(logits, rows, columns)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@given(size=st.tuples(sides, sides), out=st.tuples(sides, sides), align_corners=st.booleans())
def test_the_definition_is_resize_and_argmax(size: tuple[int, int], out: tuple[int, int], align_corners: bool) -> None:
    logits = np.random.default_rng(0).normal(0, 1, (2, *size, 5)).astype(np.float32)
    rows, columns = (upsample.resized(a, b, align_corners=align_corners) for a, b in zip(size, out, strict=True))
    expected = reference.resize(logits, out, align_corners=align_corners).argmax(-1)
    np.testing.assert_array_equal(upsample.best_classes(logits, rows, columns), expected)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-3, 9), min_size=1, max_size=50), st.lists(st.floats(-3, 12), min_size=1, max_size=50), levels
)
def test_pixels_may_lie_anywhere_in_any_order(down: list[float], across: list[float], cpu: Cpu) -> None:
    logits = np.random.default_rng(0).normal(0, 1, (1, 5, 8, 3)).astype(np.float32)
    rows, columns = upsample.places(down, 5), upsample.places(across, 8)
    expected = upsample.best_classes(logits, rows, columns)
    np.testing.assert_array_equal(Masks(8, 3, cpu)(logits, rows, columns), expected)


@pytest.mark.parametrize("cpu", runnable_levels(), ids=lambda cpu: cpu.name)
def test_the_published_size_and_many_classes(cpu: Cpu) -> None:
    logits = np.random.default_rng(0).normal(0, 1, (3, 33, 33, 256)).astype(np.float32)
    rows = columns = upsample.resized(33, 97, align_corners=True)
    expected = upsample.best_classes(logits, rows, columns)
    assert len(np.unique(expected)) == 256
    np.testing.assert_array_equal(Masks(33, 256, cpu, threads=2)(logits, rows, columns), expected)


def test_equal_logits_are_the_first_class() -> None:
    logits = np.ones((1, 2, 2, 9), np.float32)
    rows = columns = upsample.resized(2, 33, align_corners=False)
    assert not Masks(2, 9, cpus.host())(logits, rows, columns).any()


def test_more_classes_than_a_byte_can_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"256 classes, got 257"):
        Masks(3, 257, cpus.host())
