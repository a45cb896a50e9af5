"""One checker for every value from outside: NumPy's numbers count, True and 8.0 do not stand for whole numbers."""

import math

import numpy as np
import pytest

from mobilenetv2 import checks
from mobilenetv2.errors import SpecError, UsageError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_python_and_numpy_are_taken(value: object) -> None:
    result = checks.whole("n", value, 1, 5)
    assert result == 3
    assert type(result) is int


@pytest.mark.parametrize("value", [0, 6, 3.0, True, "3", None, math.nan, [3]])
def test_anything_else_is_refused_with_the_name_and_the_value(value: object) -> None:
    with pytest.raises(SpecError, match=r"^n must be a whole number from 1 to 5, got "):
        checks.whole("n", value, 1, 5, error=SpecError)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, 10**400, True, "1", None])
def test_numbers_are_finite_and_within_their_bounds(value: object) -> None:
    with pytest.raises(UsageError, match=r"^x must be a number at least 0 and below 1, got "):
        checks.number("x", value, 0, 1, below=True)


def test_numbers_keep_their_kind() -> None:
    assert checks.number("x", 1) == 1
    assert type(checks.number("x", np.float32(0.5), 0, 1)) is float
    with pytest.raises(UsageError, match="above 0"):
        checks.number("x", 0, 0, 1, above=True)


@pytest.mark.parametrize("value", [8.0, True, "8", 12])
def test_a_choice_has_the_type_of_what_it_is(value: object) -> None:
    with pytest.raises(UsageError, match="stride must be 8, 16 or 32, got"):
        checks.choice("stride", value, (8, 16, 32))
    assert checks.choice("stride", np.int32(8), (8, 16, 32)) == 8


def test_texts_are_bounded_and_can_be_written() -> None:
    assert checks.text("label", "ok", 10) == "ok"
    for value in ("", "x" * 11, "\ud800", 3):
        with pytest.raises(UsageError, match="label must be a text"):
            checks.text("label", value, 10)


def test_lists_are_bounded_before_their_items_are_looked_at() -> None:
    assert checks.items("rates", [1, 2], lambda rate: checks.whole("rate", rate), most=3) == (1, 2)
    for value in ([1] * 4, "123", 5, None):
        with pytest.raises(UsageError, match="rates must"):
            checks.items("rates", value, most=3)


def test_numbers_that_python_cannot_write_are_refused_like_others() -> None:
    with pytest.raises(UsageError, match="got a number of thousands of digits"):
        checks.whole("n", 10**5000, 1, 5)
