"""The verbs for one's own pictures: check the data, train on it, report what came of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilenetv2.cli_options import Classes, Dataset, Ignore, Images, Labels, Task, refuse
from mobilenetv2.errors import Error, MissingExtraError
from mobilenetv2.terminal import command_line, progress_bar, say, show, show_json, table


def check(
    dataset: Dataset,
    task: Annotated[
        Task | None, typer.Option(help="What the data is for; else found out, COCO's files being for detection.")
    ] = None,
    images: Images = None,
    labels: Labels = None,
    classes: Classes = None,
    ignore: Ignore = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    draw: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the faults, and some of the others.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where anything is found.")] = False,
) -> None:
    """Find what is wrong with labelled pictures."""
    from mobilenetv2.data import check as checking
    from mobilenetv2.data import detection, detection_check, segmentation, segmentation_check
    from mobilenetv2.data.task import task_of

    task = task or Task(task_of(dataset, images=images, labels=labels, classes=classes, ignore=ignore))
    if task is not Task.SEGMENTATION:
        refuse({"--ignore": ignore}, f"data of {task}")
    if task is Task.CLASSIFICATION:
        refuse({"--images": images, "--labels": labels, "--classes": classes}, f"data of {task}")
    if task is Task.DETECTION:
        boxes = detection.open_parts(dataset, places=detection.Places(images, labels, classes))
        with progress_bar("check", "pictures") as advance:
            found = detection_check.check(dataset, boxes, progress=advance)
        gallery = functools.partial(detection_check.write_gallery, found=found, parts=boxes)
        if segmentation.is_segmentation(dataset):
            say("note: there are masks beside the boxes: --task segmentation checks them")
    elif task is Task.SEGMENTATION:
        masks = segmentation.open_parts(dataset, places=segmentation.Places(images, labels, classes, ignore))
        with progress_bar("check", "pictures") as advance:
            found = segmentation_check.check(dataset, masks, progress=advance)
        gallery = functools.partial(segmentation_check.write_gallery, found=found, parts=masks)
    else:
        with progress_bar("index", "shards") as indexed:
            parts = checking.open_parts(dataset, progress=indexed)
        with progress_bar("check", "pictures") as advance:
            found = checking.check(dataset, parts, progress=advance)
        gallery = functools.partial(checking.write_gallery, found=found, parts=parts)
    show_json(found.to_json()) if as_json else show(found.text())
    if draw is not None:
        gallery(draw)
        say(f"drawn: {draw}")
    if strict and found.findings:
        raise typer.Exit(1)


def train(
    context: typer.Context,
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: model, metrics, checkpoints.")],
    task: Annotated[Task | None, typer.Option(help="What the data is for; else found out.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A named set of hyper-parameters; finetune with --init, else the task's own.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one field of the recipe.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this model file, zoo name or foreign checkpoint.")
    ] = None,
    images: Images = None,
    labels: Labels = None,
    classes: Classes = None,
    ignore: Ignore = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse data in which the check finds anything.")] = False,
    freeze: Annotated[
        int | None,
        typer.Option(
            min=0, help="Keep the first layers as they are: 1 is the stem, 2 the stem and the first block ..."
        ),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Learn from this model's answers too.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; a finished one with --set epochs=MORE.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU, of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed, 16-mixed.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that decode; else as many as help.")] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Less memory, more time: compute wide tensors twice.")
    ] = False,
) -> None:
    """Train on your own pictures; the result is one model file."""
    from mobilenetv2.importers import load_any

    fit, recipes = training()
    from mobilenetv2.train import hardware, with_settings
    from mobilenetv2.train import task as tasks
    from mobilenetv2.train.failures import Interrupted
    from mobilenetv2.train.run_folder import RunFolder

    where = hardware.choose(accelerator="auto", devices=devices, nodes=nodes, precision=precision, workers=workers)
    named = (("images", images), ("labels", labels), ("classes", classes), ("ignore", ignore))
    places = {name: place for name, place in named if place is not None}
    kind = tasks.find(task or tasks.of_data(dataset, places)).name
    chosen = None
    changes = [*([] if freeze is None else [f"freeze={freeze}"]), *(settings or [])]
    if recipe is not None or changes or not resume:
        if recipe is not None:
            base = recipes.find(recipe, kind)
        else:  # what is said of a run that goes on changes its own recipe
            base = RunFolder(out).own_recipe(kind) if resume else recipes.default(kind, init=init is not None)
        chosen = with_settings(base, changes)
    start, learned_from = (None if name is None else load_any(name) for name in (init, teacher))
    try:
        run = fit(
            dataset, out, task=kind, recipe=chosen, init=start, teacher=learned_from, resume=resume,
            overwrite=overwrite, strict=strict, devices=devices, nodes=nodes, precision=precision, workers=workers,
            recompute=recompute, places=places, command=None if resume else command_line(context),
        )  # fmt: skip
    except Interrupted as stop:
        if where.first:
            say(str(stop))
        raise typer.Exit(stop.exit_code) from None
    except Error:
        if where.first:
            raise
        raise typer.Exit(1) from None  # of several processes that fail alike one speaks
    if where.first:
        show(run.text())
    if run.stopped:
        raise typer.Exit(130)


def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line, with all fields.")] = False,
    draw: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw learning rate and momentum by epoch.")] = None,
) -> None:
    """List the sets of hyper-parameters that `train --recipe` knows, and where they come from."""
    training()
    from mobilenetv2 import files
    from mobilenetv2.train import overview

    if as_json:
        for recipe in overview.named():
            show_json(overview.to_json(recipe))
    else:
        show(table(overview.rows(), header=overview.HEADER, right=(2, 3, 5)))
        for recipe in overview.named():
            show(["", f"{recipe.name} ({recipe.task}): {overview.to_json(recipe)['source']}"])
    if draw is not None:
        files.write_bytes(draw, overview.curves())
        say(f"drawn: {draw}")


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as one JSON object on stdout.")] = False,
) -> None:
    """Write a training run's report.html again: one page with all that is known of it."""
    from mobilenetv2 import report as reporting

    with progress_bar("evaluate", "pictures", after=2) as advance:
        written = reporting.write(run, progress=advance)
    show_json(reporting.read(run).to_json()) if as_json else show(str(written))


def training() -> tuple[Any, Any]:
    """`train.fit` and `train.recipes`; `MissingExtraError` where the train extra is not installed."""
    try:
        from mobilenetv2.train import fit, recipes
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), extra="train", needed_for="training") from None
    return fit, recipes
