"""Charts made of numbers, as PNG bytes: confusion, reliability, a training run's curves, the engine's memory.

Text is matplotlib's own font, which knows Latin, Greek and Cyrillic letters; others come out as boxes. Every chart
is a figure of its own: matplotlib's global state is not touched.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError
from mobilenetv2.metrics import Reliability, confused_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED_CLASSES = 30  # beyond this, tick labels would be too small to read
GRID = 150  # cells per side of an unlabelled matrix: each is at least 4 pixels
PAIRS = 20  # confused pairs listed beside an unlabelled matrix
DOTS = 40  # epochs up to which each is a dot on its curve


def new_figure(**options: Any) -> Figure:
    """An empty figure that nothing else draws on; `options` are matplotlib's `Figure`'s. 110 dots per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", dpi=110, **options)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        # letters that the font lacks are drawn as boxes, as the module says
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(written, format="png")
    return written.getvalue()


def confusion(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> bytes:
    """A PNG of the confusion matrix `counts` [L, L + 1] (`ConfusionMatrix.compute()`), rows in per cent.

    Rows and columns are the classes that have pictures. Up to 30 are named along both sides, and answers
    outside them share a column; more are drawn as a map, coarser beyond 150, which says how many answers
    are outside it, beside the pairs that were confused most.

    Raises `UsageError` where no picture was counted.
    """
    shown = np.flatnonzero(counts.sum(axis=1))
    if not len(shown):
        raise UsageError("a confusion matrix needs at least one picture, got none")
    figure = new_figure()
    names = [plain(labels[int(i)]) for i in shown]
    if len(shown) <= LABELLED_CLASSES:
        _named_matrix(figure, counts, shown, names)
    else:
        _map_and_pairs(figure, counts, shown, labels)
    return png(figure)


def reliability(found: Reliability) -> bytes:
    """A PNG of a reliability diagram (`Calibration.compute()`), its calibration error in the title.

    Above, each bin's accuracy over its confidences, and the gap to the bin's mean confidence: orange above the accuracy
    where the model is too sure, pale within it where the model could be surer. Below, the share of the pictures in
    each bin. Raises `UsageError` where no picture was counted.
    """
    n = int(found.pictures.sum())
    if not n:
        raise UsageError("a reliability diagram needs at least one picture, got none")
    figure = new_figure(figsize=(6.4, 7.4))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    bins = len(found.pictures)
    middles = (np.arange(bins) + 0.5) / bins
    accuracy, confidence = np.nan_to_num(found.accuracy), np.nan_to_num(found.confidence)
    lower, gap = np.minimum(accuracy, confidence), confidence - accuracy
    bar: dict[str, Any] = {"width": 1 / bins, "edgecolor": "white", "lw": 0.8}
    above.bar(middles, lower, color="#4a90c2", **bar)
    above.bar(middles, gap.clip(min=0), bottom=lower, color="#ffa94d", hatch="///", label="too sure", **bar)
    above.bar(middles, -gap.clip(max=0), bottom=lower, color="#a5d0f0", hatch="///", label="could be surer", **bar)
    above.plot((0, 1), (0, 1), color="#495057", ls="--", lw=1, label="as right as sure")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.set_title(f"ECE {100 * found.ece:.2f} %, MCE {100 * found.mce:.2f} %, {n:,} pictures", fontsize=11)
    above.legend(loc="best", framealpha=0.9, edgecolor="none")

    below.bar(middles, 100 * found.pictures / n, color="#adb5bd", **bar)
    for value, colour, name in (
        (found.mean_accuracy, "#4a90c2", "accuracy"),
        (found.mean_confidence, "#ffa94d", "mean confidence"),
    ):
        below.axvline(value, color=colour, lw=1.5, label=f"{name} {100 * value:.1f} %")
    below.set(xlabel="confidence of the first answer", ylabel="% of the pictures")
    below.legend(loc="best", framealpha=0.9, edgecolor="none")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def curves(rows: Sequence[Mapping[str, float]], kept: int | None = None) -> bytes:
    """A PNG of a training run: losses, scores on validation pictures and learning rate, over its epochs.

    `rows` are an epoch each, by the names of `metrics.csv`; what no row has is not drawn. The epoch `kept` is marked.
    Raises `UsageError` where there is no row.
    """
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise UsageError("curves need at least one epoch, got none")
    panels = [
        (title, scale, lines)
        for title, scale, lines in (
            ("loss", 1, (("train_loss", "train", "#1c7ed6"), ("val_loss", "val", "#e8590c"))),
            (
                "parts of the training loss",
                1,
                (("train_class_loss", "classes", "#1c7ed6"), ("train_box_loss", "boxes", "#f08c00")),
            ),
            ("val accuracy, %", 100, (("val_accuracy", "", "#2f9e44"),)),
            ("val average precision, %", 100, (("val_ap50", "AP50", "#2f9e44"), ("val_ap", "AP, as COCO", "#0b7285"))),
            (
                "val mIoU and pixels, %",
                100,
                (("val_miou", "mIoU", "#2f9e44"), ("val_pixel_accuracy", "pixels right", "#0b7285")),
            ),
            ("learning rate", 1, (("learning_rate", "", "#7048e8"),)),
        )
        if any(name in row for row in rows for name, _, _ in lines)
    ]
    columns = len(panels) if len(panels) < 4 else 2
    figure = new_figure(figsize=(4 * columns, 3 * -(-len(panels) // columns)))
    places = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flat
    for axes, (title, scale, lines) in zip(places, panels, strict=True):
        if kept is not None:
            axes.axvline(kept, color="#868e96", lw=1, ls="--", label="kept epoch" if title == "loss" else None)
        for name, label, colour in lines:
            points = [(row["epoch"], scale * row[name]) for row in rows if name in row]
            if points:
                # dots where the line alone would be hard to see
                axes.plot(*zip(*points, strict=True), color=colour, lw=2, label=label or None, marker="o",
                          ms=4 if len(points) <= DOTS else 0)  # fmt: skip
        if title == "learning rate" and len(rows) == 1:  # a rate of 0 alone would get an axis with negative ones
            axes.set_ylim(0, 1.08 * rows[0]["learning_rate"] or 1e-3)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#e9ecef", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9)
    return png(figure)


def memory(plan: dict[str, Any]) -> bytes:
    """A PNG of the engine's memory, from `engine.describe`'s object.

    Above, what lives when in the arena: steps from left to right, addresses upwards; each rectangle is a buffer, from
    the first step to the last that needs it. Below, the bytes of activations that each step moves.
    """
    figure = new_figure(figsize=(12, 9.5))
    arena, traffic = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    _draw_arena(arena, plan)
    _draw_traffic(traffic, plan)
    traffic.set_xticks(range(len(plan["steps"])), [step["name"] for step in plan["steps"]], rotation=60, ha="right")
    for axes in (arena, traffic):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _draw_arena(axes: Any, plan: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    kinds = {"map": "#4dabf7", "scratch": "#ffa94d", "depthwise": "#69db7c"}
    for buffer in plan["buffers"]:
        kind = buffer["name"].split()[-1]
        left, bottom = buffer["first_step"] - 0.5, buffer["offset"] / 1024
        width, height = buffer["last_step"] - buffer["first_step"] + 1, buffer["bytes"] / 1024
        axes.add_patch(Rectangle((left, bottom), width, height, facecolor=kinds[kind], edgecolor="white", lw=0.8))
        if height > 0.03 * plan["arena_bytes"] / 1024:
            middle = left + width / 2, bottom + height / 2
            axes.text(*middle, f"{height:,.0f}", ha="center", va="center", fontsize=7, rotation=0 if width > 1 else 90)
    for bytes_, text in (
        (plan["arena_bytes"], f"arena {plan['arena_bytes']:,} bytes"),
        (plan["bottleneck_bytes"], f"largest map between two blocks (Table 3) {plan['bottleneck_bytes']:,}"),
    ):
        axes.axhline(bytes_ / 1024, color="#495057", lw=1, ls="--")
        axes.text(len(plan["steps"]) - 0.5, bytes_ / 1024, text, ha="right", va="bottom", fontsize=9)
    for kind, colour in kinds.items():
        axes.bar(0, 0, color=colour, label={"scratch": "scratch: rings of rows"}.get(kind, kind))
    axes.legend(loc="center right", frameon=False)
    top = max(plan["arena_bytes"], plan["bottleneck_bytes"]) / 1024
    axes.set(xlim=(-0.6, len(plan["steps"]) - 0.4), ylim=(0, 1.08 * top), ylabel="KiB")
    height, width = plan["size"]
    axes.set_title(f"{height} x {width}: layer by layer would take {plan['layer_by_layer_bytes']:,} bytes", fontsize=10)


def _draw_traffic(axes: Any, plan: dict[str, Any]) -> None:
    for key, colour, place, text in (
        ("layer_by_layer_moved_bytes", "#ced4da", -0.2, "layer by layer"),
        ("moved_bytes", "#4dabf7", 0.2, "fused, between steps"),
    ):
        moved = [step[key] / 2**20 for step in plan["steps"]]
        label = f"{text}: {sum(moved):,.1f} MiB"
        axes.bar([i + place for i in range(len(moved))], moved, 0.4, color=colour, label=label)
    axes.legend(loc="upper right", frameon=False)
    axes.set(ylabel="MiB of activations\nread and written")


def _named_matrix(figure: Figure, counts: npt.NDArray[np.int64], shown: npt.NDArray[Any], names: list[str]) -> None:
    answers = counts[np.ix_(shown, shown)]
    pictures = counts[shown].sum(axis=1)
    columns = list(names)
    nothing = counts[shown, -1]
    for extra, name in (
        (pictures - nothing - answers.sum(axis=1), "another class"),
        (nothing, "no answer"),
    ):
        if extra[: len(shown)].any():
            answers = np.column_stack([answers, extra])
            columns.append(name)
    n = len(shown)
    side = max(1.2, 0.42 * n)
    figure.set_size_inches(side + 3.6, side + 2.6)
    axes = figure.add_subplot()
    shares = 100 * answers / pictures[:, None]
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), columns, rotation=90 if n > 3 or max(map(len, columns)) > 10 else 0)
    axes.set_yticks(range(n), [f"{name} ({count})" for name, count in zip(names, pictures, strict=True)])
    for row, column in zip(*np.nonzero(answers), strict=True):
        share = shares[row, column]
        colour = "white" if share > 55 else "#1f2933"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    _titles(axes, int(pictures.sum()), "true class (pictures)")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="% of the class's pictures")


def _map_and_pairs(
    figure: Figure, counts: npt.NDArray[np.int64], shown: npt.NDArray[Any], labels: Sequence[str]
) -> None:
    from matplotlib.colors import PowerNorm

    figure.set_size_inches(15, 7.4)
    matrix, bars = figure.subplots(1, 2, width_ratios=[1.15, 1])
    pictures = counts[shown].sum(axis=1)
    shares = 100 * counts[np.ix_(shown, shown)] / pictures[:, None]
    group = -(-len(shown) // GRID)
    cells = _largest_of_groups(shares, group)
    extent = (0, len(cells) * group, len(cells) * group, 0)
    # the square root keeps single mistakes visible beside the diagonal
    drawn = matrix.imshow(cells, cmap="Blues", norm=PowerNorm(0.5, 0, 100), extent=extent, interpolation="nearest")
    matrix.set_xlim(0, len(shown))
    matrix.set_ylim(len(shown), 0)
    note = "" if group == 1 else f"; a cell shows the largest share among {group} × {group} classes"
    _titles(matrix, int(pictures.sum()), f"true class, {len(shown)} classes in order{note}")
    if elsewhere := int(pictures.sum() - counts[np.ix_(shown, shown)].sum()):
        matrix.set_xlabel(f"answer ({elsewhere:,} of the answers are none of these classes)")
    figure.colorbar(drawn, ax=matrix, shrink=0.8, label="% of the class's pictures")

    pairs = confused_pairs(counts, limit=PAIRS)
    bars.set_title("Most frequent mistakes: true class → answer" if pairs else "No mistakes", fontsize=11)
    names = [f"{plain(labels[true])} → {plain(labels[answer])}" for true, answer, _ in pairs]
    found = [count for _, _, count in pairs]
    bars.barh(range(len(pairs)), found, color="#4a90c2", height=0.7)
    bars.set_yticks(range(len(pairs)), names, fontsize=9)
    bars.set_ylim(PAIRS - 0.5, -0.5)
    bars.set_xticks([])
    bars.spines[:].set_visible(False)
    for i, (true, _, count) in enumerate(pairs):
        of = int(counts[true].sum())
        bars.text(count, i, f" {count} of {of}", va="center", fontsize=9)
    bars.set_xlim(0, 1.25 * max(found, default=1))


def _titles(axes: Axes, pictures: int, rows: str) -> None:
    axes.set_title(f"Confusion matrix, {pictures:,} pictures", fontsize=11)
    axes.set_xlabel("answer")
    axes.set_ylabel(rows)


def _largest_of_groups(values: npt.NDArray[np.float64], group: int) -> npt.NDArray[np.float64]:
    """The largest value of each `group` x `group` block of a square array; the last ones may be smaller."""
    cells = -(-len(values) // group)
    padded = np.zeros((cells * group, cells * group))
    padded[: len(values), : len(values)] = values
    return padded.reshape(cells, group, cells, group).max(axis=(1, 3))


def plain(label: str, longest: int = 28) -> str:
    """`label` as matplotlib draws it literally: on one line, cut, without mathematics."""
    label = " ".join(label.split())
    label = label if len(label) <= longest else label[: longest - 1].rstrip() + "…"
    return label.replace("$", r"\$")
