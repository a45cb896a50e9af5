"""What a run starts from: the model that it will leave, the network with its first weights, and the teacher."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from mobilenetv2 import image
from mobilenetv2.errors import UsageError
from mobilenetv2.image import Preprocessing
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import MobileNetV2, load_tensors, save_tensors
from mobilenetv2.spec import Classifier, Spec, blocks, convolutions
from mobilenetv2.spec_fields import backbone, classifier
from mobilenetv2.train import recipes
from mobilenetv2.train.classification import Teacher
from mobilenetv2.train.pictures import TrainingData
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import versions
from mobilenetv2.train.task import Data

DEFAULT_WIDTH = 1.0
DEFAULT_SIZE = 224  # pixels
RANDOM = "random weights"  # what a run started from, where it had no others


def model(data: TrainingData, recipe: Recipe, init: ModelFile | None) -> tuple[ModelFile, list[str]]:
    """What the run begins with, described as the model file will be, and notes about what was decided.

    Weights that are not `init`'s are drawn from torch's generator. Raises `UsageError` where `init` does not fit.
    """
    head = classifier(outputs=len(data.names), dropout=recipe.dropout)
    notes: list[str] = []
    if init is None:
        network = Spec(backbone(width_mult=recipe.width_mult or DEFAULT_WIDTH), head)
        preprocessing = _preprocessing(recipe.size or DEFAULT_SIZE, data)
    else:
        check_backbone(init.info, recipe)
        network = Spec(init.info.spec.backbone, head)
        preprocessing = _of_size(init.info.preprocessing, recipe.size)
        if not _keeps_head(init.info, data.names):
            notes.append(
                f"a new last layer for {len(data.names)} classes (the starting weights have {init.info.classes} others)"
            )
        if init.info.batch_norm == "folded":
            notes.append("batch norm is folded in the starting weights: its statistics stay frozen")
    batch_norm = "live" if init is None else init.info.batch_norm
    info = ModelInfo(
        network, preprocessing, data.names, batch_norm=batch_norm, provenance=provenance(data, recipe, init)
    )
    return ModelFile(info, save_tensors(_network(info, init, recipe))), notes


def check_backbone(info: ModelInfo, recipe: Recipe) -> None:
    """Raise `UsageError` unless weights of `info`'s backbone can be trained on pictures by `recipe`."""
    net = info.spec.backbone
    if recipe.width_mult not in (None, net.width_mult):
        raise UsageError(
            f"width_mult is {recipe.width_mult:g}, the starting weights have {net.width_mult:g}: set width_mult=none"
        )
    if net.in_channels != 3:
        raise UsageError(f"the starting weights take {net.in_channels} channels, pictures have 3")


def provenance(data: Data, recipe: Recipe, init: ModelFile | None) -> dict[str, Any]:
    """What the model file says of where its weights come from."""
    found = {
        "source": "mobilenetv2 train",
        "started_from": RANDOM if init is None else init.info.provenance.get("source", "a model file"),
        "recipe": recipes.to_json(recipe),
        "data": {"train": len(data.train), "val": len(data.val), "fingerprint": data.fingerprint},
        "versions": versions(),
    }
    if init is not None and "licence" in init.info.provenance:
        found["licence"] = init.info.provenance["licence"]
    return found


def _preprocessing(size: int, data: TrainingData) -> Preprocessing:
    """torchvision's second recipe; pictures that all are of the input's size are left as they are."""
    found = image.recipe("torchvision-v2", size)
    return image.override(found, resize=size) if data.square == size else found


def _of_size(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    """`preprocessing` for a square input of `size`, its resize in proportion."""
    height, width = preprocessing.size
    if size is None:
        if height != width:
            raise UsageError(f"the starting weights take {height} x {width} pixels: set size to train on squares")
        return preprocessing
    resize_to = preprocessing.resize_to
    if (height, width) == (size, size):
        return preprocessing
    if resize_to is not None:
        resize_to = max(size, round(resize_to * size / max(height, width)))
    return dataclasses.replace(preprocessing, size=(size, size), resize_to=resize_to, recipe="custom")


def _keeps_head(info: ModelInfo, names: tuple[str, ...]) -> bool:
    fits = isinstance(info.spec.head, Classifier) and info.spec.head.background == "none"
    return fits and info.classes == len(names) and info.labels in ((), names)


def _network(info: ModelInfo, init: ModelFile | None, recipe: Recipe) -> MobileNetV2:
    network = MobileNetV2.from_spec(info.spec)
    if init is None:
        _initialise(network, recipe)
    else:
        own = save_tensors(network)
        kept = "" if _keeps_head(init.info, info.labels) else "features."
        load_tensors(network, {name: (init.tensors if name.startswith(kept) else own)[name] for name in own})
    return network


def _initialise(network: MobileNetV2, recipe: Recipe) -> None:
    net, std = network.spec.backbone, recipe.initial_std
    if std is not None:
        for conv in convolutions(net):
            nn.init.trunc_normal_(network.get_parameter(f"{conv.name}.weight"), std=std, a=-2 * std, b=2 * std)
    if recipe.zero_gamma:
        for block in blocks(net):
            if block.shortcut == "bottleneck":
                nn.init.zeros_(network.get_parameter(f"{block.project.norm}.weight"))


def teacher(model: ModelFile, names: tuple[str, ...]) -> Teacher:
    """`model` as the teacher of the classes `names`. Raises `UsageError` where it does not know one of them."""
    if model.info.task != "classification":
        raise UsageError(f"the teacher must be a model for classification, not for {model.info.task}")
    own = [model.info.label(i) for i in range(model.info.classes)]
    missing = [name for name in names if name not in own]
    if missing:
        raise UsageError(f"the teacher does not know class {missing[0]!r}: it must know the same {len(names)} classes")
    network = MobileNetV2.from_spec(model.info.spec)
    load_tensors(network, model.tensors)
    first = 1 if model.info.spec.head.background == "first" else 0
    return Teacher(network, model.info.preprocessing, [first + own.index(name) for name in names])
