"""What the MobileNetV2 paper (arXiv 1801.04381) prints, recomputed: its tables and figures by name.

A table is a function without arguments that gives `cells.Table`. A figure is a function of the PNG's path, which writes
it and gives the facts that the picture shows, as JSON has them. Both are looked up by name and imported when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilenetv2.paper.cells import Table

Figure = Callable[[str | PathLike[str]], dict[str, Any]]

TABLES: dict[str, str] = {  # name -> module:function; each of them () -> Table
    "table1": "tables:table1",
    "table2": "tables:table2",
    "table3": "tables:table3",
    "table4": "tables:table4",
    "grid": "grid:grid",
    "table5": "tables_tasks:table5",
    "table6": "tables_tasks:table6",
    "table7": "tables_tasks:table7",
    "equations": "equations:table",
    "appendix": "lemmas:table",
    "section5": "section5:table",
}
FIGURES: dict[str, str] = {  # name -> module:function; each of them (PNG's path) -> facts
    "figure1": "figure1:write",
    "orthant": "figure1:write_orthant",
    "figure2": "schematics:figure2",
    "figure3": "schematics:figure3",
    "figure4": "schematics:figure4",
    "figure5": "figure5:write",
    "figure6": "figure6:write",
    "figure7": "figure7:write",
}


def table(name: str) -> Table:
    """The table of that name in `TABLES`."""
    return _found(TABLES[name])()


def figure(name: str) -> Figure:
    """The figure of that name in `FIGURES`."""
    return _found(FIGURES[name])


def _found(place: str) -> Any:
    module, _, function = place.partition(":")
    return getattr(import_module(f"mobilenetv2.paper.{module}"), function)
