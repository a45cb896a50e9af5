"""The demonstration, in small: everything it shows is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mobilenetv2 import demo as demonstration
from mobilenetv2.cli import app
from mobilenetv2.data.shapes import CLASSES


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

    again = demonstration.demo(tmp_path / "demo", seconds=1, pictures=100)  # pictures are used again, the run is new
    assert again.run.model == found.run.model


def test_the_commands_that_the_demo_recommends_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line.split()[1] for line in demonstration._NEXT.splitlines() if line.startswith("  mobilenetv2 ")]
    assert commands == ["train", "evaluate", "predict", "predict", "info"]
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
