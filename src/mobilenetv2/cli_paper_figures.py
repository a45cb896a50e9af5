"""Verbs below `paper` for the figures that may be measured or trained here, where data, weights or time are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mobilenetv2.cli_options import Json
from mobilenetv2.terminal import say, show, show_json

Out = Annotated[Path | None, typer.Option(metavar="PNG", help="Where it is written; else NAME.png.")]


def figure5(
    out: Out = None,
    as_json: Json = False,
    imagenet: Annotated[
        str | None, typer.Option(metavar="DIR", help="Labelled pictures on which --model is measured too.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A classifier to measure on them; may be given several times.")
    ] = None,
) -> None:
    """Accuracy against multiply-adds over widths and resolutions: published, and measured where pictures are given."""
    from mobilenetv2.paper import figure5

    path = out or Path("figure5.png")
    _show("figure5", path, figure5.write(path, models=model or (), imagenet=imagenet), as_json)


def figure6(
    out: Out = None,
    as_json: Json = False,
    train: Annotated[bool, typer.Option("--train", help="Train now instead of drawing the stored runs.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="With --train: runs of each variant.")] = 3,
    save: Annotated[Path | None, typer.Option(metavar="JSON", help="With --train: keep the runs here.")] = None,
    starts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write first weights for the same on ImageNet, print how.")
    ] = None,
) -> None:
    """Linear against ReLU6 bottlenecks, and where shortcuts belong: trained on generated pictures."""
    from mobilenetv2 import files
    from mobilenetv2.cli_training import training
    from mobilenetv2.paper import figure6

    if starts is not None:
        training()
        for command in figure6.write_starts(starts):
            show([command])
        return
    result = None
    if train:
        training()
        result = figure6.train(seeds=seeds, done=lambda name, seed, top1: say(f"{name}, seed {seed}: {top1:.1f} %"))
        if save is not None:
            files.write_json(save, result)
    path = out or Path("figure6.png")
    facts = figure6.write(path, result=result)
    if not as_json:
        for curve in facts["curves"]:
            show(f"{curve['accuracy']:.1f} ± {curve['spread']:.1f} %  {curve['name']}")
    _show("figure6", path, facts, as_json)


def figure7(
    out: Out = None,
    as_json: Json = False,
    model: Annotated[str | None, typer.Option(help="Trained weights to draw beside the initial ones.")] = None,
    photo: Annotated[
        list[str] | None, typer.Option(help="What the trained weights see; may be given several times.")
    ] = None,
) -> None:
    """How many channels stay positive after each ReLU6, at the start and, with --model, after training."""
    from mobilenetv2.importers import load_model
    from mobilenetv2.paper import figure7

    path = out or Path("figure7.png")
    weights = None if model is None else load_model(model)
    _show("figure7", path, figure7.write(path, model=weights, photos=photo or ()), as_json)


def _show(name: str, path: Path, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json({"figure": name, "file": str(path), **facts})
    else:
        say(f"{path}: written")


VERBS: dict[str, Callable[..., None]] = {"figure5": figure5, "figure6": figure6, "figure7": figure7}
