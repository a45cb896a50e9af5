"""From an ncnn pair of files to a model: an SSDLite as Caffe's SSD writes it, in float32, float16 or int8.

Quantised weights become the real numbers that they stand for. Batch norm is folded in such files and is stored as the
identity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mobilenetv2 import image, spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import detector
from mobilenetv2.importers.ncnn import param, walk, weights
from mobilenetv2.importers.ncnn.param import Operation, Pair
from mobilenetv2.importers.ncnn.walk import Found
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec.ssdlite import Anchors

_OPEN = -233  # ncnn's word for "as the data has it"
_NOTES = (
    "the file does not say how pixels are prepared: taken as Caffe's, BGR and (pixel - 127.5) / 127.5, and the first "
    "convolution's input channels were turned to RGB",
)


@np.errstate(over="ignore", invalid="ignore")  # damaged numbers are found by what they become
def read(files: Pair, *, size: int | None = None) -> ModelFile:
    """The detector in a `.param` and its `.bin`. Its scores are those before Sigmoid or Softmax.

    Anchors are the PriorBox layers', the box coder their variances' inverses, background comes first, thresholds and
    limits are the DetectionOutput's. The input size is the graph's (`size` replaces it); photos are stretched to it.

    Raises `FileError`, and `WeightsError` for a damaged file, for a network that is not an SSDLite of MobileNetV2, and
    for a layer or bytes that would be left out.
    """
    graph = param.read(files.param)
    try:
        walk.check_kinds(graph)
        stored = weights.read(files.bin, graph)
        found = walk.find_detector(graph, stored)
        network, tensors = detector.build(found.detector, **_head(found))
    except WeightsError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(str(files.bin)) else f"{files.param}: {text}") from None
    stem = f"{spec.stem(network.backbone).name}.weight"
    tensors[stem] = np.ascontiguousarray(tensors[stem][:, ::-1])  # BGR to RGB
    storage = ", ".join(sorted({w.storage for w in stored.values()}))
    notes = [*_NOTES, *([] if storage == "float32" else [f"weights stored as {storage} were turned into float32"])]
    info = ModelInfo(
        spec=network,
        preprocessing=image.recipe("ssd", size or found.size),
        batch_norm="folded",
        provenance={"source": "ncnn", "weights": storage, "notes": notes},
    )
    return ModelFile(info, tensors)


def _head(found: Found) -> dict[str, Any]:
    """The fields of the head that convolutions do not show."""
    output = found.output
    classes = output.integer(0, 0)
    if classes != found.outputs:
        raise WeightsError(
            f"DetectionOutput {output.name!r} has {classes} classes, but there are {found.outputs} scores"
        )
    coders = {_coder(prior) for prior in found.priors}
    if len(coders) != 1:
        raise WeightsError("the PriorBox layers have different variances")
    return {
        "classes": classes - 1,
        "background": "first",
        "score": found.score,
        "anchors": tuple(_anchors(prior, found.size) for prior in found.priors),
        "steps": _steps(found),
        "coder": coders.pop(),
        "iou_threshold": output.params.get(1, 0.05),
        "most_per_class": output.integer(2, 300),  # ncnn counts them before it suppresses, which leaves no more
        "most": output.integer(3, 100),
        "score_threshold": output.params.get(4, 0.5),
    }


def _coder(prior: Operation) -> tuple[float, ...]:
    """The scales of dx, dy, dw, dh: one over the variances."""
    variances = [prior.params.get(id, default) for id, default in ((3, 0.1), (4, 0.1), (5, 0.2), (6, 0.2))]
    if min(variances) <= 0:
        raise WeightsError(f"PriorBox {prior.name!r} has a variance that is not above 0")
    return tuple(1 / variance for variance in variances)


def _anchors(prior: Operation, size: tuple[int, int]) -> Anchors:
    """The shapes of one map's anchors in units of the input's shorter side, in the order of ncnn's priorbox.cpp.

    For each least size its square, the square of the mean with the largest size, then each ratio and its inverse.
    """
    name = f"PriorBox {prior.name!r}"
    for axis, id in enumerate((10, 9)):
        if prior.integer(id, 0) not in (_OPEN, size[axis]):
            raise WeightsError(f"{name} is for pictures of {prior.integer(id, 0)} pixels, not {size[axis]}")
    if prior.params.get(13, 0.0) != 0.5 or prior.params.get(8, 0) or prior.params.get(14, 0) or prior.params.get(15, 0):
        raise WeightsError(f"{name} does not put its anchors into the middle of the cells, whole")
    least, largest, ratios = (prior.lists.get(id, ()) for id in (0, 1, 2))
    if not least or len(largest) not in (0, len(least)) or min(*least, *largest, *ratios, 1) <= 0:
        raise WeightsError(f"{name} has sizes {least} and {largest}, which make no anchors")
    shapes: list[tuple[float, float]] = []
    for k, small in enumerate(least):
        shapes.append((small, small))
        if largest:
            mean = math.sqrt(small * largest[k])
            shapes.append((mean, mean))
        for ratio in ratios:
            wide, high = small * math.sqrt(ratio), small / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)] if prior.params.get(7, 1) else [(wide, high)]
    return tuple((width / min(size), height / min(size)) for width, height in shapes)


def _steps(found: Found) -> tuple[float, ...] | None:
    """For each map the distance of its anchors' centres in units of the shorter side; None where it is a cell."""
    cells = [[n / count for n, count in zip(found.size, grid, strict=True)] for grid in found.grids]
    steps: list[list[float]] = []
    for prior, cell in zip(found.priors, cells, strict=True):
        given = (prior.params.get(12, _OPEN), prior.params.get(11, _OPEN))
        steps.append([side if step == _OPEN else step for step, side in zip(given, cell, strict=True)])
    if np.allclose(steps, cells, rtol=0, atol=1e-3):
        return None
    for prior, (along_rows, along_columns), grid in zip(found.priors, steps, found.grids, strict=True):
        beyond = any((count - 0.5) * along_rows > n for count, n in zip(grid, found.size, strict=True))
        if along_rows != along_columns or along_rows <= 0 or beyond:
            raise WeightsError(f"PriorBox {prior.name!r} has steps of {along_rows:g} x {along_columns:g} pixels")
    return tuple(along_rows / min(found.size) for along_rows, _ in steps)
