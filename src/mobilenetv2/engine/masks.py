"""Masks of a picture's size from small maps of logits, in code made for this CPU: `upsample.best_classes`, fast."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks
from mobilenetv2.engine import abi, pack, program
from mobilenetv2.engine.memory import require
from mobilenetv2.engine.program import Program
from mobilenetv2.engine.runner import Runner
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError
from mobilenetv2.text import quoted
from mobilenetv2.upsample import Float32Array, Places, check_classes

WORD = 2  # float32 elements of a word


class Masks:
    """The best class of every pixel: `masks(logits_BhwL, rows, columns)` is what `upsample.best_classes` gives.

    No value per class and pixel is ever stored. Maps are `width` pixels wide and have `classes`; everything else may
    change from call to call. `code` is their `machine_code`, where there is no compiler to make it. Any Python
    thread may call; calls wait for each other.
    Raises `UsageError` for more classes than a mask can name, and a system without kernels.
    """

    def __init__(self, width: int, classes: int, cpu: Cpu, *, threads: int = 1, code: bytes | None = None) -> None:
        check_classes(classes)
        self.width, self.classes = width, classes
        made = Program(machine_code(cpu, width, classes) if code is None else code)
        self._runner = Runner(made, threads, threads * abi.mask_scratch(width, classes))

    def __call__(self, logits_BhwL: Float32Array, rows: Places, columns: Places) -> npt.NDArray[np.uint8]:
        check_places("rows", rows)
        check_places("columns", columns)
        check_map(logits_BhwL, 4, (rows.size, columns.size, self.classes))
        if columns.size != self.width:
            raise UsageError(f"maps must be {self.width} pixels wide, got {columns.size}")
        logits = np.ascontiguousarray(logits_BhwL, np.float32)
        shape = len(logits), len(rows.low), len(columns.low)
        require(math.prod(shape), "the masks", "ask for fewer or smaller ones at a time")
        masks = np.empty(shape, np.uint8)
        if masks.size:
            self._runner.run(logits, table(rows, columns, self.classes), masks)
        return masks


def check_places(name: str, places: object) -> None:
    """Raises `UsageError` for what is not a map's rows, or lies outside it: code reads there without looking."""
    if not isinstance(places, Places):
        raise UsageError(f"{name} must be upsample.Places, got {quoted(places)}")
    low, part = places.low, places.part
    good = isinstance(low, np.ndarray) and isinstance(part, np.ndarray) and low.ndim == 1 and low.shape == part.shape
    if not good or low.dtype.kind not in "iu" or part.dtype.kind != "f":
        raise UsageError(f"{name} must have whole numbers in low and as many fractions in part")
    size = checks.whole(f"the size of {name}", places.size)
    if low.size and not 0 <= low.min() <= low.max() < size:
        raise UsageError(f"{name} must lie in the map's {size} rows or columns")


def check_map(logits: object, rank: int, shape: tuple[int, int, int]) -> None:
    """Raises `UsageError` for what is no array of logits [h, w, L] of this `shape`, or [B, h, w, L] for rank 4."""
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu":
        raise UsageError(f"logits must be a NumPy array of numbers, got {type(logits).__name__}")
    if logits.ndim != rank or logits.shape[-3:] != shape:
        wanted = ", ".join((["batch"] if rank == 4 else []) + [str(length) for length in shape])
        raise UsageError(f"logits must be [{wanted}], got {list(logits.shape)}")


def machine_code(cpu: Cpu, width: int, classes: int) -> bytes:
    """The linked machine code for maps of this width: from the cache, or compiled."""
    return program.machine_code(f"masks {width} {classes} {cpu!r}", lambda: compiled(cpu, width, classes))


def compiled(cpu: Cpu, width: int, classes: int) -> bytes:
    from mobilenetv2.engine import jit
    from mobilenetv2.engine.kernels import mask
    from mobilenetv2.engine.link import link

    return link(jit.object_code(mask.emit(cpu, width, classes).text, cpu)).to_bytes()


def table(rows: Places, columns: Places, classes: int) -> Float32Array:
    """What the code reads of `rows` and `columns`, laid out as `abi` says."""
    lines = np.stack((rows.low, rows.next), axis=1) * (columns.size * classes)
    firsts = np.flatnonzero(np.diff(columns.low, prepend=-1))
    counts = np.diff(firsts, append=len(columns.low))
    runs = np.stack((columns.low[firsts] * classes, firsts, counts), axis=1)
    lines_at = abi.HEADER
    runs_at = lines_at + lines.size
    row_parts = WORD * (runs_at + runs.size)
    column_parts = row_parts + len(rows.part)
    result = pack.aligned_zeros(column_parts + len(columns.part) + abi.MOST_LANES)
    words = result[:row_parts].view(np.int64)
    header = len(rows.low), len(columns.low), len(runs), lines_at, runs_at, row_parts, column_parts
    words[: abi.HEADER] = header
    words[lines_at:runs_at] = lines.ravel()
    words[runs_at:] = runs.ravel()
    result[row_parts:column_parts] = rows.part
    result[column_parts : column_parts + len(columns.part)] = columns.part
    return result
