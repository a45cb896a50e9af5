"""The parts of a MobileNetV2 classifier, found by walking a TFLite graph along its data.

Nothing is known by name: what a convolution is follows from its place. Every operator is taken once; one that
does not fit there, or that is left over, is an error that names it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.parts import Block, Body, Layer
from mobilenetv2.importers.tflite.graph import Graph, Operator, Tensor
from mobilenetv2.spec import Activation, ConvSpec

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]

DEFAULT_SIZE = 224  # where the graph leaves its input's size open
SAME_NUMBERS = ("QUANTIZE", "DEQUANTIZE")  # another storage of the same real numbers
SAME_ORDER = ("RESHAPE", "SQUEEZE")
ARITHMETIC = ("MUL", "DIV", "ADD", "SUB")
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("MEAN", "AVERAGE_POOL_2D")
RELUS: dict[str, Activation] = {"NONE": "linear", "RELU": "relu", "RELU6": "relu6"}
_KNOWN = {*SAME_NUMBERS, *SAME_ORDER, *ARITHMETIC, *CONVOLUTIONS, *POOLS, *RELUS}
_KNOWN |= {"PAD", "FULLY_CONNECTED", "SOFTMAX"}
_SIX = (5.95, 6.05)  # a quantised range that ends in here stands for ReLU6


@dataclass(frozen=True, slots=True)
class Pixels:
    """What the first convolution reads: (pixel - mean) / std, with pixels 0..255, of a picture of `size`."""

    size: Pair
    mean: tuple[float, ...]
    std: tuple[float, ...]
    said: bool  # whether the file says what mean and std are


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The parts in their order."""

    body: Body
    head: Layer
    pixels: Pixels
    storage: str  # of the weights: "uint8 per tensor", "int8 per channel", "float16", "float32"


def find_network(graph: Graph, *, size: int | None = None) -> Network:
    """The parts of the classifier; `size` counts where the graph leaves its input's size open.

    Raises `WeightsError` where the graph is something else, naming the operator or tensor.
    """
    unknown = sorted({operator.kind for operator in graph.operators} - _KNOWN)
    if unknown or len(graph.outputs) != 1 or len(graph.inputs) != 1:
        counts = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        what = f"operators {', '.join(unknown)}" if unknown else counts
        raise WeightsError(
            f"the graph has {what}: of TFLite files MobileNetV2 classifiers and SSDLite detectors can be imported, "
            "and Mobile DeepLabv3 networks, no others"
        )
    return Walk(graph, size).network()


