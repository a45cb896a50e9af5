"""The verbs below `paper` for tables: recomputed, and measured here where time, pictures or weights are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mobilenetv2 import paper
from mobilenetv2.cli_options import Json, MultiScale
from mobilenetv2.errors import UsageError
from mobilenetv2.terminal import progress_bar, show, show_json
from mobilenetv2.text import json_line

if TYPE_CHECKING:
    from mobilenetv2.paper.cells import Table

Markdown = Annotated[bool, typer.Option("--markdown", help="A Markdown table instead of plain text.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it here instead.")]
Measure = Annotated[bool, typer.Option("--measure", help="Add the engine's time on one thread of this machine.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model file or name to measure on them; may be given several times."),
]
ImageNet = Annotated[str | None, typer.Option(metavar="DIR", help="Labelled pictures on which --model is measured.")]
COCO = Annotated[str | None, typer.Option(metavar="DIR", help="Pictures with boxes on which --model is measured.")]
VOC = Annotated[str | None, typer.Option(metavar="DIR", help="Pictures with masks on which --model is measured.")]


def plain(name: str) -> Callable[..., None]:
    """The verb of a table that is recomputed only."""

    def verb(as_json: Json = False, markdown: Markdown = False, out: Out = None) -> None:
        _write(lambda: paper.table(name), as_json=as_json, markdown=markdown, out=out)

    what = "The counted layers against equation (1) and the" if name == "equations" else f"{name.capitalize()}:"
    verb.__doc__ = (
        f"{what} bottleneck's cost, term by term." if name == "equations" else f"{what} printed and recomputed values."
    )
    return verb


def of_classifiers(name: str) -> Callable[..., None]:
    """The verb of a table with rows of ours that classify."""

    def verb(
        as_json: Json = False,
        markdown: Markdown = False,
        out: Out = None,
        measure: Measure = False,
        imagenet: ImageNet = None,
        model: Models = None,
    ) -> None:
        def made() -> Table:
            return _measured(name, "--imagenet", imagenet, model, times=measure)

        _write(made, as_json=as_json, markdown=markdown, out=out)

    verb.__doc__ = f"{name.capitalize()}: printed and recomputed values, and what is measured here."
    return verb


def table6(
    as_json: Json = False,
    markdown: Markdown = False,
    out: Out = None,
    measure: Measure = False,
    coco: COCO = None,
    model: Models = None,
) -> None:
    """Table 6, detectors: printed and recomputed values, and what is measured here."""

    def made() -> Table:
        return _measured("table6", "--coco", coco, model, times=measure)

    _write(made, as_json=as_json, markdown=markdown, out=out)


def table7(
    as_json: Json = False,
    markdown: Markdown = False,
    out: Out = None,
    voc: VOC = None,
    model: Models = None,
    multi_scale: MultiScale = False,
) -> None:
    """Table 7, segmentation: printed and recomputed values, and what is measured here."""
    if multi_scale and voc is None:
        raise UsageError("--multi-scale is for measuring: give --voc and --model too")

    def made() -> Table:
        return _measured("table7", "--voc", voc, model, multi_scale=multi_scale)

    _write(made, as_json=as_json, markdown=markdown, out=out)


def appendix(
    as_json: Json = False,
    markdown: Markdown = False,
    out: Out = None,
    model: Annotated[str | None, typer.Option(help="Trained weights on which Lemma 2 is checked.")] = None,
    photo: Annotated[list[str] | None, typer.Option(help="What they see; may be given several times.")] = None,
) -> None:
    """What ReLU collapses, by Theorem 1 and counted; with --model Lemma 2 on trained weights."""
    if model is None and photo:
        raise UsageError("photos are for trained weights: give --model too")

    def made() -> Table:
        if model is None:
            return paper.table("appendix")
        from mobilenetv2.importers import load_model
        from mobilenetv2.paper import trained

        return trained.table(load_model(model), photos=photo or ())

    _write(made, as_json=as_json, markdown=markdown, out=out)


def _measured(
    name: str,
    option: Literal["--imagenet", "--coco", "--voc"],
    folder: str | None,
    models: list[str] | None,
    *,
    times: bool = False,
    multi_scale: bool = False,
) -> Table:
    """The table; with a column of scores where the folder that `option` names and models are given, and of `times`."""
    if (folder is None) != (not models):
        raise UsageError(f"{option} and --model belong together: give both")
    table = paper.table(name)
    if folder is not None and models is not None:
        from mobilenetv2.paper import accuracies

        measures: dict[str, Callable[..., Table]] = {
            "--imagenet": accuracies.on_imagenet,
            "--coco": accuracies.on_coco,
            "--voc": partial(accuracies.on_voc, multi_scale=multi_scale),
        }
        with progress_bar(name, "pictures") as advance:
            table = measures[option](table, folder, models, progress=advance)
    if times:
        from mobilenetv2.paper.measure import with_times

        with progress_bar(name, "networks") as advance:
            table = with_times(table, progress=advance)
    return table


def _write(made: Callable[[], Table], *, as_json: bool, markdown: bool, out: Path | None) -> None:
    """What `made` returns, after a look at the options: it may measure for hours."""
    from mobilenetv2 import files

    if as_json and markdown:
        raise UsageError("--json and --markdown exclude each other: give one of them")
    table = made()
    if out is not None:
        text = json_line(table.to_json()) if as_json else table.markdown() if markdown else table.text()
        files.write_text(out, text + "\n")
    elif as_json:
        show_json(table.to_json())
    else:
        show(table.markdown() if markdown else table.text())


VERBS: dict[str, Callable[..., None]] = {
    "table4": of_classifiers("table4"),
    "grid": of_classifiers("grid"),
    "table6": table6,
    "table7": table7,
    "appendix": appendix,
}
