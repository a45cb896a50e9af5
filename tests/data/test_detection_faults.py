"""What is wrong in detection data is counted, named, and repaired or left out; what cannot be read gives one line."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detection_files import (
    EXAMPLES,
    WRITERS,
    Example,
    coco_json,
    objects,
    stated,
    write_coco,
    write_pictures,
    write_voc,
    write_yolo,
    yolo_text,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.data.detection import DetectionData, open_detection
from mobilenetv2.errors import Error


def faults_of(data: DetectionData) -> list[tuple[str, str, str]]:
    return [(fault.kind, fault.value, fault.done) for fault in data.faults]


BAD_BOXES = (
    ((-5, 3, 10, 50), "outside", "clipped", (0, 3, 10, 40)),
    ((70, 3, 80, 9), "outside", "left out", None),
    ((8, 9, 8, 20), "degenerate", "left out", None),
    ((5, 5, 5, 5), "degenerate", "left out", None),
    ((20, 20, 20.0000001, 30), "degenerate", "left out", None),
    ((float("nan"), 1, 2, 3), "not finite", "left out", None),
    ((0, 1, float("inf"), 3), "not finite", "left out", None),
    ((0, 0, 1e300, 1e300), "outside", "clipped", (0, 0, 60, 40)),
)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(("box", "kind", "done", "kept"), BAD_BOXES)
def test_a_faulty_box_is_counted_named_and_repaired_or_left_out(
    form: str, box: tuple[float, ...], kind: str, done: str, kept: tuple[float, ...] | None, tmp_path: Path
) -> None:
    good = ("person", (1.0, 2.0, 3.0, 4.0), False)
    example = Example("a", 40, 60, (good, ("dog", box, False), good[:2] + (True,)))  # pyright: ignore[reportArgumentType]
    data = open_detection(WRITERS[form](tmp_path, [example]))
    item, number = {"coco": ("annotation", (1, 2)), "voc": ("object", (2, 3)), "yolo": ("line", (2, 3))}[form]
    assert [(fault.kind, fault.done) for fault in data.faults] == [(kind, done), ("duplicate", "left out")]
    assert data.faults[0].value.startswith(f"{item} {number[0]}: dog ")
    assert data.faults[1].value.startswith(f"{item} {number[1]}: person 1, 2, 3, 4")
    assert objects(data)["a"] == [good] + ([("dog", kept, False)] if kept else [])
    assert len(data.notes) == 2
    sample = data.samples[0]
    assert np.isfinite(sample.boxes_xyxy).all()
    assert np.isfinite(sample.areas).all()


@pytest.mark.parametrize("form", WRITERS)
def test_swapped_corners_are_put_right_and_negative_sizes_left_out(form: str, tmp_path: Path) -> None:
    example = Example("a", 40, 60, (("dog", (30, 20, 10, 35), False), ("person", (1, 2, 3, 4), False)))
    data = open_detection(WRITERS[form](tmp_path, [example]))
    if form == "voc":
        assert faults_of(data) == [("swapped", "object 1: dog 30, 20, 10, 35", "put right")]
        assert objects(data)["a"][0] == ("dog", (10, 20, 30, 35), False)
    else:
        assert [(kind, done) for kind, _, done in faults_of(data)] == [("degenerate", "left out")]
        assert len(objects(data)["a"]) == 1


@pytest.mark.parametrize("form", WRITERS)
def test_a_rounding_error_at_the_edge_is_no_fault(form: str, tmp_path: Path) -> None:
    example = Example("a", 40, 60, (("dog", (-0.01, 0, 60.01, 40.02), False), ("person", (1, 2, 3, 4), False)))
    data = open_detection(WRITERS[form](tmp_path, [example]))
    assert data.faults == ()
    assert objects(data)["a"][0][1] == (0, 0, 60, 40)


def test_equal_boxes_of_two_classes_or_two_pictures_are_no_duplicates(tmp_path: Path) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    made = [Example(name, 9, 9, (("dog", box, False), ("person", box, False))) for name in ("a", "b")]
    assert open_detection(write_coco(tmp_path, made)).faults == ()


def test_coco_s_malformed_entries_are_named(tmp_path: Path) -> None:
    write_coco(tmp_path)
    content = coco_json(EXAMPLES)
    content["annotations"] += [
        {"id": 5, "image_id": 1000, "category_id": 1},
        {"id": 6, "image_id": 1000, "category_id": 1, "bbox": [1, 2, 3]},
        {"id": 7, "image_id": 1000, "category_id": 1, "bbox": [1, 2, "x", 3]},
        {"id": 8, "image_id": 1000, "category_id": 1, "bbox": [1, 2, 10**400, 3]},
        {"id": 9, "image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 10, "image_id": 1000, "category_id": 2, "bbox": [1, 2, 3, 4]},
        {"id": 11, "image_id": 1000, "category_id": [1], "bbox": [1, 2, 3, 4]},
        "text", None,
    ]  # fmt: skip
    content["images"] += [
        {"id": 1, "file_name": "lost.png"},
        {"file_name": "x.png"},
        {"id": 1000, "file_name": "y.png"},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    data = open_detection(tmp_path)
    assert objects(data) == stated(*EXAMPLES)
    kinds = [fault.kind for fault in data.faults]
    assert (kinds.count("malformed"), kinds.count("no picture"), kinds.count("unknown class")) == (9, 2, 1)
    values = "\n".join(fault.value for fault in data.faults)
    for words in (
        "annotation 6: bbox",
        "annotation 9: no image has the id 77",
        "annotation 10: category 2",
        "lost.png",
    ):
        assert words in values
    assert all("\n" not in str(fault) for fault in data.faults)


def test_voc_s_malformed_objects_and_files_are_named(tmp_path: Path) -> None:
    write_voc(tmp_path)
    annotations, images = tmp_path / "Annotations", tmp_path / "JPEGImages"
    (annotations / "broken.xml").write_text("<annotation><object>")
    (annotations / "empty.xml").touch()
    (annotations / "lost.xml").write_text("<annotation><filename>gone.jpg</filename></annotation>")
    shutil.copy(images / "c.png", images / "unlabelled.png")
    shutil.copy(images / "c.png", images / "renamed.png")
    (annotations / "other.xml").write_text("<annotation><filename>C:\\data\\renamed.png</filename></annotation>")
    (annotations / "c.xml").write_text(
        "<annotation><object><name>dog</name></object><object><name> </name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></object><object><name>dog</name><bndbox><xmin>one</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>"
    )
    data = open_detection(tmp_path)
    assert objects(data) == stated(*EXAMPLES) | {"renamed": []}
    found = {(Path(fault.file).name, fault.kind) for fault in data.faults}
    assert found == {
        ("broken.xml", "malformed"), ("empty.xml", "malformed"), ("c.xml", "malformed"),
        ("lost.xml", "no picture"), ("unlabelled.png", "no annotation"), ("renamed.png", "no annotation"),
    }  # fmt: skip
    assert len(data.faults) == 8
    assert data.samples[2].size == (20, 20)  # the XML states none


def test_yolo_s_malformed_lines_and_strays_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    labels, images = tmp_path / "labels", tmp_path / "images"
    (labels / "c.txt").write_text(
        "0 0.5 0.5\n\n0 0.5 0.5 0.2 0.2 0.9\nzero 0.5 0.5 0.2 0.2\n0.5 0.5 0.5 0.2 0.2\n"
        "9 0.5 0.5 0.2 0.2\n-1 0.5 0.5 0.2 0.2\n0 0.1 0.1 nan 0.4 0.2 0.2\n1 320 200 50 50\n\ufffd\n"
        "2 0.5 0.5 0.5 0.5\n",
        encoding="utf-8",
    )
    (labels / "stray.txt").write_text(yolo_text(EXAMPLES[0]))
    shutil.copy(images / "a.png", images / "background.png")
    (images / "broken.png").write_bytes(b"no picture")
    data = open_detection(tmp_path)
    assert objects(data) == stated(*EXAMPLES[:2], difficult=False) | {
        "background": [], "c": [("tv monitor", (5, 5, 15, 15), False)],
    }  # fmt: skip
    kinds = [fault.kind for fault in data.faults]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "malformed": 5, "unknown class": 2, "not finite": 1, "outside": 1, "no picture": 1, "no annotation": 1,
        "unreadable": 1,
    }  # fmt: skip
    notes = "\n".join(data.notes)
    assert "annotations that cannot be understood: 5 left out" in notes
    assert "kept as a picture without objects" in notes


# ---- what cannot be read at all gives one line


def file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def beside(write: Callable[[Path], object], name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder)
        file(name, content)(folder)
        return folder

    return make


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such path": (lambda folder: folder / "none", "none does not exist"),
    "no such json": (lambda folder: folder / "none.json", "none.json does not exist"),
    "another file": (file("x.docx", "x"), "is no detection data"),
    "empty json": (file("x.json", ""), "x.json is not JSON"),
    "cut json": (file("x.json", '{"images": ['), "x.json is not JSON"),
    "deep json": (file("x.json", "[" * 100_000), "x.json nests values"),
    "a list": (file("x.json", "[]"), "a list 'images' is expected"),
    "no annotations": (file("x.json", '{"images": [], "categories": []}'), "a list 'annotations' is expected"),
    "no categories": (
        file("x.json", '{"images": [{"id": 1, "file_name": "a"}], "annotations": [], "categories": []}'),
        "has no categories",
    ),
    "a category without a name": (
        file("x.json", '{"images": [], "annotations": [], "categories": [{"id": 1}]}'),
        "a category without an id",
    ),
    "equal categories": (
        file("x.json", '{"images": [], "annotations": [], "categories": [{"id": 1, "name": 1}, {"id": 1, "name": 2}]}'),
        "two categories have the same id",
    ),
    "no images": (
        file("x.json", '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}'),
        "lists no images",
    ),
    "no pictures": (
        file("x.json", json.dumps(coco_json(EXAMPLES))),
        r"none of its 3 pictures \(a.png ...\) was found in .*: name their folder with --images",
    ),
    "several json": (
        beside(write_coco, "other.json", json.dumps(coco_json(EXAMPLES))),
        r"has several COCO files, annotations.json, other.json: name the one that is meant",
    ),
    "xml without pictures": (
        lambda folder: shutil.rmtree(write_voc(folder) / "JPEGImages") or folder, "name their folder with --images",
    ),
    "nothing but broken xml": (
        beside(lambda folder: write_voc(folder, EXAMPLES[:1]), "Annotations/a.xml", "<a>"),
        "no picture has an XML file of its name, .*a.xml: is not XML",
    ),
    "an empty list": (
        beside(write_voc, "ImageSets/Main/train.txt", "\n"), "no picture has an XML file of its name",
    ),
    "broken yaml": (file("data.yaml", "names: [a\ntrain: x"), "data.yaml is not YAML"),
    "binary yaml": (file("data.yaml", b"\xff\xfe\x00"), "data.yaml is not YAML"),
    "a yaml list": (file("data.yaml", "- a\n"), "is no data.yaml"),
    "a yaml without names": (file("data.yaml", "train: images\n"), "names must be a list of classes"),
    "a yaml with odd names": (file("data.yaml", "train: images\nnames: {one: a}\n"), "names must be a list of classes"),
    "a wrong count": (file("data.yaml", "train: images\nnc: 3\nnames: [a]\n"), "nc is 3, but names lists 1"),
    "a missing folder": (
        file("data.yaml", "train: images/train2017\nnames: [a]\n"),
        "train: images/train2017 does not exist in .*: name the pictures' folder with --images",
    ),
    "no parts": (file("data.yaml", "names: [a]\n"), "names neither train nor val"),
    "an empty folder": (
        beside(lambda folder: (folder / "images").mkdir(), "data.yaml", "train: images\nnames: [a]\n"),
        "the train part has no pictures",
    ),
    "no text files": (
        beside(lambda folder: write_pictures(folder / "images", EXAMPLES), "data.yaml", "train: images\nnames: [a]\n"),
        "no picture has a text file .*: name their folder with --labels",
    ),
    "several yaml": (
        beside(lambda folder: file("a.yaml", "names: [a]\n")(folder), "b.yaml", "names: [b]\n"),
        "has a.yaml, b.yaml: name the one that is meant",
    ),
    "no names": (
        lambda folder: (write_yolo(folder) / "classes.txt").unlink() or folder,
        "its classes have no names: name a data.yaml, or by --classes a file of them",
    ),
    "an empty line among names": (beside(write_yolo, "classes.txt", "a\n\nb\n"), "the name of a class is expected on"),
    "darknet without names": (file("obj.data", "train = train.txt\nnames = none.names\n"), "name it with --classes"),
    "darknet without lists": (
        beside(lambda folder: file("obj.names", "a")(folder), "obj.data", "train = train.txt\n"),
        "train = train.txt does not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_gives_one_line_with_the_way_out(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    with pytest.raises(Error, match=words) as caught:
        open_detection(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, KeyError)


# ---- damage of any kind


DAMAGE = (b"", b"\0", b'"', b"[", b"}", b"-", b"9" * 400, b"e999", b"nan", b"\xff\xfe", b"<", b"&", b"/" * 300, b"\n")


@settings(max_examples=150, deadline=None)
@given(data=st.data(), form=st.sampled_from(sorted(WRITERS)))
def test_bytes_changed_at_random_give_sound_boxes_or_one_line(data: st.DataObject, form: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = WRITERS[form](Path(name))
        texts = sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".xml", ".txt"))
        changed = data.draw(st.sampled_from(texts))
        content = bytearray(changed.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, max(len(content) - 1, 0)))
            content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(DAMAGE))
        changed.write_bytes(content)
        read, problem = None, ""
        try:
            read = open_detection(folder)
        except Error as error:
            problem = str(error)
        assert "\n" not in problem
        if read is None:
            return
        for sample in read.samples:
            assert sample.size is not None
            height, width = sample.size
            boxes = sample.boxes_xyxy.astype(np.float32)
            assert np.isfinite(boxes).all()
            assert (boxes >= 0).all()
            assert (boxes <= [width, height, width, height]).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert all("\n" not in note for note in read.notes)
