"""Runs a model file on a CPU; knows NumPy and LLVM, has never heard of torch.

`Engine` compiles a network for one image size and runs it; `engine.reference` is the definition of correct.
LLVM is loaded where code must be compiled, and not where the cache has it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.engine import abi
from mobilenetv2.engine.program import Program, Workspace, compiled
from mobilenetv2.engine.workers import Team
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo

if TYPE_CHECKING:
    from mobilenetv2.engine.plan import Plan

Array = npt.NDArray[Any]
MAX_THREADS = 256


class Engine:
    """One network, compiled for one image size.

    `model` is a `ModelFile`, or what `mobilenetv2.load` takes: a path or a zoo name. `size` is (height, width), one
    number for a square, or None for the size in the model file. `threads` work together on one image, or on an image
    each where a call brings at least as many images; `batch`, the number of images that calls will bring, has the
    memory for that ready from the start. `precision` is "fp32". `budget` is the most bytes that the activations of one
    image may take (`plan.arena_bytes`); None lets speed decide.

    Any Python thread may call `run`; calls on one engine wait for each other, calls on several engines do not. Ctrl-C
    ends a call after the image that is under way. A forked process may go on with its parent's engines.

    Results do not depend on the number of threads, to the last bit: every output is summed up in the same order.
    Raises `UsageError` for a size, a number of threads, a precision or a budget that cannot be, for an unknown
    `MOBILENETV2_CPU`, and for a system without kernels.
    """

    name = "engine"

    def __init__(
        self,
        model: ModelFile | str | os.PathLike[str],
        *,
        size: int | tuple[int, int] | None = None,
        threads: int = 1,
        batch: int = 1,
        precision: str = "fp32",
        budget: int | None = None,
    ) -> None:
        from mobilenetv2.engine import cache, cpu, pack
        from mobilenetv2.engine.plan import fitted

        if isinstance(threads, bool) or not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"threads must be 1 to {MAX_THREADS}, got {threads!r}")
        if batch < 1:
            raise UsageError(f"batch must be at least 1, got {batch!r}")
        if precision != "fp32":
            raise UsageError(f"precision must be fp32, got {precision!r}")
        if not isinstance(model, ModelFile):
            from mobilenetv2.importers import load_model

            model = load_model(model)
        size = model.info.preprocessing.size if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise UsageError(f"the input size must be positive, got {height} x {width}")
        self.info: ModelInfo = model.info
        self.threads = threads
        self.plan: Plan = fitted(model.info.spec, (height, width), cpu.chosen(), threads=threads, budget=budget)
        _debug(self.plan)
        planned = self.plan  # the closure must not hold the engine
        self._program = Program(cache.machine_code(repr(planned), lambda: compiled(planned)))
        self._weights = pack.pack(model, self.plan)
        self._lock = threading.Lock()
        self._renew()
        while len(self._workspaces) < min(batch, threads):
            self._workspaces.append(Workspace(self.plan))
        _ENGINES.add(self)

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """{"logits": float32 [B, L]} for uint8 pixels (normalised here), or float32 that is already normalised.

        Raises `UsageError` for images of another rank, type, channel count or size than the engine's.
        """
        images = self._checked(images_BHWC)
        logits_BL = np.empty((len(images), self.plan.outputs), np.float32)
        with self._lock:
            try:
                if self.threads > 1 and len(images) >= self.threads:
                    self._run_apart(images, logits_BL)
                else:
                    self._run_together(images, logits_BL)
            except BaseException:  # Ctrl-C: other threads may still be at work; they keep what they need
                self._workspaces[0].team[abi.LEFT] = 1
                self._team.close()
                self._renew()
                raise
        return {"logits": logits_BL}

    def _run_together(self, images: Array, logits: Array) -> None:
        """All threads on one image after the other."""
        if self.threads == 1:
            call = self._call(images, logits, self._workspaces[0], 1)
            for i in range(len(images)):
                call(i, 0)
            return
        call = self._call(images, logits, self._workspaces[0], self.threads)
        for i in range(len(images)):
            self._team.run(lambda thread, i=i: call(i, thread))

    def _run_apart(self, images: Array, logits: Array) -> None:
        """Every thread on images of its own, in memory of its own."""
        while len(self._workspaces) < self.threads:
            self._workspaces.append(Workspace(self.plan))
        calls = [self._call(images, logits, workspace, 1) for workspace in self._workspaces]
        threads, count, left = self.threads, len(images), self._workspaces[0].team

        def task(thread: int) -> None:
            for i in range(thread, count, threads):
                if left[abi.LEFT]:
                    return
                calls[thread](i, 0)

        self._team.run(task)

    def _call(self, images: Array, logits: Array, space: Workspace, threads: int) -> Any:
        """call(i, thread) computes one thread's part of image i. It holds all memory that the code works on."""
        run, hold = self._program.run, (self._program, self._weights, space, images, logits)
        first, image_bytes, is_bytes = images.ctypes.data, images[0].nbytes, int(images.dtype == np.uint8)
        result, result_bytes = logits.ctypes.data, logits[0].nbytes
        weights, arena, team = self._weights.ctypes.data, space.arena.ctypes.data, space.team.ctypes.data

        def call(i: int, thread: int, hold: Any = hold) -> None:
            run(
                first + i * image_bytes, weights, arena, result + i * result_bytes, team, is_bytes, thread, threads
            )  # fmt: skip

        return call

    def _renew(self) -> None:
        """Threads, and memory that nobody is at work with."""
        self._workspaces = [Workspace(self.plan)]
        self._team = Team(self.threads)

    def _checked(self, images_BHWC: Array) -> Array:
        expected = (*self.plan.size, self.plan.channels)
        if images_BHWC.ndim != 4 or images_BHWC.shape[1:] != expected or not len(images_BHWC):
            raise UsageError(f"images must be [batch, {', '.join(map(str, expected))}], got {list(images_BHWC.shape)}")
        if images_BHWC.dtype not in (np.uint8, np.float32):
            raise UsageError(f"images must be uint8 pixels or normalised float32, got {images_BHWC.dtype}")
        return np.ascontiguousarray(images_BHWC)


def _debug(plan: Plan) -> None:
    """What `MOBILENETV2_DEBUG` asks for, on stderr: the plan, LLVM's text (ir), or the CPU's own (asm)."""
    wanted = os.environ.get("MOBILENETV2_DEBUG")
    if not wanted:
        return
    if wanted == "plan":
        for step in plan.steps:
            print(step, file=sys.stderr)
        return
    if wanted not in ("ir", "asm"):
        raise UsageError(f"MOBILENETV2_DEBUG must be plan, ir or asm, got {wanted!r}")
    from mobilenetv2.engine import jit
    from mobilenetv2.engine.kernels import network

    text = network.emit(plan).text
    print(text if wanted == "ir" else jit.assembly(text, plan.cpu), file=sys.stderr)


_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()


def _after_fork() -> None:
    """A forked process has its parent's memory but not its threads, and locks that nobody will open."""
    for engine in list(_ENGINES):
        engine._lock = threading.Lock()
        engine._renew()


os.register_at_fork(after_in_child=_after_fork)
