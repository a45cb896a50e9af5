"""The data check: each fault is found, none is invented."""

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
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
    kinds = (
        "unreadable", "duplicates", "leaks", "contradictions", "missing", "strangers", "empty", "uneven", "unmixed",
        "incomplete",
    )  # fmt: skip
    return {kind for kind in kinds if getattr(found, kind)}


def test_nothing_is_found_in_sound_data(sound: Path) -> None:
    found = check(sound)
    assert faults(found) == set()
    assert found.findings == ()
    assert found.counts == {"train": (6, 6, 6), "val": (2, 2, 2), "test": (2, 2, 2)}
    assert "nothing wrong was found" in found.text()
    assert found.to_json()["ok"] is True


@pytest.fixture
def faulty(sound: Path) -> Path:
    """One fault of each kind, and of unreadable pictures three."""
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
    return sound


def test_every_fault_is_found_and_no_other(faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, train = faulty, faulty / "train"
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


def test_in_shards_everything_is_found_that_is_found_in_their_folder(
    faulty: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    """But the empty folder, which no shard holds. What shards alone can have is found too."""
    packed = pack(faulty, tmp_path / "shards", per_shard=30)
    with tarfile.open(packed / "val-000.tar", "a") as tar:
        tar.add(faulty / "val" / "dog" / "00.jpg", "dog/bare.jpg")
    theirs, ours = check(faulty), check(packed)

    def names(files: tuple[str, ...]) -> set[str]:
        """Without the shards: the class and the file."""
        return {"/".join(Path(file).parts[-2:]) for file in files}

    assert ours.counts == theirs.counts
    assert names(tuple(file for file, _ in ours.unreadable)) == names(tuple(file for file, _ in theirs.unreadable))
    for kind in ("duplicates", "leaks", "contradictions"):
        assert [names(group) for group in getattr(ours, kind)] == [names(group) for group in getattr(theirs, kind)]
    assert (set(ours.missing), ours.strangers, ours.uneven) == (set(theirs.missing), theirs.strangers, theirs.uneven)
    assert faults(ours) == faults(theirs) - {"empty"} | {"incomplete"}
    assert [file for file, _ in ours.incomplete] == [f"{packed}/val-000.tar/dog/bare.jpg"]
    [(file, reason)] = [one for one in ours.unreadable if one[0].endswith("text.png")]
    assert file.startswith(str(packed))
    assert reason.startswith(f"{file} is not a JPEG")

    result = CliRunner().invoke(
        cli.app, ["check", str(packed), "--json", "--strict", "--draw", str(tmp_path / "g.png")]
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads(json.dumps(ours.to_json()))
    assert image.read(tmp_path / "g.png").shape[0] > 500


def test_shards_sorted_by_class_are_a_finding_and_mixed_ones_are_not(
    sound: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    assert faults(check(pack(sound / "train", tmp_path / "mixed", per_shard=4))) == set()
    for name in ("cat", "dog", "hen"):
        (tmp_path / name).mkdir()
        shutil.copytree(sound / "train" / name, tmp_path / "one" / name / name)
        pack(tmp_path / "one" / name, tmp_path / name)
        (tmp_path / "sorted").mkdir(exist_ok=True)
        (tmp_path / name / "pictures-000.tar").rename(tmp_path / "sorted" / f"{name}.tar")
    found = check(tmp_path / "sorted")
    assert faults(found) == {"unmixed"}
    assert found.findings[0].startswith("classes are not mixed over the shards: one has 1.0 of them on average, by")
