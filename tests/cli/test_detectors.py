"""Detectors on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]


def test_a_detector_says_where_things_are_to_people_machines_and_on_the_photo(
    run: Run, detector: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    result = run("predict", detector, grace_hopper, "--backend", "reference")
    assert result.code == 0
    first, *lines = result.out.splitlines()
    assert first == str(grace_hopper)
    assert 0 < len(lines) <= 9
    for line in lines:
        *_, label, left, top, right, bottom = line.split()
        assert label in ("cat", "dog", "owl")
        assert 0 <= float(left) < float(right) <= 512
        assert 0 <= float(top) < float(bottom) <= 600
    options = ("--json", "--draw", tmp_path / "drawn", "--coco", tmp_path / "coco.json")
    result = run("predict", detector, grace_hopper, "--backend", "torch", *options)
    (answer,) = result.objects
    assert answer["task"] == "detection"
    assert [d["label"] for d in answer["detections"]] == [line.split()[-5] for line in lines]
    assert {tuple(d) for d in answer["detections"]} == {("index", "label", "score", "box")}
    entries = json.loads((tmp_path / "coco.json").read_text())
    assert [e["score"] for e in entries] == [d["score"] for d in answer["detections"]]
    assert {e["image_id"] for e in entries} == {"grace_hopper"}
    assert [e["category_id"] for e in entries] == [d["index"] + 1 for d in answer["detections"]]
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "grace_hopper.answers.png"))
    assert drawn.shape == image.read(grace_hopper).shape


def test_the_least_score_is_the_models_own_unless_given(run: Run, detector: Path, photo: Path) -> None:
    def scores(*options: object) -> list[float]:
        answer = run("predict", detector, photo, "--json", "--backend", "reference", *options).objects[0]
        return [found["score"] for found in answer["detections"]]

    assert min(scores()) >= 0.3
    few = scores("--score", 0.999)
    assert len(few) <= len(scores())
    assert all(score >= 0.999 for score in few)
    assert scores("--score", 1) == []


def test_evaluate_measures_a_detector_on_pictures_with_boxes(
    run: Run, detector: Path, photo: Path, tmp_path: Path
) -> None:
    answer = run("predict", detector, photo, "--json", "--backend", "reference").objects[0]
    (tmp_path / "labels").mkdir()
    (tmp_path / "names.txt").write_text("Owl\ncat\nelk\ndog\n")  # matched by name: the model has cat, dog, owl
    lines = []
    for found in answer["detections"]:
        x1, y1, x2, y2 = found["box"]
        box = ((x1 + x2) / 140, (y1 + y2) / 100, (x2 - x1) / 70, (y2 - y1) / 50)
        lines.append(" ".join(map(str, ([1, 3, 0][found["index"]], *box))))
    (tmp_path / "labels" / "a photo.txt").write_text("\n".join([*lines, "2 0.5 0.5 0.1 0.1"]))
    places = ("--images", photo.parent, "--labels", tmp_path / "labels", "--classes", tmp_path / "names.txt")
    options = ("--report", tmp_path / "r", "--save-mistakes", tmp_path / "w", "--difficult", "count")
    result = run("evaluate", detector, tmp_path / "labels", *places, *options, "--json", "--backend", "reference")
    assert (result.code, result.err.count("elk: no such class, 1 boxes left out")) == (0, 1)
    (found,) = result.objects
    assert (found["task"], found["n"], found["boxes"], found["difficult"]) == ("detection", 1, 9, "count")
    assert found["voc_ap50"] == 1  # the surest boxes are its own answers
    assert {"report.json", "detections.json", "predictions_1.png"} < {p.name for p in (tmp_path / "r").iterdir()}
    asked = ("evaluate", detector, tmp_path / "labels", *places, "--backend", "reference")
    text = run(*asked, "--score", 0.3, "--most", 3, "--iou", 0.5).out
    assert "from a score of 0.3 up, suppressed at an overlap of 0.5, at most 3 boxes a picture" in text
    assert "it is not divided" in run(*asked, "--split", "train").err


def test_info_tells_a_detectors_anchors(run: Run, detector: Path) -> None:
    assert "96 anchors, sigmoid scores" in run("info", detector).out
    (summary,) = run("info", detector, "--json").objects
    assert (summary["task"], summary["classes"], summary["anchors"]) == ("detection", 3, 96)


def test_the_engine_predicts_with_detectors_and_shows_its_plan(
    run: Run, detector: Path, photo: Path, tmp_path: Path
) -> None:
    answers = [run("predict", detector, photo, "--json", "--backend", name).objects[0] for name in ("engine", "torch")]
    found, expected = (answer["detections"] for answer in answers)
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    assert [one["box"] for one in found] == [pytest.approx(one["box"], abs=0.02) for one in expected]
    plan = run("info", detector, "--plan", "--budget", 2**20, "--draw", tmp_path / "memory.png")
    assert plan.code == 0
    assert "class head 0" in plan.out
    assert (tmp_path / "memory.png").exists()


def test_what_a_detector_cannot_do_is_said_in_one_line(run: Run, detector: Path, model: Path, photo: Path) -> None:
    for words, arguments in (
        ("--top is not for detection: this model's options are --score", ("predict", detector, photo, "--top", 3)),
        ("--score is not for classification", ("predict", model, photo, "--score", 0.5)),
        ("--iou is not for models of classification", ("evaluate", model, photo, "--iou", 0.5)),
        ("--beside is not for models of detection", ("evaluate", detector, photo, "--beside", "other.safetensors")),
        ("cannot express a model for detection", ("import", detector, "--to", "torchvision", "-o", "x.pth")),
    ):
        extra = ("--backend", "reference") if words.startswith("--") else ()
        result = run(*arguments, *extra)
        assert result.code == 2, (arguments, result.err)
        assert words in result.err
        assert result.err.count("\n") == 1
        assert result.out == ""
