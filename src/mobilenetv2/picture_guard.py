"""What a picture's file asks for, looked at before it is decoded: pixels, memory, scans, tables.

A few kilobytes can state 100 million pixels, repeat a scan 2,000 times, or point thousands of tables at the same bytes.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
import struct
from typing import BinaryIO

from PIL import Image, ImageFile

from mobilenetv2 import limits
from mobilenetv2.errors import ImageError
from mobilenetv2.text import counted

# Bytes a pixel takes in Pillow's own memory, by mode; 4 where a mode is not listed.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}

# Bytes a pixel takes in the decoder besides, measured as the peak of `image.read` on 25 megapixels of each mode and
# compression (Pillow 13, Linux x86-64, 11.2026), rounded up.
_DECODERS = {"JPEG": 0, "PNG": 0, "BMP": 0, "PPM": 0, "TGA": 1, "GIF": 2, "TIFF": 6, "WEBP": 12, "AVIF": 14}
_DECODER_ELSE = 20  # JPEG 2000: 32 bits for each sample; pillow_heif
_GIVEN = 3  # RGB
_COEFFICIENT = 2  # bytes libjpeg keeps for each sample of a JPEG of several scans

_PNG_TEXTS = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt"))
_PYTHON_DECODERS = frozenset(("ppm", "ppm_plain", "bmp_rle"))  # loops in Python, 1 to 2 us a pixel
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])")  # not a stuffed FF, not a restart
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_PIECES = frozenset((273, 279, 324, 325))  # offsets and byte counts of strips and of tiles
_SLACK = 1 << 16  # values of a TIFF's directory that share their bytes, such as both resolutions


def check_size(image: Image.Image, name: str, max_pixels: int, *, factor: int = 1) -> None:
    """Raise `ImageError` for a picture without pixels or with too many, as its header has it; `factor` is by what a
    JPEG is reduced while it is decoded."""
    width, height = image.size
    if 0 in image.size:
        raise ImageError(f"{name} has {width} x {height} pixels")
    if max(image.size) > limits.PICTURE_SIDE:
        raise ImageError(f"{name} has {width} x {height} pixels: the limit of a side is {limits.PICTURE_SIDE:,}")
    most = max_pixels if factor == 1 else max(max_pixels, limits.REDUCED_PIXELS)
    if width * height > most or _reduced(image, factor) > max_pixels:
        raise ImageError(f"{name} has {width} x {height} pixels: the limit is {most:,}")


def check_cost(image: ImageFile.ImageFile, file: BinaryIO, name: str, *, factor: int = 1) -> None:
    """Raise `ImageError` for a picture that takes too much memory or time to decode."""
    pixels = _reduced(image, factor)
    stored = _STORED.get(image.mode, 4) * pixels
    decoder = _DECODERS.get(image.format or "", _DECODER_ELSE) * pixels
    if image.format in ("JPEG", "MPO"):
        decoder = _check_scans(image, file, name)
    needed = max(stored + decoder, stored + _GIVEN * pixels, 2 * stored)  # twice where EXIF turns it
    if needed > limits.PICTURE_MEMORY:
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels, which take {needed / 1e6:,.0f} MB to decode as "
            f"{image.format}: the limit is {limits.PICTURE_MEMORY / 1e6:,.0f} MB, make it smaller"
        )
    if any(tile[0] in _PYTHON_DECODERS for tile in image.tile):
        steps = min(image.width * image.height, _length(file))
        if steps > limits.SLOW_PIXELS:
            raise ImageError(
                f"{name} has {image.width} x {image.height} pixels in a form of {image.format} that is slow to decode: "
                f"the limit is {limits.SLOW_PIXELS:,}, save it as PNG"
            )
    if image.format == "JPEG2000" and image.width * image.height > limits.JPEG2000_PIXELS:
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels: the limit of JPEG 2000, which is slow to decode, is "
            f"{limits.JPEG2000_PIXELS:,}"
        )


def check_tables(file: BinaryIO, name: str) -> None:
    """Raise `ImageError` for a TIFF whose first directory points at more bytes than the file has, or at very many
    strips. Pillow reads every value of it while it opens the file, and makes an object of each strip."""
    with contextlib.suppress(struct.error, OverflowError, ValueError):  # damaged: the decoder says how
        entries = _tiff_entries(file, name)
        stated = sum(count * _TIFF_SIZES.get(kind, 0) for _, kind, count in entries)
        length = _length(file)
        if stated > length + _SLACK:
            raise ImageError(f"{name} (TIFF) is damaged: its directory points at {stated:,} bytes, it has {length:,}")
        pieces = max((count for tag, _, count in entries if tag in _TIFF_PIECES), default=0)
        if pieces > limits.TIFF_PIECES:
            raise ImageError(f"{name} (TIFF) has {pieces:,} strips or tiles: the limit is {limits.TIFF_PIECES:,}")


def png_ends_with_texts(file: BinaryIO) -> bool:
    """Whether chunks that may hold EXIF come after a PNG's pixels."""
    place = file.tell()
    file.seek(8)
    kind = before = b""
    while not (before == b"IDAT" and kind in _PNG_TEXTS) and len(head := file.read(8)) == 8:
        before = b"IDAT" if kind == b"IDAT" else before
        kind = head[4:]
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    file.seek(place)
    return before == b"IDAT" and kind in _PNG_TEXTS


