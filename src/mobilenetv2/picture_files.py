"""A picture's file opened and decoded: any of the formats that are read, upright as EXIF says, as RGB.

Pillow's own `open` is not used: it warns or raises by its own limit, and would try every format that it knows.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from mobilenetv2 import files, limits, picture_formats, picture_guard, signatures
from mobilenetv2.errors import FileError, ImageError
from mobilenetv2.preprocessing import UInt8Array

_STRIP_PIXELS = 1 << 20  # converted at a time: 4 MB in Pillow, which the caches of a CPU nearly hold

# What Pillow raises for damaged files, seen by changing and cutting files at random.
_PILLOW_RAISES = (
    ArithmeticError, AssertionError, AttributeError, EOFError, Image.DecompressionBombError, LookupError,
    OSError, RuntimeError, struct.error, SyntaxError, TypeError, ValueError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """Pixels [h, w, 3] and the `height` and `width` of the upright photo.

    They are larger than the pixels where these were decoded smaller; then `box` (x1, y1, x2, y2) is where the photo
    lies in them: its sides need not be multiples of the reduction.
    """

    pixels: UInt8Array
    height: int
    width: int
    box: tuple[float, float, float, float] | None = None


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A picture's file for reading. A pipe or a device is read into memory, once it has begun as a picture does.

    Raises `FileError`, and `ImageError` where it is no picture.
    """
    with files.reading(path) as file, open(file, "rb") as stream:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            yield stream
            return
        yield whole(stream, os.fspath(path))


def whole(stream: BinaryIO, name: str) -> io.BytesIO:
    """All of a stream that can be read once. Raises as `opened` does."""
    start = b""
    while len(start) < picture_formats.LONGEST_START and (more := stream.read(picture_formats.LONGEST_START)):
        start += more
    _format(start, name)
    content = io.BytesIO()
    content.write(start)
    while block := stream.read(1 << 20):
        if content.tell() + len(block) > limits.PICTURE_BYTES:
            raise FileError(f"{name} has more than {limits.PICTURE_BYTES:,} bytes: the limit of a picture's file")
        content.write(block)
    content.seek(0)
    return content


@contextlib.contextmanager
def header(file: BinaryIO, name: str) -> Iterator[ImageFile.ImageFile]:
    """The picture, nothing of which is decoded yet; what Pillow raises inside becomes an `ImageError` of one line."""
    start = file.read(picture_formats.LONGEST_START)
    file.seek(0)
    found = _format(start, name)
    if found is picture_formats.TIFF:
        picture_guard.check_tables(file, name)
        file.seek(0)
    plugin = getattr(importlib.import_module(found.plugin[0]), found.plugin[1])
    with damage_of(f"{name} ({found.name})"):
        with _quiet():
            image = plugin(file)
        yield image


def decode(file: BinaryIO, name: str, max_pixels: int, reduction: Callable[[int, int], int]) -> Photo:
    """`reduction` says for a JPEG's upright height and width by which factor it is decoded smaller."""
    with header(file, name) as image:
        width, height = image.size
        factor = 1
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB") and 0 not in image.size:
            if orientation_of(image) >= 5:
                width, height = height, width
            factor = reduction(height, width)
        picture_guard.check_size(image, name, max_pixels, factor=factor)
        picture_guard.check_cost(image, file, name, factor=factor)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        load_pixels(image)
        orientation = orientation_of(image)  # a PNG's may come after its pixels
        pixels = rgb(upright(image, orientation), name)
    if factor == 1:
        return Photo(pixels, pixels.shape[0], pixels.shape[1])
    left = pixels.shape[1] - width / factor if orientation in (2, 3, 6, 7) else 0.0
    top = pixels.shape[0] - height / factor if orientation in (3, 4, 7, 8) else 0.0
    return Photo(pixels, height, width, (left, top, left + width / factor, top + height / factor))


def load_pixels(image: Image.Image) -> None:
    if image.format == "TIFF":  # reads more tags
        with _quiet():
            image.load()
    elif image.format == "PNG" and isinstance(image, ImageFile.ImageFile):
        end = image.load_end

        def load_end() -> None:
            with _quiet():  # reads the chunks behind the pixels, and warns of an animation that is announced there
                end()

        image.load_end = load_end
        try:
            image.load()
        finally:
            del image.load_end
    else:
        image.load()


def rgb(image: Image.Image, name: str) -> UInt8Array:
    """[H, W, 3], transparent parts on white. Strip by strip: as a whole the picture would exist up to four times."""
    if image.mode in ("I", "F", "LAB"):
        raise ImageError(
            f"{name} has pixels of kind {image.mode}: save it with 8 or 16 bits per channel in RGB or grey"
        )
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    wide = np.asarray(image) if image.mode.startswith("I;16") else None
    rows = max(_STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        box = 0, top, image.width, min(top + rows, image.height)
        if wide is not None:
            pixels[top : box[3]] = _from_16_bits(wide[top : box[3]], image.info.get("transparency"))[..., np.newaxis]
        else:  # not crop, which has a limit of Pillow's own
            strip = image.resize((image.width, box[3] - top), Image.Resampling.NEAREST, box)
            pixels[top : box[3]] = np.asarray(_on_white(strip))
    return pixels


def orientation_of(image: Image.Image, *, header_alone: bool = False) -> int:
    """EXIF orientation 1 to 8; 1 where there is none, where it cannot be read, and in a TIFF, which Pillow turns."""
    if image.format == "TIFF":
        return 1
    try:
        with _quiet():
            # a PNG's own method decodes its pixels first
            exif = Image.Image.getexif(image) if header_alone else image.getexif()
            found = exif.get(0x0112, 1)
    except _PILLOW_RAISES:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def stated_orientation(image: ImageFile.ImageFile, file: BinaryIO, name: str) -> int:
    """`orientation_of` from the header alone; of a PNG that has texts or EXIF behind its pixels, these are decoded."""
    header_alone = image.format != "PNG" or not picture_guard.png_ends_with_texts(file)
    if not header_alone:
        picture_guard.check_cost(image, file, name)
    return orientation_of(image, header_alone=header_alone)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


@contextlib.contextmanager
def damage_of(name: str) -> Iterator[None]:
    """Turn what Pillow raises for a damaged file into an `ImageError` of one line."""
    try:
        yield
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it, or it is damaged") from None
    except _PILLOW_RAISES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged or cut short: {reason[:120]}") from None


def _format(start: bytes, name: str) -> picture_formats.PictureFormat:
    """Raises `ImageError` where it is none that is read."""
    if not start:
        raise ImageError(f"{name} is empty")
    ending = os.path.splitext(name)[1]
    if (found := picture_formats.find(start, ending)) is not None:
        return found
    if (unread := picture_formats.unread(start, ending)) is not None:
        raise ImageError(f"{name} is {unread[0]}, which is not read: {unread[1]}")
    kind = signatures.kind(start)
    is_other = f", it is {kind}" if kind is not None else ""
    raise ImageError(f"{name} is not a JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF picture{is_other}")


def _from_16_bits(wide: np.ndarray, clear: object) -> UInt8Array:
    grey = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    if isinstance(clear, int):
        grey[wide == clear] = 255
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        if image.mode == "La":  # Pillow converts it to LA only
            image = image.convert("LA")
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_warnings_lock = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings, which tell of the metadata. Filters belong to the whole process: one thread at a time,
    around headers, which take microseconds."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
