"""The threads that run one inference together. Python wakes them once; they meet again inside the generated code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[int], None]


class Team:
    """`threads` - 1 waiting threads beside the caller's own. They end when the team is closed or forgotten."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._inboxes: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in range(threads - 1)]
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        for number, inbox in enumerate(self._inboxes, start=1):
            # not a method: a thread that held the team would keep it, and itself, alive for ever
            arguments = (number, inbox, self._done)
            threading.Thread(target=_work, args=arguments, name=f"engine-{number}", daemon=True).start()

    def run(self, task: Task) -> None:
        """`task(number)` once on every thread, number 0 on the caller's; returns when all have returned.

        Not for two callers at once: the engine holds a lock around it. After an exception, which may be Ctrl-C at any
        place, the others may still be at work and the team is of no more use: close it.
        """
        for inbox in self._inboxes:
            inbox.put(task)
        task(0)
        errors = [error for _ in self._inboxes if (error := self._done.get()) is not None]
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Let the threads end when they have done what they are at."""
        for inbox in self._inboxes:
            inbox.put(None)

    def __del__(self) -> None:
        self.close()


def _work(number: int, inbox: SimpleQueue[Task | None], done: SimpleQueue[BaseException | None]) -> None:
    while (task := inbox.get()) is not None:
        error = None
        try:
            task(number)
        except BaseException as caught:  # noqa: BLE001 - handed to the caller, who raises it
            error = caught
        del task
        done.put(error)
