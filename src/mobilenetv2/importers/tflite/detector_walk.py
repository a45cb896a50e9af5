"""The parts of an SSDLite detector, found by walking a TFLite graph along its data.

The heads are found backwards from the outputs, the backbone and the extra maps forwards from the input. A graph ends in
TFLite_Detection_PostProcess, which holds the anchors, or in the boxes and scores that such an operator would read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.detector import Detector
from mobilenetv2.importers.parts import Layer, Pair, boxes_xy_first
from mobilenetv2.importers.tflite.graph import Graph, Operator
from mobilenetv2.importers.tflite.heads_walk import HeadsWalk
from mobilenetv2.importers.tflite.walk import (
    ARITHMETIC,
    CONVOLUTIONS,
    RELUS,
    SAME_NUMBERS,
    SAME_ORDER,
    Pixels,
)
from mobilenetv2.spec import Score, ssdlite_anchors
from mobilenetv2.spec.ssdlite import Anchors

Array = npt.NDArray[np.float64]

POSTPROCESS = "TFLite_Detection_PostProcess"
_SCORES: dict[str, Score] = {"LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}
_KNOWN = {*SAME_NUMBERS, *SAME_ORDER, *ARITHMETIC, *CONVOLUTIONS, *RELUS, *_SCORES, "PAD", "CONCATENATION", POSTPROCESS}
_NEAR = 1e-4  # of the picture: what anchors in float32 may differ from their formula


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the graph shows; `head` are the fields of `SSDLite` that convolutions do not."""

    detector: Detector
    head: dict[str, Any]
    pixels: Pixels
    storage: str
    notes: list[str]


def recognises(graph: Graph) -> bool:
    """Whether the graph is meant to detect: it ends in that operator, or in two tensors that were put together."""
    kinds = {operator.kind for operator in graph.operators}
    return POSTPROCESS in kinds or (len(graph.outputs) == 2 and "CONCATENATION" in kinds)


def find_detector(graph: Graph) -> Found:
    """The parts of the detector. Raises `WeightsError` where the graph is something else, naming what does not fit."""
    if unknown := sorted({operator.kind for operator in graph.operators} - _KNOWN):
        raise WeightsError(f"the graph has operators {', '.join(unknown)}, which no SSDLite of MobileNetV2 has")
    if len(graph.inputs) != 1:
        raise WeightsError(f"the graph has {len(graph.inputs)} inputs, expected 1")
    return _DetectorWalk(graph, None).found()


