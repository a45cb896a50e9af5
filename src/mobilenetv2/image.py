"""Pictures as people have them: a file or a part of one, bytes, a PIL picture or an array, as RGB uint8 [H, W, 3].

JPEG, PNG, WebP, BMP, TIFF and GIF (the first picture of a file with several), upright as EXIF says.
Transparent parts are shown on white. 16-bit grey is scaled to 8 bits; 32-bit and floating-point pixels have no
agreed range and are refused. Colour profiles are ignored, as the libraries do whose weights are imported.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mobilenetv2 import files
from mobilenetv2.errors import ImageError, UsageError
from mobilenetv2.picture_formats import ENDINGS, UNREAD_PHOTOS
from mobilenetv2.preprocessing import (
    RECIPES,
    InputArray,
    Preprocessing,
    UInt8Array,
    normalise,
    override,
    preprocessing_from_json,
    recipe,
    validate,
)
from mobilenetv2.resample import Geometry, layout, prepare, prepare_reduced

__all__ = [
    "ENDINGS",
    "MAX_PIXELS",
    "RECIPES",
    "UNREAD_PHOTOS",
    "Geometry",
    "Preprocessing",
    "Source",
    "Stored",
    "load",
    "normalise",
    "override",
    "prepare",
    "preprocessing_from_json",
    "read",
    "recipe",
    "size",
    "stored",
    "validate",
]


@runtime_checkable
class Stored(Protocol):
    """A picture's file somewhere else than on a path, such as in a shard; its `str` names it for people."""

    def read_bytes(self) -> bytes: ...


Source = str | os.PathLike[str] | bytes | Stored | Image.Image | UInt8Array

MAX_PIXELS = 100_000_000  # 300 MB of RGB

# A JPEG is decoded at 1/2, 1/4 or 1/8 only where the reduced photo is still this many times larger than what it is
# resized to. Levels of 255 that the resized photo then differs from the full decode, Pillow 13 with libjpeg-turbo
# 3.2, 11.2026, all three factors, bilinear and bicubic, JPEG quality 75 to 95, with and without chroma subsampling:
#   margin 5: photographs mean 0.3, max 5; noise mean 1, max 6; stripes and checks of every period mean 5, max 8;
#             a zone plate mean 0.2, max 12
#   margin 4: the same 0.4, 6; 1.6, 9; 8, 14; 0.4, 15.   margin 2: photographs 1.2, 17; noise 6, 36.
# The "tf*" interpolations read single pixels of the full photo, so they are never given a reduced one.
REDUCED_MARGIN = 5


