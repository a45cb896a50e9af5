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
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks, limits
from mobilenetv2.engine.memory import require
from mobilenetv2.engine.program import Program, compiled, machine_code
from mobilenetv2.engine.runner import Runner
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.looks import Look
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.text import quoted
from mobilenetv2.upsample import Float32Array, Places

if TYPE_CHECKING:
    from mobilenetv2.engine.averages import Averages
    from mobilenetv2.engine.masks import Masks
    from mobilenetv2.engine.plan import Plan

Array = npt.NDArray[Any]
MAX_THREADS = 256
_WAY_OUT = "use a smaller size or batch, or fewer threads"


class Engine:
    """One network, compiled for one image size.

    `model` is a `ModelFile`, or what `mobilenetv2.load` takes: a path or a zoo name. `size` is (height, width), one
    number for a square, or None for the size in the model file. `threads` work together on one image, or on an image
    each where a call brings at least as many images; `batch`, the number of images that calls will bring, has the
    memory for that ready from the start. `precision` is "fp32". `budget` is the most bytes that the activations of one
    image may take (`plan.arena_bytes`); None lets speed decide.

    Any Python thread may call `run`; calls on one engine wait for each other, calls on several engines do not. Ctrl-C
    ends a call after the image that is under way, and whatever interrupts one, later calls answer rightly. A forked
    process may go on with its parent's engines.

    Results do not depend on the number of threads, to the last bit: every output is summed up in the same order.
    Raises `UsageError` for an argument of a wrong type, for a size, a number of threads, a batch, a precision or a
    budget that cannot be, for more memory than there is, for an unknown `MOBILENETV2_CPU`, and for a system without
    kernels; `Error` for weights so large that float32 cannot hold what is computed with them.
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
        from mobilenetv2.engine import cpu, pack
        from mobilenetv2.engine.plan import fitted

        threads = checks.whole("threads", threads, 1, MAX_THREADS)
        batch = checks.whole("batch", batch)
        budget = None if budget is None else checks.whole("budget", budget)
        checks.choice("precision", precision, ("fp32",))
        if not isinstance(model, ModelFile):
            from mobilenetv2.importers import load_model

            if not isinstance(model, str | os.PathLike):
                raise UsageError(f"model must be a path, a name or a ModelFile, got {quoted(model)}")
            model = load_model(model)
        channels = model.info.spec.backbone.in_channels
        size = _checked_size(model.info.preprocessing.size if size is None else size, channels)
        self.info: ModelInfo = model.info
        self.threads = threads
        self.plan: Plan = fitted(model.info.spec, size, cpu.chosen(), threads=threads, budget=budget)
        _debug(self.plan)
        arenas = min(batch, threads)
        needed = 4 * (arenas * self.plan.arena + self.plan.weights + batch * self.plan.results)
        require(needed, f"the engine at {_of_size(size)}", _WAY_OUT, error=UsageError)
        planned = self.plan  # the closure must not hold the engine
        try:
            made = Program(machine_code(repr(planned), lambda: compiled(planned)))
            self._weights = pack.pack(model, self.plan)
            self._runner = Runner(made, threads, self.plan.arena)
            self._runner.reserve(batch)
        except MemoryError:
            raise Error(f"not enough memory for the engine at {_of_size(size)}: {_WAY_OUT}") from None
        self._masks: dict[int, Masks] = {}  # by the width of their maps
        self._averages: Averages | None = None
        self._model = model if len(self.plan.outputs[0].shape) == 3 else None  # for other sizes
        self._budget = budget
        self._siblings: dict[tuple[int, int], Engine] = {}
        self._making = threading.Lock()  # of what is made at its first use
        _ENGINES.add(self)

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The raw outputs for uint8 pixels (normalised here), or float32 that is already normalised.

        A classifier's are {"logits": float32 [B, L]}, a detector's {"class_logits": float32 [B, A, L], "box_deltas":
        float32 [B, A, 4]}, which are views of one array: an image's outputs lie one after the other.
        Raises `UsageError` for images of another rank, type, channel count or size than the engine's.
        """
        images = self._checked(images_BHWC)
        require(4 * len(images) * self.plan.results, "the outputs of so many images", "use a smaller batch")
        results = np.empty((len(images), self.plan.results), np.float32)
        self._runner.run(images, self._weights, results)
        return {
            output.name: results[:, output.at : output.at + output.size].reshape(len(images), *output.shape)
            for output in self.plan.outputs
        }

    def best_classes(self, logits_BhwL: Float32Array, rows: Places, columns: Places) -> npt.NDArray[np.uint8]:
        """`upsample.best_classes`, the same to the last pixel, on the engine's threads: uint8 [B, H, W].

        Maps may be of any size, and have the classes of the engine's model, which must be one for segmentation. Raises
        `UsageError` where it is not, and for more than 256 classes.
        """
        from mobilenetv2.engine import masks

        self._check_maps()
        masks.check_places("columns", columns)
        width, classes = int(columns.size), self.plan.outputs[0].shape[-1]
        with self._making:
            if width not in self._masks:
                self._masks[width] = masks.Masks(width, classes, self.plan.cpu, threads=self.threads)
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
        size = _checked_size(size, self.plan.channels)
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

    def _checked(self, images_BHWC: Array) -> Array:
        expected = (*self.plan.size, self.plan.channels)
        if not isinstance(images_BHWC, np.ndarray):
            raise UsageError(f"images must be a NumPy array [batch, {', '.join(map(str, expected))}], "
                             f"got {type(images_BHWC).__name__}")  # fmt: skip
        if images_BHWC.ndim != 4 or images_BHWC.shape[1:] != expected or not len(images_BHWC):
            raise UsageError(f"images must be [batch, {', '.join(map(str, expected))}], got {list(images_BHWC.shape)}")
        if images_BHWC.dtype not in (np.uint8, np.float32):
            raise UsageError(f"images must be uint8 pixels or normalised float32, got {images_BHWC.dtype}")
        return np.ascontiguousarray(images_BHWC)


def _checked_size(size: object, channels: int) -> tuple[int, int]:
    """(height, width) of an input. Raises `UsageError` for what is no size, or too large to be planned."""
    sides = (size, size) if checks.is_whole(size) else size
    if not isinstance(sides, tuple | list) or len(sides) != 2 or not all(map(checks.is_whole, sides)):
        raise UsageError(f"size must be (height, width) or one whole number, got {quoted(size)}")
    height, width = (int(side) for side in cast("Sequence[int]", sides))
    if height < 1 or width < 1:
        raise UsageError(f"the input size must be positive, got {_of_size((height, width))}")
    require(height * width * channels, f"one image of {_of_size((height, width))}", _WAY_OUT, error=UsageError)
    if max(height, width) > limits.ENGINE_SIDE:
        raise UsageError(
            f"size must have at most {limits.ENGINE_SIDE:,} pixels a side, got {_of_size((height, width))}"
        )
    return height, width


def _of_size(size: tuple[int, int]) -> str:
    return " x ".join(map(quoted, size))


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
    """A forked process has its parent's locks but nobody who would open them (`runner` has its own)."""
    for engine in list(_ENGINES):
        engine._making = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