class Walk:
    """Where a walk along the graph is, and which operators it has taken."""

    def __init__(self, graph: Graph, size: int | None) -> None:
        self.graph = graph
        self.makers = {index: operator for operator in graph.operators for index in operator.outputs}
        self.taken: set[int] = set()  # ids of operators
        self.storages: set[str] = set()
        self.here = graph.inputs[0]  # the tensor that has been reached
        shape = graph.tensors[self.here].shape
        if len(shape) != 4:
            raise WeightsError(f"the graph's input is {list(shape)}, expected [batch, rows, columns, channels]")
        rows, columns = shape[1:3]
        if rows <= 1 or columns <= 1:  # converters write 1 or -1 where it is open
            rows = columns = size or DEFAULT_SIZE
        if rows != columns:
            raise WeightsError(f"the graph's input is {rows} x {columns} pixels: only square ones can be imported")
        self.size: Pair = (rows, columns)  # of the map that has been reached

    def network(self) -> Network:
        stem, pixels = self.stem()
        blocks: list[Block] = []
        while True:
            block_input = self.here
            first = self.convolution()
            if not first.depthwise and self.ahead().kind in POOLS:
                break
            layers = [first] if first.depthwise else [first, self.convolution()]
            layers.append(self.convolution())
            if not layers[-2].depthwise or layers[-1].depthwise:
                raise WeightsError(f"{layers[-1].name!r} is not at a place where a MobileNetV2 has a projection")
            blocks.append(Block(tuple(layers), self.shortcut(block_input)))
        self.pool()
        head = self.classifier()
        self.finish()
        if head.weight.shape[1] != first.outputs:
            raise WeightsError(f"{head.name!r} reads {head.weight.shape[1]} features, but there are {first.outputs}")
        return Network(Body(stem, tuple(blocks), first), head, pixels, ", ".join(sorted(self.storages)))

    def stem(self) -> tuple[Layer, Pixels]:
        """The first convolution, and what it reads."""
        size = self.size
        mean, std, said = self.normalisation()
        layer = self.convolution()
        means, stds = (tuple(float(v) for v in np.broadcast_to(value, layer.weight.shape[1])) for value in (mean, std))
        return layer, Pixels(size, means, stds, said)

    def normalisation(self) -> tuple[Array, Array, bool]:
        """Mean and std of the pixels, and whether the file says so; arithmetic before the stem is taken."""
        tensor = self.graph.tensors[self.here]
        mean, std = np.zeros(1), np.ones(1)
        quantised = tensor.dtype in ("uint8", "int8") and tensor.scales.size == 1 and tensor.scales[0] > 0
        if quantised:  # a uint8 input stores the pixel, an int8 input the pixel - 128
            mean, std = tensor.zero_points + (128 if tensor.dtype == "int8" else 0), 1 / tensor.scales
        elif tensor.dtype != "float32":
            raise WeightsError(f"the graph's input is {tensor.dtype}, expected float32 or quantised uint8 or int8")
        steps = 0
        while (operator := self.ahead()).kind in ARITHMETIC:
            at = self.here
            self.step(*ARITHMETIC)
            value = self.constant(operator.inputs[1]).values().reshape(-1)
            if operator.inputs[0] != at or value.size not in (1, tensor.shape[3]) or operator.activation != "NONE":
                raise WeightsError(f"{operator.kind} before the first convolution is not a normalisation of pixels")
            if operator.kind in ("MUL", "DIV"):
                if not value.all():
                    raise WeightsError(f"{operator.kind} by 0 comes before the first convolution")
                std = std / value if operator.kind == "MUL" else std * value
            else:
                mean = mean - std * value if operator.kind == "ADD" else mean + std * value
            steps += 1
        if not quantised and not steps:
            mean, std = np.full(1, 127.5), np.full(1, 127.5)
        elif not quantised and np.abs((255 - mean) / std).max() > 20:  # then it is meant for 0..1
            mean, std = 255 * mean, 255 * std
        return mean, std, bool(quantised or steps)

    def convolution(self) -> Layer:
        operator = self.step("PAD", *CONVOLUTIONS)
        added: tuple[Pair, Pair] = ((0, 0), (0, 0))
        if operator.kind == "PAD":
            added = self.padding(operator)
            operator = self.step(*CONVOLUTIONS)
        return self.layer(operator, added)

    def padding(self, operator: Operator) -> tuple[Pair, Pair]:
        zeros = self.constant(operator.inputs[1]).values() if len(operator.inputs) == 2 else np.zeros(0)
        if zeros.shape != (4, 2) or zeros[[0, 3]].any() or zeros.min() < 0 or zeros.max() > 64:
            raise WeightsError(f"PAD {self.name()!r} does more than add rows and columns of zeros")
        (top, bottom), (left, right) = zeros[1:3].astype(int).tolist()
        return ((top, bottom), (left, right))

    def layer(self, operator: Operator, added: tuple[Pair, Pair]) -> Layer:
        name, depthwise = self.name(), operator.kind == "DEPTHWISE_CONV_2D"
        if len(operator.inputs) < 2:
            raise WeightsError(f"{operator.kind} {name!r} has no weights")
        stored = self.constant(operator.inputs[1])
        weight = stored.values()
        if weight.ndim == 2 and operator.kind == "FULLY_CONNECTED":
            weight = weight[:, None, None, :]
        if weight.ndim != 4 or not weight.size or (depthwise and weight.shape[0] != 1):
            raise WeightsError(f"the weights {stored.name!r} are {list(stored.shape)}, which does not fit")
        # [out, rows, columns, in], depthwise [1, rows, columns, out] -> [out, in / groups, rows, columns]
        weight = weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        bias = np.zeros(weight.shape[0])
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self.constant(operator.inputs[2]).values()
        if bias.shape != weight.shape[:1]:
            raise WeightsError(f"{operator.kind} {name!r} has {weight.shape[0]} outputs and {bias.size} biases")
        self.storages.add(_storage(stored))
        in_size = self.size
        pads = (self.zeros(operator, weight, added, 0), self.zeros(operator, weight, added, 1))
        activations, clipped_at = self.activations(operator)
        return Layer(
            name, depthwise, weight, bias, operator.stride, operator.dilation, in_size, pads, activations, clipped_at
        )

    def zeros(self, operator: Operator, weight: Array, added: tuple[Pair, Pair], axis: int) -> Pair:
        """Zeros that are read before and after along one axis; `self.size` becomes the output's there."""
        size, kernel = self.size[axis], weight.shape[2 + axis]
        stride, dilation = operator.stride[axis], operator.dilation[axis]
        before, after = added[axis]
        padded, reach = size + before + after, (kernel - 1) * dilation
        if min(stride, dilation) < 1 or max(stride, dilation) > 64 or operator.padding not in ("SAME", "VALID"):
            raise WeightsError(f"{operator.kind} {self.name()!r} has a stride, dilation or padding that is not known")
        if operator.padding == "SAME":
            same = ConvSpec("", None, 1, 1, kernel=kernel, stride=stride, dilation=dilation, padding="same")
            before += same.pads(padded)[0]
            out = same.out_size(padded)
        else:
            out = (padded - reach - 1) // stride + 1
        if out < 1:
            raise WeightsError(f"{operator.kind} {self.name()!r} has a kernel larger than its input")
        self.size = (out, self.size[1]) if axis == 0 else (self.size[0], out)
        return before, max((out - 1) * stride + reach + 1 - size - before, 0)

    def activations(self, operator: Operator) -> tuple[frozenset[Activation], float]:
        """The activations that give what the graph gives: fused, as a step of its own, or by the output's range."""
        fused = operator.activation
        if fused == "NONE" and [way.kind for way, _ in self.after(self.here)] in (["RELU"], ["RELU6"]):
            fused = self.step("RELU", "RELU6").kind
        low, high = self.graph.tensors[self.here].real_range() or (-math.inf, math.inf)
        if fused not in RELUS:
            raise WeightsError(f"{operator.kind} {self.name()!r} is followed by {fused}, which is not known")
        found: set[Activation] = {RELUS[fused]}
        if fused == "RELU" and high <= _SIX[1]:
            found.add("relu6")
        if fused == "NONE" and low >= 0 and _SIX[0] <= high <= _SIX[1]:
            found.add("relu6")
        return frozenset(found), high

    def shortcut(self, block_input: int) -> bool:
        ways = self.after(self.here)
        if [operator.kind for operator, _ in ways] != ["ADD"]:
            return False
        operator = ways[0][0]
        here = self.root(self.here)
        if sorted(map(self.root, operator.inputs)) != sorted((self.root(block_input), here)):
            raise WeightsError(f"ADD after {self.name()!r} does not add the block's own input")
        if operator.activation != "NONE":
            raise WeightsError(
                f"ADD after {self.name()!r} is followed by {operator.activation}: a MobileNetV2's is not"
            )
        self.taken.add(id(operator))
        self.here = operator.outputs[0]
        return True

    def pool(self) -> None:
        operator = self.step(*POOLS)
        if operator.kind == "MEAN":
            axes = self.constant(operator.inputs[-1]).values().reshape(-1)
            whole = sorted(axes % 4) == [1, 2]
        else:
            once = operator.padding == "VALID" or all(s >= n for s, n in zip(operator.stride, self.size, strict=True))
            whole = operator.window == self.size and once and operator.activation == "NONE"
        if not whole:
            raise WeightsError(f"{operator.kind} {self.name()!r} is not the mean over the whole map")
        self.size = (1, 1)

    def classifier(self) -> Layer:
        while self.ahead().kind in SAME_ORDER:
            self.step(*SAME_ORDER)
        operator = self.step("FULLY_CONNECTED", "CONV_2D")
        head = self.layer(operator, ((0, 0), (0, 0)))
        if head.weight.shape[2:] != (1, 1) or "linear" not in head.activations:
            raise WeightsError(f"{operator.kind} {head.name!r} is not a linear layer over the features")
        return head

    def finish(self) -> None:
        """From the logits to the output there may be a SOFTMAX, and nothing may be left over."""
        while self.after(self.here):
            self.step(*SAME_ORDER, "SOFTMAX")
        if self.root(self.graph.outputs[0]) != self.root(self.here):
            raise WeightsError(
                f"the graph's output {self.graph.tensors[self.graph.outputs[0]].name!r} is not its logits"
            )
        self.check_all_taken("the classifier")

    def check_all_taken(self, what: str) -> None:
        """Raise `WeightsError` where an operator or a constant would be left out."""
        left = [operator for operator in self.graph.operators if id(operator) not in self.taken]
        if left:
            name = self.graph.tensors[left[0].outputs[0]].name
            raise WeightsError(f"the graph has more than {what}: {name!r} is not part of a MobileNetV2")
        unread = [
            tensor.name
            for index, tensor in enumerate(self.graph.tensors)
            if tensor.data is not None and index not in self.graph.consumers
        ]
        if unread:
            raise WeightsError(f"no operator reads the tensor {unread[0]!r} of the file: it would be left out")

    def after(self, tensor: int) -> list[tuple[Operator, int]]:
        """Who reads `tensor`, and as which tensor; steps that only store it in another way are taken."""
        found: list[tuple[Operator, int]] = []
        waiting = [tensor]
        while waiting:
            at = waiting.pop(0)
            for operator in self.graph.consumers.get(at, ()):
                if operator.kind in SAME_NUMBERS:
                    self.taken.add(id(operator))
                    waiting.append(operator.outputs[0])
                else:
                    found.append((operator, at))
        return found

    def root(self, tensor: int) -> int:
        """The tensor whose numbers `tensor` only stores in another way."""
        while tensor in self.makers and self.makers[tensor].kind in SAME_NUMBERS:
            tensor = self.makers[tensor].inputs[0]
        return tensor

    def ahead(self) -> Operator:
        """The operator that goes on from here; a shortcut that begins here is passed over."""
        ways = [way for way in self.after(self.here) if id(way[0]) not in self.taken]
        if len(ways) > 1:
            ways = [way for way in ways if way[0].kind != "ADD"]
        if len(ways) != 1:
            raise WeightsError(f"the graph {'branches' if ways else 'ends'} at {self.name()!r}: it is no MobileNetV2")
        return ways[0][0]

    def step(self, *kinds: str) -> Operator:
        """Take the next operator, which must be one of `kinds`, and go on to its output."""
        operator = self.ahead()
        if operator.kind not in kinds or id(operator) in self.taken:
            raise WeightsError(f"{operator.kind} follows {self.name()!r}, where a MobileNetV2 has {' or '.join(kinds)}")
        if self.root(operator.inputs[0]) != self.root(self.here):
            raise WeightsError(f"{operator.kind} after {self.name()!r} reads it as its weights: it is no MobileNetV2")
        self.taken.add(id(operator))
        self.here = operator.outputs[0]
        return operator

    def constant(self, index: int) -> Tensor:
        """The constant `index`, looked up behind a DEQUANTIZE (float16 weights are stored so)."""
        if index < 0:
            raise WeightsError(f"the TFLite file is damaged: {self.name()!r} lacks an input")
        maker = self.makers.get(index)
        if maker is not None and maker.kind == "DEQUANTIZE":
            self.taken.add(id(maker))
            index = maker.inputs[0]
        return self.graph.tensors[index]

    def name(self) -> str:
        return self.graph.tensors[self.here].name


def _storage(weights: Tensor) -> str:
    if not weights.scales.size:
        return weights.dtype
    return f"{weights.dtype} per {'tensor' if weights.scales.size == 1 else 'channel'}"
