"""How the command line speaks: errors of one line, progress bars, tables. Human text goes to stderr.

Everything that is shown passes through `say`, `show` or `show_json`, so that no name from outside reaches the terminal
with its control characters.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenetv2 import text
from mobilenetv2.errors import Error

if TYPE_CHECKING:
    import typer

    from mobilenetv2.sources import Photo

Progress = Callable[[int, int], None]  # (done, total)


def say(*lines: object) -> None:
    """A line each for people, on stderr, so that stdout carries data alone."""
    print(text.joined(lines), file=sys.stderr)


def say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def show(answer: str | Iterable[str]) -> None:
    """An answer on stdout: its lines, or a text whose names are on one line each. Every line is made safe."""
    print(text.joined(answer.split("\n") if isinstance(answer, str) else answer))


def show_json(value: object) -> None:
    """Plain JSON values, whole, as one line on stdout."""
    print(text.json_line(value))


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
    name = progress.TextColumn(text.plain(title), markup=False)
    columns = (name, progress.BarColumn(), progress.MofNCompleteColumn(), speed)
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
    """Rows of cells as aligned plain text, each cell safe and cut; columns listed in `right` are aligned right."""
    cells = [[text.plain(cell, text.LONGEST_LABEL) for cell in row] for row in ([header, *rows] if header else rows)]
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
    arguments = _arguments()
    if sys.stderr is None:  # closed by the caller (2>&-): `print` would write to stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):  # a file's name that the terminal cannot show is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except usage_error as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # no verb at all: the help
            say(*message.split("\n"))
        else:
            from mobilenetv2 import hints  # 2 ms, and most commands are right

            say(f"error: {hints.of_arguments(arguments) or message}")
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


def _arguments() -> list[str]:
    """The command's arguments; `help` and `version`, which are no verbs, as the options that they mean."""
    if sys.argv[1:2] == ["version"]:
        return ["--version"]
    return [*sys.argv[2:], "--help"] if sys.argv[1:2] == ["help"] else sys.argv[1:]


class Beside:
    """Names in a folder for what is made of photos: each its photo's place with another ending; none twice, and none
    that is a photo's own."""

    def __init__(self, folder: Path, ending: str, photos: Sequence[Photo]) -> None:
        self._folder, self._ending, self._photos = folder, ending, photos
        self._taken: set[str] = set()

    def path(self, photo: Photo) -> Path:
        place = self._folder / photo.place.parent
        stem, number = _short(photo.place.name), 1
        path = place / f"{stem}{self._ending}"
        while (real := os.path.realpath(path)) in self._taken or (os.path.lexists(path) and real in self._originals):
            number += 1
            path = place / f"{stem}-{number}{self._ending}"
        self._taken.add(real)
        return path

    @functools.cached_property
    def _originals(self) -> set[str]:
        """The photos' own files: asked for only where a file of the wanted name exists."""
        return {os.path.realpath(photo.name) for photo in self._photos}


def _short(stem: str) -> str:
    """At most 200 bytes of it: with number and ending a file's name may have 255."""
    return os.fsencode(stem)[:200].decode(errors="ignore") if len(os.fsencode(stem)) > 200 else stem
