"""How detection data lies on disk is found out, for the layouts that people and tools make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from detection_files import (
    EXAMPLES,
    NAMES,
    Example,
    coco_json,
    objects,
    stated,
    voc_xml,
    write_labels,
    write_pictures,
    write_voc,
)

from mobilenetv2.data.classification import open_classification
from mobilenetv2.data.detection import Places, is_detection, open_detection, open_parts, splits
from mobilenetv2.errors import DatasetError, FileError, UsageError


def coco_2017(root: Path) -> None:
    (root / "annotations").mkdir()
    for part in ("train", "val"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / f"{part}2017", [one])
        for kind in ("instances", "person_keypoints", "captions"):
            (root / "annotations" / f"{kind}_{part}2017.json").write_text(json.dumps(coco_json([one])))


def coco_roboflow(root: Path) -> None:
    for part in ("train", "valid"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / part, [one])
        (root / part / "_annotations.coco.json").write_text(json.dumps(coco_json([one])))


def coco_split_files(root: Path) -> None:
    for part in ("train", "val"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / "images" / part, [one])
        (root / f"{part}.json").write_text(json.dumps(coco_json([one])))
    (root / "package.json").write_text('{"name": "nothing of ours"}')


def voc_devkit(root: Path) -> None:
    made = tuple(Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),)) for part in ("train", "val"))
    write_voc(root, made)
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("in-train\n")
    (main / "val.txt").write_text("in-val  1\n")
    (main / "dog_train.txt").write_text("in-train  1\n")


def voc_roboflow(root: Path) -> None:
    for part in ("train", "valid"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / part, [one], ".jpg")
        (root / part / f"{one.name}.xml").write_text(voc_xml(one))


def yolo_ultralytics(root: Path) -> None:
    for part in ("train", "val"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / "images" / part, [one])
        write_labels(root / "labels" / part, [one])
    (root / "dataset.yaml").write_text(
        "path: ../somewhere/else\ntrain: images/train\nval: [images/val]\ntest:  # none\nnames:\n"
        "  0: person\n  1: dog\n  2: tv monitor\n"
    )


def yolo_roboflow(root: Path) -> None:
    for part in ("train", "valid"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / part / "images", [one], ".jpg")
        write_labels(root / part / "labels", [one])
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\n\nnc: 3\nnames: ['person', 'dog', 'tv monitor']\n"
    )


def yolo_lists(root: Path) -> None:
    for part in ("train", "val"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / "images", [one])
        write_labels(root / "labels", [one])
        (root / f"{part}.txt").write_text(f"./images/{one.name}.png\n\n")
    (root / "my data.yml").write_text("train: train.txt\nval: val.txt\nnames: [person, dog, tv monitor]\n")


def yolo_folders(root: Path) -> None:
    for part in ("train", "val"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / part / "images", [one])
        write_labels(root / part / "labels", [one])
    (root / "classes.txt").write_text("\ufeffperson\ndog\ntv monitor", encoding="utf-8")


def darknet(root: Path) -> None:
    for part in ("train", "valid"):
        one = Example(f"in-{part}", 9, 9, (("dog", (0, 0, 5, 5), False),))
        write_pictures(root / f"obj_{part}_data", [one])
        write_labels(root / f"obj_{part}_data", [one])
        (root / f"{part}.txt").write_text(f"data/obj_{part}_data/{one.name}.png\n")
    (root / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    (root / "obj.names").write_text("person\ndog\ntv monitor\n")


LAYOUTS = (
    coco_2017, coco_roboflow, coco_split_files, voc_devkit, voc_roboflow,
    yolo_ultralytics, yolo_roboflow, yolo_lists, yolo_folders, darknet,
)  # fmt: skip


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_divided_data_set_is_found_out(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    assert is_detection(tmp_path)
    assert splits(tmp_path) == ("train", "val")
    dog = ("dog", (0, 0, 5, 5), False)
    for split, expected in (("train", "train"), ("Training", "train"), ("valid", "val"), (None, "val")):
        data = open_detection(tmp_path, split=split)
        assert data.split == expected
        assert list(objects(data).values()) == [[dog]]
        assert data.samples[0].path.stem in (("in-train",) if expected == "train" else ("in-val", "in-valid"))
        assert data.notes == (f"1 pictures of the {expected} split are used",)
    assert {part: objects(data) for part, data in open_parts(tmp_path).items()} == {
        part: objects(open_detection(tmp_path, split=part)) for part in ("train", "val")
    }
    with pytest.raises(DatasetError, match="has no 'test' split: it has train, val"):
        open_detection(tmp_path, split="test")


def test_folders_of_classes_are_no_detection_data(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train" / "cat", EXAMPLES)
    write_pictures(tmp_path / "images", EXAMPLES)
    (tmp_path / "info.json").write_text("{}")
    (tmp_path / "empty.json").touch()
    (tmp_path / "README.txt").write_text("two classes")
    (tmp_path / "settings.yaml").write_text("learning_rate: 1\n")
    assert not is_detection(tmp_path)
    assert len(open_classification(tmp_path / "train").samples) == 3
    with pytest.raises(DatasetError, match="is no detection data: a COCO JSON"):
        open_detection(tmp_path)


def test_several_forms_in_a_folder_are_refused_and_each_can_be_named(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(coco_json(EXAMPLES)))
    with pytest.raises(DatasetError, match="COCO JSON files and Pascal VOC XML files: name the file or the folder"):
        open_detection(tmp_path)
    for place in (tmp_path / "instances.json", tmp_path / "Annotations"):
        assert objects(open_detection(place)) == stated(*EXAMPLES)


def test_places_complete_what_is_not_there(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", EXAMPLES)
    write_labels(tmp_path / "texts", EXAMPLES)
    (tmp_path / "words.txt").write_text("\n".join(NAMES))
    (tmp_path / "xmls").mkdir()
    for example in EXAMPLES:
        (tmp_path / "xmls" / f"{example.name}.xml").write_text(voc_xml(example))
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "all.json").write_text(json.dumps(coco_json(EXAMPLES)))
    photos, texts, words = tmp_path / "photos", tmp_path / "texts", tmp_path / "words.txt"

    assert objects(open_detection(tmp_path / "json", places=Places(images=photos))) == stated(*EXAMPLES)
    assert objects(open_detection(tmp_path / "xmls", places=Places(images=photos))) == stated(*EXAMPLES)
    assert objects(open_detection(photos, places=Places(images=photos, labels=tmp_path / "xmls"))) == stated(*EXAMPLES)
    data = open_detection(photos, places=Places(labels=texts, classes=words))
    assert objects(data) == stated(*EXAMPLES, difficult=False)
    (tmp_path / "data.yaml").write_text("train: ../elsewhere/images\nnames: [person, dog, tv monitor]\n")
    data = open_detection(tmp_path / "data.yaml", places=Places(images=photos, labels=texts))
    assert objects(data) == stated(*EXAMPLES, difficult=False)

    with pytest.raises(UsageError, match="--labels is for"):
        open_detection(tmp_path / "json", places=Places(images=photos, labels=texts))
    with pytest.raises(FileError, match=r"--images .*nowhere does not exist"):
        open_detection(tmp_path / "json", places=Places(images=tmp_path / "nowhere"))


def test_a_file_of_classes_orders_them_and_may_write_them_in_another_way(tmp_path: Path) -> None:
    write_voc(tmp_path / "set")
    (tmp_path / "classes.txt").write_text("tv\nPerson\ndog\nyak\n")
    data = open_detection(tmp_path / "set", places=Places(classes=tmp_path / "classes.txt"))
    assert data.names == ("tv", "Person", "dog", "yak")
    assert [sample.labels.tolist() for sample in data.samples] == [[2, 1], [0, 2], []]
    (tmp_path / "classes.txt").write_text("dog\nperson\n")
    data = open_detection(tmp_path / "set", places=Places(classes=tmp_path / "classes.txt"))
    assert [(fault.kind, fault.value) for fault in data.faults] == [
        ("unknown class", "object 1: tv monitor 10.5, 20.25, 12.5, 49.75")
    ]


def test_trainval_counts_as_train_where_it_is_asked_for_or_nothing_else_is_there(tmp_path: Path) -> None:
    voc_devkit(tmp_path)
    main = tmp_path / "ImageSets" / "Main"
    (main / "trainval.txt").write_text("in-train\nin-val\n")
    data = open_detection(tmp_path, split="trainval")
    assert (data.split, len(data.samples)) == ("train", 2)
    assert len(open_detection(tmp_path, split="train").samples) == 1
    assert splits(tmp_path) == ("train", "val")
    (main / "train.txt").unlink()
    assert len(open_detection(tmp_path, split="train").samples) == 2
    with pytest.raises(DatasetError, match="has no 'test' split: it has train, val, trainval"):
        open_detection(tmp_path, split="test")


def test_all_parts_have_the_classes_of_the_first(tmp_path: Path) -> None:
    coco_split_files(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["categories"] = [{"id": 8, "name": "dog"}, {"id": 1, "name": "yak"}, {"id": 90, "name": "person"}]
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert open_detection(tmp_path, split="val").names == ("yak", "dog", "person")
    parts = open_parts(tmp_path)
    assert [data.names for data in parts.values()] == [NAMES, NAMES]
    assert objects(parts["val"]) == {"in-val": [("dog", (0, 0, 5, 5), False)]}
