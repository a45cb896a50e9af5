"""What follows a segmentation network in any runtime: the engine's code that makes a mask of its logits.

It lies beside the other files of a stem, compiled, so that the processes of other runtimes need no compiler.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import upsample
from mobilenetv2.benchmark.runtimes import Array, Run
from mobilenetv2.engine import cpu
from mobilenetv2.engine.masks import Masks, machine_code
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import deeplab
from mobilenetv2.upsample import Places

SUFFIX = ".masks.npz"


def write(info: ModelInfo, stem: Path, width: int) -> None:
    """The file that `after` reads, for maps of `width` columns."""
    head = deeplab.head_of(info.spec)
    code = np.frombuffer(machine_code(cpu.chosen(), width, head.outputs), np.uint8)
    np.savez(stem.with_suffix(SUFFIX), code=code, align_corners=head.align_corners)


def expected(info: ModelInfo, logits_BhwL: Array, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The masks [B, H, W] of a map, as the definition has them."""
    aligned = deeplab.head_of(info.spec).align_corners
    return upsample.best_classes(logits_BhwL, *places(logits_BhwL.shape[1:3], size, align_corners=aligned))


def after(run: Run, stem: Path, threads: int, size: tuple[int, int]) -> Run:
    """`run`, which gives a map of logits [B, h, w, L], and then masks of `size`: uint8 [B, H, W]."""
    with np.load(stem.with_suffix(SUFFIX)) as stored:
        code, aligned = stored["code"].tobytes(), bool(stored["align_corners"])
    made: list[tuple[Masks, Places, Places]] = []

    def both() -> list[Array]:
        (logits_BhwL,) = run()
        if not made:  # only now is the map's shape known
            height, width, classes = logits_BhwL.shape[1:]
            rows_columns = places((height, width), size, align_corners=aligned)
            made.append((Masks(width, classes, cpu.chosen(), threads=threads, code=code), *rows_columns))
        masks, rows, columns = made[0]
        return [masks(logits_BhwL, rows, columns)]

    return both


def places(map_size: tuple[int, ...], size: tuple[int, int], *, align_corners: bool) -> tuple[Places, Places]:
    """Where the rows and the columns of an input of `size` lie in its map."""
    rows, columns = (
        upsample.resized(inner, outer, align_corners=align_corners) for inner, outer in zip(map_size, size, strict=True)
    )
    return rows, columns
