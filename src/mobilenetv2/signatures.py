"""What kind of file something is, by its first bytes: for messages about a file that is not what was expected."""

from __future__ import annotations

import os
import stat

LONGEST = 512  # bytes that are looked at
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

# (where, what stands there, what it is)
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (4, b"TFL3", "a TFLite model"),
    (0, b"7767517", "an ncnn graph"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch checkpoint"),
    (0, LFS_POINTER, "a Git LFS pointer"),
)


def kind(start: bytes) -> str | None:
    """What begins with these bytes, as "a JPEG picture"; None where that is not known."""
    for at, signature, name in _SIGNATURES:
        if start.startswith(signature, at):
            return name
    text = start[:LONGEST].lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "JSON text" if text.startswith((b'{"', b"{\n", b"[{")) else None


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What kind of file lies there; None where that is not known, or where it is no regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait, or take what another reads
            return None
        with open(path, "rb") as file:
            return kind(file.read(LONGEST))
    except (OSError, ValueError):
        return None


def is_picture(name: str | None) -> bool:
    return name is not None and name.endswith(" picture")


def is_lfs_pointer(name: str | None) -> bool:
    """A file of three lines that stands for one that Git LFS has not fetched."""
    return name == "a Git LFS pointer"
