"""Masks of a picture's size from small maps of logits, in code made for this CPU: `upsample.best_classes`, fast."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from mobilenetv2.engine import abi, cache, pack
from mobilenetv2.engine.program import Program
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.engine.workers import Team
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
        self._program = Program(code or machine_code(cpu, width, classes))
        self._threads = threads
        self._lock = threading.Lock()
        self._renew()

    def __call__(self, logits_BhwL: Float32Array, rows: Places, columns: Places) -> npt.NDArray[np.uint8]:
        logits = np.ascontiguousarray(logits_BhwL, np.float32)
        assert logits.shape[1:] == (rows.size, self.width, self.classes), logits.shape
        assert columns.size == self.width, columns.size
        masks = np.empty((len(logits), len(rows.low), len(columns.low)), np.uint8)
        if masks.size:
            with self._lock:
                try:
                    self._team.run(logits, table(rows, columns, self.classes), masks)
                except BaseException:  # Ctrl-C
                    self._team.abandon()
                    self._renew()
                    raise
        return masks

    def _renew(self) -> None:
        """Threads, and memory that nobody is at work with."""
        arena = self._threads * abi.mask_scratch(self.width, self.classes)
        self._team = Team(self._program, self._threads, arena)


def machine_code(cpu: Cpu, width: int, classes: int) -> bytes:
    """The linked machine code for maps of this width: from the cache, or compiled."""
    return cache.machine_code(f"masks {width} {classes} {cpu!r}", lambda: compiled(cpu, width, classes))


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
