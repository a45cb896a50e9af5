"""Figure 5: ImageNet top-1 accuracy against multiply-adds over the grid of widths and resolutions.

Accuracies are those published with the TF-Slim weights (`zoo`), multiply-adds come from the spec; models measured here
are drawn beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from mobilenetv2 import files, zoo
from mobilenetv2.charts import new_figure, png
from mobilenetv2.complexity import complexity
from mobilenetv2.errors import UsageError
from mobilenetv2.paper import tables
from mobilenetv2.spec import Backbone, Classifier, Spec

PUBLISHER = "keras"  # the source whose files are TF-Slim's weights at every point of the grid
RESOLUTIONS = (96, 128, 160, 192, 224)
_COLOURS = ("#845ef7", "#4a90c2", "#2f9e44", "#f08c00", "#e03131")


@dataclass(frozen=True, slots=True)
class Point:
    """One network at one input size (pixels); `top1` is a fraction. `source`: who measured it."""

    width_mult: float
    resolution: int
    multiply_adds: int
    top1: float
    source: str


def published() -> list[Point]:
    """Every published point of the grid, in the order of multiply-adds: 22 points, 4 widths at 5 sizes and two more."""
    points = [
        Point(entry.width_mult, entry.resolution, cost(entry.width_mult, entry.resolution), entry.top1, "published")
        for entry in zoo.entries()
        if entry.source == PUBLISHER and entry.top1 is not None
    ]
    return sorted(points, key=lambda point: point.multiply_adds)


def rivals() -> list[tuple[str, float, float]]:
    """The other networks of Table 4: name, millions of multiply-adds and top-1 in per cent, both as printed."""
    table = tables.table4()
    found = {row: dict(zip(table.columns, cells, strict=True)) for row, cells in table.rows}
    return [
        (row, float(cells["MAdds"].printed.removesuffix("M")), float(cells["top-1"].printed))
        for row, cells in found.items()
        if not row.startswith("MobileNetV2")
    ]


def cost(width_mult: float, resolution: int) -> int:
    """Multiply-adds of the classifier with 1000 outputs."""
    return complexity(Spec(Backbone(width_mult), Classifier(outputs=1000)), resolution).multiply_adds


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats with as few multiply-adds, cheapest first."""
    best = -1.0
    result: list[Point] = []
    for point in sorted(points, key=lambda point: (point.multiply_adds, -point.top1)):
        if point.top1 > best:
            best = point.top1
            result.append(point)
    return result


def measured(models: Sequence[str], imagenet: str) -> list[Point]:
    """Each of `models` (files or zoo names of classifiers) evaluated on the pictures of `imagenet` (a folder).

    Raises what `predictor.load`, `open_classification` and `evaluate` do.
    """
    from mobilenetv2.data.classification import open_classification
    from mobilenetv2.evaluate import evaluate
    from mobilenetv2.predictor import load

    points: list[Point] = []
    for name in models:
        predictor = load(name)
        info = predictor.info
        found = evaluate(predictor, open_classification(imagenet, classes=info))
        size = info.preprocessing.size
        total = complexity(info.spec, size).multiply_adds
        points.append(Point(info.spec.backbone.width_mult, min(size), total, found.top1, name))
    return points


def draw(points: Sequence[Point]) -> bytes:
    """A PNG: one line per width, a mark per resolution, the networks of Table 4 as squares; log axis. What was measured
    here as black crosses."""
    figure = new_figure(figsize=(7.4, 4.8))
    axes = figure.subplots()
    known = [point for point in points if point.source == "published"]
    widths = sorted({point.width_mult for point in known})
    for number, width in enumerate(widths):
        line = [point for point in known if point.width_mult == width]
        axes.plot([p.multiply_adds / 1e6 for p in line], [100 * p.top1 for p in line], color="#ced4da", lw=1, zorder=1)
        last = line[-1]
        offset = -8 if width == 1.3 else 0, -14 if number in (0, 2) else 6
        axes.annotate(
            f"{width:g}x", (last.multiply_adds / 1e6, 100 * last.top1), offset,
            textcoords="offset points", fontsize=8, ha="center",
        )  # fmt: skip
    for size, colour in zip(RESOLUTIONS, _COLOURS, strict=True):
        line = [point for point in known if point.resolution == size]
        axes.scatter(
            [p.multiply_adds / 1e6 for p in line], [100 * p.top1 for p in line], s=26, color=colour, label=f"{size} px"
        )
    others = rivals()
    axes.scatter(
        [cost for _, cost, _ in others], [top1 for *_, top1 in others], marker="s", s=22, facecolor="none",
        edgecolor="#495057", label="others, Table 4",
    )  # fmt: skip
    for name, madds, top1 in others:
        below = 7 if name == "ShuffleNet (x2)" else 0  # NasNet-A stands beside it
        axes.annotate(
            name, (madds, top1), (7, -below), textcoords="offset points", fontsize=7, color="#495057",
            va="center",
        )  # fmt: skip
    own = [point for point in points if point.source != "published"]
    if own:
        axes.scatter(
            [p.multiply_adds / 1e6 for p in own], [100 * p.top1 for p in own], marker="x", color="black",
            label="measured here",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="multiply-adds, millions", ylabel="ImageNet top-1, %", xlim=(10, 1000), ylim=(40, 78))
    ticks = (10, 20, 40, 80, 150, 300, 600, 1000)
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_axisbelow(True)
    axes.grid(color="#f1f3f5")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return png(figure)


def write(path: str | PathLike[str], *, models: Sequence[str] = (), imagenet: str | None = None) -> dict[str, Any]:
    """Draw the grid to `path`, with what `models` reach on the pictures of `imagenet` where that is given; its points.

    Raises `UsageError` where one of the two is missing.
    """
    if bool(models) != (imagenet is not None):
        raise UsageError("measuring points needs both: models (--model) and labelled pictures (--imagenet)")
    points = published() + (measured(models, imagenet) if imagenet is not None else [])
    files.write_bytes(path, draw(points))
    best = frontier(points)
    return {"points": [{**asdict(point), "frontier": point in best} for point in points]}
