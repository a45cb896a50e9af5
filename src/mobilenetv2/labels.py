"""What classes are called in ImageNet-1k, Pascal VOC and COCO, and which class a name means."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from mobilenetv2.errors import DatasetError, unknown_name
from mobilenetv2.text import plain, quoted

Index = dict[str, tuple[int, ...]]  # a way to write a name -> the classes that it may mean

# Words that data sets use for the same thing, and that mean nothing else in ImageNet ("plane" is a tool there).
# Spaces, hyphens and capitals need no alias: see `_key`.
ALIASES: tuple[tuple[str, ...], ...] = (
    ("airplane", "aeroplane"),
    ("bicycle", "bike"),
    ("car", "automobile"),
    ("cell phone", "mobile phone", "cellular telephone"),
    ("couch", "sofa"),
    ("donut", "doughnut"),
    ("hair drier", "hair dryer"),
    ("motorcycle", "motorbike"),
    ("mouse", "computer mouse"),
    ("person", "human"),
    ("refrigerator", "fridge"),
    ("remote", "remote control"),
    ("truck", "lorry"),
    ("tv", "tvmonitor", "television"),
)


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The classes of a data set in its own order, background not counted.

    `names[i]` is the short English name of class i; two classes may share one ("crane" is a bird and a
    machine in ImageNet). `ids[i]` is what the data set itself writes for the class: ImageNet's WordNet id
    ("n01440764", in sorted order), COCO's category id ("1" to "90" with ten gaps), VOC's mask value
    ("1" to "20").
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]


@functools.cache
def class_names(data_set: Literal["imagenet", "voc", "coco"] | str) -> ClassNames:
    """The 1000 classes of ImageNet-1k, the 20 of Pascal VOC or the 80 of COCO.

    An ImageNet class has the first of its WordNet synonyms as its name. Raises `UsageError` for any other
    data set.
    """
    tables = _tables()
    if data_set not in tables:
        raise unknown_name("set of class names", data_set, tables)
    rows = tables[data_set]
    return ClassNames(names=tuple(words.split(", ")[0] for words in rows.values()), ids=tuple(rows))


def match(name: str, names: Sequence[str], ids: Sequence[str] = ()) -> int | None:
    """The index of the class that `name` means, or None where it means none of them.

    `names` and `ids` are a model's or a data set's, in order (`ids` may be empty). Tried in this order, the
    first that finds something decides: the name as written; a WordNet id out of `ids`; a class number,
    0 to n - 1 (leading zeros are fine; COCO's and VOC's numeric ids are never meant); the name without
    regard to capitals, spaces, underscores, hyphens, full stops, commas and apostrophes; an alias
    ("tvmonitor" is "tv"); where `ids` has WordNet ids, any other WordNet synonym of a class ("patas" or the
    whole "patas, hussar monkey, Erythrocebus patas").

    Raises `DatasetError` where one of these steps finds several classes.
    """
    names, ids = tuple(names), tuple(ids)
    exact, written, synonyms = _indices(names, ids)
    key = _key(name)
    found = (
        exact.get(name)
        or (tuple(i for i, known in enumerate(ids) if known == name.lower()) if _is_wordnet(name) else ())
        or ((int(name),) if is_number(name) and int(name) < len(names) else ())
        or written.get(key)
        or tuple(i for word in _aliases().get(key, ()) for i in written.get(word, ()))
        or synonyms.get(key)
        or ()
    )
    if len(found) > 1:
        raise DatasetError(_ambiguous(name, found, names, ids))
    return found[0] if found else None


def _ambiguous(name: str, found: tuple[int, ...], names: tuple[str, ...], ids: tuple[str, ...]) -> str:
    if ids and all(_is_wordnet(ids[i]) for i in found):
        kind, ways = "WordNet ids", [ids[i] for i in found]
    else:
        kind, ways = "class numbers", [str(i) for i in found]
    meanings = " and ".join(f"{plain(way)} ({plain(names[i])})" for way, i in zip(ways, found, strict=True))
    return f"class name {quoted(name)} is ambiguous: use the {kind} instead, {meanings}"


def _key(name: str) -> str:
    """`name` without what people write in different ways; itself where nothing else is in it."""
    return name.casefold().translate(_DROPPED) or name


_DROPPED = str.maketrans("", "", " \t_-.,'’")


def is_number(name: str) -> bool:
    """Whether `name` can be a class number."""
    return len(name) <= 9 and name.isascii() and name.isdecimal()


def _is_wordnet(name: str) -> bool:
    return len(name) == 9 and name[0] in "nN" and is_number(name[1:])


@functools.lru_cache(maxsize=8)  # matching a folder of 1000 classes would otherwise make the index 1000 times
def _indices(names: tuple[str, ...], ids: tuple[str, ...]) -> tuple[Index, Index, Index]:
    """Where to look a name up: as written, by its key, and by the keys of ImageNet's synonyms."""
    words = _tables()["imagenet"] if any(map(_is_wordnet, ids)) else {}
    synonyms = [(_key(word), i) for i, wordnet in enumerate(ids) for word in _synonyms(words.get(wordnet, ""))]
    return (
        _grouped([(name, i) for i, name in enumerate(names)]),
        _grouped([(_key(name), i) for i, name in enumerate(names)]),
        _grouped(synonyms),
    )


def _synonyms(words: str) -> list[str]:
    return [words, *words.split(", ")] if words else []


def _grouped(pairs: list[tuple[str, int]]) -> Index:
    groups: dict[str, list[int]] = {}
    for word, i in pairs:
        if i not in groups.setdefault(word, []):
            groups[word].append(i)
    return {word: tuple(group) for word, group in groups.items()}


@functools.cache
def _aliases() -> dict[str, tuple[str, ...]]:
    keys = [tuple(map(_key, group)) for group in ALIASES]
    return {word: tuple(other for other in group if other != word) for group in keys for word in group}


@functools.cache
def _tables() -> dict[str, dict[str, str]]:
    """The data file: for each data set its classes in order, id -> names separated by commas."""
    return json.loads(resources.files("mobilenetv2").joinpath("labels.json").read_text(encoding="utf-8"))
