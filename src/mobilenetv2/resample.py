"""How a picture becomes a network's input: the recipe as data, and the arithmetic that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenetv2.errors import ImageError, UsageError, unknown_name

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
InputArray = UInt8Array | Float32Array
Resize = Literal["short", "stretch", "none"]
Interpolation = Literal["pil-bilinear", "pil-bicubic", "tf1-bilinear", "tf2-bilinear"]
CropOffset = Literal["round", "floor"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a network's input; a property of the weights, kept in the model file.

    In this order: the central `central_fraction` of each side is kept (as tf.image.central_crop does), the
    rest is resized, the centre `size` (height, width) is cropped out, and each channel becomes
    (value - mean) / std, with mean and std in units of 0..255. Where the resized picture is smaller than
    `size`, zeros (black) surround it.

    `resize`: "short" makes the shortest side `resize_to` and keeps the aspect, "stretch" goes straight to
    `size`, "none" leaves the picture as it is. `resize_to` is None for the other two.
    `interpolation`: "pil-*" widens its filter when it makes a picture smaller and ends in uint8. "tf1-bilinear"
    and "tf2-bilinear" read four pixels whatever the scale and end in float32: tf1 takes the source at
    i * scale, tf2 at (i + 0.5) * scale - 0.5.
    `crop_offset`: half of an odd margin is rounded to even ("round", torchvision) or down ("floor", the others).
    `mean` and `std` have one number per input channel; one makes the picture grey, and other counts than 1 and
    3 are for arrays only. `recipe` is the name it came from, or "custom".
    """

    size: tuple[int, int]
    _: KW_ONLY
    resize: Resize
    resize_to: int | None
    central_fraction: float = 1.0
    interpolation: Interpolation
    crop_offset: CropOffset = "round"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: str = "custom"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `preprocessing_from_json` reads them back."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_HALF: dict[str, Any] = {"mean": (127.5,) * 3, "std": (127.5,) * 3}  # x / 127.5 - 1
_STRETCH: dict[str, Any] = {
    "resize": "stretch", "resize_to": None, "central_fraction": 0.875, "crop_offset": "floor", **_HALF,
}  # fmt: skip
_SHORT: dict[str, Any] = {"resize": "short", "interpolation": "pil-bilinear", **_IMAGENET}

# What each library does before it evaluates its own weights, at 224 x 224.
_AT_224: dict[str, Preprocessing] = {
    "slim": Preprocessing((224, 224), interpolation="tf1-bilinear", **_STRETCH),
    "keras": Preprocessing((224, 224), interpolation="tf2-bilinear", **_STRETCH),
    "torchvision-v1": Preprocessing((224, 224), resize_to=256, **_SHORT),
    "torchvision-v2": Preprocessing((224, 224), resize_to=232, **_SHORT),
    "timm": Preprocessing((224, 224), resize_to=256, **{**_SHORT, "interpolation": "pil-bicubic"}),
    "hf": Preprocessing((224, 224), resize_to=256, crop_offset="floor", **{**_SHORT, **_HALF}),
}
# `resize_to` for the longer side of another size.
_RESIZE_TO: dict[str, Callable[[int], int]] = {
    "torchvision-v1": lambda side: side * 8 // 7,  # floor(side / 0.875)
    "torchvision-v2": lambda side: side + 8,
    "timm": lambda side: side * 8 // 7,
    "hf": lambda side: side + 32,
}
RECIPES: tuple[str, ...] = tuple(_AT_224)


def recipe(name: str, size: int | tuple[int, int]) -> Preprocessing:
    """The preprocessing called `name` (one of `RECIPES`) for a network input of `size`: a side, or (height, width).

    Raises `UsageError` for an unknown name or an impossible size.
    """
    if name not in _AT_224:
        raise unknown_name("recipe", name, RECIPES)
    sides = (size, size) if isinstance(size, int) else size
    found = validate(replace(_AT_224[name], size=sides, recipe=name))
    return replace(found, resize_to=_RESIZE_TO[name](max(found.size))) if name in _RESIZE_TO else found


