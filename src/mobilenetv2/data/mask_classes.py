"""What masks mean: read from a list of classes, or found out from the values that the masks have.

A list has a class per line, in the order of the masks' values from 0; or `value name`; or a colour too, as
`name red green blue`, `red green blue name` or CVAT's `name:red,green,blue::`. Commas or spaces; `#` begins a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenetv2 import files, labels
from mobilenetv2.data.folders import some
from mobilenetv2.data.masks import IGNORE, Coding, Colour, voc_colours
from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.spec_fields import MOST_CLASSES

LISTS = ("classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_colors.txt", "class_dict.csv")

# Names of what does not count, without capitals and signs; "background" is a class.
_IGNORED = frozenset(("void", "ignore", "ignored", "unlabelled", "unlabeled", "unknown", "dontcare"))
_FIRST = "__ignore__"  # labelme's first line, which has no value of its own
_COMMON = 0.1  # of the masks: a nameless value that so many have is meant, a rarer one is a mistake

_NUMBER = r"(\d{1,3})"
_SPLIT = r"\s*[,\s]\s*"
_NAME = r"(.*?\S)"
_LINES: Mapping[str, re.Pattern[str]] = {
    "cvat": re.compile(rf"{_NAME}:{_NUMBER},{_NUMBER},{_NUMBER}:.*"),
    "name rgb": re.compile(rf"{_NAME}{_SPLIT}{_NUMBER}{_SPLIT}{_NUMBER}{_SPLIT}{_NUMBER}"),
    "rgb name": re.compile(rf"{_NUMBER}{_SPLIT}{_NUMBER}{_SPLIT}{_NUMBER}{_SPLIT}{_NAME}"),
    "value name": re.compile(rf"{_NUMBER}\s*[:,\s]\s*{_NAME}"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a list of classes: a name with its value in the masks, its colour, or both."""

    name: str
    value: int | None
    colour: Colour | None = None

    @property
    def ignored(self) -> bool:
        return re.sub(r"[^a-z]", "", self.name.lower()) in _IGNORED


@dataclass(frozen=True, slots=True)
class Meaning:
    """The classes by name, what the masks' values and colours mean, and what a person should know about it."""

    names: tuple[str, ...]
    coding: Coding
    notes: tuple[str, ...] = ()


VOC: tuple[Entry, ...] = tuple(
    Entry(name, value, colour)
    for value, (name, colour) in enumerate(
        zip(("background", *labels.class_names("voc").names), voc_colours(21), strict=True)
    )
)


