"""What the checks of the three tasks find alike, and how they say what they found."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mobilenetv2.data.annotation import FAULTS, Fault
from mobilenetv2.data.folders import some, unread_in, unread_sentences
from mobilenetv2.data.shard_files import absolute
from mobilenetv2.picture_formats import UNREAD_PHOTOS
from mobilenetv2.text import counted

Groups = tuple[tuple[str, ...], ...]

Check = TypeVar("Check")

SHOWN = 20  # findings of a kind that a text names


def same_bytes(pictures: Iterable[tuple[str, str, str]]) -> tuple[Groups, Groups]:
    """Files with the same bytes, of (digest, part, file): groups within one part ("duplicates"), and in several
    ("leaks")."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for digest, part, file in pictures:
        groups[digest].append((part, file))
    duplicates: list[tuple[str, ...]] = []
    leaks: list[tuple[str, ...]] = []
    for group in groups.values():
        if len(group) > 1:
            kind = leaks if len({part for part, _ in group}) > 1 else duplicates
            kind.append(tuple(file for _, file in group))
    return tuple(duplicates), tuple(leaks)


def of_same_bytes(duplicates: Groups, leaks: Groups) -> Iterator[list[str]]:
    """A sentence for each group, the worse kind first."""
    yield [f"the same picture in several parts, so that what is measured was learned: {some(group)}" for group in leaks]
    yield [f"the same picture twice: {some(group)}" for group in duplicates]


def of_faults(faults: Sequence[Fault]) -> Iterator[list[str]]:
    """A sentence for each fault, kind by kind; of what is not read, for each ending of names."""
    for kind in FAULTS:
        of_kind = [fault for fault in faults if fault.kind == kind]
        if kind == "unread":  # parts may share a folder
            yield unread_sentences(list(dict.fromkeys(fault.file for fault in of_kind)))
        else:
            yield list(map(str, of_kind))


def unread_faults(folders: Iterable[Path]) -> list[Fault]:
    """What lies in these folders and is meant to be read, but is not."""
    return [
        Fault("unread", str(file), UNREAD_PHOTOS.get(file.suffix.lower(), "no regular file"), "left out")
        for file in unread_in(folders)
    ]


def of_missing(missing: Iterable[tuple[str, str]], what: str) -> list[str]:
    """A sentence for each (part, class) that has no `what`."""
    return [f"class {name!r} has no {what}{'' if part == 'all' else f' in {part}'}" for part, name in missing]


def listed(by_kind: Iterable[Sequence[str]]) -> list[str]:
    """The first findings of each kind, and how many there are in all."""
    lines: list[str] = []
    count = 0
    for found in by_kind:
        count += len(found)
        lines += found[:SHOWN]
        if len(found) > SHOWN:
            lines.append(f"... and {len(found) - SHOWN:,} more of this kind, all of them in --json")
    return [*lines, counted(count, "finding") if count else "nothing wrong was found"]


def with_absolute_files(check: Check) -> Check:
    """The same check with the whole path of every file, which holds in any folder.

    A check is a dataclass; which of its fields name files, and how, `_FILES_IN` says for the checks of all tasks.
    """
    known: Any = check
    names = [field.name for field in dataclasses.fields(known) if field.name in _FILES_IN]
    return dataclasses.replace(known, **{name: tuple(map(_FILES_IN[name], getattr(known, name))) for name in names})


def _group(files: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(absolute, files))


def _first(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """A file, and things that name none."""
    return absolute(entry[0]), *entry[1:]


def _reasoned(entry: tuple[str, str]) -> tuple[str, str]:
    """A file with the reason why it is no good, which names it, or another one of the same data set: its mask."""
    file, reason = entry
    whole = absolute(file)
    if whole == file:
        return entry
    top, slash, _ = file.partition(os.sep)
    if not slash:
        return whole, reason.replace(file, whole)
    begins = re.compile(rf"(?<![^\s'\"(]){re.escape(top + slash)}")
    return whole, begins.sub(lambda _: absolute(top) + slash, reason)


def _fault(fault: Any) -> Any:
    return dataclasses.replace(fault, file=absolute(fault.file))


_FILES_IN: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("unreadable", "masks"), _reasoned),
    **dict.fromkeys(("sizes", "incomplete"), _first),
    **dict.fromkeys(("duplicates", "leaks", "contradictions"), _group),
    **dict.fromkeys(("empty", "blank", "unread"), absolute),
    "faults": _fault,
}
