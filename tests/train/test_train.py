"""Training: recipes, what is learned from, and runs that begin, end, stop and go on."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import model_file, report
from mobilenetv2.data.classification import Sample, open_classification
from mobilenetv2.errors import DatasetError, TrainingError, UsageError
from mobilenetv2.evaluate import evaluate
from mobilenetv2.image import load as load_picture
from mobilenetv2.image import recipe as preprocessing
from mobilenetv2.model_file import ModelFile
from mobilenetv2.predictor import load
from mobilenetv2.train import RECIPES, TrainingRun, find, fit, recipes, with_settings
from mobilenetv2.train.batches import training_batches, validation_batches
from mobilenetv2.train.classification import Classifier
from mobilenetv2.train.pictures import Pictures, open_training_data
from mobilenetv2.train.recipe_fields import check

SIZE = 32
TINY = dataclasses.replace(
    find("basic"), epochs=3, batch_size=20, optimiser="sgd", learning_rate=0.02, weight_decay=1e-4, width_mult=0.35,
    size=SIZE, crop_scale=0.8, colour=0.0, dropout=0.0, label_smoothing=0.0, warmup=0.0, batch_norm_momentum=0.5,
)  # fmt: skip

TrainTiny = Callable[..., TrainingRun]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a third of a second for each run; `test_leaves.py` is about it."""
    monkeypatch.setattr(report, "write", lambda run, **_: run / "report.html")


def write_pictures(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Noise around one colour per class: seen at a glance."""
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(classes.items()):
        colour = np.eye(3)[number % 3] * 120 + 60
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.clip(rng.normal(colour, 40, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in train and val folders."""
    folder = tmp_path_factory.mktemp("colours")
    write_pictures(folder / "train", {"blue": 20, "red": 20})
    write_pictures(folder / "val", {"blue": 6, "red": 6}, seed=1)
    return folder


@pytest.fixture
def train(colours: Path, tmp_path: Path) -> TrainTiny:
    """A short run on the colours: `train(name of its folder, fit's arguments, recipe's fields)`."""

    def run(name: str = "run", *, recipe: dict[str, Any] | None = None, **arguments: Any) -> TrainingRun:
        chosen = dataclasses.replace(TINY, **(recipe or {}))
        return fit(colours, tmp_path / name, recipe=chosen, progress=False, accelerator="cpu", **arguments)

    return run


def losses_of(run: TrainingRun) -> list[str]:
    rows = csv.DictReader((run.model.parent / "metrics.csv").read_text().splitlines())
    return [row["train_loss"] for row in rows]


def tensors_of(run: TrainingRun) -> dict[str, np.ndarray]:
    return dict(model_file.read(run.model).tensors)


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not np.array_equal(left[name], right[name])]
    assert different == []


# ---- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_are_in_range_and_survive_json(name: str) -> None:
    recipe = check(find(name))
    assert recipes.from_json(dataclasses.asdict(recipe)) == recipe


