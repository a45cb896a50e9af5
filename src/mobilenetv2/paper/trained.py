"""The appendix's Lemma 2 on trained weights: are the expansions' outputs enough to find their inputs again?

An expansion is y = ReLU6(Bx + b) with B [m, n]. Lemma 2 asks that the rows of B whose channels are positive span R^n.
ReLU6 has a second flat part that the lemma does not speak of: a channel is *open* where 0 < y < 6, and only such
channels are equations for x. Shapes: P places, n channels in, m channels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.model_file import ModelFile, network_input
from mobilenetv2.paper import figure7
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.spec import ConvSpec

Array = npt.NDArray[np.float64]
PLACES = 50  # of each expansion, drawn from all pictures


@dataclass(frozen=True, slots=True)
class Undone:
    """The expansion of a block from `inputs` to `channels` over a sample of places; shares are 0 to 1.

    `invertible`: share of the places that Lemma 2 calls so, by the positive channels; `open`: the same by the open ones
    (0 < y < 6). `error`: largest distance of an input that the open channels gave back from the true one, relative to
    it; NaN where no place is open.
    """

    block: int
    inputs: int
    channels: int
    invertible: float
    open: float
    error: float


def undone(
    images_BHWC: npt.NDArray[np.uint8], model: ModelFile, *, places: int = PLACES, seed: int = 0
) -> list[Undone]:
    """Each expansion of `model` on pictures, in float64. Raises `UsageError` as `figure7.check` does."""
    figure7.check(model)
    net = model.info.spec.backbone
    tensors = {name: values.astype(np.float64) for name, values in model.tensors.items()}
    images = network_input(images_BHWC, model.info).astype(np.float64)
    expansions = {block.expand.name: block.index for block in spec.blocks(net) if block.expand is not None}
    rng = np.random.default_rng(seed)
    result: list[Undone] = []
    for conv, before, after in figure7.layers(net, tensors, images):
        if conv.name in expansions:
            chosen = rng.choice(before[..., 0].size, min(places, before[..., 0].size), replace=False)
            matrix, shift = affine(conv, tensors, net.bn_eps)
            x_Pn = before.reshape(-1, conv.in_channels)[chosen]
            y_Pm = after.reshape(-1, conv.out_channels)[chosen]
            result.append(_undone(expansions[conv.name], matrix, shift, x_Pn, y_Pm))
    return result


def affine(conv: ConvSpec, tensors: dict[str, Array], eps: float) -> tuple[Array, Array]:
    """B [m, n] and b [m] of a 1x1 convolution with its batch norm: what it makes of the unit vectors and of 0."""
    vectors = np.concatenate([np.zeros((1, conv.in_channels)), np.eye(conv.in_channels)])
    linear = ConvSpec(
        conv.name, conv.norm, conv.in_channels, conv.out_channels, kernel=1, activation="linear", padding=conv.padding
    )
    shift, *columns = np.asarray(figure7.run(linear, tensors, eps, vectors[np.newaxis, np.newaxis])[0, 0])
    return np.stack([column - shift for column in columns], axis=1), shift


def table(model: ModelFile, *, photos: Sequence[str] = ()) -> Table:
    """Lemma 2 on `model`, shown `photos` (generated pictures where there are none)."""
    rows = tuple(
        (
            f"block {one.block}",
            tuple(
                Cell("", text, "measured here" if i > 1 else "computed")
                for i, text in enumerate((
                    f"{one.inputs}", f"{one.channels}", f"{100 * one.invertible:.0f} %", f"{100 * one.open:.0f} %",
                    f"{one.error:.0e}",
                ))
            ),
        )
        for one in undone(figure7.seen_by(model, photos), model, places=PLACES)
    )  # fmt: skip
    what = f"{len(photos)} photos" if photos else f"{figure7.PICTURES} generated pictures"
    notes = (f"{PLACES} places of each expansion (fewer where there are fewer) on {what}, {figure7.name_of(model)}.",)
    columns = ("n", "m", "invertible by Lemma 2", "by open channels", "largest error of x")
    return Table("appendix", "Appendix: Lemma 2 on trained weights", columns, rows, notes)


def _undone(block: int, matrix: Array, shift: Array, x_Pn: Array, y_Pm: Array) -> Undone:
    n = matrix.shape[1]
    positive_Pm, open_Pm = y_Pm > 0, (y_Pm > 0) & (y_Pm < 6)
    solvable = [spans(matrix[chosen], n) for chosen in open_Pm]
    errors: list[float] = []
    for x, y, chosen, can in zip(x_Pn, y_Pm, open_Pm, solvable, strict=True):
        if can:
            back = np.linalg.lstsq(matrix[chosen], y[chosen] - shift[chosen], rcond=None)[0]
            errors.append(float(np.linalg.norm(back - x) / max(np.linalg.norm(x), np.finfo(np.float64).tiny)))
    return Undone(
        block, n, len(matrix), float(np.mean([spans(matrix[chosen], n) for chosen in positive_Pm])),
        float(np.mean(solvable)), max(errors, default=float("nan")),
    )  # fmt: skip


def spans(rows_kn: Array, n: int) -> bool:
    """Whether rows span R^n."""
    return len(rows_kn) >= n and int(np.linalg.matrix_rank(rows_kn)) == n
