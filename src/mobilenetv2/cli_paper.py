"""The verbs below `paper`: the paper's tables and figures, recomputed and set beside what is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilenetv2 import cli_paper_figures, cli_paper_tables, paper
from mobilenetv2.cli_options import Json
from mobilenetv2.terminal import say, show_json

app = typer.Typer(
    help="The paper's tables and figures, recomputed beside what it prints.", no_args_is_help=True, add_completion=False
)


def _figure_verb(name: str) -> Callable[..., None]:
    def verb(
        out: Annotated[Path | None, typer.Option(metavar="PNG", help="Where it is written; else NAME.png.")] = None,
        as_json: Json = False,
    ) -> None:
        path = out or Path(f"{name}.png")
        facts = paper.figure(name)(path)
        if as_json:
            show_json({"figure": name, "file": str(path), **facts})
        else:
            say(f"{path}: written")

    verb.__doc__ = f"Draw {name}."
    return verb


for _name in paper.TABLES:
    app.command(_name)(cli_paper_tables.VERBS.get(_name) or cli_paper_tables.plain(_name))
for _name in paper.FIGURES:
    app.command(_name)(cli_paper_figures.VERBS.get(_name) or _figure_verb(_name))


@app.command("all")
def everything(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for tables.md, tables.json, figures.json and the PNGs.")
    ],
    as_json: Json = False,
) -> None:
    """Every table and figure that needs neither data nor weights, into a folder."""
    from mobilenetv2 import files

    tables = [paper.table(name) for name in paper.TABLES]
    files.write_text(out / "tables.md", "\n\n".join(table.markdown() for table in tables) + "\n")
    facts: dict[str, Any] = {name: paper.figure(name)(out / f"{name}.png") for name in paper.FIGURES}
    found = {"tables": [table.to_json() for table in tables], "figures": facts}
    files.write_json(out / "tables.json", found["tables"])
    files.write_json(out / "figures.json", facts)
    if as_json:
        show_json(found)
    else:
        say(f"{out}: {len(tables)} tables, {len(facts)} figures")