def test_settings_change_fields_by_their_type() -> None:
    recipe = with_settings(
        find("basic"),
        [
            "learning_rate=0.01",
            "epochs=7",
            "max_minutes=2",
            "size=none",
            "optimiser=sgd",
            "epochs=8",
            "zero_gamma=True",
        ],
    )
    assert recipe == dataclasses.replace(
        find("basic"), learning_rate=0.01, epochs=8, max_minutes=2.0, size=None, optimiser="sgd", zero_gamma=True
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rat=0.1", "unknown recipe field 'learning_rat': did you mean 'learning_rate'?"),
        ("learning_rate=fast", "learning_rate must be a number, got 'fast'"),
        ("learning_rate=nan", "learning_rate must be a number, got 'nan'"),
        ("epochs=1.5", "epochs must be a whole number, got '1.5'"),
        ("size=big", "size must be a whole number or none, got 'big'"),
        ("epochs=none", "epochs must be a whole number, got 'none'"),
        ("zero_gamma=1", "zero_gamma must be true or false, got '1'"),
        ("epochs=0", "epochs must be a whole number from 1 to 100,000, got 0"),
        ("optimiser=adam", "unknown optimiser 'adam': did you mean 'adamw'?"),
        ("small_until=0.5", "small_until needs small_size"),
        ("name=mine", "unknown recipe field 'name'"),
        ("epochs", "a setting is written name=value, got 'epochs'"),
    ],
)
def test_wrong_settings_are_refused_with_the_way_out(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        with_settings(find("basic"), [setting])
    assert message in str(error.value)


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'basic'"):
        find("basik")


# ---- what is learned from


def test_without_a_val_split_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", {"a": 40, "b": 20, "c": 3, "d": 1})
    data = open_training_data(folder, seed=0)
    assert Counter(data.names[sample.label] for sample in data.val.samples) == {"a": 4, "b": 2, "c": 1}
    assert len(data.train) + len(data.val) == 64
    assert not {s.path for s in data.train.samples} & {s.path for s in data.val.samples}
    assert any("held out" in note for note in data.notes)
    again, other = (open_training_data(folder, seed=seed) for seed in (0, 1))
    assert again.fingerprint == data.fingerprint
    assert {s.path for s in other.val.samples} != {s.path for s in data.val.samples}


def test_unreadable_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", {"a": 5, "b": 5})
    (folder / "a" / "notes.jpg").write_text("not a picture")
    (folder / "empty").mkdir()
    data = open_training_data(folder, seed=0)
    assert len(data.train) + len(data.val) == 10
    assert any("notes.jpg" in note for note in data.notes)
    assert any(f"folder {folder / 'empty'} has no pictures" in note for note in data.notes)


@pytest.mark.parametrize(
    ("classes", "broken", "message"), [({"a": 4}, None, "one class"), ({"a": 4}, "b", "class 'b'")]
)
def test_data_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, classes: dict[str, int], broken: str | None, message: str
) -> None:
    folder = write_pictures(tmp_path / "set", classes)
    if broken:
        (folder / broken).mkdir()
        (folder / broken / "x.jpg").write_text("not a picture")
    with pytest.raises(DatasetError, match=message):
        open_training_data(folder, seed=0)


@given(count=st.integers(2, 70), batch=st.integers(2, 40), epoch=st.integers(0, 3))
def test_an_epoch_has_every_picture_once_and_no_batch_of_one(count: int, batch: int, epoch: int) -> None:
    pixels = tuple(np.zeros((8, 8, 3), np.uint8) for _ in range(count))
    pictures = Pictures(tuple(Sample(Path(str(i)), i) for i in range(count)), pixels)
    plain = dataclasses.replace(TINY, batch_size=batch, crop_scale=1.0, flip=0.0, colour=0.0)
    batches = training_batches(pictures, plain, 8)
    batches.set_epoch(epoch)
    labels = [labels_B for _, labels_B in batches]
    assert len(labels) == len(batches)
    assert sorted(torch.cat(labels).tolist()) == list(range(count))
    assert min(map(len, labels)) >= 2
    assert max(map(len, labels)) <= max(batch, 3)  # three pictures in batches of two are one batch


def test_augmentation_is_the_same_from_memory_and_from_workers(colours: Path) -> None:
    decoded, on_disk = (open_training_data(colours, seed=0, cache_bytes=limit).train for limit in (1 << 30, 0))
    assert decoded.pixels is not None
    assert on_disk.pixels is None
    first, second = (training_batches(pictures, TINY, SIZE) for pictures in (decoded, on_disk))
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_each_epoch_sees_the_pictures_otherwise(colours: Path) -> None:
    batches = training_batches(open_training_data(colours, seed=0).train, TINY, SIZE)
    first = next(iter(batches))[0]
    batches.set_epoch(1)
    assert not torch.equal(first, next(iter(batches))[0])


