"""What a run leaves on disk: its settings, its metrics, the model file, and the checkpoint to go on from."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mobilenetv2 import __version__, files, model_file
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.run_files import RunFiles
from mobilenetv2.train import recipes, schedule
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.running import Stopped, StopRequest
from mobilenetv2.train.task import Data, Score, Task

BEGAN = ("command", "directory", "date", "notes")
Row = Mapping[str, float]

_SAVE_EVERY_S = 600


@dataclass(frozen=True, slots=True)
class RunFolder(RunFiles):
    """The files of a run, as training begins, resumes and removes them."""

    def check_empty(self) -> None:
        """Raise `UsageError` unless a new run may write here."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: name a folder for the run")
        if self.path.is_dir() and any(self.path.iterdir()):
            resume = ", or go on with the run in it (--resume)" if self.last.exists() else ""
            raise UsageError(f"{self.path} is not empty: choose another folder for the run{resume}")

    def remove(self) -> None:
        """Remove the run's files, and the folder where nothing else is in it."""
        for file in (
            self.model, self.last, self.start, self.metrics, self.settings, self.check, self.evaluation, self.report,
        ):  # fmt: skip
            file.unlink(missing_ok=True)
        shutil.rmtree(self.events, ignore_errors=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def write_settings(self, recipe: Recipe, data: Data, origin: Mapping[str, Any], *, finished: bool = False) -> None:
        """`run.json` and `check.json`. Of `origin` (`train.origin`), what `BEGAN` names stays as the run began."""
        before = self.read_settings() if self.settings.exists() else {}
        settings = {
            "task": recipe.task,
            "recipe": recipes.to_json(recipe),
            **recipes.provenance(recipe),
            "classes": list(data.names),
            "fingerprint": data.fingerprint,
            "notes": list(data.notes),
            "held_out": list(data.held_out),
            **origin,
            **{name: before[name] for name in BEGAN if name in before},
            "versions": versions(),
            "finished": finished,
        }
        files.write_json(self.check, data.check.absolute().to_json())
        files.write_json(self.settings, settings)

    def recipe_to_resume(self, recipe: Recipe | None, *, task: str) -> Recipe:
        """The recipe of the run that is to go on; `recipe` must be the same, or None.

        Raises `UsageError` where there is no run, it is finished, or it began with another recipe.
        """
        settings = self.read_settings() if self.settings.exists() else None
        if settings is not None and settings["finished"]:
            raise UsageError(f"the run in {self.path} is finished: train on from its model with --init {self.model}")
        if settings is None or not self.start.exists():
            raise UsageError(f"{self.path} holds no run that could go on: start one without --resume")
        began = settings.get("task", "classification")
        if began != task:
            raise UsageError(f"the run in {self.path} is one of {began}, and this would be {task}")
        own = recipes.from_json(settings["recipe"], task)
        if recipe is not None and (different := recipes.differences(own, recipe)):
            shown = ", ".join(f"{name}={getattr(own, name)}" for name in different)
            raise UsageError(f"the run in {self.path} began with {shown}: resume it with the same recipe")
        return own

    def check_data(self, data: Data) -> None:
        """Raise `UsageError` unless `data` is what the run began with."""
        settings = self.read_settings()
        if settings["fingerprint"] != data.fingerprint:
            raise UsageError(f"the run in {self.path} began with other pictures: start a new run for these")

    def write_rows(self, rows: list[Row], columns: Sequence[str]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
        files.write_text(self.metrics, text.getvalue())


class Saver(Callback):
    """After each epoch: a line of metrics, the model file where this epoch is to be kept, the checkpoint.

    A checkpoint is also written every ten minutes, and when `stop` is asked for, which then ends the run (`Stopped`).
    `info` describes the model file, save for what the epoch adds. `said(row)` is called with each new line. Of several
    processes the first writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        info: ModelInfo,
        recipe: Recipe,
        task: Task,
        stop: StopRequest,
        *,
        said: Callable[[Row], None],
    ) -> None:
        self.folder = folder
        self.info = info
        self.recipe = recipe
        self.rows: list[Row] = [*folder.rows()]
        self._columns = ("epoch", "learning_rate", "train_loss", *task.columns, "pictures_per_second", "seconds")
        self._best, self._patience = task.best, task.patience
        self._stop = stop
        self._said = said
        self._saved = time.monotonic()
        self._events: Any = None

    @property
    def kept(self) -> Row | None:
        """The epoch that the model file holds: the last, or the best (of equals the later)."""
        if not self.rows:
            return None
        if self.recipe.keep == "last" or self._best.column not in self.rows[-1]:
            return self.rows[-1]
        return max(self.rows, key=lambda row: (_worth(row, self._best), row["epoch"]))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a run killed between its two files has a line more than the checkpoint knows of
        self.rows = [row for row in self.rows if row["epoch"] <= trainer.current_epoch]
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(self.folder.events, purge_step=trainer.current_epoch + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        pl_module.step_ended(batch_idx)
        if trainer.is_last_batch or (batch_idx + 1) % self.recipe.accumulate:
            return  # the epoch's end follows; half a step's gradients are in no checkpoint
        stop, due = self._stop.asked, time.monotonic() - self._saved > _SAVE_EVERY_S
        if trainer.world_size > 1:  # all or none
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if stop or due:
            self._save(trainer)
        if stop:
            raise Stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        row = {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": schedule.learning_rate(self.recipe, pl_module.position),
            **pl_module.scores(),
            "pictures_per_second": pl_module.pictures / max(pl_module.training_seconds, 1e-9),
            "seconds": pl_module.elapsed(),
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write(row, pl_module)
        self._save(trainer)
        self._said(row)
        if self._worse_for() >= (self.recipe.patience or len(self.rows) + 1):
            trainer.should_stop = True
        elif self._stop.asked and trainer.current_epoch + 1 < self.recipe.epochs:
            raise Stopped

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._events is not None:
            self._events.close()

    def _worse_for(self) -> int:
        """How many epochs ago the score that patience watches was best."""
        found = [_worth(row, self._patience) for row in self.rows if self._patience.column in row]
        return len(found) - 1 - found.index(max(found)) if found else 0

    def _write(self, row: Row, module: Learner) -> None:
        if self.kept is row:
            named = (self._best.column, *self._columns[2:-2])
            scores = {name: round(row[name], 6) for name in dict.fromkeys(named) if name in row}
            provenance = {
                **self.info.provenance,
                "epoch": row["epoch"],
                "scores": scores,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            }
            info = dataclasses.replace(self.info, provenance=provenance)
            model_file.write(self.folder.model, ModelFile(info, module.tensors()))
        self.folder.write_rows(self.rows, self._columns)
        for name in self._columns[1:]:
            if name in row:
                self._events.add_scalar(name, row[name], global_step=int(row["epoch"]))

    def _save(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder.last)  # takes part, writes nothing
        else:
            with files.writing(self.folder.last) as temporary:
                trainer.save_checkpoint(temporary)
        self._saved = time.monotonic()


def _worth(row: Row, score: Score) -> float:
    return -row[score.column] if score.least else row[score.column]


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    found = {name: version(name) for name in ("torch", "torchvision", "lightning", "numpy", "pillow")}
    return {"mobilenetv2": __version__, "python": platform.python_version(), **found}
