"""Answers as people and programs read them: raw outputs decoded; text, JSON, and drawn on the photo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError, unknown_name
from mobilenetv2.image import Geometry
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.results.classification import (
    BACKGROUND_INDEX,
    BACKGROUND_LABEL,
    Classification,
    Prediction,
    decode_classification,
)
from mobilenetv2.results.detection import Detection, Detections, coco_categories, coco_image_id, decode_detections
from mobilenetv2.results.segmentation import Area, Segmentation, class_names, decode_segmentation, write_mask

Result = Classification | Detections | Segmentation

_DECODERS: Mapping[str, Callable[..., Result]] = {
    "classification": decode_classification,
    "detection": decode_detections,
    "segmentation": decode_segmentation,
}

# What people may say of the answers, by task: the keywords of its decoder, save those that are the backend's.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "classification": ("top", "with_background"),
    "detection": ("score", "iou", "most"),
    "segmentation": (),
}


def check_options(task: str, options: Iterable[str]) -> None:
    """Raises `UsageError` for the first of `options` that is none of the task's: it is another's, or the nearest is
    named."""
    known = OPTIONS[task]
    for name in options:
        if name in known:
            continue
        if other := next((other for other, names in OPTIONS.items() if name in names), None):
            raise UsageError(f"{name} is for {other}; this is a model for {task}")
        raise unknown_name("option", name, (*known, *(("multi_scale", "slide") if task == "segmentation" else ())))


def decode(raw: Mapping[str, npt.NDArray[np.float32]], info: ModelInfo, geometry: Geometry, **options: Any) -> Result:
    """The answer of a model of any task; `options` are those of the task's own decoder, which also raises."""
    return _DECODERS[info.task](raw, info, geometry, **options)


__all__ = [
    "BACKGROUND_INDEX",
    "BACKGROUND_LABEL",
    "Area",
    "Classification",
    "Detection",
    "Detections",
    "Prediction",
    "Result",
    "Segmentation",
    "check_options",
    "class_names",
    "coco_categories",
    "coco_image_id",
    "decode",
    "decode_classification",
    "decode_detections",
    "decode_segmentation",
    "write_mask",
]
