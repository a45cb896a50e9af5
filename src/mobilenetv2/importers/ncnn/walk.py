"""The parts of an SSDLite detector, found by walking an ncnn graph along its data.

Nothing is known by name: the heads are found backwards from the DetectionOutput, the backbone and the extra maps
forwards from the input. Every layer is taken once; one that does not fit there, or that is left over, is an error that
names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.detector import Detector
from mobilenetv2.importers.ncnn.param import Operation
from mobilenetv2.importers.ncnn.weights import CONVOLUTIONS, Weights, kernel
from mobilenetv2.importers.parts import Layer
from mobilenetv2.spec import Activation, ConvSpec, Score

Size = tuple[int, int]  # rows, columns

DEFAULT_SIZE = 300  # where the graph leaves its input's size open
_ADDITIONS = ("Eltwise", "BinaryOp")
_SCORES: dict[str, Score] = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
_KNOWN = {
    *CONVOLUTIONS, *_ADDITIONS, *_SCORES, "Input", "Split", "ReLU", "Clip", "Slice", "Noop", "Permute", "Flatten",
    "Concat", "Reshape", "PriorBox", "DetectionOutput",
}  # fmt: skip
_NORMS = ("BatchNorm", "Scale")
_OPEN = -233  # ncnn's word for "as the data has it"
_ACTIVATIONS: dict[int, Activation] = {0: "linear", 1: "relu"}  # what a convolution's own activation is numbered


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the graph shows. `priors` and `grids` belong to the maps of `detector.maps`, in their order."""

    detector: Detector
    size: Size  # of the input
    grids: tuple[Size, ...]
    priors: tuple[Operation, ...]
    output: Operation  # the DetectionOutput
    score: Score
    outputs: int  # scores per anchor


def check_kinds(layers: tuple[Operation, ...]) -> None:
    """Raise `WeightsError` where a layer is of a kind that no SSDLite has."""
    for layer in layers:
        if layer.kind in _NORMS:
            raise WeightsError(
                f"{layer.kind} {layer.name!r} is not folded into its convolution: run ncnnoptimize first"
            )
        if layer.kind not in _KNOWN:
            raise WeightsError(f"{layer.kind} {layer.name!r} is a layer that no SSDLite of MobileNetV2 has")
        if not (layer.inputs or layer.kind == "Input") or not (layer.outputs or layer.kind == "Noop"):
            raise WeightsError(f"{layer.kind} {layer.name!r} reads or makes nothing: the graph is damaged")


def find_detector(layers: tuple[Operation, ...], weights: Mapping[str, Weights]) -> Found:
    """The parts of the detector; raises `WeightsError` where the graph is something else, naming the layer."""
    return _Walk(layers, weights).found()


