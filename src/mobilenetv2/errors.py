"""Everything that can go wrong for a reason the user can mend, as one tree of exceptions.

    Error                       exit code 1: the work failed
    ├── UsageError              exit code 2: a wrong argument, option or name; also a ValueError
    │   └── SpecError           a network that cannot exist
    ├── FileError               a file or folder cannot be read or written
    ├── ImageError              a picture is damaged, too large, or not a picture
    ├── ModelFileError          not a model file, or one that was altered
    ├── WeightsError            a foreign checkpoint that cannot be imported as it is
    ├── DatasetError            a data set whose files or labels do not fit
    ├── DownloadError           a published file could not be fetched or is not the published one
    ├── TrainingError           a training run that cannot go on
    ├── BenchmarkError          nothing could be measured
    └── MissingExtraError       an optional package is not installed

Each message is one line that names the file or argument, the value, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mobilenetv2.text import LONGEST_MESSAGE, plain, quoted


class Error(Exception):
    """The root: the command line prints its one line and ends with `exit_code`.

    `str` gives one line of at most `LONGEST_MESSAGE` characters, whatever names and values the message quotes.
    """

    exit_code = 1

    def __str__(self) -> str:
        return plain(super().__str__(), LONGEST_MESSAGE)


class UsageError(Error, ValueError):
    exit_code = 2


class SpecError(UsageError):
    pass


class FileError(Error):
    pass


class ImageError(Error):
    pass


class ModelFileError(Error):
    pass


class WeightsError(Error):
    pass


class DatasetError(Error):
    pass


class DownloadError(Error):
    pass


class TrainingError(Error):
    pass


class BenchmarkError(Error):
    """Nothing could be measured."""


class MissingExtraError(Error):
    """`package` is missing; `extra` is the name of what `installation.command_for` installs."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        from mobilenetv2.installation import command_for  # for an error that is rare

        super().__init__(f"{needed_for} needs {package}: {command_for(extra)}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for `name`, which is none of `known`; the nearest one is suggested, or all are listed."""
    known = list(known)
    nearest = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    if nearest:
        return UsageError(f"unknown {kind} {quoted(name)}: did you mean {nearest[0]!r}?")
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return UsageError(f"unknown {kind} {quoted(name)}: choose one of {shown}")
