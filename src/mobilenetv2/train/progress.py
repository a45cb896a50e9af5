"""How a run shows itself on stderr: a bar with pictures per second and time left, and a line per epoch."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich import progress as rich
from rich.console import Console

from mobilenetv2.text import LONGEST_LINE, plain
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.run_folder import Row
from mobilenetv2.train.task import Score


class Display:
    """Where a run's lines and bars go; a display that is not `shown` swallows them.

    Bars are drawn on terminals only; lines go to files and pipes as well.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        if self._shown:
            self._console.print(plain(line, LONGEST_LINE), markup=False, emoji=False)

    @contextlib.contextmanager
    def bar(self, title: str, *, after: float = 0) -> Iterator[Callable[[int, int], None] | None]:
        """A bar for something that takes its time, to be called with (done, total); it appears once that
        took `after` seconds."""
        if not self._drawn:
            yield None
            return
        columns = (rich.TextColumn(title), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
        bar = rich.Progress(*columns, console=self._console, transient=True)
        task = bar.add_task(title, total=None)
        began = time.monotonic()

        def advance(done: int, total: int) -> None:
            if time.monotonic() - began >= after:
                bar.start()
            bar.update(task, completed=done, total=total)

        try:
            yield advance
        finally:
            bar.stop()

    def callbacks(self) -> list[Callback]:
        """What shows the training itself."""
        return [_TrainingBar(self._console)] if self._drawn else []

    def epoch(self, row: Row, epochs: int, score: Score) -> None:
        """The line of an epoch that has ended."""
        accuracy = f"   {score.words} {100 * row[score.column]:5.1f} %" if score.column in row else ""
        self.say(
            f"epoch {int(row['epoch']):3d} of {epochs}   loss {row['train_loss']:.3f}{accuracy}"
            f"   {row['pictures_per_second']:.0f} pictures/s   {_minutes(row['seconds'])}"
        )

    @property
    def _drawn(self) -> bool:
        return self._shown and sys.stderr.isatty()


class _TrainingBar(Callback):
    """The share of the whole run that is done, by `Learner.progress`: right for runs limited by time too."""

    def __init__(self, console: Console) -> None:
        columns = (
            rich.TextColumn("epoch {task.fields[epoch]}"),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TextColumn("loss {task.fields[loss]}   {task.fields[speed]} pictures/s   {task.fields[left]}"),
        )
        self._bar = rich.Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("train", total=1.0, epoch="1", loss="-", speed="-", left="")
        self._loss = 0.0
        self._began = (0.0, 0.0)  # time, progress
        self._last = (0.0, 0)  # time, pictures

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        now = time.monotonic()
        self._began = (now, pl_module.progress)
        self._last = (now, pl_module.pictures)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        loss = float(outputs["loss"])
        self._loss = loss if self._loss == 0 else 0.9 * self._loss + 0.1 * loss
        now, done = time.monotonic(), pl_module.progress
        if now - self._last[0] < 0.5:
            return
        speed = (pl_module.pictures - self._last[1]) / (now - self._last[0])
        self._last = (now, pl_module.pictures)
        share = (done - self._began[1]) / (now - self._began[0])
        left = f"{_minutes((1 - done) / share)} left" if share > 0 else ""
        self._bar.update(
            self._task, completed=done, epoch=f"{trainer.current_epoch + 1}", loss=f"{self._loss:.3f}",
            speed=f"{speed:.0f}", left=left,
        )  # fmt: skip

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._bar.stop()


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
