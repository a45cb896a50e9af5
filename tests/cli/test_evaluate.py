"""What `evaluate` prints and reports, of one model and of two; and what else reads a data set."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenetv2 import model_file
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
Run = Callable[..., Any]


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
