"""Masks from several looks at a picture, in code made for this CPU: `looks.best_on_average`, fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks
from mobilenetv2.engine import abi, masks, pack, program
from mobilenetv2.engine.memory import require
from mobilenetv2.engine.program import Program
from mobilenetv2.engine.runner import Runner
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError
from mobilenetv2.looks import Look
from mobilenetv2.text import quoted
from mobilenetv2.upsample import Float32Array, check_classes

MOST_LOOKS = 1_000_000  # windows over a photo of 100 megapixels are some thousands


class Averages:
    """The class of every pixel: `averages(looks, size)` is what `looks.best_on_average` gives, but for the last digits
    of the scores.

    Scores exist for one row of the picture per thread. Looks may be of any size and number, and have the same classes
    within a call. Any Python thread may call; calls wait for each other. Raises `UsageError` for a system without
    kernels.
    """

    def __init__(self, cpu: Cpu, *, threads: int = 1) -> None:
        made = Program(program.machine_code(f"averages {cpu!r}", lambda: compiled(cpu)))
        self._threads = threads
        self._runner = Runner(made, threads, 0)

    def __call__(self, looks: Sequence[Look], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        _check(looks, size)
        looks = [look for look in looks if len(look.rows.low)] or looks[:1]
        require(size[0] * size[1], "the mask", "ask for a smaller one")
        mask_HW = np.empty(size, np.uint8)
        if mask_HW.size:
            needs = table(looks, size)
            arena = self._threads * int(needs.view(np.int64)[abi.SCRATCH])
            self._runner.run(maps(looks)[np.newaxis], needs, mask_HW[np.newaxis], arena=arena)
        return mask_HW


def _check(looks: object, size: object) -> None:
    """Raises `UsageError` for what are no looks at a picture of `size`: code reads and writes without looking."""
    for look in (found := checks.items("looks", looks, least=1, most=MOST_LOOKS)):
        if not isinstance(look, Look):
            raise UsageError(f"looks must be looks.Look, got {quoted(look)}")
        masks.check_places("rows", look.rows)
        masks.check_places("columns", look.columns)
        classes = (getattr(found[0].logits, "shape", ()) or (0,))[-1]
        masks.check_map(look.logits, 3, (look.rows.size, look.columns.size, classes))
    check_classes(found[0].logits.shape[-1])
    height, width = checks.items("size", size, lambda side: checks.whole("size", side, 0), least=2, most=2)
    for look in found:
        for name, at, part, whole in (("top", look.top, look.rows, height), ("left", look.left, look.columns, width)):
            checks.whole(f"{name} of a look", at, 0, whole - len(part.low))


def compiled(cpu: Cpu) -> bytes:
    """The linked machine code."""
    from mobilenetv2.engine import jit
    from mobilenetv2.engine.kernels import average
    from mobilenetv2.engine.link import link

    return link(jit.object_code(average.emit(cpu).text, cpu)).to_bytes()


def maps(looks: Sequence[Look]) -> Float32Array:
    """The looks' logits, one map after the other, and `abi.MOST_LANES` more elements."""
    result = pack.aligned_zeros(sum(look.logits.size for look in looks) + abi.MOST_LANES)
    at = 0
    for look in looks:
        result[at : at + look.logits.size].reshape(look.logits.shape)[...] = look.logits
        at += look.logits.size
    return result


def table(looks: Sequence[Look], size: tuple[int, int]) -> Float32Array:
    """What the code reads of `looks` at a picture of `size`, laid out as `abi` says."""
    classes = looks[0].logits.shape[-1]
    own = [masks.table(look.rows, look.columns, classes) for look in looks]
    stride = _whole(size[1]) + abi.MOST_LANES
    widest = max(look.logits.shape[1] for look in looks) * classes
    scratch = 2 * classes * stride + 2 * _whole(widest) + abi.MOST_LANES
    words_at = [abi.AVERAGE_HEADER + abi.LOOK_WORDS * len(looks)]
    maps_at = [0]
    for look, part in zip(looks, own, strict=True):
        words_at.append(words_at[-1] + -(-part.size // masks.WORD))
        maps_at.append(maps_at[-1] + look.logits.size)
    result = pack.aligned_zeros(masks.WORD * words_at[-1])
    words = result.view(np.int64)
    words[: abi.AVERAGE_HEADER] = (*size, len(looks), classes, stride, _whole(widest), scratch)
    for i, (look, part) in enumerate(zip(looks, own, strict=True)):
        start = abi.AVERAGE_HEADER + abi.LOOK_WORDS * i
        line = look.columns.size * classes
        words[start : start + abi.LOOK_WORDS] = (words_at[i], maps_at[i], look.top, look.left, line)
        result[masks.WORD * words_at[i] :][: part.size] = part
    return result


def _whole(size: int) -> int:
    """`size`, and what makes it whole vectors."""
    return -(-size // abi.MOST_LANES) * abi.MOST_LANES
