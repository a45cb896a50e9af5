"""The data check: each fault is found, none is invented."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mobilenetv2 import cli, image
from mobilenetv2.data.check import DataCheck, check, from_json
from mobilenetv2.errors import DatasetError


def write(folder: Path, count: int, pixels: Iterator[np.ndarray]) -> list[Path]:
    folder.mkdir(parents=True)
    written = [folder / f"{i:02}.jpg" for i in range(count)]
    for path in written:
        Image.fromarray(next(pixels)).save(path)
    return written


def noise() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    pixels = noise()
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        for name in ("cat", "dog", "hen"):
            write(tmp_path / "set" / part / name, count, pixels)
    return tmp_path / "set"


def faults(found: DataCheck) -> set[str]:
    kinds = ("unreadable", "duplicates", "leaks", "contradictions", "missing", "strangers", "empty", "uneven")
    return {kind for kind in kinds if getattr(found, kind)}


def test_nothing_is_found_in_sound_data(sound: Path) -> None:
    found = check(sound)
    assert faults(found) == set()
    assert found.findings == ()
    assert found.counts == {"train": (6, 6, 6), "val": (2, 2, 2), "test": (2, 2, 2)}
    assert "nothing wrong was found" in found.text()
    assert found.to_json()["ok"] is True


def test_every_fault_is_found_and_no_other(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = sound / "train", sound / "val"
    (train / "cat" / "empty.jpg").write_bytes(b"")
    (train / "cat" / "text.png").write_text("not a picture")
    whole = (train / "cat" / "00.jpg").read_bytes()
    (train / "cat" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(train / "dog" / "00.jpg", train / "dog" / "again.jpg")
    shutil.copy(train / "dog" / "01.jpg", train / "hen" / "other.jpg")
    shutil.copy(train / "hen" / "02.jpg", val / "hen" / "known.jpg")
    shutil.rmtree(val / "cat")
    (train / "owl").mkdir()
    write(val / "yak", 1, noise())
    write(train / "ant", 70, (pixels for i, pixels in enumerate(noise()) if i > 100))

    found = check(sound)
    names = lambda groups: [{str(Path(file).relative_to(sound)) for file in group} for group in groups]  # noqa: E731
    assert {Path(file).name for file, _ in found.unreadable} == {"empty.jpg", "text.png", "truncated.jpg"}
    assert names(found.duplicates) == [{"train/dog/00.jpg", "train/dog/again.jpg"}]
    assert names(found.contradictions) == [{"train/dog/01.jpg", "train/hen/other.jpg"}]
    assert names(found.leaks) == [{"train/hen/02.jpg", "val/hen/known.jpg"}]
    assert set(found.missing) == {("val", "ant"), ("val", "cat"), ("test", "ant")}
    assert found.strangers == (("val", "yak", 1),)
    assert found.empty == (str(train / "owl"),)
    assert found.uneven == ("ant", 70, "cat", 6)
    assert len(found.findings) == 3 + 1 + 1 + 1 + 3 + 1 + 1 + 1
    assert from_json(json.loads(json.dumps(found.to_json()))) == found

    monkeypatch.chdir(tmp_path)
    near = check("set")
    assert near != found
    assert near.absolute() == found

    result = CliRunner().invoke(cli.app, ["check", str(sound), "--json", "--strict", "--draw", str(tmp_path / "g.png")])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads(json.dumps(found.to_json()))
    assert image.read(tmp_path / "g.png").shape[0] > 500


def test_a_flat_folder_and_a_text_file_are_one_part(sound: Path) -> None:
    flat = sound / "train"
    assert check(flat).counts == {"all": (6, 6, 6)}
    lines = [f"{path.relative_to(sound)},{path.parent.name}" for path in sorted(flat.glob("*/*.jpg"))]
    (sound / "list.csv").write_text("\n".join(["path,label", *lines, lines[0]]))
    found = check(sound / "list.csv")
    assert found.counts == {"all": (7, 6, 6)}
    assert faults(found) == {"duplicates"}


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pictures"):
        check(tmp_path)
