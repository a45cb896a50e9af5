"""How much memory and time loading a pickle would take beyond its length, before it is loaded."""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from typing import Any

_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_KEYED = ("SETITEM", "SETITEMS", "DICT")  # keys and values in turns
_HASHED = ("ADDITEMS", "FROZENSET")
_SPARE = 1_000_000  # values that may be hashed whatever the length; 10 ms

_FEW = 8  # tuples that may be shared without a closer look: 2^8 times the pickle's own values
# After these the object on top of the stack is none that is hashed with what lies in it.
_NO_TUPLES = frozenset((
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "BINPERSID", "BINUNICODE",
    "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING",
))  # fmt: skip
_MARK = None
Weights = list[int | None]


def check(stream: io.BytesIO) -> None:
    """Raise `UnpicklingError` where the pickle at the stream's place would only use up memory or time.

    `pickle` makes a memo as long as the highest index that it meets. And a tuple as a key is hashed with all that lies
    in it: of 40 tuples, each of which holds the one before twice, these are 2^40 values, in 200 bytes.
    """
    start = stream.tell()
    highest = puts = shared = 0
    perhaps_tuples: set[int] = set()
    previous = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a wrong escape in a name: it is refused later
        for code, argument, _ in pickletools.genops(stream):
            name = code.name
            if name in _PUTS:
                index = argument if isinstance(argument, int) else puts
                puts += 1
                highest = max(highest, index)
                if previous not in _NO_TUPLES:
                    perhaps_tuples.add(index)
            elif name in _GETS:
                shared += argument in perhaps_tuples
                previous = name
            else:
                shared += name == "DUP"
                previous = name
        length = stream.tell() - start
        if highest > length:
            raise pickle.UnpicklingError(f"a memo of {highest} entries in {length} bytes")
        if shared > _FEW:  # torch's own share none
            stream.seek(start)
            if (hashed := _hashed(stream)) > _SPARE + length:
                raise pickle.UnpicklingError(f"keys that hold {hashed:,} values in {length} bytes")
    stream.seek(start)


def _hashed(stream: io.BytesIO) -> int:
    """How many values are looked at to hash the keys of all dictionaries and the members of all sets."""
    hashed = 0
    stack: Weights = []  # how many values hashing each object on the unpickler's stack looks at
    memo: dict[int, int] = {}
    for code, argument, _ in pickletools.genops(stream):
        name, number = code.name, argument if isinstance(argument, int) else 0
        if name in _PUTS:
            memo[len(memo) if name == "MEMOIZE" else number] = (stack[-1] if stack else 1) or 1
        elif name in _GETS:
            stack.append(memo.get(number, 1))
        else:
            taken = _take(code, stack)
            if name in _KEYED or name in _HASHED:
                hashed += sum(taken[-2 if name == "SETITEM" else None :: 2] if name in _KEYED else taken)
            _give(code, taken, stack)
    return hashed


def _take(code: Any, stack: Weights) -> list[int]:
    """Take what the instruction takes off the stack; of what a mark begins, what lies on the mark."""
    before = code.stack_before
    if pickletools.markobject in before:
        taken: list[int] = []
        while stack and (top := stack.pop()) is not None:  # not the mark
            taken.append(top)
        for _ in range(before.index(pickletools.markobject)):  # the list or dictionary below the mark
            if stack:
                stack.pop()
        return taken[::-1]
    count = min(len(before), len(stack))
    taken = [weight or 1 for weight in stack[len(stack) - count :]]
    del stack[len(stack) - count :]
    return taken


def _give(code: Any, taken: list[int], stack: Weights) -> None:
    if code.name == "MARK":
        stack.append(_MARK)
    elif code.name == "DUP":
        stack += taken * 2
    elif code.name.startswith("TUPLE"):
        stack.append(1 + sum(taken))
    else:
        stack += [1] * len(code.stack_after)