class _Walk:
    def __init__(self, layers: tuple[Operation, ...], weights: Mapping[str, Weights]) -> None:
        self.layers, self.weights = layers, weights
        self.makers = {blob: layer for layer in layers for blob in layer.outputs}
        self.taken = {id(layer) for layer in layers if layer.kind in ("Split", "Noop")}
        self.readers: dict[str, list[Operation]] = {}
        for layer in layers:
            if layer.kind not in ("Split", "Noop"):
                for blob in layer.inputs:
                    self.readers.setdefault(self.root(blob), []).append(layer)

    def found(self) -> Found:
        data = self.only("Input")
        size = (data.integer(1, DEFAULT_SIZE), data.integer(0, DEFAULT_SIZE))
        if min(size) < 1 or data.integer(2, 3) != 3:
            raise WeightsError(f"the graph's input is {size[0]} x {size[1]} of {data.integer(2, 3)} channels, not 3")
        output = self.only("DetectionOutput")
        boxes, scores, priors = (self.root(blob) for blob in self.inputs(output, 3))
        score, outputs, scores = self.scores(scores)
        prior_layers = [self.take(blob, "PriorBox") for blob in self.concatenated(priors)]
        maps = [self.root(layer.inputs[0]) for layer in prior_layers]
        class_ops = [self.head(blob, at) for blob, at in self.pairs(self.concatenated(scores), maps)]
        box_ops = [self.head(blob, at) for blob, at in self.pairs(self.concatenated(boxes), maps)]
        path, shortcuts, places = self.path(data.outputs[0], size)
        for blob, prior in zip(maps, prior_layers, strict=True):
            if blob not in places:
                raise WeightsError(f"PriorBox {prior.name!r} reads {blob!r}, which is no map of the backbone")
        at = [places[blob] for blob in maps]
        grids = [path[place][1] for place in at]
        class_heads, box_heads = (
            tuple(self.chain(chain, grid) for chain, grid in zip(ops, grids, strict=True))
            for ops in (class_ops, box_ops)
        )
        if left := [layer for layer in self.layers if id(layer) not in self.taken]:
            raise WeightsError(f"{left[0].kind} {left[0].name!r} is not part of an SSDLite: it would be left out")
        detector = Detector(tuple(layer for layer, _ in path), shortcuts, tuple(at), class_heads, box_heads)
        return Found(detector, size, tuple(grids), tuple(prior_layers), output, score, outputs)

    # -- the end of the graph, backwards

    def scores(self, blob: str) -> tuple[Score, int, str]:
        """How scores are made, how many there are per anchor, and the blob that they are made from."""
        layer = self.take(blob, "Flatten", *_SCORES)
        if layer.kind == "Flatten":
            layer = self.take(self.root(layer.inputs[0]), *_SCORES)
        shape = self.take(self.root(layer.inputs[0]), "Reshape")
        if layer.kind == "Softmax" and layer.integer(0, 0) not in (1, -1):
            raise WeightsError(f"Softmax {layer.name!r} is not over the classes of an anchor")
        if shape.integer(1, _OPEN) != -1:
            raise WeightsError(f"Reshape {shape.name!r} does not make a row of scores for each anchor")
        return _SCORES[layer.kind], shape.integer(0, 0), self.root(shape.inputs[0])

    def concatenated(self, blob: str) -> list[str]:
        return [self.root(part) for part in self.take(blob, "Concat").inputs]

    def pairs(self, blobs: list[str], maps: list[str]) -> list[tuple[str, str]]:
        if len(blobs) != len(maps):
            raise WeightsError(f"{len(blobs)} maps have heads, but {len(maps)} have a PriorBox")
        return list(zip(blobs, maps, strict=True))

    def head(self, blob: str, start: str) -> list[Operation]:
        """The convolutions between the map `start` and one part of what is concatenated."""
        layer = self.take(blob, "Flatten", "Permute")
        if layer.kind == "Flatten":
            layer = self.take(self.root(layer.inputs[0]), "Permute")
        if layer.integer(0, 0) != 3:
            raise WeightsError(f"Permute {layer.name!r} does not put the channels last (0=3)")
        found: list[Operation] = []
        blob = self.root(layer.inputs[0])
        while blob != start:
            maker = self.makers[blob]
            if maker.kind in CONVOLUTIONS:
                self.taken.add(id(maker))
                found.insert(0, maker)
            elif maker.kind not in ("ReLU", "Clip"):
                raise WeightsError(f"the head that ends in {layer.name!r} does not begin at {start!r}")
            blob = self.root(maker.inputs[0])
        if not found:
            raise WeightsError(f"the head that ends in {layer.name!r} has no convolution")
        return found

    def chain(self, operations: list[Operation], size: Size) -> tuple[Layer, ...]:
        found: list[Layer] = []
        for operation in operations:
            layer, size, _ = self.convolution(operation, size)
            found.append(layer)
        return tuple(found)

    # -- the path from the input, forwards

    def path(self, blob: str, size: Size) -> tuple[list[tuple[Layer, Size]], dict[int, int], dict[str, int]]:
        """The convolutions from the input on, each with the size of its output; shortcuts; each output's place."""
        found: list[tuple[Layer, Size]] = []
        shortcuts: dict[int, int] = {}
        places: dict[str, int] = {}
        while True:
            ways = [layer for layer in self.readers.get(blob, ()) if id(layer) not in self.taken]
            steps = [layer for layer in ways if layer.kind not in _ADDITIONS]
            if not ways:
                return found, shortcuts, places
            if len(steps) > 1 or (not steps and len(ways) > 1):
                raise WeightsError(f"the graph branches at {blob!r}, where an SSDLite does not")
            if steps:
                if steps[0].kind not in CONVOLUTIONS:
                    raise WeightsError(f"{steps[0].kind} {steps[0].name!r} follows {blob!r}, where an SSDLite does not")
                self.taken.add(id(steps[0]))
                layer, size, blob = self.convolution(steps[0], size)
                found.append((layer, size))
            else:
                shortcuts[len(found) - 1], blob = self.addition(ways[0], blob, places)
            places[blob] = len(found) - 1

    def addition(self, layer: Operation, blob: str, places: dict[str, int]) -> tuple[int, str]:
        """The place whose output `layer` adds to `blob`, and the sum."""
        operation = layer.integer(0, 0)
        others = [self.root(other) for other in layer.inputs if self.root(other) != blob]
        plain = operation == (1 if layer.kind == "Eltwise" else 0) and not any(map(len, layer.lists.values()))
        if len(layer.inputs) != 2 or len(others) != 1 or others[0] not in places or not plain:
            raise WeightsError(f"{layer.kind} {layer.name!r} does not add the input of a block to its output")
        self.taken.add(id(layer))
        return places[others[0]], layer.outputs[0]

    def convolution(self, operation: Operation, size: Size) -> tuple[Layer, Size, str]:
        """The convolution with what crops and clips its output; the output's size; and its blob."""
        stored = self.weights[operation.outputs[0]]
        stride, dilation = _two(operation, 3, 13, 1), _two(operation, 2, 12, 1)
        if min(*stride, *dilation) < 1 or max(*stride, *dilation) > 64:
            raise WeightsError(f"{operation.kind} {operation.name!r} has stride {stride} and dilation {dilation}")
        blob = operation.outputs[0]
        margins = [0, 0]
        while crop := self.follower(blob, "Slice"):
            axis, blob = self.cropped(crop)
            margins[axis] += 1
        pads: list[tuple[int, int]] = []
        out_size: list[int] = []
        for axis in (0, 1):
            before, out = _padding(operation, axis, size[axis], stride[axis], dilation[axis])
            out -= margins[axis]  # rows that are computed, then cut off, read zeros that need not be there
            before -= margins[axis] * stride[axis]
            reach = (kernel(operation)[axis] - 1) * dilation[axis]
            if out < 1 or before < 0:
                raise WeightsError(f"{operation.kind} {operation.name!r} reads a map of {size}, which does not fit")
            pads.append((before, max((out - 1) * stride[axis] + reach + 1 - size[axis] - before, 0)))
            out_size.append(out)
        activation = _fused(operation)
        if activation == "linear" and (clip := self.follower(blob, "ReLU", "Clip")):
            activation, blob = _own(clip), clip.outputs[0]
        layer = Layer(
            operation.name, operation.kind == "ConvolutionDepthWise", stored.weight, stored.bias, stride, dilation,
            size, (pads[0], pads[1]), frozenset({activation}),
        )  # fmt: skip
        return layer, (out_size[0], out_size[1]), blob

    def cropped(self, layer: Operation) -> tuple[int, str]:
        """The axis along which `layer` cuts the first row or column off, and the blob of the rest."""
        axis = layer.integer(1, 0) - 1  # after the channels
        first_only = layer.lists.get(0) == (1, _OPEN) and len(layer.outputs) == 2 and axis in (0, 1)
        if not first_only or self.readers.get(layer.outputs[0]):
            raise WeightsError(f"Slice {layer.outputs[-1]!r} does more than cut off the first row or column")
        return axis, layer.outputs[1]

    # -- steps

    def follower(self, blob: str, *kinds: str) -> Operation | None:
        """The only reader of `blob`, taken, where it is one of `kinds`."""
        readers = self.readers.get(blob, [])
        if len(readers) != 1 or readers[0].kind not in kinds:
            return None
        self.taken.add(id(readers[0]))
        return readers[0]

    def take(self, blob: str, *kinds: str) -> Operation:
        """The layer that makes `blob`, which must be one of `kinds`."""
        layer = self.makers[blob]
        if layer.kind not in kinds or id(layer) in self.taken:
            raise WeightsError(f"{layer.kind} {layer.name!r} is where an SSDLite has {' or '.join(kinds)}")
        self.inputs(layer, 1 if layer.kind not in ("Concat", "PriorBox") else len(layer.inputs))
        self.taken.add(id(layer))
        return layer

    def only(self, kind: str) -> Operation:
        layers = [layer for layer in self.layers if layer.kind == kind]
        if len(layers) != 1 or not layers[0].outputs:
            raise WeightsError(f"the graph has {len(layers)} layers {kind}, expected 1: it is no SSDLite detector")
        self.taken.add(id(layers[0]))
        return layers[0]

    def inputs(self, layer: Operation, count: int) -> tuple[str, ...]:
        if len(layer.inputs) != count or not layer.inputs:
            raise WeightsError(f"{layer.kind} {layer.name!r} reads {len(layer.inputs)} blobs, expected {count or 1}")
        return layer.inputs

    def root(self, blob: str) -> str:
        """The blob that `blob` is a copy of."""
        while self.makers[blob].kind == "Split":
            blob = self.makers[blob].inputs[0]
        return blob


