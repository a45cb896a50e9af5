"""Training on one's own pictures: recipes, and `fit`, which turns a data set into a model file."""

from mobilenetv2.train.fit import TrainingRun, fit
from mobilenetv2.train.recipes import RECIPES, Recipe, find, with_overrides, with_settings

__all__ = ["RECIPES", "Recipe", "TrainingRun", "find", "fit", "with_overrides", "with_settings"]
