"""Pictures with masks on the command line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2.data.shape_sets import write_segmentation_folder
from mobilenetv2.data.shapes import CLASSES

Run = Callable[..., Any]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    write_segmentation_folder(tmp_path / "shapes", train=10, val=10, size=32)
    return tmp_path / "shapes"


def test_check_finds_out_that_a_folder_has_masks(run: Run, shapes: Path, tmp_path: Path) -> None:
    result = run("check", shapes, "--strict", "--draw", tmp_path / "gallery.png")
    assert (result.code, "nothing wrong was found" in result.out) == (0, True)
    assert (tmp_path / "gallery.png").exists()
    (found,) = run("check", shapes, "--json").objects
    assert (found["task"], found["form"], found["ok"]) == ("segmentation", "folders", True)
    assert [row["label"] for row in found["classes"]] == ["background", *CLASSES]
    Image.fromarray(np.full((32, 32), 99, np.uint8)).save(shapes / "masks" / "val" / "00003.png")
    result = run("check", shapes, "--strict")
    assert result.code == 1
    assert "00003.png: value 99 (1,024 pixels) is none of the 11 classes" in result.out
    # named folders, and a list of classes elsewhere
    (shapes / "classes.txt").rename(tmp_path / "names.txt")
    named = ("--images", shapes / "images", "--labels", shapes / "masks", "--classes", tmp_path / "names.txt")
    result = run("check", tmp_path, *named)
    assert "arrow" in result.out, result.err
    (found,) = run("check", shapes, "--ignore", 3, "--json").objects
    assert [row["label"] for row in found["classes"][:4]] == ["0", "1", "2", "4"]


def test_the_task_decides_where_files_serve_two(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    one = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    image = {"id": 7, "file_name": "p.png"}
    content = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert run("check", tmp_path, "--json").objects[0]["task"] == "detection"
    (found,) = run("check", tmp_path, "--json", "--task", "segmentation").objects
    assert (found["task"], found["classes"][1]["all"]) == ("segmentation", {"pixels": 16, "pictures": 1})
    for words, options in (
        ("--ignore is not for data of detection", ("--ignore", 3, "--task", "detection")),
        ("--labels is not for data of classification", ("--labels", tmp_path, "--task", "classification")),
        ("--ignore is for masks in files", ("--ignore", 3)),
    ):
        result = run("check", tmp_path, *options)
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert words in result.err


def test_evaluate_measures_masks(run: Run, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is one that answers with the stored masks, and knows fewer classes."""
    names = CLASSES[:-1]

    class Known:
        info = SimpleNamespace(
            task="segmentation",
            classes=len(names),
            label=lambda i: names[i],
            spec=SimpleNamespace(head=SimpleNamespace(background="first")),
        )
        backend = SimpleNamespace(name="known")

        def many(self, photos: Iterator[Path], **options: Any) -> Iterator[Any]:
            assert options == {"batch": 1, "errors": "yield"}
            for photo in photos:
                mask = np.array(Image.open(shapes / "masks" / "val" / f"{photo.stem}.png"))
                yield SimpleNamespace(mask=np.where(mask > len(names), 0, mask).astype(np.uint8))

    monkeypatch.setattr("mobilenetv2.predictor.load", lambda *_, **__: Known())
    result = run("evaluate", "m", shapes, "--json", "--report", tmp_path / "r")
    (found,) = result.objects
    assert (result.code, found["task"], found["n"], found["miou"], found["pixel_accuracy"]) == (
        0, "segmentation", 10, 1, 1,
    )  # fmt: skip
    assert "triangle: no such class of the model, their pixels count as background" in result.err
    assert (tmp_path / "r" / "masks" / "00001.png").exists()
    assert "mean IoU 100.0 %" in run("evaluate", "m", shapes).out
    (shapes / "masks" / "val" / "00001.png").write_bytes(b"")
    nothing = SimpleNamespace(mask=np.zeros((32, 32), np.uint8))
    monkeypatch.setattr(Known, "many", lambda self, photos, **_: (nothing for _ in photos))
    result = run("evaluate", "m", shapes)
    assert (result.code, "00001.png is empty" in result.err) == (1, True)
    for option in ("--beside", "--score"):
        result = run("evaluate", "m", shapes, option, "0.5")
        assert (result.code, f"{option} is not for models of segmentation" in result.err) == (2, True)
