"""Runs a model file on a CPU; knows NumPy and LLVM, has never heard of torch.

`Engine` compiles a network for one image size and runs it; `engine.reference` is the definition of correct.
LLVM is loaded with the first engine, not with this module.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.engine.workers import Team
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo

if TYPE_CHECKING:
    from mobilenetv2.engine.plan import Plan

Array = npt.NDArray[Any]
MAX_THREADS = 256


class Engine:
    """One network, compiled for one image size.

    `size` is (height, width), one number for a square, or None for the size in the model file. `threads` work
    together on one image, or on an image each where a call brings at least as many images. Any Python thread may
    call `run`; calls on one engine wait for each other, calls on several engines do not.

    Results do not depend on the number of threads, to the last bit: every output is summed up in the same order.
    Raises `UsageError` for a size or a number of threads that cannot be, and for an unknown `MOBILENETV2_CPU`.
    """

    name = "engine"

    def __init__(self, model: ModelFile, *, size: int | tuple[int, int] | None = None, threads: int = 1) -> None:
        from mobilenetv2.engine import cache, jit, pack
        from mobilenetv2.engine.kernels import network
        from mobilenetv2.engine.plan import plan

        if isinstance(threads, bool) or not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"threads must be 1 to {MAX_THREADS}, got {threads!r}")
        size = model.info.preprocessing.size if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise UsageError(f"the input size must be positive, got {height} x {width}")
        self.info: ModelInfo = model.info
        self.threads = threads
        cpu = jit.chosen()
        self.plan: Plan = plan(model.info.spec, (height, width), cpu, threads=threads)
        object_file = cache.machine_code(
            (repr(self.plan), jit.llvm_version()),
            lambda: jit.object_code(network.emit(self.plan).text, cpu),
        )
        self._code = jit.Code(object_file, cpu, network.ENTRY)
        self._weights = pack.pack(model, self.plan)
        self._workspaces = [_Workspace(self.plan)]
        self._team = Team(threads)
        self._lock = threading.Lock()

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """{"logits": float32 [B, L]} for uint8 pixels (normalised here), or float32 that is already normalised.

        Raises `UsageError` for images of another rank, type, channel count or size than the engine's.
        """
        images = self._checked(images_BHWC)
        logits_BL = np.empty((len(images), self.plan.outputs), np.float32)
        with self._lock:
            if self.threads > 1 and len(images) >= self.threads:
                self._run_apart(images, logits_BL)
            else:
                self._run_together(images, logits_BL)
        return {"logits": logits_BL}

    def _run_together(self, images_BHWC: Array, logits_BL: Array) -> None:
        """All threads on one image after the other."""
        workspace = self._workspaces[0]

        def task(thread: int) -> None:
            for image, logits in zip(images_BHWC, logits_BL, strict=True):
                self._call(image, logits, workspace, thread, self.threads)

        self._team.run(task)

    def _run_apart(self, images_BHWC: Array, logits_BL: Array) -> None:
        """Every thread on images of its own, in memory of its own."""
        while len(self._workspaces) < self.threads:
            self._workspaces.append(_Workspace(self.plan))

        def task(thread: int) -> None:
            for i in range(thread, len(images_BHWC), self.threads):
                self._call(images_BHWC[i], logits_BL[i], self._workspaces[thread], 0, 1)

        self._team.run(task)

    def _call(self, image: Array, logits: Array, space: _Workspace, thread: int, threads: int) -> None:
        pointers = (array.ctypes.data for array in (image, self._weights, space.arena, logits, space.team))
        self._code.run(*pointers, int(image.dtype == np.uint8), thread, threads)

    def _checked(self, images_BHWC: Array) -> Array:
        expected = (*self.plan.size, self.plan.channels)
        if images_BHWC.ndim != 4 or images_BHWC.shape[1:] != expected or not len(images_BHWC):
            raise UsageError(f"images must be [batch, {', '.join(map(str, expected))}], got {list(images_BHWC.shape)}")
        if images_BHWC.dtype not in (np.uint8, np.float32):
            raise UsageError(f"images must be uint8 pixels or normalised float32, got {images_BHWC.dtype}")
        return np.ascontiguousarray(images_BHWC)


class _Workspace:
    """The memory of one inference: its arena, and where its threads meet."""

    def __init__(self, plan: Plan) -> None:
        from mobilenetv2.engine import pack
        from mobilenetv2.engine.kernels import network

        self.arena = pack.aligned_zeros(plan.arena)
        self.team = np.zeros(network.TEAM_WORDS, np.int64)
        usleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p)
        self.team[network.USLEEP] = usleep.value or 0
