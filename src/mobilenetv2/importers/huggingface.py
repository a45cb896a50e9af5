"""What lies beside Hugging Face's weights: `config.json` and `preprocessor_config.json`, and where in a folder all are.

transformers 5.23: models/mobilenet_v2/configuration_mobilenet_v2.py and image_processing_mobilenet_v2.py. A field that
a file leaves out has the default that it has there.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import checks, json_text, limits
from mobilenetv2.errors import FileError, WeightsError
from mobilenetv2.importers.complete import BACKGROUND_NAMES
from mobilenetv2.preprocessing import Interpolation, Preprocessing, Resize
from mobilenetv2.spec import Activation, Background, Padding
from mobilenetv2.spec_fields import OUTPUT_STRIDES
from mobilenetv2.text import quoted

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ACTIVATIONS: Mapping[str, Activation] = {"relu6": "relu6", "relu": "relu"}
_INTERPOLATIONS: Mapping[int, Interpolation] = {2: "pil-bilinear", 3: "pil-bicubic"}  # Pillow's numbers
_OTHER_FILTERS = {0: "nearest", 1: "Lanczos", 4: "box", 5: "Hamming"}


@dataclass(frozen=True, slots=True)
class Config:
    """How the network is to be run. None and () where the files, or the one that would say it, are not there."""

    padding: Padding = "same"
    bn_eps: float = 1e-3
    activation: Activation = "relu6"
    output_stride: int | None = None
    outputs: tuple[str, ...] = ()  # the outputs' names, the background's among them
    size: tuple[int, int] | None = None  # height, width
    resize: Resize | None = None
    resize_to: int | None = None  # the shortest side before the centre is cropped out
    central_fraction: float = 1.0
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | float | None = None  # in units of 0..255; a number alone is every channel's
    std: tuple[float, ...] | float | None = None
    notes: tuple[str, ...] = ()  # what of the files is not followed; and where pictures are not fitted in as a whole:
    resizing_notes: tuple[str, ...] = ()


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder of weights as Hugging Face's hub lays them out; timm's and ours are, too."""
    return os.path.isdir(path) and any((path / name).is_file() for name in WEIGHTS)


