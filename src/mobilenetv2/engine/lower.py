"""A model file as the steps that the engine runs: batch norm folded into its convolution, nothing else changed.

Folding is done in float64 and rounded once, when the weights are laid out. Weights keep the meaning of their axes here
([K, O] for products, [9, E] for depthwise); `pack` lays them out for a schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, Tensors
from mobilenetv2.spec import BlockSpec, Classifier, ConvSpec, LinearSpec, Spec

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layers:
    """Which layers a network has, as one comparable value: all that plans and generated code depend on."""

    stem: ConvSpec
    blocks: tuple[BlockSpec, ...]
    last: ConvSpec
    linear: LinearSpec


@dataclass(frozen=True, slots=True)
class Folded:
    """One convolution or linear layer ready to run: weight [K, O] ([9, E] for depthwise) and bias [O].

    Folded parts are float64 still, and rounded where they are stored.
    """

    weight: Array
    bias: Array


@lru_cache(maxsize=16)
def layers(network: Spec) -> Layers:
    """The layers of `network`, in order. Raises `UsageError` where it is no classifier."""
    if not isinstance(network.head, Classifier):
        raise UsageError(f"the engine has no kernels for {network.task}: choose backend torch or reference")
    net = network.backbone
    return Layers(spec.stem(net), spec.blocks(net), spec.last(net), spec.linear(network))


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
