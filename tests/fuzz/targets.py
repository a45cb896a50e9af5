"""What a class of inputs is, and small networks for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.sandbox import Case
from mobilenetv2 import image, spec
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Spec
from mobilenetv2.spec_fields import backbone, classifier, deeplab, network, ssdlite

Maker = Callable[[random.Random, Path], Case]  # makes one case in a folder, which is the working folder


@dataclass(frozen=True, slots=True)
class Target:
    """A class of inputs. `prepare(folder)` imports what it needs and makes good inputs, once; `share` is its part of
    the cases, beside those of the others."""

    name: str
    prepare: Callable[[Path], Maker]
    share: float = 1.0


SMALL: dict[str, Any] = {"stages": ((1, 8, 1, 1), (2, 8, 2, 2), (3, 16, 1, 2)), "stem_channels": 8, "last_channels": 16}
ANCHORS = (((0.2, 0.2), (0.3, 0.2)), ((0.5, 0.5),), ((0.9, 0.9),))
LABELS = ("cat", "dog", "owl")


def specs() -> dict[str, Spec]:
    """A network for each task, of a few thousand numbers."""
    head = ssdlite(classes=3, taps=("s4", "out"), extras=(16,), anchors=ANCHORS)
    return {
        "classification": Spec(backbone(**SMALL), classifier(outputs=4, background="first")),
        "detection": network(backbone(**SMALL), head),
        "segmentation": network(
            backbone(**SMALL, output_stride=8), deeplab(classes=3, channels=8, aspp=True, rates=(2, 3))
        ),
    }


def models() -> dict[str, ModelFile]:
    recipes = {"classification": "torchvision-v1", "detection": "ssd", "segmentation": "deeplab"}
    return {
        task: ModelFile(ModelInfo(described, image.recipe(recipes[task], 32), LABELS), tensors(described, 0))
        for task, described in specs().items()
    }


def imported(**fields: Any) -> ModelFile:
    """The paper's seventeen blocks at width 0.1, which is what importers look for: 200 KB."""
    described = Spec(backbone(**{"width_mult": 0.1, "last_channels": 16, **fields}), classifier(outputs=4))
    return ModelFile(ModelInfo(described, image.recipe("torchvision-v1", 32)), tensors(described, 0))


def tensors(described: Spec, seed: int) -> dict[str, np.ndarray]:
    """Random numbers of the spec's shapes, of sizes that neither die nor explode on the way."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for name, shape in spec.tensors(described).items():
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 2, shape)
        elif name.endswith(("running_mean", "bias")):
            value = rng.normal(0, 0.2, shape)
        elif len(shape) == 1:
            value = rng.uniform(0.7, 1.4, shape)
        else:
            value = rng.normal(0, np.sqrt(2 / max(np.prod(shape[1:]), 1)), shape)
        made[name] = value.astype(np.float32)
    return made
