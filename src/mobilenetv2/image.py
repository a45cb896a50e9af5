"""Pictures as people have them: a file or a part of one, bytes, a PIL picture or an array, as RGB uint8 [H, W, 3].

JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF, JPEG 2000, PPM and TGA (the first picture of a file with several), upright as
EXIF says; HEIC where pillow-heif is installed. Transparent parts are shown on white. 16-bit grey is scaled to 8 bits;
32-bit and floating-point pixels have no agreed range and are refused. Colour profiles are ignored, as the libraries do
whose weights are imported.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image

from mobilenetv2 import limits, picture_files, picture_guard
from mobilenetv2.errors import ImageError, UsageError
from mobilenetv2.picture_files import Photo
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
    "Readable",
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


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes, or anything that reads like one."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class ArrayLike(Protocol):
    """What NumPy makes an array of, such as a tensor of PyTorch."""

    def __array__(self) -> np.ndarray: ...


Source = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Stored | Readable | Image.Image | UInt8Array | ArrayLike
)

MAX_PIXELS = limits.PICTURE_PIXELS

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

    `source` is a path, the bytes of a file, what has them (`Stored`), a file open for reading bytes, a PIL picture
    (treated as the file it came from: turned upright where its EXIF says so), or a uint8 array [H, W, 3], [H, W, 4]
    (RGBA), [H, W, 1] or [H, W] (grey), which is given back without a copy where it already is RGB. A tensor of PyTorch
    may be [3, H, W] too. A pipe or a device is read to its end.

    Raises `FileError` where the file does not exist or cannot be read, `ImageError` where it is no picture, is
    damaged or cut short, or its header tells of more than `max_pixels` or more memory than `limits.PICTURE_MEMORY`
    (checked before anything is decoded), and `UsageError` for another kind of source.
    """
    if (array := _array(source)) is not None:
        return _from_array(array)
    with _memory_of(source):
        return _decode(source, max_pixels, lambda height, width: 1).pixels


def size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of a picture file, upright, from its header alone: no pixel is decoded, a cut is not noticed.

    Only of a PNG that has EXIF behind its pixels are these decoded too. Raises as `read` does.
    """
    name = os.fspath(path)
    with picture_files.opened(path) as file, picture_files.header(file, name) as image:
        reduced = 8 if image.format in ("JPEG", "MPO") else 1  # `load` may take it
        picture_guard.check_size(image, name, MAX_PIXELS, factor=reduced)
        width, height = image.size
        turned = picture_files.stated_orientation(image, file, name) >= 5
        return (width, height) if turned else (height, width)


def stored(path: str | os.PathLike[str]) -> Image.Image:
    """The picture as its file has it: not turned, its palette and depth kept. Raises as `read` does."""
    name = os.fspath(path)
    with picture_files.opened(path) as file, picture_files.header(file, name) as image:
        picture_guard.check_size(image, name, MAX_PIXELS)
        picture_guard.check_cost(image, file, name)
        picture_files.load_pixels(image)
        return image


def load(source: Source, preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> tuple[InputArray, Geometry]:
    """`read` and `prepare` in one: the network's input [h, w, C] and where the photo lies in it.

    A JPEG much larger than needed is decoded at a reduced size where, in all that was measured (`REDUCED_MARGIN`), the
    resized photo then stays within 12 of 255 of the full decode's everywhere, and a photograph within 0.5 on average;
    `max_pixels` then counts what is decoded. The geometry is the full photo's all the same. An array may have as many
    channels as `preprocessing.mean`. Raises as `read` and `prepare` do.
    """
    with _memory_of(source):
        if (array := _array(source)) is not None:
            own_channels = array.ndim == 3 and array.shape[2] == len(preprocessing.mean)
            return prepare(array if own_channels else _from_array(array), preprocessing)
        validate(preprocessing)
        photo = _decode(source, max_pixels, lambda height, width: _reduction(height, width, preprocessing))
        try:
            if photo.box is not None:
                small = Image.fromarray(photo.pixels)
                return prepare_reduced(small, photo.box, photo.height, photo.width, preprocessing)
            return prepare(photo.pixels, preprocessing)
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


def _decode(source: object, max_pixels: int, reduction: Callable[[int, int], int]) -> Photo:
    """`reduction` says for a JPEG's upright height and width by which factor it is decoded smaller."""
    name = _name(source)
    if isinstance(source, Image.Image):
        picture_guard.check_size(source, name, max_pixels)
        with picture_files.damage_of(f"{name} ({source.format or source.mode})"):
            picture_files.load_pixels(source)
            upright = picture_files.upright(source, picture_files.orientation_of(source))
            return Photo(picture_files.rgb(upright, name), upright.height, upright.width)
    if isinstance(source, bytes | bytearray | memoryview):
        return picture_files.decode(io.BytesIO(source), name, max_pixels, reduction)
    if isinstance(source, str | os.PathLike):
        with picture_files.opened(source) as file:
            return picture_files.decode(file, name, max_pixels, reduction)
    if isinstance(source, Stored):
        return picture_files.decode(io.BytesIO(source.read_bytes()), name, max_pixels, reduction)
    if isinstance(source, Readable):
        if isinstance(source, io.TextIOBase):
            raise UsageError("a picture's file must be open for reading bytes: open it with 'rb'")
        return picture_files.decode(picture_files.whole(cast(BinaryIO, source), name), name, max_pixels, reduction)
    raise UsageError(
        f"a picture is a path, bytes, an open file, a PIL picture or a uint8 array, got {type(source).__name__}"
    )


def _array(source: Any) -> np.ndarray | None:
    """An array, or what NumPy makes of a tensor; None for other sources. PIL's pictures are no arrays here."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, Image.Image) or not isinstance(source, ArrayLike):
        return None
    if not type(source).__module__.startswith("torch"):
        return np.asarray(source)
    tensor: Any = source
    array = np.asarray(tensor.detach().cpu())
    channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4) and (array.shape[0] == 3 or array.shape[2] != 3)
    return array.transpose(1, 2, 0) if channels_first else array


def _from_array(array: np.ndarray) -> UInt8Array:
    channels = array.shape[2:]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in ((), (1,), (3,), (4,)) or not array.size:
        raise UsageError(
            "a picture array must be uint8 [H, W, 3], [H, W, 4], [H, W, 1] or [H, W], got "
            f"{array.dtype} {list(array.shape)}"
        )
    if channels == (4,):
        return picture_files.rgb(Image.fromarray(np.ascontiguousarray(array)), "the picture")
    return array if channels == (3,) else np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the picture of {memoryview(source).nbytes} bytes"
    if isinstance(source, Image.Image):
        return "the picture"
    if isinstance(source, Stored):
        return str(source)
    named = getattr(source, "name", None)  # an open file's; a number where it has none
    return named if isinstance(named, str) else "the picture"


@contextlib.contextmanager
def _memory_of(source: object) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise ImageError(f"{_name(source)}: not enough memory for this picture") from None
