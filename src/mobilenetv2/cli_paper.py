"""The verbs below `paper`: the paper's tables and figures, recomputed and set beside what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobilenetv2 import paper
from mobilenetv2.cli_options import Json
from mobilenetv2.cli_paper_figures import VERBS
from mobilenetv2.errors import UsageError
from mobilenetv2.terminal import progress_bar, say

if TYPE_CHECKING:
    from mobilenetv2.paper.cells import Table

app = typer.Typer(
    help="The paper's tables and figures, recomputed beside what it prints.", no_args_is_help=True, add_completion=False
)
Markdown = Annotated[bool, typer.Option("--markdown", help="A Markdown table instead of plain text.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it here instead.")]
MEASURED = ("table4", "grid", "table6")  # with rows that `paper.measure` can time


def _table_verb(name: str) -> Callable[..., None]:
    def verb(as_json: Json = False, markdown: Markdown = False, out: Out = None) -> None:
        _write(lambda: paper.table(name), as_json=as_json, markdown=markdown, out=out)

    what = "The counted layers against equation (1) and the" if name == "equations" else f"{name.capitalize()}:"
    verb.__doc__ = (
        f"{what} bottleneck's cost, term by term." if name == "equations" else f"{what} printed and recomputed values."
    )
    return verb


def _measured_table_verb(name: str) -> Callable[..., None]:
    def verb(
        as_json: Json = False,
        markdown: Markdown = False,
        out: Out = None,
        measure: Annotated[
            bool, typer.Option("--measure", help="Add the engine's time on one thread of this machine.")
        ] = False,
        imagenet: Annotated[
            str | None, typer.Option(metavar="DIR", help="Labelled pictures on which --model is measured.")
        ] = None,
        model: Annotated[
            list[str] | None, typer.Option(help="A classifier to measure on them; may be given several times.")
        ] = None,
    ) -> None:
        if (imagenet is None) != (not model):
            raise UsageError("--imagenet and --model belong together: give both")

        def made() -> Table:
            table = paper.table(name)
            if imagenet is not None:
                from mobilenetv2.paper.measure import with_accuracies

                table = with_accuracies(table, imagenet, model or ())
            if measure:
                from mobilenetv2.paper.measure import with_times

                with progress_bar(name, "networks") as advance:
                    table = with_times(table, progress=advance)
            return table

        _write(made, as_json=as_json, markdown=markdown, out=out)

    verb.__doc__ = f"{name.capitalize()}: printed and recomputed values, and what is measured here."
    return verb


def _write(make: Callable[[], Table], *, as_json: bool, markdown: bool, out: Path | None) -> None:
    from mobilenetv2 import files

    if as_json and markdown:
        raise UsageError("--json and --markdown exclude each other: give one of them")
    table = make()
    text = json.dumps(table.to_json(), ensure_ascii=False) if as_json else ""
    text = text or (table.markdown() if markdown else table.text())
    if out is None:
        print(text)
    else:
        files.write_text(out, text + "\n")


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
    app.command(_name)(_measured_table_verb(_name) if _name in MEASURED else _table_verb(_name))
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