def test_validation_sees_what_the_predictor_sees(colours: Path) -> None:
    pictures = open_training_data(colours, seed=0).val
    wanted = preprocessing("torchvision-v2", SIZE)
    images = torch.cat([images for images, _ in validation_batches(pictures, wanted)])
    for image_CHW, sample in zip(images, pictures.samples, strict=True):
        assert np.array_equal(image_CHW.permute(1, 2, 0).numpy(), load_picture(sample.path, wanted)[0])


# ---- runs


@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.5, "optimiser": "adamw", "learning_rate": 3e-3, "keep": "last"}], ids=["plain", "average"]
)
def test_a_run_learns_and_its_model_file_is_what_was_measured(
    train: TrainTiny, colours: Path, changes: dict[str, Any]
) -> None:
    run = train(recipe={"epochs": 6, **changes})
    predictor = load(run.model, backend="reference")
    held_out = open_classification(colours, classes=predictor.info, split="val")
    assert run.score == evaluate(predictor, held_out).top1
    assert predictor.info.labels == ("blue", "red")
    assert predictor.info.provenance["scores"]["val_accuracy"] == pytest.approx(run.score)
    losses = [float(loss) for loss in losses_of(run)]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    assert run.pictures_per_second > 0


def test_the_same_seed_gives_the_same_weights_and_another_one_others(train: TrainTiny) -> None:
    short = {"epochs": 1}
    first = tensors_of(train("first", recipe=short))
    assert_same(first, tensors_of(train("second", recipe=short)))
    other = tensors_of(train("third", recipe={**short, "seed": 1}))
    assert not np.array_equal(first["features.0.0.weight"], other["features.0.0.weight"])


@pytest.mark.few(1)
@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "rmsprop"])
def test_gradients_are_shortened_in_mixed_precision_too(train: TrainTiny, optimiser: str) -> None:
    run = train(recipe={"epochs": 1, "optimiser": optimiser, "clip": 5.0}, precision="bf16-mixed")
    assert run.epochs == 1


STEPS = 5  # of an epoch with batches of 8
KEPT = {"keep": "last", "ema": 0.5, "batch_size": 8, "dropout": 0.2, "colour": 0.2, "mixup": 0.3}


def ctrl_c_at(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """The signal comes while a run's step `step`, counted from 0, computes."""
    training_step = Classifier.training_step

    def interrupted(self: Classifier, *arguments: Any) -> Any:
        if self.global_step == step:
            signal.raise_signal(number)
        return training_step(self, *arguments)

    monkeypatch.setattr(Classifier, "training_step", interrupted)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("step", "number"), [(STEPS, signal.SIGINT), (STEPS + 2, signal.SIGTERM), (2 * STEPS - 1, signal.SIGINT)]
)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    step: int, number: int, train: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", recipe=KEPT)
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        ctrl_c_at(step, patched, number)
        stopped = train("stopped", recipe=KEPT)
    assert stopped.stopped
    assert stopped.kept_epoch == (1 if step < 2 * STEPS - 1 else 2)
    assert "--resume" in stopped.text()
    assert signal.getsignal(number) is before

    resumed = train("stopped", recipe=KEPT, resume=True)
    assert not resumed.stopped
    assert resumed.epochs == whole.epochs == TINY.epochs
    assert_same(tensors_of(resumed), tensors_of(whole))
    assert losses_of(resumed) == losses_of(whole)
    with pytest.raises(UsageError, match="is finished"):
        train("stopped", recipe=KEPT, resume=True)


