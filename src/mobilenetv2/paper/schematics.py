"""Figures 2, 3 and 4: convolutional blocks as the paper draws them, from their convolutions.

A tensor is a box whose thickness says how many channels it has. A hatched one has no non-linearity after it, a pale one
begins the next block; blue lines are convolutions, named by their kernels, and arcs are shortcuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from mobilenetv2 import files
from mobilenetv2.charts import new_figure, png
from mobilenetv2.paper.compared import shuffle_unit
from mobilenetv2.spec import Backbone, ConvSpec, block

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANNELS = 24  # of the drawn blocks' narrow tensors
EDGE, SLANT = 1.0, 0.45  # height of a front face; how far the sides of a box go back
THICK = 1.1  # of 144 channels
GAP = 0.55
FACE, PALE, LINE = "#9ec9e8", "#eaf3fa", "#2b5d8a"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A block: its convolutions in order, whether its input is added to (or stacked beside) what they give, and whether
    the first convolution of the next block is shown, pale."""

    title: str
    convs: tuple[ConvSpec, ...]
    joined: Literal["", "add", "concat"] = ""
    following: tuple[ConvSpec, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        shown = (*self.convs, *self.following)
        return {
            "title": self.title,
            "channels": [shown[0].in_channels, *(conv.out_channels for conv in shown)],
            "linear": [conv.activation == "linear" for conv in shown],
            "joined": self.joined,
        }


def figure2(path: str | PathLike[str]) -> dict[str, Any]:
    """Figure 2: from a full convolution to separable ones with a linear bottleneck."""
    narrow, wide = CHANNELS * 2, CHANNELS * 4
    full = _conv(narrow, wide, kernel=3)
    separable = (_conv(narrow, narrow, kernel=3, groups=narrow), _conv(narrow, wide))
    inner = block(in_channels=CHANNELS, out_channels=CHANNELS, expansion=6, stride=1, net=Backbone())
    assert inner.expand is not None
    bottleneck = (inner.depthwise, inner.project)
    drawings = (
        Drawing("(a) Regular", (full,)),
        Drawing("(b) Separable", separable),
        Drawing("(c) Separable with linear bottleneck", bottleneck, following=(inner.expand,)),
        Drawing("(d) Bottleneck with expansion layer", inner.convolutions),
    )
    return _write(path, drawings, (2, 2))


def figure3(path: str | PathLike[str]) -> dict[str, Any]:
    """Figure 3: a residual block joins wide tensors, an inverted one the narrow ones."""
    wide, narrow = CHANNELS * 6, CHANNELS
    residual = (_conv(wide, narrow), _conv(narrow, narrow, kernel=3), _conv(narrow, wide))
    inner = block(in_channels=narrow, out_channels=narrow, expansion=6, stride=1, net=Backbone())
    drawings = (
        Drawing("(a) Residual block", residual, "add"),
        Drawing("(b) Inverted residual block", inner.convolutions, "add" if inner.shortcut == "bottleneck" else ""),
    )
    return _write(path, drawings, (1, 2))


def figure4(path: str | PathLike[str]) -> dict[str, Any]:
    """Figure 4: the blocks of four networks. NasNet's is one of its many branches: two separable convolutions."""
    c, wide = CHANNELS * 3, CHANNELS * 4
    nasnet = (_conv(c, c, kernel=5, groups=c), _conv(c, c), _conv(c, c, kernel=5, groups=c), _conv(c, c))
    mobilenet = (_conv(c, c, kernel=3, groups=c), _conv(c, wide))
    shuffle = tuple(shuffle_unit("same", wide, wide, wide // 4, 1, 3))
    shuffle_down = tuple(shuffle_unit("half", c, wide, wide // 4, 2, 3))
    same, half = (
        block(in_channels=CHANNELS, out_channels=out, expansion=6, stride=s, net=Backbone())
        for out, s in ((CHANNELS, 1), (32, 2))
    )
    drawings = (
        Drawing("(a) NasNet (one branch)", nasnet, "add"),
        Drawing("(b) MobileNet", mobilenet),
        Drawing("(c) ShuffleNet, stride 1", shuffle, "add"),
        Drawing("(c) ShuffleNet, stride 2", shuffle_down, "concat"),
        Drawing("(d) MobileNetV2, stride 1", same.convolutions, "add" if same.shortcut == "bottleneck" else ""),
        Drawing("(d) MobileNetV2, stride 2", half.convolutions, "add" if half.shortcut == "bottleneck" else ""),
    )
    return _write(path, drawings, (3, 2))


def _write(path: str | PathLike[str], drawings: Sequence[Drawing], grid: tuple[int, int]) -> dict[str, Any]:
    figure = new_figure(figsize=(5.4 * grid[1], 2.6 * grid[0] + 0.3))
    every = list(figure.subplots(*grid).flat)
    longest = max([_draw(axes, drawing) for axes, drawing in zip(every, drawings, strict=True)])
    for axes in every:
        axes.set_xlim(-0.3, longest + 0.1)  # one scale, so that thicknesses can be compared
    figure.supxlabel("thickness: channels;  hatched: no non-linearity after it;  pale: the next block's", fontsize=8)
    files.write_bytes(path, png(figure))
    return {"blocks": [drawing.facts for drawing in drawings]}


def _draw(axes: Axes, drawing: Drawing) -> float:
    """Draws the block from x = 0; gives where it ends."""
    from matplotlib.patches import FancyArrowPatch

    shown = (*drawing.convs, *drawing.following)
    x, edge = 0.0, EDGE
    # the input is what the block before gave: of the same kind as what this one gives
    x = _box(
        axes, x, edge, shown[0].in_channels, linear=drawing.convs[-1].activation == "linear" and _inverted(drawing)
    )
    tops = [(0.0, edge)]
    for i, conv in enumerate(shown):
        start, before = x, edge
        edge = edge / conv.stride**0.6
        x = start + GAP
        for sign in (-1, 1):
            front = start - SLANT * before  # hidden behind the side face where that covers it
            axes.plot((front, x), (sign * before / 2, sign * edge / 2), color=LINE, lw=0.8, zorder=0)
        axes.text((start + x) / 2, -before / 2 - 0.22, _name(conv), ha="center", va="top", fontsize=7, color=LINE)
        tops.append((x, edge))
        pale = i >= len(drawing.convs)
        x = _box(axes, x, edge, conv.out_channels, linear=conv.activation == "linear", pale=pale)
    if drawing.joined:
        (x0, y0), (x1, y1) = tops[0], tops[len(drawing.convs)]
        ends = (x0 + 0.35, y0 / 2 + SLANT), (x1 + 0.35, y1 / 2 + SLANT)
        arc = FancyArrowPatch(*ends, connectionstyle="arc3,rad=-0.25", arrowstyle="-|>", mutation_scale=10, color=LINE)
        axes.add_patch(arc)
        top = max(y0, y1) / 2 + SLANT + 0.125 * (x1 - x0) + 0.1
        axes.text((x0 + x1) / 2 + 0.35, top, drawing.joined, ha="center", fontsize=8, color=LINE)
    axes.set(ylim=(-1.0, 2.1), aspect="equal")
    axes.set_title(drawing.title, fontsize=10)
    axes.axis("off")
    return x


def _box(axes: Axes, x: float, edge: float, channels: int, *, linear: bool, pale: bool = False) -> float:
    """Draws a tensor whose left front corner is at `x`; gives where it ends."""
    from matplotlib.patches import Polygon

    width, back = THICK * channels / (CHANNELS * 6), SLANT * edge
    low, high = -edge / 2, edge / 2
    options: dict[str, Any] = {
        "facecolor": PALE if pale else FACE, "edgecolor": LINE, "lw": 0.8, "hatch": "////" if linear else None,
    }  # fmt: skip
    faces = (
        ((x, low), (x + width, low), (x + width, high), (x, high)),
        ((x, high), (x + width, high), (x + width + back, high + back), (x + back, high + back)),
        ((x + width, low), (x + width + back, low + back), (x + width + back, high + back), (x + width, high)),
    )
    for face in faces:
        axes.add_patch(Polygon(face, closed=True, **options))
    axes.text(x + width / 2, low - 0.05, str(channels), ha="center", va="top", fontsize=7)
    return x + width + back


def _inverted(drawing: Drawing) -> bool:
    """Whether it begins with a bottleneck, narrower than what follows."""
    return drawing.convs[0].in_channels < drawing.convs[0].out_channels


def _name(conv: ConvSpec) -> str:
    kind = "dw " if conv.groups == conv.in_channels else f"g{conv.groups} " if conv.groups > 1 else ""
    return f"{kind}{conv.kernel}x{conv.kernel}" + (f" /{conv.stride}" if conv.stride > 1 else "")


def _conv(in_channels: int, out_channels: int, *, kernel: int = 1, groups: int = 1) -> ConvSpec:
    return ConvSpec("", None, in_channels, out_channels, kernel=kernel, groups=groups)
