"""What training refuses: the one rule of each kind that both `train` and `check` ask. Sentences, or None."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

Dataset = str | os.PathLike[str]


def without_train(dataset: Dataset, parts: Collection[str]) -> str | None:
    """A data set that is divided, but has nothing to learn from."""
    if "train" in parts or "all" in parts:
        return None
    return f"{dataset} has a {', '.join(parts)} split and no train split: name the data of one train"


def one_class(dataset: Dataset, names: Sequence[str]) -> str | None:
    """A classifier of one class."""
    if len(names) > 1:
        return None
    return f"{dataset} has one class, {''.join(names)!r}: a classifier needs at least two"


def empty_class(names: Sequence[str], pictures: Sequence[int], reasons: Sequence[str]) -> str | None:
    """A class without a picture to learn from; `reasons` say why pictures were left out."""
    missing = [name for name, count in zip(names, pictures, strict=True) if not count]
    if not missing:
        return None
    why = f" ({reasons[0]})" if reasons else ""
    return f"class {missing[0]!r} has no readable picture to train on{why}: add some or remove it"


def nothing_to_learn(dataset: Dataset, what: str, count: int, reasons: Sequence[str]) -> str | None:
    """No box, or no pixel of a mask, in the train part."""
    if count:
        return None
    why = f" ({reasons[0]})" if reasons else ""
    return f"{dataset} has no {what} to learn from{why}: mobilenetv2 check says what is in it"


def other_classes(dataset: Dataset, names_of: Mapping[str, Sequence[str]]) -> str | None:
    """Parts whose masks mean different classes; the first part counts."""
    first = next(iter(names_of))
    for part, names in names_of.items():
        if tuple(names) != tuple(names_of[first]):
            return f"{dataset}: {part} has the classes {names}, {first} has {names_of[first]}: make them the same"
    return None


def refusals(*sentences: str | None) -> tuple[str, ...]:
    """Those that are there, as findings."""
    return tuple(f"train refuses it: {sentence}" for sentence in sentences if sentence is not None)
