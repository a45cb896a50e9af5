"""What the checks of boxes and of masks find alike, and how they say what they found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from mobilenetv2.data.folders import some

Groups = tuple[tuple[str, ...], ...]

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
    return [*lines, f"{count} findings" if count else "nothing wrong was found"]
