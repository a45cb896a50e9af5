"""JSON that came from outside: bounded before it is parsed, and one clear error where it cannot be."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from mobilenetv2 import files, limits
from mobilenetv2.errors import Error
from mobilenetv2.signatures import LFS_POINTER

_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b'"[]{}'))
_STRING = re.compile(rb'"[^"]*"?')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read(
    path: str | os.PathLike[str],
    *,
    error: type[Error],
    depth: int = limits.JSON_DEPTH,
    limit: int = limits.JSON_BYTES,
    surrogates: bool = False,
) -> Any:
    """The value in a file. Raises as `parse` does, and `FileError` where it cannot be read or exceeds `limit` bytes."""
    content = files.read_bytes(path, limit=limit)
    return parse(content, name=os.fspath(path), error=error, depth=depth, limit=limit, surrogates=surrogates)


def parse(
    text: str | bytes,
    *,
    name: str,
    error: type[Error],
    depth: int = limits.JSON_DEPTH,
    limit: int = limits.JSON_BYTES,
    surrogates: bool = False,
) -> Any:
    """The value that `text` is JSON for.

    Raises `error`, whose message begins with `name`, for text that is longer than `limit` or not JSON, for values
    nested deeper than `depth`, for a number of thousands of digits, and for text with half of a surrogate pair, which
    no encoding can write; `surrogates` lets these pass (they stand for file names' bytes that are not UTF-8).
    """
    if len(text) > limit:
        raise error(f"{name} has more than {limit:,} bytes of JSON: the limit of what is read at once")
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        if _is_deeper(text, depth):
            raise error(f"{name} nests values more than {depth} deep: no file of this kind does")
        value = json.loads(text)
    except RecursionError:  # called from deep inside something else
        raise error(f"{name} nests values too deep") from None
    except json.JSONDecodeError as problem:
        if text.startswith(LFS_POINTER.decode()):
            raise error(f"{name} is a Git LFS pointer: fetch the file that it stands for with git lfs pull") from None
        raise error(f"{name} is not JSON: {problem}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{name} is not JSON: byte {problem.start:,} is not {problem.encoding} text") from None
    except ValueError:
        raise error(f"{name} holds a number of thousands of digits") from None
    if not surrogates and (not text.isascii() or _SURROGATE.search(text)):
        _check_surrogates(text, value, name, error)
    return value


def _is_deeper(text: str, depth: int) -> bool:
    """Whether brackets nest deeper than `depth`; of text that is not JSON, whether so many are open at its end.

    Python's reader recurses at each level. Working on the whole text at once costs 7 % of parsing it.
    """
    if text.count("[") + text.count("{") <= depth:
        return False
    content = text.encode(errors="surrogatepass").replace(b"\\\\", b"").replace(b'\\"', b"")
    # two quotes side by side go without changing what lies between the other quotes
    content = content.translate(_ONE_KIND, _OTHERS).replace(b'""', b"")
    content = _STRING.sub(b"", content)
    for left in range(depth, 0, -1):  # each pass takes the innermost level away
        before = len(content)
        if before <= left:
            return False
        content = content.replace(b"[]", b"")
        if len(content) == before:  # no bracket closes one: the parser says where
            return False
    return len(content) > 0


def _check_surrogates(text: str, value: object, name: str, error: type[Error]) -> None:
    """Raise `error` for half of a surrogate pair, in the text itself or as an escape; whole pairs are one character."""
    try:
        text.encode()
        if not _SURROGATE.search(text):
            return
        waiting = [value]
        while waiting:
            member = waiting.pop()
            if isinstance(member, dict):
                waiting += [*member, *member.values()]
            elif isinstance(member, list):
                waiting += member
            elif isinstance(member, str):
                member.encode()
    except UnicodeEncodeError:
        raise error(f"{name} holds text that UTF-8 cannot write, half of a surrogate pair") from None
