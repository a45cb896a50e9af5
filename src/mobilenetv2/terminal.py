"""How the command line speaks: errors of one line, progress bars, tables. Human text goes to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenetv2.errors import Error

if TYPE_CHECKING:
    import typer

Progress = Callable[[int, int], None]  # (done, total)


def say(text: str) -> None:
    """A line for people, on stderr, so that stdout carries data alone."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def progress_bar(title: str, unit: str, *, after: float = 0) -> Iterator[Progress]:
    """A bar on stderr with speed and time left, for what takes more than `after` seconds; nothing where stderr is
    not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress
    from rich.console import Console

    speed = progress.TextColumn(f"{{task.fields[speed]}} {unit}/s")
    columns = (progress.TextColumn(title), progress.BarColumn(), progress.MofNCompleteColumn(), speed)
    bar = progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True))
    task = bar.add_task(title, total=None, speed="")
    began = time.monotonic()

    def advance(done: int, total: int) -> None:
        if time.monotonic() - began >= after:
            bar.start()
        current = bar.tasks[task].speed
        bar.update(task, completed=done, total=total, speed=f"{current:.0f}" if current else "")

    try:
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


def command_line(context: typer.Context) -> str:
    """The shell command that calls a verb with the arguments and options in `context`, those of their own value left
    out, and `--resume`, which goes on with a command and is none of its own."""
    options, arguments = [], []
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        elif value != parameter.get_default(context) and parameter.name != "resume" and value is not None:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                options += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    # what begins with a dash would be an option, save behind two
    words = ["--", *arguments] if any(word.startswith("-") for word in arguments) else arguments
    first, rest = ([], words) if "--" in words else (words, [])
    return shlex.join(["mobilenetv2", context.info_name or "", *first, *options, *rest])


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


class Beside:
    """Names in a folder for what is made of photos, each its photo's with another ending; none twice, and none that is
    a photo's own."""

    def __init__(self, folder: Path, ending: str, photos: Sequence[str]) -> None:
        self._folder, self._ending = folder, ending
        self._taken = {Path(photo).resolve() for photo in photos}

    def path(self, photo: str) -> Path:
        stem, number = Path(photo).stem, 1
        path = self._folder / f"{stem}{self._ending}"
        while path.resolve() in self._taken:
            number += 1
            path = self._folder / f"{stem}-{number}{self._ending}"
        self._taken.add(path.resolve())
        return path


def draw_answer(photo: str, answer: Any, path: Path) -> Path:
    """Write the photo with its answer drawn as a PNG, and return `path`."""
    from mobilenetv2 import image, plots

    plots.write_png(path, answer.draw(image.read(photo)))
    return path
