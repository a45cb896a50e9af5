"""Ways to ask a segmentation network more than once about a photo (paper, Table 7): scales, mirrored, windows.

Shapes: B batch, H W photo or input, h w map of logits, L outputs. `run` is a backend's `run`, or something like it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mobilenetv2 import upsample
from mobilenetv2.engine import reference
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelInfo, network_input
from mobilenetv2.preprocessing import Preprocessing
from mobilenetv2.resample import prepare
from mobilenetv2.results.scores import not_finite
from mobilenetv2.spec import deeplab

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
    """Raises `UsageError` for the first strategy that is `chosen` where the model is none for segmentation."""
    for name, value in chosen.items():
        if value and info.task != "segmentation":
            raise UsageError(f"{name} is for segmentation; this is a model for {info.task}")


def multi_scale(
    backend: Backend, images_BHWC: npt.NDArray[Any], *, scales: tuple[float, ...] = SCALES, mirrored: bool = True
) -> Raw:
    """{"logits_map": [B, H, W, L]} of the input's own size: the logarithms of averaged scores.

    The input is resized by each of `scales`, corner pixels staying corners, and with `mirrored` the network also sees
    each of them with left and right exchanged. Each map of logits is turned back, resized to the input and made scores
    by softmax; all count the same. `images_BHWC` are what `backend.run` takes.
    """
    head = deeplab.head_of(backend.info.spec)
    inputs_BHWC = network_input(images_BHWC, backend.info)
    size = inputs_BHWC.shape[1], inputs_BHWC.shape[2]
    total_BHWL = np.zeros((len(inputs_BHWC), *size, head.outputs), np.float32)
    for scale in scales:
        scaled = scaled_size(size, scale)
        one = backend.resized(scaled) if isinstance(backend, OfOneSize) else backend
        resized_BHWC = np.asarray(reference.resize(inputs_BHWC, scaled, align_corners=True), np.float32)
        for step in (1, -1) if mirrored else (1,):
            logits_BhwL = one.run(np.ascontiguousarray(resized_BHWC[:, :, ::step]))["logits_map"][:, :, ::step]
            for image_HWL, logits_hwL in zip(total_BHWL, logits_BhwL, strict=True):
                image_HWL += scores(logits_hwL, size, align_corners=head.align_corners)
    total_BHWL /= len(scales) * (1 + mirrored)
    least = np.finfo(np.float32).tiny  # where no scale thinks it possible
    return {"logits_map": np.log(np.maximum(total_BHWL, least, out=total_BHWL), out=total_BHWL)}


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(side - 1) * scale + 1, cut to an integer: of 513, 257 and 897 at half and 1.75, a multiple of the stride and 1
    as 513 is."""
    height, width = (int((side - 1) * scale + 1) for side in size)
    return height, width


def slide(run: Run, photo_HWC: npt.NDArray[np.uint8], info: ModelInfo) -> npt.NDArray[np.uint8]:
    """The class of each pixel, uint8 [H, W], of a photo of any size that is not resized: windows of the network's input
    size slide over it, and the scores of those that see a pixel are averaged.

    Windows overlap by a third of their side or more and end at the photo's edges; a side that is shorter than a window
    is continued with the mean colour. `run` answers for one window at a time. Beside the windows' own memory, float32
    values for one row of windows are kept: window height x photo width x outputs.
    """
    upsample.check_classes(deeplab.head_of(info.spec).outputs)
    aligned = deeplab.head_of(info.spec).align_corners
    height, width = photo_HWC.shape[:2]
    window = info.preprocessing.size
    unresized = as_it_is(info.preprocessing)
    tops, lefts = window_starts(height, window[0]), window_starts(width, window[1])
    sums_hWL = np.zeros((min(window[0], height), width, deeplab.head_of(info.spec).outputs), np.float32)
    mask_HW = np.empty((height, width), np.uint8)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            seen_HWC = photo_HWC[top : top + window[0], left : left + window[1]]
            prepared, _ = prepare(seen_HWC, unresized)
            found_HWL = scores(run(prepared[np.newaxis])["logits_map"][0], window, align_corners=aligned)
            rows, columns = seen_HWC.shape[:2]
            sums_hWL[:rows, left : left + columns] += found_HWL[:rows, :columns]
        done = following - top  # rows that no later window sees
        for row in range(done):
            mask_HW[top + row] = sums_hWL[row].argmax(-1)
        for row in range(len(sums_hWL)):
            sums_hWL[row] = sums_hWL[row + done] if row + done < len(sums_hWL) else 0
    return mask_HW


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


def scores(
    logits_hwL: npt.NDArray[np.float32], size: tuple[int, int], *, align_corners: bool
) -> npt.NDArray[np.float32]:
    """Softmax [H, W, L] of a map of logits that is resized to `size`. Raises `Error` where it is not finite."""
    if not np.isfinite(logits_hwL).all():
        raise not_finite()
    logits_1hwL = logits_hwL[np.newaxis]
    if logits_hwL.shape[:2] != size:
        logits_1hwL = reference.resize(logits_1hwL, size, align_corners=align_corners)
    found_HWL = np.asarray(logits_1hwL[0] - logits_1hwL[0].max(-1, keepdims=True), np.float32)
    np.exp(found_HWL, out=found_HWL)
    found_HWL /= found_HWL.sum(-1, keepdims=True)
    return found_HWL
