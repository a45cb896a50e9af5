"""Changes to a picture with a mask by which DeepLab learns more from it: scales, crops, mirroring, colours.

A place is cut out of the picture, scaled, in one resampling: the picture's pixels are interpolated, the mask's never
are, so that a changed mask has no value that it had not, save 255 beyond the picture. Everything random comes from the
generator that is passed in.

Source: tensorflow/models, research/deeplab, `input_preprocess.py` with `train.py`'s defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.data.detection_augment import photometric
from mobilenetv2.data.masks import IGNORE, UInt8Array
from mobilenetv2.data.segmentation import SegmentationSample
from mobilenetv2.errors import DatasetError, UsageError

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
GREY = (127, 127, 127)  # nearest to 127.5, which DeepLab's normalisation makes 0


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A picture, RGB [H, W, 3], and the class of each of its pixels, [H, W] with 255 where it does not count."""

    rgb: UInt8Array
    mask: UInt8Array

    def __post_init__(self) -> None:
        assert self.rgb.shape == (*self.mask.shape, 3), (self.rgb.shape, self.mask.shape)


def read_labelled(sample: SegmentationSample) -> Labelled:
    """The picture of a sample, upright, with its mask.

    Raises as `image.read` and `SegmentationSample.read_mask` do, and `DatasetError` where the two differ in size.
    """
    rgb, mask = image.read(sample.path), sample.read_mask()
    if rgb.shape[:2] != mask.shape:
        raise DatasetError(sizes_differ(sample, rgb.shape[:2], mask.shape))
    return Labelled(rgb, mask)


def sizes_differ(sample: SegmentationSample, of_picture: tuple[int, ...], of_mask: tuple[int, ...]) -> str:
    """What is said of a picture and a mask of other height and width."""
    return (
        f"{sample.mask}: the mask has {of_mask[1]} x {of_mask[0]} pixels, but {sample.path} has "
        f"{of_picture[1]} x {of_picture[0]}: make both the same"
    )


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much is changed: the scales of which one is chosen, the probability of mirroring, whether colours change,
    and the colour beyond the picture."""

    scales: tuple[float, ...] = SCALES
    flip: float = 0.5
    photometric: bool = False
    fill: tuple[int, int, int] = GREY


DEEPLAB = Augmentation()


def augment(
    one: Labelled, size: tuple[int, int], rng: np.random.Generator, settings: Augmentation = DEEPLAB
) -> Labelled:
    """A random place of the picture at a random scale, of `size` (height, width), perhaps mirrored and recoloured.

    Where the scaled picture is smaller than `size`, all of that side is kept, at the left or the top, with `fill` and
    255 beyond it.
    """
    if not settings.scales or min(settings.scales) <= 0:
        raise UsageError(f"scales must be above 0, got {settings.scales}")
    scale = settings.scales[int(rng.integers(len(settings.scales)))]
    height, width = (max(1, round(side * scale)) for side in one.mask.shape)
    top = int(rng.integers(max(height - size[0], 0) + 1))
    left = int(rng.integers(max(width - size[1], 0) + 1))
    changed = cut(one, (height, width), (top, left), size, fill=settings.fill)
    if rng.random() < settings.flip:
        changed = flip(changed)
    return Labelled(photometric(changed.rgb, rng), changed.mask) if settings.photometric else changed


def cut(
    one: Labelled,
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    *,
    fill: tuple[int, int, int] = GREY,
) -> Labelled:
    """Of the picture as it is at the size `scaled` (height, width), what lies `size` from `corner` (row, column) on.

    Pillow's bilinear filter makes the picture; the mask has the value of the nearest of its pixels. Beyond the picture
    are `fill` and 255.
    """
    if min(*scaled, *size) < 1 or min(corner) < 0:
        raise UsageError(f"sizes must be at least 1 x 1 and corners within, got {scaled}, {size} and {corner}")
    rows, columns = one.mask.shape
    down, across = rows / scaled[0], columns / scaled[1]
    height, width = (min(side, whole - start) for side, whole, start in zip(size, scaled, corner, strict=True))
    rgb = np.empty((*size, 3), np.uint8)
    rgb[:] = fill
    mask = np.full(size, IGNORE, np.uint8)
    if height > 0 and width > 0:
        top, left = corner
        box = (
            left * across,
            top * down,
            min((left + width) * across, float(columns)),
            min((top + height) * down, float(rows)),
        )
        part = Image.fromarray(one.rgb).resize((width, height), Image.Resampling.BILINEAR, box=box)
        rgb[:height, :width] = np.asarray(part)
        row_N = _nearest(top, height, down, rows)
        column_N = _nearest(left, width, across, columns)
        mask[:height, :width] = one.mask[row_N[:, None], column_N[None, :]]
    return Labelled(rgb, mask)


def flip(one: Labelled) -> Labelled:
    """The picture mirrored: left is right."""
    return Labelled(np.ascontiguousarray(one.rgb[:, ::-1]), np.ascontiguousarray(one.mask[:, ::-1]))


def _nearest(first: int, count: int, step: float, length: int) -> np.ndarray:
    """Which pixel of the original holds the centre of each scaled one."""
    centres = (np.arange(first, first + count) + 0.5) * step
    return np.minimum(np.floor(centres).astype(np.int64), length - 1)
