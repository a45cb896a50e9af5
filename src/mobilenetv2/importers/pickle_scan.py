"""How much memory and time loading a pickle would take beyond its length, before it is loaded."""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from typing import Any

_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_KEYED = ("SETITEM", "SETITEMS", "DICT")  # keys and values in turns
_HASHED = ("ADDITEMS", "FROZENSET")
_SPARE = 1_000_000  # values that may be hashed whatever the length; 10 ms

_MARK = None
Weights = list[int | None]


def check(stream: io.BytesIO) -> None:
    """Raise `UnpicklingError` where the pickle at the stream's place would only use up memory or time.

    `pickle` makes a memo as long as the highest index that it meets. And a tuple as a key is hashed with all that lies
    in it: of 40 tuples, each of which holds the one before twice, these are 2^40 values, in 200 bytes.
    """
    start = stream.tell()
    highest = hashed = 0
    stack: Weights = []  # how many values hashing each object on the unpickler's stack looks at
    memo: dict[int, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a wrong escape in a name: it is refused later
        for code, argument, _ in pickletools.genops(stream):
            name = code.name
            if name in _PUTS or name == "MEMOIZE":
                index = len(memo) if name == "MEMOIZE" else int(argument)
                highest = max(highest, index)
                memo[index] = (stack[-1] if stack else 1) or 1
            elif name in _GETS:
                stack.append(memo.get(int(argument), 1))
            else:
                taken = _take(code, stack)
                if name in _KEYED or name in _HASHED:
                    hashed += sum(taken[-2 if name == "SETITEM" else None :: 2] if name in _KEYED else taken)
                _give(code, taken, stack)
    length = stream.tell() - start
    stream.seek(start)
    if highest > length:
        raise pickle.UnpicklingError(f"a memo of {highest} entries in {length} bytes")
    if hashed > _SPARE + length:
        raise pickle.UnpicklingError(f"keys that hold {hashed:,} values in {length} bytes")


def _take(code: Any, stack: Weights) -> list[int]:
    """Take what the instruction takes off the stack; of what a mark begins, what lies on the mark."""
    before = code.stack_before
    if pickletools.markobject in before:
        taken: list[int] = []
        while stack and (top := stack.pop()) is not _MARK:
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
