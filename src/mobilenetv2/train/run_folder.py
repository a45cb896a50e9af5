"""What a run leaves on disk: what may begin, go on or be lengthened there, and what is written beside the model."""

from __future__ import annotations

import csv
import io
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobilenetv2 import __version__, files, model_file
from mobilenetv2.errors import Error, FileError, UsageError
from mobilenetv2.run_files import ENDED, RunFiles
from mobilenetv2.train import checkpoint, lock, recipes
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.task import Data

BEGAN = ("command", "directory", "date", "notes")
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Going:
    """A run that goes on: its recipe, and the epochs after which its schedule began anew, as it was lengthened.

    `more` is whether it is being lengthened now; `digest` is its checkpoint's, None where it has none.
    """

    recipe: Recipe
    lengthened: tuple[int, ...]
    more: bool
    digest: str | None


@dataclass(frozen=True, slots=True)
class RunFolder(RunFiles):
    """The files of a run, as training begins, resumes and removes them."""

    @property
    def _all(self) -> tuple[Path, ...]:
        return (
            self.model, self.last, self.digests, self.start, self.metrics, self.settings, self.check, self.evaluation,
            self.report,
        )  # fmt: skip

    def tidy(self) -> None:
        """Remove what a kill left half written. Raises `UsageError` where something else than a file is in the place
        of one of the run's, `FileError` where the folder cannot be written."""
        for file in self._all:
            if os.path.lexists(file) and not files.is_regular(file):
                raise UsageError(f"{file} is {checkpoint.what_lies_at(file)}, and no file of a run: move it away")
            try:
                for left in files.leftovers(file):
                    left.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(f"cannot write {self.path}: {error.strerror or error}") from None

    def check_empty(self) -> None:
        """Raise `UsageError` unless a new run may write here."""
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} - {lock.NAME}:
            resume = ", go on with the run in it (--resume)" if self.last.exists() else ""
            raise UsageError(
                f"{self.path} is not empty: choose another folder for the run{resume}, or replace the run in it "
                "(--overwrite)"
            )

    def remove(self) -> None:
        """Remove the run's files, and the folder where nothing else is in it. Raises `FileError`."""
        try:
            for file in self._all:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot remove {error.filename}: {error.strerror or error}") from None
        shutil.rmtree(self.events, ignore_errors=True)

    def write_settings(
        self,
        recipe: Recipe,
        data: Data,
        origin: Mapping[str, Any],
        *,
        lengthened: Sequence[int] = (),
        ended: str | None = None,
    ) -> None:
        """`run.json` and `check.json`, as a session begins, or as it `ended`. Of `origin` (`train.origin`), what
        `BEGAN` names stays as the run began."""
        before = self.read_settings() if self.settings.exists() else {}
        sessions = 0 if not before else before.get("sessions") or 1
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
            "sessions": sessions + (ended is None),
            "lengthened": list(lengthened),
            "ended": ended,
            "finished": ended in ENDED,
        }
        files.write_json(self.check, data.check.absolute().to_json())
        files.write_json(self.settings, settings)

    def own_recipe(self, task: str) -> Recipe:
        """The recipe of the run that lies here. Raises `UsageError` where there is none, or it is of another task."""
        if not self.settings.exists():
            raise UsageError(f"{self.path} holds no run that could go on: start one without --resume")
        settings = self.read_settings()
        began = settings.get("task", "classification")
        if began != task:
            raise UsageError(f"the run in {self.path} is one of {began}, and this would be {task}")
        return recipes.from_json(settings["recipe"], task)

    def resume(self, recipe: Recipe | None, *, task: str) -> Going:
        """The run that is to go on. `recipe` must be its own, or None; for a finished run it has more epochs.

        Raises `UsageError` where there is no run, it is finished, it began with another recipe, or its checkpoint is
        damaged.
        """
        own = self.own_recipe(task)
        settings = self.read_settings()
        lengthened = self._lengthened(settings)
        different = [] if recipe is None else recipes.differences(own, recipe)
        finished = settings["finished"]
        more = finished and recipe is not None and different == ["epochs"] and recipe.epochs > own.epochs
        if finished and not different:
            raise UsageError(
                f"the run in {self.path} is finished: give it more than its {own.epochs} epochs (--resume --set "
                f"epochs={2 * own.epochs}), or train on from its model with --init {self.model}"
            )
        if different and not more:
            shown = ", ".join(f"{name}={getattr(own, name)}" for name in different)
            hint = ": resume it with the same recipe" + (", save for more epochs" if finished else "")
            raise UsageError(f"the run in {self.path} began with {shown}{hint}")
        if more:
            assert recipe is not None
            own, lengthened = recipe, (*lengthened, self._done())
        digest = self._check_checkpoint(anew=not lengthened)
        return Going(own, lengthened, more, digest)

    def _done(self) -> int:
        """The epochs that the metrics have. Raises `UsageError` where these are none."""
        rows = self.rows()
        if not rows:
            raise UsageError(f"{self.metrics} is gone: train on from the run's model with --init {self.model}")
        return int(rows[-1]["epoch"])

    def seconds_at(self, epoch: int) -> float:
        """How long the run had taken when `epoch` ended. Raises `UsageError` where the metrics do not say."""
        for row in self.rows():
            if row["epoch"] == epoch and "seconds" in row:
                return row["seconds"]
        raise UsageError(f"{self.metrics} lacks epoch {epoch}: train on from the run's model with --init {self.model}")

    def _lengthened(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        found = settings.get("lengthened") or []
        if not all(isinstance(epoch, int) and 0 < epoch <= 100_000 for epoch in found):
            raise UsageError(f"{self.settings} is damaged: train again, into another folder (--out)")
        return tuple(found)

    def _check_checkpoint(self, *, anew: bool) -> str | None:
        """The checkpoint's digest; None where there is none and the run can begin again without."""
        if anew and not self.start.exists():
            raise UsageError(f"{self.path} holds no run that could go on: start one without --resume")
        if os.path.lexists(self.last):
            return checkpoint.check(self.last, self.digests, self.way_out(anew=anew))
        if not anew:
            raise UsageError(f"{self.last} is gone: {self.way_out(anew=anew)}")
        return None

    def way_out(self, *, anew: bool) -> str:
        """What to do where the checkpoint cannot be used; `anew` is whether the run can begin again without it."""
        if anew:
            return "remove it, and --resume begins the run again at its first epoch"
        return f"train on from the run's model with --init {self.model}"

    def check_data(self, data: Data) -> None:
        """Raise `UsageError` unless `data` is what the run began with."""
        settings = self.read_settings()
        if settings["fingerprint"] != data.fingerprint:
            raise UsageError(f"the run in {self.path} began with other pictures: start a new run for these")

    def write_rows(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
        files.write_text(self.metrics, text.getvalue())

    def kept_epoch(self) -> int | None:
        """The epoch that the model file holds, as it says itself; None where there is no model."""
        try:
            epoch = model_file.read(self.model).info.provenance.get("epoch")
        except Error:
            return None
        return int(epoch) if isinstance(epoch, int | float) else None

    def what_is_left(self, saved: int) -> str:
        """What a run that ended early left, as its files say; `saved` are the epochs that the checkpoint has done."""
        kept = self.kept_epoch()
        if kept is None and not self.last.exists():
            return "no epoch had ended, so nothing was saved"
        model = "there is no model yet" if kept is None else f"epoch {kept} is in {self.model}"
        if not self.last.exists():
            return f"{model}; the same command with --resume begins again"
        after = f"after epoch {saved}" if saved else "in the first epoch"
        return f"{model}; the same command with --resume goes on {after}"


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    found = {name: version(name) for name in ("torch", "torchvision", "lightning", "numpy", "pillow")}
    return {"mobilenetv2": __version__, "python": platform.python_version(), **found}
