"""Imports SSDLite detectors from files of named tensors: qfgaohao's, mmdetection's, TensorFlow's variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import detector_names, origins
from mobilenetv2.importers.coco import without_unused_ids
from mobilenetv2.importers.detector_names import SOURCES, DetectorSource
from mobilenetv2.importers.structure import backbone_of
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Backbone, ConvSpec, Spec, ssdlite

Array = npt.NDArray[np.float32]


def recognise(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The source of detectors that has such names, or None."""
    return detector_names.recognise(origins.network_tensors(tensors, []))


def read(
    path: Path, tensors: Mapping[str, StoredTensor], notes: list[str], *, source: str, size: int | None = None
) -> ModelFile:
    """The detector among the `tensors` of `path`, named as `source` names them; `notes` are put into the model.

    Widths, extra maps and classes follow from the shapes, the anchors are the source's own, and scale with the input
    size (`size`, else the source's). Each tensor of the network is there and none is left over, or `WeightsError`
    names one.
    """
    rules = SOURCES[source]
    tensors = origins.network_tensors(tensors, notes)
    theirs = dict(rules.origins(_skeleton(rules)))
    found = origins.make(path, source, theirs, tensors, notes)
    network = _network(path, rules, found)
    origins.check_shapes(path, network, found, theirs)
    labels, ids = (), ()
    if used := without_unused_ids(network, found):
        network, found, labels, ids = used.network, used.tensors, used.labels, used.label_ids
        notes.append(used.note)
    preprocessing = rules.preprocessing
    if size is not None:
        preprocessing = dataclasses.replace(preprocessing, size=(size, size))
    provenance = {"source": source, "notes": notes}
    info = ModelInfo(network, preprocessing, labels, ids, provenance=provenance)
    return ModelFile(info, found)


def _network(path: Path, rules: DetectorSource, found: Mapping[str, Array]) -> Spec:
    """The network with the channels of `found`, under our names."""
    skeleton = _skeleton(rules)

    def width(conv: ConvSpec) -> int:
        shape = found[f"{conv.name}.weight"].shape
        return shape[0] if shape else 0

    net = backbone_of(skeleton.backbone, width, padding=rules.padding, bn_eps=rules.bn_eps)
    layers, anchors = ssdlite.layers(skeleton), rules.head["anchors"]
    outputs, left = divmod(width(layers.class_heads[0][-1]), len(anchors[0]))
    if left or outputs < 2:
        raise WeightsError(f"{path}: {outputs * len(anchors[0]) + left} class outputs for {len(anchors[0])} anchors")
    extras = tuple(width(chain[-1]) for chain in layers.extras)
    squeezes = tuple(width(chain[0]) for chain in layers.extras)
    halves = all(squeeze == max(extra // 2, 1) for squeeze, extra in zip(squeezes, extras, strict=True))
    fields = {**rules.head, "classes": outputs - 1, "extras": extras, "squeezes": None if halves else squeezes}
    return spec_fields.network(net, spec_fields.ssdlite(**fields))


def _skeleton(rules: DetectorSource) -> Spec:
    """A network with the source's names: they depend neither on channels nor on classes."""
    return spec_fields.network(Backbone(), spec_fields.ssdlite(**rules.head))
