"""What comes from outside is shown on one line, without control characters, at a bounded length."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2.errors import Error, unknown_name
from mobilenetv2.text import LONGEST_MESSAGE, counted, plain, quoted

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=400)  # lone surrogates too


def is_safe(text: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202a\u202e\u2066" for c in text)


@given(ANYTHING, st.integers(10, 200))
def test_any_text_becomes_one_safe_line_of_bounded_length(value: str, limit: int) -> None:
    assert is_safe(plain(value, limit))
    assert len(plain(value, limit)) <= limit
    assert is_safe(quoted(value))


@given(ANYTHING)
def test_messages_are_one_safe_line(value: str) -> None:
    assert is_safe(str(Error(f"{value} does not exist")))
    assert len(str(unknown_name("verb", value * 50, ["predict", "train"]))) <= LONGEST_MESSAGE


@pytest.mark.parametrize("value", ["Grüße aus 北京", "क्‍ष", "👩‍🔬 lab", "a b"])
def test_what_people_write_stays_as_it_is(value: str) -> None:
    assert plain(value) == value


def test_a_long_message_keeps_its_beginning_and_its_way_out() -> None:
    message = str(Error(f"model.safetensors: label {'x' * 5000} is too long: use at most 80 characters"))
    assert message.startswith("model.safetensors: label xxx")
    assert message.endswith("is too long: use at most 80 characters")


def test_values_that_python_cannot_write_are_described() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert quoted(10**5000) == "a number of thousands of digits"
    assert quoted(deep) == "a value nested too deep to show"
    assert quoted("a\nb") == "'a\\nb'"


def test_numbers_of_things_are_counted() -> None:
    assert (counted(1, "finding"), counted(2000, "finding")) == ("1 finding", "2,000 findings")
