"""The whole network as one function: the steps in order, between barriers."""

from __future__ import annotations

from mobilenetv2.engine.abi import ENTRY, NUMBERS, POINTERS
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels import ends, inverted_residual, team
from mobilenetv2.engine.operations import Block, Chain, Linear, Operation, Pool, Stem, sections
from mobilenetv2.engine.plan import Plan


def emit(plan: Plan) -> Module:
    """The module whose function `run` computes one image: every thread of a team calls it with its number.

    `lead` and `serve` are the ways to it (`kernels.team`); see `abi` for their arguments. The image is uint8 where `is_bytes` is 1.
    """
    module = Module(plan.cpu)
    barrier = team.emit_barrier(module)
    kernels: dict[Operation, Kernel] = {}
    for step in plan.steps:
        if step.operation not in kernels:
            kernels[step.operation] = _kernel(module, f"step{len(kernels)}", step.operation, barrier)
    f = module.function(ENTRY, POINTERS, NUMBERS, public=True)
    places = {"image": f.image, "logits": f.logits}
    places.update((name, f.arena + buffer.at) for name, buffer in plan.buffers.items())
    for step in plan.steps:
        scratch = shared = f.arena
        if step.scratch is not None:
            scratch = places[step.scratch] + f.thread * sections(step.operation.scratch)[1]
        if step.shared is not None:
            shared = places[step.shared]
        f.call(
            kernels[step.operation], places[step.source], places[step.target], f.weights + step.weights_at,
            scratch, shared, f.team, f.is_bytes, f.thread, f.threads,
        )  # fmt: skip
        f.call(barrier, f.team, f.threads)
    f.end()
    team.emit_lead(module, f, barrier)
    team.emit_serve(module, f, barrier)
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
