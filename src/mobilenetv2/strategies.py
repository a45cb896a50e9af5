"""Ways to ask a segmentation network more than once about a photo (paper, Table 7): scales, mirrored, windows.

Shapes: B batch, H W photo or input, h w map of logits, L outputs. `run` is a backend's `run`, or something like it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks, looks, upsample
from mobilenetv2.errors import UsageError
from mobilenetv2.looks import BestOnAverage, Look
from mobilenetv2.model_file import ModelInfo, network_input
from mobilenetv2.preprocessing import Preprocessing
from mobilenetv2.resample import prepare
from mobilenetv2.results.segmentation import look_at

if TYPE_CHECKING:
    from mobilenetv2.predictor import Backend

Raw = dict[str, npt.NDArray[np.float32]]
Run = Callable[[Any], Raw]

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
OVERLAP = 1 / 3  # of a window's side, at least, that the next one has too


@runtime_checkable
class OfOneSize(Protocol):
    """A backend that is made for one input size; `resized` gives the same network's for another one."""

    def resized(self, size: tuple[int, int]) -> Backend: ...


def check_task(info: ModelInfo, **chosen: bool) -> None:
    """Raises `UsageError` for the first strategy that is `chosen` where the model is none for segmentation, and for a
    value that is neither True nor False."""
    for name, value in chosen.items():
        if checks.choice(name, value, (True, False)) and info.task != "segmentation":
            raise UsageError(f"{name} is for segmentation; this is a model for {info.task}")


def multi_scale(
    backend: Backend, images_BHWC: npt.NDArray[Any], *, scales: tuple[float, ...] = SCALES, mirrored: bool = True
) -> Raw:
    """A map of logits [B, h, w, L] for each look at the input, by names that say which it is.

    The input is resized by each of `scales`, corner pixels staying corners, and with `mirrored` the network also sees
    each of them with left and right exchanged; those maps are turned back. All count the same: `decode_segmentation`
    averages the scores. `images_BHWC` are what `backend.run` takes. Raises `UsageError` for no scale or one twice.
    """
    if not scales or len(set(scales)) < len(scales):
        raise UsageError(f"scales must be different numbers, at least one, got {scales}")
    inputs_BHWC = network_input(images_BHWC, backend.info)
    size = inputs_BHWC.shape[1], inputs_BHWC.shape[2]
    maps: Raw = {}
    for scale in scales:
        scaled = scaled_size(size, scale)
        one = backend.resized(scaled) if isinstance(backend, OfOneSize) else backend
        resized_BHWC = resized(inputs_BHWC, scaled)
        maps[f"logits_map x {scale}"] = one.run(resized_BHWC)["logits_map"]
        if mirrored:
            turned = one.run(np.ascontiguousarray(resized_BHWC[:, :, ::-1]))["logits_map"][:, :, ::-1]
            maps[f"logits_map x {scale} mirrored"] = turned
    return maps


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(side - 1) * scale + 1, cut to an integer: of 513, 257 and 897 at half and 1.75, a multiple of the stride and 1
    as 513 is."""
    height, width = (int((side - 1) * scale + 1) for side in size)
    return height, width


def resized(images_BHWC: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """`reference.resize` with corner pixels that stay corners, in half the time: a row's values lie side by side."""
    batch, height, width, channels = images_BHWC.shape
    if (height, width) == size:
        return np.asarray(images_BHWC, np.float32)
    rows, columns = (upsample.resized(a, b, align_corners=True) for a, b in zip((height, width), size, strict=True))
    lines = images_BHWC.reshape(batch, height, -1)
    mixed = _between(lines, rows.low, rows.next, rows.part[:, np.newaxis], axis=1)
    low, following = (
        (at[:, np.newaxis] * channels + np.arange(channels)).ravel() for at in (columns.low, columns.next)
    )
    mixed = _between(mixed, low, following, np.repeat(columns.part, channels), axis=2)
    return np.asarray(mixed, np.float32).reshape(batch, *size, channels)


def slide(
    run: Run,
    photo_HWC: npt.NDArray[np.uint8],
    info: ModelInfo,
    *,
    best_on_average: BestOnAverage = looks.best_on_average,
) -> npt.NDArray[np.uint8]:
    """The class of each pixel, uint8 [H, W], of a photo of any size that is not resized: windows of the network's input
    size slide over it, and the scores of those that see a pixel are averaged.

    Windows overlap by a third of their side or more and end at the photo's edges; a side that is shorter than a window
    is continued with the mean colour. `run` answers for one window at a time. Of what it answers, only the small maps
    of those rows of windows are kept that see the same rows of the photo. `best_on_average` is `looks`'s or one that
    gives the same, such as the engine's. Raises `Error` where a map is not finite.
    """
    height, width = photo_HWC.shape[:2]
    window = info.preprocessing.size
    tops, lefts = window_starts(height, window[0]), window_starts(width, window[1])
    mask_HW = np.empty((height, width), np.uint8)
    seen: list[Look] = []
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            seen += _window(run, photo_HWC[top : top + window[0], left : left + window[1]], info, top, left)
        # rows that no later window sees
        parts = [look.within(top, following) for look in seen]
        mask_HW[top:following] = best_on_average(parts, (following - top, width))
        seen = [look for look in seen if look.bottom > following]
    return mask_HW


def _window(run: Run, photo_HWC: npt.NDArray[np.uint8], info: ModelInfo, top: int, left: int) -> Iterator[Look]:
    """What the network says of one window, which is this part of a photo."""
    prepared, geometry = prepare(photo_HWC, as_it_is(info.preprocessing))
    for map_1hwL in run(prepared[np.newaxis]).values():
        yield replace(look_at(map_1hwL, info, geometry), top=top, left=left)


def window_starts(length: int, window: int) -> list[int]:
    """Where the windows along a side begin: evenly spread, the first at 0, the last one's end at the side's."""
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / max(int(window * (1 - OVERLAP)), 1))
    return [round(i * (length - window) / steps) for i in range(steps + 1)]


def as_it_is(preprocessing: Preprocessing) -> Preprocessing:
    """`preprocessing` for a part of a photo that is not resized, with the mean where it is smaller than the input."""
    return replace(
        preprocessing, resize="fit", resize_to=None, central_fraction=1.0, interpolation="pil-bilinear", recipe="custom"
    )


def _between(
    values: npt.NDArray[np.floating],
    low: npt.NDArray[np.intp],
    following: npt.NDArray[np.intp],
    part: npt.NDArray[np.float32],
    *,
    axis: int,
) -> npt.NDArray[np.floating]:
    first, step = (values.take(at, axis) for at in (low, following))
    step -= first
    step *= part
    first += step
    return first
