"""What a run leaves for people and for later: its report, and all that the report is made of."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from accidents import TASKS, make_sets, tiny
from mobilenetv2 import cli, files, model_file, report
from mobilenetv2.errors import FileError, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.run_files import RunFiles
from mobilenetv2.train import TrainingRun, find, fit, origin, recipes, with_settings
from mobilenetv2.train.classification import Classifier

TINY = dataclasses.replace(
    find("basic"), epochs=2, batch_size=16, optimiser="sgd", learning_rate=0.02, width_mult=0.35, size=32, colour=0.0,
    warmup=0.0, batch_norm_momentum=0.5, keep="last",
)  # fmt: skip
DATE = re.compile(r"\d{4}-\d\d-\d\d")

Train = Callable[..., TrainingRun]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two colours, not divided: a tenth is held out."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("blue", "red")):
        (tmp_path / "two colours" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.normal(60 + 120 * np.eye(3)[2 - 2 * number], 40, (32, 32, 3))
            path = tmp_path / "two colours" / name / f"{i:02}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return tmp_path / "two colours"


@pytest.fixture
def train(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A short run in a folder given as people give it: relative."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)

    def run(**arguments: Any) -> TrainingRun:
        arguments = {"recipe": TINY, "progress": False, "accelerator": "cpu", **arguments}
        return fit(Path("two colours"), Path("runs/1"), **arguments)

    return run


def settings_of(run: TrainingRun) -> dict[str, Any]:
    return RunFiles(run.model.parent).read_settings()


def run_page(folder: Path) -> str:
    return DATE.sub("", (folder / "report.html").read_text())


def test_a_run_leaves_a_report_and_what_it_takes_to_make_it_again_anywhere(
    train: Train, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train()
    page = run.model.parent / "report.html"
    assert run.report == page
    assert str(run.report) in run.text()
    settings = settings_of(run)
    assert settings["dataset"] == str(pictures)
    assert settings["pictures"] == {"train": [18, 18], "val": [2, 2]}
    assert settings["finished"] is True
    assert settings["recipe_changed"].keys() == set(recipes.differences(find("basic"), TINY))
    assert settings["machine"].keys() >= {"cpu", "threads", "system"}
    first, folder = page.read_text(), page.parent.resolve()
    page.unlink()
    assert json.loads((folder / "evaluation.json").read_text())["top1"] == run.score

    monkeypatch.chdir("/")
    again = report.write(folder).read_text()
    assert DATE.sub("", again) == DATE.sub("", first)
    (folder / "evaluation.json").unlink()
    again = report.write(folder).read_text()
    assert DATE.sub("", again) == DATE.sub("", first)


def test_a_stopped_run_has_a_report_too_and_keeps_its_command(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    training_step = Classifier.training_step

    def interrupted(self: Classifier, *arguments: Any) -> Any:
        if self.global_step == 4:  # of the second epoch
            signal.raise_signal(signal.SIGINT)
        return training_step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "training_step", interrupted)
        stopped = train(command="mobilenetv2 train 'two colours' --out runs/1 --set what=ever")
    assert stopped.stopped
    assert stopped.report is not None
    page = stopped.report.read_text()
    assert "This run was interrupted: 1 of 2 epochs are done" in page
    assert "1 of 2 epochs, interrupted" in page
    assert "interrupted after 1 of 2 epochs" in stopped.text()
    began = settings_of(stopped)
    resumed = train(resume=True, recipe=None)
    ended = settings_of(resumed)
    assert resumed.report is not None
    page = resumed.report.read_text()
    assert "interrupted" not in page
    assert "in 2 sessions" in page
    assert "in 2 sessions" in resumed.text()
    kept = ("command", "directory", "date", "notes", "fingerprint", "recipe")
    assert {name: ended[name] for name in kept} == {name: began[name] for name in kept}
    assert ended["finished"] is True
    # the model is another one than the stopped run's, and was measured
    assert json.loads(RunFiles(resumed.model.parent).evaluation.read_text())["top1"] == resumed.score


@pytest.mark.parametrize("error", [FileError("cannot write report.html: No space left on device"), KeyboardInterrupt()])
def test_a_report_that_cannot_be_written_leaves_the_model(
    error: BaseException, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = files.write_bytes

    def full(path: Path, data: bytes) -> None:
        if path.name == "report.html":
            raise error
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", full)
    run = train(progress=True)
    assert run.model.exists()
    assert run.report is None
    assert run.notes[-1].startswith(f"no report: {str(error) or 'stopped'}; mobilenetv2 report runs/1")
    assert capsys.readouterr().err.splitlines().count(run.notes[-1]) == 1
    assert settings_of(run)["finished"] is True


def test_a_run_that_takes_anothers_place_leaves_nothing_of_it(train: Train) -> None:
    first = train()
    folder = first.model.parent
    before = {path.name for path in folder.iterdir()}
    assert before >= {"report.html", "evaluation.json", "check.json", "run.json"}
    with pytest.raises(UsageError, match="is not empty"):
        train()
    (folder / "report.html").write_text("of the first")
    (folder / "evaluation.json").write_text("of the first")
    train(overwrite=True, recipe=dataclasses.replace(TINY, epochs=1))
    assert {path.name for path in folder.iterdir()} == before
    assert all("of the first" not in path.read_text() for path in (folder / "report.html", folder / "evaluation.json"))


@pytest.mark.parametrize("task", TASKS)
def test_data_named_by_a_relative_path_is_reported_from_anywhere(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pictures of val that are in train: they were not measured, and are not."""
    torch.set_num_threads(1)
    data = make_sets(tmp_path / "sets") / task
    if task == "detection":
        known, copies = data / "train" / "0.png", [data / "val" / "1.png", data / "val" / "2.png"]
    elif task == "segmentation":
        known, copies = data / "images/train/00001.jpg", [data / f"images/val/0000{i}.jpg" for i in (1, 2)]
    else:
        known, *copies = sorted((data / "train").glob("*/*.jpg"))[:1] + sorted((data / "val").glob("*/*.jpg"))[:2]
        copies = [known.parents[2] / "val" / known.parent.name / file.name for file in copies]
    for file in copies:
        shutil.copy(known, file)
    monkeypatch.chdir(tmp_path)
    run = fit(f"sets/{task}", "runs/1", recipe=tiny(task, "epochs=1"), progress=False, accelerator="cpu")
    assert run.report == Path("runs/1/report.html")
    folder = run.model.parent.resolve()
    measured = json.loads((folder / "evaluation.json").read_text())["n"]
    assert measured == model_file.read(folder / "model.safetensors").info.provenance["data"]["val"]
    found = json.loads((folder / "check.json").read_text())
    assert {Path(file).is_absolute() for group in found["leaks"] for file in group} == {True}
    monkeypatch.chdir("/")
    before = run_page(folder)
    (folder / "evaluation.json").unlink()
    report.write(folder)
    assert run_page(folder) == before
    assert json.loads((folder / "evaluation.json").read_text())["n"] == measured