def test_ctrl_c_in_the_first_epoch_leaves_a_run_that_goes_on(train: TrainTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        ctrl_c_at(1, patched)
        with pytest.raises(TrainingError, match=r"before the end of the first epoch: .* --resume goes on"):
            train("stopped", recipe=KEPT)
    assert_same(tensors_of(train("stopped", recipe=KEPT, resume=True)), tensors_of(train("whole", recipe=KEPT)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(workers: int, colours: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, dataclasses, torch\nfrom mobilenetv2.train import fit, recipes, saver\n"
        "torch.set_num_threads(1)\nsaver.SAVE_EVERY_S = 0.02\n"
        "folder = pathlib.Path(sys.argv[2])\nresume = (folder / 'run.json').exists()\n"
        "recipe = None if resume else recipes.from_json(eval(sys.argv[3]))\n"
        f"fit(pathlib.Path(sys.argv[1]), folder, recipe=recipe, resume=resume, overwrite=not resume, progress=False,"
        f" accelerator='cpu', cache_bytes=0, workers={workers})\n"
    )
    recipe = dataclasses.replace(TINY, epochs=8, **KEPT)
    rng = np.random.default_rng(workers)
    killed = 0
    for attempt in range(3):
        arguments = [str(colours), str(tmp_path / "killed"), repr(dataclasses.asdict(recipe))]
        last, settings = tmp_path / "killed" / "last.ckpt", tmp_path / "killed" / "run.json"
        saved = last.stat().st_mtime_ns if last.exists() else None
        process = subprocess.Popen([sys.executable, "-c", code, *arguments])
        while attempt < 2 and process.poll() is None and not (last.exists() and last.stat().st_mtime_ns != saved):
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0, 0.3) if attempt < 2 else None)
        process.kill()
        process.wait()
        if json.loads(settings.read_text())["finished"]:
            break
        killed += 1
    assert killed == 2
    whole = fit(colours, tmp_path / "whole", recipe=recipe, progress=False, accelerator="cpu")
    assert_same(dict(model_file.read(tmp_path / "killed" / "model.safetensors").tensors), tensors_of(whole))


def test_a_folder_with_something_in_it_is_not_overwritten(train: TrainTiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        train()
    with pytest.raises(UsageError, match="holds no run"):
        train(resume=True)
    run = train(recipe={"epochs": 1}, overwrite=True)
    assert run.model.exists()
    assert (tmp_path / "run" / "thesis.txt").read_text() == "precious"


def test_a_run_is_resumed_by_its_own_recipe_only(train: TrainTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    ctrl_c_at(2, monkeypatch)
    assert train().stopped
    with pytest.raises(UsageError, match=r"began with learning_rate=0\.02"):
        train(recipe={"learning_rate": 0.1}, resume=True)


def test_the_time_limit_ends_a_run(train: TrainTiny) -> None:
    run = train(recipe={"epochs": 10_000, "max_minutes": 0.005})
    assert run.epochs < 10_000
    assert run.score is not None


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(
    train: TrainTiny, random_model: Callable[..., ModelFile], tmp_path: Path
) -> None:
    start = random_model(size=SIZE, outputs=2, width_mult=0.35)
    broken = {**start.tensors, "classifier.1.weight": np.full((2, 1280), 3e38, np.float32)}
    with pytest.raises(TrainingError) as error:
        train(init=ModelFile(start.info, broken))
    assert "nan in epoch 1, step 1" in str(error.value)
    assert "learning_rate=" in str(error.value)
    assert not (tmp_path / "run").exists()


STILL = {"learning_rate": 1e-12, "epochs": 1, "weight_decay": 0.0, "batch_norm_momentum": 1e-6, "dropout": 0.0}


def test_starting_weights_keep_their_last_layer_for_the_same_classes(
    train: TrainTiny, random_model: Callable[..., ModelFile]
) -> None:
    start = random_model(size=SIZE, outputs=2, width_mult=0.35, labels=("blue", "red"), padding="same")
    run = train(init=start, recipe=STILL)
    found = model_file.read(run.model)
    assert found.info.spec.backbone == start.info.spec.backbone
    assert found.info.preprocessing == start.info.preprocessing
    for name in ("features.0.0.weight", "classifier.1.weight"):
        assert found.tensors[name] == pytest.approx(start.tensors[name], abs=1e-6)


@pytest.mark.parametrize("labels", [("cat", "dog"), ("a", "b", "c")])
def test_starting_weights_get_a_new_last_layer_for_other_classes(
    train: TrainTiny, random_model: Callable[..., ModelFile], labels: tuple[str, ...]
) -> None:
    start = random_model(size=SIZE, outputs=len(labels), width_mult=0.35, labels=labels)
    run = train(init=start, recipe=STILL)
    found = tensors_of(run)
    assert any("new last layer for 2 classes" in note for note in run.notes)
    assert found["features.0.0.weight"] == pytest.approx(start.tensors["features.0.0.weight"], abs=1e-6)
    assert found["classifier.1.weight"].shape == (2, 1280)
    assert np.abs(found["classifier.1.weight"] - start.tensors["classifier.1.weight"][:2]).max() > 1e-3


def test_starting_weights_of_another_width_are_refused(
    train: TrainTiny, random_model: Callable[..., ModelFile]
) -> None:
    with pytest.raises(UsageError, match="width_mult"):
        train(init=random_model(size=SIZE, outputs=2, width_mult=0.5))


def test_a_detectors_backbone_starts_a_classifier_and_teaches_none(
    train: TrainTiny, random_detector: Callable[..., ModelFile]
) -> None:
    detector = random_detector(size=SIZE, head={"classes": 2}, labels=("blue", "red"))
    run = train(init=detector, recipe={"epochs": 1, "learning_rate": 1e-9})
    tensors = tensors_of(run)
    assert {name.split(".")[0] for name in tensors} == {"features", "classifier"}
    assert all(np.allclose(tensors[name], detector.tensors[name]) for name in tensors if name.endswith("0.weight"))
    with pytest.raises(UsageError, match="teacher must be a model for classification, not for detection"):
        train("taught", teacher=detector)


def test_folded_batch_norm_stays_folded(train: TrainTiny, random_model: Callable[..., ModelFile]) -> None:
    start = random_model(size=SIZE, outputs=2, width_mult=0.35)
    variance = np.float32(1 - start.info.spec.backbone.bn_eps)
    identity = {"running_mean": 0.0, "running_var": variance, "weight": 1.0}
    tensors = {
        name: np.full_like(value, identity[name.rpartition(".")[2]])
        if value.ndim == 1 and name.rpartition(".")[2] in identity
        else value
        for name, value in start.tensors.items()
    }
    run = train(init=ModelFile(dataclasses.replace(start.info, batch_norm="folded"), tensors), recipe={"epochs": 1})
    found = model_file.read(run.model)
    assert found.info.batch_norm == "folded"
    for name, value in tensors.items():
        if value.ndim == 1 and name.rpartition(".")[2] in identity:
            assert np.array_equal(found.tensors[name], value), name
    assert not np.array_equal(found.tensors["features.0.1.bias"], tensors["features.0.1.bias"])


def test_two_pictures_are_enough_to_train_and_too_few_to_measure(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", {"a": 1, "b": 1})
    run = fit(folder, tmp_path / "run", recipe=TINY, progress=False, accelerator="cpu")
    assert run.score is None
    assert model_file.read(run.model).info.labels == ("a", "b")


def test_a_resumed_run_keeps_the_conventions_of_the_weights_it_began_with(
    train: TrainTiny, random_model: Callable[..., ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = random_model(size=SIZE, outputs=5, width_mult=0.35, padding="same", bn_eps=1e-3)
    start = ModelFile(dataclasses.replace(start.info, batch_norm="folded"), start.tensors)
    step = Classifier.training_step

    def step_with_ctrl_c(self: Classifier, *arguments: Any) -> Any:
        if self.global_step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    changes = {"keep": "last", "width_mult": None}
    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "training_step", step_with_ctrl_c)
        stopped = train("run", init=start, recipe=changes)
    assert stopped.stopped
    with pytest.raises(UsageError, match="leave out the starting weights"):
        train("run", init=start, recipe=changes, resume=True)
    found = model_file.read(train("run", recipe=changes, resume=True).model).info
    assert (found.spec.backbone, found.batch_norm) == (start.info.spec.backbone, "folded")
    assert found.preprocessing == start.info.preprocessing
