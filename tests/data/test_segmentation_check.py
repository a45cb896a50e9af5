"""The check of pictures with masks: each fault is found, none is invented, and the gallery shows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from segmentation_files import MASKS, mask_of, write_coco, write_folders, write_mask, write_picture, write_voc

from mobilenetv2.data.segmentation import open_parts
from mobilenetv2.data.segmentation_check import SegmentationCheck, check, write_gallery
from mobilenetv2.errors import DatasetError


def wrong(found: SegmentationCheck) -> set[str]:
    kinds = ("faults", "unreadable", "masks", "blank", "duplicates", "leaks", "missing")
    return {kind for kind in kinds if getattr(found, kind)}


@pytest.mark.parametrize("write", [write_folders, write_coco])
def test_nothing_is_found_in_sound_data(write, tmp_path: Path) -> None:
    found = check(write(tmp_path))
    assert (wrong(found), found.findings) == (set(), ())
    assert found.names == ("background", "cat", "dog")
    assert found.pixels == {"all": (18 + 8 + 6, 5 + 3, 10 + 3)}
    assert found.occurs == {"all": (3, 2, 2)}
    assert (found.ignored, found.pictures) == ({"all": 3}, {"all": 3})
    assert "nothing wrong was found" in found.text()
    assert found.to_json()["ok"] is True


def test_classes_that_never_occur_are_named(tmp_path: Path) -> None:
    found = check(write_voc(tmp_path, {"train": "a b c", "val": "a"}))
    assert wrong(found) == {"leaks", "missing"}
    assert ("val", "bicycle") in found.missing
    assert ("train", "bicycle") not in found.missing
    assert "class 'person' has no pixel in train" in found.findings


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A set of two parts with one of everything."""
    root = write_folders(tmp_path / "set", images="images/train", masks="masks/train")
    images, masks = root / "images", root / "masks"
    for name, mask in (("blank", mask_of("..", "..")), ("odd", mask_of("0017", "0012")), ("big", mask_of("0012"))):
        write_picture(images / "train" / f"{name}.png", mask)
        write_mask(masks / "train" / f"{name}.png", mask if name != "big" else mask.T)
    write_picture(images / "train" / "bare.png", mask_of("0", "0", "1"))
    write_mask(masks / "train" / "alone.png", mask_of("0"))
    for name in ("cut", "cut mask"):
        write_picture(images / "train" / f"{name}.png", np.zeros((50, 50 + len(name))))
        write_mask(masks / "train" / f"{name}.png", np.zeros((50, 50 + len(name)), np.uint8))
    for file in (images / "train" / "cut.png", masks / "train" / "cut mask.png"):
        file.write_bytes(file.read_bytes()[:60])
    write_picture(images / "val" / "new.png", mask_of("0", "1"))
    write_mask(masks / "val" / "new.png", mask_of("0", "1"))
    for source, copy in (("train/a", "val/again"), ("val/new", "val/twice")):
        for folder in (images, masks):
            shutil.copy(folder / f"{source}.png", folder / f"{copy}.png")
    return root


def test_every_fault_is_found_and_no_other(faulty: Path, tmp_path: Path) -> None:
    found = check(faulty)
    name = lambda file: str(Path(file).relative_to(faulty))  # noqa: E731
    assert [(name(file), "cut short" in error) for file, error in found.unreadable] == [("images/train/cut.png", True)]
    assert [name(file) for file, _ in found.masks] == [f"images/train/{one}.png" for one in ("big", "cut mask", "odd")]
    reasons = [error for _, error in found.masks]
    assert "the mask has 1 x 4 pixels, but" in reasons[0]
    assert "cut short" in reasons[1]
    assert "value 7 (1 pixels) is none of the 3 classes" in reasons[2]
    assert [(fault.kind, name(fault.file)) for fault in found.faults] == [
        ("mask alone", "masks/train/alone.png"),
        ("no mask", "images/train/bare.png"),
    ]
    assert list(map(name, found.blank)) == ["images/train/blank.png"]
    assert [set(map(name, group)) for group in found.leaks] == [{"images/train/a.png", "images/val/again.png"}]
    assert [set(map(name, group)) for group in found.duplicates] == [{"images/val/new.png", "images/val/twice.png"}]
    assert found.missing == (("val", "dog"),)
    assert (found.pictures, len(found.findings)) == ({"train": 4, "val": 3}, 10)
    text = found.text()
    for line in found.findings:
        assert "\n" not in line
        assert line in text
    assert "10 findings" in text
    parsed = json.loads(json.dumps(found.to_json()))
    assert (parsed["ok"], len(parsed["masks"]), parsed["missing"]) == (False, 3, [{"part": "val", "label": "dog"}])


def test_the_gallery_shows_what_was_found(faulty: Path, tmp_path: Path) -> None:
    parts = open_parts(faulty)
    write_gallery(tmp_path / "gallery.png", check(faulty, parts), parts)
    shown = np.asarray(Image.open(tmp_path / "gallery.png"))
    assert shown.ndim == 3
    red = (shown == (250, 82, 82)).all(axis=2)
    # a red edge below each picture at fault: 1 unreadable, 3 masks, 1 blank, 2 leaks, 2 duplicates
    assert red.sum() >= 9 * 5 * 150


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    check(write_folders(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", MASKS["a"])
    write_mask(tmp_path / "masks" / "b.png", MASKS["a"])
    with pytest.raises(DatasetError, match="is no segmentation data"):
        check(tmp_path)


def test_the_real_street_scenes_are_sound(real_data: Path) -> None:
    found = check(real_data / "segmentation" / "voc2012_49")
    assert wrong(found) == set()
    assert found.pictures == {"val": 49}
    found = check(real_data / "segmentation" / "camvid")
    assert wrong(found) == set()
    assert found.pictures == {"train": 62, "val": 26}
