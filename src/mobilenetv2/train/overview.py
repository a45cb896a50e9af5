"""The named recipes to look at: a table of them, and their learning rate and momentum over a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilenetv2 import charts
from mobilenetv2.train import recipes, schedule
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.task import TASKS

_POINTS = 2000  # of a curve
_COLUMNS = 4  # of panels


def named() -> list[Recipe]:
    """The recipes of every task, task by task."""
    return [recipe for task in TASKS for recipe in recipes.of_task(task).values()]


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Every field with a meaning, "task", and "source": where the recipe comes from, in words."""
    source = recipes.sources(recipe.task)[recipe.name]
    return {"task": recipe.task, **recipes.to_json(recipe), "source": source}


def rows() -> list[tuple[str, ...]]:
    """For each named recipe: its task, name, epochs, batch size, optimiser, peak learning rate, schedule."""
    return [
        (recipe.task, recipe.name, str(recipe.epochs), str(recipe.batch_size), recipe.optimiser,
         f"{recipe.learning_rate:g}", recipe.schedule)
        for recipe in named()
    ]  # fmt: skip


HEADER = ("task", "recipe", "epochs", "batch", "optimiser", "learning rate", "schedule")


def curves(shown: Sequence[Recipe] | None = None) -> bytes:
    """A PNG with a panel for each recipe: its learning rate (left scale) and momentum (right scale) by epoch. Without
    `shown` these are all."""
    shown = named() if shown is None else shown
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = charts.new_figure(figsize=(3.6 * columns, 2.7 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for recipe, axes in zip(shown, panels, strict=False):
        epochs = np.linspace(0, recipe.epochs, _POINTS, endpoint=False)
        rates = [schedule.learning_rate(recipe, position) for position in epochs]
        (rate,) = axes.plot(epochs, rates, color="#7048e8", lw=1.8, label="learning rate")
        axes.set_ylim(0, 1.08 * recipe.learning_rate)
        of = "" if recipe.task == "classification" else f" ({recipe.task})"
        axes.set_title(f"{recipe.name}{of}", fontsize=11)
        axes.set_xlabel("epoch")
        other = axes.twinx()
        momenta = [schedule.momentum(recipe, position) for position in epochs]
        (momentum,) = other.plot(epochs, momenta, color="#f08c00", lw=1.4, ls="--", label="momentum")
        other.set_ylim(0, 1.08)
        for part in (axes, other):
            part.spines["top"].set_visible(False)
            part.tick_params(labelsize=8)
        if recipe is shown[0]:
            axes.legend(handles=[rate, momentum], frameon=False, fontsize=8, loc="lower left")
    for axes in panels:  # those without a recipe
        axes.set_visible(False)
    return charts.png(figure)
