"""The threads of an inference in generated code: where they wait for each other, and for the next call.

Waking a thread through Python takes 20 to 60 microseconds, a quarter of an inference of width 0.35 at 96. So a thread
that has done its part waits for the next call here for a while, and only then goes back to Python to sleep.
"""

from __future__ import annotations

from mobilenetv2.engine import abi
from mobilenetv2.engine.addresses import Number, Pointer
from mobilenetv2.engine.ir import Kernel, Module

# Pauses before a thread that waits for others sleeps: 150 to 500 microseconds, longer than most waits of a team that
# has its cores to itself. See docs/decisions/0006 for what other values, and yielding, cost.
SPINS = 10_000
SLEEP_MICROSECONDS = 20
# Pauses before a thread that waits for the next call goes to sleep: 100 to 300 microseconds
IDLE_SPINS = 6_000


def emit_barrier(module: Module) -> Kernel:
    """Returns when all threads of the team have called it, or one has left. The last to arrive opens it for the others.

    They spin, and after `SPINS` turns they sleep: on a busy machine the thread that is waited for may need the core.
    """
    f = module.function("barrier", ("team",), ("threads",))
    with f.when(f.less(1, f.threads)):
        words = f.team.words
        generation = f.atomic_load(words + abi.GENERATION)
        last = f.equal(f.atomic_add(words + abi.ARRIVED, 1), f.threads - 1)
        with f.when(last):
            f.atomic_exchange(0, words + abi.ARRIVED)
            f.atomic_exchange(generation + 1, words + abi.GENERATION)
        with f.when(f.no(last)), f.loop_until() as (turn, until):
            f.pause()
            with f.when(f.less(SPINS, turn)):
                f.call_address(words + abi.USLEEP, SLEEP_MICROSECONDS)
            opened = f.no(f.equal(f.atomic_load(words + abi.GENERATION), generation))
            until.append(f.either(opened, f.equal(f.atomic_load(words + abi.LEFT), 1)))
    f.end()
    return f


def emit(module: Module, run: Kernel, barrier: Kernel) -> None:
    """The functions `lead`, `part` and `serve`."""
    part = _emit_part(module, run, barrier)
    _emit_lead(module, part)
    _emit_serve(module, part)


def _emit_part(module: Module, run: Kernel, barrier: Kernel) -> Kernel:
    """part(team, thread): this member's part of the job; returns when all have done theirs."""
    f = module.function(abi.PART, ("team",), ("thread",), public=True)
    words = f.team.words
    members, count, is_bytes = (f.atomic_load(words + at) for at in (abi.MEMBERS, abi.COUNT, abi.IS_BYTES))
    image, weights, outputs = (f.pointer(words + at) for at in (abi.IMAGE, abi.WEIGHTS, abi.OUTPUTS))
    together = f.equal(count, 0)
    with f.when(together):
        arena = f.pointer(_slot(words, 0) + abi.ARENA)
        f.call(run, image, weights, arena, outputs, f.team, is_bytes, f.thread, members)
    with f.when(f.no(together)), f.loop_until() as (_, until):
        arena = f.pointer(_slot(words, f.thread) + abi.ARENA)
        i = f.atomic_add(words + abi.NEXT, 1)
        with f.when(f.less(i, count)):
            pixels = image.bytes + i * f.atomic_load(words + abi.IMAGE_BYTES)
            place = outputs.bytes + i * f.atomic_load(words + abi.OUTPUTS_BYTES)
            f.call(run, pixels, weights, arena, place, f.team, is_bytes, 0, 1)
        until.append(f.either(f.no(f.less(i, count)), f.equal(f.atomic_load(words + abi.LEFT), 1)))
    f.call(barrier, f.team, members)
    f.end()
    return f


def _emit_lead(module: Module, part: Kernel) -> None:
    """lead(team, 0): call the other members; where all were waiting, do the first one's part, else wake them first."""
    f = module.function(abi.LEAD, ("team",), ("thread",), public=True)
    words = f.team.words
    f.atomic_exchange(0, words + abi.AWAY)
    with f.loop(f.thread + 1, f.atomic_load(words + abi.MEMBERS)) as member:
        slot = _slot(words, member)
        with f.when(f.equal(f.atomic_exchange(abi.CALLED, slot + abi.STATE), abi.SLEEPS)):
            f.atomic_exchange(1, slot + abi.ASLEEP)
            f.atomic_add(words + abi.AWAY, 1)
    with f.when(f.equal(f.atomic_load(words + abi.AWAY), 0)):
        f.call(part, f.team, f.thread)
    f.end()


def _emit_serve(module: Module, part: Kernel) -> None:
    """serve(team, thread): a member that was called does its part, again and again, until no call comes for a while.

    It says that it waits before it does its part: as soon as that is done, the next call may come. In the end either
    the call or the sleep takes the word first, and the other one sees it.
    """
    f = module.function(abi.SERVE, ("team",), ("thread",), public=True)
    words = f.team.words
    state = _slot(words, f.thread) + abi.STATE
    with f.loop_until() as (_, ended):
        f.atomic_exchange(abi.WAITS, state)
        f.call(part, f.team, f.thread)
        with f.loop_until() as (turn, enough):
            f.pause()
            called = f.equal(f.atomic_load(state), abi.CALLED)
            gone = f.either(f.less(IDLE_SPINS, turn), f.equal(f.atomic_load(words + abi.LEFT), 1))
            enough.append(f.either(called, gone))
        ended.append(f.equal(f.atomic_exchange(abi.SLEEPS, state), abi.WAITS))
    f.end()


def _slot(words: Pointer, thread: Number) -> Pointer:
    return words + abi.SLOTS + thread * abi.SLOT_WORDS
