"""Pictures made of results: answers below a photo, contact sheets, confusion matrices.

Sizes in pixels. Text is Pillow's own font in photos and matplotlib's in plots: both know Latin, Greek and
Cyrillic letters; others come out as boxes there, while text and JSON carry them.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mobilenetv2 import files
from mobilenetv2.errors import UsageError
from mobilenetv2.metrics import confused_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UInt8Array = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (240, 242, 245)
FAINT: Colour = (172, 178, 188)
TRACK: Colour = (52, 57, 67)
BAR: Colour = (77, 171, 247)
RIGHT: Colour = (64, 192, 87)
WRONG: Colour = (250, 82, 82)

PHOTO_SIDES = (480, 960)  # the longer side of a drawn photo: least and largest
PANEL_WIDTH = 400  # a narrower photo is centred above a panel of this width
TILE = 192  # side of a contact sheet's thumbnails
LABELLED_CLASSES = 30  # beyond this, tick labels would be too small to read
GRID = 150  # cells per side of an unlabelled matrix: each is at least 4 pixels
PAIRS = 20  # confused pairs listed beside an unlabelled matrix


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture of a contact sheet, RGB [H, W, 3], with lines of text below it.

    `right` colours its edge: green where it is True, red where it is False, none where it is None.
    """

    rgb: UInt8Array
    lines: tuple[str, ...]
    right: bool | None = None


