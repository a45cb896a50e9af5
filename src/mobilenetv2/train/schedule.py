"""What a recipe makes of a run's position: learning rate, momentum, picture size. Pure functions; no torch here.

A position is counted in epochs: 0 at the start, `recipe.epochs` at the end.
"""

from __future__ import annotations

import math

from mobilenetv2.train.recipes import Recipe


def learning_rate(recipe: Recipe, position: float) -> float:
    """The learning rate at `position`: warm-up, then the schedule. Parts of the network scale it."""
    if recipe.staircase and position < recipe.warmup:
        position = math.floor(position + _ROUNDING)
    if position < recipe.warmup:
        done = position / recipe.warmup
        return recipe.learning_rate * (recipe.warmup_start + (1 - recipe.warmup_start) * done)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "exponential":
        decays = position / recipe.decay_epochs
        return recipe.learning_rate * recipe.decay ** (math.floor(decays + _ROUNDING) if recipe.staircase else decays)
    if recipe.staircase:
        position = math.floor(position + _ROUNDING)
    done = min((position - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9), 1.0)
    if recipe.schedule == "poly":
        return recipe.learning_rate * (1 - done) ** recipe.power
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def momentum(recipe: Recipe, position: float) -> float:
    """The optimiser's momentum at `position`: no recipe changes it on the way."""
    return recipe.momentum


def head_alone(recipe: Recipe, position: float) -> bool:
    """Whether only the last layer learns at `position`."""
    return position < recipe.head_epochs


def picture_size(recipe: Recipe, position: float, *, full: int) -> int:
    """The side in pixels of the batches at `position`; `full` is that of the pictures themselves."""
    small, until = recipe.small_size, recipe.small_until * recipe.epochs
    if small is None or small >= full or position >= until:
        return full
    return min(full, small + 16 * int((full - small) / 16 * position / until))


_ROUNDING = 1e-9  # epochs: a position that is computed as 2.9999999999 is the start of epoch 3
