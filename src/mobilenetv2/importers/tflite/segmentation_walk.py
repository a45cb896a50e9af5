"""The parts of a Mobile DeepLabv3, found by walking a TFLite graph along its data.

The graph ends in its logits, in these resized to the picture, or in the number of the largest one. The head is found
backwards from there, the backbone forwards from the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.segmenter import Segmenter
from mobilenetv2.importers.tflite.graph import Graph
from mobilenetv2.importers.tflite.heads_walk import HeadsWalk
from mobilenetv2.importers.tflite.walk import (
    ARITHMETIC,
    CONVOLUTIONS,
    POOLS,
    RELUS,
    SAME_NUMBERS,
    SAME_ORDER,
    Pixels,
)

_RESIZE, _ARG_MAX = "RESIZE_BILINEAR", "ARG_MAX"
_KNOWN = {*SAME_NUMBERS, *SAME_ORDER, *ARITHMETIC, *CONVOLUTIONS, *POOLS, *RELUS}
_KNOWN |= {"PAD", "CONCATENATION", "SOFTMAX", _RESIZE, _ARG_MAX}


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the graph shows."""

    segmenter: Segmenter
    pixels: Pixels
    storage: str


def recognises(graph: Graph) -> bool:
    """Whether the graph is meant to segment: it has one output, and resizes maps."""
    kinds = {operator.kind for operator in graph.operators}
    return len(graph.outputs) == 1 and _RESIZE in kinds and "CONCATENATION" in kinds


def find_segmenter(graph: Graph) -> Found:
    """The parts of the network. Raises `WeightsError` where the graph is something else, naming what does not fit."""
    if unknown := sorted({operator.kind for operator in graph.operators} - _KNOWN):
        raise WeightsError(f"the graph has operators {', '.join(unknown)}, which no Mobile DeepLabv3 has")
    if len(graph.inputs) != 1:
        raise WeightsError(f"the graph has {len(graph.inputs)} inputs, expected 1")
    return _SegmentationWalk(graph, None).found()


class _SegmentationWalk(HeadsWalk):
    what = "a Mobile DeepLabv3"

    def found(self) -> Found:
        corners: set[bool] = set()
        tensor = self.before(self.graph.outputs[0], corners, _ARG_MAX, "SOFTMAX", _RESIZE)
        logits = self.maker(tensor, "CONV_2D")
        project = self.maker(logits.inputs[0], "CONV_2D")
        ends = [self.before(part, corners, _RESIZE) for part in self.concatenated(project.inputs[0])]
        branches = [self.maker(end, "CONV_2D") for end in ends]
        self.taken.update(map(id, (logits, project, *branches)))
        starts = [self.source(branch.inputs[0]) for branch in branches]
        pools = [i for i, start in enumerate(starts) if (maker := self.makers.get(start)) and maker.kind in POOLS]
        if len(pools) != 1:
            raise WeightsError(f"the head has {len(pools)} branches on the mean of the map, expected 1")
        pool = self.makers[starts[pools[0]]]
        starts[pools[0]] = self.source(pool.inputs[0])
        self.taken.add(id(pool))
        path, shortcuts, _, pixels = self.path()
        last, grid = self.root(self.here), self.size
        if any(self.root(start) != last for start in starts):
            raise WeightsError("the head's branches do not all read the last block's map")
        self.taken.discard(id(pool))
        self.pool()
        places = [(1, 1) if i == pools[0] else grid for i in range(len(branches))]
        layers = tuple(self.chain([branch], place)[0] for branch, place in zip(branches, places, strict=True))
        projected, ended = self.chain([project, logits], grid)
        self.check_all_taken("the network for segmentation")
        # TensorFlow's DeepLab, where the graph does not resize its logits
        align_corners = corners.pop() if len(corners) == 1 else True
        segmenter = Segmenter(
            tuple(layer for layer, _ in path), shortcuts, layers, pools[0], projected, ended, align_corners
        )
        return Found(segmenter, pixels, ", ".join(sorted(self.storages)))

    def before(self, tensor: int, corners: set[bool], *kinds: str) -> int:
        """The tensor that steps of `kinds` make `tensor` of; `corners` gets what those that resize say of them."""
        tensor = self.source(tensor)
        while (maker := self.makers.get(tensor)) is not None and maker.kind in kinds:
            shapes = [self.graph.tensors[at].shape[1:3] for at in (maker.inputs[0], maker.outputs[0])]
            if maker.kind == _RESIZE and (1, 1) not in shapes and shapes[0] != shapes[1]:
                corners.add(bool(maker.options.get("align_corners", False)))
            for other in maker.inputs[1:]:
                self.source(other)
            self.taken.add(id(maker))
            tensor = self.source(maker.inputs[0])
        return tensor
