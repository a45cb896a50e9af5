"""From the parts of a TFLite graph to a model: uint8 per tensor, int8 per channel, float16 and float32 weights.

Quantised weights become the real numbers that they stand for. Batch norm is folded in such files and is stored as
the identity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import image, spec, spec_fields
from mobilenetv2.importers import detector, parts, segmenter
from mobilenetv2.importers.coco import without_unused_ids
from mobilenetv2.importers.parts import Layer
from mobilenetv2.importers.tflite import detector_walk, graph, segmentation_walk, walk
from mobilenetv2.importers.tflite.graph import Graph
from mobilenetv2.importers.tflite.walk import Network, Pixels
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.preprocessing import Preprocessing
from mobilenetv2.spec import Spec


@np.errstate(over="ignore", invalid="ignore")  # damaged numbers are found by what they become
def read(path: Path, *, size: int | None = None) -> ModelFile:
    """The classifier, SSDLite detector or Mobile DeepLabv3 in a TFLite file.

    Its logits are the tensor before SOFTMAX or LOGISTIC, or before they are resized to the picture's size.

    The input size is the graph's (`size` replaces it; 224 where both are open), the rest of the recipe TF-Slim's, or
    that of TensorFlow's detectors. Pixels are normalised as the graph's input says: a uint8 input holds the pixel
    itself, so that mean is its zero point and std is 1 / its scale; an int8 input holds pixel - 128; a float input
    wants 0..255 (or 0..1) where the graph's first steps are arithmetic, else it is taken to want -1..1, and a note
    says so.

    Raises `FileError`, and `WeightsError` for a damaged file, for a network that is neither of these, and for an
    operator or tensor that would be left out.
    """
    found = graph.read(path)
    if detector_walk.recognises(found):
        return _detector(found, size)
    return _segmenter(found, size) if segmentation_walk.recognises(found) else _classifier(found, size)


def _classifier(found: Graph, size: int | None) -> ModelFile:
    network = walk.find_network(found, size=size)
    outputs = network.head.outputs
    head = spec_fields.classifier(outputs=outputs, background="first" if outputs == 1001 else "none")
    info = ModelInfo(
        spec=parts.fitted(Spec(parts.find_net(network.body), head), network.body),
        preprocessing=_preprocessing("slim", network.pixels, size),
        batch_norm="folded",
        provenance=_provenance(network.storage, network.pixels, network.body.layers),
    )
    return ModelFile(info, dict(_tensors(info.spec, network)))


def _detector(found: Graph, size: int | None) -> ModelFile:
    shown = detector_walk.find_detector(found)
    network, tensors = detector.build(shown.detector, **shown.head)
    provenance = _provenance(shown.storage, shown.pixels, shown.detector.path)
    provenance["notes"] += shown.notes
    labels, ids = (), ()
    if used := without_unused_ids(network, tensors):
        network, tensors, labels, ids = used.network, used.tensors, used.labels, used.label_ids
        provenance["notes"].append(used.note)
    preprocessing = _preprocessing("ssd-tf", shown.pixels, size)
    info = ModelInfo(network, preprocessing, labels, ids, batch_norm="folded", provenance=provenance)
    return ModelFile(info, tensors)


def _segmenter(found: Graph, size: int | None) -> ModelFile:
    shown = segmentation_walk.find_segmenter(found)
    network, tensors = segmenter.build(shown.segmenter)
    provenance = _provenance(shown.storage, shown.pixels, shown.segmenter.path)
    info = ModelInfo(network, _preprocessing("deeplab", shown.pixels, size), batch_norm="folded", provenance=provenance)
    return ModelFile(info, tensors)


def _preprocessing(recipe: str, pixels: Pixels, size: int | None) -> Preprocessing:
    found = image.recipe(recipe, size or pixels.size)
    return dataclasses.replace(found, mean=_tidy(pixels.mean), std=_tidy(pixels.std))


def _tensors(network_spec: Spec, network: Network) -> Iterator[tuple[str, parts.Float32Array]]:
    yield from parts.folded_tensors(Spec(network_spec.backbone), network.body.layers)
    linear, head = spec.linear(network_spec), network.head
    yield f"{linear.name}.weight", parts.as_float32(head.weight[:, :, 0, 0], head.name)
    yield f"{linear.name}.bias", parts.as_float32(head.bias, head.name)


def _tidy(values: tuple[float, ...]) -> tuple[float, ...]:
    """127.5 for the 127.49999 that the inverse of a float32 scale is."""
    return tuple(near if abs((near := round(value, 4)) - value) <= 1e-6 * abs(value) else value for value in values)


def _provenance(storage: str, pixels: Pixels, layers: Iterable[Layer]) -> dict[str, Any]:
    notes: list[str] = []
    if storage != "float32":
        notes.append(f"weights stored as {storage} were turned into float32")
    clipped = sum("relu6" in layer.activations and layer.clipped_at < 5.9 for layer in layers)
    if clipped:
        notes.append(f"the file's ranges clip {clipped} layers below 6, which the imported network does not")
    if not pixels.said:
        notes.append("the file does not say how pixels are normalised: they are scaled to -1..1, as TensorFlow's are")
    return {"source": "tflite", "weights": storage, "notes": notes}
