"""What is measured: networks, as model files that every runtime's converter starts from.

Their weights and pictures are random; the segmentation network's may be given (`use`), because only real classes lie
in areas.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import image as photos
from mobilenetv2.benchmark import masks
from mobilenetv2.benchmark.measure import prepare
from mobilenetv2.benchmark.worker import pixels_of
from mobilenetv2.model_file import ModelFile, network_input, read

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "bench" / ".work"

# name: size in pixels, and fields of the backbone; with the head's fields and its task another than a classifier.
POINTS: dict[str, tuple[int, dict[str, Any]]] = {
    "0.35 @ 96": (96, {"width_mult": 0.35}),
    "1.0 @ 224": (224, {}),
    "1.4 @ 224": (224, {"width_mult": 1.4}),
    "1.0 @ 320": (320, {}),
    "SSDLite, 1.0 @ 320": (320, {"width_mult": 1.0, "head": {"classes": 90}}),
    "DeepLabv3 1.0 @ 513 OS16": (
        513,
        {"width_mult": 1.0, "padding": "same", "bn_eps": 1e-3, "head": {"classes": 20, "channels": 256}},
    ),  # as TensorFlow has it
    "1.0 @ 513, output stride 16": (513, {"output_stride": 16}),
}

TYPICAL = ("1.0 @ 224", "SSDLite, 1.0 @ 320", "DeepLabv3 1.0 @ 513 OS16")  # of their tasks: measured more closely
TASKS = {"SSDLite": "detection", "DeepLabv3": "segmentation"}  # by the first word of a point

_given: dict[str, tuple[Path, Path]] = {}  # point: model file and photo


def use(model: Path, photo: Path) -> None:
    """Measure the segmentation point with this model file, which must be of its shape, and this photo."""
    _given.update({point: (model, photo) for point in POINTS if task_of(point) == "segmentation"})


def task_of(point: str) -> str:
    return TASKS.get(re.split(r"\W", point)[0], "classification")


def stem(point: str) -> Path:
    """Where a point's files lie, without their suffix."""
    name = re.sub(r"\W+", "_", point)
    given = b"".join(file.read_bytes() for file in _given.get(point, ()))
    return WORK / (f"{name}_{hashlib.sha256(given).hexdigest()[:8]}" if given else name)


def image(point: str) -> np.ndarray[Any, Any]:
    """float32 [1, H, W, 3], as a normalised picture has it."""
    size = POINTS[point][0]
    return pixels_of(stem(point), (size, size), channels=3, batch=1)


def write_models() -> None:
    """The model file of every point, and the reference's outputs for its image in float64."""
    WORK.mkdir(exist_ok=True)
    for point, (size, _) in POINTS.items():
        if not stem(point).with_suffix(".npz").exists():
            model, pixels = _model_and_picture(point)
            prepare(model, stem(point), (size, size), pixels)
        elif task_of(point) == "segmentation":  # the engine's code may have changed
            with np.load(stem(point).with_suffix(".npz")) as expected:
                width = expected["logits_map"].shape[2]
            masks.write(read(stem(point).with_suffix(".safetensors")).info, stem(point), width)


def _model_and_picture(point: str) -> tuple[ModelFile, np.ndarray[Any, Any] | None]:
    size, fields = POINTS[point]
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest

    made = {
        "classification": conftest.make_random_model,
        "detection": conftest.make_random_detector,
        "segmentation": conftest.make_random_segmenter,
    }[task_of(point)](size=size, **fields)
    if point not in _given:
        return made, None
    file, photo = _given[point]
    model = read(file)
    if model.info.spec != made.info.spec:
        raise SystemExit(f"{file}: not the network of {point}: {model.info.spec}")
    pixels, _ = photos.load(photo, model.info.preprocessing)
    return model, network_input(pixels[np.newaxis], model.info).astype(np.float32)
