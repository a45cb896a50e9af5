"""Calls the console script's function as the shell would, on a small model, a small detector and a photo."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import cli, model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the console script's function as the shell would."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mobilenetv2", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    return call


@pytest.fixture
def model(random_model: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    labels = ("cat", "dog", "owl")
    model_file.write(path, random_model(width_mult=0.35, outputs=4, background="first", labels=labels, size=64))
    return path


@pytest.fixture
def detector(random_detector: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    labels = ("cat", "dog", "owl")
    model_file.write(path, random_detector(size=64, labels=labels, head={"classes": 3, "most": 9}))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
