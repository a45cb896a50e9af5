"""Changes to a picture with boxes by which SSD learns more from it: crops, zooming out, mirroring, colours.

A place in a picture is a window: left, top, right, bottom in its pixels, and the window may reach beyond the picture.
`zoom_out` and `ssd_crop` choose windows, `cut` makes the picture of one at the size that is wanted, in one resampling.
Everything random comes from the generator that is passed in. N boxes of a scene.

Source: Liu et al., SSD (arXiv 1512.02325), sections 2.2 and 3.6, with the ranges of its published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenetv2 import boxes, image
from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.errors import UsageError

UInt8Array = npt.NDArray[np.uint8]
Window = tuple[float, float, float, float]

OVERLAPS: tuple[float | None, ...] = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # None: the whole picture; 0: any part
MEAN_COLOUR = (124, 116, 104)  # ImageNet's, in 0..255
_TRIES = 50


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture, RGB [H, W, 3], and its objects: `boxes_xyxy` [N, 4] in its pixels with `labels` [N]; `ignored` [N]
    marks those that are not learned from."""

    rgb: UInt8Array
    boxes_xyxy: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]

    @property
    def window(self) -> Window:
        """The whole picture."""
        return 0.0, 0.0, float(self.rgb.shape[1]), float(self.rgb.shape[0])


