"""Training on one's own pictures: recipes, and `fit`, which turns a data set into a model file."""

from mobilenetv2.train.fit import TrainingRun, fit
from mobilenetv2.train.recipe_fields import with_overrides, with_settings
from mobilenetv2.train.recipes import RECIPES, Recipe, find

__all__ = ["RECIPES", "Recipe", "TrainingRun", "find", "fit", "with_overrides", "with_settings"]
