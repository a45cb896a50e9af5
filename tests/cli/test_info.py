"""`info`, `import`, `models`: what a model file is, where it comes from, which there are."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilenetv2 import image, model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]


def test_info_tells_what_the_file_is(run: Run, model: Path) -> None:
    text = run("info", model)
    assert text.code == 0
    for words in ("classification", "cat, dog, owl", "background", "64 x 64", "width 0.35", "multiply-adds"):
        assert words in text.out
    [found] = run("info", model, "--json").objects
    assert found["parameters"] == 1_677_128 - 1281 * 996
    assert found["labels"] == ["cat", "dog", "owl"]


def test_info_shows_the_engines_plan(run: Run, model: Path) -> None:
    assert "arena" in run("info", model, "--plan").out
    [small], [large] = (run("info", model, "--plan", "--size", n, "--json").objects for n in (32, 96))
    assert 0 < small["arena_bytes"] < large["arena_bytes"]
    assert run("info", model, "--size", 32).code == 2
    tight = run("info", model, "--plan", "--size", 96, "--budget", "1KB")
    assert tight.code == 2
    (smallest,) = re.findall(r"smallest possible is ([\d,]+) bytes", tight.err)
    fits = run("info", model, "--plan", "--size", 96, "--budget", smallest.replace(",", ""), "--json").objects[0]
    assert f"{fits['arena_bytes']:,}" == smallest
    assert run("info", model, "--plan", "--budget", "much").code == 2


def test_info_draws_the_plans_memory(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("info", model, "--plan", "--draw", tmp_path / "memory.png")
    assert result.code == 0
    assert image.read(tmp_path / "memory.png").shape[1] > 800


def test_import_reads_a_foreign_file_and_writes_it_back(run: Run, random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model(width_mult=0.5)
    foreign = tmp_path / "mine.pth"
    torch.save({name: torch.from_numpy(value) for name, value in model.tensors.items()}, foreign)
    result = run("import", foreign, "-o", tmp_path / "out.safetensors", "--size", 96)
    assert result.code == 0
    assert result.out == ""
    found = model_file.read(tmp_path / "out.safetensors")
    assert found.info.preprocessing.size == (96, 96)
    assert found.info.labels[0] == "tench"
    back = run("import", tmp_path / "out.safetensors", "--to", "torchvision", "-o", tmp_path / "back.pth")
    assert back.code == 0
    tensors = torch.load(tmp_path / "back.pth", weights_only=True)
    assert np.array_equal(tensors["features.0.0.weight"].numpy(), model.tensors["features.0.0.weight"])


def test_models_lists_names_and_json(run: Run) -> None:
    text = run("models")
    assert "keras/0.35-96" in text.out
    names = [entry["name"] for entry in run("models", "--json").objects]
    assert len(names) == len(set(names)) >= 40


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.startswith("mobilenetv2 0.")
    assert "predict" in run("--help").out


def test_a_closed_pipe_is_no_traceback(model: Path, photo: Path) -> None:
    command = f"{sys.executable} -m mobilenetv2.cli models | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "keras" in result.stdout or "name" in result.stdout
    assert result.stderr == ""


def test_help_is_quick_because_it_loads_nothing() -> None:
    code = (
        "import sys, mobilenetv2.cli as c\n"
        "sys.argv = ['mobilenetv2', '--help']\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'PIL', 'torch', 'rich', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mobilenetv2.cli", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - start < 3  # 0.15 s on a quiet machine; the bound is for a busy one
