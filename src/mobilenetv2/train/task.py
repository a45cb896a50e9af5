"""What the trainer asks of a task: everything that `fit` does not know itself.

A task is added in three places: a module like `classification_task` with a `Task` (its pictures, its first weights, its
batches, its `Learner`, its scores), a name for it in `TASKS`, and its recipes in a module like `detection_recipes`,
named in `recipes.of_task`. `fit`, the run's folder, checkpoints, resuming, devices and the display then work as they
are; `report` has a page of its own for each task, which reads the run's files only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mobilenetv2.data.task import task_of
from mobilenetv2.errors import unknown_name
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.train.batches import Batches
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.recipes import Recipe

Progress = Callable[[int, int], None]  # (done, total)


class Pictures(Protocol):
    """The pictures of one part."""

    def __len__(self) -> int: ...

    def per_class(self, classes: int) -> list[int]:
        """How many pictures, or objects on them, each class has."""
        ...


class Check(Protocol):
    """What is wrong with a data set."""

    @property
    def findings(self) -> Sequence[str]: ...

    def absolute(self) -> Check:
        """The same with absolute paths."""
        ...

    def to_json(self) -> dict[str, Any]: ...


class Data(Protocol):
    """What a run learns from and is measured on, as `pictures.TrainingData` explains."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def train(self) -> Pictures: ...
    @property
    def val(self) -> Pictures: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def check(self) -> Check: ...
    @property
    def held_out(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """How an epoch is judged by a column of its metrics; `words` is what people call it, in percent unless it is a
    loss."""

    column: str
    words: str
    least: bool = False  # whether less is better


class Task(Protocol):
    """A task of the trainer; `data` is what its `open` gave.

    `columns` are the task's own of `metrics.csv`: the parts of the training loss, and what `Learner.measured_scores`
    says. `best` chooses the epoch that is kept, `patience` is what must become better for the run to go on.
    """

    name: str
    columns: tuple[str, ...]
    best: Score
    patience: Score

    def open(
        self,
        dataset: str,
        recipe: Recipe,
        *,
        strict: bool,
        cache_bytes: int,
        progress: Progress | None,
        places: Mapping[str, Any],
    ) -> Any:
        """The pictures, checked; a `Data`. Raises `DatasetError`."""
        ...

    def start(self, data: Any, recipe: Recipe, init: ModelFile | None) -> tuple[ModelFile, list[str]]:
        """What the run begins with, described as the model file will be, and notes about what was decided."""
        ...

    def teacher(self, model: ModelFile, names: tuple[str, ...]) -> Any:
        """`model` as what `learner` takes. Raises `UsageError` where it is no teacher of these classes."""
        ...

    def batches(self, data: Any, recipe: Recipe, info: ModelInfo, **division: int) -> tuple[Batches, Batches]:
        """To learn from, and to measure; `division` is `Batches`' workers, rank and devices."""
        ...

    def learner(
        self, first: ModelFile, recipe: Recipe, data: Any, *, batches: int, teacher: Any, recompute: bool
    ) -> Learner[Any]:
        """What learns, with the first weights in it."""
        ...


TASKS = {
    "classification": "mobilenetv2.train.classification_task",
    "detection": "mobilenetv2.train.detection_task",
    "segmentation": "mobilenetv2.train.segmentation_task",
}


def find(name: str) -> Task:
    """The task called `name`. Raises `UsageError`."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return importlib.import_module(TASKS[name]).TASK


def of_data(dataset: str, places: Mapping[str, Any]) -> str:
    """The task that a data set is for, found out from what lies there."""
    return task_of(dataset, **places)
