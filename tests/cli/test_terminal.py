"""Nothing from outside reaches the terminal with its control characters, on more lines than one, or at any length."""

import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mobilenetv2 import model_file, terminal
from mobilenetv2.model_file import ModelFile
from mobilenetv2.text import json_line

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]

# sets the colour and the title of a window, begins a line, turns the direction, and an 8-bit terminal's own escape
EVIL = "\x1b[31mred\x1b]0;title\x07\n\r\u202eleft\u2066\x9b5m\u2028"


def is_safe(text: str, *, longest: int = 1_000) -> bool:
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") and c != "\n"]
    return not bad and all(len(line) <= longest for line in text.split("\n"))


def save(path: Path, size: tuple[int, int] = (50, 70)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = len(os.fspath(path))
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def evil(random_model: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "evil.safetensors"
    labels = (EVIL, "dog" * 3_000, "owl")
    model_file.write(path, random_model(width_mult=0.35, outputs=3, labels=labels, size=32))
    return path


def test_class_names_of_a_model_file_are_shown_safe_and_short_and_told_whole_to_machines(
    run: Run, evil: Path, tmp_path: Path
) -> None:
    photo = save(tmp_path / "a.png")
    for arguments in (("predict", evil, photo), ("info", evil)):
        result = run(*arguments)
        assert result.code == 0
        assert is_safe(result.out, longest=500), result.out
        assert "\\x1b[31mred" in result.out
    assert run("predict", evil, photo).out.count("\n") == 4
    result = run("predict", evil, photo, "--json")
    assert is_safe(result.out, longest=100_000)
    assert {p["label"] for p in result.objects[0]["predictions"]} == {EVIL, "dog" * 3_000, "owl"}


def test_file_names_are_shown_safe_on_their_line(run: Run, model: Path, tmp_path: Path) -> None:
    photo = save(tmp_path / "p" / f"{EVIL}.png")
    (tmp_path / "p" / f"{EVIL}.jpg").write_text("no picture")
    (tmp_path / "p" / f"a.{EVIL}").touch()
    result = run("predict", model, tmp_path / "p", "--draw", tmp_path / "drawn", "--top", 1)
    assert result.code == 1
    assert is_safe(result.out)
    assert is_safe(result.err)
    assert result.out.count("\n") == 2
    assert result.err.count("\n") == 4  # left out, drawn, not read, in all
    result = run("predict", model, photo, "--json")
    assert is_safe(result.out)
    assert result.objects[0]["file"] == str(photo)


def test_names_that_are_no_text_are_escaped_in_text_and_in_json(run: Run, model: Path, tmp_path: Path) -> None:
    photo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.png"))
    photo.write_bytes(save(tmp_path / "a.png").read_bytes())
    assert "a\\udcff.png" in run("predict", model, photo).out
    assert run("predict", model, photo, "--json").objects[0]["file"] == str(photo)
    missing = photo.with_name("b" + photo.name)
    assert "does not exist" in run("predict", model, missing).err


def test_class_names_of_folders_are_shown_safe(run: Run, evil: Path, tmp_path: Path) -> None:
    for name in (EVIL, "owl"):
        for i in (1, 2):
            save(tmp_path / "data" / name / f"{i}.png", (40 + i, 50))
    for arguments in (("check", tmp_path / "data"), ("evaluate", evil, tmp_path / "data")):
        result = run(*arguments)
        assert result.code == 0, result.err
        assert is_safe(result.out), result.out
        assert is_safe(result.err), result.err
        assert run(*arguments, "--json").out.count("\n") == 1
    assert run("evaluate", evil, tmp_path / "data" / EVIL).err.count("\n") == 1


def test_names_of_foreign_tensors_are_shown_safe(run: Run, tmp_path: Path) -> None:
    for name in (EVIL, "features." + "x" * 5_000):
        torch.save({name: torch.zeros(3), "features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "m.pth")
        result = run("import", tmp_path / "m.pth", "-o", tmp_path / "out.safetensors")
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert is_safe(result.err)


def test_a_headers_version_is_shown_safe(run: Run, model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for version in (EVIL, "9" * 5_000):
        header["__metadata__"]["mobilenetv2"] = version
        written = json.dumps(header).encode()
        other = tmp_path / "other.safetensors"
        other.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
        result = run("predict", other, other)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert is_safe(result.err)


@pytest.mark.parametrize(
    "arguments",
    [
        (f"--{EVIL}",),
        (EVIL,),
        ("x" * 100_000,),
        ("predict", EVIL, "photo.jpg"),
        ("predict", "m", "p", f"--{EVIL}"),
        ("predict", "m", "p", "--top", EVIL),
        ("predict", "m", "p", "--resize", EVIL),
        ("predict", "m", "p", "--conf", EVIL),
        ("predict", "m", "p", "--backend", "x" * 100_000),
        ("evaluate", "m", "d", "--difficult", EVIL),
        ("train", EVIL, "-o", "run"),
        ("train", "d", "-o", "run", "--set", f"{EVIL}=1"),
        ("train", "d", "-o", "run", "--set", f"lr={EVIL}"),
        ("recipes", EVIL),
        ("paper", EVIL),
        ("info", "m", "--plan", "--budget", EVIL),
    ],
)
def test_wrong_arguments_are_one_safe_line(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code in (1, 2)
    assert result.err.count("\n") == 1, result.err
    assert result.out == ""
    assert is_safe(result.err)


def test_a_table_has_a_line_for_each_row_whatever_its_cells_say() -> None:
    rows = [(EVIL, 1), ("x" * 10_000_000, 2)]
    shown = terminal.table(rows, header=("name", EVIL), right=(1,))
    assert shown.count("\n") == 2
    assert is_safe(shown)


def test_a_label_of_ten_megabytes_is_drawn_and_shown_at_once(random_model: RandomModel) -> None:
    from mobilenetv2.results import Classification, Prediction

    answer = Classification((Prediction(0, "x" * 10_000_000, 0.5),))
    assert len(str(answer)) < 200
    assert answer.draw(np.zeros((20, 20, 3), np.uint8)).shape[2] == 3


def test_json_says_everything_and_escapes_what_terminals_obey() -> None:
    value = {"name": EVIL + "\x7f\ud800\U000e0041Grüße 北京 👩\u200d🔬", "deep": [1.5, None, {"a\nb": "x" * 100_000}]}
    line = json_line(value)
    assert is_safe(line.replace("\u200d", ""), longest=200_000)
    assert json.loads(line) == value
    assert "Grüße 北京 👩\u200d🔬" in line


def test_lone_surrogates_do_not_end_in_an_encoding_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", written)
    terminal.show("a\ud800b")
    terminal.show_json({"a": "\ud800"})
    written.flush()
    assert written.buffer.getvalue() == b'a\\ud800b\n{"a": "\\ud800"}\n'  # pyright: ignore[reportAttributeAccessIssue]


def test_the_package_is_a_program_too() -> None:
    def shell(*arguments: str) -> tuple[int, str, str]:
        result = subprocess.run(
            [sys.executable, "-m", "mobilenetv2", *arguments], capture_output=True, text=True, check=False
        )
        return result.returncode, result.stdout, result.stderr

    code, out, err = shell("version")
    assert (code, out.split()[0], err) == (0, "mobilenetv2", "")
    assert shell("help")[1].startswith("Usage:")
    assert shell("help", "predict")[1] == shell("predict", "--help")[1]
    assert shell("train", "d", "--epochs", "4") == (2, "", "error: --epochs: write --set epochs=4\n")
