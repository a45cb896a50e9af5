"""Figure 1: a spiral through ReLU in 2, 3, 5, 15 and 30 dimensions and back, with what is lost as numbers.

A random matrix T takes the plane into m dimensions, ReLU acts there, the pseudo-inverse of T brings the result back.
A point collapses where fewer than two channels stay positive: then a whole line of the plane has its output.
Shapes: P points, m dimensions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files
from mobilenetv2.charts import new_figure, png
from mobilenetv2.paper import lemmas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
DIMENSIONS = (2, 3, 5, 15, 30)
POINTS, TURNS = 600, 3


@dataclass(frozen=True, slots=True)
class Loss:
    """What m dimensions do to the spiral; shares are 0 to 1, means over all matrices.

    `collapsed`: share of its points with fewer than two positive channels; `expected`: Theorem 1's share.
    `bend`: root mean square distance of what comes back to the spiral after the best linear map, relative to the
    spiral's own: how far its shape is not kept. `undone`: the same for what the positive channels alone give back
    (`lemmas.undo`), over the points that do not collapse: 0 up to rounding.
    """

    dimensions: int
    collapsed: float
    expected: float
    bend: float
    undone: float


@dataclass(frozen=True, slots=True)
class Orthant:
    """ReLU(Bx) with B [2, 2] on a square of points: in the cone Bx > 0 it is x -> Bx, beyond it collapses.

    `inside`: share of the points in the cone; `linear_error`: largest |ReLU(Bx) - Bx| there; `beyond_error`: the same
    for the others.
    """

    inside: float
    linear_error: float
    beyond_error: float


def spiral(points: int = POINTS) -> Array:
    """An Archimedean spiral around the origin [P, 2], its outer radius 1."""
    turn = 2 * np.pi * TURNS * np.sqrt(np.linspace(0.01, 1, points))  # evenly spread along it
    return np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / (2 * np.pi * TURNS)


def through(points_P2: Array, matrix_m2: Array) -> Array:
    """T+ ReLU(T x): back in the plane [P, 2]."""
    return np.maximum(points_P2 @ matrix_m2.T, 0) @ np.linalg.pinv(matrix_m2).T


def figure1(*, seed: int = 0, trials: int = 200) -> list[Loss]:
    """The losses in each of `DIMENSIONS`, over `trials` normal matrices."""
    points = spiral()
    result: list[Loss] = []
    for m in DIMENSIONS:
        rng = np.random.default_rng([seed, m])
        found: list[tuple[float, float, float]] = []
        for _ in range(trials):
            matrix = rng.normal(size=(m, 2))
            kept = lemmas.invertible(matrix, points)
            undone = lemmas.undo(matrix, np.maximum(points @ matrix.T, 0))
            apart = _relative(undone[kept] - points[kept], points[kept]) if kept.any() else 0.0
            found.append((1 - kept.mean(), bend(points, through(points, matrix)), apart))
        collapsed, bent, apart = (float(value) for value in np.mean(found, axis=0))
        result.append(Loss(m, collapsed, lemmas.collapsed_share(2, m), bent, apart))
    return result


def bend(points_P2: Array, back_P2: Array) -> float:
    """How far `back` is from any affine image that could be mapped to the points again; 0: not bent, 1: all lost."""
    columns = np.c_[back_P2, np.ones(len(back_P2))]
    fitted = columns @ np.linalg.lstsq(columns, points_P2, rcond=None)[0]
    return _relative(fitted - points_P2, points_P2 - points_P2.mean(0))


def orthant(*, seed: int = 0, side: int = 81) -> Orthant:
    """The reading note's question: is the layer linear where its output is inside the positive orthant?"""
    points, matrix = _square(side), _orthant_matrix(seed)
    straight = points @ matrix.T
    apart = np.abs(np.maximum(straight, 0) - straight).max(axis=1)
    inside = (straight > 0).all(axis=1)
    return Orthant(float(inside.mean()), float(apart[inside].max(initial=0)), float(apart[~inside].max(initial=0)))


def draw(*, seed: int = 0) -> bytes:
    """A PNG: the spiral and what comes back of it, one matrix for each of `DIMENSIONS`, below the losses over many."""
    points = spiral()
    losses = figure1(seed=seed)
    figure = new_figure(figsize=(13, 2.9))
    axes = figure.subplots(1, 1 + len(DIMENSIONS))
    _draw_points(axes[0], points, "input")
    for panel, loss in zip(axes[1:], losses, strict=True):
        matrix = np.random.default_rng([seed, loss.dimensions]).normal(size=(loss.dimensions, 2))
        _draw_points(panel, through(points, matrix), f"dimension {loss.dimensions}")
        panel.set_xlabel(f"{100 * loss.collapsed:.1f} % collapse\nbend {loss.bend:.2f}", fontsize=9)
    return png(figure)


def draw_orthant(*, seed: int = 0) -> bytes:
    """A PNG: the plane before and after ReLU(Bx), the cone that stays a plane in colour, the rest in grey."""
    points, matrix = _square(33), _orthant_matrix(seed)
    straight = points @ matrix.T
    positive = (straight > 0).sum(axis=1)
    figure = new_figure(figsize=(8.4, 4.1))
    before, after = figure.subplots(1, 2)
    names = ("no positive channel: all to one point", "one: to a line", "both: x → Bx, nothing is lost")
    for count, colour in enumerate(("#343a40", "#ffa94d", "#4a90c2")):
        chosen = positive == count
        before.scatter(*points[chosen].T, s=7, color=colour, label=names[count])
        after.scatter(*np.maximum(straight[chosen], 0).T, s=7 if count else 40, color=colour, zorder=3 - count)
    before.set(title="x", aspect="equal")
    after.set(title="ReLU(Bx)", aspect="equal")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for panel in (before, after):
        panel.spines[["top", "right"]].set_visible(False)
    return png(figure)


def write(path: str | PathLike[str], *, seed: int = 0) -> dict[str, Any]:
    """Draw the spirals to `path`; their losses."""
    files.write_bytes(path, draw(seed=seed))
    return {"seed": seed, "losses": [asdict(loss) for loss in figure1(seed=seed)]}


def write_orthant(path: str | PathLike[str], *, seed: int = 0) -> dict[str, Any]:
    """Draw the plane and its image to `path`; the errors inside the cone and beyond."""
    files.write_bytes(path, draw_orthant(seed=seed))
    return {"seed": seed, **asdict(orthant(seed=seed))}


def _draw_points(axes: Axes, points_P2: Array, title: str) -> None:
    axes.plot(*points_P2.T, color="#ced4da", lw=0.8)
    axes.scatter(*points_P2.T, c=np.arange(len(points_P2)), cmap="viridis", s=4, zorder=2)
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")


def _square(side: int) -> Array:
    """`side` x `side` points of the square -1 to 1."""
    line = np.linspace(-1, 1, side)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def _orthant_matrix(seed: int) -> Array:
    return np.random.default_rng([seed, 0]).normal(size=(2, 2))


def _relative(difference: Array, to: Array) -> float:
    return float(np.sqrt((difference**2).sum() / (to**2).sum()))
