"""A network for masks of Hugging Face's, from its folder to a mask, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

Run = Callable[..., Any]

transformers = pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    names = {0: "background", 1: "cat", 2: "dog"}
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.35, output_stride=16, image_size=65, num_labels=3, id2label=names
    )
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_from_a_folder_to_a_mask(run: Run, folder: Path, photo: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    result = run("import", folder, "-o", model)
    assert result.code == 0, result.err
    assert "note: 5 tensors were left out (mobilenet_v2.conv_1x1.convolution.weight" in result.err
    (facts,) = run("info", model, "--json").objects
    assert (facts["output_stride"], facts["aspp"]) == (16, False)
    options = ("--json", "--backend", "reference", "--masks", tmp_path / "masks")
    (answer,) = run("predict", model, photo, *options).objects
    assert {one["label"] for one in answer["classes"]} <= {"background", "cat", "dog"}
    assert np.asarray(Image.open(answer["mask"])).shape == (50, 70)


def test_the_output_stride_is_that_of_the_option(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("import", folder / "model.safetensors", "-o", tmp_path / "m.safetensors", "--output-stride", 8).code == 0
    (facts,) = run("info", tmp_path / "m.safetensors", "--json").objects
    assert facts["output_stride"] == 8


def test_what_cannot_be_imported_is_said_in_one_line(run: Run, folder: Path, tmp_path: Path) -> None:
    def line(code: int, *arguments: object) -> str:
        result = run("import", *arguments, "-o", tmp_path / "m.safetensors")
        assert (result.code, result.err.count("\n")) == (code, 1), result.err
        assert not (tmp_path / "m.safetensors").exists()
        return result.err

    assert "output_stride must be 8, 16 or 32, got 4" in line(2, folder, "--output-stride", 4)
    assert "folder without model.safetensors or pytorch_model.bin" in line(1, tmp_path)
    told = run("predict", folder, folder / "model.safetensors")
    assert f"mobilenetv2 import {folder} -o model.safetensors makes a model file of it" in told.err
    config = folder / "config.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps({**fields, "id2label": {"0": "cat"}}))
    assert "has 3 outputs, but config.json beside it names 1" in line(1, folder)
    config.write_text(json.dumps({**fields, "output_stride": 5}))
    assert "config.json has output_stride 5: known are 8, 16 and 32" in line(1, folder)
    config.write_text("{")
    assert "config.json is not JSON" in line(1, folder)
