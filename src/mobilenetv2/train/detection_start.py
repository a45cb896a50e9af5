"""What a detector's run starts from: its network, with what a classifier's or a detector's weights know already."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, labels
from mobilenetv2.image import Preprocessing
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import SSDLite, load_tensors, save_tensors
from mobilenetv2.spec import Spec, ssdlite, ssdlite_anchors
from mobilenetv2.spec import SSDLite as Head
from mobilenetv2.spec.ssdlite import Anchors
from mobilenetv2.spec_fields import backbone, network
from mobilenetv2.spec_fields import ssdlite as head_of_fields
from mobilenetv2.train import anchor_fit, start
from mobilenetv2.train.detection_recipes import DetectionRecipe
from mobilenetv2.train.scenes import DetectionTrainingData

DEFAULT_SIZE = 320  # pixels, the paper's
CLEARLY = 0.5  # at most this share of the objects that have no anchor may still have none with other anchors
PRIOR = 0.01  # of an object, in class heads that begin with focal loss (arXiv 1708.02002, section 4.1)

Tensors = dict[str, npt.NDArray[np.float32]]


def model(data: DetectionTrainingData, recipe: DetectionRecipe, init: ModelFile | None) -> tuple[ModelFile, list[str]]:
    """What the run begins with, described as the model file will be, and notes about what was decided.

    Of a classifier `init` gives the backbone. Of a detector with the same classes it gives everything, and with others
    everything below the scores: those of classes that it knows under this name or another (`labels.match`), and of
    background, are kept. What is left is drawn from torch's generator. Raises `UsageError` where `init` does not fit.
    """
    notes: list[str] = []
    names = data.names
    if init is None:
        net = backbone(width_mult=recipe.width_mult or start.DEFAULT_WIDTH, padding="same", bn_eps=1e-3)
        info = ModelInfo(
            network(net, head_of_fields(classes=len(names))), image.recipe("ssd", recipe.size or DEFAULT_SIZE), names
        )
        drawn = SSDLite.from_spec(info.spec)
        if recipe.class_loss == "focal":
            drawn.set_prior(PRIOR)
        tensors = save_tensors(drawn)
    else:
        start.check_backbone(init.info, recipe)
        head = init.info.spec.head
        same = isinstance(head, Head) and _labels(init.info) == names
        if isinstance(head, Head):
            anchors, found_notes = _anchors(head, init.info.preprocessing.size, data, recipe)
            same = same and anchors == head.anchors
            notes += found_notes
            described = Spec(init.info.spec.backbone, dataclasses.replace(head, classes=len(names), anchors=anchors))
        else:
            described = network(init.info.spec.backbone, head_of_fields(classes=len(names)))
        info = ModelInfo(described, _preprocessing(init.info, recipe.size), names, batch_norm=init.info.batch_norm)
        drawn = SSDLite.from_spec(described)
        if recipe.class_loss == "focal":
            drawn.set_prior(PRIOR)
        own = save_tensors(drawn)
        if same:
            tensors = dict(init.tensors)
        elif isinstance(head, Head):
            tensors, known = _with_classes(own, init, info)
            kept = f"; {', '.join(names[new] for new, _ in known)} kept" if known else ""
            notes.append(
                f"new scores for {len(names) - len(known)} of {len(names)} classes (the starting weights have "
                f"{init.info.classes} others){kept}; boxes and extra maps are those of the starting weights"
            )
        else:
            tensors = {name: init.tensors[name] if name.startswith("features.") else own[name] for name in own}
            notes.append(f"a new head for {len(names)} classes: the starting weights are a model for {init.info.task}")
        if init.info.batch_norm == "folded":
            notes.append("batch norm is folded in the starting weights: its statistics stay frozen")
    info = dataclasses.replace(info, provenance=start.provenance(data, recipe, init))
    return ModelFile(info, tensors), notes


def _anchors(
    head: Head, size: tuple[int, int], data: DetectionTrainingData, recipe: DetectionRecipe
) -> tuple[tuple[Anchors, ...], list[str]]:
    """The starting weights' anchors, or TensorFlow's where the recipe says so or clearly more objects have one then."""
    usual = ssdlite_anchors(layers=len(head.anchors))
    if recipe.anchors == "kept" or head.anchors == usual:
        return head.anchors, []
    found = anchor_fit.shapes(data.train.samples, size)
    kept_share, usual_share = (anchor_fit.share_with_an_anchor(found, one) for one in (head.anchors, usual))
    if recipe.anchors == "auto" and 1 - usual_share > CLEARLY * (1 - kept_share):
        return head.anchors, []
    return usual, [
        f"anchors: {usual_share:.0%} of the objects fit one of TensorFlow's, {kept_share:.0%} one of the starting "
        "weights': TensorFlow's are taken"
    ]


def learner_network(first: ModelFile) -> SSDLite:
    """The network with its first weights."""
    found = SSDLite.from_spec(first.info.spec)
    load_tensors(found, first.tensors)
    return found


def _preprocessing(info: ModelInfo, size: int | None) -> Preprocessing:
    """A detector's own; for a classifier's weights that of detectors, normalised as they want it."""
    if info.task == "detection":
        own = info.preprocessing
        return own if size is None else dataclasses.replace(own, size=(size, size), recipe="custom")
    mean, std = info.preprocessing.mean, info.preprocessing.std
    plain = image.recipe("ssd", size or DEFAULT_SIZE)
    same = (mean, std) == (plain.mean, plain.std)
    return plain if same else dataclasses.replace(plain, mean=mean, std=std, recipe="custom")


def _labels(info: ModelInfo) -> tuple[str, ...]:
    return tuple(info.label(i) for i in range(info.classes))


def _with_classes(own: Tensors, init: ModelFile, info: ModelInfo) -> tuple[Tensors, list[tuple[int, int]]]:
    """`init`'s tensors with scores for `info`'s classes: `own`, but the outputs for the background and for classes of
    the same name. Also these classes, as (new, old)."""
    old_labels = _labels(init.info)
    pairs = ((new, labels.match(name, old_labels)) for new, name in enumerate(info.labels) if not name.isdigit())
    known = [(new, old) for new, old in pairs if old is not None]
    tensors = {name: init.tensors[name] if init.tensors[name].shape == own[name].shape else own[name] for name in own}
    head, before = ssdlite.head_of(info.spec), ssdlite.head_of(init.info.spec)
    first = 1 if head.background == "first" else 0
    rows = [(first + new, first + old) for new, old in known]
    if head.background != "none":
        rows.append((0, 0) if first else (head.outputs - 1, before.outputs - 1))
    for k, chain in enumerate(ssdlite.layers(info.spec).class_heads):
        if len(head.anchors[k]) != len(before.anchors[k]):
            continue
        for kind in ("weight", "bias"):
            name = f"{chain[-1].name}.{kind}"
            shape = own[name].shape[1:]
            new = own[name].reshape(len(head.anchors[k]), head.outputs, *shape).copy()
            old = init.tensors[name].reshape(len(head.anchors[k]), before.outputs, *shape)
            for to, source in rows:
                new[:, to] = old[:, source]
            tensors[name] = new.reshape(own[name].shape)
    return tensors, known