def weights_in(folder: Path) -> Path:
    """The file of weights in `folder`, safetensors first. Raises `FileError` where there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    for name in WEIGHTS:
        if (folder / name).is_symlink():
            raise FileError(_dangling(folder / name))
        if (folder / f"{name}.index.json").is_file():
            raise FileError(
                f"{folder} has its weights in several files, which {name}.index.json lists: save them as one, in "
                "transformers with save_pretrained(FOLDER, max_shard_size='5GB')"
            )
    raise FileError(f"{folder} is a folder without {' or '.join(WEIGHTS)}: give a file, or such a folder")


def _dangling(link: Path) -> str:
    return f"{link} is a link to {os.readlink(link)}, which does not exist: fetch the files again"


def config_beside(weights: Path) -> Config:
    """What the two files beside `weights` say.

    Raises `FileError`, and `WeightsError` for JSON that is damaged, another model's, or says what no network here can.
    """
    found = Config()
    if os.path.lexists(path := weights.with_name(CONFIG)):
        found = _network(path, _read(path))
    if os.path.lexists(path := weights.with_name(PROCESSOR)):
        found = _pictures(path, _read(path), found)
    return found


def prepared(
    weights: Path, preprocessing: Preprocessing, config: Config, notes: list[str], *, channels: int
) -> Preprocessing:  # fmt: skip
    """`preprocessing` with what `config` says of pixels, for a network of `channels` input channels.

    What is done in another way is put into `notes`. Where it does not fit a picture in as a whole ("fit"), it is
    resized as `config` says; to the shortest side that this has only where the input has its size, too. Raises
    `WeightsError` for another count of means than channels.
    """
    changes: dict[str, Any] = {}
    for key, values in (("mean", config.mean), ("std", config.std)):
        if values is None:
            continue
        changes[key] = values if isinstance(values, tuple) else (values,) * channels
        if len(changes[key]) != channels:
            raise WeightsError(
                f"{weights.with_name(PROCESSOR)} has {len(changes[key])} numbers in image_{key}, "
                f"the network has {channels} input channels"
            )
    if config.interpolation is not None:
        changes["interpolation"] = config.interpolation
    notes += config.notes
    if config.resize is not None and preprocessing.resize == "fit":
        theirs = {"short": "cut off their sides", "stretch": "stretch them"}.get(config.resize, "not resize them")
        notes.append(f"pictures are fitted in as a whole: Hugging Face's own recipe would {theirs}")
    elif config.resize is not None:
        notes += config.resizing_notes
        changes.update(resize=config.resize, resize_to=None, central_fraction=config.central_fraction)
        if config.resize == "short":
            same = config.size == preprocessing.size
            changes["resize_to"] = config.resize_to if same else preprocessing.resize_to
    changed = dataclasses.replace(preprocessing, **changes)
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
        raise WeightsError(f"{path} has model_type {quoted(kind)}, expected 'mobilenet_v2': it is another model's")
    if fields.get("first_layer_is_expansion", True) is not True:
        raise WeightsError(f"{path} has first_layer_is_expansion false: no network here expands in its first block")
    activation = fields.get("hidden_act", "relu6")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise WeightsError(f"{path} has hidden_act {quoted(activation)}: known are {' and '.join(_ACTIVATIONS)}")
    stride = fields.get("output_stride", 32)
    if not checks.is_whole(stride) or stride not in OUTPUT_STRIDES:
        raise WeightsError(f"{path} has output_stride {quoted(stride)}: known are 8, 16 and 32")
    eps = fields.get("layer_norm_eps", 1e-3)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise WeightsError(f"{path} has layer_norm_eps {quoted(eps)}, expected a number between 0 and 1")
    return Config(
        padding="same" if _flag(path, fields, "tf_padding") else "symmetric",
        bn_eps=eps,
        activation=_ACTIVATIONS[activation],
        output_stride=int(stride),
        outputs=_names(path, fields.get("id2label") or {}),
        size=_sides(path, "image_size", fields.get("image_size", 224)),
    )


def _names(path: Path, numbered: object) -> tuple[str, ...]:
    """The outputs' names by their numbers."""
    if not isinstance(numbered, dict) or set(numbered) != {str(i) for i in range(len(numbered))}:
        raise WeightsError(f"{path}: id2label must name the outputs 0, 1, 2 ..., got {quoted(numbered)}")
    names = tuple(numbered[str(i)] for i in range(len(numbered)))
    for name in names:
        if not isinstance(name, str | int | float) or (isinstance(name, str) and len(name) > limits.STATED_TEXT):
            raise WeightsError(f"{path}: id2label must have texts as names, got {quoted(name)}")
    return tuple(map(str, names))


def _pictures(path: Path, fields: Mapping[str, Any], config: Config) -> Config:
    fields = {name: value for name, value in fields.items() if value is not None}  # null: the default, as there
    found = _resizing(path, fields, config)
    resample = fields.get("resample", 2)
    if isinstance(resample, bool) or resample not in [*_INTERPOLATIONS, *_OTHER_FILTERS]:
        raise WeightsError(f"{path} has resample {quoted(resample)}, expected Pillow's number of a filter, 0 to 5")
    interpolation = _INTERPOLATIONS.get(resample)
    if interpolation is None and found.resize != "none":
        text = f"{PROCESSOR} asks for resample {resample} ({_OTHER_FILTERS[resample]}): bilinear was taken"
        found = dataclasses.replace(found, notes=(*found.notes, text))
    factor = 1.0
    if _flag(path, fields, "do_rescale"):
        factor = _number(path, "rescale_factor", fields.get("rescale_factor", 1 / 255), positive=True)
    mean, std = 0.0, _in_pixels(1 / factor)
    if _flag(path, fields, "do_normalize"):
        mean = _per_channel(path, "image_mean", fields.get("image_mean", 0.5), factor)
        std = _per_channel(path, "image_std", fields.get("image_std", 0.5), factor, positive=True)
    return dataclasses.replace(found, interpolation=interpolation or "pil-bilinear", mean=mean, std=std)


