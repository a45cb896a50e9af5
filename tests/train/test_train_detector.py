"""Training of detectors, end to end on tiny networks and pictures."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection_sets import Boxes, drawn, write_coco
from mobilenetv2 import model_file
from mobilenetv2.data import shapes
from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.train import TrainingRun, fit, recipes
from mobilenetv2.train.recipe_fields import with_settings
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.scenes import open_detection_training


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_coco(folder, drawn(0, 8), shapes.CLASSES, "train")
    write_coco(folder, drawn(8, 4), shapes.CLASSES, "val")
    return folder


def tiny(*changes: str, name: str = "finetune") -> Recipe:
    settings = ["width_mult=0.1", "size=64", "epochs=1", "batch_size=4", *changes]
    return with_settings(recipes.find(name, "detection"), settings)


def train(dataset: Path, out: Path, recipe: Recipe, **options: Any) -> TrainingRun:
    return fit(dataset, out, recipe=recipe, progress=False, accelerator="cpu", **options)


def test_the_task_is_found_out_and_the_losses_have_names(dataset: Path, tmp_path: Path) -> None:
    run = train(dataset, tmp_path / "run", tiny())
    assert run.measure == "val AP50"
    model = model_file.read(run.model)
    assert model.info.task == "detection"
    assert model.info.labels == shapes.CLASSES
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_class_loss", "train_box_loss", "val_loss", "val_ap50", "val_ap"} <= set(header)


@pytest.mark.slow
def test_the_same_arguments_give_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    recipe = tiny("epochs=2")
    whole = train(dataset, tmp_path / "whole", recipe)
    again = train(dataset, tmp_path / "again", recipe)
    one, two = model_file.read(whole.model), model_file.read(again.model)
    assert all(np.array_equal(value, two.tensors[name]) for name, value in one.tensors.items())


def test_a_detector_of_other_classes_keeps_what_it_knows(dataset: Path, tmp_path: Path, random_detector: Any) -> None:
    labels = ("dog", shapes.CLASSES[1], "cat")
    init: ModelFile = random_detector(size=64, labels=labels, width_mult=0.1, head={"classes": 3})
    run = train(dataset, tmp_path / "run", tiny("width_mult=none", "size=none", "learning_rate=1e-12"), init=init)
    assert any(f"; {shapes.CLASSES[1]} kept" in note for note in run.notes)
    found = model_file.read(run.model).tensors
    np.testing.assert_allclose(found["box_heads.0.1.bias"], init.tensors["box_heads.0.1.bias"], atol=1e-6)
    outputs = len(shapes.CLASSES) + 1
    new = found["class_heads.0.1.bias"].reshape(-1, outputs)
    old = init.tensors["class_heads.0.1.bias"].reshape(-1, 4)
    np.testing.assert_allclose(new[:, [0, 2]], old[:, [0, 2]], atol=1e-6)  # background and the shared class


@pytest.mark.slow
def test_a_classifier_gives_its_backbone(dataset: Path, tmp_path: Path, random_model: Any) -> None:
    init: ModelFile = random_model(size=64, outputs=5, width_mult=0.1)
    run = train(dataset, tmp_path / "run", tiny("width_mult=none", "learning_rate=1e-12"), init=init)
    assert any("a new head" in note for note in run.notes)
    found = model_file.read(run.model).tensors
    np.testing.assert_allclose(found["features.0.0.weight"], init.tensors["features.0.0.weight"], atol=1e-6)


@pytest.mark.parametrize("name", ["empty", "many", "flat", "wide"])
def test_odd_pictures_are_trained_on(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = {"flat": (1, 50), "wide": (40, 400)}.get(name, (64, 64))
    height, width = size
    many = [(float(x), float(y), 2.0, 2.0, 0) for x, y in rng.uniform(0, 60, (500, 2))]
    plain: Boxes = [(1.0, 0.0, width / 2, float(height), 0)]
    boxes: Boxes = {"empty": [], "many": many}.get(name, plain)
    odd = [(rng.integers(0, 255, (*size, 3)).astype(np.uint8), boxes) for _ in range(3)]
    usual: list[tuple[np.ndarray, Boxes]] = [(np.zeros((64, 64, 3), np.uint8), [(10.0, 10.0, 30.0, 30.0, 0)])]
    write_coco(tmp_path / "data", odd + usual, ("thing", "never labelled"), "train")
    write_coco(tmp_path / "data", odd[:1] + usual, ("thing", "never labelled"), "val")
    run = train(tmp_path / "data", tmp_path / "run", tiny())
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    assert "nan" not in rows
    assert run.model.exists()


def test_data_without_any_box_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "data", [(np.zeros((64, 64, 3), np.uint8), [])], ("thing",), "train")
    with pytest.raises(DatasetError, match="no box to learn from"):
        train(tmp_path / "data", tmp_path / "run", tiny())


def test_pictures_are_held_out_where_there_is_no_val(tmp_path: Path) -> None:
    write_coco(tmp_path / "data", drawn(0, 20), shapes.CLASSES, "train")
    data = open_detection_training(str(tmp_path / "data"), seed=0)
    assert len(data.val) > 0
    assert len(data.train) + len(data.val) == 20
    assert open_detection_training(str(tmp_path / "data"), seed=0).held_out == data.held_out


def test_a_recipe_of_another_task_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for classification"):
        train(dataset, tmp_path / "run", dataclasses.replace(recipes.find("basic"), epochs=1))


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(dataset: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, torch\nfrom mobilenetv2.train import fit, recipes, saver\n"
        "torch.set_num_threads(1)\nsaver.SAVE_EVERY_S = 0.02\n"
        "folder = pathlib.Path(sys.argv[2])\nresume = (folder / 'run.json').exists()\n"
        "recipe = None if resume else recipes.from_json(eval(sys.argv[3]), 'detection')\n"
        "fit(sys.argv[1], folder, recipe=recipe, resume=resume, progress=False, accelerator='cpu', workers=0)\n"
    )
    recipe = tiny("epochs=6", "batch_size=2")
    folder = tmp_path / "killed"
    killed, whole = (
        [sys.executable, "-c", code, str(dataset), str(out), repr(recipes.to_json(recipe))]
        for out in (folder, tmp_path / "whole")
    )
    process = subprocess.Popen(killed)
    while process.poll() is None and not (folder / "last.ckpt").exists():
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not json.loads((folder / "run.json").read_text())["finished"]
    for command in (killed, whole):
        subprocess.run(command, check=True)
    one, two = (model_file.read(out / "model.safetensors") for out in (folder, tmp_path / "whole"))
    assert one.info.provenance["epoch"] == two.info.provenance["epoch"]
    assert all(np.array_equal(value, two.tensors[name]) for name, value in one.tensors.items())
