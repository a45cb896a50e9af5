"""The files that a training run leaves: how they are called, and how the small ones are read. No torch here."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import files, json_text
from mobilenetv2.errors import UsageError

# How a run that is finished ended, as run.json has it under "ended"; "interrupted" is one that can go on.
ENDED = {
    "epochs": "all epochs are done",
    "time": "the time limit was reached",
    "patience": "the score that it waits for got no better",
}

_WRITTEN: dict[str, type] = {"recipe": dict, "classes": list, "fingerprint": str, "finished": bool}  # by every release
_LATER: dict[str, type | tuple[type, ...]] = {  # by this one; None where there is nothing to say
    "task": str, "notes": list, "held_out": list, "dataset": str, "places": dict, "pictures": dict, "command": str,
    "directory": str, "date": str, "machine": dict, "versions": dict, "recipe_source": str, "recipe_changed": dict,
    "ended": str, "sessions": int, "lengthened": list,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files of a run are.

    `model` holds the epoch that the recipe keeps, `last` everything needed to go on, `digests` what `last` is known by,
    `start` the weights that the run began with (until it is finished), `metrics` a line per epoch, `settings` the
    recipe, where the pictures are, their fingerprint and the classes, `check` what is wrong with the pictures,
    `evaluation` how the model did on those that measure, `report` all of this for people, and `events` is what
    TensorBoard shows.
    """

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def digests(self) -> Path:
        return self.path / "last.sha256"

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
        if not files.is_regular(self.settings):
            raise UsageError(f"{self.path} holds no run: name the folder that mobilenetv2 train wrote to (--out)")
        damaged = UsageError(f"{self.settings} is damaged: train again, into another folder (--out)")
        try:
            settings = json_text.read(self.settings, error=UsageError, surrogates=True)
        except UsageError:
            raise damaged from None
        if not isinstance(settings, dict) or not all(
            isinstance(settings.get(name), kind) for name, kind in _WRITTEN.items()
        ):
            raise damaged
        if not all(settings.get(name) is None or isinstance(settings[name], kind) for name, kind in _LATER.items()):
            raise damaged
        return settings

    def rows(self) -> list[dict[str, float]]:
        """The metrics so far, a dict per epoch. Raises `UsageError` where the file is damaged."""
        try:
            text = files.read_bytes(self.metrics).decode() if files.is_regular(self.metrics) else ""
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
