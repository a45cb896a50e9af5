"""Charts of detection, as PNG bytes: precision against recall, and which classes are confused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.charts import LABELLED_CLASSES, new_figure, plain, png
from mobilenetv2.detection_metrics import Curve, VocScores
from mobilenetv2.errors import UsageError

NAMED_CURVES = 10  # beyond this the best and the worst are named, half of it each

_INK, _FAINT = "#1f2933", "#ced4da"


def precision_recall(scores: VocScores, names: Sequence[str]) -> bytes:
    """A PNG of every class's precision at each recall, and their mean, at an overlap of 0.5.

    Up to 10 classes have a colour each; of more the five with the highest and the five with the lowest average
    precision, the others are grey. Raises `UsageError` where no class has true boxes.
    """
    known = [i for i, curve in enumerate(scores.curves) if curve.true]
    if not known:
        raise UsageError("precision and recall need at least one true box, got none")
    ranked = sorted(known, key=lambda i: -scores.curves[i].ap)
    named = ranked
    if len(ranked) > NAMED_CURVES:
        named = ranked[: NAMED_CURVES // 2] + ranked[-NAMED_CURVES // 2 :]
    recalls = np.linspace(0, 1, 201)
    curves = {i: _at(scores.curves[i], recalls) for i in known}
    figure = new_figure(figsize=(9.5, 5.8))
    axes = figure.add_subplot()
    for i in known:
        if i not in named:
            axes.plot(recalls, curves[i], color=_FAINT, lw=0.8)
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
    for place, i in enumerate(named):
        label = f"{100 * scores.curves[i].ap:5.1f}  {plain(names[i])} ({scores.curves[i].true:,})"
        axes.plot(recalls, curves[i], lw=1.4, color=colours[place % len(colours)], label=label)
    mean = np.mean([curves[i] for i in known], axis=0)
    which = "class" if len(known) == 1 else f"mean of {len(known)} classes"
    if len(known) > 1:
        axes.plot(recalls, mean, lw=3, color=_INK, label=f"{100 * scores.ap50:5.1f}  {which}")
    title = "AP in %, class (true boxes)" + ("" if len(named) == len(known) else ": best and worst")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title=title, alignment="left")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of the true boxes that are found")
    axes.set_ylabel("precision: share of the found boxes that are right")
    axes.set_title("Precision at each recall, overlap at least 0.5", fontsize=11)
    axes.grid(color="#e9ecef")
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def detection_confusion(counts: npt.NDArray[np.int64], names: Sequence[str]) -> bytes:
    """A PNG of `DetectionConfusion.compute()` [L + 1, L + 1], with counts: rows are true classes, columns found ones.

    The colour is the share of the row; of more than 30 classes those with the most boxes are shown, and the others
    together. Raises `UsageError` where nothing was counted.
    """
    if not counts.any():
        raise UsageError("a confusion matrix needs at least one box, got none")
    boxes = counts.sum(axis=0)[:-1] + counts.sum(axis=1)[:-1]
    present = np.flatnonzero(boxes)
    shown = np.sort(present[np.argsort(-boxes[present], kind="stable")][:LABELLED_CLASSES])
    others = np.setdiff1d(present, shown)
    background = len(counts) - 1
    groups = [*([i] for i in shown.tolist()), *([others.tolist()] if len(others) else []), [background]]
    cells = np.array([[counts[np.ix_(row, column)].sum() for column in groups] for row in groups])
    labels = [plain(names[int(i)]) for i in shown]
    labels += [f"{len(others)} other classes"] if len(others) else []
    rows, columns = [*labels, "background: wrong"], [*labels, "background: missed"]
    totals = cells.sum(axis=1)
    shares = np.divide(cells, totals[:, None], out=np.zeros(cells.shape), where=totals[:, None] > 0)

    side = max(2.0, 0.44 * len(groups))
    figure = new_figure(figsize=(side + 3.8, side + 2.4))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(groups)), columns, rotation=90)
    axes.set_yticks(range(len(groups)), [f"{row} ({total:,})" for row, total in zip(rows, totals, strict=True)])
    for y, x in zip(*np.nonzero(cells), strict=True):
        _count(axes, int(x), int(y), int(cells[y, x]), dark=bool(shares[y, x] > 0.55))
    for line in (axes.axhline, axes.axvline):
        line(len(groups) - 1.5, color=_INK, lw=1)
    axes.set(xlabel="found as", ylabel="true class (boxes)")
    axes.set_title(f"{int(counts[:-1].sum()):,} true boxes, {int(counts[:, :-1].sum()):,} found", fontsize=11)
    return png(figure)


def _count(axes: Any, x: int, y: int, count: int, *, dark: bool) -> None:
    size = 8 if count < 1000 else 8 - 0.9 * (math.log10(count) - 2)
    axes.text(x, y, f"{count}", ha="center", va="center", fontsize=size, color="white" if dark else _INK)


def _at(curve: Curve, recalls: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The largest precision at each recall or any higher one; 0 beyond the highest that was reached."""
    places = np.searchsorted(curve.recall, recalls - 1e-9)
    return np.append(curve.envelope(), 0.0)[np.minimum(places, len(curve.recall))]
