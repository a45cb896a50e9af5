"""One operation run by itself, between memory that must stay as it is."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.engine import pack
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.operations import Operation
from mobilenetv2.engine.plan import Buffer, Plan, Step, place
from mobilenetv2.engine.program import Program, compiled
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.engine.walker import Output
from mobilenetv2.engine.workers import Memory

Array = npt.NDArray[np.floating[Any]]
Call = Callable[[Plan, Array, Array, Array, bool], Array]
MARGIN = 64  # elements beside the output that nobody may write to


def run(
    operation: Operation, source: Array, convolutions: Mapping[str, Folded], out_shape: tuple[int, ...], cpu: Cpu, *,
    threads: int = 1, in_place: bool = False, call: Call | None = None, shared: Array | None = None,
    joins: Array | None = None,
) -> Array:  # fmt: skip
    """What `operation` makes of `source`. NaN where it wrote nothing. `call` runs the plan; else this process does.

    It finds `shared` in its shared memory; `joins` is what it finds there where that is its output too.
    """
    plan = alone(operation, cpu, threads, in_place=in_place, joins=joins is not None)
    weights = pack.aligned_zeros(plan.weights)
    for name, folded in convolutions.items():
        for section, parts in pack.convolution(operation, name, folded):
            pack.lay(weights, operation, section, parts)
    memory = np.full(int(np.prod(out_shape)) + 2 * MARGIN, np.nan, np.float32)
    target = memory[MARGIN:-MARGIN]
    image = np.ascontiguousarray(source, np.float32).ravel()
    if in_place:
        target[:] = image
    if joins is not None:
        target[:] = joins.ravel()
    found = call(plan, image, weights, memory, in_place) if call else here(plan, image, weights, memory, shared)
    assert np.isnan(found[:MARGIN]).all()
    assert np.isnan(found[-MARGIN:]).all()
    return found[MARGIN:-MARGIN].reshape(out_shape)


def alone(operation: Operation, cpu: Cpu, threads: int, *, in_place: bool, joins: bool = False) -> Plan:
    """A plan of one step from "image" to "logits", or from there to there; where it `joins`, its shared memory too."""
    parts = (("scratch", threads * sections(operation.scratch)[1]), ("shared", 0 if joins else operation.shared))
    buffers = {buffer.name: buffer for buffer in place([Buffer(name, size, 0, 0) for name, size in parts if size])}
    source = "logits" if in_place else "image"
    scratch, shared = (name if name in buffers else None for name in ("scratch", "shared"))
    step = Step("alone", operation, {}, 0, source, "logits", 0, scratch, "logits" if joins else shared)
    arena = max((buffer.at + buffer.size for buffer in buffers.values()), default=0)
    return Plan(
        (1, 1), 1, (Output("logits", (1,)),), threads, cpu, (step,), buffers, sections(operation.weights)[1], arena
    )


def here(plan: Plan, image: Array, weights: Array, memory: Array, shared: Array | None) -> Array:
    """The plan run in this process; `memory` is the output with its margins, `shared` what is there before."""
    program, space = Program(compiled(plan)), Memory(plan.threads, plan.arena)
    space.arenas[0][:] = np.nan  # what a step needs to be zero, it must make so
    if shared is not None:
        space.arenas[0][plan.buffers["shared"].at :][: shared.size] = shared.ravel()
    places = [array.ctypes.data for array in (image, weights, space.arenas[0], memory[MARGIN:], space.words)]
    team = [threading.Thread(target=program.run, args=(*places, 0, i, plan.threads)) for i in range(1, plan.threads)]
    for thread in team:
        thread.start()
    program.run(*places, 0, 0, plan.threads)
    for thread in team:
        thread.join()
    return memory