def _padding(layer: Operation, axis: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before, and outputs, along one axis of `size`."""
    before = layer.integer(4, 0)
    before = layer.integer(14, before) if axis == 0 else before
    reach = (kernel(layer)[axis] - 1) * dilation
    if before == _OPEN:  # the output is ceil(size / stride), and odd zeros come after
        same = ConvSpec("", None, 1, 1, kernel=kernel(layer)[axis], stride=stride, dilation=dilation, padding="same")
        return same.pads(size)[0], same.out_size(size)
    after = layer.integer((16, 15)[axis], before)
    if min(before, after) < 0 or max(before, after) > 64 or layer.params.get(18, 0):
        raise WeightsError(f"{layer.kind} {layer.name!r} has a padding that is not known: {before}, {after}")
    return before, (size + before + after - reach - 1) // stride + 1


def _two(layer: Operation, columns: int, rows: int, default: int) -> tuple[int, int]:
    """A parameter along rows and along columns; the one for rows is that for columns where it is not given."""
    along_columns = layer.integer(columns, default)
    return layer.integer(rows, along_columns), along_columns


def _fused(layer: Operation) -> Activation:
    kind = layer.integer(9, 0)
    if kind == 3:
        return _clipped(layer, layer.lists.get(10, ()))
    if kind not in _ACTIVATIONS:
        raise WeightsError(f"{layer.kind} {layer.name!r} ends in activation {kind}, which no MobileNetV2 has")
    return _ACTIVATIONS[kind]


def _own(layer: Operation) -> Activation:
    """The activation of a layer of its own."""
    if layer.kind == "Clip":
        return _clipped(layer, (layer.params.get(0, -math.inf), layer.params.get(1, math.inf)))
    if layer.params.get(0, 0):
        raise WeightsError(f"ReLU {layer.name!r} leaks, which no MobileNetV2's does")
    return "relu"


def _clipped(layer: Operation, limits: tuple[float, ...]) -> Activation:
    if limits != (0, 6):
        shown = " to ".join(f"{limit:g}" for limit in limits)
        raise WeightsError(f"{layer.kind} {layer.name!r} is clipped from {shown}, where a MobileNetV2 has 0 to 6")
    return "relu6"
