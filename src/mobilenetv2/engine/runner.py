"""One program's team, for any number of callers one at a time, and made anew after whatever interrupted it."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import numpy.typing as npt

from mobilenetv2.engine.program import Program
from mobilenetv2.engine.workers import Team

Array = npt.NDArray[Any]


class Runner:
    """Runs `program` on `threads` threads, each with an arena of `arena` elements where it needs one.

    Any Python thread may call; calls wait for each other. A team counts as good only between the end of one job and the
    beginning of the next. So whatever ends a call early, and wherever in it (a Ctrl-C, a second one while the first is
    being dealt with, no memory), the next call finds no good team and makes one before it works. A forked process does
    the same: it has its parent's memory, but neither its threads nor anybody to open its locks.
    """

    def __init__(self, program: Program, threads: int, arena: int) -> None:
        self._program, self._threads, self._arena = program, threads, arena
        self._lock = threading.Lock()
        self._team: Team | None = None
        self._good = False
        _RUNNERS.add(self)

    def run(self, images: Array, weights: Array, outputs: Array, *, arena: int = 0) -> None:
        """Fill `outputs`, with arenas of at least `arena` elements. When it raises, `outputs` are not to be read."""
        with self._lock:
            team = self._ready(arena)
            self._good = False
            try:
                team.run(images, weights, outputs)
            except BaseException:  # now, so that nobody goes on waiting; what is left undone, the next call does
                try:
                    team.abandon()
                finally:
                    team.abandon()  # a second Ctrl-C may have struck in the first
                raise
            self._good = True

    def reserve(self, images: int) -> None:
        """Have the threads, and the memory for so many images at a time, ready."""
        with self._lock:
            team = self._ready(0)
            self._good = False
            team.reserve(images)
            self._good = True

    def _ready(self, arena: int) -> Team:
        """A team that nobody is at work with."""
        if not self._good or self._team is None or self._team.arena < arena:
            self._good = False
            if self._team is not None:
                self._team.abandon()
            self._team = Team(self._program, self._threads, max(arena, self._arena))
            self._good = True
        return self._team

    def _after_fork(self) -> None:
        self._lock, self._good = threading.Lock(), False


_RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_RUNNERS):
        runner._after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
