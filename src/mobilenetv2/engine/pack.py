"""Folded weights laid out in the order in which the generated code reads them: one array for the whole network."""

from __future__ import annotations

import numpy as np

from mobilenetv2 import spec
from mobilenetv2.engine import lower
from mobilenetv2.engine.lower import Float32Array
from mobilenetv2.engine.operations import Block, Chain, Linear, Operation, Pool, Stem, panels, sections
from mobilenetv2.engine.plan import Plan, Step
from mobilenetv2.engine.schedule import Panel
from mobilenetv2.model_file import ModelFile


def pack(model: ModelFile, plan: Plan) -> Float32Array:
    """All weights of `model` as `plan` wants them, aligned to 64 bytes."""
    result = aligned_zeros(plan.weights)
    convs = {conv.name: conv for conv in spec.convolutions(model.info.spec.backbone)}
    for step in plan.steps:
        offsets, _ = sections(step.operation.weights)
        for section, values in _sections(step, model, convs).items():
            start = step.weights_at + offsets[section]
            result[start : start + values.size] = values
    return result


def aligned_zeros(size: int) -> Float32Array:
    """float32 [size] that begins at a multiple of 64 bytes."""
    buffer = np.zeros(size + 16, np.float32)
    start = -buffer.ctypes.data // 4 % 16
    return buffer[start : start + size]


def _sections(step: Step, model: ModelFile, convs: dict[str, spec.ConvSpec]) -> dict[str, Float32Array]:
    operation = step.operation
    result: dict[str, Float32Array] = {}
    if isinstance(operation, Pool | Linear):
        layer = step.layers[""]
        if isinstance(operation, Linear):
            folded = lower.linear(spec.linear(model.info.spec), model.tensors)
        else:
            folded = lower.fold(convs[layer], model.tensors, model.info.spec.backbone.bn_eps)
        result["weight"], result["bias"] = by_panel(folded.weight, operation.product.panels), folded.bias
        return result
    for prefix, stem in _stems(operation):
        result[f"{prefix}scale"], result[f"{prefix}shift"] = lower.input_rows(model, stem.width)
    for part, layer in step.layers.items():
        folded = lower.fold(convs[layer], model.tensors, model.info.spec.backbone.bn_eps)
        where = panels(operation, part)
        if part.endswith("depthwise"):
            where = tuple(vector for panel in where for vector in _vectors(panel))
        result[f"{part}.weight"], result[f"{part}.bias"] = by_panel(folded.weight, where), folded.bias
    return result


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


def by_panel(weight_KO: Float32Array, where: tuple[Panel, ...]) -> Float32Array:
    """[K, O] as one [K, channels] after the other."""
    return np.concatenate([weight_KO[:, p.start : p.start + p.channels].ravel() for p in where])


def _vectors(panel: Panel) -> list[Panel]:
    """Each vector of a panel as a panel: the depthwise kernel reads the nine weights of one vector together."""
    return [Panel(panel.start + at, (width,)) for at, width in zip(panel.offsets, panel.widths, strict=True)]