# ---- the command that repeats it


@functools.cache
def verbs() -> Any:
    return typer.main.get_command(cli.app)


def test_the_command_line_passes_its_command(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "mobilenetv2 train 'two colours' --out runs/cli --set epochs=1 --set size=32 --set width_mult=0.35"
    monkeypatch.setattr("sys.argv", [*shlex.split(command), "--workers", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    settings = RunFiles(Path("runs/cli")).read_settings()
    assert settings["command"] == f"{command} --workers 0"
    assert settings["directory"] == str(Path.cwd())


@given(
    named=st.sampled_from([*recipes.RECIPES.values(), dataclasses.replace(find("basic"), name="mine")]),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 1000),
            "learning_rate": st.floats(1e-9, 1),
            "max_minutes": st.none() | st.floats(0.5, 9),
            "frozen_norm": st.booleans(),
            "schedule": st.sampled_from(["cosine", "constant"]),
        },
    ),
    options=st.fixed_dictionaries({}, optional={"workers": st.integers(0, 4), "recompute": st.just(True)}),
)
def test_a_command_made_of_arguments_starts_the_same_run(
    named: recipes.Recipe, changes: dict[str, Any], options: dict[str, Any]
) -> None:
    recipe = dataclasses.replace(named, **changes)
    made = origin.command("a b", Path("c'd"), recipe, init=True, teacher=False, options=options)
    found = verbs().commands["train"].make_context("train", shlex.split(made)[2:]).params
    assert (Path(found["dataset"]), Path(found["out"])) == (Path("a b"), Path("c'd"))
    again = with_settings(find(found["recipe"]), found["settings"] or ())
    assert recipes.differences(again, recipe) == []
    assert found["init"] == "STARTING_WEIGHTS"
    assert {name: found[name] for name in options} == options


def test_the_python_api_names_its_options_and_what_has_no_name(
    train: Train, random_model: Callable[..., ModelFile]
) -> None:
    start = random_model(size=32, outputs=2, width_mult=0.35, labels=("blue", "red"))
    run = train(init=start, teacher=start, workers=0, recompute=True, recipe=dataclasses.replace(TINY, epochs=1))
    command = settings_of(run)["command"]
    assert command.startswith("mobilenetv2 train 'two colours' --out runs/1 --recipe basic --set ")
    assert command.endswith("--init STARTING_WEIGHTS --teacher TEACHER --workers 0 --recompute")
