"""Models for segmentation on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]
NAMES = ("background", "cat", "dog", "owl", "hen")


@pytest.fixture
def segmenter(random_segmenter: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "segmenter.safetensors"
    model_file.write(path, random_segmenter(size=65, labels=NAMES[1:]))
    return path


def test_masks_are_told_to_people_machines_and_files(run: Run, segmenter: Path, photo: Path, tmp_path: Path) -> None:
    result = run("predict", segmenter, photo, "--backend", "reference")
    assert result.code == 0
    first, *lines = result.out.splitlines()
    assert first == str(photo)
    assert [line.split()[2] in NAMES for line in lines] == [True] * len(lines)
    assert sum(int(line.split()[-2].replace(",", "")) for line in lines) == 50 * 70
    options = ("--json", "--rle", "--draw", tmp_path / "drawn", "--masks", tmp_path / "masks")
    result = run("predict", segmenter, photo, "--backend", "reference", *options)
    (answer,) = result.objects
    assert answer["task"] == "segmentation"
    assert [one["label"] for one in answer["classes"]] == [line.split()[2] for line in lines]
    assert all(one["rle"]["size"] == [50, 70] for one in answer["classes"])
    assert answer["mask"] == str(tmp_path / "masks" / "a photo.png")
    values = np.asarray(Image.open(answer["mask"]))
    assert values.shape == (50, 70)
    assert {one["index"]: one["pixels"] for one in answer["classes"]} == {
        int(i): int((values == i).sum()) for i in np.unique(values)
    }
    assert (tmp_path / "drawn" / "a photo.answers.png").exists()


def test_a_mask_never_takes_a_photos_place(run: Run, segmenter: Path, photo: Path) -> None:
    before = photo.read_bytes()
    result = run("predict", segmenter, photo, photo, "--backend", "reference", "--json", "--masks", photo.parent)
    assert [Path(one["mask"]).name for one in result.objects] == ["a photo-2.png", "a photo-3.png"]
    assert photo.read_bytes() == before


def test_a_picture_of_one_pixel_has_a_mask_of_one(run: Run, segmenter: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (200, 10, 10)).save(tmp_path / "one.png")
    for options in ((), ("--slide",), ("--multi-scale",), ("--slide", "--multi-scale", "--draw", tmp_path / "drawn")):
        (answer,) = run(
            "predict", segmenter, tmp_path / "one.png", "--json", "--backend", "reference", *options
        ).objects
        assert [one["pixels"] for one in answer["classes"]] == [1]


def test_info_says_what_the_masks_are(run: Run, segmenter: Path) -> None:
    out = run("info", segmenter).out
    assert "a class for every pixel, output stride 16, image pooling, corners aligned" in out
    assert "made smaller where larger, the rest filled with the mean" in out
    (facts,) = run("info", segmenter, "--json").objects
    assert (facts["output_stride"], facts["aspp"], facts["align_corners"]) == (16, False, True)


def test_evaluate_asks_in_the_ways_that_are_chosen(run: Run, segmenter: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "set" / "images" / "a.png")
    (tmp_path / "set" / "classes.txt").write_text("\n".join(NAMES))
    options = ("--backend", "reference", "--slide")
    found = run("predict", segmenter, tmp_path / "set" / "images" / "a.png", "--json", *options, "--masks", tmp_path)
    values = np.asarray(Image.open(found.objects[0]["mask"]))
    Image.fromarray(values).save(tmp_path / "set" / "masks" / "a.png")  # the truth is what sliding finds
    scores = {
        name: run("evaluate", segmenter, tmp_path / "set", "--json", "--backend", "reference", *way).objects[0]
        for name, way in {"plain": (), "slide": ("--slide",), "scales": ("--multi-scale",)}.items()
    }
    assert scores["slide"]["pixel_accuracy"] == 1
    assert scores["plain"]["pixel_accuracy"] < 1
    assert scores["scales"]["pixel_accuracy"] < 1


def test_what_is_not_for_a_task_is_said_in_one_line(run: Run, segmenter: Path, model: Path, photo: Path) -> None:
    for words, arguments in (
        ("--top is not for segmentation: this model's options are --multi-scale", ("predict", segmenter, "--top", 3)),
        ("--multi-scale is not for classification", ("predict", model, "--multi-scale")),
        ("--slide is not for classification", ("predict", model, "--slide")),
        ("--masks is not for classification", ("predict", model, "--masks", "m")),
        ("--rle is not for classification", ("predict", model, "--rle")),
        ("--slide is not for models of classification", ("evaluate", model, "--slide")),
        ("--multi-scale is not for models of classification", ("evaluate", model, "--multi-scale")),
    ):
        verb, file, *options = arguments
        result = run(verb, file, photo, *options, "--backend", "reference")
        assert result.code == 2, (arguments, result.err)
        assert words in result.err
        assert result.err.count("\n") == 1
