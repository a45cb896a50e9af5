"""The demonstration: generated pictures, a small network trained on them, and what its model file can do."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilenetv2 import charts, files, image, plots
from mobilenetv2.complexity import complexity
from mobilenetv2.data.classification import ClassificationData, open_classification
from mobilenetv2.data.shape_sets import write_image_folder
from mobilenetv2.errors import TrainingError
from mobilenetv2.evaluate import Evaluation, evaluate
from mobilenetv2.predictor import Predictor, load
from mobilenetv2.results import Classification
from mobilenetv2.terminal import progress_bar, say, show, table
from mobilenetv2.train import TrainingRun, find, fit

HELD_OUT = 1000  # pictures
SHOWN = 36  # of them on the contact sheet

_NEXT = """\
With your own pictures, in a folder with a folder of pictures for each class:
  mobilenetv2 train YOUR_FOLDER --out runs/mine
  mobilenetv2 evaluate runs/mine/model.safetensors YOUR_FOLDER
  mobilenetv2 predict runs/mine/model.safetensors photo.jpg
The model of this demo answers too:
  mobilenetv2 predict {model} {picture}
  mobilenetv2 info {model}"""


@dataclass(frozen=True, slots=True, eq=False)
class Demo:
    """What a demo gave: the run, how its model file did on held-out pictures, and the two pictures of that."""

    run: TrainingRun
    evaluation: Evaluation
    contact_sheet: Path
    confusion: Path


def demo(folder: Path, *, seconds: float = 90, pictures: int = 7000, seed: int = 0) -> Demo:
    """Generate `pictures` (and 1,000 held-out ones), train on them for at most `seconds`, evaluate, and show.

    `folder` gets `pictures/`, `run/`, `contact_sheet.png` and `confusion.png`. Pictures that are there already
    are used again; an earlier run of the demo is replaced. The training itself never sees how it does on
    the held-out pictures. Raises `UsageError` where `folder/pictures` holds something else.
    """
    began = time.monotonic()
    folder = Path(folder)
    recipe = dataclasses.replace(find("demo"), max_minutes=seconds / 60, seed=seed)
    size = recipe.size
    assert size is not None
    say(f"1. generating {pictures + HELD_OUT:,} pictures of shapes, {size} x {size} pixels")
    with progress_bar("pictures", "pictures") as advance:
        write_image_folder(
            folder / "pictures", train=pictures, val=HELD_OUT, size=size, seed=seed, progress=advance
        )  # fmt: skip
    say(f"2. training width {recipe.width_mult:g} from random weights for at most {seconds:.0f} s")
    run = fit(folder / "pictures", folder / "run", recipe=recipe, overwrite=True)
    if run.stopped:
        raise TrainingError(f"the demo was stopped; the model so far is {run.model}")

    say(f"3. evaluating {run.model}")
    predictor = load(run.model)
    held_out = open_classification(folder / "pictures", classes=predictor.info, split="val")
    with progress_bar("evaluate", "pictures") as advance:
        evaluation = evaluate(predictor, held_out, progress=advance, batch=50)
    confusion, sheet = folder / "confusion.png", folder / "contact_sheet.png"
    files.write_bytes(confusion, charts.confusion(evaluation.confusion, evaluation.names))
    _write_contact_sheet(sheet, predictor, held_out)

    show(_report(run, evaluation, predictor, time.monotonic() - began))
    show(["", f"pictures with answers: {sheet}", f"confusion matrix: {confusion}", f"the run: {run.report}", ""])
    show(_NEXT.format(model=run.model, picture=held_out.samples[0].path))
    return Demo(run, evaluation, sheet, confusion)


def _report(run: TrainingRun, evaluation: Evaluation, predictor: Predictor, seconds: float) -> str:
    costs = complexity(predictor.info.spec, predictor.info.preprocessing.size)
    per_class = evaluation.per_class
    classes = [
        (name, f"{100 * per_class.recall[i]:.1f} %", f"{int(per_class.right[i])} of {int(per_class.pictures[i])}")
        for i, name in enumerate(evaluation.names)
    ]
    facts = [
        ("accuracy on held-out pictures", f"{100 * evaluation.top1:.1f} %"),
        ("parameters", f"{costs.parameters:,}"),
        ("multiply-adds per picture", f"{costs.multiply_adds:,}"),
        ("model file", f"{run.model.stat().st_size / 1e6:.1f} MB"),
        ("training", f"{run.seconds:.0f} s, {run.pictures_per_second:.0f} pictures/s, {run.epochs} epochs"),
        ("everything", f"{seconds:.0f} s"),
    ]
    by_class = table(classes, header=("class", "accuracy", "right"), right=(1, 2))
    return f"\n{by_class}\n\n{table(facts)}"


def _write_contact_sheet(path: Path, predictor: Predictor, data: ClassificationData) -> None:
    """`SHOWN` pictures from all classes with their first answers; wrong ones have a red edge and their class."""
    spread = np.linspace(0, len(data.samples) - 1, SHOWN).round().astype(int)
    tiles: list[plots.Tile] = []
    for sample in (data.samples[int(i)] for i in spread):
        found = predictor(sample.path, top=1)
        assert isinstance(found, Classification)
        answer = found.predictions[0]
        right = answer.index == sample.label
        lines = (f"{answer.label} {100 * answer.score:.0f} %", "" if right else f"is: {data.names[sample.label]}")
        tiles.append(plots.Tile(plots.thumbnail(image.read(sample.path)), lines, right=right))
    plots.write_png(path, plots.contact_sheet(tiles))
