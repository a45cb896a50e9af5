"""The same pictures and masks are read from every form, and what the masks mean is found out or asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from segmentation_files import MASKS, NAMES, mask_of, write_coco, write_folders, write_mask, write_picture, write_voc

from mobilenetv2.data.segmentation import (
    Places,
    SegmentationData,
    are_masks,
    is_segmentation,
    open_parts,
    open_segmentation,
    splits,
)
from mobilenetv2.errors import DatasetError, Error, FileError, UsageError

VOC21 = ("background", "aeroplane", "bicycle")


def masks(data: SegmentationData) -> dict[str, list]:
    return {sample.path.stem: sample.read_mask().tolist() for sample in data.samples}


TRUTH = {name: mask.tolist() for name, mask in MASKS.items()}


@pytest.mark.parametrize("write", [write_voc, write_folders, write_coco])
def test_every_form_gives_the_same_masks(write, tmp_path: Path) -> None:
    data = open_segmentation(write(tmp_path))
    assert masks(data) == TRUTH
    assert (data.split, data.faults, data.unmatched) == (None, (), ())
    assert data.names[:3] == (VOC21 if write is write_voc else NAMES)
    assert len(data.names) == (21 if write is write_voc else 3)
    assert splits(tmp_path) == ()
    assert is_segmentation(tmp_path) is (write is not write_coco)  # COCO's files are for detection as well


@pytest.mark.parametrize(
    ("images", "labels", "ending"),
    [
        ("images", "labels", ""), ("Img", "Mask", "_mask"), ("JPEGImages", "annots", "_L"), ("photos", "gt", "_gt"),
        ("train/images", "train/masks", ""), ("images/Training", "masks/train", ""), ("train", "trainannot", ""),
        ("train", "train_labels", "_L"), ("images/train/rome", "masks/train/rome", "_label"),
    ],
)  # fmt: skip
def test_folders_are_found_by_their_usual_names(images: str, labels: str, ending: str, tmp_path: Path) -> None:
    write_folders(tmp_path, images=images, masks=labels, ending=ending)
    assert is_segmentation(tmp_path)
    data = open_segmentation(tmp_path)
    assert masks(data) == TRUTH
    assert data.split == ("train" if "train" in labels else None)


def test_folders_of_other_names_are_named(tmp_path: Path) -> None:
    write_folders(tmp_path, images="x", masks="y")
    assert not is_segmentation(tmp_path)
    with pytest.raises(DatasetError, match="is no segmentation data"):
        open_segmentation(tmp_path)
    assert are_masks(tmp_path / "x", tmp_path / "y")
    data = open_segmentation(tmp_path, places=Places(images=tmp_path / "x", labels=tmp_path / "y"))
    assert masks(data) == TRUTH
    with pytest.raises(FileError, match=r"--labels .* does not exist"):
        open_segmentation(tmp_path, places=Places(labels=tmp_path / "z"))


def test_lists_divide_vocs_folders(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": "a", "val": "b", "trainval": "a b", "train_aug": "a c"})
    assert splits(tmp_path) == ("train", "val")
    assert list(masks(open_segmentation(tmp_path))) == ["b"]
    assert {part: list(masks(data)) for part, data in open_parts(tmp_path).items()} == {"train": ["a"], "val": ["b"]}
    both = open_segmentation(tmp_path, split="trainval")
    assert (list(masks(both)), both.split) == (["a", "b"], "train")
    assert list(masks(open_segmentation(tmp_path, split="train_aug"))) == ["a", "c"]
    with pytest.raises(DatasetError, match="has no 'test' split: it has train, val, train_aug, trainval"):
        open_segmentation(tmp_path, split="test")


def test_what_has_no_other_half_is_left_out_and_said(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "masks" / "a.png").unlink()
    write_mask(tmp_path / "masks" / "alone.png", MASKS["a"])
    data = open_segmentation(tmp_path)
    assert list(masks(data)) == ["b", "c"]
    assert [(fault.kind, Path(fault.file).name) for fault in data.faults] == [
        ("mask alone", "alone.png"),
        ("no mask", "a.png"),
    ]
    assert any("a picture without a mask: 1 left out" in note for note in data.notes)
    write_voc(tmp_path / "voc", {"val": "a b gone"})
    (tmp_path / "voc" / "SegmentationClass" / "a.png").unlink()
    data = open_segmentation(tmp_path / "voc")
    assert [fault.kind for fault in data.faults] == ["no mask", "no picture"]


def test_a_mask_of_exactly_the_pictures_name_goes_before_one_with_an_ending(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("a_mask", 2)):
        write_mask(tmp_path / "masks" / f"{name}.png", np.full((3, 3), value, np.uint8))
        write_picture(tmp_path / "images" / f"{name}.png", np.zeros((3, 3)))
    assert {name: mask[0][0] for name, mask in masks(open_segmentation(tmp_path)).items()} == {"a": 1, "a_mask": 2}


def test_classes_of_the_data_become_the_models_by_name(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "classes.txt").write_text("_background_\nTelevision\nzebra\n")
    data = open_segmentation(tmp_path, classes=("background", "person", "tvmonitor"))
    assert data.names == ("background", "person", "tvmonitor")
    assert data.unmatched == ("zebra",)
    assert "zebra: no such class of the model, their pixels count as background" in data.notes
    expected = {name: np.array([0, 2, 0, *[255] * 253], np.uint8)[mask].tolist() for name, mask in MASKS.items()}
    assert masks(data) == expected
    # a model without background: pixels of other classes do not count
    data = open_segmentation(tmp_path, classes=("person", "tv"))
    assert np.array(masks(data)["c"]).tolist() == [[255, 255, 1, 255]] * 3
    with pytest.raises(DatasetError, match=r"none of its classes .* is one of the model's 1 \(person\)"):
        open_segmentation(tmp_path, classes=("person",))


def test_unnamed_classes_are_the_models_by_number(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "classes.txt").unlink()
    data = open_segmentation(tmp_path, classes=("sky", "road", "tree"))
    assert masks(data) == TRUTH


def test_coco_paints_small_objects_on_large_ones_and_ignores_crowds_below_them(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "p.png", np.zeros((8, 10)))
    box = lambda x1, y1, x2, y2: [[x1, y1, x2, y1, x2, y2, x1, y2]]  # noqa: E731
    crowd = {"size": [8, 10], "counts": [0, 40, 40]}
    objects = [(1, box(5, 5, 6, 6), 0), (2, box(0, 0, 10, 8), 0), (1, crowd, 1), (2, box(0, 0, 2, 2), 0)]
    annotations = [
        {"id": i, "image_id": 7, "category_id": c, "segmentation": s, "iscrowd": crowded}
        for i, (c, s, crowded) in enumerate(objects)
    ]
    annotations[1]["segmentation"] = box(0, 0, 6, 8)
    image = {"id": 7, "file_name": "p.png"}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (found,) = masks(open_segmentation(tmp_path)).values()
    expected = np.zeros((8, 10), np.uint8)
    expected[:, :5] = 255
    expected[:, :6] = 2
    expected[5, 5] = 1
    assert found == expected.tolist()


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ([[1, 1, 2, 2]], "three corners"), ([], "no outline"), ([[1, 1, 2, 2, float("nan"), 1]], "far outside"),
        ([[1, 1, 2, 2, 1e9, 1]], "far outside"), ({"size": [8, 10], "counts": [5]}, "5 pixels, but the picture has 80"),
        ({"size": [10, 8], "counts": [80]}, "of 8 x 10 pixels"), ({"size": [8, 10], "counts": "\x01"}, "letter"),
        ({"size": [8, 10], "counts": "`"}, "cut short"), ({"counts": [80]}, "size"), ("text", "could not convert"),
        ({"size": [8, 10], "counts": [90, -10]}, "80"),
    ],
)  # fmt: skip
def test_outlines_that_cannot_be_drawn_are_left_out_and_named(outline: object, words: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "p.png", np.zeros((8, 10)))
    good = {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    content = {
        "images": [{"id": 7, "file_name": "p.png"}],
        "annotations": [good, {"id": 2, "image_id": 7, "category_id": 1, "segmentation": outline}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = open_segmentation(tmp_path / "a.json")
    ((_, mask),) = masks(data).items()
    assert np.sum(mask) == 16
    (fault,) = data.faults
    assert (fault.kind, fault.done) == ("malformed", "left out")
    assert words in fault.value


def test_a_coco_file_without_outlines_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.png", np.zeros((8, 10)))
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2], "segmentation": []}
    content = {
        "images": [{"id": 7, "file_name": "p.png"}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="has boxes but no outlines"):
        open_segmentation(tmp_path)
    with pytest.raises(UsageError, match="--ignore is for masks in files"):
        open_segmentation(tmp_path, places=Places(ignore=3))


def test_real_masks_are_understood(real_data: Path) -> None:
    voc = open_segmentation(real_data / "segmentation" / "voc2012_49")
    assert (len(voc.samples), voc.split, len(voc.names)) == (49, "val", 21)
    counts = sum(np.bincount(sample.read_mask().reshape(-1), minlength=256) for sample in voc.samples)
    assert isinstance(counts, np.ndarray)
    assert (counts[15], counts[255], counts[21:255].sum()) == (284887, 405546, 0)
    camvid = open_parts(real_data / "segmentation" / "camvid")
    assert {part: len(data.samples) for part, data in camvid.items()} == {"train": 62, "val": 26}


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(Error) as caught:
            open_segmentation(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    write_folders(tmp_path / "set")
    Image.fromarray(mask_of("0")).save(tmp_path / "set" / "masks" / "a.png")
    assert masks(open_segmentation(tmp_path / "set"))["a"] == [
        [0]
    ]  # another size is the check's and evaluation's to say