def read(source: Source, *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """The picture as RGB uint8 [H, W, 3], upright.

    `source` is a path, the bytes of a file, what has them (`Stored`), a PIL picture (treated as the file it came
    from: turned upright where its EXIF says so), or a uint8 array [H, W, 3] or [H, W] (grey), which is given back
    without a copy where it already is RGB.

    Raises `FileError` where the file does not exist or cannot be read, `ImageError` where it is no picture, is
    damaged or cut short, or its header tells of more than `max_pixels` (checked before anything is decoded),
    and `UsageError` for another kind of source.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    photo = _decode(source, max_pixels=max_pixels).image
    picture = np.empty((photo.height, photo.width, 3), np.uint8)
    for top in range(0, photo.height, 256):  # converted as a whole it would exist three times
        box = 0, top, photo.width, min(top + 256, photo.height)  # not crop, which has a limit of Pillow's own
        picture[top : box[3]] = np.asarray(photo.resize((photo.width, box[3] - top), Image.Resampling.NEAREST, box))
    return picture


def size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of a picture file, upright, from its header alone: no pixel is decoded, a cut is not noticed.

    A PNG whose EXIF stands behind its pixels counts as upright. Raises as `read` does.
    """
    name = os.fspath(path)
    with files.reading(path) as file_path, open(file_path, "rb") as file:
        plugin = _plugin(file, name)
        with _damage_of(f"{name} ({plugin.format})"):
            with _quiet():
                image = plugin(file)
            _check_size(image, name, MAX_PIXELS)
            width, height = image.size
            return (width, height) if _orientation(image) >= 5 else (height, width)


def stored(path: str | os.PathLike[str]) -> Image.Image:
    """The picture as its file has it: not turned, its palette and depth kept. Raises as `read` does."""
    name = os.fspath(path)
    with files.reading(path) as file_path, open(file_path, "rb") as file:
        plugin = _plugin(file, name)
        with _damage_of(f"{name} ({plugin.format})"):
            with _quiet():
                image = plugin(file)
            _check_size(image, name, MAX_PIXELS)
            _load_pixels(image)
            return image


def load(source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> tuple[InputArray, Geometry]:
    """`read` and `prepare` in one: the network's input [h, w, C] and where the photo lies in it.

    A JPEG much larger than needed is decoded at a reduced size where, in all that was measured (`REDUCED_MARGIN`), the
    resized photo then stays within 12 of 255 of the full decode's everywhere, and a photograph within 0.5 on average.
    The geometry is the full photo's all the same. An array may have as many channels as `preprocessing.mean`. Raises
    as `read` and `prepare` do.
    """
    if isinstance(source, np.ndarray):
        own_channels = source.ndim == 3 and source.shape[2] == len(preprocessing.mean)
        return prepare(source if own_channels else _from_array(source), preprocessing)
    validate(preprocessing)
    photo = _decode(
        source, max_pixels=max_pixels, reduction=lambda height, width: _reduction(height, width, preprocessing)
    )
    if photo.box is not None:
        return prepare_reduced(photo.image, photo.box, photo.height, photo.width, preprocessing)
    try:
        return prepare(np.asarray(photo.image), preprocessing)
    except ImageError as error:
        raise ImageError(f"{_name(source)}: {error}") from None


def _reduction(height: int, width: int, preprocessing: Preprocessing) -> int:
    """The largest factor by which a JPEG of height x width may be reduced while it is decoded; 1 for none."""
    p = preprocessing
    if p.resize == "none" or p.central_fraction != 1 or not p.interpolation.startswith("pil-"):
        return 1
    _, (resized_height, resized_width) = layout(height, width, p)
    spare = min(height / resized_height, width / resized_width) / REDUCED_MARGIN
    return next((factor for factor in (8, 4, 2) if factor <= spare), 1)


_SIGNATURES: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"GIF8", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
)

# What Pillow raises for damaged files, seen by changing and cutting files at random; MemoryError is a false size.
_PILLOW_RAISES = (
    ArithmeticError, AssertionError, AttributeError, EOFError, Image.DecompressionBombError, LookupError, MemoryError,
    OSError, RuntimeError, struct.error, SyntaxError, TypeError, ValueError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Photo:
    """A decoded photo. `image` is RGB and upright; where it was decoded smaller, `box` is the part of it that the
    photo of height x width fills (the last row and column of a reduced JPEG may be filled in part)."""

    image: Image.Image
    height: int
    width: int
    box: tuple[float, float, float, float] | None = None


def _decode(
    source: object, *, max_pixels: int, reduction: Callable[[int, int], int] = lambda height, width: 1
) -> _Photo:
    """`reduction` says for a JPEG's upright height and width at which fraction it is decoded."""
    name = _name(source)
    if isinstance(source, Image.Image):
        _check_size(source, name, max_pixels)
        with _damage_of(f"{name} ({source.format or source.mode})"):
            _load_pixels(source)
            upright = _upright(_rgb(source, name), _orientation(source))
        return _Photo(upright, upright.height, upright.width)
    if isinstance(source, bytes):
        return _decode_file(io.BytesIO(source), name, max_pixels, reduction)
    if isinstance(source, str | os.PathLike):
        with files.reading(source) as path, open(path, "rb") as file:
            return _decode_file(file, name, max_pixels, reduction)
    if isinstance(source, Stored):
        return _decode_file(io.BytesIO(source.read_bytes()), name, max_pixels, reduction)
    raise UsageError(f"a picture is a path, bytes, a PIL picture or a uint8 array, got {type(source).__name__}")


def _plugin(file: BinaryIO, name: str) -> type[ImageFile.ImageFile]:
    """What reads this file. Not Image.open: it warns or raises by Pillow's own limit, and would try every other format
    it knows."""
    start = file.read(16)
    file.seek(0)
    if not start:
        raise ImageError(f"{name} is empty")
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return WebPImageFile
    for signature, plugin in _SIGNATURES:
        if start.startswith(signature):
            return plugin
    raise ImageError(f"{name} is not a JPEG, PNG, WebP, BMP, TIFF or GIF picture")


def _decode_file(file: BinaryIO, name: str, max_pixels: int, reduction: Callable[[int, int], int]) -> _Photo:
    plugin = _plugin(file, name)
    with _damage_of(f"{name} ({plugin.format})"):
        with _quiet():
            image = plugin(file)
        _check_size(image, name, max_pixels)
        width, height = image.size
        orientation = _orientation(image)
        if orientation >= 5:
            width, height = height, width
        factor = 1
        if isinstance(image, JpegImageFile) and image.mode in ("L", "RGB"):
            factor = reduction(height, width)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        _load_pixels(image)
        orientation = _orientation(image)  # a PNG's may come after its pixels
        upright = _upright(_rgb(image, name), orientation)
    if factor == 1:
        return _Photo(upright, upright.height, upright.width)
    left = upright.width - width / factor if orientation in (2, 3, 6, 7) else 0.0
    top = upright.height - height / factor if orientation in (3, 4, 7, 8) else 0.0
    return _Photo(upright, height, width, (left, top, left + width / factor, top + height / factor))


def _load_pixels(image: Image.Image) -> None:
    with _quiet() if image.format == "TIFF" else contextlib.nullcontext():  # a TIFF reads more tags
        image.load()


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
        if isinstance(clear := image.info.get("transparency"), int):
            grey[wide == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise ImageError(
            f"{name} has pixels of kind {image.mode}: save it with 8 or 16 bits per channel in RGB or grey"
        )
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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none, where it cannot be read, and in a TIFF, which Pillow turns."""
    if image.format == "TIFF":
        return 1
    try:
        with _quiet():
            found = image.getexif().get(0x0112, 1)
    except _PILLOW_RAISES:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _from_array(array: UInt8Array) -> UInt8Array:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or array.size == 0:
        raise UsageError(f"a picture array must be uint8 [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}")
    return array if array.ndim == 3 else np.repeat(array[..., np.newaxis], 3, axis=2)


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError(f"{name} has {image.width} x {image.height} pixels: the limit is {max_pixels:,}")
    if 0 in image.size:
        raise ImageError(f"{name} has {image.width} x {image.height} pixels")


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Stored):
        return str(source)
    return f"the picture of {len(source)} bytes" if isinstance(source, bytes) else "the picture"


@contextlib.contextmanager
def _damage_of(name: str) -> Iterator[None]:
    """Turn what Pillow raises for a damaged file into an `ImageError` of one line."""
    try:
        yield
    except _PILLOW_RAISES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged or cut short: {reason[:120]}") from None


_warnings_lock = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings, which tell of the metadata. Filters belong to the whole process: one thread at a time,
    around headers, which take microseconds."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
