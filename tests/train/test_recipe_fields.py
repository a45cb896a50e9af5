"""A recipe's fields from outside: of their types and in their ranges, whoever sets them."""

import dataclasses
import math

import numpy as np
import pytest

from mobilenetv2.errors import UsageError
from mobilenetv2.train import recipe_fields, recipes
from mobilenetv2.train.recipe_fields import check, with_overrides, with_settings

ALL = [recipe for task in ("classification", "detection", "segmentation") for recipe in recipes.of_task(task).values()]
FIELDS = sorted({(type(recipe), field.name) for recipe in ALL for field in dataclasses.fields(recipe)}, key=str)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: f"{recipe.task} {recipe.name}")
def test_the_projects_own_recipes_are_right_as_they_are(recipe: recipes.Recipe) -> None:
    assert check(recipe) is recipe


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_field_takes_a_value_that_cannot_be(kind: type, name: str) -> None:
    recipe = next(recipe for recipe in ALL if type(recipe) is kind)
    for value in (math.nan, math.inf, -math.inf, 1e308, 10**400, 10**5000, -5, [], {}, b"x", object()):
        with pytest.raises(UsageError, match=f"^{name} must be") as error:
            check(dataclasses.replace(recipe, **{name: value}))
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 3.0), ("epochs", True), ("epochs", "3"), ("nesterov", 1), ("optimiser", "adam")]
)
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be"):
        check(dataclasses.replace(ALL[0], **{name: value}))


def test_numpys_numbers_are_pythons() -> None:
    changed = check(dataclasses.replace(ALL[0], epochs=np.int64(3), learning_rate=np.float32(0.5)))
    assert (type(changed.epochs), changed.epochs, type(changed.learning_rate)) == (int, 3, float)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "1e999", "nan", "\x1b[31m", "x" * 9000, ""])
def test_text_that_is_no_number_of_use_is_refused_in_a_short_line(text: str) -> None:
    for name in ("epochs", "learning_rate"):
        with pytest.raises(UsageError) as error:
            with_settings(ALL[0], [f"{name}={text}"])
        assert len(str(error.value)) < 200
        assert str(error.value).isprintable()


def test_settings_of_other_types_are_taken_as_they_are_or_refused() -> None:
    assert with_overrides(ALL[0], {"epochs": 3}).epochs == 3  # type: ignore[dict-item]
    for settings in ([3], [None], ["epochs"]):
        with pytest.raises(UsageError, match="a setting is written name=value"):
            with_settings(ALL[0], settings)  # type: ignore[arg-type]
    assert recipe_fields.with_settings(ALL[0], []) == ALL[0]
