"""What `predict` prints and draws."""

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


def test_predict_prints_answers_for_people(run: Run, model: Path, photo: Path) -> None:
    result = run("predict", model, photo, "--top", 2)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == str(photo)
    assert len(lines) == 3
    assert lines[1].split()[-1] in ("cat", "dog", "owl")


def test_predict_json_is_one_object_a_photo_and_a_bad_one_does_not_stop_the_others(
    run: Run, model: Path, photo: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("I am a text file")
    result = run("predict", model, photo, bad, photo, "--json")
    assert result.code == 1
    first, second, third = result.objects
    assert first == third
    assert first["file"] == str(photo)
    assert first["task"] == "classification"
    assert [set(p) for p in first["predictions"]] == [{"index", "label", "score"}] * 3
    scores = [p["score"] for p in first["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) < 1  # background has the rest
    assert {p["label"] for p in first["predictions"]} == {"cat", "dog", "owl"}
    assert set(second) == {"file", "error"}
    assert str(bad) in second["error"]


def test_background_is_an_answer_only_when_asked_for(run: Run, model: Path, photo: Path) -> None:
    without = run("predict", model, photo, "--json").objects[0]["predictions"]
    with_it = run("predict", model, photo, "--json", "--background").objects[0]["predictions"]
    assert -1 not in [p["index"] for p in without]
    assert sorted(p["index"] for p in with_it) == [-1, 0, 1, 2]
    assert sum(p["score"] for p in with_it) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("backend", ["torch", "engine"])
def test_every_backend_gives_the_references_answers(backend: str, run: Run, model: Path, photo: Path) -> None:
    a, b = (
        run("predict", model, photo, "--json", *options).objects[0]["predictions"]
        for options in (("--backend", "reference"), ("--backend", backend, "--threads", 2))
    )
    assert [p["index"] for p in a] == [p["index"] for p in b]
    assert [p["score"] for p in a] == pytest.approx([p["score"] for p in b], abs=1e-5)


def test_drawings_get_names_of_their_own(run: Run, model: Path, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "sub"
    other.mkdir()
    twin = other / photo.name
    twin.write_bytes(photo.read_bytes())
    result = run("predict", model, photo, twin, "--draw", tmp_path / "drawn")
    assert result.code == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a photo-2.answers.png", "a photo.answers.png"]
    assert image.read(tmp_path / "drawn" / "a photo.answers.png").shape[1] >= 480


def test_drawing_beside_the_photos_leaves_them_alone(run: Run, model: Path, photo: Path) -> None:
    before = photo.read_bytes()
    assert run("predict", model, photo, "--draw", photo.parent).code == 0
    assert photo.read_bytes() == before


def test_resize_and_crop_override_the_models_recipe(run: Run, model: Path, tmp_path: Path) -> None:
    half = np.zeros((64, 128, 3), np.uint8)
    half[:, 64:] = 255
    centre = tmp_path / "centre.png"
    Image.fromarray(half[:, 48:80]).save(centre)
    whole = tmp_path / "whole.png"
    Image.fromarray(np.pad(half[:, 48:80], ((0, 0), (20, 20), (0, 0)), mode="reflect")).save(whole)
    ours = [
        run("predict", model, path, "--json", "--resize", "none", "--crop", 32).objects[0]["predictions"]
        for path in (centre, whole)
    ]
    assert ours[0] == ours[1]  # the same centre 32 pixels of both
    assert run("predict", model, whole, "--json").objects[0]["predictions"] != ours[0]
