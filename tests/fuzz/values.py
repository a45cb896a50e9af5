"""Values that programs stumble over, and trees of JSON, YAML and XML with such values in the place of good ones."""

from __future__ import annotations

import copy
import json
import math
import random
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 8, 16, 255, 256, 1_000, 4_096, 65_536, 100_000, 10**6, 10**9, 2**31 - 1, 2**31, 2**32, 2**53,
    2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**18, 10**400, 10**5000, 0.0, -0.0, 0.1, 0.5, 1.5, 8.0, 1e-9, 1e-300,
    1e20, 1e300, 1e308, -1e308, math.nan, math.inf, -math.inf, True, False,
)  # fmt: skip
TEXTS: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "nan", "1e999", "9" * 5000, "a" * 300, "a" * 5000, "\x1b[31mred", "\x1b]0;title\x07",
    "two\nlines", "tab\tand\rreturn", "\u202eabc\u2066", "\ud800", "\x00", "é", "人", "e\u0301", ".", "..", "/",
    "../../x", "/dev/null", "%s%n", "null", "yes", "None", "background", "person", "{}", "[]", "\ufeff", "\u2028",
)  # fmt: skip
DEPTHS = (50, 200, 900, 1_100, 5_000, 100_000)


class Raw:
    """A text that stands in the JSON as it is: nesting that no tree could have."""

    def __init__(self, text: str) -> None:
        self.text = text


def any_value(rng: random.Random, hard: float = 0.9) -> Any:
    """A value of any kind."""
    roll = rng.random()
    if roll < 0.4:
        return rng.choice(NUMBERS)
    if roll < 0.7:
        return rng.choice(TEXTS)
    if roll < hard:
        return rng.choice((None, [], {}, [[]], [None], {"a": 1}, [1, 2], [0] * 5, ["x"], [1.5, "x"], [[1, 2], [3, 4]]))
    depth = rng.choice(DEPTHS)
    return rng.choice(
        (Raw("[" * depth + "]" * depth), Raw('{"a":' * depth + "0" + "}" * depth), [0] * 20_000, ["x"] * 5_000)
    )


def near(rng: random.Random, value: Any) -> Any:
    """A value of the same kind: such a one gets farther than one of another."""
    if isinstance(value, bool):
        return rng.choice((not value, 0, 1, "true"))
    if isinstance(value, int | float):
        with suppress(OverflowError):
            return rng.choice(
                (rng.choice(NUMBERS), value + 1, value - 1, -value, value * 2, value * 10, value / 2, float(value), 0)
            )
        return 0
    if isinstance(value, str):
        return rng.choice(
            (rng.choice(TEXTS), value + rng.choice(TEXTS), rng.choice(TEXTS) + value, value.upper(), value[1:])
        )
    return any_value(rng)


def changed(
    rng: random.Random, tree: Any, *, times: int | None = None, hints: Sequence[Any] = (), gentle: float = 0.6
) -> Any:
    """A copy of the tree with a few of its places changed. `hints` are values that mean something in it."""
    tree = [copy.deepcopy(tree)]
    for _ in range(times or 1 + int(rng.expovariate(1.0))):
        places = list(_places(tree))
        leaves = [(node, key) for node, key in places if not isinstance(node[key], dict | list)]
        series = [(node, key) for node, key in places if _are_numbers(node[key])]
        roll = rng.random()
        node, key = rng.choice(series if series and roll < 0.15 else leaves if leaves and roll < 0.7 else places)
        _change(rng, node, key, hints, gentle)
    return tree[0]


def _change(rng: random.Random, node: Any, key: Any, hints: Sequence[Any], gentle: float) -> None:
    value, roll = node[key], rng.random()
    if isinstance(value, list) and roll < 0.5:
        node[key] = _list(rng, value)
    elif hints and roll < 0.2:
        node[key] = rng.choice(hints)
    elif roll < 0.2 + gentle * 0.7:
        node[key] = near(rng, value)
    elif roll < 0.88:
        node[key] = any_value(rng)
    elif isinstance(node, dict) and roll < 0.94:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(TEXTS)] = node.pop(key) if rng.random() < 0.5 else copy.deepcopy(value)
    elif roll < 0.94 and len(node) > 1:
        del node[key]
    else:
        node.insert(key, copy.deepcopy(value))


