"""Training of segmentation networks, end to end on tiny networks and pictures."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import model_file
from mobilenetv2.data import shapes
from mobilenetv2.data.segmentation_augment import Labelled
from mobilenetv2.errors import DatasetError, SpecError, UsageError
from mobilenetv2.image import prepare, recipe
from mobilenetv2.model_file import ModelFile
from mobilenetv2.plots import colour_of
from mobilenetv2.train import TrainingRun, fit, recipes, schedule
from mobilenetv2.train.masked_pictures import open_segmentation_training
from mobilenetv2.train.recipe_fields import with_settings
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.segmentation import Segmenter, class_weights
from mobilenetv2.train.segmentation_batches import mask_to_input, scales, training_batches
from mobilenetv2.train.segmentation_recipes import SegmentationRecipe

NAMES = ("background", "shape")
SIZE = 64


def write(folder: Path, pictures: Sequence[Labelled], part: str, names: Sequence[str] = NAMES) -> Path:
    for kind in ("images", "masks"):
        (folder / kind / part).mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(pictures):
        Image.fromarray(one.rgb).save(folder / "images" / part / f"{i}.png")
        Image.fromarray(one.mask).save(folder / "masks" / part / f"{i}.png")
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder


def drawn(first: int, count: int) -> list[Labelled]:
    """Generated shapes, which are one class, on background."""
    scenes = [shapes.scene(0, i, size=SIZE, objects=3) for i in range(first, first + count)]
    return [Labelled(scene.image, (scene.mask > 0).astype(np.uint8)) for scene in scenes]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("shapes"), drawn(0, 8), "train")
    return write(folder, drawn(8, 4), "val")


def tiny(*changes: str, name: str = "finetune") -> Recipe:
    settings = ["width_mult=0.1", "epochs=1", "batch_size=4", *changes]
    return with_settings(recipes.find(name, "segmentation"), settings)


def train(dataset: Path, out: Path, recipe: Recipe, **options: Any) -> TrainingRun:
    return fit(dataset, out, recipe=recipe, progress=False, accelerator="cpu", **options)


def rows_of(run: TrainingRun) -> list[dict[str, float]]:
    with (run.model.parent / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_same(one: TrainingRun, other: TrainingRun) -> None:
    tensors = model_file.read(other.model).tensors
    assert all(np.array_equal(value, tensors[name]) for name, value in model_file.read(one.model).tensors.items())


def test_masks_of_generated_shapes_are_learned_a_little(tmp_path: Path) -> None:
    data = write(write(tmp_path / "data", drawn(0, 16), "train"), drawn(16, 4), "val")
    changes = ("epochs=5", "learning_rate=0.004", "backbone_scale=1", "balance=0.5", "warmup=0", "ema=0",
               "photometric=false", "least_scale=1", "most_scale=1", "batch_norm_momentum=0.5")  # fmt: skip
    run = train(data, tmp_path / "run", tiny("output_stride=8", *changes))
    assert run.measure == "val mIoU"
    rows = rows_of(run)
    assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]
    assert {"val_loss", "val_miou", "val_pixel_accuracy"} <= rows[0].keys()
    info = model_file.read(run.model).info
    assert (info.task, info.labels, info.preprocessing.size) == ("segmentation", ("shape",), (65, 65))
    assert info.spec.backbone.output_stride == 8
    page = (tmp_path / "run" / "report.html").read_text()
    assert "segmentation network" in page
    assert "classifier" not in page
    assert "The pictures where it errs most" in page
    assert "How right masks are near boundaries" in page
    red, green, blue = colour_of(1)
    assert f'<i style="background:rgb({red},{green},{blue})"></i>shape' in page
    assert "<td>all</td>" not in page  # pictures with a class do not add up to pictures


@pytest.mark.slow
def test_the_same_arguments_give_the_same_weights_and_so_does_a_resumed_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("epochs=2", "keep=last")
    whole = train(dataset, tmp_path / "whole", recipe)
    assert_same(train(dataset, tmp_path / "again", recipe, workers=1, cache_bytes=0), whole)
    step = Segmenter.training_step

    def step_with_ctrl_c(self: Segmenter, *arguments: Any) -> Any:
        if self.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Segmenter, "training_step", step_with_ctrl_c)
        assert train(dataset, tmp_path / "stopped", recipe).stopped
    assert_same(train(dataset, tmp_path / "stopped", recipe, resume=True), whole)


@pytest.mark.slow
def test_a_classifier_gives_its_backbone_without_the_last_convolution(
    dataset: Path, tmp_path: Path, random_model: Any
) -> None:
    init: ModelFile = random_model(size=64, outputs=5, width_mult=0.1)
    run = train(dataset, tmp_path / "run", tiny("width_mult=none", "learning_rate=1e-12"), init=init)
    assert any("a new head for 2 classes" in note and "last convolution is left out" in note for note in run.notes)
    found = model_file.read(run.model)
    assert found.info.spec.backbone.output_stride == 16
    assert (found.info.preprocessing.mean, found.info.preprocessing.resize) == (init.info.preprocessing.mean, "fit")
    assert "features.18.0.weight" in init.tensors.keys() - found.tensors.keys()
    np.testing.assert_allclose(found.tensors["features.0.0.weight"], init.tensors["features.0.0.weight"], atol=1e-6)


@pytest.mark.parametrize("labels", [("shape",), ("dog",), ("dog", "shape")])
def test_a_segmentation_model_keeps_the_classes_that_it_knows(
    labels: tuple[str, ...], dataset: Path, tmp_path: Path, random_segmenter: Any
) -> None:
    init: ModelFile = random_segmenter(labels=labels, width_mult=0.1, output_stride=8, head={"classes": len(labels)})
    run = train(dataset, tmp_path / "run", tiny("width_mult=none", "learning_rate=1e-12"), init=init)
    said = [note for note in run.notes if "new logits" in note]
    assert bool(said) == (labels != ("shape",))
    found = model_file.read(run.model)
    assert found.info.spec.backbone.output_stride == 8
    kept = {0: 0, 1: 1 + labels.index("shape")} if "shape" in labels else {0: 0}
    for new, old in kept.items():
        np.testing.assert_allclose(found.tensors["logits.weight"][new], init.tensors["logits.weight"][old], atol=1e-6)
    np.testing.assert_allclose(found.tensors["project.0.weight"], init.tensors["project.0.weight"], atol=1e-6)
    assert ("background, shape kept" in "".join(said)) == (labels == ("dog", "shape"))


def test_another_width_or_an_impossible_stride_is_refused(dataset: Path, tmp_path: Path, random_segmenter: Any) -> None:
    with pytest.raises(UsageError, match="width_mult"):
        train(dataset, tmp_path / "run", tiny("width_mult=0.5"), init=random_segmenter(width_mult=0.1))
    with pytest.raises(SpecError, match="output_stride must be 8, 16 or 32, got 12"):
        train(dataset, tmp_path / "run", tiny("output_stride=12"))


def test_a_value_that_is_ignored_is_not_learned(tmp_path: Path) -> None:
    pictures = [Labelled(one.rgb, np.where(one.mask == 1, np.uint8(7), one.mask)) for one in drawn(0, 6)]
    data = open_segmentation_training(str(write(tmp_path / "data", pictures, "train")), seed=0)
    assert data.check.ignored["train"] > 0
    (tmp_path / "data" / "classes.txt").unlink()
    run = train(tmp_path / "data", tmp_path / "run", tiny(), places={"ignore": 7})
    assert model_file.read(run.model).info.labels == ("0",)


@pytest.mark.parametrize("name", ["blank", "flat", "wide", "one pixel"])
def test_odd_pictures_are_trained_on(name: str, tmp_path: Path) -> None:
    size = {"flat": (1, 50), "wide": (40, 700), "one pixel": (1, 1)}.get(name, (64, 64))
    mask = np.full(size, 255 if name == "blank" else 1, np.uint8)
    odd = [Labelled(np.full((*size, 3), shade, np.uint8), mask) for shade in (10, 20, 30)]
    names = (*NAMES, "never drawn")
    data = write(tmp_path / "data", [*odd, *drawn(0, 3)], "train", names)
    write(data, [Labelled(np.full((*size, 3), 40, np.uint8), mask), *drawn(3, 1)], "val", names)
    run = train(data, tmp_path / "run", tiny("balance=1", "hardest=0.5"))
    assert any("class 'never drawn' has no pixel" in note for note in run.notes)
    assert any("pictures left out" in note for note in run.notes) == (name == "blank")
    assert all(np.isfinite(list(row.values())).all() for row in rows_of(run))
    assert max(model_file.read(run.model).info.preprocessing.size) == (513 if name == "wide" else 65)


def test_data_of_which_nothing_counts_is_refused(tmp_path: Path) -> None:
    blank = Labelled(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8))
    write(tmp_path / "data", [blank], "train")
    with pytest.raises(DatasetError, match="no pixel to learn from"):
        train(tmp_path / "data", tmp_path / "run", tiny())


def test_pictures_are_held_out_where_there_is_no_val(tmp_path: Path) -> None:
    write(tmp_path / "data", drawn(0, 20), "train")
    data = open_segmentation_training(str(tmp_path / "data"), seed=0)
    assert (len(data.val), len(data.train)) == (2, 18)
    assert open_segmentation_training(str(tmp_path / "data"), seed=0).held_out == data.held_out


def test_a_batch_follows_from_seed_epoch_and_index_alone(dataset: Path) -> None:
    data, chosen = open_segmentation_training(str(dataset), seed=0), tiny("train_size=33")
    assert isinstance(chosen, SegmentationRecipe)
    batches = training_batches(data.train, chosen, recipe("deeplab", (65, 49)))
    whole = list(batches)
    assert whole[0][0].shape == (4, 3, 33, 33)
    batches.load_state_dict({"epoch": 0, "done": 1})
    images, masks = next(iter(batches))
    assert images.equal(whole[1][0])
    assert masks.equal(whole[1][1])
    assert not set(np.unique(masks).tolist()) - {0, 1, 255}
    assert scales(chosen) == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


def test_a_prepared_mask_lies_where_its_picture_does() -> None:
    mask = np.zeros((100, 150), np.uint8)
    mask[20:60, 30:90] = 1
    rgb = np.repeat((mask * 200)[..., None], 3, axis=2)
    for size in ((97, 161), (65, 65), (33, 161)):
        placed, geometry = prepare(rgb, recipe("deeplab", size))
        found = mask_to_input(mask, geometry, size)
        assert np.array_equal(found == 255, np.all(placed == 127, axis=2))
        assert ((found == 1) == (placed[..., 0] > 100))[found != 255].mean() > 0.97


def test_weights_of_classes_have_a_mean_of_1() -> None:
    pixels = [900, 90, 10, 0]
    for balance in (0.5, 1.0):
        weights = class_weights(pixels, balance)
        assert np.dot(weights, pixels) / 1000 == pytest.approx(1, rel=1e-5)
        assert weights[1] / weights[0] == pytest.approx(10**balance, rel=1e-5)
        assert weights[3] == 1


def test_the_recipe_of_deeplab_is_poly() -> None:
    chosen = recipes.find("deeplab-voc", "segmentation")
    assert recipes.default("segmentation", init=False) is chosen
    rates = [schedule.learning_rate(chosen, share * chosen.epochs) for share in (0, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.007, 0.007 * 0.5**0.9, 0], atol=1e-9)
    assert recipes.from_json(json.loads(json.dumps(recipes.to_json(chosen))), "segmentation") == chosen


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_field_without_a_meaning_for_the_task_is_refused_and_not_written_down(task: str) -> None:
    recipe = recipes.default(task, init=True)
    with pytest.raises(UsageError, match=f"mixup has no meaning for {task}"):
        with_settings(recipe, ["mixup=0.2"])
    written = recipes.to_json(recipe)
    assert "mixup" not in written
    assert "learning_rate" in written
