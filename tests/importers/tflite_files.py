"""Writes small TFLite files of known weights, as converters do, for the tests of their import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite
from flatbuffers import flexbuffers

from mobilenetv2 import spec
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import ConvSpec

Array = npt.NDArray[Any]
Storage = Literal["float32", "float16", "uint8", "int8"]

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
_ACTIVATIONS = {"linear": 0, "relu": 1, "relu6": 3}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "SUB": "SubOptions",
    "DIV": "DivOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}


@dataclass
class TensorRecord:
    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    values: Array | None = None
    scales: Array = field(default_factory=lambda: np.zeros(0))
    zero_points: Array = field(default_factory=lambda: np.zeros(0))
    axis: int = 0


@dataclass
class OperatorRecord:
    kind: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, int]
    custom: dict[str, float] = field(default_factory=dict[str, float])  # what a custom operator is told


@dataclass
class Author:
    """A graph as records that a test may change before `to_bytes` writes them."""

    tensors: list[TensorRecord] = field(default_factory=list)
    operators: list[OperatorRecord] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    known: dict[str, Array] = field(default_factory=dict)  # the real weights of the file, under our tensors' names
    storage: Storage = "float32"  # of the weights
    explicit_padding: bool = False  # PAD and VALID for stride 2, as Keras writes it

    @property
    def activations(self) -> Storage:
        """How computed tensors are stored."""
        return self.storage if self.storage in ("uint8", "int8") else "float32"

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str = "float32", **fields: Any) -> int:
        self.tensors.append(TensorRecord(name, shape, dtype, **fields))
        return len(self.tensors) - 1

    def constant(self, name: str, values: Array, **fields: Any) -> int:
        return self.tensor(name, values.shape, values.dtype.name, values=values, **fields)

    def custom(self, kind: str, inputs: list[int], outputs: list[int], told: dict[str, float]) -> None:
        """An operator that is not in the schema."""
        self.operators.append(OperatorRecord(kind, inputs, outputs, {}, told))

    def operator(self, kind: str, inputs: list[int], output: int, **options: int) -> int:
        self.operators.append(OperatorRecord(kind, inputs, [output], options))
        return output

    def activation(self, name: str, shape: tuple[int, ...], kind: str = "linear") -> int:
        """A tensor that is computed."""
        if self.activations == "float32":
            return self.tensor(name, shape)
        low = {"uint8": 0, "int8": -128}[self.activations]
        scale, zero_point = (6 / 255, low) if kind == "relu6" else (0.1, low + 128)
        scales, zero_points = np.array([scale]), np.array([zero_point])
        return self.tensor(name, shape, self.activations, scales=scales, zero_points=zero_points)

    def convolution(self, model: ModelFile, x: int, conv: ConvSpec, side: int) -> tuple[int, int]:
        """`conv` of `model`, its batch norm folded, on a square map of `side`: the output and its side."""
        pads = conv.pads(side)
        explicit = conv.stride == 2 and self.explicit_padding
        if explicit:
            amounts = np.array([[0, 0], pads, pads, [0, 0]], np.int32)
            amounts[1:3] = 1 if conv.padding == "symmetric" else amounts[1:3]
            padded = self.activation(f"{conv.name}/pad", (1, side + 2, side + 2, conv.in_channels))
            x = self.operator("PAD", [x, self.constant(f"{conv.name}/amounts", amounts)], padded)
        depthwise = conv.groups > 1
        weight, bias = folded(model, conv)
        # [out, in / groups, h, w] -> [out, h, w, in], depthwise [1, h, w, out]
        layout = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        weights = _stored(self, conv.name, weight, self.storage, layout, axis=3 if depthwise else 0)
        biases = _stored_bias(self, conv.name, bias, self.storage)
        side = conv.out_size(side)
        out = self.activation(conv.name, (1, side, side, conv.out_channels), conv.activation)
        self.operator(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, weights, biases], out,
            Padding=int(explicit), StrideH=conv.stride, StrideW=conv.stride,
            DilationHFactor=conv.dilation, DilationWFactor=conv.dilation,
            FusedActivationFunction=_ACTIVATIONS[conv.activation],
        )  # fmt: skip
        return out, side

    def to_bytes(self) -> bytes:
        b = flatbuffers.Builder(1 << 20)
        kinds = list(dict.fromkeys(operator.kind for operator in self.operators))
        datas = [tensor.values for tensor in self.tensors]
        buffers = [_table(b, "Buffer")]
        for data in datas:
            vector = None if data is None else b.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
            buffers.append(_table(b, "Buffer", Data=vector))
        tensors = [self._tensor(b, i, tensor) for i, tensor in enumerate(self.tensors)]
        operators = [self._operator(b, kinds, operator) for operator in self.operators]
        codes = [_code(b, kind) for kind in kinds]
        graph = _table(
            b, "SubGraph", Tensors=_offsets(b, tensors), Inputs=_integers(b, self.inputs),
            Outputs=_integers(b, self.outputs), Operators=_offsets(b, operators),
        )  # fmt: skip
        model = _table(
            b, "Model", Version=3, OperatorCodes=_offsets(b, codes), Subgraphs=_offsets(b, [graph]),
            Buffers=_offsets(b, buffers),
        )  # fmt: skip
        b.Finish(model, file_identifier=b"TFL3")
        return bytes(b.Output())

    def _tensor(self, b: Any, index: int, tensor: TensorRecord) -> int:
        quantization = None
        if tensor.scales.size:
            scales = b.CreateNumpyVector(tensor.scales.astype(np.float32))
            zero_points = b.CreateNumpyVector(tensor.zero_points.astype(np.int64))
            quantization = _table(
                b, "QuantizationParameters", Scale=scales, ZeroPoint=zero_points, QuantizedDimension=tensor.axis
            )
        return _table(
            b, "Tensor", Shape=_integers(b, tensor.shape), Type=_TYPES[tensor.dtype], Buffer=index + 1,
            Name=b.CreateString(tensor.name), Quantization=quantization,
        )  # fmt: skip

    def _operator(self, b: Any, kinds: list[str], operator: OperatorRecord) -> int:
        options, options_type, custom = None, 0, None
        if operator.custom:
            told = flexbuffers.Dumps(operator.custom)
            custom = b.CreateNumpyVector(np.frombuffer(bytes(told), np.uint8))
        if operator.kind in _OPTIONS:
            options = _table(b, _OPTIONS[operator.kind], **operator.options)
            options_type = getattr(tflite.BuiltinOptions, _OPTIONS[operator.kind])
        return _table(
            b, "Operator", OpcodeIndex=kinds.index(operator.kind), Inputs=_integers(b, operator.inputs),
            Outputs=_integers(b, operator.outputs), BuiltinOptionsType=options_type, BuiltinOptions=options,
            CustomOptions=custom,
        )  # fmt: skip


def write_network(
    model: ModelFile,
    *,
    size: int = 96,
    storage: Storage = "float32",
    pixels: Storage = "float32",
    explicit_padding: bool = False,
    pool: str = "MEAN",
    fully_connected: bool = True,
) -> Author:
    """The classifier `model` as a converter would write it: batch norm folded, weights stored as `storage`.

    `pixels` is how the input is stored. `explicit_padding` writes PAD and VALID for stride 2, as Keras does.
    """
    a = Author(storage=storage, explicit_padding=explicit_padding)
    net = model.info.spec.backbone
    x = add_input(a, pixels, (1, size, size, net.in_channels))
    a.inputs = [x]
    if pixels != a.activations:
        other = a.activation("input/stored", a.tensors[x].shape)
        x = a.operator("DEQUANTIZE" if a.activations == "float32" else "QUANTIZE", [x], other)
    x, side = add_backbone(a, model, x, size, {})
    linear = spec.linear(model.info.spec)
    features = a.activation("features", (1, 1, 1, linear.in_features))
    if pool == "MEAN":
        a.operator("MEAN", [x, a.constant("axes", np.array([1, 2], np.int32))], features)
    else:
        a.operator(
            "AVERAGE_POOL_2D", [x], features, Padding=1, StrideH=1, StrideW=1, FilterHeight=side, FilterWidth=side
        )
    weight = model.tensors[f"{linear.name}.weight"][:, :, None, None]
    layout = (0, 1) if fully_connected else (0, 2, 3, 1)
    weights = _stored(a, linear.name, weight[:, :, 0, 0] if fully_connected else weight, storage, layout, axis=0)
    biases = _stored_bias(a, linear.name, model.tensors[f"{linear.name}.bias"], storage)
    logits = a.activation("logits", (1, linear.out_features))
    if fully_connected:
        a.operator("FULLY_CONNECTED", [features, weights, biases], logits, FusedActivationFunction=0)
    else:
        a.operator("CONV_2D", [features, weights, biases], logits, Padding=1, StrideH=1, StrideW=1)
        shape = a.constant("shape", np.array([1, linear.out_features], np.int32))
        logits = a.operator("RESHAPE", [logits, shape], a.activation("squeezed", (1, linear.out_features)))
    scores = a.activation("scores", (1, linear.out_features))
    a.outputs = [a.operator("SOFTMAX", [logits], scores)]
    return a


def add_backbone(
    a: Author, model: ModelFile, x: int, side: int, maps: dict[tuple[int | None, bool], tuple[int, int]]
) -> tuple[int, int]:
    """The backbone of `model` on `x`: the last map and its side; `maps` gets the others, by block and expansion."""
    net = model.info.spec.backbone
    x, side = a.convolution(model, x, spec.stem(net), side)
    for block in spec.blocks(net):
        before = x
        for conv in block.convolutions:
            x, side = a.convolution(model, x, conv, side)
            if conv is block.expand:
                maps[block.index, True] = x, side
        if block.shortcut == "bottleneck":
            added = a.activation(f"{block.name}add", (1, side, side, block.out_channels))
            x = a.operator("ADD", [before, x], added, FusedActivationFunction=0)
        maps[block.index, False] = x, side
    if spec.has_last(model.info.spec):
        x, side = maps[None, False] = a.convolution(model, x, spec.last(net), side)
    return x, side


def folded(model: ModelFile, conv: ConvSpec) -> tuple[Array, Array]:
    """Weight and bias of `conv` with its batch norm folded, in float64; as they are where it has none."""
    if conv.norm is None:
        return model.tensors[f"{conv.name}.weight"], model.tensors[f"{conv.name}.bias"].astype(np.float64)
    gamma, beta, mean, variance = (
        model.tensors[f"{conv.norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + spec.norm_eps(model.info.spec, conv))
    return model.tensors[f"{conv.name}.weight"] * scale[:, None, None, None], beta - mean * scale


def add_input(a: Author, pixels: Storage, shape: tuple[int, ...]) -> int:
    if pixels == "float32":
        return a.tensor("input", shape)
    zero_point = {"uint8": 128, "int8": 0}[pixels]
    return a.tensor("input", shape, pixels, scales=np.array([1 / 128]), zero_points=np.array([zero_point]))


def _stored(a: Author, name: str, weight: Array, storage: Storage, layout: tuple[int, ...], axis: int) -> int:
    """A constant of `weight`, transposed to `layout`, as `storage`; `a.known` gets the real numbers it stands for."""
    values = weight.transpose(layout)
    back = np.argsort(layout)
    if storage == "float32":
        a.known[f"{name}.weight"] = weight.astype(np.float32)
        return a.constant(f"{name}/weights", values.astype(np.float32))
    if storage == "float16":
        half = values.astype(np.float16)
        a.known[f"{name}.weight"] = half.astype(np.float32).transpose(back)
        stored = a.constant(f"{name}/weights", half)
        return a.operator("DEQUANTIZE", [stored], a.tensor(f"{name}/weights/float32", values.shape))
    if storage == "uint8":
        scale = np.float64(np.float32((values.max() - values.min()) / 255))
        zero_point = np.round(-values.min() / scale)
        q = np.clip(np.round(values / scale) + zero_point, 0, 255).astype(np.uint8)
        a.known[f"{name}.weight"] = ((q - zero_point) * scale).transpose(back).astype(np.float32)
        return a.constant(f"{name}/weights", q, scales=scale.reshape(1), zero_points=zero_point.reshape(1))
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.abs(values).max(axis=others, keepdims=True).astype(np.float32).astype(np.float64) / 128
    q = np.clip(np.round(values / scales), -127, 127).astype(np.int8)
    a.known[f"{name}.weight"] = (q * scales).transpose(back).astype(np.float32)
    zero_points = np.zeros(scales.size)
    return a.constant(f"{name}/weights", q, scales=scales.reshape(-1), zero_points=zero_points, axis=axis)


def _stored_bias(a: Author, name: str, bias: Array, storage: Storage) -> int:
    if storage in ("float32", "float16"):
        a.known[f"{name}.bias"] = bias.astype(np.float32)
        return a.constant(f"{name}/bias", bias.astype(np.float32))
    scales = np.linspace(1, 2, bias.size if storage == "int8" else 1).astype(np.float32).astype(np.float64) / 1024
    q = np.round(bias / scales).astype(np.int32)
    a.known[f"{name}.bias"] = (q * scales).astype(np.float32)
    return a.constant(f"{name}/bias", q, scales=scales, zero_points=np.zeros(scales.size))


def _table(b: Any, table: str, **fields: Any) -> int:
    getattr(tflite, f"{table}Start")(b)
    for name, value in fields.items():
        if value is not None:
            getattr(tflite, f"{table}Add{name}")(b, value)
    return getattr(tflite, f"{table}End")(b)


def _code(b: Any, kind: str) -> int:
    number = getattr(tflite.BuiltinOperator, kind, None)
    if number is None:
        return _table(b, "OperatorCode", DeprecatedBuiltinCode=32, BuiltinCode=32, CustomCode=b.CreateString(kind))
    return _table(b, "OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number)


def _integers(b: Any, values: Any) -> int:
    return b.CreateNumpyVector(np.array(values, np.int32))


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
