"""Files by the folder they lie in or below, or by a pattern: as in a shell, sorted, and no link followed in circles."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mobilenetv2.data.folders import entries
from mobilenetv2.errors import Error, FileError


def is_pattern(name: str) -> bool:
    return re.search(r"[*?[]", name) is not None


def files_below(folder: str) -> Iterator[Path | Error]:
    """Every file in `folder` and below it, links followed, each folder once."""
    seen: set[str] = set()
    waiting = [Path(folder)]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            inner, found = entries(here)
        except FileError as error:
            yield error
            continue
        waiting.extend(reversed(inner))
        yield from found


def matching(base: str, parts: tuple[str, ...]) -> Iterator[str]:
    """The files that the pattern matches, sorted, hidden ones left out where the pattern does not name them."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        if not rest:
            rest = ("*",)
        yield from matching(base, rest)
        for folder in _folders(base):
            yield from matching(folder, rest)
        return
    if not is_pattern(part):
        path = os.path.join(base, part)
        if not rest and os.path.isfile(path):
            yield path
        elif rest and os.path.isdir(path):
            yield from matching(path, rest)
        return
    try:
        inner, found = entries(Path(base))
    except FileError:  # as in a shell, what cannot be looked into has nothing that matches
        return
    for path in inner if rest else found:
        if fnmatch.fnmatchcase(path.name, part) and (part.startswith(".") or not path.name.startswith(".")):
            name = os.path.join(base, path.name)
            if rest:
                yield from matching(name, rest)
            else:
                yield name


def _folders(base: str) -> Iterator[str]:
    """Every folder below `base`, sorted, each once however many links lead to it."""
    seen = {os.path.realpath(base or ".")}
    waiting = [base]
    while waiting:
        here = waiting.pop()
        if here != base:
            yield here
        try:
            inner = entries(Path(here))[0]
        except FileError:
            continue
        for folder in reversed(inner):
            real = os.path.realpath(folder)
            if real not in seen:
                seen.add(real)
                waiting.append(os.path.join(here, folder.name))
