"""Zip archives and NumPy's arrays in them: bounded by what the file stores before anything is unpacked."""

from __future__ import annotations

import contextlib
import io
import lzma
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, limits
from mobilenetv2.errors import WeightsError
from mobilenetv2.text import plain, quoted

# Everything that reading a damaged archive, and the header of an array in it, was seen to raise.
DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError,
    SyntaxError, EOFError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MemoryError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


def names(path: Path) -> list[str]:
    """What is in the zip archive at `path`; nothing where it is none, or damaged. Raises `FileError`."""
    with files.reading(path) as file, open(file, "rb") as stream:
        if stream.read(2) != b"PK":
            return []
        try:
            with directory(stream) as archive:
                return archive.namelist()
        except (*DAMAGE, OSError):
            return []


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip archive at `path`. Raises `FileError`, and `WeightsError` where it, or what is read of it, is damaged."""
    with files.reading(path) as file, open(file, "rb") as stream:
        try:
            with directory(stream) as archive:
                yield archive
        except DAMAGE as error:
            raise WeightsError(f"{path} is damaged or cut off: {reason(error)}") from None
        except OSError as error:
            if error.errno:  # the system's: no permission, a broken disk
                raise
            raise WeightsError(f"{path} is damaged or cut off: {reason(error)}") from None


@contextlib.contextmanager
def directory(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """An archive whose directory has at most `limits.DIRECTORY_BYTES`. Raises what `DAMAGE` lists."""
    guard = _Guard(stream)
    with zipfile.ZipFile(cast("BinaryIO", guard)) as archive:
        guard.longest = -1
        yield archive


def member(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """One member, unpacked. Raises `BadZipFile` where it says that it has more than `most` bytes, `KeyError`."""
    info = archive.getinfo(name)
    if info.file_size > most:
        raise zipfile.BadZipFile(f"{plain(name)} unpacks to {info.file_size:,} bytes: the limit is {most:,}")
    return archive.read(info)  # reads no more than the directory says


def most_unpacked(path: Path) -> int:
    """How many bytes the file's content may unpack to."""
    allowed = limits.UNPACKED_SPARE + limits.UNPACKED_RATIO * os.path.getsize(path)
    return min(allowed, limits.UNPACKED_BYTES)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` file by name. Raises `FileError` and `WeightsError`."""
    with opened(path) as archive:
        members = archive.infolist()
        if len(members) > limits.TENSORS:
            raise WeightsError(f"{path} holds {len(members):,} arrays: the limit is {limits.TENSORS:,}")
        most, total = most_unpacked(path), sum(info.file_size for info in members)
        if total > most:
            raise WeightsError(
                f"{path} unpacks to {total:,} bytes of arrays, expected at most {most:,} of a file of its size"
            )
        return {info.filename.removesuffix(".npy"): _array(info.filename, archive.read(info)) for info in members}


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    """An `.npy` file's array. Raises `ValueError` and others of `DAMAGE`."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd texts in the header: it is Python's syntax
        shape, fortran_order, dtype = read(stream, max_header_size=limits.NPY_HEADER_CHARACTERS)
    if dtype.hasobject or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"{plain(name)} is an array of {plain(dtype)} and shape {quoted(shape)}")
    stored = content[stream.tell() :]
    if math.prod(shape) * dtype.itemsize > len(stored):
        raise ValueError(f"{plain(name)} is {quoted(list(shape))} of {dtype}, but stores {len(stored):,} bytes")
    values = np.frombuffer(stored, dtype, math.prod(shape))
    return values.reshape(shape, order="F" if fortran_order else "C")


def reason(error: BaseException) -> str:
    """An exception's first line, for the end of a message."""
    lines = str(error).strip().splitlines()
    return plain(lines[0], 200) if lines else type(error).__name__


class _Guard:
    """A stream for `ZipFile`, which reads a whole directory at once, however long the file says that it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.longest = limits.DIRECTORY_BYTES

    def read(self, size: int = -1) -> bytes:
        if 0 <= self.longest < size:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes: the limit is {self.longest:,}")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        pass