def read_scene(sample: DetectionSample) -> Scene:
    """The picture of a sample, upright, with its objects. Raises as `image.read` does."""
    return Scene(image.read(sample.path), sample.boxes_xyxy, sample.labels, sample.ignored)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much is changed: the probabilities of each step, and the largest side ratio of zooming out."""

    crop: bool = True
    zoom_out: float = 0.5
    largest: float = 4.0
    flip: float = 0.5
    vertical_flip: float = 0.0
    photometric: bool = True
    fill: tuple[int, int, int] = MEAN_COLOUR


SSD = Augmentation()


def augment(scene: Scene, size: tuple[int, int], rng: np.random.Generator, settings: Augmentation = SSD) -> Scene:
    """The scene at `size` (height, width), changed as SSD does: zoomed out or not, cropped, mirrored, recoloured."""
    window = scene.window
    if rng.random() < settings.zoom_out:
        window = zoom_out(window, rng, largest=settings.largest)
    if settings.crop:
        window = ssd_crop(window, scene.boxes_xyxy[~scene.ignored], rng)
    recolour = (lambda rgb: photometric(rgb, rng)) if settings.photometric else None
    changed = cut(scene, window, size, fill=settings.fill, recolour=recolour)
    if rng.random() < settings.flip:
        changed = flip(changed)
    return upside_down(changed) if settings.vertical_flip and rng.random() < settings.vertical_flip else changed


def zoom_out(window: Window, rng: np.random.Generator, *, largest: float = 4.0) -> Window:
    """A window 1 to `largest` times as high and wide, somewhere around this one: objects become smaller in it."""
    if not 1 <= largest < math.inf:
        raise UsageError(f"largest must be from 1 up, got {largest}")
    left, top, right, bottom = window
    ratio, x, y = rng.uniform(1, largest), rng.random(), rng.random()
    width, height = (right - left) * ratio, (bottom - top) * ratio
    left, top = left - x * (width - (right - left)), top - y * (height - (bottom - top))
    return left, top, left + width, top + height


def ssd_crop(
    window: Window,
    boxes_xyxy: npt.NDArray[np.floating],
    rng: np.random.Generator,
    *,
    overlaps: Sequence[float | None] = OVERLAPS,
    smallest: float = 0.3,
) -> Window:
    """A part of the window that overlaps an object by a chance minimum (intersection over union), or the whole window.

    Of `overlaps`, in random order, the first counts for which one of 50 random parts does; None means the whole window.
    A part has `smallest` to 1 of the window's side lengths (the root of its area) and 1/2 to 2 of its proportions.
    Where there are boxes, at least one has its centre in it.
    """
    if not 0 < smallest <= 1:
        raise UsageError(f"smallest must be above 0 and at most 1, got {smallest}")
    left, top, right, bottom = window
    for choice in rng.permutation(len(overlaps)).tolist():
        least = overlaps[choice]
        if least is None:
            break
        # T parts are tried
        scale_T = rng.uniform(smallest, 1, _TRIES)
        ratio_T = rng.uniform(np.maximum(0.5, scale_T**2), np.minimum(2, 1 / scale_T**2))
        widths_T = (right - left) * scale_T * np.sqrt(ratio_T)
        heights_T = (bottom - top) * scale_T / np.sqrt(ratio_T)
        x_T = left + rng.random(_TRIES) * (right - left - widths_T)
        y_T = top + rng.random(_TRIES) * (bottom - top - heights_T)
        parts_T4 = np.stack([x_T, y_T, x_T + widths_T, y_T + heights_T], axis=1)
        fits_T = np.ones(_TRIES, bool)
        if len(boxes_xyxy):
            fits_T = (boxes.iou(parts_T4, boxes_xyxy).max(axis=1) >= least) & _centred(parts_T4, boxes_xyxy).any(axis=1)
        if fits_T.any():
            x1, y1, x2, y2 = parts_T4[fits_T.argmax()].tolist()
            return x1, y1, x2, y2
    return window


def cut(
    scene: Scene,
    window: Window,
    size: tuple[int, int],
    *,
    fill: tuple[int, int, int] = MEAN_COLOUR,
    recolour: Callable[[UInt8Array], UInt8Array] | None = None,
) -> Scene:
    """What is in the window, resized to `size` (height, width) with Pillow's bilinear filter.

    Boxes with their centre in the window are kept, cut off at its edges; the others are left out with their labels.
    `fill` is the colour beyond the picture, `recolour` changes what is within.
    """
    height, width = size
    left, top, right, bottom = window
    if min(size) < 1 or not (right > left and bottom > top):
        raise UsageError(f"size must be at least 1 x 1 and the window not empty, got {size} and {window}")
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    rows, columns = scene.rgb.shape[:2]
    # the whole pixels of the result that lie within the picture
    x1, x2 = _within(-left * scale_x, (columns - left) * scale_x, width)
    y1, y2 = _within(-top * scale_y, (rows - top) * scale_y, height)
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = fill
    if x2 > x1 and y2 > y1:
        box = (
            max(left + x1 / scale_x, 0.0),
            max(top + y1 / scale_y, 0.0),
            min(left + x2 / scale_x, float(columns)),
            min(top + y2 / scale_y, float(rows)),
        )
        inner = np.asarray(Image.fromarray(scene.rgb).resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR, box=box))
        rgb[y1:y2, x1:x2] = inner if recolour is None else recolour(inner)

    boxes_N4 = (scene.boxes_xyxy - np.array([left, top, left, top])) * np.array([scale_x, scale_y, scale_x, scale_y])
    boxes_N4 = np.clip(boxes_N4, 0, [width, height, width, height])
    # in float32 too, as networks are trained with
    sound_N = (boxes_N4.astype(np.float32)[:, 2:] > boxes_N4.astype(np.float32)[:, :2]).all(axis=1)
    kept_N = _centred(np.array([window]), scene.boxes_xyxy)[0] & sound_N
    return Scene(rgb, boxes_N4[kept_N], scene.labels[kept_N], scene.ignored[kept_N])


def flip(scene: Scene) -> Scene:
    """The scene mirrored: left is right."""
    x1_N, y1_N, x2_N, y2_N = scene.boxes_xyxy.T
    width = scene.rgb.shape[1]
    boxes_N4 = np.stack([width - x2_N, y1_N, width - x1_N, y2_N], axis=1)
    return Scene(np.ascontiguousarray(scene.rgb[:, ::-1]), boxes_N4, scene.labels, scene.ignored)


def upside_down(scene: Scene) -> Scene:
    """The scene mirrored: up is down."""
    x1_N, y1_N, x2_N, y2_N = scene.boxes_xyxy.T
    height = scene.rgb.shape[0]
    boxes_N4 = np.stack([x1_N, height - y2_N, x2_N, height - y1_N], axis=1)
    return Scene(np.ascontiguousarray(scene.rgb[::-1]), boxes_N4, scene.labels, scene.ignored)


def photometric(rgb: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Other brightness (up to 32 of 255), contrast and saturation (0.5 to 1.5 times) and hue (up to 18 degrees), each
    with probability 1/2; contrast comes before or after the colours, by chance."""
    brightness, contrast, saturation, hue, contrast_last = (rng.random(5) < 0.5).tolist()
    shift, factor, colour, turn = (
        rng.uniform(-32, 32),
        rng.uniform(0.5, 1.5),
        rng.uniform(0.5, 1.5),
        rng.uniform(-18, 18),
    )
    if not (brightness or contrast or saturation or hue):
        return rgb
    levels = np.arange(256, dtype=np.float64)
    if brightness:
        levels = np.clip(levels + shift, 0, 255)
    if contrast and not contrast_last:
        levels = np.clip(levels * factor, 0, 255)
    rgb = levels.round().astype(np.uint8)[rgb]
    if saturation or hue:
        hsv = np.array(Image.fromarray(rgb).convert("HSV"))
        if saturation:
            hsv[..., 1] = np.clip(hsv[..., 1] * colour, 0, 255).round()
        if hue:
            hsv[..., 0] += np.uint8(round(turn * 256 / 360) % 256)  # wraps around, as hues do
        rgb = np.array(Image.frombytes("HSV", (hsv.shape[1], hsv.shape[0]), hsv.tobytes()).convert("RGB"))
    if contrast and contrast_last:
        rgb = np.clip(np.arange(256) * factor, 0, 255).round().astype(np.uint8)[rgb]
    return rgb


def _within(first: float, last: float, length: int) -> tuple[int, int]:
    return max(math.ceil(first - 1e-6), 0), min(math.floor(last + 1e-6), length)


def _centred(windows_T4: npt.NDArray[np.floating], boxes_N4: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """[T, N]: which boxes have their centre in which window."""
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    inside_TN2 = (centres_N2 > windows_T4[:, None, :2]) & (centres_N2 < windows_T4[:, None, 2:])
    return inside_TN2[..., 0] & inside_TN2[..., 1]
