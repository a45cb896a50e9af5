"""What is measured: networks with random weights, as model files that every runtime's converter starts from."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2.benchmark.measure import prepare
from mobilenetv2.benchmark.worker import picture

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "bench" / ".work"

# name: size in pixels, and fields of the backbone; with the head's fields it is a detector.
POINTS: dict[str, tuple[int, dict[str, Any]]] = {
    "0.35 @ 96": (96, {"width_mult": 0.35}),
    "1.0 @ 224": (224, {}),
    "1.4 @ 224": (224, {"width_mult": 1.4}),
    "1.0 @ 320": (320, {}),
    "SSDLite, 1.0 @ 320": (320, {"width_mult": 1.0, "head": {"classes": 90}}),
    "1.0 @ 513, output stride 16": (513, {"output_stride": 16}),
}

TYPICAL = ("1.0 @ 224", "SSDLite, 1.0 @ 320")  # of their tasks: measured more closely


def task_of(point: str) -> str:
    return "detection" if "head" in POINTS[point][1] else "classification"


def stem(point: str) -> Path:
    """Where a point's files lie, without their suffix."""
    return WORK / re.sub(r"\W+", "_", point)


def image(point: str) -> np.ndarray[Any, Any]:
    """float32 [1, H, W, 3], as a normalised picture has it."""
    size = POINTS[point][0]
    return picture((size, size))


def write_models() -> None:
    """The model file of every point, and the reference's outputs for its image in float64."""
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import make_random_detector, make_random_model

    WORK.mkdir(exist_ok=True)
    for point, (size, fields) in POINTS.items():
        if not stem(point).with_suffix(".npz").exists():
            made = make_random_detector if "head" in fields else make_random_model
            prepare(made(size=size, **fields), stem(point), (size, size))
