"""A model file's layers as the engine runs them: batch norm folded into its convolution, nothing else changed.

Folding is done in float64 and rounded once, when the weights are laid out. Weights keep the meaning of their axes here
([K, O] for products, [9, E] for depthwise); `pack` lays them out for a schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.model_file import ModelFile, Tensors
from mobilenetv2.spec import ConvSpec, LinearSpec

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Folded:
    """One convolution or linear layer ready to run: weight [K, O] ([9, E] for depthwise) and bias [O].

    Folded parts are float64 still, and rounded where they are stored.
    """

    weight: Array
    bias: Array


def fold(conv: ConvSpec, tensors: Tensors, bn_eps: float) -> Folded:
    """`conv` with its bias and batch norm as one weight and one bias.

    The weight is [kernel x kernel x C / groups, O], rows in the order (row, column, channel): the order in which
    an NHWC map is read.
    """
    weight = tensors[f"{conv.name}.weight"]
    bias = tensors[f"{conv.name}.bias"].astype(np.float64) if conv.bias else np.zeros(conv.out_channels)
    if conv.norm is not None:
        scale, shift, mean, variance = (tensors[f"{conv.norm}.{part}"].astype(np.float64) for part in spec.NORM_PARTS)
        scale = scale / np.sqrt(variance + bn_eps)
        weight = weight * scale[:, None, None, None]  # float64
        bias = (bias - mean) * scale + shift
    return Folded(weight.transpose(2, 3, 1, 0).reshape(-1, conv.out_channels), bias)


def linear(layer: LinearSpec, tensors: Tensors) -> Folded:
    """The classifier's layer, its weight as [features, outputs]."""
    return Folded(tensors[f"{layer.name}.weight"].T, tensors[f"{layer.name}.bias"])


def input_rows(model: ModelFile, width: int) -> tuple[Float32Array, Float32Array]:
    """Scale and shift that normalise one row of `width` pixels, channels interleaved: value x scale + shift.

    Whole rows, so that the generated code reads them in step with the pixels whatever the number of channels.
    """
    preprocessing = model.info.preprocessing
    std = np.asarray(preprocessing.std, np.float64)
    scale, shift = 1 / std, -np.asarray(preprocessing.mean, np.float64) / std
    return np.tile(scale, width).astype(np.float32), np.tile(shift, width).astype(np.float32)
