"""Pictures with boxes say the same in three forms, each with what is its own."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from detection_files import (
    EXAMPLES,
    NAMES,
    WRITERS,
    Example,
    coco_json,
    objects,
    stated,
    write_coco,
    write_pictures,
    write_voc,
    write_yolo,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.data.detection import DetectionData, Places, open_detection, open_parts
from mobilenetv2.errors import DatasetError
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import Classifier, Spec


def model_of(*labels: str) -> ModelInfo:
    return ModelInfo(Spec(head=Classifier(outputs=len(labels))), image.recipe("torchvision-v1", 224), labels=labels)


# ---- the three forms say the same


@pytest.mark.parametrize("form", WRITERS)
def test_what_was_written_is_read(form: str, tmp_path: Path) -> None:
    data = open_detection(WRITERS[form](tmp_path))
    assert (data.form, data.split, data.notes) == (form, None, ())
    assert objects(data) == stated(*EXAMPLES, difficult=form != "yolo")  # YOLO's form has no such flag
    assert data.names == (tuple(sorted(NAMES)) if form == "voc" else NAMES)
    assert [sample.size for sample in data.samples] == [(40, 60), (50, 30), (20, 20)]
    assert [type(sample.path.read_bytes()) for sample in data.samples] == [bytes] * 3
    one = data.samples[0]
    assert (one.boxes_xyxy.dtype, one.labels.dtype, one.ignored.dtype) == (np.float64, np.int64, np.bool_)
    assert one.areas == pytest.approx([600, 2400])
    empty = data.samples[2]
    assert (empty.boxes_xyxy.shape, empty.labels.shape, empty.ignored.shape) == ((0, 4), (0,), (0,))


@st.composite
def examples(draw: st.DrawFn) -> tuple[Example, ...]:
    """Pictures from 1 pixel up, boxes of quarters of pixels inside them, no two of them equal."""
    made: list[Example] = []
    for i in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
        edges = st.tuples(
            *(st.lists(st.integers(0, 4 * side), min_size=2, max_size=2, unique=True).map(sorted)
              for side in (width, height))
        )  # fmt: skip
        boxes = draw(st.lists(edges, max_size=6, unique_by=str))
        found = [
            (draw(st.sampled_from(NAMES)), (x1 / 4, y1 / 4, x2 / 4, y2 / 4), draw(st.booleans()))
            for (x1, x2), (y1, y2) in boxes
        ]
        made.append(Example(f"{i}", height, width, tuple(found)))
    # VOC names its classes by the boxes alone
    every = tuple((name, (0.0, 0.0, 1.0, 1.0), False) for name in NAMES)
    return (*made, Example("z", 1, 1, every))


@settings(max_examples=25, deadline=None)
@given(made=examples())
def test_any_boxes_written_in_three_forms_read_equal(made: tuple[Example, ...]) -> None:
    for form, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            data = open_detection(write(Path(folder), made))
            assert objects(data) == stated(*made, difficult=form != "yolo"), form
            assert data.faults == ()


@pytest.mark.parametrize("form", WRITERS)
def test_unusual_pictures_and_sets(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 400, (500, 2)).tolist()
    many = tuple(("dog", (x, y, x + 1 + i // 20, y + 9), False) for i, (x, y) in enumerate(corners))
    odd = (
        Example("500-objects", 500, 500, many),
        Example("flat", 1, 50, (("dog", (3, 0, 4, 1), False),)),
        Example("nothing", 30, 40),
        Example("wide", 20, 200, (("dog", (0, 0, 200, 20), False),)),
    )
    data = open_detection(WRITERS[form](tmp_path / "set", odd))
    assert objects(data) == stated(*odd)
    assert data.notes == ()

    nothing = (Example("a", 5, 5), Example("b", 6, 6))
    data = open_detection(WRITERS[form](tmp_path / "empty", nothing))
    assert objects(data) == {"a": [], "b": []}
    if form != "voc":  # whose classes are those of its boxes
        assert data.names == NAMES


# ---- COCO


def test_coco_s_flags_areas_and_folders_in_file_names(tmp_path: Path) -> None:
    content = coco_json(EXAMPLES)
    content["images"][0]["file_name"] = "deep\\a.png"
    content["images"][1]["file_name"] = "somewhere/else/b.png"
    content["annotations"][0] |= {"area": 77.5, "iscrowd": 1, "segmentation": {"counts": [1], "size": [2, 2]}}
    del content["annotations"][1]["ignore"], content["annotations"][1]["iscrowd"]
    content["images"][1] |= {"height": None, "width": 0}
    write_pictures(tmp_path / "images", EXAMPLES)
    (tmp_path / "images" / "deep").mkdir()
    shutil.move(tmp_path / "images" / "a.png", tmp_path / "images" / "deep")
    (tmp_path / "x.json").write_text(json.dumps(content))
    data = open_detection(tmp_path / "x.json")
    one = next(sample for sample in data.samples if sample.path.stem == "a")
    assert (one.crowd.tolist(), one.difficult.tolist(), one.areas.tolist()) == (
        [True, False],
        [False, False],
        [77.5, 2400],
    )
    assert {sample.path.stem: sample.size for sample in data.samples} == {"a": (40, 60), "b": (50, 30), "c": (20, 20)}


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    write_coco(tmp_path)
    content = coco_json(EXAMPLES)
    content["categories"] = [{"id": 0, "name": "dog"}, *reversed(content["categories"])]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    data = open_detection(tmp_path)
    assert data.names == ("dog", "person", "tv monitor")
    assert objects(data) == stated(*EXAMPLES)


# ---- VOC


def test_the_classes_of_val_are_those_of_train(tmp_path: Path) -> None:
    names = {"train": ("zebra", "dog"), "val": ("dog", "ant")}
    made = [
        Example(part, 9, 9, tuple((label, (0, 0, 5, 5), False) for label in labels)) for part, labels in names.items()
    ]
    write_voc(tmp_path, made)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for part in names:
        (tmp_path / "ImageSets" / "Main" / f"{part}.txt").write_text(part)
    for data in (open_detection(tmp_path, split="val"), open_parts(tmp_path)["val"]):
        assert data.names == ("dog", "zebra")
        assert objects(data) == {"val": [("dog", (0, 0, 5, 5), False)]}
        assert [fault.kind for fault in data.faults] == ["unknown class"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_declares_entities_is_left_out_before_it_is_expanded(encoding: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    bomb = "".join(f'<!ENTITY x{i + 1} "{f"&x{i};" * 50}">' for i in range(9))
    document = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY x0 "x">{bomb}]><annotation>&x9;</annotation>'
    )
    (tmp_path / "Annotations" / "a.xml").write_bytes(document.encode(encoding))
    data = open_detection(tmp_path)
    assert objects(data) == stated(*EXAMPLES[1:])
    assert [(fault.kind, fault.value) for fault in data.faults] == [
        ("malformed", "has a DOCTYPE, which no annotation needs: remove it")
    ]


# ---- YOLO


def yolo_of(
    tmp_path: Path, line: str, *, yaml: str = "names: [person, dog]", size: tuple[int, int] = (100, 200)
) -> DetectionData:
    write_pictures(tmp_path / "images", [Example("a", *size)])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text(f"train: images\n{yaml}\n")
    return open_detection(tmp_path / "data.yaml")


def test_an_outline_becomes_the_box_around_it(tmp_path: Path) -> None:
    data = yolo_of(tmp_path, "1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n")
    assert objects(data) == {"a": [("dog", (20, 10, 180, 90), False)]}


def test_key_points_behind_a_box_are_not_looked_at(tmp_path: Path) -> None:
    data = yolo_of(tmp_path, "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 0", yaml="kpt_shape: [2, 3]\nnames: {0: person}")
    assert objects(data) == {"a": [("person", (50, 25, 150, 75), False)]}


def test_names_are_what_is_written(tmp_path: Path) -> None:
    data = yolo_of(tmp_path, "7 0.5 0.5 0.5 0.5", yaml="names: {2: off, 7: no, 0: 1.50}")
    assert data.names == ("1.50", "off", "no")
    assert objects(data) == {"a": [("no", (50, 25, 150, 75), False)]}


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    assert yolo_of(tmp_path, "1 0.5 0.5 0.5 0.5", yaml="nc: 2").names == ("class 0", "class 1")


def test_a_picture_that_exif_turns_has_its_boxes_upright(tmp_path: Path) -> None:
    write_yolo(tmp_path, [Example("a", 40, 60, (("dog", (0, 0, 15, 40), False),))])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images" / "a.png", exif=exif)
    data = open_detection(tmp_path)
    assert data.samples[0].size == (60, 40) == image.read(data.samples[0].path).shape[:2]
    assert objects(data) == {"a": [("dog", (0, 0, 10, 60), False)]}


# ---- a model's classes


def test_the_data_s_classes_are_matched_with_a_model_s_by_name_and_alias(tmp_path: Path) -> None:
    data = open_detection(write_coco(tmp_path), classes=model_of("tvmonitor", "Person"))
    assert data.names == ("tvmonitor", "Person")
    assert objects(data) == {
        "a": [("Person", (0, 0, 60, 40), True)], "b": [("tvmonitor", (10.5, 20.25, 12.5, 49.75), False)], "c": [],
    }  # fmt: skip
    assert data.unmatched == (("dog", 2),)
    assert data.notes == ("dog: no such class, 2 boxes left out",)
    with pytest.raises(DatasetError, match=r"none of its classes \(person, dog, tv monitor\) is one of the model's 2"):
        open_detection(tmp_path, classes=model_of("yak", "gnu"))


# ---- real data


def test_voc100_is_the_same_in_three_forms(real_data: Path) -> None:
    folder = real_data / "detection" / "voc100"
    places = Places(images=folder / "images")
    forms = ("pascalvoc_format", "coco_format_v1", "coco_format_v2", "yolo_format")
    read = {form: open_detection(folder / "gts" / form, places=places) for form in forms}
    for data in read.values():
        assert data.faults == ()
        assert sum(len(sample.labels) for sample in data.samples) == 273
        for one, two in zip(data.samples, read["pascalvoc_format"].samples, strict=True):
            assert one.path == two.path
            left, right = (
                sorted(zip([names[i] for i in sample.labels], sample.boxes_xyxy.tolist(), strict=True))
                for sample, names in ((one, data.names), (two, read["pascalvoc_format"].names))
            )
            assert [label for label, _ in left] == [label for label, _ in right]
            # YOLO's files round to 1e-6 of up to 500 pixels
            assert np.abs(np.array([box for _, box in left]) - [box for _, box in right]).max() < 1e-3
    assert {form: sum(int(s.difficult.sum()) for s in data.samples) for form, data in read.items()} == {
        "pascalvoc_format": 38, "coco_format_v1": 0, "coco_format_v2": 0, "yolo_format": 0,
    }  # fmt: skip


def test_bccd_is_read_but_for_its_two_boxes_without_an_area(real_data: Path) -> None:
    parts = open_parts(real_data / "detection" / "bccd")
    assert {part: len(data.samples) for part, data in parts.items()} == {"train": 205, "val": 87}
    assert parts["train"].names == ("Platelets", "RBC", "WBC")
    boxes = {part: sum(len(sample.labels) for sample in data.samples) for part, data in parts.items()}
    assert boxes == {"train": 2804, "val": 1137}
    assert {part: [(Path(f.file).stem, f.value) for f in data.faults] for part, data in parts.items()} == {
        "train": [("BloodImage_00343", "object 4: RBC 181, 329, 181, 329")],
        "val": [("BloodImage_00338", "object 13: RBC 504, 337, 504, 337")],
    }


def test_coco128_needs_its_two_folders(real_data: Path) -> None:
    folder = real_data / "detection" / "coco128"
    with pytest.raises(DatasetError, match="--images"):
        open_detection(folder)
    with pytest.raises(DatasetError, match="--labels"):
        open_detection(folder, places=Places(images=folder / "images"))
    data = open_detection(folder, places=Places(images=folder / "images", labels=folder / "labels_yolo"))
    assert (len(data.samples), sum(len(sample.labels) for sample in data.samples), len(data.names)) == (128, 929, 80)
