"""Checks of one value each that came from outside, for specs, preprocessing, labels, recipes and arguments.

Each gives the value back as plain Python and raises `UsageError` (or the `error` it is told) that names the field, what
it must be and what it is. NumPy's numbers are numbers; True and False are not.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mobilenetv2.errors import UsageError
from mobilenetv2.text import quoted

Kind = type[UsageError]


def is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """A finite number that float can hold."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # a whole number beyond 1e308
        return False


def whole(name: str, value: Any, least: int = 1, most: int | None = None, *, error: Kind = UsageError) -> int:
    """A whole number from `least` to `most`."""
    if not is_whole(value) or value < least or (most is not None and value > most):
        bounds = f"from {least:,} to {most:,}" if most is not None else f"from {least:,} up"
        raise error(f"{name} must be a whole number {bounds}, got {quoted(value)}")
    return int(value)


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    error: Kind = UsageError,
) -> Any:
    """A finite number from `least` to `most`; `above` and `below` exclude the bounds themselves."""
    good = is_number(value) and (value > least if above else value >= least)
    if not good or not (value < most if below else value <= most):
        raise error(f"{name} must be a number{_bounds(least, most, above=above, below=below)}, got {quoted(value)}")
    return value if isinstance(value, int | float) else float(value)


def choice(name: str, value: Any, choices: Iterable[Any], *, error: Kind = UsageError) -> Any:
    """One of `choices`, of their own types: neither 8.0 nor True stands for a whole number."""
    known = tuple(choices)
    for one in known:
        same_type = isinstance(value, type(one)) and isinstance(value, bool) == isinstance(one, bool)
        if (same_type or (is_whole(value) and is_whole(one))) and value == one:
            return one
    raise error(f"{name} must be {either(known)}, got {quoted(value)}")


def text(name: str, value: Any, most: int, *, least: int = 1, error: Kind = UsageError) -> str:
    """A text of `least` to `most` characters that UTF-8 can write."""
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise error(f"{name} must be a text of {least} to {most:,} characters, got {quoted(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise error(f"{name} must be a text that UTF-8 can write, got {quoted(value)}") from None
    return value


def items(
    name: str,
    value: Any,
    check: Callable[[Any], Any] = lambda item: item,
    *,
    least: int = 0,
    most: int,
    error: Kind = UsageError,
) -> tuple[Any, ...]:
    """A list of `least` to `most` values, each as `check` gives it."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise error(f"{name} must be a list, got {quoted(value)}")
    if not least <= len(value) <= most:
        wanted = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        shown = f": {quoted(value)}" if len(value) <= 8 else ""  # not the work of writing a list of millions
        raise error(f"{name} must have {wanted} entries, got {len(value):,}{shown}")
    return tuple(check(item) for item in value)


def either(choices: Sequence[object]) -> str:
    """ "8, 16 or 32"."""
    *most, final = map(str, choices)
    return f"{', '.join(most)} or {final}" if most else final


def _bounds(least: float, most: float, *, above: bool, below: bool) -> str:
    words = []
    if math.isfinite(least):
        words.append(f"{'above' if above else 'at least'} {_written(least)}")
    if math.isfinite(most):
        words.append(f"{'below' if below else 'at most'} {_written(most)}")
    return f" {' and '.join(words)}" if words else ""


def _written(bound: float) -> str:
    return f"{bound:,.0f}" if float(bound).is_integer() and abs(bound) < 1e12 else f"{bound:g}"
