"""What a training run leaves for people: `report.html`, one page with everything in it. No torch here."""

from __future__ import annotations

import os
from pathlib import Path

from mobilenetv2 import files
from mobilenetv2.report import page
from mobilenetv2.report.facts import Facts, Progress, read

__all__ = ["Facts", "read", "write"]


def write(run: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
    """Write the report of the training run in the folder `run` and return its path.

    The page is one file that loads nothing from anywhere. Where the model was not measured yet since it was written,
    that is done first with the engine, with `progress(done, total)` after each picture. Where the pictures are no
    longer there, the page says so and does without.

    Raises `UsageError` where `run` holds no run, no model yet or a damaged `run.json`, `ModelFileError`, `FileError`.
    """
    facts = read(run, progress=progress)
    # bytes of a file's name that are no UTF-8 are shown escaped
    files.write_bytes(facts.files.report, page.page(facts).encode(errors="backslashreplace"))
    return facts.files.report
