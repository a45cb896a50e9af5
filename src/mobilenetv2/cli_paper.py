"""The verbs below `paper`: the paper's tables and figures, recomputed and set beside what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilenetv2 import paper
from mobilenetv2.cli_options import Json
from mobilenetv2.cli_paper_figures import VERBS
from mobilenetv2.errors import UsageError
from mobilenetv2.terminal import say

app = typer.Typer(
    help="The paper's tables and figures, recomputed beside what it prints.", no_args_is_help=True, add_completion=False
)
Markdown = Annotated[bool, typer.Option("--markdown", help="A Markdown table instead of plain text.")]


def _table_verb(name: str) -> Callable[..., None]:
    def verb(
        as_json: Json = False,
        markdown: Markdown = False,
        out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it here instead.")] = None,
    ) -> None:
        from mobilenetv2 import files

        if as_json and markdown:
            raise UsageError("--json and --markdown exclude each other: give one of them")
        table = paper.table(name)
        text = json.dumps(table.to_json(), ensure_ascii=False) if as_json else ""
        text = text or (table.markdown() if markdown else table.text())
        if out is None:
            print(text)
        else:
            files.write_text(out, text + "\n")

    what = "The counted layers against equation (1) and the" if name == "equations" else f"{name.capitalize()}:"
    verb.__doc__ = (
        f"{what} bottleneck's cost, term by term." if name == "equations" else f"{what} printed and recomputed values."
    )
    return verb


def _figure_verb(name: str) -> Callable[..., None]:
    def verb(
        out: Annotated[Path | None, typer.Option(metavar="PNG", help="Where it is written; else NAME.png.")] = None,
        as_json: Json = False,
    ) -> None:
        path = out or Path(f"{name}.png")
        facts = paper.figure(name)(path)
        if as_json:
            print(json.dumps({"figure": name, "file": str(path), **facts}, ensure_ascii=False))
        else:
            say(f"{path}: written")

    verb.__doc__ = f"Draw {name}."
    return verb


for _name in paper.TABLES:
    app.command(_name)(_table_verb(_name))
for _name in paper.FIGURES:
    app.command(_name)(VERBS.get(_name) or _figure_verb(_name))


@app.command("all")
def everything(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for tables.md, tables.json and the PNGs.")],
    as_json: Json = False,
) -> None:
    """Every table and figure that needs neither data nor weights, into a folder."""
    from mobilenetv2 import files

    tables = [paper.table(name) for name in paper.TABLES]
    files.write_text(out / "tables.md", "\n\n".join(table.markdown() for table in tables) + "\n")
    facts: dict[str, Any] = {name: paper.figure(name)(out / f"{name}.png") for name in paper.FIGURES}
    found = {"tables": [table.to_json() for table in tables], "figures": facts}
    files.write_json(out / "tables.json", found)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        say(f"{out}: {len(tables)} tables, {len(facts)} figures")
