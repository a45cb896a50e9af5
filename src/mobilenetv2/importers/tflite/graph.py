"""What a TFLite file holds, as plain data: operators, tensors, and the real numbers behind quantised ones.

The schema comes from the `tflite` package; no runtime is needed. Format: the flatbuffer schema of TensorFlow
Lite (tensorflow/lite/schema/schema.fbs), file identifier "TFL3".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, limits
from mobilenetv2.errors import WeightsError

IDENTIFIER = b"TFL3"

_MOST_READ = 8  # times that the file's bytes may be read by its operators; real ones read each weight once
_MOST_OPTIONS = 100  # of a custom operator; TFLite_Detection_PostProcess has 11

_DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
_PADDING = {0: "SAME", 1: "VALID"}
_ACTIVATION = {0: "NONE", 1: "RELU", 3: "RELU6"}
# what reading damaged offsets in a flatbuffer raises
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of the graph. `data` is None for what is computed; scales are empty where it is not quantised.

    real = (stored - zero_point) x scale, with one scale, or one for each index along `axis`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: npt.NDArray[Any] | None
    scales: npt.NDArray[np.float64]
    zero_points: npt.NDArray[np.float64]
    axis: int

    def values(self) -> npt.NDArray[np.float64]:
        """The constant's real values in its shape. Raises `WeightsError` where it has none or they do not fit."""
        if self.data is None:
            raise WeightsError(f"tensor {self.name!r} has no values in the file")
        if self.data.size != np.prod(self.shape, dtype=np.float64):
            raise WeightsError(
                f"tensor {self.name!r} is {list(self.shape)} but has {self.data.size} values: the file is damaged"
            )
        stored = self.data.reshape(self.shape).astype(np.float64)
        if not self.scales.size:
            return stored
        return (stored - self._along_axis(self.zero_points)) * self._along_axis(self.scales)

    def real_range(self) -> tuple[float, float] | None:
        """The least and the greatest real number that a quantised tensor can hold; None where it is not quantised."""
        if self.scales.size != 1 or not self.dtype.startswith(("int", "uint")):
            return None
        limits = np.iinfo(self.dtype)
        zero_point, scale = float(self.zero_points[0]), float(self.scales[0])
        return (limits.min - zero_point) * scale, (limits.max - zero_point) * scale

    def _along_axis(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if values.size == 1:
            return values.reshape(())
        if not 0 <= self.axis < len(self.shape) or self.shape[self.axis] != values.size:
            raise WeightsError(
                f"tensor {self.name!r} is {list(self.shape)} but has {values.size} scales along axis {self.axis}"
            )
        return values.reshape([-1 if i == self.axis else 1 for i in range(len(self.shape))])


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the graph: tensors are indices into `Graph.tensors`, -1 where an optional one is absent."""

    kind: str  # the schema's name, such as CONV_2D; a custom operator has its own
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    padding: str = "SAME"
    activation: str = "NONE"
    stride: tuple[int, int] = (1, 1)  # rows, columns
    dilation: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of a custom operator, and of a resize


@dataclass(frozen=True, slots=True)
class Graph:
    operators: tuple[Operator, ...]  # in an order in which they can run
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    consumers: dict[int, tuple[Operator, ...]] = field(default_factory=dict[int, tuple[Operator, ...]])


def recognises(path: Path) -> bool:
    """Whether the file carries TFLite's identifier; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False


def read(path: Path) -> Graph:
    """The file's one graph. Raises `FileError`, or `WeightsError` where it is not a TFLite file or is damaged."""
    data = files.read_bytes(path, limit=limits.CHECKPOINT_BYTES)
    if data[4:8] != IDENTIFIER:
        raise WeightsError("not a TFLite file: its identifier TFL3 is missing")
    try:
        return _graph(data)
    except _DAMAGE as error:
        raise WeightsError(f"the TFLite file is damaged or cut short ({type(error).__name__}): get it again") from None


def _graph(data: bytes) -> Graph:
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    budget = _Budget(len(data))
    if model.SubgraphsLength() != 1:
        raise WeightsError(f"the file has {model.SubgraphsLength()} graphs, expected 1")
    graph = model.Subgraphs(0)
    assert graph is not None
    kinds = [
        _kind(model.OperatorCodes(i), budget) for i in range(_count(model.OperatorCodesLength(), "operator codes"))
    ]
    tensors = tuple(_tensor(model, graph.Tensors(i), budget) for i in range(_count(graph.TensorsLength(), "tensors")))
    operators = tuple(
        _operator(graph.Operators(i), kinds, budget) for i in range(_count(graph.OperatorsLength(), "operators"))
    )
    inputs, outputs = _indices(graph.InputsAsNumpy(), budget), _indices(graph.OutputsAsNumpy(), budget)
    readers: dict[int, list[Operator]] = {}
    for operator in operators:
        for index in dict.fromkeys(operator.inputs):
            readers.setdefault(index, []).append(operator)
    consumers = {index: tuple(found) for index, found in readers.items()}
    _check_order(operators, inputs)
    used = (*inputs, *outputs, *(i for operator in operators for i in (*operator.inputs, *operator.outputs)))
    if any(not -1 <= i < len(tensors) for i in used):
        raise WeightsError("the TFLite file is damaged: an operator names a tensor that is not there")
    read = (tensors[i].data for operator in operators for i in operator.inputs if i >= 0)
    if sum(values.nbytes for values in read if values is not None) > _MOST_READ * len(data):
        raise WeightsError("the TFLite file is damaged: its operators read the same weights again and again")
    return Graph(operators, tensors, inputs, outputs, consumers)


class _Budget:
    """How much of the file's lists is left to be read.

    They may lie on each other, so that 20,000 tensors share one list of a million scales: real files have each once.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = 2 * size

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise WeightsError("the TFLite file is damaged: its lists have more in all than the file")


def _check_order(operators: tuple[Operator, ...], inputs: tuple[int, ...]) -> None:
    """Each tensor is computed once, before it is read: then no walk along the data can go in a circle."""
    made, read_before = set(inputs), set[int]()
    for operator in operators:
        read_before.update(operator.inputs)
        if made & set(operator.outputs) or read_before & set(operator.outputs):
            raise WeightsError("the TFLite file is damaged: its operators are not in an order in which they can run")
        made.update(operator.outputs)


def _count(count: int, what: str) -> int:
    if count > limits.OPERATORS:
        raise WeightsError(f"the TFLite file says that it has {count} {what}: it is damaged")
    return count


def _kind(code: Any, budget: _Budget) -> str:
    import tflite

    # codes above 127 are in the newer field only
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if number == tflite.BuiltinOperator.CUSTOM:
        custom = code.CustomCode() or b"CUSTOM"
        budget.take(len(custom))
        return custom.decode(errors="replace")
    names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    return names.get(number, f"operator {number}")


def _tensor(model: Any, tensor: Any, budget: _Budget) -> Tensor:
    # where a converter merged steps it joined their names with ";"
    stored_name = tensor.Name() or b"?"
    budget.take(len(stored_name))
    name = stored_name.decode(errors="replace").split(";")[0][:100]
    if tensor.Sparsity() is not None:
        raise WeightsError(f"tensor {name!r} is stored sparsely: convert the network without sparsity")
    dtype = _DTYPES.get(tensor.Type(), f"of type {tensor.Type()}")
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if buffer.DataLength():
        raw: npt.NDArray[np.uint8] = buffer.DataAsNumpy()
        data = raw.view(dtype) if tensor.Type() in _DTYPES else raw
    scales = zero_points = np.zeros(0)
    quantization = tensor.Quantization()
    axis = 0
    if quantization is not None and quantization.ScaleLength():
        budget.take(4 * quantization.ScaleLength() + 8 * quantization.ZeroPointLength())
        scales = np.asarray(quantization.ScaleAsNumpy(), np.float64)
        zero_points = np.zeros(1)
        if quantization.ZeroPointLength():
            zero_points = np.asarray(quantization.ZeroPointAsNumpy(), np.float64)
        axis = quantization.QuantizedDimension()
        if not np.isfinite(scales).all() or (scales < 0).any():
            raise WeightsError(f"tensor {name!r} has a scale that is negative or not finite: the file is damaged")
    return Tensor(name, _indices(tensor.ShapeAsNumpy(), budget), dtype, data, scales, zero_points, axis)


def _operator(operator: Any, kinds: list[str], budget: _Budget) -> Operator:
    import tflite

    if operator.OpcodeIndex() >= len(kinds):
        raise WeightsError("the TFLite file is damaged: an operator has a code that is not there")
    kind = kinds[operator.OpcodeIndex()]
    inputs, outputs = _indices(operator.InputsAsNumpy(), budget), _indices(operator.OutputsAsNumpy(), budget)
    if not inputs or not outputs:
        raise WeightsError(f"the TFLite file is damaged: an operator {kind} without input or output")
    table = operator.BuiltinOptions()
    has_options: dict[str, Any] = {
        "CONV_2D": tflite.Conv2DOptions,
        "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
        "AVERAGE_POOL_2D": tflite.Pool2DOptions,
        "FULLY_CONNECTED": tflite.FullyConnectedOptions,
        "ADD": tflite.AddOptions,
        "SUB": tflite.SubOptions,
        "MUL": tflite.MulOptions,
        "DIV": tflite.DivOptions,
    }
    if kind == "RESIZE_BILINEAR" and table is not None:
        resize = tflite.ResizeBilinearOptions()
        resize.Init(table.Bytes, table.Pos)
        return Operator(kind, inputs, outputs, options={"align_corners": resize.AlignCorners()})
    if kind not in has_options or table is None:
        return Operator(kind, inputs, outputs, options=_custom_options(kind, operator, budget))
    options = has_options[kind]()
    options.Init(table.Bytes, table.Pos)
    activation = options.FusedActivationFunction()
    fields: dict[str, Any] = {"activation": _ACTIVATION.get(activation, f"activation {activation}")}
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D"):
        fields["padding"] = _PADDING.get(options.Padding(), f"padding {options.Padding()}")
        fields["stride"] = (options.StrideH(), options.StrideW())
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        fields["dilation"] = (options.DilationHFactor(), options.DilationWFactor())
    if kind == "AVERAGE_POOL_2D":
        fields["window"] = (options.FilterHeight(), options.FilterWidth())
    return Operator(kind, inputs, outputs, **fields)


def _custom_options(kind: str, operator: Any, budget: _Budget) -> dict[str, Any]:
    """What a custom operator is told, by name: the plain values of a FlexBuffer's map.

    Lists are left out: they may hold the same list many times, and that one another, without end in practice.
    """
    from flatbuffers import flexbuffers

    if not operator.CustomOptionsLength():
        return {}
    budget.take(operator.CustomOptionsLength())
    try:
        root: Any = flexbuffers.GetRoot(operator.CustomOptionsAsNumpy().tobytes())
        if not root.IsMap:
            return {}
        if len(options := root.AsMap) > _MOST_OPTIONS:
            raise WeightsError(f"{kind} has {len(options):,} options: the file is damaged")
        pairs = zip(options.Keys, options.Values, strict=True)
        return {key.Value: value.Value for key, value in pairs if value.IsNumeric or value.IsBool or value.IsString}
    except (*_DAMAGE, KeyError, NotImplementedError, RecursionError) as error:
        raise WeightsError(f"the options of {kind} cannot be read ({type(error).__name__})") from None


def _indices(values: Any, budget: _Budget) -> tuple[int, ...]:
    """A flatbuffer's vector of integers; the schema's accessors return 0 where it is absent."""
    if not isinstance(values, np.ndarray):
        return ()
    budget.take(values.nbytes)
    return tuple(values.tolist())
