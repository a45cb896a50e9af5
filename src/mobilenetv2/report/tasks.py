"""What the report asks of a task: how its model is measured again, and what of that stands on the page."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.predictor import Predictor
from mobilenetv2.report.markup import Html

if TYPE_CHECKING:
    from mobilenetv2.report.facts import Facts

One = TypeVar("One")
Progress = Callable[[int, int], None]  # (done, total)
Section = tuple[str, list[Html]]  # a title, and what is below it; nothing: the section is left out
Card = tuple[str, str, str]  # what, its value, more about it

BATCH = 8  # pictures at a time through the engine


class Check(Protocol):
    """What was found in a data set: how many pictures or boxes each class has in each part, and what is wrong."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def counts(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def findings(self) -> Sequence[str]: ...


class TaskReport(Protocol):
    """A module like `report.classification`. `measured` is what its `measure` gave, which is kept as JSON."""

    NOUN: str  # what a model is called
    NETWORK: str
    NEEDED: frozenset[str]  # the keys of `measured`
    PREDICT: str  # options that `predict` is shown with
    ADD_UP: bool  # whether each thing that a check counts is of one class: if not, it counts pictures with the class

    def read_check(self, values: Any) -> Any:
        """The `Check` that was written as JSON. Raises `KeyError`, `TypeError` or `ValueError` where it was none."""
        ...

    def held_out(self, dataset: str, settings: Mapping[str, Any], check: Any) -> Any:
        """The pictures that the run measured, with `samples`: its val split save what was left out, or those held out
        of train. Raises `Error`."""
        ...

    def measure(self, predictor: Predictor, data: Any, progress: Progress | None) -> dict[str, Any]:
        """The model on these pictures, as plain JSON values. Raises `Error`."""
        ...

    def outcome(self, facts: Facts) -> dict[str, Any]:
        """The scores, for `Facts.to_json`; None where they are unknown."""
        ...

    def card(self, facts: Facts) -> Card | None:
        """The score that matters most; None where it is unknown."""
        ...

    def judgement(self, facts: Facts) -> str | None:
        """A sentence where the score says that next to nothing was learned; None where it does not, or is unknown."""
        ...

    def sections(self, facts: Facts) -> list[Section]:
        """How well it does, and where it errs."""
        ...

    def count_rows(self, facts: Facts) -> list[tuple[str, Mapping[str, int]]]:
        """The rows below those of the classes: a name, and a number by part."""
        ...

    def gallery(self, facts: Facts) -> list[Html]:
        """Pictures of the data set, faulty ones first; nothing where they are no longer there."""
        ...


def held_out_of(
    samples: Sequence[One], dataset: str, settings: Mapping[str, Any], place_of: Callable[[One], str]
) -> list[One]:
    """Those that the run held out, by their places in the data set. Raises `DatasetError` where some are gone."""
    chosen = set(map(str, settings.get("held_out") or ()))
    found = [sample for sample in samples if place_of(sample) in chosen]
    if len(found) < len(chosen):
        raise DatasetError(f"{len(chosen) - len(found)} of the pictures held out are not in {dataset} any more")
    return found


TASKS = {
    "classification": "mobilenetv2.report.classification",
    "detection": "mobilenetv2.report.detection",
    "segmentation": "mobilenetv2.report.segmentation",
}


def find(task: str) -> TaskReport:
    """What the report knows of `task`. Raises `UsageError` where that is nothing."""
    if task not in TASKS:
        raise UsageError(f"there is no report of {task}, only of {' and '.join(TASKS)}")
    module: Any = importlib.import_module(TASKS[task])
    return module
