"""The whole network as one function: the steps in order, and the place where threads wait for each other."""

from __future__ import annotations

from mobilenetv2.engine.abi import ARRIVED, ENTRY, GENERATION, LEFT, NUMBERS, POINTERS, USLEEP
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels import ends, head, inverted_residual
from mobilenetv2.engine.operations import (
    Block,
    Chain,
    Linear,
    Mean,
    Operation,
    Pointwise,
    Pool,
    Resize,
    Stem,
    sections,
)
from mobilenetv2.engine.plan import Plan

# Pauses before a waiting thread sleeps: 150 to 500 microseconds, longer than most waits of a team that has its cores to
# itself. Two threads, 1.0 at 224, as a part of one thread's time (Zen 4, 11.2026), alone / beside two busy programs:
# 1,000 spins 0.70 / 1.03, 10,000 spins 0.61 / 0.76, and yielding instead of sleeping 0.57 / 9.8.
SPINS = 10_000
SLEEP_MICROSECONDS = 20


def emit(plan: Plan) -> Module:
    """The module whose function `run` computes one image: every thread of a team calls it with its number.

    See `abi` for its arguments; the image is uint8 where `is_bytes` is 1.
    """
    module = Module(plan.cpu)
    barrier = _barrier(module)
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
        case Mean():
            return head.emit_mean(module, name, operation)
        case Resize():
            return head.emit_resize(module, name, operation)


def _barrier(module: Module) -> Kernel:
    """Returns when all threads of the team have called it, or one has left. The last to arrive opens it for the others.

    They spin, and after `SPINS` turns they sleep: on a busy machine the thread that is waited for may need the core.
    """
    f = module.function("barrier", ("team",), ("threads",))
    with f.when(f.less(1, f.threads)):
        words = f.team.words
        generation = f.atomic_load(words + GENERATION)
        last = f.equal(f.atomic_add(words + ARRIVED, 1), f.threads - 1)
        with f.when(last):
            f.atomic_store(0, words + ARRIVED)
            f.atomic_store(generation + 1, words + GENERATION)
        with f.when(f.no(last)), f.loop_until() as (turn, until):
            f.pause()
            with f.when(f.less(SPINS, turn)):
                f.call_address(words + USLEEP, SLEEP_MICROSECONDS)
            opened = f.no(f.equal(f.atomic_load(words + GENERATION), generation))
            until.append(f.either(opened, f.equal(f.atomic_load(words + LEFT), 1)))
    f.end()
    return f
