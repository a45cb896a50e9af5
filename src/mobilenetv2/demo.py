"""The demonstration: generated pictures, a small network trained on them, and what its model file can do."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilenetv2 import charts, files, image, plots
from mobilenetv2.complexity import complexity
from mobilenetv2.data.classification import ClassificationData, open_classification
from mobilenetv2.data.shape_sets import write_image_folder
from mobilenetv2.data.shapes import CLASSES
from mobilenetv2.errors import TrainingError
from mobilenetv2.evaluate import Evaluation, evaluate
from mobilenetv2.predictor import Predictor, load
from mobilenetv2.results import Classification
from mobilenetv2.terminal import progress_bar, say, show, table
from mobilenetv2.train import Recipe, TrainingRun, find, fit, schedule, speed
from mobilenetv2.train.speed import IN_A_RUN, Speed

PICTURES, HELD_OUT = 7000, 1000  # at most
SHOWN = 36  # of the held-out ones on the contact sheet
EPOCHS = 3  # at least this many fit the time
SIZES = (48, 64, 96)  # pixels, in which the speed is measured

# Steps, so that the next run on the same machine finds its pictures again.
_COUNTS = (PICTURES, 5000, 3500, 2500, 1700, 1200, 800, 500, 300, 200)
# Pixels of the pictures, and how many of them must be seen; else they are smaller.
_FULL_SIZES = ((96, 3000), (64, 3000), (48, 0))

_LEAST_HELD_OUT = 200
_MEASURING = 3.0  # times as fast as they are trained on, pictures are measured, at least
_NEAR_CHANCE = 2.0  # an accuracy of less than twice chance is called near it
_GOOD = 80  # %: below that, more time is advised
_LONGER = 600  # seconds: what is advised where the time was too short

_NEXT = """\
With your own pictures, in a folder with a folder of pictures for each class:
  mobilenetv2 train YOUR_FOLDER --out runs/mine
  mobilenetv2 evaluate runs/mine/model.safetensors YOUR_FOLDER
  mobilenetv2 predict runs/mine/model.safetensors photo.jpg
The model of this demo answers too:
  mobilenetv2 predict {model} {picture}
  mobilenetv2 info {model}"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits the time: how many pictures to train on and to hold out, and the recipe, its minutes among it."""

    pictures: int
    held_out: int
    recipe: Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Demo:
    """What a demo gave: the run, how its model file did on held-out pictures, and the two pictures of that."""

    run: TrainingRun
    evaluation: Evaluation
    contact_sheet: Path
    confusion: Path

    @property
    def near_chance(self) -> bool:
        """Whether the model knows little more than somebody who guesses."""
        return self.evaluation.top1 < _NEAR_CHANCE / len(CLASSES)


def demo(folder: Path, *, seconds: float = 90, pictures: int | None = None, seed: int = 0) -> Demo:
    """Generate pictures, train on them for at most `seconds`, evaluate on others, and show.

    There are as many `pictures` as this machine can train on `EPOCHS` times in that, at most `PICTURES`: its speed is
    measured first. `folder` gets `pictures/`, `run/`, `contact_sheet.png` and `confusion.png`. Pictures that are there
    already are used again where they are the same, or else replaced, as is an earlier run of the demo. The training
    itself never sees how it does on the held-out pictures. Raises `UsageError` where `folder/pictures` holds
    something else.
    """
    began = time.monotonic()
    folder = Path(folder)
    base = dataclasses.replace(find("demo"), seed=seed)
    say("1. measuring how fast this machine trains")
    measured = speed.measure(base, SIZES, classes=len(CLASSES), seconds=min(5, seconds / 10))
    plan = choose(measured, seconds, base, pictures=pictures)
    recipe, size = plan.recipe, plan.recipe.size
    assert size is not None
    say(f"2. generating {plan.pictures + plan.held_out:,} pictures of shapes, {size} x {size} pixels")
    with progress_bar("pictures", "pictures") as advance:
        write_image_folder(
            folder / "pictures", train=plan.pictures, val=plan.held_out, size=size, seed=seed, replace=True,
            progress=advance,
        )  # fmt: skip
    say(f"3. training width {recipe.width_mult:g} from random weights for at most {seconds:.0f} s")
    with speed.using_threads(measured.threads) if measured else contextlib.nullcontext():
        run = fit(folder / "pictures", folder / "run", recipe=recipe, overwrite=True)
    if run.stopped:
        raise TrainingError(f"the demo was stopped; the model so far is {run.model}")

    say(f"4. evaluating {run.model}")
    predictor = load(run.model)
    held_out = open_classification(folder / "pictures", classes=predictor.info, split="val")
    with progress_bar("evaluate", "pictures") as advance:
        evaluation = evaluate(predictor, held_out, progress=advance, batch=50)
    confusion, sheet = folder / "confusion.png", folder / "contact_sheet.png"
    files.write_bytes(confusion, charts.confusion(evaluation.confusion, evaluation.names))
    _write_contact_sheet(sheet, predictor, held_out)

    show(_report(run, evaluation, predictor, time.monotonic() - began))
    show(["", f"pictures with answers: {sheet}", f"confusion matrix: {confusion}", f"the run: {run.report}", ""])
    shown = Demo(run, evaluation, sheet, confusion)
    show(_NEXT.format(model=run.model, picture=held_out.samples[0].path))
    if advice := _advice(shown, folder, seconds):
        say(advice)
    return shown