def override(
    preprocessing: Preprocessing, *, resize: int | Literal["none"] | None = None, crop: int | None = None
) -> Preprocessing:
    """`preprocessing` with another resize rule, another final crop, or both; None leaves it as it is.

    `resize` is the length of the shortest side in pixels, or "none"; it takes the place of the whole rule, so
    `central_fraction` becomes 1. `crop` is the side of the square input: a "stretch" goes to that size,
    "short" keeps its `resize_to`. Raises `UsageError`.
    """
    changed = preprocessing
    if resize == "none":
        changed = replace(changed, resize="none", resize_to=None, central_fraction=1.0)
    elif resize is not None:
        if not _is_length(resize):
            raise UsageError(f"resize must be a length in pixels or 'none', got {resize!r}")
        changed = replace(changed, resize="short", resize_to=resize, central_fraction=1.0)
    if crop is not None:
        if not _is_length(crop):
            raise UsageError(f"crop must be a length in pixels, got {crop!r}")
        changed = replace(changed, size=(crop, crop))
    return changed if changed == preprocessing else validate(replace(changed, recipe="custom"))


def preprocessing_from_json(data: object) -> Preprocessing:
    """What `to_json` wrote. Raises `UsageError` that names an unknown, missing or wrong field."""
    if not isinstance(data, dict):
        raise UsageError(f"preprocessing must be a JSON object, got {data!r}")
    known = {field.name: field.default is MISSING for field in fields(Preprocessing)}
    for name in data:
        if name not in known:
            raise unknown_name("preprocessing field", str(name), known)
    for name, required in known.items():
        if required and name not in data:
            raise UsageError(f"preprocessing field {name!r} is missing")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return validate(Preprocessing(**values))


def validate(preprocessing: Preprocessing) -> Preprocessing:
    """`preprocessing` itself. Raises `UsageError` that names the first field that cannot be."""
    p = preprocessing
    for field, value, known in (
        ("resize", p.resize, get_args(Resize)),
        ("interpolation", p.interpolation, get_args(Interpolation)),
        ("crop_offset", p.crop_offset, get_args(CropOffset)),
    ):
        if value not in known:
            raise unknown_name(f"preprocessing {field}", str(value), known)
    short = p.resize == "short"
    wanted: dict[str, tuple[object, bool, str]] = {
        "size": (
            p.size,
            isinstance(p.size, tuple) and len(p.size) == 2 and all(map(_is_length, p.size)) and max(p.size) <= 8192,
            "a height and a width of 1 to 8192",
        ),
        "resize_to": (
            p.resize_to,
            _is_length(p.resize_to) if short else p.resize_to is None,
            "a length of at least 1" if short else f"None where resize is {p.resize!r}",
        ),
        "central_fraction": (
            p.central_fraction,
            _is_number(p.central_fraction) and 0 < p.central_fraction <= 1,
            "above 0 and at most 1",
        ),
        "mean": (p.mean, _are_numbers(p.mean), "numbers, one per input channel"),
        "std": (
            p.std,
            _are_numbers(p.std) and min(p.std) > 0 and _are_numbers(p.mean) and len(p.std) == len(p.mean),
            "positive numbers, as many as mean has",
        ),
        "recipe": (p.recipe, isinstance(p.recipe, str) and p.recipe != "", "a name"),
    }
    for field, (value, good, meaning) in wanted.items():
        if not good:
            raise UsageError(f"preprocessing {field} must be {meaning}, got {value!r}")
    return preprocessing


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


# A picture of 1 x 100,000 pixels would become one of 256 x 25,600,000.
_MAX_RESIZED_PIXELS = 100_000_000
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
    if p.resize == "short" and math.prod(resized) > _MAX_RESIZED_PIXELS:
        raise ImageError(f"{width} x {height} pixels would be resized to {resized[1]} x {resized[0]}: too narrow")
    kept = picture[top : top + kept_height, left : left + kept_width]
    if p.resize == "none":
        return _place(kept, height, width, p)
    sample = _pil if p.interpolation in _PIL_FILTERS else _tf
    return _place(sample(kept, resized, p), height, width, p)


def prepare_reduced(
    picture: Image.Image, box: tuple[float, float, float, float], height: int, width: int, preprocessing: Preprocessing
) -> tuple[UInt8Array, Geometry]:
    """`prepare` for a photo of height x width that was decoded smaller: `box` (x1, y1, x2, y2) of `picture`."""
    p = preprocessing
    _, (resized_height, resized_width) = layout(height, width, p)
    small = picture.convert("L" if len(p.mean) == 1 else "RGB")
    small = small.resize((resized_width, resized_height), _PIL_FILTERS[p.interpolation], box=box)
    return _place(np.asarray(small).reshape(resized_height, resized_width, -1), height, width, p)


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
    else:
        resized = (kept_height, kept_width)
    return (top, left, kept_height, kept_width), resized


