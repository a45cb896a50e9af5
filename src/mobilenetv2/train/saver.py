"""After each epoch: the metrics, the model file, the checkpoint; and a stop that loses nothing."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mobilenetv2 import files, model_file
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.train import checkpoint, schedule
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import Row, RunFolder
from mobilenetv2.train.running import Stopped, StopRequest
from mobilenetv2.train.task import Score, Task

SAVE_EVERY_S = 600


class Saver(Callback):
    """After each epoch: a line of metrics, the model file where this epoch is to be kept, the checkpoint.

    A checkpoint is also written every ten minutes, and when `stop` is asked for, which then ends the run (`Stopped`).
    `info` describes the model file, save for what the epoch adds. `rows` are the epochs so far, of which patience
    counts those after `began`; `digest` is the present checkpoint's. `said(row)` is called with each new line. Of
    several processes the first writes.

    `saved` are the epochs that the checkpoint on disk has done; `running` is True once the run goes on, after a
    checkpoint was read.
    """

    def __init__(
        self,
        folder: RunFolder,
        info: ModelInfo,
        recipe: Recipe,
        task: Task,
        stop: StopRequest,
        *,
        rows: Sequence[Row],
        began: int,
        digest: str | None,
        said: Callable[[Row], None],
    ) -> None:
        self.folder = folder
        self.info = info
        self.recipe = recipe
        self.rows: list[Row] = [*rows]
        self.saved = 0
        self.running = False
        self._columns = ("epoch", "learning_rate", "train_loss", *task.columns, "pictures_per_second", "seconds")
        self._best, self._patience = task.best, task.patience
        self._began, self._digest = began, digest
        self._stop = stop
        self._said = said
        self._last_save = time.monotonic()
        self._events: Any = None

    @property
    def kept(self) -> Row | None:
        """The epoch that the model file is to hold: the last, or the best (of equals the later)."""
        return self._kept(self.rows)

    def worse_for(self) -> int:
        """How many epochs ago the score that patience watches was best."""
        watched = (row for row in self.rows if row["epoch"] > self._began)
        found = [_worth(row, self._patience) for row in watched if self._patience.column in row]
        return len(found) - 1 - found.index(max(found)) if found else 0

    @property
    def out_of_patience(self) -> bool:
        return self.recipe.patience is not None and self.worse_for() >= self.recipe.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.running = True
        self.saved = trainer.current_epoch
        # a run killed between its two files has a line more than the checkpoint knows of
        self.rows = [row for row in self.rows if row["epoch"] <= trainer.current_epoch]
        if self.rows and (self.out_of_patience or pl_module.is_over()):  # killed between its end and the note of it
            trainer.should_stop = True
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
        stop, due = self._stop.asked, time.monotonic() - self._last_save > SAVE_EVERY_S
        if trainer.world_size > 1:  # all or none
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if stop or due:
            self._save(trainer, epochs=trainer.current_epoch)
        if stop:
            raise Stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        row = {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": schedule.learning_rate(pl_module.recipe, pl_module.position),
            **pl_module.scores(),
            "pictures_per_second": pl_module.pictures / max(pl_module.training_seconds, 1e-9),
            "seconds": pl_module.elapsed(),
        }
        rows = [*self.rows, row]
        if trainer.is_global_zero:
            self._write(rows, pl_module)
        self._save(trainer, epochs=trainer.current_epoch + 1)
        self.rows = rows
        self._said(row)
        if self.out_of_patience:
            trainer.should_stop = True
        elif self._stop.asked and trainer.current_epoch + 1 < self.recipe.epochs:
            raise Stopped

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._events is not None:
            self._events.close()

    def _kept(self, rows: Sequence[Row]) -> Row | None:
        if not rows:
            return None
        if self.recipe.keep == "last" or self._best.column not in rows[-1]:
            return rows[-1]
        return max(rows, key=lambda row: (_worth(row, self._best), row["epoch"]))

    def _write(self, rows: Sequence[Row], module: Learner) -> None:
        row = rows[-1]
        if self._kept(rows) is row:
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
        self.folder.write_rows(rows, self._columns)
        for name in self._columns[1:]:
            if name in row:
                self._events.add_scalar(name, row[name], global_step=int(row["epoch"]))

    def _save(self, trainer: Trainer, *, epochs: int) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder.last)  # takes part, writes nothing
        else:
            with files.writing(self.folder.last) as temporary:
                trainer.save_checkpoint(temporary)
                new = checkpoint.digest(temporary)
                checkpoint.write_digests(self.folder.digests, new, self._digest)
            self._digest = new
        self.saved = epochs
        self._last_save = time.monotonic()


def _worth(row: Mapping[str, float], score: Score) -> float:
    return -row[score.column] if score.least else row[score.column]
