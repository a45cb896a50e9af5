"""TensorFlow's outputs for COCO: the background, then one for each id from 1 to 90, of which ten are not used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.labels import class_names
from mobilenetv2.spec import Spec, ssdlite

SLOTS = 91

Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Used:
    """A detector of COCO's 80 classes, what they are called, and what people should know."""

    network: Spec
    tensors: dict[str, npt.NDArray[np.float32]]
    labels: tuple[str, ...] = class_names("coco").names
    label_ids: tuple[str, ...] = class_names("coco").ids
    note: str = f"{SLOTS} outputs: taken for COCO's, of which those of its ten unused ids were left out"


def without_unused_ids(network: Spec, tensors: Tensors) -> Used | None:
    """The detector without the outputs that no class of COCO has; None where it is not one of `SLOTS` outputs.

    Each score is a sigmoid by itself, so that those of the others are the same with and without.
    """
    head = ssdlite.head_of(network)
    if (head.outputs, head.background, head.score) != (SLOTS, "first", "sigmoid"):
        return None
    kept = [0, *map(int, class_names("coco").ids)]
    result = dict(tensors)
    for chain in ssdlite.layers(network).class_heads:
        for name in spec.conv_tensors(chain[-1]):
            values = result[name]
            per_anchor = values.reshape(-1, SLOTS, *values.shape[1:])[:, kept]
            result[name] = np.ascontiguousarray(per_anchor.reshape(-1, *values.shape[1:]))
    return Used(Spec(network.backbone, dataclasses.replace(head, classes=len(kept) - 1)), result)