def choose(measured: Speed | None, seconds: float, recipe: Recipe, *, pictures: int | None = None) -> Plan:
    """What can be trained on `EPOCHS` times in `seconds` at this speed (None: a GPU's, which is enough for all).

    Smaller pictures teach less, but more of them are seen: a machine gets them that would see too few of full size.
    """
    seen = float("inf")
    if measured is not None:
        for full, least in _FULL_SIZES:
            recipe = _of_size(recipe, full)
            seen = seconds * _pictures_per_second(measured, recipe)
            if seen >= least:
                break
    held_out = int(min(HELD_OUT, max(_LEAST_HELD_OUT, seen / 10 // 100 * 100)))
    last = 0.0 if measured is None else held_out / (_MEASURING * seen / seconds)  # seconds, after the last step
    fitting = next((count for count in _COUNTS if EPOCHS * count <= seen), _COUNTS[-1])
    recipe = dataclasses.replace(recipe, max_minutes=max(seconds - last, seconds / 2) / 60)
    return Plan(pictures or fitting, held_out, recipe)


def _of_size(recipe: Recipe, size: int) -> Recipe:
    """The recipe for pictures of `size`, smaller ones first where those are smaller."""
    if recipe.small_size is None or size > recipe.small_size:
        return dataclasses.replace(recipe, size=size)
    return dataclasses.replace(recipe, size=size, small_size=None, small_until=0.0)


def _pictures_per_second(measured: Speed, recipe: Recipe) -> float:
    """The mean over a run by `recipe`, whose pictures grow."""
    assert recipe.size is not None
    sizes, speeds = zip(*sorted(measured.pictures_per_second.items()), strict=True)
    positions = np.linspace(0, recipe.epochs, 100, endpoint=False)
    of_run = [schedule.picture_size(recipe, position, full=recipe.size) for position in positions]
    return IN_A_RUN * float(np.interp(of_run, sizes, speeds).mean())


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


def _advice(demo: Demo, folder: Path, seconds: float) -> str | None:
    """What to say of a result that is worse than the network could be."""
    accuracy, chance = 100 * demo.evaluation.top1, 100 / len(CLASSES)
    if accuracy >= _GOOD:
        return None
    longer = int(max(_LONGER, 2 * seconds))
    again = shlex.join(["mobilenetv2", "demo", "--out", str(folder), "--seconds", str(longer)])
    judged = f"is near chance ({chance:.0f} %): the model has learned next to nothing" if demo.near_chance else "is low"
    return f"{accuracy:.1f} % {judged}, {seconds:.0f} s of training are too few on this machine; `{again}` does better"


def _write_contact_sheet(path: Path, predictor: Predictor, data: ClassificationData) -> None:
    """`SHOWN` pictures from all classes with their first answers; wrong ones have a red edge and their class."""
    spread = np.linspace(0, len(data.samples) - 1, SHOWN).round().astype(int)
    tiles: list[plots.Tile] = []
    for sample in (data.samples[int(i)] for i in spread):
        found = predictor(sample.path, top=1)
        assert isinstance(found, Classification)
        answer = found.predictions[0]
        right = answer.index == sample.label
        lines = (f"{100 * answer.score:.0f} % {answer.label}", "" if right else f"true: {data.names[sample.label]}")
        tiles.append(plots.Tile(plots.thumbnail(image.read(sample.path)), lines, right=right))
    plots.write_png(path, plots.contact_sheet(tiles))
