"""What is known of a training run, read back from its folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import checks, files, json_text, limits, model_file
from mobilenetv2.complexity import Complexity, complexity
from mobilenetv2.data.classification import is_there
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.predictor import load
from mobilenetv2.report import tasks
from mobilenetv2.report.tasks import Check, Progress, TaskReport
from mobilenetv2.run_files import RunFiles


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """A run and what came of it.

    `settings` is `run.json`, which an earlier release may have written: only what `RunFiles` checks is sure to be in
    it. `rows` are the epochs of `metrics.csv`. `evaluation` is what the task's `measure` gave and `check` what was
    found in the data set, None where they are unknown. `dataset` is where the pictures are or were. `lacking` are
    sentences about what is unknown, and why.
    """

    files: RunFiles
    settings: Mapping[str, Any]
    rows: tuple[Mapping[str, float], ...]
    info: ModelInfo
    model_bytes: int
    evaluation: Mapping[str, Any] | None
    check: Check | None
    dataset: str | None
    lacking: tuple[str, ...]

    @property
    def costs(self) -> Complexity:
        return complexity(self.info.spec, self.info.preprocessing.size)

    @property
    def kept_epoch(self) -> int | None:
        epoch: Any = self.info.provenance.get("epoch")
        return int(epoch) if checks.is_whole(epoch) else None

    @property
    def pictures(self) -> Mapping[str, int]:
        """How many were learned from ("train") and measured ("val")."""
        return self._numbers("data")

    @property
    def scores(self) -> Mapping[str, float]:
        """What training measured on the held-out pictures, by name."""
        return self._numbers("scores")

    @property
    def used(self) -> Mapping[str, int]:
        """The same in words, as far as it is known."""
        words = {"train": "learned from", "val": "measured on"}
        return {word: self.pictures[part] for part, word in words.items() if self.pictures.get(part) is not None}

    def _numbers(self, name: str) -> dict[str, Any]:
        """Those below `name` in the model file's provenance, which anybody may have written."""
        values = self.info.provenance.get(name)
        return (
            {key: value for key, value in values.items() if checks.is_number(value)} if isinstance(values, dict) else {}
        )

    @property
    def task(self) -> TaskReport:
        return tasks.find(self.info.task)

    @property
    def done(self) -> str:
        """ "1 of 6 epochs", as far as they are known."""
        done = int(self.rows[-1]["epoch"]) if self.rows else 0
        return f"{done} of {self.settings['recipe'].get('epochs', '?')} epochs"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(self.info.label(i) for i in range(self.info.classes))

    def setting(self, name: str) -> Mapping[str, Any]:
        """What `run.json` has under `name`; empty where it is an earlier release's, which had not."""
        found = self.settings.get(name)
        return found if isinstance(found, dict) else {}

    def relative(self, text: str) -> str:
        """`text` with files named by their place in the data set."""
        return text if self.dataset is None else text.replace(f"{self.dataset}{os.sep}", "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the outcome in numbers; null where one is unknown."""
        last: Mapping[str, float] = self.rows[-1] if self.rows else {}
        return {
            "task": self.info.task,
            "run": str(self.files.path),
            "model": str(self.files.model),
            "report": str(self.files.report),
            "finished": self.settings["finished"],
            "ended": self.settings.get("ended"),
            "classes": list(self.names),
            "pictures": {part: self.pictures.get(part) for part in ("train", "val")},
            **self.task.outcome(self),
            "epochs": int(last["epoch"]) if last else None,
            "kept_epoch": self.kept_epoch,
            "seconds": last.get("seconds"),
            "pictures_per_second": last.get("pictures_per_second"),
            "model_bytes": self.model_bytes,
            "parameters": self.costs.parameters,
            "multiply_adds": self.costs.multiply_adds,
            "findings": None if self.check is None else len(self.check.findings),
            "lacking": list(self.lacking),
        }


def read(run: str | os.PathLike[str], *, progress: Progress | None = None) -> Facts:
    """Everything that is known of the run in the folder `run`; its model is measured, and the result kept, where that
    was not done since the model was written. Raises `UsageError`, `ModelFileError`, `FileError`."""
    found = RunFiles(Path(run))
    settings = found.read_settings()
    if not files.is_regular(found.model):
        raise UsageError(f"the run in {found.path} has no model yet: go on with it (--resume) until an epoch has ended")
    model = model_file.read(found.model)
    task = tasks.find(model.info.task)
    check = _read_check(task, found.check)
    dataset = settings.get("dataset")
    dataset = dataset if isinstance(dataset, str) else None
    lacking: list[str] = []
    evaluation, problem = _evaluation(task, found, model, settings, dataset, check, progress)
    if dataset is None:
        lacking.append("run.json does not say where the pictures are: it is that of an earlier release.")
    elif not is_there(dataset):
        lacking.append(f"The data set {dataset} is not there any more, so this page has none of its pictures.")
    if problem is not None:
        lacking.append(f"The model was not measured: {problem}.")
    return Facts(
        files=found,
        settings=settings,
        rows=tuple(found.rows()),
        info=model.info,
        model_bytes=found.model.stat().st_size,
        evaluation=evaluation,
        check=check,
        dataset=dataset,
        lacking=tuple(lacking),
    )


def _read_check(task: TaskReport, path: Path) -> Check | None:
    try:
        return task.read_check(_read_json(path))
    except (Error, ValueError, TypeError, LookupError, AttributeError):  # of an earlier release: none
        return None


def _evaluation(
    task: TaskReport,
    found: RunFiles,
    model: ModelFile,
    settings: Mapping[str, Any],
    dataset: str | None,
    check: Check | None,
    progress: Progress | None,
) -> tuple[Mapping[str, Any] | None, str | None]:
    """`evaluation.json` where it is this model's, else measured now; or why there is none."""
    digest = hashlib.sha256(files.read_bytes(found.model)).hexdigest()
    kept = _read_evaluation(task, found.evaluation)
    if kept is not None and kept["model_sha256"] == digest:
        return kept, None
    if dataset is None or not is_there(dataset):
        return None, "it would need the pictures"
    try:
        data = task.held_out(dataset, settings, check)
        if not data.samples:
            return None, "no pictures are held out for that"
        measured = task.measure(load(model), data, progress)
    except Error as error:
        return None, str(error)
    evaluation = {"model_sha256": digest, **measured}
    files.write_json(found.evaluation, evaluation)
    return evaluation, None


def _read_evaluation(task: TaskReport, path: Path) -> Mapping[str, Any] | None:
    needed = {"model_sha256", *task.NEEDED}
    try:
        evaluation = _read_json(path)
    except Error:
        return None
    return evaluation if isinstance(evaluation, dict) and needed <= evaluation.keys() else None


def _read_json(path: Path) -> Any:
    """What the run wrote beside its model. Raises `Error` where that is missing or damaged."""
    if not files.is_regular(path):  # nobody has named it: opening a pipe would wait for ever
        raise UsageError(f"{path} is no file of a run")
    return json_text.read(path, error=UsageError, limit=limits.STREAM_BYTES, surrogates=True)
