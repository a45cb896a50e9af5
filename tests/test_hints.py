"""Options of other tools lead to the right one here."""

import dataclasses

import pytest
import typer.main

from mobilenetv2 import cli, hints
from mobilenetv2.errors import UsageError
from mobilenetv2.train import recipe_fields, recipes
from mobilenetv2.train import task as tasks

COMMANDS = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]


def own_options(verb: str) -> set[str]:
    return {option for parameter in COMMANDS[verb].params for option in parameter.opts}


def fields() -> set[str]:
    return {
        field.name
        for task in tasks.TASKS
        for field in dataclasses.fields(recipes.default(task, init=False))
        if field.name not in recipes.default(task, init=False).unused
    }


@pytest.mark.parametrize("verb", hints.OPTIONS)
def test_no_hint_is_about_an_option_that_exists_and_each_names_one_that_does(verb: str) -> None:
    assert not own_options(verb) & hints.OPTIONS[verb].keys()
    for hint in hints.OPTIONS[verb].values():
        named = {word.strip(";,") for word in hint.split() if word.startswith("--")}
        assert named <= own_options(verb), hint


def test_every_field_of_the_table_is_one_of_a_recipe_and_no_foreign_name_is() -> None:
    assert set(hints.FIELDS.values()) <= fields()
    assert not set(hints.FIELDS) & fields()
    assert set(hints._OWN_FIELDS) <= fields()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("train d --epochs 3", "--epochs: write --set epochs=3"),
        ("train d --epochs=7", "--epochs: write --set epochs=7"),
        ("train d --epochs --out x", "--epochs: write --set epochs=3"),
        ("train d --lr 0.1", "--lr: write --set learning_rate=0.1"),
        ("train d --batch-size 8", "--batch-size: write --set batch_size=8"),
        ("train d --batch 8", "--batch: write --set batch_size=8"),
        ("train d --imgsz 96", "--imgsz: write --set size=96"),
        ("train d --img-size 96", "--img-size: write --set size=96"),
        ("train d --weight-decay 0.1", "--weight-decay: write --set weight_decay=0.1"),
        ("train d --name x", "--name: write --out DIR"),
        ("train d --project x", "--project: write --out DIR"),
        ("train --data d", "--data: the data is an argument: mobilenetv2 train d --out DIR"),
        ("train d --weights m.pt", "--weights: write --init m.pt"),
        ("train d --device 0", "--device: leave it out, a GPU is used where there is one; --devices N takes several"),
        ("predict m p --conf 0.5", "--conf: write --score 0.5"),
        ("predict --source p", "--source: photos are arguments: mobilenetv2 predict MODEL p"),
        ("evaluate m d --batch-size 4", "--batch-size: write --batch 4"),
        ("train d -- --epochs 3", None),
        ("train d --set epochs=3", None),
        ("nothing --epochs 3", None),
        ("", None),
    ],
)
def test_an_option_of_another_tool_leads_to_ours(arguments: str, hint: str | None) -> None:
    assert hints.of_arguments(arguments.split()) == hint


def test_a_hint_repeats_no_control_characters_and_little_of_a_long_value() -> None:
    hint = hints.of_arguments(["train", "d", "--epochs", "\x1b[31m" + "9" * 5000])
    assert hint is not None
    assert hint.isprintable()
    assert len(hint) < 200


@pytest.mark.parametrize("name", ["lr", "lr0", "LR", "base-lr"])
def test_a_recipes_field_by_its_foreign_name_is_told_its_own(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown recipe field '{name}': write learning_rate=0.1"):
        recipe_fields.with_settings(recipes.default("classification", init=False), [f"{name}=0.1"])