def photo_with_bars(rgb: UInt8Array, rows: Sequence[tuple[str, float, str]], *, title: str = "") -> UInt8Array:
    """`rgb` [H, W, 3] above one line per row: (label, share 0..1 of a full bar, text at its end).

    The photo's longer side becomes 480 to 960 pixels, its proportions stay. Labels that are too long end in
    "…". Raises `UsageError` where `rgb` is not uint8 [H, W, 3].
    """
    photo = _scaled(rgb, *PHOTO_SIDES)
    width = max(photo.width, PANEL_WIDTH)
    size = min(max(round(width / 38), 15), 24)
    font, row_height, pad = _font(size), round(1.7 * size), round(0.8 * size)
    lines = len(rows) + bool(title)
    canvas = Image.new("RGB", (width, photo.height + 2 * pad + lines * row_height), PAPER)
    canvas.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)

    y = photo.height + pad + row_height // 2  # the middle of the first line
    if title:
        draw.text((pad, y), fitted(title, font, width - 2 * pad), INK, font, anchor="lm")
        y += row_height
    ends = max((font.getlength(end) for _, _, end in rows), default=0.0)
    label_width = round(0.56 * width) - pad
    left, right = pad + label_width + pad, round(width - pad - ends - pad)
    for i, (label, share, end) in enumerate(rows):
        ink = INK if i == 0 else FAINT
        draw.text((pad, y), fitted(label, font, label_width), ink, font, anchor="lm")
        half = max(3, size // 5)
        draw.rectangle((left, y - half, right, y + half), TRACK)
        if filled := round(min(max(share, 0.0), 1.0) * (right - left)):
            draw.rectangle((left, y - half, left + filled, y + half), BAR)
        draw.text((width - pad, y), end, ink, font, anchor="rm")
        y += row_height
    return np.asarray(canvas)


def thumbnail(rgb: UInt8Array) -> UInt8Array:
    """`rgb` as a contact sheet shows it, for those who collect many tiles: its longer side is 192 pixels."""
    return np.asarray(_scaled(rgb, TILE, TILE))


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6) -> UInt8Array:
    """The tiles in rows of `columns`, in order. Raises `UsageError` where there is none."""
    if not tiles or columns < 1:
        raise UsageError(f"a contact sheet needs pictures and columns, got {len(tiles)} and {columns}")
    font, gap, edge, line = _font(15), 12, 5, 20
    columns = min(columns, len(tiles))
    height = TILE + edge + line * max(len(tile.lines) for tile in tiles)
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (gap + columns * (TILE + gap), gap + rows * (height + gap)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, tile in enumerate(tiles):
        x, y = gap + i % columns * (TILE + gap), gap + i // columns * (height + gap)
        photo = _scaled(tile.rgb, TILE, TILE)
        canvas.paste(photo, (x + (TILE - photo.width) // 2, y + (TILE - photo.height) // 2))
        if tile.right is not None:
            draw.rectangle((x, y + TILE, x + TILE - 1, y + TILE + edge - 1), RIGHT if tile.right else WRONG)
        for j, text in enumerate(tile.lines):
            place = (x, y + TILE + edge + j * line + line // 2)
            draw.text(place, fitted(text, font, TILE), FAINT if j else INK, font, anchor="lm")
    return np.asarray(canvas)


def write_png(path: str | os.PathLike[str], rgb: UInt8Array) -> None:
    """Write uint8 RGB [H, W, 3] as a PNG, atomically. Raises `FileError`."""
    with files.writing(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="png")


def write_confusion(path: str | os.PathLike[str], counts: npt.NDArray[np.int64], labels: Sequence[str]) -> None:
    """A PNG of the confusion matrix `counts` [L, L + 1] (`ConfusionMatrix.compute()`), rows in per cent.

    Rows and columns are the classes that have pictures. Up to 30 are named along both sides, and answers
    outside them share a column; more are drawn as a map, coarser beyond 150, which says how many answers
    are outside it, beside the pairs that were confused most.

    Raises `FileError`, and `UsageError` where no picture was counted.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = np.flatnonzero(counts.sum(axis=1))
    if not len(shown):
        raise UsageError("a confusion matrix needs at least one picture, got none")
    figure = Figure(layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    names = [_plain(labels[int(i)]) for i in shown]
    if len(shown) <= LABELLED_CLASSES:
        _named_matrix(figure, counts, shown, names)
    else:
        _map_and_pairs(figure, counts, shown, labels)
    with files.writing(path) as temporary, warnings.catch_warnings():
        # letters that the font lacks are drawn as boxes, as the module says
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png")


def write_memory(path: str | os.PathLike[str], plan: dict[str, Any]) -> None:
    """A PNG of the engine's memory, from `engine.describe`'s object. Raises `FileError`.

    Above, what lives when in the arena: steps from left to right, addresses upwards; each rectangle is a buffer, from
    the first step to the last that needs it. Below, the bytes of activations that each step moves.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9.5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    arena, traffic = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    _draw_arena(arena, plan)
    _draw_traffic(traffic, plan)
    traffic.set_xticks(range(len(plan["steps"])), [step["name"] for step in plan["steps"]], rotation=60, ha="right")
    for axes in (arena, traffic):
        axes.spines[["top", "right"]].set_visible(False)
    with files.writing(path) as temporary:
        figure.savefig(temporary, format="png")


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


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """`text` on one line, at most `width` pixels wide: cut, with "…" at its end, where it is longer."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def _scaled(rgb: UInt8Array, least: int, largest: int) -> Image.Image:
    """The picture with its longer side within `least` to `largest`."""
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise UsageError(f"a picture to draw on must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    photo = Image.fromarray(rgb)
    longer = max(photo.size)
    target = min(max(longer, least), largest)
    if target == longer:
        return photo
    width, height = (max(1, round(side * target / longer)) for side in photo.size)
    if target > longer:
        return photo.resize((width, height), Image.Resampling.BICUBIC)
    # a box filter first halves the time for 6000 x 4000: 0.55 -> 0.28 s
    return photo.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


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
    names = [f"{_plain(labels[true])} → {_plain(labels[answer])}" for true, answer, _ in pairs]
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


def _plain(label: str, longest: int = 28) -> str:
    """`label` as matplotlib draws it literally: on one line, cut, without mathematics."""
    label = " ".join(label.split())
    label = label if len(label) <= longest else label[: longest - 1].rstrip() + "…"
    return label.replace("$", r"\$")
