"""One clear line, and its exit code, for each thing that is wrong."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilenetv2 import model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("bomb-went-off",))


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def test_every_bad_input_is_one_line_and_its_exit_code(
    run: Run,
    model: Path,
    photo: Path,
    tmp_path: Path,
    grace_hopper: Path,
    random_model: RandomModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))
    files = {
        "truncated.jpg": grace_hopper.read_bytes()[:20_000],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "huge.png": png_header(60_000, 60_000),
        "empty.safetensors": b"",
        "list.csv": b"nowhere.jpg,cat\n",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    torch.save(Bomb(), "code.pth")
    Path("nothing").mkdir()
    model_file.write("ten.safetensors", random_model(width_mult=0.35, outputs=10, size=64))
    elk = random_model(width_mult=0.35, outputs=3, labels=("cat", "dog", "elk"), size=64)
    model_file.write("elk.safetensors", elk)
    Path("photo.csv").write_text(f"{photo.name},cat\n")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    cases: list[tuple[int, str, tuple[object, ...]]] = [
        (1, "truncated.jpg", ("predict", model, "truncated.jpg")),
        (1, "empty.jpg", ("predict", model, "empty.jpg")),
        (1, "text.jpg", ("predict", model, "text.jpg")),
        (1, "60000 x 60000", ("predict", model, "huge.png")),
        (1, "nothing has no pictures", ("predict", model, "nothing")),
        (1, "missing.jpg does not exist", ("predict", model, "missing.jpg")),
        (1, "empty.safetensors", ("predict", "empty.safetensors", photo)),
        (2, "are the model and the photo swapped?", ("predict", photo, model)),
        (2, "did you mean 'keras/0.35-96'", ("predict", "keras/0.35-69", photo)),
        (2, "did you mean 'torch'", ("predict", model, photo, "--backend", "torhc")),
        (2, "--resize must be a number of pixels or none, got 'big'", ("predict", model, photo, "--resize", "big")),
        (2, "--top", ("predict", model, photo, "--top", "0")),
        (2, "--jsn", ("predict", model, photo, "--jsn")),
        (2, "Did you mean 'predict'", ("predct", model, photo)),
        (2, "Missing argument", ("predict", model)),
        (1, "posix.mkdir", ("import", "code.pth", "-o", "out.safetensors")),
        (1, "is a folder", ("import", "nothing", "-o", "out.safetensors")),
        (2, "did you mean 'timm'", ("import", "code.pth", "-o", "out.safetensors", "--from", "tim")),
        (2, "nothing", ("import", model, "--to", "torchvision", "-o", "nothing")),
        (1, "cannot write", ("predict", model, photo, "--draw", "text.jpg")),
        (1, "nothing", ("evaluate", model, "nothing")),
        (1, "nowhere.jpg", ("evaluate", model, "list.csv")),
        (1, "absent", ("evaluate", model, "absent")),
        (1, "absent.safetensors does not exist", ("evaluate", model, "photo.csv", "--beside", "absent.safetensors")),
        (2, "3 classes and ten.safetensors has 10", ("evaluate", model, "photo.csv", "--beside", "ten.safetensors")),
        (2, "its class 'elk' is none of", ("evaluate", model, "photo.csv", "--beside", "elk.safetensors")),
        (1, "nothing", ("train", "nothing", "-o", "run")),
        (2, "did you mean 'basic'", ("train", "nothing", "-o", "run", "--recipe", "bsic")),
        (2, "did you mean 'batch_size'", ("train", "nothing", "-o", "run", "--set", "batch_sise=3")),
    ]
    for code, words, arguments in cases:
        result = run(*arguments)
        assert result.code == code, (arguments, result.err)
        assert words in result.err, (arguments, result.err)
        assert result.err.count("\n") == 1, (arguments, result.err)
        assert result.out == "", (arguments, result.out)
        assert "Traceback" not in result.err
    assert sorted(p.name for p in tmp_path.rglob("*")) == before  # no bomb, no half-written file
