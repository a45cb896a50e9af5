"""The whole network as one function: the steps in order, between barriers."""

from __future__ import annotations

from mobilenetv2.engine.abi import ENTRY, NUMBERS, POINTERS
from mobilenetv2.engine.head_operations import Branch, Convolution, Mean, PixelHead, Pointwise, Resize
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels import convolution, ends, head, inverted_residual, segmentation, team
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Block, Chain, Linear, Operation, Pool, Stem
from mobilenetv2.engine.plan import Plan


def emit(plan: Plan) -> Module:
    """The module whose function `run` computes one image, and with it those of a team (`kernels.team`).

    Every thread calls `run` with its number; the image is there when all have returned. See `abi` for its arguments;
    the image is uint8 where `is_bytes` is 1.
    """
    module = Module(plan.cpu)
    barrier = team.emit_barrier(module)
    kernels: dict[Operation, Kernel] = {}
    for step in plan.steps:
        if step.operation not in kernels:
            kernels[step.operation] = _kernel(module, f"step{len(kernels)}", step.operation, barrier)
    f = module.function(ENTRY, POINTERS, NUMBERS, public=True)
    places = {"image": f.image, **{output.name: f.outputs + output.at for output in plan.outputs}}
    places.update((name, f.arena + buffer.at) for name, buffer in plan.buffers.items())
    for number, step in enumerate(plan.steps):
        if number:
            f.call(barrier, f.team, f.threads)
        scratch = shared = f.arena
        if step.scratch is not None:
            scratch = places[step.scratch] + f.thread * sections(step.operation.scratch)[1]
        if step.shared is not None:
            shared = places[step.shared]
        f.call(
            kernels[step.operation], places[step.source], places[step.target] + step.target_at,
            f.weights + step.weights_at, scratch, shared, f.team, f.is_bytes, f.thread, f.threads,
        )  # fmt: skip
    f.end()
    team.emit(module, f, barrier)
    return module


def _kernel(module: Module, name: str, operation: Operation, barrier: Kernel) -> Kernel:
    match operation:
        case Stem():
            return ends.emit_stem(module, name, operation)
        case Block():
            return inverted_residual.emit(module, name, operation, barrier)
        case Chain():
            return inverted_residual.emit_chain(module, name, operation)
        case Pool():
            return ends.emit_pool(module, name, operation)
        case Linear():
            return ends.emit_linear(module, name, operation)
        case Pointwise():
            return head.emit_pointwise(module, name, operation)
        case Convolution():
            return convolution.emit(module, name, operation)
        case Branch():
            return segmentation.emit_branch(module, name, operation)
        case PixelHead():
            return segmentation.emit_pixel_head(module, name, operation)
        case Mean():
            return head.emit_mean(module, name, operation)
        case Resize():
            return head.emit_resize(module, name, operation)
