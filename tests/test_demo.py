"""The demonstration, in small: everything it shows is there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mobilenetv2 import demo as demonstration
from mobilenetv2.cli import app
from mobilenetv2.data.shapes import CLASSES
from mobilenetv2.demo import EPOCHS, HELD_OUT, PICTURES, choose
from mobilenetv2.train import find
from mobilenetv2.train.recipe_fields import check
from mobilenetv2.train.speed import IN_A_RUN, Speed, measure


def test_the_demo_trains_evaluates_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(demonstration, "HELD_OUT", 40)
    found = demonstration.demo(tmp_path / "demo", seconds=1, pictures=100)

    assert found.evaluation.n == 40
    assert found.run.score == found.evaluation.top1
    for picture in (found.contact_sheet, found.confusion):
        with Image.open(picture) as image:
            assert min(image.size) > 300
    shown = capsys.readouterr().out
    assert all(name in shown for name in CLASSES)
    assert f"{100 * found.evaluation.top1:.1f} %" in shown
    assert str(found.contact_sheet) in shown
    assert found.near_chance == (found.evaluation.top1 < 0.2)


@pytest.mark.slow
def test_the_demo_runs_again_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "HELD_OUT", 40)
    first = demonstration.demo(tmp_path / "demo", seconds=1, pictures=100)
    model = first.run.model.read_bytes()
    again = demonstration.demo(tmp_path / "demo", seconds=1, pictures=60)  # other pictures, another run
    assert again.run.model == first.run.model
    assert model != again.run.model.read_bytes()


def speed(pictures_per_second: float) -> Speed:
    """Of a machine that trains on so many pictures of 96 pixels a second, the smaller ones as much faster as here."""
    return Speed(1, {48: 2.5 * pictures_per_second, 64: 1.8 * pictures_per_second, 96: pictures_per_second})


@pytest.mark.parametrize("per_second", [3000, 250, 60, 20, 8, 3, 0.5])
def test_what_is_chosen_fits_the_time_at_least_three_times(per_second: float) -> None:
    measured = speed(per_second)
    plan = choose(measured, 90, find("demo"))
    assert plan.pictures <= PICTURES
    assert 100 <= plan.held_out <= HELD_OUT
    assert 40 / 60 <= (plan.recipe.max_minutes or 0) <= 1.5
    assert check(plan.recipe) == plan.recipe
    slowest = measured.pictures_per_second[plan.recipe.size or 0]
    if per_second >= 8:  # the slowest have the fewest pictures
        assert 90 * IN_A_RUN * 2.5 * per_second >= EPOCHS * plan.pictures
        assert plan.held_out / slowest < 30  # measured in the end, after the time


def test_a_faster_machine_gets_no_fewer_and_no_smaller_pictures() -> None:
    plans = [choose(speed(per_second), 90, find("demo")) for per_second in (1, 5, 20, 50, 100, 200, 400)]
    seen = [(plan.recipe.size, plan.pictures) for plan in plans]
    assert [size for size, _ in seen] == sorted(size for size, _ in seen if size)
    for size in (48, 64, 96):
        counts = [count for found, count in seen if found == size]
        assert counts == sorted(counts)
    assert seen[-1] == (96, PICTURES)
    assert choose(None, 90, find("demo")).pictures == PICTURES  # on a GPU


def test_more_seconds_do_what_a_faster_machine_does() -> None:
    short, long = (choose(speed(20), seconds, find("demo")) for seconds in (60, 600))
    assert long.pictures > short.pictures


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (0.122, "12.2 % is near chance (10 %): the model has learned next to nothing, 90 s of training are too few on "
         "this machine; `mobilenetv2 demo --out demo --seconds 600` does better"),
        (0.55, "55.0 % is low, 90 s of training are too few on this machine; "
         "`mobilenetv2 demo --out demo --seconds 600` does better"),
        (0.936, None),
    ],
)  # fmt: skip
def test_a_result_near_chance_is_called_that(right: float, said: str | None) -> None:
    evaluation: Any = SimpleNamespace(top1=right)
    run: Any = None
    shown = demonstration.Demo(run, evaluation, Path("sheet.png"), Path("confusion.png"))
    assert demonstration._advice(shown, Path("demo"), 90) == said
    assert shown.near_chance == (right < 0.2)


def test_the_command_ends_with_1_near_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "demo", lambda out, seconds: SimpleNamespace(near_chance=seconds < 60))
    assert [CliRunner().invoke(app, ["demo", "--seconds", s]).exit_code for s in ("30", "60")] == [1, 0]


def test_the_speed_of_this_machine_is_measured_at_each_size() -> None:
    recipe = find("demo")
    torch.manual_seed(0)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    measured = measure(recipe, (32, 48), classes=10, threads=[1, 2], seconds=0.2)
    assert measured is not None
    assert measured.threads in (1, 2)
    assert measured.pictures_per_second.keys() == {32, 48}
    assert min(measured.pictures_per_second.values()) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_commands_that_the_demo_recommends_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line.split()[1] for line in demonstration._NEXT.splitlines() if line.startswith("  mobilenetv2 ")]
    assert commands == ["train", "evaluate", "predict", "predict", "info"]
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
