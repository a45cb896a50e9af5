"""The weights in an ncnn `.bin` file, layer by layer, as the real numbers that they stand for.

A convolution's weights begin with a tag that says how they are stored: float32, float16, or int8 with a scale for each
output (the real number is stored / scale). Then come its bias and, where it is quantised, the scales of its weights,
one of its input and, in some files, one of its output: float32, without a tag (ncnn's modelbin.cpp, convolution.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, limits
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.ncnn.param import Operation

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
FLOAT16, INT8 = 0x01306B47, 0x000D4B38
FLOAT32 = (0, 0x0002C056)
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A convolution's numbers: `weight` [out, in / groups, kernel rows, kernel columns], `bias` [out]."""

    weight: Float32Array
    bias: Float32Array
    storage: str  # "float32", "float16" or "int8"


def read(path: Path, layers: Sequence[Operation]) -> dict[str, Weights]:
    """The weights of each convolution among `layers`, by the name of the blob that it makes.

    Raises `FileError`, and `WeightsError` where the file ends early, goes on after the last layer, or does not fit.
    """
    reader = _Reader(path, files.read_bytes(path, limit=limits.CHECKPOINT_BYTES))
    found = {layer.outputs[0]: _convolution(reader, layer) for layer in layers if layer.kind in CONVOLUTIONS}
    if left := len(reader.data) - reader.at:
        raise WeightsError(f"{path} has {left} bytes after the last layer's weights: it belongs to another .param")
    return found


def kernel(layer: Operation) -> tuple[int, int]:
    """Rows and columns of a convolution's kernel."""
    columns = layer.integer(1, 0)
    return layer.integer(11, columns), columns


class _Reader:
    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, count: int, dtype: str, layer: Operation) -> npt.NDArray[np.generic]:
        """The next `count` numbers; what follows them starts at a multiple of 4 bytes."""
        size = count * np.dtype(dtype).itemsize
        start, self.at = self.at, self.at + -(-size // 4) * 4
        if self.at > len(self.data):
            raise WeightsError(f"{self.path} ends within the weights of {layer.name!r}: it is cut off")
        return np.frombuffer(self.data, dtype, count, start)


def _convolution(reader: _Reader, layer: Operation) -> Weights:
    outputs, groups = layer.integer(0, 0), layer.integer(7, 1)
    rows, columns = kernel(layer)
    count, per_output = layer.integer(6, 0), outputs * rows * columns
    if min(outputs, rows, columns, groups, count) < 1 or count % per_output or outputs % groups:
        raise WeightsError(
            f"{layer.kind} {layer.name!r} has {count} weights, {outputs} outputs, {groups} groups and a kernel of "
            f"{rows} x {columns}, which do not fit each other"
        )
    tag = int(reader.take(1, "<u4", layer)[0])
    if tag in FLOAT32:
        stored, storage = reader.take(count, "<f4", layer), "float32"
    elif tag == FLOAT16:
        stored, storage = reader.take(count, "<f2", layer), "float16"
    elif tag == INT8:
        stored, storage = reader.take(count, "i1", layer), "int8"
    else:
        raise WeightsError(
            f"{reader.path}: the weights of {layer.name!r} begin with {tag:#010x}, which is no known storage: the file "
            "is damaged or belongs to another .param"
        )
    weight = stored.astype(np.float32).reshape(outputs, -1, rows, columns)
    bias = np.zeros(outputs, np.float32)
    if layer.integer(5, 0):
        bias = reader.take(outputs, "<f4", layer).astype(np.float32)
    if term := layer.integer(8, 0):
        scales = _scales(reader, layer, term, outputs, groups)
        if storage == "int8":  # an infinite scale marks an output whose weights are all zero
            weight = weight / scales.reshape(-1, 1, 1, 1)
    elif storage == "int8":
        raise WeightsError(f"{layer.kind} {layer.name!r} has int8 weights, but the .param tells of no scales (8=...)")
    return Weights(weight, bias, storage)


def _scales(reader: _Reader, layer: Operation, term: int, outputs: int, groups: int) -> Float32Array:
    """The scale of each output's weights; those of the input and of the output are passed over."""
    count = outputs if layer.kind == "Convolution" else groups if term % 100 == 1 else 1
    scales = reader.take(count, "<f4", layer).astype(np.float32)
    reader.take(2 if term > 100 else 1, "<f4", layer)
    if not (scales > 0).all():
        raise WeightsError(
            f"{reader.path}: a scale of {layer.name!r} is not above 0: the file is damaged or belongs to another .param"
        )
    return np.repeat(scales, outputs // count)
