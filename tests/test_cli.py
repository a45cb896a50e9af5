"""The command line: what it prints where, its exit codes, and one clear line for each thing that is wrong."""

import dataclasses
import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mobilenetv2 import cli, image, model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the console script's function as the shell would."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mobilenetv2", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    return call


@pytest.fixture
def model(random_model: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    labels = ("cat", "dog", "owl")
    model_file.write(path, random_model(width_mult=0.35, outputs=4, background="first", labels=labels, size=64))
    return path


@pytest.fixture
def detector(random_detector: RandomModel, tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    labels = ("cat", "dog", "owl")
    model_file.write(path, random_detector(size=64, labels=labels, head={"classes": 3, "most": 9}))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


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


def test_evaluate_counts_and_reports(run: Run, model: Path, photo: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    answer = run("predict", model, photo, "--json").objects[0]["predictions"][0]
    wrong = (answer["index"] + 1) % 3
    listing.write_text(f"path,label\n{photo.name}, {answer['label']}\n{photo.name},{wrong}\n")
    result = run("evaluate", model, listing, "--json", "--report", tmp_path / "r", "--save-mistakes", tmp_path / "w")
    assert result.code == 0
    [found] = result.objects
    assert (found["task"], found["n"], found["top1"], found["top5"]) == ("classification", 2, 0.5, 1.0)
    assert {"report.json", "classes.csv"} < {p.name for p in (tmp_path / "r").iterdir()}
    assert not {"beside", "agreement", "model"} & set(found)
    assert any(p.name.startswith("001_") for p in (tmp_path / "w").iterdir())


def test_evaluate_beside_another_model_compares_the_answers_by_name(
    run: Run, model: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"  # the same weights, so that what was "cat" is "owl", and so on
    loaded, renamed = model_file.read(model), {"cat": "owl", "dog": "cat", "owl": "dog"}
    info = dataclasses.replace(loaded.info, labels=tuple(renamed.values()))
    model_file.write(other, ModelFile(info, loaded.tensors))
    listing = tmp_path / "list.csv"
    answer = run("predict", model, photo, "--json").objects[0]["predictions"][0]
    listing.write_text(f"{photo.name},{answer['label']}\n")

    [alone] = run("evaluate", model, listing, "--json", "--beside", model).objects
    assert (alone["agreement"]["same_answer_share"], alone["agreement"]["both_right"]) == (1, 1)

    result = run("evaluate", model, listing, "--json", "--beside", other, "--report", tmp_path / "r")
    assert result.code == 0
    [found] = result.objects
    assert (found["model"], found["top1"]) == (str(model), 1)
    assert (found["beside"]["model"], found["beside"]["top1"]) == (str(other), 0)
    assert (found["agreement"]["same_answer"], found["agreement"]["only_first_right"]) == (0, 1)
    [difference] = found["agreement"]["differences"]
    assert difference["first"]["label"] == difference["true"]["label"] == answer["label"]
    assert difference["second"]["label"] == renamed[answer["label"]]
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert {"report.json", "agreement.json", "disagreements.png"} < names
    assert f"second: {other}" in run("evaluate", model, listing, "--beside", other).out


def test_evaluate_names_the_unreadable_and_fails(run: Run, model: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "good.png").write_bytes(photo.read_bytes())
    (tmp_path / "data" / "cat" / "cut.png").write_bytes(photo.read_bytes()[:200])
    result = run("evaluate", model, tmp_path / "data", "--json")
    assert result.code == 1
    assert result.objects[0]["n"] == 1
    assert result.err.count("cut.png") == 1


def test_check_evaluate_and_train_take_shards_by_folder_pattern_and_url(
    run: Run, model: Path, tmp_path: Path, pack: Callable[..., Path], serve: Callable[[Path], Any]
) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "set" / ("cat", "owl")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 70, 3), dtype=np.uint8)).save(path)
    folder = pack(tmp_path / "set", tmp_path / "shards", per_shard=4)
    url = serve(folder).url + "/pictures-{000..002}.tar"
    (checked, evaluated) = run("check", tmp_path / "set", "--json"), run("evaluate", model, tmp_path / "set", "--json")
    for dataset in (folder, folder / "pictures-{000..002}.tar", url):
        assert run("check", dataset, "--json").objects == checked.objects
        [found], [wanted] = run("evaluate", model, dataset, "--json").objects, evaluated.objects
        assert {**found, "seconds": 0} == {**wanted, "seconds": 0}
    settings = ("--set", "epochs=1", "--set", "size=32", "--set", "width_mult=0.35", "--set", "batch_size=4")
    trained = run("train", url, "-o", tmp_path / "run", *settings)
    assert trained.code == 0
    assert "2 classes, 10 pictures to train on, 2 to measure" in trained.err
    assert url.replace("http://", "http:/") not in trained.err
    mistakes = run("evaluate", tmp_path / "run" / "model.safetensors", url, "--save-mistakes", tmp_path / "wrong")
    assert mistakes.code == 0
    gone = run("check", url.replace("002", "004"))
    assert gone.code == 1
    assert gone.err.count("\n") == 1
    assert f"{url[: url.index('{')]}003.tar" in gone.err


def test_info_tells_what_the_file_is(run: Run, model: Path) -> None:
    text = run("info", model)
    assert text.code == 0
    for words in ("classification", "cat, dog, owl", "background", "64 x 64", "width 0.35", "multiply-adds"):
        assert words in text.out
    [found] = run("info", model, "--json").objects
    assert found["parameters"] == 1_677_128 - 1281 * 996
    assert found["labels"] == ["cat", "dog", "owl"]


def test_info_shows_the_engines_plan(run: Run, model: Path) -> None:
    assert "arena" in run("info", model, "--plan").out
    [small], [large] = (run("info", model, "--plan", "--size", n, "--json").objects for n in (32, 96))
    assert 0 < small["arena_bytes"] < large["arena_bytes"]
    assert run("info", model, "--size", 32).code == 2
    tight = run("info", model, "--plan", "--size", 96, "--budget", "1KB")
    assert tight.code == 2
    (smallest,) = re.findall(r"smallest possible is ([\d,]+) bytes", tight.err)
    fits = run("info", model, "--plan", "--size", 96, "--budget", smallest.replace(",", ""), "--json").objects[0]
    assert f"{fits['arena_bytes']:,}" == smallest
    assert run("info", model, "--plan", "--budget", "much").code == 2


def test_info_draws_the_plans_memory(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("info", model, "--plan", "--draw", tmp_path / "memory.png")
    assert result.code == 0
    assert image.read(tmp_path / "memory.png").shape[1] > 800


def test_import_reads_a_foreign_file_and_writes_it_back(run: Run, random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model(width_mult=0.5)
    foreign = tmp_path / "mine.pth"
    torch.save({name: torch.from_numpy(value) for name, value in model.tensors.items()}, foreign)
    result = run("import", foreign, "-o", tmp_path / "out.safetensors", "--size", 96)
    assert result.code == 0
    assert result.out == ""
    found = model_file.read(tmp_path / "out.safetensors")
    assert found.info.preprocessing.size == (96, 96)
    assert found.info.labels[0] == "tench"
    back = run("import", tmp_path / "out.safetensors", "--to", "torchvision", "-o", tmp_path / "back.pth")
    assert back.code == 0
    tensors = torch.load(tmp_path / "back.pth", weights_only=True)
    assert np.array_equal(tensors["features.0.0.weight"].numpy(), model.tensors["features.0.0.weight"])


def test_models_lists_names_and_json(run: Run) -> None:
    text = run("models")
    assert "keras/0.35-96" in text.out
    names = [entry["name"] for entry in run("models", "--json").objects]
    assert len(names) == len(set(names)) >= 40


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.startswith("mobilenetv2 0.")
    assert "predict" in run("--help").out


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


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("bomb-went-off",))


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def test_every_bad_input_is_one_line_and_its_exit_code(
    run: Run,
    model: Path,
    photo: Path,
    tmp_path: Path,
    grace_hopper: Path,
    random_model: RandomModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))
    files = {
        "truncated.jpg": grace_hopper.read_bytes()[:20_000],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "huge.png": png_header(60_000, 60_000),
        "empty.safetensors": b"",
        "list.csv": b"nowhere.jpg,cat\n",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    torch.save(Bomb(), "code.pth")
    Path("nothing").mkdir()
    model_file.write("ten.safetensors", random_model(width_mult=0.35, outputs=10, size=64))
    elk = random_model(width_mult=0.35, outputs=3, labels=("cat", "dog", "elk"), size=64)
    model_file.write("elk.safetensors", elk)
    Path("photo.csv").write_text(f"{photo.name},cat\n")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    cases: list[tuple[int, str, tuple[object, ...]]] = [
        (1, "truncated.jpg", ("predict", model, "truncated.jpg")),
        (1, "empty.jpg", ("predict", model, "empty.jpg")),
        (1, "text.jpg", ("predict", model, "text.jpg")),
        (1, "60000 x 60000", ("predict", model, "huge.png")),
        (1, "nothing is a folder", ("predict", model, "nothing")),
        (1, "missing.jpg does not exist", ("predict", model, "missing.jpg")),
        (1, "empty.safetensors", ("predict", "empty.safetensors", photo)),
        (1, "is not a model file", ("predict", photo, photo)),
        (2, "did you mean 'keras/0.35-96'", ("predict", "keras/0.35-69", photo)),
        (2, "did you mean 'torch'", ("predict", model, photo, "--backend", "torhc")),
        (2, "--resize must be a number of pixels or none, got 'big'", ("predict", model, photo, "--resize", "big")),
        (2, "--top", ("predict", model, photo, "--top", "0")),
        (2, "--jsn", ("predict", model, photo, "--jsn")),
        (2, "Did you mean 'predict'", ("predct", model, photo)),
        (2, "Missing argument", ("predict", model)),
        (1, "posix.mkdir", ("import", "code.pth", "-o", "out.safetensors")),
        (1, "is a folder", ("import", "nothing", "-o", "out.safetensors")),
        (2, "did you mean 'timm'", ("import", "code.pth", "-o", "out.safetensors", "--from", "tim")),
        (2, "nothing", ("import", model, "--to", "torchvision", "-o", "nothing")),
        (1, "cannot write", ("predict", model, photo, "--draw", "text.jpg")),
        (1, "nothing", ("evaluate", model, "nothing")),
        (1, "nowhere.jpg", ("evaluate", model, "list.csv")),
        (1, "absent", ("evaluate", model, "absent")),
        (1, "absent.safetensors does not exist", ("evaluate", model, "photo.csv", "--beside", "absent.safetensors")),
        (2, "3 classes and ten.safetensors has 10", ("evaluate", model, "photo.csv", "--beside", "ten.safetensors")),
        (2, "its class 'elk' is none of", ("evaluate", model, "photo.csv", "--beside", "elk.safetensors")),
        (1, "nothing", ("train", "nothing", "-o", "run")),
        (2, "did you mean 'basic'", ("train", "nothing", "-o", "run", "--recipe", "bsic")),
        (2, "did you mean 'batch_size'", ("train", "nothing", "-o", "run", "--set", "batch_sise=3")),
    ]
    for code, words, arguments in cases:
        result = run(*arguments)
        assert result.code == code, (arguments, result.err)
        assert words in result.err, (arguments, result.err)
        assert result.err.count("\n") == 1, (arguments, result.err)
        assert result.out == "", (arguments, result.out)
        assert "Traceback" not in result.err
    assert sorted(p.name for p in tmp_path.rglob("*")) == before  # no bomb, no half-written file


def test_a_closed_pipe_is_no_traceback(model: Path, photo: Path) -> None:
    command = f"{sys.executable} -m mobilenetv2.cli models | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "keras" in result.stdout or "name" in result.stdout
    assert result.stderr == ""


def test_help_is_quick_because_it_loads_nothing() -> None:
    code = (
        "import sys, mobilenetv2.cli as c\n"
        "sys.argv = ['mobilenetv2', '--help']\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'PIL', 'torch', 'rich', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mobilenetv2.cli", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - start < 3  # 0.15 s on a quiet machine; the bound is for a busy one
