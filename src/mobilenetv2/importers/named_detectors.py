"""Imports SSDLite detectors from files of named tensors: qfgaohao's, mmdetection's, TensorFlow's variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import detector_names
from mobilenetv2.importers.coco import without_unused_ids
from mobilenetv2.importers.detector_names import SOURCES, DetectorSource, Origin
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.importers.torch_family import check_names, float32
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Backbone, ConvSpec, Spec, ssdlite

_AVERAGED = "/ExponentialMovingAverage"
_OPTIMISERS = ("/RMSProp", "/RMSProp_1", "/Momentum", "/Adam", "/Adam_1")

Array = npt.NDArray[np.float32]


def recognise(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The source of detectors that has such names, or None."""
    return detector_names.recognise(_variables(tensors, []))


def read(
    path: Path, tensors: Mapping[str, StoredTensor], notes: list[str], *, source: str, size: int | None = None
) -> ModelFile:
    """The detector among the `tensors` of `path`, named as `source` names them; `notes` are put into the model.

    Widths, extra maps and classes follow from the shapes, the anchors are the source's own, and scale with the input
    size (`size`, else the source's). Each tensor of the network is there and none is left over, or `WeightsError`
    names one.
    """
    rules = SOURCES[source]
    tensors = _variables(tensors, notes)
    origins = dict(rules.origins(_skeleton(rules)))
    check_names(path, source, {name for origin in origins.values() for name in origin.names}, set(tensors))
    found = {ours: _made(path, origin, tensors) for ours, origin in origins.items()}
    network = _network(path, rules, found)
    for ours, shape in spec.tensors(network).items():
        if found[ours].shape != shape:
            raise WeightsError(
                f"{path}: tensor {origins[ours].names[0]} stands for {list(found[ours].shape)}, expected {list(shape)}"
            )
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


def _variables(tensors: Mapping[str, StoredTensor], notes: list[str]) -> dict[str, StoredTensor]:
    """The network's tensors: of TensorFlow's variables, the averages where they are kept, and no optimiser's."""
    result: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        plain = name.removesuffix(":0")
        if not plain.endswith((_AVERAGED, *_OPTIMISERS)) and plain != "global_step":
            result[plain] = tensor
    averaged = {name.removesuffix(":0").removesuffix(_AVERAGED): name for name in tensors if _AVERAGED in name}
    if averaged:
        notes.append("the averaged weights were taken (ExponentialMovingAverage), not those of the last step")
    return {**result, **{plain: tensors[name] for plain, name in averaged.items()}}


def _made(path: Path, origin: Origin, tensors: Mapping[str, StoredTensor]) -> Array:
    values = [float32(path, name, tensors[name]) for name in origin.names]
    try:
        return np.ascontiguousarray(origin.make(*values), np.float32)
    except ValueError:
        shapes = " and ".join(f"{name} {list(value.shape)}" for name, value in zip(origin.names, values, strict=True))
        raise WeightsError(f"{path}: the shapes of {shapes} are no convolution's") from None


def _network(path: Path, rules: DetectorSource, found: Mapping[str, Array]) -> Spec:
    """The network with the channels of `found`, under our names."""
    skeleton = _skeleton(rules)

    def width(conv: ConvSpec) -> int:
        shape = found[f"{conv.name}.weight"].shape
        return shape[0] if shape else 0

    net = skeleton.backbone
    stem = inputs = width(spec.stem(net))
    blocks: list[BlockChannels] = []
    for block in spec.blocks(net):
        expanded, outputs = (width(conv) for conv in block.convolutions[-2:])
        blocks.append(BlockChannels(inputs, expanded, outputs, block.expand is not None))
        inputs = outputs
    net = find_backbone(
        blocks, stem=stem, last=width(spec.last(net)), padding=rules.padding, bn_eps=rules.bn_eps
    )  # fmt: skip
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
