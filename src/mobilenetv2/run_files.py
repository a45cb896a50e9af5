"""The files that a training run leaves: how they are called, and how the small ones are read. No torch here."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import files
from mobilenetv2.errors import UsageError

_WRITTEN: dict[str, type] = {"recipe": dict, "classes": list, "fingerprint": str, "finished": bool}  # by every release


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files of a run are.

    `model` holds the epoch that the recipe keeps, `last` everything needed to go on, `start` the weights that the run
    began with (until it is finished), `metrics` a line per epoch, `settings` the recipe, where the pictures are, their
    fingerprint and the classes, `check` what is wrong with the pictures, `evaluation` how the model did on those that
    measure, `report` all of this for people, and `events` is what TensorBoard shows.
    """

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def start(self) -> Path:
        return self.path / "start.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def events(self) -> Path:
        return self.path / "tensorboard"

    @property
    def settings(self) -> Path:
        return self.path / "run.json"

    @property
    def check(self) -> Path:
        return self.path / "check.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def read_settings(self) -> dict[str, Any]:
        """`run.json`. Raises `UsageError` where there is none, or it is not one."""
        if not self.settings.is_file():
            raise UsageError(f"{self.path} holds no run: name the folder that mobilenetv2 train wrote to (--out)")
        settings: Any = None
        try:
            settings = json.loads(files.read_bytes(self.settings))
            whole = all(isinstance(settings[name], kind) for name, kind in _WRITTEN.items())
        except (ValueError, TypeError, LookupError):
            whole = False
        if not whole:
            raise UsageError(f"{self.settings} is damaged: train again, into another folder (--out)")
        return settings

    def rows(self) -> list[dict[str, float]]:
        """The metrics so far, a dict per epoch. Raises `UsageError` where the file is damaged."""
        try:
            text = files.read_bytes(self.metrics).decode() if self.metrics.exists() else ""
            rows = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(io.StringIO(text))
            ]
            whole = all("epoch" in row for row in rows)
        except (ValueError, TypeError, csv.Error):
            rows, whole = [], False
        if not whole:
            raise UsageError(f"{self.metrics} is damaged: train again, into another folder (--out)")
        return rows
