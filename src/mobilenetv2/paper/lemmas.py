"""The appendix in numbers: when ReLU(Bx) can be undone (Lemma 2), and what share of points it collapses (Theorem 1).

B is [m, n]: n input dimensions, m channels. Rows of arrays of points are points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.paper.cells import Cell, Table

Array = npt.NDArray[Any]


def invertible(matrix_mn: Array, points_Pn: Array) -> npt.NDArray[np.bool_]:
    """Lemma 2, for each point x [P]: ReLU(Bx) has no other solution, i.e. the rows of B with (Bx) > 0 span R^n.

    For a matrix drawn from a density that is the same as "at least n of the m channels are positive".
    """
    n = matrix_mn.shape[1]
    positive_Pm = points_Pn @ matrix_mn.T > 0
    patterns, which = np.unique(positive_Pm, axis=0, return_inverse=True)
    spans = [pattern.sum() >= n and np.linalg.matrix_rank(matrix_mn[pattern]) == n for pattern in patterns]
    return np.array(spans, bool)[which.reshape(-1)]


def undo(matrix_mn: Array, outputs_Pm: Array) -> Array:
    """Points x [P, n] with ReLU(Bx) = `outputs`, from the rows of B that are positive: the shortest that these allow.

    Where `invertible`, that is the point itself.
    """
    result = np.zeros((len(outputs_Pm), matrix_mn.shape[1]))
    patterns, which = np.unique(outputs_Pm > 0, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        chosen = which.reshape(-1) == number
        if pattern.any():
            result[chosen] = outputs_Pm[np.ix_(chosen, pattern)] @ np.linalg.pinv(matrix_mn[pattern]).T
    return result


def collapsed_share(n: int, m: int) -> float:
    """Theorem 1: the share of volume that ReLU(Bx) maps to fewer than n dimensions, averaged over B.

    1 - N / 2^m with N = sum of (m choose k) for k = 0 .. m - n; the same as the chance that fewer than n of m fair
    coins fall heads. It holds for every distribution of B that is symmetric in each row's sign.
    """
    return sum(math.comb(m, k) for k in range(min(n, m + 1))) / 2**m


def measured_share(n: int, m: int, *, seed: int = 0, trials: int = 200, points: int = 200) -> float:
    """The same share counted: `trials` normal matrices, `points` normal points each."""
    rng = np.random.default_rng(seed)
    shares = [
        1 - invertible(rng.normal(size=(m, n)), rng.normal(size=(points, n))).mean() for _ in range(trials)
    ]  # fmt: skip
    return float(np.mean(shares))


def table(*, n: int = 16) -> Table:
    """What ReLU collapses after an expansion of `n` channels by t, by Theorem 1 and counted."""
    lines = [
        (f"t = {t:g}", (Cell("", str(m)), Cell("", f"{share:.2g}"), Cell("", f"{measured_share(n, m, trials=50):.2g}")))
        for t, m, share in rows(n=n)
    ]
    return Table(
        "appendix", f"Appendix: the share of a space of {n} channels that ReLU(Bx) collapses",
        ("channels", "Theorem 1", "counted"), tuple(lines),
        ("Counted: 50 normal matrices, 200 points each.",),
    )  # fmt: skip


def rows(*, n: int = 16, expansions: tuple[float, ...] = (0.5, 1, 1.5, 2, 3, 4, 6)) -> list[tuple[float, int, float]]:
    """For a bottleneck of `n` channels: expansion t, channels m = t n, and the share that is collapsed."""
    return [(t, round(t * n), collapsed_share(n, round(t * n))) for t in expansions]