def _resizing(path: Path, fields: Mapping[str, Any], config: Config) -> Config:
    """`config` with the sizes: a picture is resized so that its shortest side is as said, or to a height and a width,
    or not at all; and then the centre is cropped out, or not.
    """
    crop = None
    if _flag(path, fields, "do_center_crop"):
        crop = _sides(path, "crop_size", fields.get("crop_size", 224))
    if not _flag(path, fields, "do_resize"):
        size = crop or config.size
        text = f"{PROCESSOR} takes pictures as large as they are: of larger ones than the input, the centre is seen"
        return dataclasses.replace(config, size=size, resize="none", resizing_notes=() if crop else (text,))
    size, field = fields.get("size", {"shortest_edge": 256}), "size"
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        size, field = size["shortest_edge"], "shortest_edge"
    if not isinstance(size, dict | list):
        shortest, _ = _sides(path, field, size)
        text = f"{PROCESSOR} crops nothing: the central {shortest}x{shortest} is taken, as the input has one size"
        return dataclasses.replace(
            config, size=crop or (shortest, shortest), resize="short", resize_to=shortest,
            resizing_notes=() if crop else (text,),
        )  # fmt: skip
    whole = _sides(path, field, size)
    crop, found = crop or whole, dataclasses.replace(config, resize="stretch")
    if crop[0] * whole[1] == crop[1] * whole[0] and crop[0] <= whole[0]:  # the same part of the photo
        return dataclasses.replace(found, size=crop, central_fraction=crop[0] / whole[0])
    text = f"{PROCESSOR} crops {list(crop)} out of {list(whole)}, unlike parts of the sides: nothing is cropped off"
    return dataclasses.replace(found, size=crop, resizing_notes=(text,))


def _flag(path: Path, fields: Mapping[str, Any], field: str) -> bool:
    """A field that is true where it is left out."""
    value = fields.get(field, True)
    if not isinstance(value, bool):
        raise WeightsError(f"{path} has {field} {quoted(value)}, expected true or false")
    return value


def _per_channel(
    path: Path, field: str, value: object, factor: float, *, positive: bool = False
) -> tuple[float, ...] | float:
    """In units of 0..255, where `value` is in those that pixels times `factor` have."""
    if not isinstance(value, list):
        return _in_pixels(_number(path, field, value, positive=positive) / factor)
    if not value:
        raise WeightsError(f"{path} has {field} [], expected a number per input channel")
    return tuple(_in_pixels(_number(path, field, member, positive=positive) / factor) for member in value)


def _in_pixels(value: float) -> float:
    """`value` without the error of a division: 0.45 / (1 / 255) is 114.75."""
    return float(f"{value:.9g}")


def _number(path: Path, field: str, value: object, *, positive: bool) -> float:
    """The number in `field`. Within the limits here, their quotients are numbers of float32 that are not 0."""
    least = 1e-6 if positive else -1e30
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < 1e30:
        return float(value)
    raise WeightsError(f"{path} has {field} {quoted(value)}, expected a number{' above 0' if positive else ''}")


def _sides(path: Path, field: str, value: object) -> tuple[int, int]:
    """Height and width out of one side, of both, or of {"height": ..., "width": ...}."""
    sides = value
    if isinstance(value, dict):
        sides = [value.get("height"), value.get("width")]
    match [sides, sides] if isinstance(sides, int) else sides:
        case [int(height), int(width)] if not {type(height), type(width)} & {bool}:
            if min(height, width) >= 1 and max(height, width) <= limits.SIDE:
                return height, width
    raise WeightsError(f"{path} has {field} {quoted(value)}, expected sides of 1 to {limits.SIDE} pixels")


def _read(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise WeightsError(_dangling(path))
    found = json_text.read(path, error=WeightsError, limit=limits.HEADER_BYTES)
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no JSON object, but {quoted(found, 40)}")
    return found
