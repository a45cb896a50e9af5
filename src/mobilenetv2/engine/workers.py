"""The threads of an engine: how Python starts them and hands them work. Waiting is done in generated code."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilenetv2.engine import abi
from mobilenetv2.engine.link import Code

Slot = tuple[int, int, int, int, int, int, int, int]  # the arguments of `abi.ENTRY` for one thread
_LEAD = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_SERVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_IDLE: Slot = (0,) * len(Slot.__args__)  # type: ignore[assignment]


class Team:
    """The caller's thread and `threads` - 1 others, which end when the team is closed or forgotten.

    Idle threads sleep after a millisecond. Not for two callers at once: the engine holds a lock around it.
    """

    def __init__(self, code: Code, threads: int) -> None:
        self.threads = threads
        self._memory = Memory(threads)
        self._hold = code
        self._lead = _LEAD(code.entry(abi.LEAD))
        serve = _SERVE(code.entry(abi.SERVE))
        for number in range(1, threads):
            # not a method: a thread that held the team would keep it, and itself, alive for ever
            arguments = (serve, self._memory, number, threads, code)
            threading.Thread(target=_serve, args=arguments, name=f"engine-{number}", daemon=True).start()

    @property
    def address(self) -> int:
        """Where the team's memory begins, as the generated code wants it."""
        return self._memory.address

    def run(self, slots: Sequence[Slot]) -> None:
        """Each slot's work on a thread of its own, the first on the caller's; returns when all is done.

        For the interpreter it is one call: Ctrl-C comes before it or after it.
        """
        for number, slot in enumerate(slots):
            at = abi.SLOTS + number * abi.SLOT_WORDS
            self._memory.words[at : at + len(slot)] = slot
        self._lead(self._memory.address, self.threads)

    def close(self) -> None:
        """Let the threads end."""
        self.run([_IDLE] * self.threads)

    def abandon(self) -> None:
        """In a forked process: the threads are the parent's, and so is the pipe."""
        self._lead = _LEAD(lambda *_: None)

    def __del__(self) -> None:
        if hasattr(self, "_lead"):
            self.close()


class Memory:
    """A team's memory and its pipe, which live as long as anyone of the team."""

    def __init__(self, threads: int) -> None:
        buffer = np.zeros(abi.team_words(threads) + 8, np.int64)
        start = -buffer.ctypes.data // 8 % 8  # cache lines
        self.words: Any = buffer[start:]
        self.address = int(self.words.ctypes.data)
        library = ctypes.CDLL(None)
        for word, name in ((abi.USLEEP, "usleep"), (abi.READ, "read"), (abi.WRITE, "write")):
            self.words[word] = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        self._ends = os.pipe() if threads > 1 else ()
        if self._ends:
            self.words[abi.READ_END], self.words[abi.WRITE_END] = self._ends

    def __del__(self) -> None:
        for end in getattr(self, "_ends", ()):
            os.close(end)


def _serve(serve: Any, memory: Memory, number: int, threads: int, code: Code) -> None:
    serve(memory.address, number, threads)
    del memory, code  # held until here
