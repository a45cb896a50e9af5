"""Several processes: the same run as one, and recomputation: the same gradients in less memory."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilenetv2 import model_file
from mobilenetv2.nn import MobileNetV2
from mobilenetv2.train import find, fit
from mobilenetv2.train.recipes import Recipe

RECIPE = dataclasses.replace(
    find("basic"), epochs=2, batch_size=12, optimiser="sgd", learning_rate=0.02, weight_decay=1e-4, width_mult=0.35,
    size=32, colour=0.2, dropout=0.0, frozen_norm=True, warmup=0.0, ema=0.9,
)  # fmt: skip

RUN = """
import pathlib, sys, torch
from mobilenetv2.train import fit, recipes
torch.set_num_threads(1)
fit(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), recipe=recipes.from_json(eval(sys.argv[3])), progress=False,
    accelerator="cpu", devices=int(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """31 pictures to learn from and 7 to measure: neither is even for two processes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 31), ("val", 7)):
        for number in range(count):
            path = folder / part / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = np.array([60, 90, 120]) if number % 2 else np.array([120, 90, 60])
            Image.fromarray(np.clip(rng.normal(tone, 40, (32, 32, 3)), 0, 255).astype(np.uint8)).save(path)
    return folder


def rows(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "own"])
def test_two_processes_train_as_one(launcher: str, pictures: Path, tmp_path: Path) -> None:
    script, recipe = tmp_path / "run.py", repr(dataclasses.asdict(RECIPE))
    script.write_text(RUN)
    start = [sys.executable]
    if launcher == "torchrun":
        start += [
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
        ]
    command = [*start, str(script), str(pictures), str(tmp_path / "two"), recipe, "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    fit(pictures, tmp_path / "one", recipe=RECIPE, progress=False, accelerator="cpu")
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        for name in ("train_loss", "val_loss", "val_accuracy"):
            assert two[name] == pytest.approx(one[name], abs=1e-4)
    ours, theirs = (model_file.read(tmp_path / name / "model.safetensors").tensors for name in ("one", "two"))
    for name, tensor in ours.items():
        np.testing.assert_allclose(theirs[name], tensor, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_recomputing_changes_neither_gradients_nor_statistics(training: bool) -> None:
    torch.manual_seed(0)
    images_BCHW = torch.randn(4, 3, 64, 64)
    found = []
    for recompute in (False, True):
        torch.manual_seed(1)
        network = MobileNetV2(num_classes=5, width_mult=0.5, dropout=0.0).train(training)
        network.recompute(recompute)
        network(images_BCHW).square().sum().backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters()}
        found.append((gradients, network.state_dict()))
    for plain, again in zip(*found, strict=True):
        for name, tensor in plain.items():
            assert tensor is not None
            assert torch.equal(again[name], tensor), name


def test_recomputing_keeps_less_for_the_gradients() -> None:
    kept = []
    for recompute in (False, True):
        network = MobileNetV2(num_classes=5, width_mult=1.0)
        network.recompute(recompute)
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(2, 3, 96, 96))
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.4 * kept[0]


def test_the_head_alone_learns_first_and_frozen_blocks_never(pictures: Path, tmp_path: Path) -> None:
    def run(name: str, **changes: object) -> dict[str, np.ndarray]:
        recipe: Recipe = dataclasses.replace(RECIPE, ema=0.0, **changes)  # type: ignore[arg-type]
        ran = fit(pictures, tmp_path / name, recipe=recipe, progress=False, accelerator="cpu")
        return dict(model_file.read(ran.model).tensors)

    untouched = run("still", learning_rate=1e-12)
    alone = run("alone", head_epochs=5.0)
    changed = {name for name in alone if not np.allclose(alone[name], untouched[name], atol=1e-9)}
    assert changed == {"classifier.1.weight", "classifier.1.bias"}
    frozen = run("frozen", freeze=3, frozen_norm=False)
    same = {name.split(".")[1] for name in frozen if np.allclose(frozen[name], untouched[name], atol=1e-9)}
    assert {"0", "1", "2"} <= same
    assert "3" not in same or not np.allclose(
        frozen["features.3.conv.0.0.weight"], untouched["features.3.conv.0.0.weight"]
    )
