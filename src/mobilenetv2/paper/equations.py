"""Equation (1) and the bottleneck's cost formula, each term beside the layer that it counts."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenetv2.complexity import chain, complexity
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.spec import Backbone, ConvSpec, Spec, blocks


@dataclass(frozen=True, slots=True)
class Terms:
    """One block's multiply-adds from the formula: h w d' t (d' + k^2 + d''), term by term (section 3.3).

    The formula is for stride 1. With stride s the last two terms are s^2 smaller, and without expansion (t = 1) the
    first is not there.
    """

    expand: int
    depthwise: int
    project: int

    @property
    def total(self) -> int:
        return self.expand + self.depthwise + self.project


def bottleneck(h: int, w: int, d: int, made: int, *, t: int, k: int = 3, s: int = 1) -> Terms:
    """The formula for a map h x w of d' = `d` channels, `made` = d'' of them made; h and w are multiples of s."""
    after = (h // s) * (w // s) * d * t
    return Terms(h * w * d * t * d if t != 1 else 0, after * k * k, after * made)


def separable(h: int, w: int, d: int, made: int, k: int = 3) -> int:
    """Equation (1): h w d_i (k^2 + d_j), a depthwise convolution and a 1x1 after it."""
    return h * w * d * (k * k + made)


def full(h: int, w: int, d: int, made: int, k: int = 3) -> int:
    """A full convolution: h w d_i d_j k^2."""
    return h * w * d * made * k * k


def saved(made: int, k: int = 3) -> float:
    """Full / separable: k^2 d_j / (k^2 + d_j). 8.26 for k = 3 and d_j = 100, k^2 = 9 at most."""
    return k * k * made / (k * k + made)


def table() -> Table:
    """Every block of MobileNetV2 at 224: formula ("printed") and counted layers ("ours"); then equation (1)."""
    net = Backbone()
    counted = {cost.name: cost.multiply_adds for cost in complexity(Spec(), 224).layers}
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    size = 112
    for block in blocks(net):
        t = block.depthwise.in_channels // block.in_channels
        terms = bottleneck(size, size, block.in_channels, block.out_channels, t=t, s=block.stride)
        layers = (block.expand, block.depthwise, block.project)
        ours = [counted[conv.name] if conv else 0 for conv in layers]
        both = zip((terms.expand, terms.depthwise, terms.project, terms.total), (*ours, sum(ours)), strict=True)
        rows.append((f"block {block.index}", tuple(Cell(f"{a:,}", f"{b:,}") for a, b in both)))
        size //= block.stride
    depthwise = ConvSpec("depthwise", None, 64, 64, kernel=3, groups=64)
    a, b = (cost.multiply_adds for cost in chain((depthwise, ConvSpec("1x1", None, 64, 128)), 56))
    formula = separable(56, 56, 64, 128)
    cells = ((0, 0), (56 * 56 * 64 * 9, a), (56 * 56 * 64 * 128, b), (formula, a + b))
    rows.append(("equation (1), 56x56, 64 to 128", tuple(Cell(f"{x:,}", f"{y:,}") for x, y in cells)))
    columns = ("h w d' t d'", "h w d' t k^2", "h w d' t d''", "sum")
    notes = (f"Full / separable at k = 3: {saved(100):.2f} for 100 channels made, {saved(1280):.2f} for 1280.",)
    return Table("equations", "The cost of each block: formula and counted layers", columns, tuple(rows), notes)
