"""Data sets that ask for too much are refused with one line; pipes are left out; what train refuses, check refuses."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mobilenetv2 import cli, limits
from mobilenetv2.data import detection_check, masks, segmentation_check
from mobilenetv2.data.check import check
from mobilenetv2.data.classification import open_classification
from mobilenetv2.data.coco_masks import run_lengths
from mobilenetv2.data.detection import open_detection
from mobilenetv2.data.segmentation import open_segmentation
from mobilenetv2.data.shards import read
from mobilenetv2.errors import DatasetError, Error
from mobilenetv2.model_file import ModelInfo

HEIGHT, WIDTH = 24, 32


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def coco(folder: Path, outline: object, *, width: object = WIDTH, height: object = HEIGHT) -> Path:
    picture(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "segmentation": outline}],
    }
    (folder / "x.json").write_text(json.dumps(content))
    return folder / "x.json"


SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [HEIGHT, WIDTH], "counts": [2**62] * 4 + [HEIGHT * WIDTH]},  # whose sum wraps to the right one
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 1]},
        {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": [HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": "", "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "o" * 100_000},
        [[1, 1, 300, 300] * 50_000],  # 20 million pixels around
    ],
)
def test_outlines_that_ask_for_too_much_are_left_out_and_named(outline: object, tmp_path: Path) -> None:
    data = open_segmentation(coco(tmp_path, outline))
    assert [fault.kind for fault in data.faults] == ["malformed"]
    assert not data.samples[0].read_mask().any()


def test_runs_up_to_the_whole_picture_are_read(tmp_path: Path) -> None:
    whole = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    assert open_segmentation(coco(tmp_path, whole)).samples[0].read_mask().all()
    with pytest.raises(ValueError, match="letters of compressed run lengths"):
        run_lengths("0" * (limits.RUN_LETTERS + 1))


@pytest.mark.parametrize("side", [10**5, 10**9, 2**31, 10**18])
def test_a_stated_size_is_compared_with_the_picture_s_before_a_mask_is_made(side: int, tmp_path: Path) -> None:
    file = coco(tmp_path, SQUARE, width=side, height=side)
    found = segmentation_check.check(file)
    assert len(found.masks) == 1
    assert "has 32 x 24 pixels, but" in found.masks[0][1]


def yolo(folder: Path, data: str) -> Path:
    picture(folder / "images" / "a.png")
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text(data)
    return folder


BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(10))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"{BOMB}names: *a9\ntrain: images\n", "values, aliases followed: the limit is"),
        (f"{BOMB}names: {{0: *a9}}\ntrain: images\n", "values, aliases followed"),
        (f"{BOMB}names: [cat]\ntrain: images\n", "values, aliases followed"),
        ("train: images\nnames: &n [*n]\n", "refers to itself"),
        ("train: images\nnc: 1000000000\n", "nc is 1,000,000,000: the limit is 100,000 classes"),
        (f"train: images\nnc: {'9' * 5000}\n", "names must be a list of classes"),
        (f"train: {'x' * 5000}\nnames: [cat]\n", "does not exist"),
        (f"train: images\npath: {'x' * 500}\nnames: [cat]\n", ""),
    ],
)
def test_a_data_yaml_that_asks_for_too_much_is_refused(data: str, message: str, tmp_path: Path) -> None:
    folder = yolo(tmp_path, data)
    if not message:
        assert open_detection(folder).names == ("cat",)
        return
    with pytest.raises(DatasetError, match=message) as caught:
        open_detection(folder)
    assert len(str(caught.value)) < 1000


def test_a_data_yaml_just_below_the_limits_is_read(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(20_000)]
    data = open_detection(yolo(tmp_path, f"train: images\nnames: [{', '.join(names)}]\n"))
    assert len(data.names) == 20_000
    assert len(open_detection(yolo(tmp_path / "nc", f"train: images\nnc: {limits.LISTED_CLASSES}\n")).names) == 100_000


def voc(folder: Path, box: str, *, head: bytes = b"", encoding: str = "utf-8", size: str = "") -> Path:
    picture(folder / "a.png")
    keys = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box.split(), strict=True))
    text = f"<annotation>{size}<object><name>Tür</name><bndbox>{corners}</bndbox></object></annotation>"
    (folder / "a.xml").write_bytes(head + text.encode(encoding))
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "windows-1252", "utf-16"])
def test_xml_is_read_in_the_encodings_of_text(encoding: str, tmp_path: Path) -> None:
    stated = f'<?xml version="1.0" encoding="{encoding}"?>'.encode("ascii") if encoding != "utf-16" else b""
    assert open_detection(voc(tmp_path, "1 1 5 5", head=stated, encoding=encoding)).names == ("Tür",)


@pytest.mark.parametrize("encoding", ["unicode_escape", "rot13", "idna", "x" * 300])
def test_python_s_own_codecs_are_no_encodings_of_xml(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is in the encoding"):
        open_detection(voc(tmp_path, "1 1 5 5", head=f'<?xml version="1.0" encoding="{encoding}"?>'.encode()))


def test_a_corner_beyond_float32_is_no_warning(tmp_path: Path) -> None:
    size = "<size><width>1e308</width><height>1e308</height></size>"
    data = open_detection(voc(tmp_path, "1 1 1e308 1e308", size=size))
    assert np.isfinite(data.samples[0].boxes_xyxy).all()


def test_a_list_s_overlong_label_and_path_give_one_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text(f"a.png,{'9' * 5000}\na.png,1\n")
    assert len(open_classification(tmp_path / "x.csv").names) == 2
    (tmp_path / "y.csv").write_text(f"a.png,1\n{'x' * 5000}.png,1\n")
    with pytest.raises(DatasetError, match="1 of its pictures do not exist"):
        open_classification(tmp_path / "y.csv")


def tar(path: Path, headers: int, claimed: int | None = None) -> Path:
    """A picture and its label, with so many headers of long names before it; each claims `claimed` bytes."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    with open(path, "wb") as file:
        for _ in range(headers):
            info = tarfile.TarInfo("././@LongLink")
            info.type, info.size = tarfile.GNUTYPE_LONGNAME, 6 if claimed is None else claimed
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.write(b"0.png\0".ljust(512, b"\0"))
        for name, data in (("0.png", content.getvalue()), ("0.cls", b"3")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.write(info.tobuf(tarfile.GNU_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0"))
        file.write(bytes(1024))
    return path


def test_headers_of_a_tar_are_bounded(tmp_path: Path) -> None:
    assert read([str(tar(tmp_path / "good.tar", limits.TAR_HEADERS))])[0][0][0] == "3"
    for name, headers, claimed in (("chain", 400, None), ("claim", 1, 8 << 30), ("more", 1, 1 << 60)):
        with pytest.raises(DatasetError, match="is damaged, cut short or no plain tar"):
            read([str(tar(tmp_path / f"{name}.tar", headers, claimed))])


def classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 3) -> Path:
    for i, name in enumerate(names):
        for j in range(count):
            picture(folder / name / f"{j}.png", seed=100 * i + j)
    return folder


def test_pipes_and_links_to_devices_are_left_out_and_named(tmp_path: Path) -> None:
    folder = classes(tmp_path / "set")
    os.mkfifo(folder / "cat" / "pipe.jpg")
    (folder / "dog" / "zero.jpg").symlink_to("/dev/zero")
    found = check(folder)
    assert found.counts == {"all": (3, 3)}
    assert len(found.unread) == 2
    assert found.findings[0] == f"{folder}/cat/pipe.jpg is no regular file but a pipe, a device or the like: left out"
    assert "zero.jpg" in open_classification(folder).notes[-1]


def test_pipes_beside_boxes_are_named_too(tmp_path: Path) -> None:
    folder = voc(tmp_path, "1 1 5 5")
    os.mkfifo(folder / "pipe.xml")
    picture(folder / "b.png").rename(folder / "b.heic")
    faults = open_detection(folder).faults
    assert {Path(fault.file).name for fault in faults if fault.kind == "unread"} == {"pipe.xml", "b.heic"}


def test_photos_that_are_not_read_are_a_finding(tmp_path: Path) -> None:
    folder = classes(tmp_path / "set")
    for i in range(20):
        (folder / "cat" / f"{i}.HEIC").write_bytes(b"x")
    found = check(folder)
    assert found.findings[0].startswith(
        "20 .heic files are in a format that is not read: convert to JPEG, or pip install pillow-heif ("
    )
    assert found.skipped == 0
    assert CliRunner().invoke(cli.app, ["check", str(folder), "--strict"]).exit_code == 1


def test_long_lists_are_cut_for_classifiers_as_well(tmp_path: Path) -> None:
    folder = classes(tmp_path / "set", count=61)
    for file in sorted((folder / "cat").iterdir())[:60]:
        (folder / "dog" / f"again{file.name}").write_bytes(file.read_bytes())
    text = check(folder).text()
    assert "... and 40 more of this kind, all of them in --json" in text
    assert text.endswith("60 findings")


@pytest.mark.parametrize("case", ["one class", "no train", "an empty class"])
def test_check_refuses_what_train_refuses(case: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mobilenetv2.train.pictures import open_training_data

    folder = classes(tmp_path / "set", ("cat",) if case == "one class" else ("cat", "dog"))
    if case == "no train":
        folder.rename(tmp_path / "val")
        folder.mkdir()
        (tmp_path / "val").rename(folder / "val")
    if case == "an empty class":
        for file in (folder / "dog").iterdir():
            file.write_bytes(b"")
    with pytest.raises(DatasetError) as refused:
        open_training_data(folder, seed=0)
    found = check(folder)
    assert found.refusals == (f"train refuses it: {refused.value}",)
    result = CliRunner().invoke(cli.app, ["check", str(folder)])
    assert result.exit_code == 1


def test_folders_that_are_numbers_are_not_silently_a_model_s_classes(tmp_path: Path) -> None:
    class Info:
        """What of a model's description is asked."""

        def __init__(self, labels: list[str]) -> None:
            self.labels, self.classes, self.label_ids = tuple(labels), len(labels), ()

        def label(self, index: int) -> str:
            return self.labels[index]

    def opened(labels: list[str], where: Path) -> Any:
        known: Any = Info(labels)
        model: ModelInfo = known
        return open_classification(where, classes=model)

    folder = classes(tmp_path / "set", ("0", "1", "2"), 1)
    with pytest.raises(DatasetError, match=r"its folders are numbers .* name the folders by class or WordNet id"):
        opened([f"animal {i}x" for i in range(1000)], folder)
    assert opened(["cat", "dog", "hen"], folder).names == ("cat", "dog", "hen")  # all of them
    assert opened([str(i) for i in range(1000)], folder).samples[2].label == 2  # classes that are called so
    (tmp_path / "x.csv").write_text("".join(f"set/{i}/0.png,{i}\n" for i in range(3)))
    assert len(opened([f"animal {i}x" for i in range(1000)], tmp_path / "x.csv").samples) == 3


def test_every_refusal_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Error) as caught:
        open_detection(yolo(tmp_path, f"train: images\nnames: {{0: {'y' * 100_000}, x: z}}\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [10**400, 10**12], ids=["400 digits", "12 digits"])
def test_a_stated_size_beyond_any_number_is_a_wrong_size(tmp_path: Path, side: int) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.png", "height": 24, "width": side}
    content = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": [one]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    found = detection_check.check(tmp_path, {"all": open_detection(tmp_path)})
    assert f"stated as {limits.STATED_SIDE} x 24, but the picture has 32 x 24 pixels" in found.text()


def test_a_coloured_mask_is_read_strip_by_strip(tmp_path: Path) -> None:
    for name, colour in (("grey", (7, 7, 7)), ("red", (128, 0, 0))):
        Image.new("RGBA", (1000, 3000), (*colour, 255)).save(tmp_path / f"{name}.png")
    coding = masks.Coding({7: 2}, {(128, 0, 0): 1})
    assert (masks.MaskFile(tmp_path / "red.png", coding).read() == 1).all()
    assert (masks.MaskFile(tmp_path / "grey.png", masks.Coding({7: 2}, {})).read() == 2).all()


def test_a_list_of_pictures_may_name_the_root(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    (tmp_path / "train.txt").write_text("/\n.\n")
    with pytest.raises(Error, match=r"data.yaml|train.txt|/"):
        open_detection(tmp_path)
