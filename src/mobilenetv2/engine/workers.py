"""The threads that run inferences together, and the memory that they share. They meet inside the generated code."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import notes
from mobilenetv2.engine import abi, pack
from mobilenetv2.engine.memory import require
from mobilenetv2.engine.program import Program
from mobilenetv2.text import counted

Array = npt.NDArray[Any]
CHUNK = 8  # images per thread in one call of generated code, during which no signal is noticed


class Team:
    """The caller's thread and `threads` - 1 others, each with an arena of `arena` elements when it needs one.

    The others end when the team is abandoned or forgotten. Where the system starts no more threads there are fewer of
    them, which is said; results are the same. Not for two callers at once: a `Runner` holds a lock around it.
    """

    _inboxes: Sequence[SimpleQueue[object]] = ()  # of a team that was interrupted before it had any

    def __init__(self, program: Program, threads: int, arena: int) -> None:
        self.arena = arena
        self._program = program
        self._memory = Memory(threads, arena)
        self._inboxes = []
        try:
            while len(self._inboxes) + 1 < threads and self._started(self._inboxes):
                pass
        except BaseException:
            self.abandon()
            raise
        self.threads = len(self._inboxes) + 1
        if self.threads < threads:
            notes.once("threads", f"the engine runs on {self.threads} of {threads} threads, with the same results: "
                       "this system starts no more (see ulimit -u and ulimit -v)")  # fmt: skip

    def _started(self, inboxes: list[SimpleQueue[object]]) -> bool:
        """One more thread with its inbox; False where the system starts none."""
        inbox: SimpleQueue[object] = SimpleQueue()
        inboxes.append(inbox)  # before the thread: who ends the others ends this one too
        # No __del__: a Ctrl-C in one would be lost, and printed. This has no bytecode for it to strike in.
        self._memory.endings.append(weakref.ref(self, inbox.put))
        number = len(inboxes)
        # not a method: a thread that held the team would keep it, and itself, alive for ever
        arguments = (self._program, self._memory, number, inbox)
        try:
            threading.Thread(target=_serve, args=arguments, name=f"engine-{number}", daemon=True).start()
        except RuntimeError:  # "can't start new thread": RLIMIT_NPROC, a container's limit, no memory for its stack
            inboxes.pop()
            return False
        return True

    def run(self, images: Array, weights: Array, outputs: Array) -> None:
        """The outputs of `images`: all threads on one image after another, or on an image each where there are enough.

        After an exception, which may be Ctrl-C at any place, the others may still be at work: abandon the team.
        """
        memory, count, threads = self._memory, len(images), self.threads
        memory.hold = images, weights, outputs  # in use until the end, whatever happens
        first, result = images.ctypes.data, outputs.ctypes.data
        step, outputs_step = images.nbytes // count, outputs.nbytes // count
        is_bytes = int(images.dtype == np.uint8)
        if threads == 1:
            fixed = weights.ctypes.data, memory.arenas[0].ctypes.data
            for i in range(count):
                at = first + i * step, *fixed, result + i * outputs_step, memory.address
                self._program.run(*at, is_bytes, 0, 1)
        elif count < threads:
            for i in range(count):
                at = first + i * step, weights.ctypes.data, result + i * outputs_step
                self._work((threads, *at, is_bytes, 0, 0, 0))
        else:
            memory.reserve(threads)
            for i in range(0, count, CHUNK * threads):
                at = first + i * step, weights.ctypes.data, result + i * outputs_step
                self._work((threads, *at, is_bytes, min(CHUNK * threads, count - i), step, outputs_step))
        memory.hold = ()

    def reserve(self, images: int) -> None:
        """Have the memory ready for so many images at a time."""
        self._memory.reserve(min(images, self.threads))

    def _work(self, job: tuple[int, ...]) -> None:
        """Do the job (the words from `abi.MEMBERS` on) on all threads; returns when it is done."""
        memory = self._memory
        words = memory.words
        words[abi.NEXT] = 0
        words[abi.MEMBERS : abi.SLOTS] = job
        self._program.lead(memory.address, 0)
        if words[abi.AWAY]:
            for number, inbox in enumerate(self._inboxes, start=1):
                asleep = abi.SLOTS + number * abi.SLOT_WORDS + abi.ASLEEP
                if words[asleep]:
                    words[asleep] = 0
                    inbox.put(True)
            self._program.part(memory.address, 0)

    def abandon(self) -> None:
        """Let nobody wait for the others any more, and those end as soon as they can; they keep the memory that they
        are at work in. Once more does no harm, and does what an interrupted call left undone."""
        if self._inboxes:
            self._memory.words[abi.LEFT] = 1
        for inbox in self._inboxes:
            inbox.put(False)


class Memory:
    """What the members of a team share (`abi`), their arenas, and in `hold` the arrays that a job works with."""

    def __init__(self, threads: int, arena: int) -> None:
        self.words: Array = pack.aligned_zeros(2 * abi.team_words(threads)).view(np.int64)
        self.address = self.words.ctypes.data
        self.words[abi.USLEEP] = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value or 0
        self.hold: tuple[Array, ...] = ()
        self.arenas: list[Array] = []
        self.endings: list[weakref.ref[Team]] = []  # kept by the threads, so that they outlive the team
        self._arena = arena
        self.reserve(1)

    def reserve(self, arenas: int) -> None:
        """At least so many arenas. Raises `Error` where there is not that much memory."""
        missing = 4 * self._arena * (arenas - len(self.arenas))
        require(missing, counted(arenas, "arena") + " of the engine", "use a smaller size, or fewer threads")
        while len(self.arenas) < arenas:
            arena = pack.aligned_zeros(self._arena)
            self.words[abi.SLOTS + len(self.arenas) * abi.SLOT_WORDS + abi.ARENA] = arena.ctypes.data
            self.arenas.append(arena)


def _serve(program: Program, memory: Memory, number: int, inbox: SimpleQueue[object]) -> None:
    while inbox.get() is True:
        program.serve(memory.address, number)
