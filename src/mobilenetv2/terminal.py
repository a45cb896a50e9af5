"""How the command line speaks: errors of one line, progress bars, tables. Human text goes to stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]  # (done, total)


def say(text: str) -> None:
    """A line for people, on stderr, so that stdout carries data alone."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Progress]:
    """A bar on stderr with speed and time left; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress
    from rich.console import Console

    speed = progress.TextColumn(f"{{task.fields[speed]}} {unit}/s")
    columns = (progress.TextColumn(title), progress.BarColumn(), progress.MofNCompleteColumn(), speed)
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, speed="")

        def advance(done: int, total: int) -> None:
            current = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, speed=f"{current:.0f}" if current else "")

        yield advance


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    """Rows of cells as aligned plain text; columns listed in `right` are aligned right."""
    cells = [[str(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    if not cells:
        return ""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


class Drawings:
    """Writes each photo with its answers into a folder, under names that do not collide."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()

    def write(self, photo: str, answer: Any) -> Path:
        from mobilenetv2 import image, plots

        stem, number = Path(photo).stem, 1
        name = f"{stem}.answers.png"  # never the photo's own name: the folder may be the photos'
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}.answers.png"
        self._taken.add(name)
        plots.write_png(self._folder / name, answer.draw(image.read(photo)))
        return self._folder / name