class _DetectorWalk(HeadsWalk):
    what = "an SSDLite"

    def found(self) -> Found:
        boxes, scores, post = self.ends()
        score, scores = self.score(scores)
        class_heads = [self.head(part) for part in self.concatenated(scores)]
        box_heads = [self.head(part) for part in self.concatenated(boxes)]
        starts = [start for start, _ in box_heads]
        if [start for start, _ in class_heads] != starts:
            raise WeightsError("the heads for classes do not read the maps that those for boxes read")
        path, shortcuts, places, pixels = self.path()
        for start in starts:
            if start not in places:
                raise WeightsError(f"a head reads {self.graph.tensors[start].name!r}, which is no map of the backbone")
        maps = [places[start] for start in starts]
        grids = [path[place][1] for place in maps]
        classes, deltas = (
            tuple(self.chain(operators, grid) for (_, operators), grid in zip(heads, grids, strict=True))
            for heads in (class_heads, box_heads)
        )
        deltas = tuple((*chain[:-1], _xy_first(chain[-1])) for chain in deltas)
        notes: list[str] = []
        counts = [chain[-1].outputs // 4 for chain in deltas]
        anchors = self.anchors(post, grids, counts, notes)
        outputs = classes[0][-1].outputs // max(counts[0], 1)
        self.check_all_taken("the detector")
        detector = Detector(tuple(layer for layer, _ in path), shortcuts, tuple(maps), classes, deltas)
        head = {"score": score, "anchors": anchors, **_options(post, outputs, notes)}
        return Found(detector, head, pixels, ", ".join(sorted(self.storages)), notes)

    def ends(self) -> tuple[int, int, Operator | None]:
        """The tensors of boxes and of scores, and the operator that reads both."""
        outputs = self.graph.outputs
        for operator in self.graph.operators:
            if operator.kind == POSTPROCESS:
                if len(operator.inputs) != 3 or not set(map(self.root, outputs)) <= set(operator.outputs):
                    raise WeightsError(f"{POSTPROCESS} does not end the graph, or has no anchors")
                self.taken.add(id(operator))
                return operator.inputs[0], operator.inputs[1], operator
        fours = [self.graph.tensors[tensor].shape[-1:] == (4,) for tensor in outputs]
        boxes, scores = outputs if fours[0] else outputs[::-1]
        return boxes, scores, None

    def score(self, tensor: int) -> tuple[Score, int]:
        maker = self.makers.get(self.source(tensor))
        if maker is None or maker.kind not in _SCORES:
            return "sigmoid", tensor
        self.taken.add(id(maker))
        return _SCORES[maker.kind], maker.inputs[0]

    def head(self, tensor: int) -> tuple[int, list[Operator]]:
        """The map that a head reads, and the head's convolutions in their order."""
        operators = [self.maker(tensor, "CONV_2D")]
        self.taken.add(id(operators[0]))
        start = self.source(operators[0].inputs[0])
        before = self.makers.get(start)
        if before is not None and before.kind in RELUS:
            before = self.makers.get(self.root(before.inputs[0]))
        if before is not None and before.kind == "DEPTHWISE_CONV_2D":
            self.taken.add(id(before))
            operators.insert(0, before)
            start = self.source(before.inputs[0])
        return start, operators

    def anchors(
        self, post: Operator | None, grids: Sequence[Pair], counts: Sequence[int], notes: list[str]
    ) -> tuple[Anchors, ...]:
        """The shapes of each map's anchors; TensorFlow's own where the graph's are these."""
        usual = ssdlite_anchors(layers=len(grids))
        if [len(shapes) for shapes in usual] != list(counts):
            usual = ()
        if post is None:
            if not usual:
                raise WeightsError(f"the graph holds no anchors, and {list(counts)} in a cell are not TensorFlow's")
            notes.append("the file holds neither anchors nor the scales of boxes: they are taken for TensorFlow's")
            return usual
        stored = self.constant(post.inputs[2])
        near = max(_NEAR, float(stored.scales[0]) if stored.scales.size == 1 else 0)
        found = _shapes(stored.values(), grids, counts, near)
        return usual if usual and _largest_difference(found, usual) <= 2 * near else found


def _shapes(values: Array, grids: Sequence[Pair], counts: Sequence[int], near: float) -> tuple[Anchors, ...]:
    """(width, height) of each map's anchors out of all [A, 4]: centre y and x, height and width, 0..1."""
    cells = [rows * columns * count for (rows, columns), count in zip(grids, counts, strict=True)]
    if values.shape != (sum(cells), 4):
        raise WeightsError(f"the anchors are {list(values.shape)}, expected {[sum(cells), 4]}")
    result: list[Anchors] = []
    for (rows, columns), part in zip(grids, np.split(values, np.cumsum(cells)[:-1]), strict=True):
        grid = part.reshape(rows, columns, -1, 4)
        expected = grid.copy()
        expected[..., 0] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        expected[..., 1] = ((np.arange(columns) + 0.5) / columns)[:, None]
        expected[..., 2:] = np.median(grid[..., 2:], axis=(0, 1))
        if not np.abs(grid - expected).max() <= near:  # also where one is no number
            raise WeightsError("the anchors are not the same shapes in the middle of each cell")
        result.append(tuple((width, height) for height, width in expected[0, 0, :, 2:].tolist()))
    return tuple(result)


def _largest_difference(found: Sequence[Anchors], others: Sequence[Anchors]) -> float:
    return max(float(np.abs(np.array(a) - np.array(b)).max()) for a, b in zip(found, others, strict=True))


def _xy_first(layer: Layer) -> Layer:
    if layer.outputs % 4:
        raise WeightsError(f"{layer.name!r} has {layer.outputs} outputs for boxes, which is not 4 for each anchor")
    return dataclasses.replace(layer, weight=boxes_xy_first(layer.weight), bias=boxes_xy_first(layer.bias))


def _options(post: Operator | None, outputs: int, notes: list[str]) -> dict[str, Any]:
    """Classes, background, box coder and limits: what the last operator is told, else TensorFlow's."""
    if post is None:
        notes.append(f"{outputs} outputs: the first is taken for the background")
        return {"classes": outputs - 1, "background": "first"}
    told = post.options
    try:
        classes = int(told["num_classes"])
        coder = tuple(float(told[f"{name}_scale"]) for name in ("x", "y", "w", "h"))
        most = int(told.get("max_detections", 100))
        iou = float(told["nms_iou_threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{POSTPROCESS} lacks an option, or it is no number: {error}") from None
    if outputs - classes not in (0, 1):
        raise WeightsError(f"{POSTPROCESS} is for {classes} classes, but there are {outputs} scores")
    return {
        "classes": classes,
        "background": "first" if outputs > classes else "none",
        "coder": coder,
        "iou_threshold": iou,
        "most": most,
        "most_per_class": max(int(told.get("detections_per_class", 100)), most),
    }
