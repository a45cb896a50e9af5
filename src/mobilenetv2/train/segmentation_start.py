"""What a segmentation run starts from: its network, with what a classifier's or another network's weights know."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, labels
from mobilenetv2.data.masks import BACKGROUND
from mobilenetv2.image import Preprocessing
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import DeepLabV3, load_tensors, save_tensors
from mobilenetv2.results import class_names
from mobilenetv2.spec import Backbone, Background, DeepLab
from mobilenetv2.spec_fields import backbone, network
from mobilenetv2.spec_fields import deeplab as head_of_fields
from mobilenetv2.train import start
from mobilenetv2.train.masked_pictures import SegmentationTrainingData
from mobilenetv2.train.segmentation_recipes import SegmentationRecipe

OUTPUT_STRIDE = 16  # the paper's where speed counts

Tensors = dict[str, npt.NDArray[np.float32]]


def model(
    data: SegmentationTrainingData, recipe: SegmentationRecipe, init: ModelFile | None
) -> tuple[ModelFile, list[str]]:
    """What the run begins with, described as the model file will be, and notes about what was decided.

    Of a classifier or a detector `init` gives the backbone, without its last convolution. Of a segmentation model with
    the same classes it gives everything, and with others everything below the logits: those of classes that it knows
    under this name or another (`labels.match`) are kept. What is left is drawn from torch's generator. Raises
    `UsageError` where `init` does not fit, `SpecError` for an impossible output stride or too many classes.
    """
    names, notes = data.names, list[str]()
    background, real = _background(names)
    if init is None:
        net = _of_stride(
            backbone(width_mult=recipe.width_mult or start.DEFAULT_WIDTH, padding="same", bn_eps=1e-3), recipe
        )
        head = _head(recipe, real, background)
    else:
        start.check_backbone(init.info, recipe)
        net = _of_stride(init.info.spec.backbone, recipe, given=init.info.task == "segmentation")
        before = init.info.spec.head
        if isinstance(before, DeepLab):
            head = dataclasses.replace(before, classes=len(real), background=background, dropout=recipe.dropout)
        else:
            head = _head(recipe, real, background)
    described = network(net, head)
    preprocessing = _preprocessing(data, recipe, None if init is None else init.info.preprocessing)
    batch_norm = "live" if init is None else init.info.batch_norm
    info = ModelInfo(described, preprocessing, real, batch_norm=batch_norm)
    own = save_tensors(DeepLabV3.from_spec(described))
    tensors: Tensors = own
    if init is not None:
        tensors, said = _taken(own, init, names)
        notes += said
        if init.info.batch_norm == "folded":
            notes.append("batch norm is folded in the starting weights: its statistics stay frozen")
    height, width = preprocessing.size
    notes.append(f"input of {width} x {height} pixels, output stride {net.output_stride}")
    return ModelFile(dataclasses.replace(info, provenance=start.provenance(data, recipe, init)), tensors), notes


def learner_network(first: ModelFile) -> DeepLabV3:
    """The network with its first weights."""
    found = DeepLabV3.from_spec(first.info.spec)
    load_tensors(found, first.tensors)
    return found


def _background(names: tuple[str, ...]) -> tuple[Background, tuple[str, ...]]:
    """Where background is among the classes, and the others. In the middle it is a class like any other."""
    if len(names) > 1 and names[0] == BACKGROUND:
        return "first", names[1:]
    if len(names) > 1 and names[-1] == BACKGROUND:
        return "last", names[:-1]
    return "none", names


def _head(recipe: SegmentationRecipe, real: tuple[str, ...], background: Background) -> DeepLab:
    return head_of_fields(classes=len(real), background=background, aspp=recipe.aspp, dropout=recipe.dropout)


def _of_stride(net: Backbone, recipe: SegmentationRecipe, *, given: bool = False) -> Backbone:
    """`net` with the recipe's output stride; its own where it was `given` one and the recipe has none."""
    stride = recipe.output_stride or (net.output_stride if given else OUTPUT_STRIDE)
    fields = {field.name: getattr(net, field.name) for field in dataclasses.fields(net)}
    return backbone(**{**fields, "output_stride": stride})


def _preprocessing(
    data: SegmentationTrainingData, recipe: SegmentationRecipe, given: Preprocessing | None
) -> Preprocessing:
    """DeepLab's, normalised as the starting weights want it."""
    found = image.recipe("deeplab", recipe.size or data.input_size())
    if given is None or (given.mean, given.std) == (found.mean, found.std):
        return found
    return dataclasses.replace(found, mean=given.mean, std=given.std, recipe="custom")


def _taken(own: Tensors, init: ModelFile, names: tuple[str, ...]) -> tuple[Tensors, list[str]]:
    """`own` with all that fits of `init`, and what is said about it."""
    if init.info.task != "segmentation":
        taken = {name: init.tensors[name] if name.startswith("features.") else own[name] for name in own}
        left = " and its last convolution is left out" if init.info.task == "classification" else ""
        return taken, [
            f"a new head for {len(names)} classes: the starting weights are a model for {init.info.task}{left}"
        ]
    before = class_names(init.info)
    if before == names:
        return dict(init.tensors), []
    named = [(new, name) for new, name in enumerate(names) if not name.isdigit()]
    known = [(new, old) for new, name in named if (old := labels.match(name, before)) is not None]
    taken = {name: own[name] if name.startswith("logits.") else init.tensors[name] for name in own}
    for name in (name for name in own if name.startswith("logits.")):
        value = own[name].copy()
        for new, old in known:
            value[new] = init.tensors[name][old]
        taken[name] = value
    kept = f"; {', '.join(names[new] for new, _ in known)} kept" if known else ""
    return taken, [
        f"new logits for {len(names) - len(known)} of {len(names)} classes (the starting weights have "
        f"{len(before)} others){kept}"
    ]