def list_in(folder: Path) -> Path | None:
    """The list of classes in a folder, where one is there."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def read_list(file: Path) -> tuple[Entry, ...]:
    """The classes in `file`. Raises `FileError`, and `DatasetError` where it is no such list."""
    try:
        text = files.read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file (UTF-8) with a class per line") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and re.fullmatch(r"name\W+r\W+g\W+b", lines[0].lower()):
        lines = lines[1:]
    if not lines:
        raise DatasetError(f"{file}: the name of a class is expected on every line")
    entries = _entries(lines)
    for what, found in (("name", [e.name for e in entries]), ("colour", [str(e.colour) for e in entries if e.colour])):
        if twice := [one for one, count in Counter(found).items() if count > 1]:
            raise DatasetError(f"{file}: two classes have the {what} {twice[0]}: give each its own")
    if len(entries) > MOST_CLASSES:
        raise DatasetError(f"{file} has {len(entries)} classes: masks of 8 bits have room for {MOST_CLASSES}")
    return entries


def _entries(lines: Sequence[str]) -> tuple[Entry, ...]:
    for form, pattern in _LINES.items():
        found = [pattern.fullmatch(line) for line in lines]
        if not all(found):
            continue
        rows = [match.groups() for match in found if match]
        if form == "value name":
            values = [int(value) for value, _ in rows]
            if len(set(values)) < len(values) or max(values) > 255:
                continue
            return tuple(Entry(name, value) for value, (_, name) in zip(values, rows, strict=True))
        named = [(row[3], row[:3]) if form == "rgb name" else (row[0], row[1:4]) for row in rows]
        if all(int(level) <= 255 for _, levels in named for level in levels):
            return tuple(
                Entry(name, value, (int(levels[0]), int(levels[1]), int(levels[2])))
                for value, (name, levels) in enumerate(named)
            )
    first = lines[0] == _FIRST
    return tuple(Entry(line, value) for value, line in enumerate(lines[first:]))


def decide(
    entries: Sequence[Entry] | None, seen: Mapping[int, int], masks: int, *, ignore: int | None = None
) -> Meaning:
    """What masks mean whose values are `seen`: in how many of so many `masks` each occurs.

    Without `entries` every value from 0 to the largest is a class, named by its number. 255 never counts, save where 0
    and 255 are all there is: these are background and foreground, or the two classes of the list. `ignore` is a value
    that does not count. Where it is not given and nothing is 255, a single value without a name, in a tenth of the
    masks or more, does not count either.

    Raises `UsageError` for an `ignore` outside 0..255.
    """
    if ignore is not None and not 0 <= ignore <= 255:
        raise UsageError(f"--ignore must be a value of the masks, 0 to 255, got {ignore}")
    if masks and not seen and not any(entry.colour for entry in entries or ()):
        raise DatasetError(
            "the masks cannot be read, or are coloured: what colours mean is said by a list of classes with a line "
            "`name red green blue` each, --classes"
        )
    two = set(seen) == {0, 255} and ignore is None
    if entries is None:
        if two:
            note = "the masks have the values 0 and 255: taken as background and foreground"
            return Meaning(("background", "foreground"), Coding({0: 0, 255: 1}, {}), (note,))
        largest = max((value for value in seen if value not in (IGNORE, ignore)), default=0)
        unnamed = [Entry(str(value), value) for value in range(largest + 1) if value != ignore]
        words = "255 is ignored" if IGNORE in seen else "none is ignored"
        words = words if ignore is None else f"{ignore} is ignored"
        note = f"no list of classes: the values 0 to {largest} of the masks are taken as classes, {words}"
        found = _meaning(unnamed, ignore)
        return Meaning(found.names, found.coding, (f"{note} (see --classes and --ignore)",))
    if two and sum(not entry.ignored for entry in entries) == 2:
        first, second = (entry for entry in entries if not entry.ignored)
        note = f"the masks have the values 0 and 255: taken as {first.name} and {second.name}"
        return Meaning(
            (first.name, second.name), Coding({0: 0, 255: 1}, _meaning(entries, None).coding.colours), (note,)
        )
    found = _meaning(entries, ignore)
    beyond = sorted(set(seen) - found.coding.values.keys())
    if ignore is None and IGNORE not in seen and len(beyond) == 1 and seen[beyond[0]] >= _COMMON * masks:
        value = beyond[0]
        note = f"the value {value}, in {seen[value]} of {masks} masks, is no class of the list: it is ignored"
        coding = Coding({**found.coding.values, value: IGNORE}, found.coding.colours)
        return Meaning(found.names, coding, (*found.notes, note))
    return found


def _meaning(entries: Sequence[Entry], ignore: int | None) -> Meaning:
    kept = [entry for entry in entries if not entry.ignored and (ignore is None or entry.value != ignore)]
    if not kept:
        raise DatasetError("the list of classes has none that counts: name one class at least")
    index_of = {id(entry): i for i, entry in enumerate(kept)}
    values = {entry.value: index_of.get(id(entry), IGNORE) for entry in entries if entry.value is not None}
    colours = {entry.colour: index_of.get(id(entry), IGNORE) for entry in entries if entry.colour is not None}
    values.setdefault(IGNORE, IGNORE)
    if ignore is not None:
        values[ignore] = IGNORE
    if colours:
        colours.setdefault(voc_colours(256)[IGNORE], IGNORE)
    gone = [entry.name for entry in entries if id(entry) not in index_of]
    notes = (f"{some(gone)}: pixels of this name are ignored",) if gone else ()
    return Meaning(tuple(entry.name for entry in kept), Coding(values, colours), notes)