def jpeg_scans(content: bytes | memoryview | mmap.mmap, most: int) -> tuple[int, int]:
    """How many scans a JPEG has, `most` + 1 for more, and how many samples a pixel has of which libjpeg keeps the
    coefficients: 0 for the usual JPEG, whose one scan is decoded row by row and whose other scans are never read."""
    scans, components, kept, place = 0, 0, 0.0, 2
    progressive = False
    while scans <= most and (found := _MARKER.search(content, place)) is not None:
        marker, place = found[1][0], found.end()
        if marker in (0xD8, 0xD9) or place + 2 > len(content):
            break
        length = int.from_bytes(content[place : place + 2], "big")
        if length < 2:
            break
        if marker in _FRAMES and length >= 8:
            segment = bytes(content[place : place + length])
            progressive, components = marker in _PROGRESSIVE, segment[7]
            shares = [(at >> 4) * (at & 15) for at in segment[9::3][:components]]
            kept = sum(shares) / max(max(shares, default=1), 1)
        if marker == 0xDA:
            scans += 1
            if scans == 1 and not progressive and place + 2 < len(content) and content[place + 2] >= components:
                return 1, 0
        place += length
    return scans, math.ceil(kept)


def _check_scans(image: Image.Image, file: BinaryIO, name: str) -> int:
    """The bytes that libjpeg keeps of all scans together."""
    place = file.tell()
    with _content(file) as content:
        scans, samples = jpeg_scans(content, limits.JPEG_SCANS)
    file.seek(place)
    if scans > limits.JPEG_SCANS:
        raise ImageError(f"{name} is a JPEG of more than {counted(limits.JPEG_SCANS, 'scan')}: save it again")
    width, height = image.size
    return _COEFFICIENT * samples * width * height


@contextlib.contextmanager
def _content(file: BinaryIO):  # type: ignore[no-untyped-def]
    """The bytes of a file without a copy, where it lies on a disk."""
    try:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # in memory, or empty
        file.seek(0)
        yield file.read()
        return
    with mapped:
        yield mapped


def _tiff_entries(file: BinaryIO, name: str) -> list[tuple[int, int, int]]:
    """Tag, type and count of each entry of the first directory."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in (head[2], head[3])
    first = struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}L", head, 4)[0]
    file.seek(first)
    number = struct.unpack(f"{order}Q", file.read(8))[0] if big else struct.unpack(f"{order}H", file.read(2))[0]
    if number > limits.TIFF_ENTRIES:
        raise ImageError(f"{name} (TIFF) has {number:,} entries in its directory: the limit is {limits.TIFF_ENTRIES:,}")
    entry = struct.Struct(f"{order}HHQ8x" if big else f"{order}HHL4x")
    table = file.read(number * entry.size)
    return [found for found in entry.iter_unpack(table[: len(table) // entry.size * entry.size])]


def _reduced(image: Image.Image, factor: int) -> int:
    return math.ceil(image.width / factor) * math.ceil(image.height / factor)


def _length(file: BinaryIO) -> int:
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(place)
    return length
