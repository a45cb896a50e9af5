"""How the command line speaks: errors of one line, progress bars, tables. Human text goes to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mobilenetv2.errors import Error

Progress = Callable[[int, int], None]  # (done, total)


def say(text: str) -> None:
    """A line for people, on stderr, so that stdout carries data alone."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def progress_bar(title: str, unit: str, *, late: bool = False) -> Iterator[Progress]:
    """A bar on stderr with speed and time left; nothing where stderr is not a terminal.

    It is drawn at once, or, where it is `late`, from the first progress on: perhaps there is none.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress
    from rich.console import Console

    speed = progress.TextColumn(f"{{task.fields[speed]}} {unit}/s")
    columns = (progress.TextColumn(title), progress.BarColumn(), progress.MofNCompleteColumn(), speed)
    bar = progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True))
    task = bar.add_task(title, total=None, speed="")

    def advance(done: int, total: int) -> None:
        bar.start()
        current = bar.tasks[task].speed
        bar.update(task, completed=done, total=total, speed=f"{current:.0f}" if current else "")

    try:
        if not late:
            bar.start()
        yield advance
    finally:
        bar.stop()


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


def run(app: Any) -> None:
    """Run a Typer application and end: an `Error` becomes one line on stderr and its exit code."""
    import typer

    # Typer carries its own copy of Click or uses the installed one, by version; this is the right class of either
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    for stream in (sys.stdout, sys.stderr):  # a file's name that the terminal cannot show is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(standalone_mode=False))
    except usage_error as error:
        message = error.format_message()
        say(message if message.startswith("Usage:") else f"error: {message}")  # no verb at all: the help
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        say("stopped")
        sys.exit(130)
    except Error as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # such as a folder on the way that may not be entered
        say(f"error: {error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(1)
    except MemoryError:
        say("error: not enough memory: use fewer or smaller pictures at a time")
        sys.exit(1)


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
