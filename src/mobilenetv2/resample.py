"""How a picture becomes a network's input: the arithmetic that follows the recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenetv2 import limits
from mobilenetv2.errors import ImageError, UsageError
from mobilenetv2.preprocessing import (
    CropOffset,
    Float32Array,
    InputArray,
    Preprocessing,
    UInt8Array,
    normalise_values,
    validate,
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the photo lies in the network's input: input_xy = photo_xy * scale + offset, x before y.

    Coordinates are in pixels and measured at pixel edges: a photo spans 0..photo_width, and its first
    pixel's centre is 0.5. What was cropped away lies outside 0..size; nothing is clipped.
    """

    photo_height: int
    photo_width: int
    scale: tuple[float, float]
    offset: tuple[float, float]

    def points_to_input(self, points_xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points [..., 2] of the photo, in the input."""
        return np.asarray(points_xy, np.float64) * self.scale + self.offset

    def points_to_photo(self, points_xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points [..., 2] of the input, in the photo."""
        return (np.asarray(points_xy, np.float64) - self.offset) / self.scale

    def boxes_to_input(self, boxes_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes [..., 4] of the photo, in the input."""
        return np.asarray(boxes_xyxy, np.float64) * (self.scale * 2) + (self.offset * 2)

    def boxes_to_photo(self, boxes_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Boxes [..., 4] of the input, in the photo."""
        return (np.asarray(boxes_xyxy, np.float64) - self.offset * 2) / (self.scale * 2)


_STRIP_VALUES = 1 << 22  # resampled at a time in float32: five arrays of 16 MB
_PIL_FILTERS = {"pil-bilinear": Image.Resampling.BILINEAR, "pil-bicubic": Image.Resampling.BICUBIC}


def prepare(picture_HWC: UInt8Array, preprocessing: Preprocessing) -> tuple[InputArray, Geometry]:
    """The network's input [height, width, C] of `preprocessing.size`, and where the picture lies in it.

    The input is uint8, still to be normalised, where the resampling ends in uint8 ("pil-*", or no resize), and
    float32, already normalised, where it does not ("tf1-bilinear", "tf2-bilinear"). `picture_HWC` is uint8 with
    3 channels (RGB; made grey where the network has one), or with as many as `preprocessing.mean`.

    Raises `UsageError` for another array, `ImageError` for a picture so narrow that the resized one is too large.
    """
    p = validate(preprocessing)
    channels = len(p.mean)
    picture = picture_HWC
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.size == 0:
        raise UsageError(f"a picture must be uint8 [H, W, C], got {picture.dtype} {list(picture.shape)}")
    if picture.shape[2] == 3 and channels == 1:
        picture = np.asarray(Image.fromarray(picture).convert("L"))[..., np.newaxis]
    if picture.shape[2] != channels:
        raise UsageError(f"the network takes {channels} channels, the picture has {picture.shape[2]}")
    height, width = picture.shape[:2]
    (top, left, kept_height, kept_width), resized = layout(height, width, p)
    _check_resized(height, width, (kept_height, resized[1]), resized, p)
    kept = picture[top : top + kept_height, left : left + kept_width]
    window = _window(resized, p)
    if p.resize == "none":
        return _place(kept[window.rows, window.columns], window, height, width, p)
    sample = _pil if p.interpolation in _PIL_FILTERS else _tf
    return _place(sample(kept, resized, window, p), window, height, width, p)


def prepare_reduced(
    picture: Image.Image, box: tuple[float, float, float, float], height: int, width: int, preprocessing: Preprocessing
) -> tuple[UInt8Array, Geometry]:
    """`prepare` for a photo of height x width that was decoded smaller: `box` (x1, y1, x2, y2) of `picture`."""
    p = preprocessing
    _, (resized_height, resized_width) = layout(height, width, p)
    small = picture.convert("L" if len(p.mean) == 1 else "RGB")
    small = small.resize((resized_width, resized_height), _PIL_FILTERS[p.interpolation], box=box)
    window = _window((resized_height, resized_width), p)
    inside = _cut(small, window)
    return _place(inside.reshape(*inside.shape[:2], -1), window, height, width, p)


def layout(height: int, width: int, preprocessing: Preprocessing) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """The part of a picture that is kept (top, left, height, width), and the height and width it is resized to."""
    # as tf.image.central_crop, in float64: the margin is cut to an integer, the rest is kept
    top, left = (int((side - side * preprocessing.central_fraction) / 2) for side in (height, width))
    kept_height, kept_width = height - 2 * top, width - 2 * left
    if preprocessing.resize == "stretch":
        resized = preprocessing.size
    elif preprocessing.resize == "short":
        short = preprocessing.resize_to
        assert short is not None, preprocessing
        long = int(short * max(kept_height, kept_width) / min(kept_height, kept_width))  # torchvision, transformers
        resized = (short, long) if kept_height <= kept_width else (long, short)
    elif preprocessing.resize == "fit":
        scale = min(1.0, preprocessing.size[0] / kept_height, preprocessing.size[1] / kept_width)
        resized = (max(round(kept_height * scale), 1), max(round(kept_width * scale), 1))
    else:
        resized = (kept_height, kept_width)
    return (top, left, kept_height, kept_width), resized


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a resized picture that the input shows, and how many of the input's rows and columns lie before."""

    rows: slice
    columns: slice
    above: int
    before: int


def _window(resized: tuple[int, int], p: Preprocessing) -> _Window:
    fits = p.resize == "fit"
    (row, above), (column, before) = (
        (0, 0) if fits else _centre(resized[axis], p.size[axis], p.crop_offset) for axis in (0, 1)
    )
    rows = slice(row, min(row + p.size[0], resized[0]))
    return _Window(rows, slice(column, min(column + p.size[1], resized[1])), above, before)


def _check_resized(
    height: int, width: int, between: tuple[int, int], resized: tuple[int, int], p: Preprocessing
) -> None:
    """Raise `ImageError` where resizing takes too much memory: before the crop, or `between` its two directions, since
    a picture of 1 x 100,000 pixels would become one of 256 x 25,600,000."""
    most = max(limits.RESIZED_PIXELS, 2 * math.prod(p.size))
    if p.resize == "short" and math.prod(resized) > most:
        raise ImageError(f"{width} x {height} pixels would be resized to {resized[1]} x {resized[0]}: too narrow")
    if p.interpolation in _PIL_FILTERS and p.resize != "none" and math.prod(between) > most:
        raise ImageError(
            f"{width} x {height} pixels would be resized by way of {between[1]} x {between[0]}: too narrow"
        )


def _place(inside: InputArray, window: _Window, height: int, width: int, p: Preprocessing) -> tuple[Any, Geometry]:
    """The input, `p.size` large, with what it shows of the resampled picture; normalised where that is float32."""
    (top, left, kept_height, kept_width), resized = layout(height, width, p)
    image: Any = np.empty((*p.size, inside.shape[2]), inside.dtype)
    image[:] = np.asarray(p.mean).astype(inside.dtype) if p.resize == "fit" else 0  # 127 for 127.5
    above, before = window.above, window.before
    image[above : above + inside.shape[0], before : before + inside.shape[1]] = inside
    scale = (resized[1] / kept_width, resized[0] / kept_height)
    offset = (before - window.columns.start - left * scale[0], above - window.rows.start - top * scale[1])
    geometry = Geometry(height, width, scale, offset)
    return (image if image.dtype == np.uint8 else normalise_values(image, p)), geometry


def _centre(length: int, wanted: int, rounding: CropOffset) -> tuple[int, int]:
    """Where the centre `wanted` of `length` begins, and how many zeros come before it: one of them is 0."""
    if wanted > length:
        return 0, (wanted - length) // 2
    margin = (length - wanted) / 2
    return (round(margin) if rounding == "round" else int(margin)), 0


def _pil(picture: UInt8Array, size: tuple[int, int], window: _Window, p: Preprocessing) -> UInt8Array:
    def resized(plane: UInt8Array) -> UInt8Array:
        whole = Image.fromarray(plane).resize((size[1], size[0]), _PIL_FILTERS[p.interpolation])
        return _cut(whole, window)

    if picture.shape[2] == 3:
        return resized(picture)
    return np.stack([resized(picture[..., channel]) for channel in range(picture.shape[2])], axis=-1)


def _cut(picture: Image.Image, window: _Window) -> UInt8Array:
    box = (window.columns.start, window.rows.start, window.columns.stop, window.rows.stop)
    return np.asarray(picture if box == (0, 0, *picture.size) else picture.crop(box))


def _tf(picture: UInt8Array, size: tuple[int, int], window: _Window, p: Preprocessing) -> Float32Array:
    """Bilinear without antialiasing, align_corners False, in float32 as TensorFlow's kernel computes it. What lies
    outside the window is never computed."""
    half_pixel = p.interpolation == "tf2-bilinear"
    above, below, down = _taps(picture.shape[0], size[0], window.rows, half_pixel=half_pixel)
    left, right, across = _taps(picture.shape[1], size[1], window.columns, half_pixel=half_pixel)
    inside = np.empty((len(above), len(left), picture.shape[2]), np.float32)

    def line(rows: npt.NDArray[np.intp]) -> Float32Array:
        first = picture[rows[:, np.newaxis], left].astype(np.float32)
        second = picture[rows[:, np.newaxis], right].astype(np.float32)
        return np.asarray(first + (second - first) * across[:, np.newaxis], np.float32)

    rows = max(_STRIP_VALUES // max(inside[:1].size, 1), 1)
    for strip in (slice(top, top + rows) for top in range(0, len(above), rows)):
        upper, lower = line(above[strip]), line(below[strip])
        inside[strip] = upper + (lower - upper) * down[strip, np.newaxis, np.newaxis]
    return inside


def _taps(
    length: int, wanted: int, shown: slice, *, half_pixel: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Float32Array]:
    """For the `shown` ones of `wanted` outputs: the two pixels of `length` that each lies between, and the second one's
    weight."""
    scale = np.float32(length) / np.float32(wanted)
    outputs = np.arange(shown.start, shown.stop).astype(np.float32)
    source = (outputs + np.float32(0.5)) * scale - np.float32(0.5) if half_pixel else outputs * scale
    below = np.floor(source)
    first, second = (np.clip(at, 0, length - 1).astype(np.intp) for at in (below, np.ceil(source)))
    return first, second, np.asarray(source - below, np.float32)
