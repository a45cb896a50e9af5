"""From the parts of a TFLite graph to a model: uint8 per tensor, int8 per channel, float16 and float32 weights.

Quantised weights become the real numbers that they stand for. Batch norm is folded in such files and is stored as
the identity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.importers.tflite import graph, walk
from mobilenetv2.importers.tflite.walk import Network
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Activation, Backbone, Padding, Spec

BN_EPS = 1e-3  # TensorFlow's; it cancels, as the stored variance is 1 - BN_EPS
_PADDINGS: tuple[Padding, ...] = ("same", "symmetric")  # the first one where both read the same zeros


@np.errstate(over="ignore", invalid="ignore")  # damaged numbers are found by what they become
def read(path: Path, *, size: int | None = None) -> ModelFile:
    """The classifier in a TFLite file; its logits are the tensor before SOFTMAX.

    The input size is the graph's (`size` replaces it; 224 where both are open), the rest of the recipe TF-Slim's.
    Pixels are normalised as the graph's input says: a uint8 input holds the pixel itself, so that mean is its
    zero point and std is 1 / its scale; an int8 input holds pixel - 128; a float input wants 0..255 (or 0..1) where
    the graph's first steps are arithmetic, else it is taken to want -1..1, and a note says so.

    Raises `FileError`, and `WeightsError` for a damaged file, for a network that is not a MobileNetV2 classifier, and
    for an operator or tensor that would be left out.
    """
    network = walk.find_network(graph.read(path), size=size)
    outputs = network.head.outputs
    head = spec_fields.classifier(outputs=outputs, background="first" if outputs == 1001 else "none")
    recipe = image.recipe("slim", size or network.size[0])
    info = ModelInfo(
        spec=Spec(_backbone(network), head),
        preprocessing=dataclasses.replace(recipe, mean=_tidy(network.mean), std=_tidy(network.std)),
        batch_norm="folded",
        provenance={"source": "tflite", "weights": network.storage, "notes": _notes(network)},
    )
    return ModelFile(info, dict(_tensors(info.spec, network)))


def _backbone(network: Network) -> Backbone:
    """The spec whose channels, strides, dilations, padding, shortcuts and activations are the graph's."""
    channels = [
        BlockChannels(
            inputs=block.layers[0].outputs if len(block.layers) == 2 else block.layers[0].weight.shape[1],
            expanded=block.layers[-2].outputs,
            outputs=block.layers[-1].outputs,
            has_expansion=len(block.layers) == 3,
        )
        for block in network.blocks
    ]
    projections = {id(block.layers[-1]) for block in network.blocks}
    wide = [layer for layer in network.backbone if id(layer) not in projections]
    activation: Activation = "relu6" if all("relu6" in layer.activations for layer in wide) else "relu"
    found = find_backbone(
        channels, stem=network.stem.outputs, last=network.last.outputs, in_channels=network.stem.weight.shape[1],
        padding="same", bn_eps=BN_EPS, activation=activation,
    )  # fmt: skip
    nets = [dataclasses.replace(found, padding=padding) for padding in _PADDINGS]
    misfits = [next(_misfits(network, net), None) for net in nets]
    if None not in misfits:
        raise WeightsError(f"the graph is not this project's MobileNetV2: {misfits[0]}")
    return nets[misfits.index(None)]


def _misfits(network: Network, net: Backbone) -> Iterator[str]:
    """What the graph does in another way than `net`, one line each."""
    for layer, conv in zip(network.backbone, spec.convolutions(net), strict=True):
        pairs: list[tuple[str, Any, Any]] = [
            ("weights", layer.weight.shape, conv.weight_shape),
            ("stride", layer.stride, (conv.stride, conv.stride)),
            ("dilation", layer.dilation, (conv.dilation, conv.dilation)),
            ("padding", layer.pads, (conv.pads(layer.in_size[0]), conv.pads(layer.in_size[1]))),
        ]
        for what, has, expected in pairs:
            if has != expected:
                yield f"{layer.name!r} has {what} {has}, expected {expected}"
        if conv.activation not in layer.activations:
            yield f"{layer.name!r} is followed by {' or '.join(layer.activations)}, expected {conv.activation}"
    for block, row in zip(network.blocks, spec.blocks(net), strict=True):
        if block.shortcut != (row.shortcut == "bottleneck"):
            yield f"{block.layers[-1].name!r} {'starts' if block.shortcut else 'lacks'} a shortcut"


def _tensors(network_spec: Spec, network: Network) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for layer, conv in zip(network.backbone, spec.convolutions(network_spec.backbone), strict=True):
        ones = np.ones(conv.out_channels)
        norm = {"weight": ones, "bias": layer.bias, "running_mean": 0 * ones, "running_var": (1 - BN_EPS) * ones}
        yield f"{conv.name}.weight", _float32(layer.weight, layer.name)
        for part in spec.NORM_PARTS:
            yield f"{conv.norm}.{part}", _float32(norm[part], layer.name)
    linear, head = spec.linear(network_spec), network.head
    yield f"{linear.name}.weight", _float32(head.weight[:, :, 0, 0], head.name)
    yield f"{linear.name}.bias", _float32(head.bias, head.name)


def _float32(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float32]:
    result = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(result).all():
        raise WeightsError(f"the weights of {name!r} are not finite: the file is damaged")
    return result


def _tidy(values: tuple[float, ...]) -> tuple[float, ...]:
    """127.5 for the 127.49999 that the inverse of a float32 scale is."""
    return tuple(near if abs((near := round(value, 4)) - value) <= 1e-6 * abs(value) else value for value in values)


def _notes(network: Network) -> list[str]:
    notes: list[str] = []
    if network.storage != "float32":
        notes.append(f"weights stored as {network.storage} were turned into float32")
    clipped = sum("relu6" in layer.activations and layer.clipped_at < 5.9 for layer in network.backbone)
    if clipped:
        notes.append(f"the file's ranges clip {clipped} layers below 6, which the imported network does not")
    if not network.says_normalisation:
        notes.append("the file does not say how pixels are normalised: they are scaled to -1..1, as TensorFlow's are")
    return notes
