"""The check of pictures with boxes: each fault is found, none is invented, and the gallery shows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from detection_files import EXAMPLES, WRITERS, Example, coco_json, write_coco, write_pictures, write_voc
from typer.testing import CliRunner

from mobilenetv2 import cli, image, plots
from mobilenetv2.data.annotation import FAULTS
from mobilenetv2.data.detection import Places, open_parts
from mobilenetv2.data.detection_check import DetectionCheck, check, write_gallery
from mobilenetv2.errors import DatasetError


def wrong(found: DetectionCheck) -> set[str]:
    kinds = ("faults", "unreadable", "sizes", "duplicates", "leaks", "missing")
    return {kind for kind in kinds if getattr(found, kind)}


@pytest.mark.parametrize("form", WRITERS)
def test_nothing_is_found_in_sound_data(form: str, tmp_path: Path) -> None:
    found = check(WRITERS[form](tmp_path))
    assert wrong(found) == set()
    assert found.findings == ()
    assert dict(zip(found.names, found.counts["all"], strict=True)) == {"person": 1, "dog": 2, "tv monitor": 1}
    assert (found.pictures, found.without) == ({"all": 3}, {"all": 1})
    assert "nothing wrong was found" in found.text()
    assert found.to_json()["ok"] is True


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A COCO set of two parts with one of everything."""
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    train = (
        EXAMPLES[0],
        Example("far", 40, 60, tuple(("dog", box, False) for box in ((40, 20, 90, 30), (5, 5, 5, 9), (1, 1, 9, 9)))),
        Example("cut", 400, 400),
        Example("other-size", 30, 30),
    )  # fmt: skip
    write_pictures(root / "train", train)
    content = coco_json(train)
    content["annotations"].append({"id": 9, "image_id": 1000, "category_id": 99, "bbox": [1, 1, 2, 2]})
    content["images"][3]["width"] = 31
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    whole = (root / "train" / "cut.png").read_bytes()
    (root / "train" / "cut.png").write_bytes(whole[: len(whole) // 2])

    val = (
        Example("again", 40, 60),
        Example("once", 25, 25, (("person", (1, 1, 5, 5), False),)),
        Example("twice", 25, 25),
    )
    write_pictures(root / "val", val)
    shutil.copy(root / "train" / "a.png", root / "val" / "again.png")
    shutil.copy(root / "val" / "once.png", root / "val" / "twice.png")
    (root / "annotations" / "instances_val.json").write_text(json.dumps(coco_json(val)))
    return root


def test_every_fault_is_found_and_no_other(faulty: Path, tmp_path: Path) -> None:
    found = check(faulty)
    name = lambda file: str(Path(file).relative_to(faulty))  # noqa: E731
    assert [(name(file), "cut short" in error) for file, error in found.unreadable] == [("train/cut.png", True)]
    assert [(name(file), *sizes) for file, *sizes in found.sizes] == [("train/other-size.png", (30, 31), (30, 30))]
    assert [set(map(name, group)) for group in found.leaks] == [{"train/a.png", "val/again.png"}]
    assert [set(map(name, group)) for group in found.duplicates] == [{"val/once.png", "val/twice.png"}]
    assert [(fault.kind, fault.done, name(fault.file)) for fault in found.faults] == [
        ("unknown class", "left out", "train/a.png"),
        ("outside", "clipped", "train/far.png"),
        ("degenerate", "left out", "train/far.png"),
    ]
    assert found.missing == (("train", "tv monitor"), ("val", "dog"), ("val", "tv monitor"))
    assert found.counts == {"train": (1, 3, 0), "val": (1, 0, 0)}
    assert (found.pictures, found.without) == ({"train": 3, "val": 3}, {"train": 1, "val": 2})
    assert len(found.findings) == 1 + 1 + 1 + 1 + 3 + 3
    assert (
        "annotation 100: dog 40, 20, 90, 30 of 60 x 40: a box that reaches outside its picture, clipped" in found.text()
    )

    options = ["--json", "--strict", "--draw", str(tmp_path / "gallery.png")]
    result = CliRunner().invoke(cli.app, ["check", str(faulty), *options])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads(json.dumps(found.to_json()))
    assert image.read(tmp_path / "gallery.png").shape[0] > 200


def test_the_gallery_draws_boxes_and_the_faulty_ones_in_red(tmp_path: Path) -> None:
    good, bad = ("dog", (5, 5, 30, 30), False), ("dog", (10, 35, 10, 35), False)
    folder = write_coco(tmp_path / "set", [Example("a", 40, 60, (good, bad)), Example("b", 40, 60, (good,))])
    for name in ("a", "b"):  # a flat grey, so that every colour is the drawing's
        plots.write_png(folder / "images" / f"{name}.png", np.full((40, 60, 3), 99 if name == "a" else 98, np.uint8))
    write_gallery(tmp_path / "gallery.png", check(folder), open_parts(folder))
    drawn = image.read(tmp_path / "gallery.png")
    columns = {name: drawn[:, x : x + plots.TILE].reshape(-1, 3) for name, x in (("a", 12), ("b", 24 + plots.TILE))}
    assert (columns["a"][: 250 * plots.TILE] == plots.WRONG).all(axis=1).sum() > 20
    assert not (columns["b"] == plots.WRONG).all(axis=1).any()
    for pixels in columns.values():
        assert (pixels == plots.colour_of(1)).all(axis=1).sum() > 100


def test_a_text_names_the_first_of_many_faults_and_json_all_of_them(tmp_path: Path) -> None:
    many = tuple(("dog", (float(i), 5.0, float(i), 9.0), False) for i in range(50))
    found = check(write_voc(tmp_path, [Example("a", 60, 60, (("dog", (1, 1, 9, 9), False), *many))]))
    assert found.text().count("a box without an area") == 20
    assert "... and 30 more of this kind" in found.text()
    assert len(found.to_json()["faults"]) == 50
    assert set(found.to_json()["faults"][0]) == {"kind", "file", "value", "done"}
    assert all(fault.kind in FAULTS for fault in found.faults)


def test_the_command_line_completes_places_and_leaves_folders_of_classes_alone(tmp_path: Path) -> None:
    write_pictures(tmp_path / "elsewhere", EXAMPLES)
    (tmp_path / "all.json").write_text(json.dumps(coco_json(EXAMPLES)))
    (tmp_path / "words.txt").write_text("dog\nperson\ntv\n")
    run = lambda *arguments: CliRunner().invoke(cli.app, ["check", *map(str, arguments)])  # noqa: E731
    assert isinstance(run(tmp_path / "all.json").exception, DatasetError)
    result = run(
        tmp_path / "all.json", "--images", tmp_path / "elsewhere", "--classes", tmp_path / "words.txt", "--strict"
    )
    assert result.exit_code == 0
    assert result.stdout.startswith("class")
    assert "tv " in result.stdout
    write_pictures(tmp_path / "classes" / "cat", EXAMPLES)
    assert json.loads(run(tmp_path / "classes", "--json").stdout)["task"] == "classification"


def test_bccd_s_two_boxes_without_an_area_are_reported(real_data: Path) -> None:
    found = check(real_data / "detection" / "bccd")
    assert wrong(found) == {"faults"}
    assert [(fault.kind, Path(fault.file).stem) for fault in found.faults] == [
        ("degenerate", "BloodImage_00343"), ("degenerate", "BloodImage_00338"),
    ]  # fmt: skip
    assert found.counts == {"train": (209, 2381, 214), "val": (83, 967, 87)}


def test_coco128_lacks_two_text_files_and_two_pictures(real_data: Path) -> None:
    folder = real_data / "detection" / "coco128"
    found = check(folder, places=Places(images=folder / "images", labels=folder / "labels_yolo"))
    assert wrong(found) == {"faults", "missing"}
    assert sorted((fault.kind, Path(fault.file).stem) for fault in found.faults) == [
        ("no annotation", "000000000250"), ("no annotation", "000000000508"),
        ("no picture", "000000000656"), ("no picture", "000000000659"),
    ]  # fmt: skip
    assert len(found.missing) == 9
