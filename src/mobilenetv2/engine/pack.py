"""Folded weights laid out in the order in which the generated code reads them: one array for the whole network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.engine import lower
from mobilenetv2.engine.lower import Float32Array, Folded
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Block, Chain, Linear, Operation, Stem, panels
from mobilenetv2.engine.plan import Plan, Step
from mobilenetv2.engine.schedule import Panel
from mobilenetv2.errors import Error
from mobilenetv2.model_file import ModelFile

Array = npt.NDArray[Any]
# Products of activations (at most 6 after ReLU6) and two layers of such weights still fit float32. Beyond, infinities
# meet, and kernels would show the NaN that they give as 0 or 6: a wrong answer that nobody notices. Weights of trained
# networks, batch norm folded in, stay below 100.
LARGEST = 1e15


def pack(model: ModelFile, plan: Plan) -> Float32Array:
    """All weights of `model` as `plan` wants them, aligned to 64 bytes. Raises `Error` for some beyond `LARGEST`."""
    result = aligned_zeros(plan.weights)
    convs = {conv.name: conv for conv in spec.all_convolutions(model.info.spec)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what does not fit is found below
        for step in plan.steps:
            for section, parts in _sections(step, model, convs):
                lay(result[step.weights_at :], step.operation, section, parts)
            # while they are in the CPU's cache; NaN is caught too
            weights = result[step.weights_at :][: sections(step.operation.weights)[1]]
            if not np.dot(weights, weights) <= LARGEST**2:
                _refuse(step, weights)
    return result


def _refuse(step: Step, weights: Float32Array) -> None:
    layers, largest = ", ".join(step.layers.values()) or step.name, np.abs(weights).max()
    raise Error(
        f"the weights of {layers} with their batch norm, or the preprocessing, reach {largest:.1e}: "
        f"sums with numbers beyond {LARGEST:.0e} leave the range of float32, and the answers would be wrong"
    )


def lay(weights: Float32Array, operation: Operation, section: str, parts: list[Array]) -> None:
    """Write `parts`, one after the other, to where `operation` has its `section` of `weights`."""
    at = sections(operation.weights)[0][section]
    for part in parts:
        weights[at : at + part.size].reshape(part.shape)[...] = part
        at += part.size


def convolution(operation: Operation, part: str, folded: Folded) -> Iterator[tuple[str, list[Array]]]:
    """The sections of one convolution of an operation, each in the parts that stand one after the other in it."""
    where = panels(operation, part)
    if part.endswith("depthwise"):
        where = tuple(vector for panel in where for vector in _vectors(panel))
    dot = "." if part else ""
    yield f"{part}{dot}weight", [folded.weight[:, p.start : p.start + p.channels] for p in where]
    bias = f"{part}{dot}bias"
    if bias in dict(operation.weights):
        yield bias, [folded.bias]


def aligned_zeros(size: int) -> Float32Array:
    """float32 [size] that begins at a multiple of 64 bytes."""
    buffer = np.zeros(size + 16, np.float32)
    start = -buffer.ctypes.data // 4 % 16
    return buffer[start : start + size]


def _sections(step: Step, model: ModelFile, convs: dict[str, spec.ConvSpec]) -> Iterator[tuple[str, list[Array]]]:
    """The sections of a step's weights, each in the parts that stand one after the other in it."""
    operation = step.operation
    for prefix, stem in _stems(operation):
        scale, shift = lower.input_rows(model, stem.width)
        yield from ((f"{prefix}scale", [scale]), (f"{prefix}shift", [shift]))
    for part, layer in step.layers.items():
        if isinstance(operation, Linear):
            folded = lower.linear(spec.linear(model.info.spec), model.tensors)
        else:
            conv = convs[layer]
            folded = lower.fold(conv, model.tensors, spec.norm_eps(model.info.spec, conv))
        if part in step.inputs:
            first, last = step.inputs[part]
            folded = Folded(folded.weight[first:last], folded.bias)
        yield from convolution(operation, part, folded)


def _stems(operation: Operation) -> list[tuple[str, Stem]]:
    """The stem in an operation, if there is one, with what its sections' names begin with."""
    match operation:
        case Stem():
            return [("", operation)]
        case Block(stem=Stem() as stem):
            return [("", stem)]
        case Chain(blocks=(Block(stem=Stem() as stem), *_)):
            return [("0.", stem)]
        case _:
            return []


def _vectors(panel: Panel) -> list[Panel]:
    """Each vector of a panel as a panel: the depthwise kernel reads the nine weights of one vector together."""
    return [Panel(panel.start + at, (width,)) for at, width in zip(panel.offsets, panel.widths, strict=True)]
