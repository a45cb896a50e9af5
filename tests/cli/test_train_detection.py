"""From pictures with boxes to a running detector on the command line: train, report, evaluate, predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection_sets import Boxes, drawn, write_coco
from mobilenetv2 import model_file
from mobilenetv2.data import shapes
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]

TINY = [word for setting in ("width_mult=0.1", "size=64", "epochs=1", "batch_size=4") for word in ("--set", setting)]
THING: Boxes = [(10.0, 12.0, 30.0, 20.0, 0)]


def plain(*boxes: Boxes, seed: int = 0) -> list[tuple[np.ndarray, Boxes]]:
    """A picture of noise for each list of boxes, 64 x 64 pixels."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), found) for found in boxes]


@pytest.mark.slow
def test_a_detector_is_trained_reported_measured_and_used(run: Run, tmp_path: Path) -> None:
    write_coco(tmp_path / "data", drawn(0, 8), shapes.CLASSES, "train")
    write_coco(tmp_path / "data", drawn(8, 4), shapes.CLASSES, "val")
    out = tmp_path / "run"
    result = run("train", tmp_path / "data", "-o", out, *TINY)
    assert result.code == 0, result.err
    assert "10 classes, 8 pictures to train on, 4 to measure" in result.err
    page = (out / "report.html").read_text()
    for words in (
        "val mAP@0.5", "A detector of 10 classes: SSDLite on MobileNetV2", "COCO’s AP", "of them without a box",
        "Precision at each recall", "Confusion matrix", "3.png", "predict", "--draw drawn",
    ):  # fmt: skip
        assert words in page, words
    for words in ("A classifier", "val accuracy"):
        assert words not in page
    assert page.count("data:image/jpeg") == 4 + 12  # those of val beside their truth, and all of them
    assert page.count("data:image/png") == 3

    model = out / "model.safetensors"
    measured = run("evaluate", model, tmp_path / "data", "--json")
    assert measured.code == 0
    (found,) = measured.objects
    assert (found["n"], found["split"]) == (4, "val")
    (outcome,) = run("report", out, "--json").objects
    assert (outcome["task"], outcome["ap50"], outcome["ap"]) == ("detection", found["voc_ap50"], found["ap"])
    assert outcome["pictures"] == {"train": 8, "val": 4}
    assert run("check", tmp_path / "data").out.splitlines()[-1] == f"{outcome['findings']} findings"

    photo = tmp_path / "data" / "val" / "0.png"
    assert run("predict", model, photo, "--draw", tmp_path / "drawn").code == 0
    with Image.open(tmp_path / "drawn" / "0.answers.png") as picture:
        assert picture.width >= 64
    info = run("info", model, "--json").objects[0]
    assert (info["task"], info["classes"]) == ("detection", 10)

    shutil.rmtree(tmp_path / "data")
    assert run("report", out).code == 0  # what was measured is kept
    again = (out / "report.html").read_text()
    assert "is not there any more" in again
    assert again.count("data:image/jpeg") == 0
    assert again.count("data:image/png") == 3


@pytest.mark.slow
def test_one_class_and_pictures_without_objects_are_enough(run: Run, tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / part).mkdir(parents=True)
        for i, (rgb, _) in enumerate(plain(*[THING] * count, seed=count)):
            Image.fromarray(rgb).save(tmp_path / "data" / "images" / part / f"{i}.png")
            text = "0 0.5 0.5 0.4 0.4\n" if i % 2 else ""  # every second file is empty
            (tmp_path / "data" / "labels" / part / f"{i}.txt").write_text(text)
    (tmp_path / "data" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    result = run("train", tmp_path / "data", "-o", tmp_path / "run", *TINY)
    assert result.code == 0, result.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "A detector of one class" in page
    assert "nan" not in (tmp_path / "run" / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_run_that_found_nothing_to_find_has_a_report_nevertheless(run: Run, tmp_path: Path) -> None:
    write_coco(tmp_path / "data", plain(THING, THING), ("thing",), "train")
    write_coco(tmp_path / "data", plain([], seed=1), ("thing",), "val")
    result = run("train", tmp_path / "data", "-o", tmp_path / "run", *TINY)
    assert result.code == 0, result.err
    assert "no report" not in result.err
    assert run("report", tmp_path / "run", "--json").objects[0]["ap50"] is None


def test_faulty_boxes_are_repaired_and_named_or_refused(run: Run, tmp_path: Path) -> None:
    faulty: Boxes = [(20.0, 20.0, 0.0, 0.0, 0), (50.0, 50.0, 40.0, 10.0, 0), (-300.0, 0.0, 20.0, 20.0, 0)]
    write_coco(tmp_path / "data", plain(THING, [*THING, *faulty]), ("thing",), "train")
    write_coco(tmp_path / "data", plain(THING, seed=1), ("thing",), "val")
    refused = run("train", tmp_path / "data", "-o", tmp_path / "strict", *TINY, "--strict")
    assert refused.code == 1
    assert "see mobilenetv2 check" in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "strict").exists()
    result = run("train", tmp_path / "data", "-o", tmp_path / "run", *TINY)
    assert result.code == 0, result.err
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("a box without an area, left out", "a box that reaches outside its picture, clipped"):
        assert words in result.err
        assert words in page
    kinds = [fault["kind"] for fault in json.loads((tmp_path / "run" / "check.json").read_text())["faults"]]
    assert sorted(kinds) == ["degenerate", "outside", "outside"]


def test_starting_weights_of_other_classes_say_what_is_kept(
    run: Run, random_detector: RandomModel, tmp_path: Path
) -> None:
    write_coco(tmp_path / "data", plain(THING, THING, THING), ("thing",), "train")
    start = tmp_path / "start.safetensors"
    labels = ("thing", "dog", "cat")
    model_file.write(start, random_detector(size=64, labels=labels, width_mult=0.1, head={"classes": 3}))
    settings = ("--set", "epochs=1", "--set", "batch_size=2")
    result = run("train", tmp_path / "data", "-o", tmp_path / "run", "--init", start, *settings)
    assert result.code == 0, result.err
    said = "new scores for 0 of 1 classes (the starting weights have 3 others); thing kept"
    assert said in result.err
    assert said in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_recipes_are_listed_with_their_task(arguments: tuple[str, ...], run: Run) -> None:
    result = run("recipes", *arguments)
    if arguments:
        listed = {(one["task"], one["name"]) for one in result.objects}
    else:
        listed = {tuple(line.split()[:2]) for line in result.out.split("\n\n")[0].splitlines()}
    assert {("classification", "finetune"), ("detection", "finetune"), ("detection", "ssdlite")} <= listed
