"""The recipe by which a picture becomes a network's input, as data; Pillow is not needed to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks, limits
from mobilenetv2.errors import UsageError, unknown_name
from mobilenetv2.text import quoted

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
InputArray = UInt8Array | Float32Array
Resize = Literal["short", "stretch", "fit", "none"]
Interpolation = Literal["pil-bilinear", "pil-bicubic", "tf1-bilinear", "tf2-bilinear"]
CropOffset = Literal["round", "floor"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a network's input; a property of the weights, kept in the model file.

    In this order: the central `central_fraction` of each side is kept (as tf.image.central_crop does), the
    rest is resized, the centre `size` (height, width) is cropped out, and each channel becomes
    (value - mean) / std, with mean and std in units of 0..255. Where the resized picture is smaller than
    `size`, zeros (black) surround it, but for "fit".

    `resize`: "short" makes the shortest side `resize_to` and keeps the aspect, "stretch" goes straight to
    `size`, "fit" makes the picture smaller, never larger, so that it lies within `size`, keeps the aspect and puts it
    at the top left with the mean around it, "none" leaves it as it is. `resize_to` is None but for "short".
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
    # detectors see the whole picture, stretched: those trained here, and TensorFlow's
    "ssd": Preprocessing((224, 224), interpolation="pil-bilinear", **{**_STRETCH, "central_fraction": 1.0}),
    # segmentation keeps what fits as it is (tensorflow/models, research/deeplab)
    "deeplab": Preprocessing((224, 224), resize="fit", resize_to=None, interpolation="pil-bilinear", **_HALF),
    "ssd-tf": Preprocessing((224, 224), interpolation="tf1-bilinear", **{**_STRETCH, "central_fraction": 1.0}),
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
    if not isinstance(name, str) or name not in _AT_224:
        raise unknown_name("recipe", str(name), RECIPES)
    sides = (size, size) if checks.is_whole(size) else size
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
    if isinstance(resize, str) and resize == "none":
        changed = replace(changed, resize="none", resize_to=None, central_fraction=1.0)
    elif resize is not None:
        side = checks.whole("resize (or 'none')", resize, 1, limits.RESIZE_TO)
        changed = replace(changed, resize="short", resize_to=side, central_fraction=1.0)
    if crop is not None:
        side = checks.whole("crop", crop, 1, limits.SIDE)
        changed = replace(changed, size=(side, side))
    return changed if changed == preprocessing else validate(replace(changed, recipe="custom"))


def preprocessing_from_json(data: object) -> Preprocessing:
    """What `to_json` wrote. Raises `UsageError` that names an unknown, missing or wrong field."""
    if not isinstance(data, dict):
        raise UsageError(f"preprocessing must be a JSON object, got {quoted(data)}")
    known = {field.name: field.default is MISSING for field in fields(Preprocessing)}
    for name in data:
        if name not in known:
            raise unknown_name("preprocessing field", str(name), known)
    for name, required in known.items():
        if required and name not in data:
            raise UsageError(f"preprocessing field {name!r} is missing")
    return validate(Preprocessing(**data))


def validate(preprocessing: Preprocessing) -> Preprocessing:
    """`preprocessing` as plain Python. Raises `UsageError` that names the first field that cannot be."""
    p = preprocessing
    for field, value, known in (
        ("resize", p.resize, get_args(Resize)),
        ("interpolation", p.interpolation, get_args(Interpolation)),
        ("crop_offset", p.crop_offset, get_args(CropOffset)),
    ):
        if not isinstance(value, str) or value not in known:
            raise unknown_name(f"preprocessing {field}", value if isinstance(value, str) else quoted(value), known)
    if p.resize != "short" and p.resize_to is not None:
        raise UsageError(
            f"preprocessing resize_to must be None where resize is {p.resize!r}, got {quoted(p.resize_to)}"
        )
    mean = checks.items("preprocessing mean", p.mean, _mean, least=1, most=limits.CHANNELS)
    return replace(
        p,
        size=checks.items("preprocessing size (height, width)", p.size, _side, least=2, most=2),
        resize_to=None
        if p.resize != "short"
        else checks.whole("preprocessing resize_to", p.resize_to, 1, limits.RESIZE_TO),
        central_fraction=checks.number("preprocessing central_fraction", p.central_fraction, limits.LEAST_FRACTION, 1),
        mean=mean,
        std=checks.items("preprocessing std (one for each mean)", p.std, _std, least=len(mean), most=len(mean)),
        recipe=checks.text("preprocessing recipe", p.recipe, limits.STATED_TEXT),
    )


def _side(value: Any) -> int:
    return checks.whole("preprocessing size", value, 1, limits.SIDE)


def _mean(value: Any) -> float:
    return checks.number("preprocessing mean", value, -limits.MEAN, limits.MEAN)


def _std(value: Any) -> float:
    return checks.number("preprocessing std", value, 1 / limits.STD, limits.STD)


def normalise(images: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """(value - mean) / std for uint8 pixels [..., C]. Raises `UsageError` for other arrays."""
    if images.dtype != np.uint8 or images.ndim < 1 or images.shape[-1] != len(preprocessing.mean):
        raise UsageError(
            f"normalise takes uint8 [..., {len(preprocessing.mean)}], got {images.dtype} {list(images.shape)}"
        )
    return normalise_values(images.astype(np.float32), preprocessing)


def normalise_values(values: Float32Array, preprocessing: Preprocessing) -> Float32Array:
    values -= np.asarray(preprocessing.mean, np.float32)
    values /= np.asarray(preprocessing.std, np.float32)
    return values
