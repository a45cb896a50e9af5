"""A table of the paper as data: what is printed in each cell, what we find, and why the two differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any, Literal

from mobilenetv2.terminal import table as aligned

Mark = Literal["computed", "measured here", "quoted as printed", "published elsewhere"]
SIGNS: dict[str, str] = {"computed": "", "measured here": "°", "quoted as printed": "†", "published elsewhere": "‡"}
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. `printed` and `ours` are as they are shown; "" where there is none.

    `exact` is ours in full, where it was counted. `reason` says why they differ, by which convention they agree, or
    under which conditions ours was measured; a computed cell that differs has one.
    """

    printed: str
    ours: str
    mark: Mark = "computed"
    reason: str = ""
    exact: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether ours is what is printed."""
        return self.printed == self.ours


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are (name, one cell per column). `notes` are printed below it."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[tuple[str, str, Cell]]:
        """(row, column, cell), row by row."""
        return [(row, c, cell) for row, cells in self.rows for c, cell in zip(self.columns, cells, strict=True)]

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"row": row, "column": column, **asdict(cell), "agrees": cell.agrees} for row, column, cell in self.cells()
        ]
        return {"table": self.name, "title": self.title, "cells": rows, "notes": list(self.notes)}

    def text(self) -> str:
        """As aligned plain text. A cell that differs is shown as printed -> ours, with the number of its reason."""
        shown, footnotes = self._shown("->")
        body = aligned(shown, header=("", *self.columns))
        return "\n".join([f"{self.title}", "", body, "", *footnotes])

    def markdown(self) -> str:
        """The same as a Markdown table."""
        shown, footnotes = self._shown("→")
        lines = ["| " + " | ".join(("", *self.columns)) + " |", "|" + "---|" * (len(self.columns) + 1)]
        lines += ["| " + " | ".join(row) + " |" for row in shown]
        return "\n".join([f"**{self.title}**", "", *lines, "", *(f"- {line}" for line in footnotes)])

    def _shown(self, arrow: str) -> tuple[list[list[str]], list[str]]:
        reasons: list[str] = []
        rows: list[list[str]] = []
        for row, cells in self.rows:
            line = [row]
            for cell in cells:
                both = cell.printed if cell.agrees or not cell.ours else f"{cell.printed} {arrow} {cell.ours}"
                text = (cell.ours if not cell.printed else both) + SIGNS[cell.mark]
                if cell.reason:
                    if cell.reason not in reasons:
                        reasons.append(cell.reason)
                    text += f" [{reasons.index(cell.reason) + 1}]"
                line.append(text or "-")
            rows.append(line)
        used = {cell.mark for _, _, cell in self.cells()}
        signs = [f"{sign} {mark}" for mark, sign in SIGNS.items() if sign and mark in used]
        return rows, [*(f"[{i}] {reason}" for i, reason in enumerate(reasons, 1)), *signs, *self.notes]


def count(printed: str, value: int, *, reason: str = "", convention: str = "") -> Cell:
    """A computed cell: `value` shown with the printed one's digits and unit, such as "3.4M" or "300M".

    Papers round or cut: either agrees. Where neither does, ours is shown with one digit more, and there must be a
    `reason`; `convention` is a remark on a cell that agrees.
    """
    _, unit, digits = _parts(printed)
    if matches(printed, value):
        return Cell(printed, printed, reason=convention, exact=value)
    assert reason, f"{printed} is not {value} and no reason says why"
    exact = Decimal(value) / UNITS.get(unit, 1)
    return Cell(
        printed, f"{exact.quantize(Decimal(1).scaleb(-digits - 1), ROUND_HALF_UP)}{unit}", reason=reason, exact=value
    )


def matches(printed: str, value: int) -> bool:
    """Whether `value` rounded or cut to the digits of `printed`, such as "3.4M", is what is printed."""
    number, unit, digits = _parts(printed)
    exact, step = Decimal(value) / UNITS.get(unit, 1), Decimal(1).scaleb(-digits)
    return Decimal(number) in (exact.quantize(step, ROUND_HALF_UP), exact.quantize(step, ROUND_DOWN))


def _parts(printed: str) -> tuple[str, str, int]:
    """Number, unit, and digits after the point."""
    found = re.fullmatch(r"([\d.]+)([KMB]?)", printed)
    assert found, printed
    number, unit = found.groups()
    return number, unit, len(number.partition(".")[2])


def with_column(table: Table, title: str, by_row: Mapping[str, Cell]) -> Table:
    """The table with one more column: an empty cell where a row has none."""
    rows = tuple((row, (*cells, by_row.get(row, Cell("", "")))) for row, cells in table.rows)
    return replace(table, columns=(*table.columns, title), rows=rows)


def quoted(printed: str) -> Cell:
    """A cell that is only repeated."""
    return Cell(printed, "", "quoted as printed" if printed else "computed")