def normalise(images: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """(value - mean) / std for uint8 pixels [..., C]. Raises `UsageError` for other arrays."""
    if images.dtype != np.uint8 or images.ndim < 1 or images.shape[-1] != len(preprocessing.mean):
        raise UsageError(
            f"normalise takes uint8 [..., {len(preprocessing.mean)}], got {images.dtype} {list(images.shape)}"
        )
    return _normalise(images.astype(np.float32), preprocessing)


def _normalise(values: Float32Array, preprocessing: Preprocessing) -> Float32Array:
    values -= np.asarray(preprocessing.mean, np.float32)
    values /= np.asarray(preprocessing.std, np.float32)
    return values


def _place(sampled: InputArray, height: int, width: int, p: Preprocessing) -> tuple[Any, Geometry]:
    """The centre of the resampled picture, `p.size` large, normalised where it is float32."""
    (top, left, kept_height, kept_width), resized = layout(height, width, p)
    (row, above), (column, before) = (_centre(resized[axis], p.size[axis], p.crop_offset) for axis in (0, 1))
    inside = sampled[row : row + p.size[0], column : column + p.size[1]]
    image: Any = np.zeros((*p.size, sampled.shape[2]), sampled.dtype)
    image[above : above + inside.shape[0], before : before + inside.shape[1]] = inside
    scale = (resized[1] / kept_width, resized[0] / kept_height)
    offset = (before - column - left * scale[0], above - row - top * scale[1])
    geometry = Geometry(height, width, scale, offset)
    return (image if image.dtype == np.uint8 else _normalise(image, p)), geometry


def _centre(length: int, wanted: int, rounding: CropOffset) -> tuple[int, int]:
    """Where the centre `wanted` of `length` begins, and how many zeros come before it: one of them is 0."""
    if wanted > length:
        return 0, (wanted - length) // 2
    margin = (length - wanted) / 2
    return (round(margin) if rounding == "round" else int(margin)), 0


def _pil(picture: UInt8Array, size: tuple[int, int], p: Preprocessing) -> UInt8Array:
    def resized(plane: UInt8Array) -> UInt8Array:
        return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), _PIL_FILTERS[p.interpolation]))

    if picture.shape[2] == 3:
        return resized(picture)
    return np.stack([resized(picture[..., channel]) for channel in range(picture.shape[2])], axis=-1)


def _tf(picture: UInt8Array, size: tuple[int, int], p: Preprocessing) -> Float32Array:
    """Bilinear without antialiasing, align_corners False, in float32 as TensorFlow's kernel computes it."""
    half_pixel = p.interpolation == "tf2-bilinear"
    above, below, down = _taps(picture.shape[0], size[0], half_pixel=half_pixel)
    left, right, across = _taps(picture.shape[1], size[1], half_pixel=half_pixel)

    def line(rows: npt.NDArray[np.intp]) -> Float32Array:
        first = picture[rows[:, np.newaxis], left].astype(np.float32)
        second = picture[rows[:, np.newaxis], right].astype(np.float32)
        return np.asarray(first + (second - first) * across[:, np.newaxis], np.float32)

    upper, lower = line(above), line(below)
    return np.asarray(upper + (lower - upper) * down[:, np.newaxis, np.newaxis], np.float32)


def _taps(
    length: int, wanted: int, *, half_pixel: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Float32Array]:
    """For each of `wanted` outputs: the two pixels of `length` that it lies between, and the second one's weight."""
    scale = np.float32(length) / np.float32(wanted)
    outputs = np.arange(wanted, dtype=np.float32)
    source = (outputs + np.float32(0.5)) * scale - np.float32(0.5) if half_pixel else outputs * scale
    below = np.floor(source)
    first, second = (np.clip(at, 0, length - 1).astype(np.intp) for at in (below, np.ceil(source)))
    return first, second, np.asarray(source - below, np.float32)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(values: object) -> bool:
    return isinstance(values, tuple) and len(values) > 0 and all(map(_is_number, values))
