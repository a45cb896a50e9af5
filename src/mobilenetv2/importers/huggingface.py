"""What lies beside Hugging Face's weights: `config.json` and `preprocessor_config.json`, and where in a folder all are.

transformers 5.23: models/mobilenet_v2/configuration_mobilenet_v2.py and image_processing_mobilenet_v2.py. A field that
a file leaves out has the default that it has there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import files
from mobilenetv2.errors import FileError, WeightsError
from mobilenetv2.importers.complete import BACKGROUND_NAMES
from mobilenetv2.preprocessing import Preprocessing
from mobilenetv2.spec import Activation, Background, Padding

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ACTIVATIONS: Mapping[str, Activation] = {"relu6": "relu6", "relu": "relu"}
_STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Config:
    """How the network is to be run. None and () where the files, or the one that would say it, are not there."""

    padding: Padding = "same"
    bn_eps: float = 1e-3
    activation: Activation = "relu6"
    output_stride: int | None = None
    outputs: tuple[str, ...] = ()  # the outputs' names, the background's among them
    size: tuple[int, int] | None = None  # height, width
    resize_to: int | None = None  # the shortest side before the centre is cropped out
    mean: tuple[float, ...] | None = None  # in units of 0..255
    std: tuple[float, ...] | None = None


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder of weights as Hugging Face's hub and `save_pretrained` lay them out."""
    return path.is_dir() and any((path / name).is_file() for name in WEIGHTS)


def weights_in(folder: Path) -> Path:
    """The file of weights in `folder`, safetensors first. Raises `FileError` where there is none."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise FileError(f"{folder} is a folder without {' or '.join(WEIGHTS)}: give a file, or such a folder")
    return found


def config_beside(weights: Path) -> Config:
    """What the two files beside `weights` say.

    Raises `FileError`, and `WeightsError` for JSON that is damaged, another model's, or says what no network here can.
    """
    found = Config()
    if (path := weights.with_name(CONFIG)).is_file():
        found = _network(path, _read(path))
    if (path := weights.with_name(PROCESSOR)).is_file():
        found = _pictures(path, _read(path), found)
    return found


def prepared(preprocessing: Preprocessing, config: Config) -> Preprocessing:
    """`preprocessing` with what `config` says of pixels, and of the size where both crop the centre out."""
    changed = preprocessing
    if config.mean and config.std and len(config.mean) == len(config.std) == len(changed.mean):
        changed = dataclasses.replace(changed, mean=config.mean, std=config.std)
    if config.resize_to and config.size == changed.size and changed.resize == "short":
        changed = dataclasses.replace(changed, resize_to=config.resize_to)
    return changed if changed == preprocessing else dataclasses.replace(changed, recipe="custom")


def classes(weights: Path, config: Config, outputs: int) -> tuple[tuple[str, ...], Background | None]:
    """The names of the real ones of `outputs`, () where none are given; and which is the background, None where they
    do not say it.

    Raises `WeightsError` where the configuration has another count of outputs than the weights.
    """
    names = config.outputs
    if names and len(names) != outputs:
        raise WeightsError(f"{weights} has {outputs} outputs, but {CONFIG} beside it names {len(names)} classes")
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):  # transformers' own, where nobody gave any
        return (), None
    if names[0].lower() in BACKGROUND_NAMES:
        return names[1:], "first"
    if names[-1].lower() in BACKGROUND_NAMES:
        return names[:-1], "last"
    return names, "none"


def _network(path: Path, fields: Mapping[str, Any]) -> Config:
    kind = fields.get("model_type")
    if kind != "mobilenet_v2":
        raise WeightsError(f"{path} has model_type {kind!r}, expected 'mobilenet_v2': it is another model's")
    if fields.get("first_layer_is_expansion", True) is not True:
        raise WeightsError(f"{path} has first_layer_is_expansion false: no network here expands in its first block")
    activation = str(fields.get("hidden_act", "relu6"))
    if activation not in _ACTIVATIONS:
        raise WeightsError(f"{path} has hidden_act {activation!r}: known are {' and '.join(_ACTIVATIONS)}")
    stride = fields.get("output_stride", 32)
    if stride not in _STRIDES:
        raise WeightsError(f"{path} has output_stride {stride!r}: known are 8, 16 and 32")
    eps = fields.get("layer_norm_eps", 1e-3)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise WeightsError(f"{path} has layer_norm_eps {eps!r}, expected a number between 0 and 1")
    return Config(
        padding="same" if fields.get("tf_padding", True) else "symmetric",
        bn_eps=eps,
        activation=_ACTIVATIONS[activation],
        output_stride=int(stride),
        outputs=_names(path, fields.get("id2label") or {}),
        size=_sides(path, "image_size", fields.get("image_size", 224)),
    )


def _names(path: Path, numbered: object) -> tuple[str, ...]:
    """The outputs' names by their numbers."""
    if not isinstance(numbered, dict) or set(numbered) != {str(i) for i in range(len(numbered))}:
        raise WeightsError(f"{path}: id2label must name the outputs 0, 1, 2 ..., got {numbered!r:.80}")
    return tuple(str(numbered[str(i)]) for i in range(len(numbered)))


def _pictures(path: Path, fields: Mapping[str, Any], config: Config) -> Config:
    crop = fields.get("do_center_crop", True)
    resize = fields.get("size", {"shortest_edge": 256})
    shortest = resize.get("shortest_edge") if isinstance(resize, dict) else resize
    size = config.size
    if crop:
        size = _sides(path, "crop_size", fields.get("crop_size", 224))
    elif isinstance(resize, dict) and "height" in resize:
        size = _sides(path, "size", resize)
    factor = fields.get("rescale_factor", 1 / 255) if fields.get("do_rescale", True) else 1.0
    middle, spread = fields.get("image_mean", [0.5] * 3), fields.get("image_std", [0.5] * 3)
    if not fields.get("do_normalize", True):
        middle, spread = [0.0] * 3, [1.0] * 3
    try:
        mean, std = (tuple(round(float(value) / factor, 6) for value in values) for values in (middle, spread))
    except (TypeError, ValueError, ZeroDivisionError):
        mean, std = (), ()
    if not std or not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std):
        raise WeightsError(f"{path}: image_mean, image_std and rescale_factor must be numbers, the last two above 0")
    return dataclasses.replace(
        config, size=size, resize_to=shortest if crop and isinstance(shortest, int) else None, mean=mean, std=std
    )


def _sides(path: Path, field: str, value: object) -> tuple[int, int]:
    """Height and width out of one side, of both, or of {"height": ..., "width": ...}."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    match [value, value] if isinstance(value, int) else value:
        case [int(height), int(width)] if min(height, width) >= 1:
            return height, width
        case _:
            raise WeightsError(f"{path} has {field} {value!r:.80}, expected sides in pixels")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(files.read_bytes(path))
    except (ValueError, RecursionError):
        raise WeightsError(f"{path} is not JSON: it is damaged") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no JSON object, but {found!r:.40}")
    return found
