"""Charts of segmentation, as PNG bytes: IoU of each class, which classes are confused, and how sharp boundaries are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilenetv2.charts import LABELLED_CLASSES, new_figure, plain, png
from mobilenetv2.errors import UsageError
from mobilenetv2.segmentation_metrics import Band, MaskScores

_INK, _BAR = "#1f2933", "#4dabf7"


def class_iou(scores: MaskScores, names: Sequence[str]) -> bytes:
    """A PNG of each class's IoU, best first, with its share of the true pixels and the mean; of more than 60 classes
    the 30 best and the 30 worst. Raises `UsageError` where no pixel counted."""
    known = [int(i) for i in np.argsort(-scores.iou, kind="stable") if not np.isnan(scores.iou[i])]
    if not known:
        raise UsageError("a chart of classes needs at least one pixel, got none")
    shown = known
    if len(known) > 2 * LABELLED_CLASSES:
        shown = known[:LABELLED_CLASSES] + known[-LABELLED_CLASSES:]
    shares = scores.confusion.sum(axis=1) / max(scores.pixels, 1)
    figure = new_figure(figsize=(8.5, 1.6 + 0.26 * len(shown)))
    axes = figure.add_subplot()
    values = 100 * scores.iou[shown]
    axes.barh(range(len(shown)), values, color=_BAR, height=0.72)
    for place, (i, value) in enumerate(zip(shown, values, strict=True)):
        axes.text(value + 0.8, place, f"{value:.1f}", va="center", fontsize=8, color=_INK)
        axes.text(114, place, f"{100 * shares[i]:.1f} %", va="center", ha="right", fontsize=8, color="#667080")
    axes.text(114, -1.1, "of all pixels", va="center", ha="right", fontsize=8, color="#667080")
    axes.axvline(100 * scores.miou, color=_INK, lw=1, ls="--", zorder=0.5)
    axes.set_yticks(range(len(shown)), [plain(names[i]) for i in shown], fontsize=9)
    axes.set(xlim=(0, 115), ylim=(len(shown) - 0.4, -1.6), xlabel="IoU in %")
    axes.set_xticks(range(0, 101, 20))
    which = "" if shown == known else f", best and worst of {len(known)}"
    axes.set_title(f"IoU of each class{which}; the mean is {100 * scores.miou:.1f} %", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def mask_confusion(scores: MaskScores, names: Sequence[str]) -> bytes:
    """A PNG of the confusion matrix in per cent of each true class's pixels. Of more than 30 classes those with the
    most pixels are shown. Raises `UsageError` where no pixel counted."""
    counts = scores.confusion
    pixels = counts.sum(axis=0) + counts.sum(axis=1)
    if not scores.pixels:
        raise UsageError("a confusion matrix needs at least one pixel, got none")
    present = np.flatnonzero(pixels)
    shown = np.sort(present[np.argsort(-pixels[present], kind="stable")][:LABELLED_CLASSES])
    cells = counts[np.ix_(shown, shown)]
    totals = counts[shown].sum(axis=1, keepdims=True)
    shares = 100 * np.divide(cells, totals, out=np.zeros(cells.shape), where=totals > 0)
    labels = [plain(names[int(i)]) for i in shown]
    side = max(2.0, 0.42 * len(shown))
    figure = new_figure(figsize=(side + 3.2, side + 2.2))
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    for y, x in zip(*np.nonzero(shares >= 0.5), strict=True):
        colour = "white" if shares[y, x] > 55 else _INK
        axes.text(int(x), int(y), f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set(xlabel="found as", ylabel="true class")
    more = "" if len(shown) == len(present) else f", the {len(shown)} largest of {len(present)} classes"
    axes.set_title(f"{scores.pixels:,} pixels{more}", fontsize=11)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="% of the true class's pixels")
    return png(figure)


def boundary(bands: Sequence[Band], scores: MaskScores) -> bytes:
    """A PNG of mean IoU and pixel accuracy near boundaries against the width of the band, beside those of all pixels.
    Raises `UsageError` where no pixel lies in any band."""
    known = [band for band in bands if band.pixels]
    if not known:
        raise UsageError("a chart of boundaries needs pixels near one, got none")
    figure = new_figure(figsize=(7.5, 4.6))
    axes = figure.add_subplot()
    widths = [band.width for band in known]
    for values, whole, colour, label in (
        ([band.pixel_accuracy for band in known], scores.pixel_accuracy, "#40c057", "pixel accuracy"),
        ([band.miou for band in known], scores.miou, _BAR, "mean IoU"),
    ):
        axes.plot(widths, 100 * np.array(values), marker="o", color=colour, label=label)
        axes.axhline(100 * whole, color=colour, lw=1, ls="--", label=f"{label}, all pixels: {100 * whole:.1f} %")
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set(xlabel="distance from a boundary of the truth, at most (pixels)", ylabel="%", ylim=(0, 102))
    axes.set_title("How right masks are near boundaries", fontsize=11)
    axes.legend(frameon=False, loc="lower right")
    axes.grid(color="#e9ecef")
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)
