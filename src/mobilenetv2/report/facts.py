"""What is known of a training run, read back from its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import evaluate, files, metrics, model_file
from mobilenetv2.complexity import Complexity, complexity
from mobilenetv2.data import check as checking
from mobilenetv2.data.check import DataCheck
from mobilenetv2.data.classification import ClassificationData, is_there, open_classification, place, splits
from mobilenetv2.errors import DatasetError, Error, UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.predictor import load
from mobilenetv2.run_files import RunFiles

Progress = Callable[[int, int], None]  # (done, total)

_BATCH = 8  # pictures at a time through the engine


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of `n` held-out pictures whose first answer is right, and its 95 % interval; fractions 0..1."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """A run and what came of it.

    `settings` is `run.json`, which an earlier release may have written: only what `RunFiles` checks is sure to be in
    it. `rows` are the epochs of `metrics.csv`. `evaluation` is `evaluate.details`'s object and `check` what was found
    in the data set, None where they are unknown. `dataset` is where the pictures are or were. `lacking` are sentences
    about what is unknown, and why.
    """

    files: RunFiles
    settings: Mapping[str, Any]
    rows: tuple[Mapping[str, float], ...]
    info: ModelInfo
    model_bytes: int
    evaluation: Mapping[str, Any] | None
    check: DataCheck | None
    dataset: str | None
    lacking: tuple[str, ...]

    @property
    def costs(self) -> Complexity:
        return complexity(self.info.spec, self.info.preprocessing.size)

    @property
    def kept_epoch(self) -> int | None:
        epoch = self.info.provenance.get("epoch")
        return None if epoch is None else int(epoch)

    @property
    def pictures(self) -> Mapping[str, int]:
        """How many were learned from ("train") and measured ("val")."""
        return self.info.provenance.get("data", {})

    @property
    def accuracy(self) -> Accuracy | None:
        """The engine's where it measured the model, else what training did; None where nothing was held out."""
        if self.evaluation is not None:
            low, high = self.evaluation["top1_interval95"]
            return Accuracy(self.evaluation["top1"], low, high, self.evaluation["n"])
        share, n = self.info.provenance.get("scores", {}).get("val_accuracy"), self.pictures.get("val")
        if share is None or not n:
            return None
        low, high = metrics.interval(min(round(share * n), n), n)
        return Accuracy(share, low, high, n)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the outcome in numbers; null where one is unknown."""
        last: Mapping[str, float] = self.rows[-1] if self.rows else {}
        accuracy = self.accuracy
        return {
            "task": self.info.task,
            "run": str(self.files.path),
            "model": str(self.files.model),
            "report": str(self.files.report),
            "finished": self.settings["finished"],
            "classes": [self.info.label(i) for i in range(self.info.classes)],
            "pictures": {part: self.pictures.get(part) for part in ("train", "val")},
            "accuracy": None if accuracy is None else accuracy.share,
            "accuracy_interval95": None if accuracy is None else [accuracy.low, accuracy.high],
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
    if not found.model.exists():
        raise UsageError(f"the run in {found.path} has no model yet: go on with it (--resume) until an epoch has ended")
    model = model_file.read(found.model)
    check = _read_check(found.check)
    dataset = settings.get("dataset")
    dataset = dataset if isinstance(dataset, str) else None
    lacking: list[str] = []
    evaluation, problem = _evaluation(found, model, settings, dataset, check, progress)
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


def _read_check(path: Path) -> DataCheck | None:
    try:
        return checking.from_json(json.loads(files.read_bytes(path)))
    except (Error, ValueError, TypeError, LookupError):  # of an earlier release: none
        return None


def _evaluation(
    found: RunFiles,
    model: ModelFile,
    settings: Mapping[str, Any],
    dataset: str | None,
    check: DataCheck | None,
    progress: Progress | None,
) -> tuple[Mapping[str, Any] | None, str | None]:
    """`evaluation.json` where it is this model's, else measured now; or why there is none."""
    digest = hashlib.sha256(files.read_bytes(found.model)).hexdigest()
    kept = _read_evaluation(found.evaluation)
    if kept is not None and kept["model_sha256"] == digest:
        return kept, None
    if dataset is None or not is_there(dataset):
        return None, "it would need the pictures"
    try:
        data = _held_out(dataset, settings, check)
        if not data.samples:
            return None, "no pictures are held out for that"
        result = evaluate.evaluate(load(model), data, progress=progress, batch=_BATCH)
    except Error as error:
        return None, str(error)
    evaluation = {"model_sha256": digest, **evaluate.details(result)}
    files.write_json(found.evaluation, evaluation)
    return evaluation, None


def _read_evaluation(path: Path) -> Mapping[str, Any] | None:
    needed = {"model_sha256", "n", "top1", "top1_interval95", "macro_recall", "calibration", "classes", "confusion",
              "mistakes"}  # fmt: skip
    try:
        evaluation = json.loads(files.read_bytes(path))
    except (Error, ValueError):
        return None
    return evaluation if isinstance(evaluation, dict) and needed <= evaluation.keys() else None


def _held_out(dataset: str, settings: Mapping[str, Any], check: DataCheck | None) -> ClassificationData:
    """The pictures that the run measured: its val split save what was left out, or those held out of train."""
    parts = splits(dataset)
    if "val" in parts:
        data = open_classification(dataset, split="val")
        left_out: set[str] = set()
        if check is not None:
            left_out = {file for file, _ in check.unreadable}.union(*check.contradictions, *check.leaks)
        samples = [sample for sample in data.samples if str(sample.picture) not in left_out]
    else:
        data = open_classification(dataset, split="train" if "train" in parts else None)
        held_out = set(settings.get("held_out", ()))
        samples = [sample for sample in data.samples if place(sample.picture, dataset) in held_out]
        if len(samples) < len(held_out):
            raise DatasetError(f"{len(held_out) - len(samples)} of the pictures held out are not in {dataset} any more")
    return dataclasses.replace(data, samples=tuple(samples), split="val")
