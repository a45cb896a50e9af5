"""A run's checkpoint on disk: known by its digest, and looked at before anything is read out of it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from pathlib import Path

from mobilenetv2 import files
from mobilenetv2.errors import FileError, UsageError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20


def digest(path: Path) -> str:
    """The SHA-256 of a file. Raises `FileError`."""
    found = hashlib.sha256()
    with files.opened(path) as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def write_digests(path: Path, new: str, old: str | None) -> None:
    """Note the digest of a checkpoint that is about to take its place beside that of the one that is there: whichever
    of the two a kill leaves is known. Raises `FileError`."""
    files.write_text(path, "".join(f"{one}\n" for one in (new, old) if one is not None))


def check(path: Path, digests: Path, way_out: str) -> str:
    """The digest of the checkpoint at `path`, which is one of those noted in the file `digests`.

    An earlier release noted none: then the checksums that the file itself has count. Raises `UsageError`, which ends
    with the `way_out`, where the file was altered or is none.
    """
    if not files.is_regular(path):
        raise UsageError(f"{path} is {what_lies_at(path)}, and no checkpoint: {way_out}")
    if not os.path.getsize(path):
        raise UsageError(f"{path} is empty: {way_out}")
    found = digest(path)
    noted = _noted(digests)
    if noted and found not in noted:
        raise UsageError(f"{path} is damaged or another run's (its SHA-256 is not in {digests.name}): {way_out}")
    if not noted and (problem := _problem(path)) is not None:
        raise UsageError(f"{path} {problem}: {way_out}")
    return found


def what_lies_at(path: Path) -> str:
    """What is no regular file, in words."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "a link to nothing"
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")


def _noted(digests: Path) -> list[str]:
    if not files.is_regular(digests):
        return []
    try:
        return _DIGEST.findall(files.read_bytes(digests, limit=1 << 16).decode("ascii", "replace"))
    except FileError:
        return []


def _problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as members:
            broken = members.testzip()
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error):
        return "is no checkpoint of a run"
    return None if broken is None else "is damaged (a checksum in it is wrong)"
