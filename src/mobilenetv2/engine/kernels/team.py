"""The threads of an inference in generated code: where they wait for each other, and for work.

Nothing of this needs Python: a thread that waits for work spins for a while, then sleeps in a read from a pipe, and
the thread that leads wakes those that sleep. So an inference is one call for the caller, which no signal can divide.
"""

from __future__ import annotations

from mobilenetv2.engine import abi
from mobilenetv2.engine.ir import Index, Kernel, Module, Number, Pointer

# Pauses before a thread that waits for others sleeps: 150 to 500 microseconds, longer than most waits of a team that has
# its cores to itself. See docs/decisions/0006 for what other values, and yielding, cost.
SPINS = 10_000
SLEEP_MICROSECONDS = 20
# Pauses before a thread that waits for work sleeps: about a millisecond, so that calls one after the other find it
# awake. Waking takes 20 to 60 microseconds: a quarter of an inference of width 0.35 at 96.
IDLE_SPINS = 20_000


def emit_barrier(module: Module) -> Kernel:
    """Returns when all threads of the team have called it. The last to arrive opens it for the others.

    They spin, and after `SPINS` turns they sleep: on a busy machine the thread that is waited for may need the core.
    """
    f = module.function("barrier", ("team",), ("threads",))
    with f.when(f.less(1, f.threads)):
        words = f.team.words
        generation = f.atomic_load(words + abi.GENERATION)
        last = f.equal(f.atomic_add(words + abi.ARRIVED, 1), f.threads - 1)
        with f.when(last):
            f.atomic_store(0, words + abi.ARRIVED)
            f.atomic_store(generation + 1, words + abi.GENERATION)
        with f.when(f.no(last)), f.loop_until() as (turn, until):
            f.pause()
            with f.when(f.less(SPINS, turn)):
                f.call_address(words + abi.USLEEP, (SLEEP_MICROSECONDS, 32))
            until.append(f.no(f.equal(f.atomic_load(words + abi.GENERATION), generation)))
    f.end()
    return f


def emit_lead(module: Module, run: Kernel, barrier: Kernel) -> Kernel:
    """lead(team, threads): call the others, wake those that sleep, do the first slot's work, wait for all."""
    f = module.function(abi.LEAD, ("team",), ("threads",), public=True)
    words = f.team.words
    f.atomic_add(words + abi.CALLS, 1)
    with f.loop(f.least(1, f.threads), f.threads) as thread:
        asleep = _slot(words, thread) + abi.ASLEEP
        with f.when(f.equal(f.atomic_exchange(0, asleep), 1)):
            # the pipe's byte says nothing: any word will do
            f.call_address(words + abi.WRITE, (f.atomic_load(words + abi.WRITE_END), 32), words + abi.CALLS, (1, 64))
    _work(f, words, 0, run, barrier)
    f.end()
    return f


def emit_serve(module: Module, run: Kernel, barrier: Kernel) -> Kernel:
    """serve(team, thread, threads): work whenever the team is called, until the slot says to end."""
    f = module.function(abi.SERVE, ("team",), ("thread", "threads"), public=True)
    words = f.team.words
    slot = _slot(words, f.thread)
    with f.loop_until() as (_, ended):
        with f.loop_until() as (_, called):
            seen = f.atomic_load(slot + abi.SEEN)
            with f.loop_until() as (turn, enough):
                f.pause()
                idle = f.less(IDLE_SPINS, turn)
                enough.append(f.either(idle, f.no(f.equal(f.atomic_load(words + abi.CALLS), seen))))
            with f.when(f.equal(f.atomic_load(words + abi.CALLS), seen)):
                _sleep(f, words, slot, seen)
            called.append(f.no(f.equal(f.atomic_load(words + abi.CALLS), seen)))
        f.atomic_store(f.atomic_load(words + abi.CALLS), slot + abi.SEEN)
        _work(f, words, f.thread, run, barrier)
        ended.append(f.equal(f.atomic_load(slot + abi.THREADS), 0))
    f.end()
    return f


def _sleep(f: Kernel, words: Pointer, slot: Pointer, seen: Index) -> None:
    """Sleep unless called in the meantime.

    The caller takes the mark away and sends a byte for it, which the sleeper reads; where the sleeper takes it away
    itself, no byte comes. A signal may end the read too early, and a byte may then be left: it wakes somebody once
    for nothing.
    """

    def read() -> None:
        f.call_address(words + abi.READ, (f.atomic_load(words + abi.READ_END), 32), slot + abi.SPARE, (1, 64))

    f.atomic_exchange(1, slot + abi.ASLEEP)
    called = f.no(f.equal(f.atomic_load(words + abi.CALLS), seen))
    with f.when(f.no(called)):
        read()
    with f.when(called), f.when(f.equal(f.atomic_exchange(0, slot + abi.ASLEEP), 0)):
        read()


def _work(f: Kernel, words: Pointer, thread: Number, run: Kernel, barrier: Kernel) -> None:
    """What the slot says, and then wait for the others; nothing where it says to end."""
    slot = _slot(words, thread)
    threads = f.atomic_load(slot + abi.THREADS)
    with f.when(f.less(0, threads)):
        pointers = [f.pointer(slot + i) for i in range(len(abi.POINTERS))]
        f.call(run, *pointers, f.atomic_load(slot + abi.IS_BYTES), f.atomic_load(slot + abi.THREAD), threads)
        f.call(barrier, f.team, f.threads)


def _slot(words: Pointer, thread: Number) -> Pointer:
    return words + abi.SLOTS + thread * abi.SLOT_WORDS
