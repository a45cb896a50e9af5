"""What `predict` prints and draws."""

import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import cli, image, model_file
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


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of the same name in two folders, something hidden, and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a/x.png", "b/x.png", "b/c/x.png", ".hidden/x.png")):
        save(Path("photos", name), seed)
    Path("photos/b/y.jpg").write_text("no picture")
    Path("photos/notes.md").touch()
    return Path("photos")


def test_a_folder_is_all_its_photos_and_what_failed_is_summed_up(run: Run, model: Path, photos: Path) -> None:
    result = run("predict", model, photos, "--json", "--draw", "drawn")
    assert result.code == 1
    expected = ["photos/a/x.png", "photos/b/x.png", "photos/b/y.jpg", "photos/b/c/x.png"]
    assert [answer["file"] for answer in result.objects] == expected
    assert "error" in result.objects[2]
    first, *_, last = result.err.splitlines()
    assert first == "note: photos: 4 pictures; 1 file left out: 1 .md"
    assert last == "1 of 4 photos could not be read"
    drawn = sorted(path.as_posix() for path in Path("drawn").rglob("*.png"))
    assert drawn == [f"drawn/{name}/x.answers.png" for name in ("a", "b/c", "b")]


def test_a_pattern_and_a_list_mean_the_same_photos_as_their_names(run: Run, model: Path, photos: Path) -> None:
    names = ("photos/a/x.png", "photos/b/x.png", "photos/b/c/x.png")
    Path("list.txt").write_text("\n".join(("# mine", *names)))
    expected = run("predict", model, *names, "--json").out
    assert run("predict", model, "photos/**/*.png", "--json").out == expected
    assert run("predict", model, "list.txt", "--json").out == expected


def test_masks_of_a_folder_have_their_photos_places(
    run: Run, random_segmenter: RandomModel, photos: Path, tmp_path: Path
) -> None:
    model_file.write("s.safetensors", random_segmenter(size=33))
    result = run("predict", "s.safetensors", "photos/**/x.png", "photos/a/x.png", "--masks", "m", "--json")
    assert [answer["mask"] for answer in result.objects] == ["m/a/x.png", "m/b/x.png", "m/b/c/x.png", "m/x.png"]


def test_boxes_of_photos_with_the_same_number_have_ids_of_their_own(run: Run, detector: Path, photos: Path) -> None:
    run("predict", detector, photos, "--coco", "coco.json", "--most", 1, "--iou", 0.5)
    ids = [entry["image_id"] for entry in json.loads(Path("coco.json").read_text())]
    assert ids == ["x", "photos/b/x.png", "photos/b/c/x.png"]


def test_one_picture_comes_from_standard_input_or_a_pipe(model: Path, photo: Path, tmp_path: Path) -> None:
    def shell(name: str, data: bytes) -> tuple[int, dict[str, Any], str]:
        arguments = ["predict", str(model), name, "--json", "--backend", "reference", "--draw", str(tmp_path / "drawn")]
        command = [sys.executable, "-m", "mobilenetv2", *arguments]
        result = subprocess.run(command, input=data, capture_output=True, check=False)
        return result.returncode, json.loads(result.stdout), result.stderr.decode()

    code, answer, _ = shell("-", photo.read_bytes())
    assert (code, answer["file"]) == (0, "-")
    code, other, _ = shell("/dev/stdin", photo.read_bytes())
    assert (code, other["predictions"]) == (0, answer["predictions"])
    code, wrong, err = shell("-", b"")
    assert (code, wrong["error"], err) == (1, "standard input is empty", "")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"stdin.answers.png"}


def test_an_address_is_a_photo_and_keeps_its_two_slashes(run: Run, model: Path, photo: Path, serve: Any) -> None:
    url = serve(photo.parent).url
    expected = run("predict", model, photo, "--json").objects[0]["predictions"]
    address = f"{url}/{photo.name}"
    answered, missing = run("predict", model, address, f"{url}/none.jpg", "--json").objects
    assert (answered["file"], answered["predictions"]) == (address, expected)
    assert missing["error"].startswith(f"{url}/none.jpg does not exist")
    failed = run("predict", model, "http://127.0.0.1:1/cat.jpg")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "cannot fetch http://127.0.0.1:1/cat.jpg" in failed.err


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypmp42" + bytes(40), b"\x1aE\xdf\xa3" + bytes(40)])
def test_a_video_is_named_with_the_way_out(run: Run, model: Path, tmp_path: Path, data: bytes) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(data)
    result = run("predict", model, video)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "is a video" in result.err
    assert "ffmpeg" in result.err


def test_answers_are_not_collected(model: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    answers: weakref.WeakSet[Any] = weakref.WeakSet()

    class Answer:
        def __str__(self) -> str:
            alive.append(len(answers))
            return "seen"

    def decoded(*arguments: Any, **options: Any) -> Answer:
        answers.add(answer := Answer())
        return answer

    monkeypatch.setattr("mobilenetv2.predictor.decode", decoded)
    monkeypatch.setattr(
        sys, "argv", ["mobilenetv2", "predict", str(model), *[str(photo)] * 9, "--backend", "reference"]
    )
    with pytest.raises(SystemExit):
        cli.main()
    assert len(alive) == 9
    assert max(alive) <= 2
