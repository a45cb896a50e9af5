"""Boxes in NumPy: their formats, how much they overlap, anchors, box coding, non-maximum suppression.

A format is in the name: `boxes_xyxy` are left, top, right, bottom; `boxes_cxcywh` centre and size; `boxes_xywh` left,
top and size. x runs right, y down. Coordinates are pixels, measured at pixel edges, or with `_norm` shares of the
picture's width and height. Shapes: A anchors, L classes, N boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mobilenetv2.spec import Spec, ssdlite

Array = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

MOST_LOG = 20.0  # exp(20) = 5e8 anchors' widths is past any picture, and far from float32's end
_CHUNK = 4096  # candidates that are sorted at a time: a picture's best 100 are nearly always among the first
_AT_ONCE = 256  # boxes whose overlaps with each other are computed in one go: 0.5 MB


def cxcywh_from_xyxy(boxes_xyxy: Array) -> Array:
    """[..., 4] in the same units."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def xyxy_from_cxcywh(boxes_cxcywh: Array) -> Array:
    """[..., 4] in the same units."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def xywh_from_xyxy(boxes_xyxy: Array) -> Array:
    """[..., 4] in the same units; COCO's files have this format."""
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def xyxy_from_xywh(boxes_xywh: Array) -> Array:
    """[..., 4] in the same units."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def area(boxes_xyxy: Array) -> Array:
    """[...]; 0 where a box ends before it begins."""
    return np.prod(np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0), axis=-1)


def iou(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Intersection over union of each box of `a` [N, 4] with each of `b` [M, 4]: [N, M], 0..1; 0 for empty boxes."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@lru_cache(maxsize=16)
def anchors(network: Spec, size: tuple[int, int]) -> Float32Array:
    """The detector's anchors for an input of `size` (height, width): [A, 4] cxcywh_norm, read-only.

    In the order of the raw outputs: map, row, column, anchor of the cell. Centres are at (i + 0.5) / cells, or where
    the head has steps of its own at (i + 0.5) steps, at most 1.
    """
    height, width = size
    head = ssdlite.head_of(network)
    to_norm = np.array([min(size) / width, min(size) / height])
    maps: list[Array] = []
    for k, ((rows, columns), shapes) in enumerate(zip(ssdlite.grids(network, size), head.anchors, strict=True)):
        step = np.array([1 / columns, 1 / rows]) if head.steps is None else head.steps[k] * to_norm
        found = np.empty((rows, columns, len(shapes), 4))
        found[..., 0] = np.minimum((np.arange(columns) + 0.5) * step[0], 1)[None, :, None]
        found[..., 1] = np.minimum((np.arange(rows) + 0.5) * step[1], 1)[:, None, None]
        found[..., 2:] = np.array(shapes) * to_norm
        maps.append(found.reshape(-1, 4))
    result = np.concatenate(maps).astype(np.float32)
    result.flags.writeable = False
    return result


def encode(boxes_cxcywh: Array, anchors_cxcywh: Array, coder: tuple[float, float, float, float]) -> Float32Array:
    """What a detector should say for each box beside its anchor: deltas [..., 4] (dx, dy, dw, dh).

    dx = coder[0] (cx - anchor cx) / anchor w, dw = coder[2] ln(w / anchor w), and so for y and h. Widths and heights
    must be above 0.
    """
    shift = (boxes_cxcywh[..., :2] - anchors_cxcywh[..., :2]) / anchors_cxcywh[..., 2:]
    grow = np.log(boxes_cxcywh[..., 2:] / anchors_cxcywh[..., 2:])
    return np.asarray(np.concatenate([shift, grow], axis=-1) * coder, np.float32)


def decode(deltas: Array, anchors_cxcywh: Array, coder: tuple[float, float, float, float]) -> Float32Array:
    """The boxes [..., 4] cxcywh that `deltas` (dx, dy, dw, dh) mean: `encode` undone.

    A box is at most exp(20) times as wide or high as its anchor, so that nothing overflows.
    """
    scaled = deltas / np.asarray(coder, np.float32)
    centre = anchors_cxcywh[..., :2] + scaled[..., :2] * anchors_cxcywh[..., 2:]
    extent = anchors_cxcywh[..., 2:] * np.exp(np.minimum(scaled[..., 2:], MOST_LOG))
    return np.asarray(np.concatenate([centre, extent], axis=-1), np.float32)


def clip(boxes_xyxy: Array, width: float, height: float) -> Array:
    """The part of each box [..., 4] that lies in a picture of this size; nothing is left of a box outside it."""
    return np.clip(boxes_xyxy, 0, (width, height, width, height))


def nms(
    boxes_xyxy: Array, scores_AL: Array, *, iou_threshold: float, score_threshold: float, most_per_class: int, most: int
) -> tuple[IntArray, IntArray]:
    """Non-maximum suppression of boxes [A, 4] that have a score for each of L classes, every class by itself.

    Best first: a box is kept for a class unless it overlaps one that was kept for this class by more than
    `iou_threshold`. Scores below `score_threshold` do not count. Ends with `most` boxes, of which at most
    `most_per_class` are of one class; one box may be kept for several classes. Returns the kept boxes' places in
    `boxes_xyxy` and their classes, [N] each, best first; of equal scores the earlier box comes first, then the lower
    class.
    """
    classes = scores_AL.shape[1]
    alive = np.flatnonzero((scores_AL >= score_threshold).any(axis=1))  # few of them: overlaps cost the most
    boxes_xyxy, scores_AL = boxes_xyxy[alive], scores_AL[alive]
    areas = area(boxes_xyxy)
    overlaps_AA = iou(boxes_xyxy, boxes_xyxy) if len(alive) <= _AT_ONCE else None
    suppressed_LA = np.zeros((classes, len(boxes_xyxy)), bool)
    counts = [0] * classes
    kept: list[tuple[int, int]] = []
    for candidate in _best_first(scores_AL.ravel(), score_threshold):
        if len(kept) == most:
            break
        box, of_class = divmod(candidate, classes)
        if counts[of_class] == most_per_class or suppressed_LA[of_class, box]:
            continue
        kept.append((box, of_class))
        counts[of_class] += 1
        overlap_A = _overlap(boxes_xyxy, areas, box) if overlaps_AA is None else overlaps_AA[box]
        suppressed_LA[of_class] |= overlap_A > iou_threshold
    found = np.array(kept, np.intp).reshape(-1, 2)
    return alive[found[:, 0]], found[:, 1]


def _best_first(scores: Array, least: float) -> Iterator[int]:
    """Places of scores from `least` up, falling; equal ones in order. Sorted only as far as they are asked for."""
    places = np.flatnonzero(scores >= least)
    while len(places):
        values = scores[places]
        cut = np.partition(values, -_CHUNK)[-_CHUNK] if len(places) > _CHUNK else values.min()
        now = values >= cut  # with all that equal the cut
        chunk = places[now]
        yield from chunk[np.argsort(-scores[chunk], kind="stable")].tolist()
        places = places[~now]


def _overlap(boxes_xyxy: Array, areas: Array, box: int) -> Array:
    """IoU [A] of one of the boxes with each."""
    left, top, right, bottom = boxes_xyxy[box]
    width = np.minimum(boxes_xyxy[:, 2], right) - np.maximum(boxes_xyxy[:, 0], left)
    height = np.minimum(boxes_xyxy[:, 3], bottom) - np.maximum(boxes_xyxy[:, 1], top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = areas + areas[box] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