def _list(rng: random.Random, value: list[Any]) -> list[Any]:
    """Another list: turned round, repeated, cut, or with numbers whose sum is the same in 32 or 64 bits."""
    wrap = 1 << rng.randint(1, 6)
    ways: list[Callable[[], list[Any]]] = [
        lambda: value[::-1],
        lambda: value * rng.choice((2, 10, 1_000)),
        lambda: value[: len(value) // 2],
        list,
        lambda: [value],
        lambda: [*value, any_value(rng)],
        lambda: rng.sample(value, len(value)),
    ]
    if _are_numbers(value):
        ways += [lambda: [2 ** rng.choice((32, 64)) // wrap] * wrap + value] * 4
    return rng.choice(ways)()


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, int | float) for one in value)


def _places(node: Any) -> Any:
    """Every place of a value, as the list or dict that holds it and its key there."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def dumps(tree: Any) -> str:
    """JSON of a tree that may hold `Raw`, NaN, lone surrogates and numbers of thousands of digits."""
    raws: list[str] = []

    def mark(value: object) -> str:
        raws.append(value.text if isinstance(value, Raw) else json.dumps(str(value)))
        return f"@raw{len(raws) - 1}@"

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        text = json.dumps(tree, default=mark)
    finally:
        sys.set_int_max_str_digits(limit)
    return re.sub(r'"@raw(\d+)@"', lambda found: raws[int(found[1])], text)


def bytes_changed(rng: random.Random, data: bytes, *, times: int | None = None) -> bytes:
    """The bytes with a few of them changed, cut out, repeated or put elsewhere; numbers of 16 and 32 bits too."""
    changed = bytearray(data)
    for _ in range(times or 1 + int(rng.expovariate(0.7))):
        at = rng.randrange(len(changed) + 1)
        roll = rng.random()
        if roll < 0.3 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif roll < 0.5 and at < len(changed):
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif roll < 0.7:
            number = rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, rng.getrandbits(32)))
            size = rng.choice((2, 4, 8))
            changed[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
        elif roll < 0.8:
            del changed[at : at + rng.choice((1, 4, 64, 1_000, len(changed)))]
        elif roll < 0.9:
            changed[at:at] = changed[at : at + rng.choice((1, 4, 64, 1_000))] * rng.choice((1, 2, 50))
        else:
            changed[at:at] = rng.randbytes(rng.choice((1, 4, 16)))
    return bytes(changed)


def text_changed(rng: random.Random, text: str, *, separators: str = r"[\s,:=]+", times: int | None = None) -> str:
    """A text with a few of its words changed, dropped, doubled or exchanged; what separates them stays."""
    parts = re.split(f"({separators})", text)
    words = range(0, len(parts), 2)
    for _ in range(times or 1 + int(rng.expovariate(1.0))):
        i, j = rng.choice(words), rng.choice(words)
        roll = rng.random()
        if roll < 0.5:
            parts[i] = _word(rng, parts[i])
        elif roll < 0.65:
            parts[i], parts[j] = parts[j], parts[i]
        elif roll < 0.75:
            parts[i] = ""
        elif roll < 0.9:
            parts[i] += parts[min(i + 1, len(parts) - 1)] + parts[i]
        elif i + 1 < len(parts):
            parts[i + 1] = rng.choice((" ", "\n", ",", "\t", "", "\x00", "\ufeff", "\n" * 1000))
    return "".join(parts)


def _word(rng: random.Random, word: str) -> str:
    try:
        number = float(word)
    except ValueError:
        return rng.choice((rng.choice(TEXTS), word + rng.choice(TEXTS), rng.choice(TEXTS) + word))
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return str(near(rng, int(number) if number.is_integer() and "." not in word else number))
    except (OverflowError, ValueError):
        return "nan"
    finally:
        sys.set_int_max_str_digits(limit)
