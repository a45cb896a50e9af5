"""Runs a model file on a CPU; knows NumPy and LLVM, has never heard of torch.

`Engine` compiles a network for one image size and runs it; `engine.reference` is the definition of correct.
LLVM is loaded where code must be compiled, and not where the cache has it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.engine.program import Program, compiled
from mobilenetv2.engine.workers import Team
from mobilenetv2.errors import UsageError
from mobilenetv2.looks import Look
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.upsample import Float32Array, Places

if TYPE_CHECKING:
    from mobilenetv2.engine.averages import Averages
    from mobilenetv2.engine.masks import Masks
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
        self._masks: dict[int, Masks] = {}  # by the width of their maps
        self._averages: Averages | None = None
        self._model = model if len(self.plan.outputs[0].shape) == 3 else None  # for other sizes
        self._budget = budget
        self._siblings: dict[tuple[int, int], Engine] = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()  # of what is made at its first use
        self._renew()
        self._team.reserve(batch)
        _ENGINES.add(self)

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The raw outputs for uint8 pixels (normalised here), or float32 that is already normalised.

        A classifier's are {"logits": float32 [B, L]}, a detector's {"class_logits": float32 [B, A, L], "box_deltas":
        float32 [B, A, 4]}, which are views of one array: an image's outputs lie one after the other.
        Raises `UsageError` for images of another rank, type, channel count or size than the engine's.
        """
        images = self._checked(images_BHWC)
        results = np.empty((len(images), self.plan.results), np.float32)
        with self._lock:
            try:
                self._team.run(images, self._weights, results)
            except BaseException:  # Ctrl-C
                self._team.abandon()
                self._renew()
                raise
        return {
            output.name: results[:, output.at : output.at + output.size].reshape(len(images), *output.shape)
            for output in self.plan.outputs
        }

    def best_classes(self, logits_BhwL: Float32Array, rows: Places, columns: Places) -> npt.NDArray[np.uint8]:
        """`upsample.best_classes`, the same to the last pixel, on the engine's threads: uint8 [B, H, W].

        Maps may be of any size, and have the classes of the engine's model, which must be one for segmentation. Raises
        `UsageError` where it is not, and for more than 256 classes.
        """
        self._check_maps()
        width = columns.size
        with self._making:
            if width not in self._masks:
                from mobilenetv2.engine.masks import Masks

                self._masks[width] = Masks(width, logits_BhwL.shape[-1], self.plan.cpu, threads=self.threads)
        return self._masks[width](logits_BhwL, rows, columns)

    def best_on_average(self, looks: Sequence[Look], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """`looks.best_on_average`, but for the last digits of scores, on the engine's threads: uint8 [H, W].

        Looks may be of any size and number. The engine's model must be one for segmentation. Raises `UsageError` where
        it is not, and for more than 256 classes.
        """
        self._check_maps()
        with self._making:
            if self._averages is None:
                from mobilenetv2.engine.averages import Averages

                self._averages = Averages(self.plan.cpu, threads=self.threads)
        return self._averages(looks, size)

    def resized(self, size: tuple[int, int]) -> Engine:
        """The engine of the same segmentation model for inputs of another size (height, width): made when it is first
        asked for, then kept. Raises `UsageError` for other models and impossible sizes."""
        model = self._check_maps()
        if size == self.plan.size:
            return self
        with self._making:
            if size not in self._siblings:
                self._siblings[size] = Engine(model, size=size, threads=self.threads, budget=self._budget)
            return self._siblings[size]

    def _check_maps(self) -> ModelFile:
        if self._model is None:
            raise UsageError(f"a model for {self.info.task} gives no map of logits")
        return self._model

    def _renew(self) -> None:
        """Threads, and memory that nobody is at work with."""
        self._team = Team(self._program, self.threads, self.plan.arena)

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
        engine._masks, engine._averages = {}, None
        engine._lock, engine._making = threading.Lock(), threading.Lock()
        engine._renew()


os.register_at_fork(after_in_child=_after_fork)
