"""The report of a run: one page that holds everything, of any data, also where some of it is gone."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import cli, model_file, report
from mobilenetv2.data import check
from mobilenetv2.data.classification import place
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.report import facts
from mobilenetv2.run_files import RunFiles
from mobilenetv2.terminal import command_line

SIZE = 32
ROWS = "epoch,learning_rate,train_loss,val_loss,val_accuracy,pictures_per_second,seconds\n"
MakeRun = Callable[..., RunFiles]


class Page(HTMLParser):
    """What a browser would make of a page; every element must end where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.style = ""
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.style += "".join(value or "" for name, value in attrs if name == "style")
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def pictures(self, kind: str) -> list[Image.Image]:
        start = f"data:image/{kind};base64,"
        return [
            Image.open(io.BytesIO(base64.b64decode(source.removeprefix(start))))
            for source in self.sources
            if source.startswith(start)
        ]


def page_of(run: RunFiles) -> Page:
    return Page(run.report.read_text(encoding="utf-8"))


@pytest.fixture
def make_run(tmp_path: Path, random_model: Callable[..., ModelFile]) -> MakeRun:
    """A finished run on pictures of noise, as `train` leaves it: `make_run(classes, val=pictures per class)`."""

    def make(names: Sequence[str] = ("cat", "dog", "owl"), *, val: int = 3, **settings: Any) -> RunFiles:
        run, rng = RunFiles(tmp_path / "run"), np.random.default_rng(0)
        for part, count in (("train", 1), ("val", val)):
            for name in names:
                (tmp_path / "data" / part / name).mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(0, 256, (SIZE, SIZE + 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{i}.png")
        if not val:
            shutil.rmtree(tmp_path / "data" / "val")
        model = random_model(size=SIZE, outputs=len(names), labels=tuple(sorted(names)), width_mult=0.35)
        model.info.provenance.update(  # pyright: ignore[reportAttributeAccessIssue]
            started_from="random weights", epoch=2, data={"train": len(names), "val": val * len(names)},
            scores={"val_accuracy": 0.4} if val else {},
        )  # fmt: skip
        model_file.write(run.model, model)
        run.metrics.write_text(ROWS + "1,0.1,2.5,2.25,0.3,100,1.5\n2,0.05,2,1.75,0.4,100,3\n")
        run.check.write_text(json.dumps(check.check(tmp_path / "data").to_json()))
        written = {
            "recipe": {"name": "basic", "epochs": 2, "keep": "best", "learning_rate": 0.02, "clip": None},
            "recipe_source": "Ours, for thousands of pictures.",
            "recipe_changed": {"epochs": 30},
            "classes": sorted(names),
            "fingerprint": "0123",
            "notes": [],
            "held_out": [],
            "dataset": str(tmp_path / "data"),
            "command": "mobilenetv2 train data --out run",
            "machine": {"cpu": "abacus", "threads": 2},
            "finished": True,
            **settings,
        }
        run.settings.write_text(json.dumps(written))
        return run

    return make


def test_the_page_is_one_file_that_loads_nothing_and_shows_everything(make_run: MakeRun) -> None:
    run = make_run()
    assert report.write(run.path) == run.report
    page = page_of(run)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert "http" not in run.report.read_text().replace("http-equiv", "")
    found = json.loads(run.evaluation.read_text())
    assert len(page.pictures("png")) == 3  # curves, confusion, reliability
    assert len(page.pictures("jpeg")) == len(found["mistakes"]) + 3 * 4  # of each mistake, and of the data
    for words in (
        f"{100 * found['top1']:.1f}\N{NO-BREAK SPACE}%", "9 pictures", "2 of 2", "3 s", "100 pictures/s in training",
        "random weights", "instead of 30", "Ours, for thousands of pictures.", "abacus", "found nothing wrong",
        "mobilenetv2 train data --out run", f"mobilenetv2 predict {run.model} photo.jpg",
        f"{run.model.stat().st_size / 1e6:.1f} MB",
    ):  # fmt: skip
        assert words in page.text, words


def test_the_weakest_class_comes_first_and_the_surest_mistake(make_run: MakeRun) -> None:
    run = make_run()
    report.write(run.path)
    page, found = page_of(run), json.loads(run.evaluation.read_text())
    shares = {row["label"]: row["recall"] for row in found["classes"]}
    assert len(set(shares.values())) > 1
    table = page.texts[page.texts.index("most often taken for") :]
    named = [text for text in table if text in shares][:3]
    assert [shares[name] for name in named] == sorted(shares.values())
    scores = sorted((mistake["predictions"][0]["score"] for mistake in found["mistakes"]), reverse=True)
    captions = [text for text in page.texts if re.fullmatch(r"(cat|dog|owl) \(.*%\)", text)]
    assert [caption.partition("(")[2] for caption in captions] == [f"{100 * s:.1f}\N{NO-BREAK SPACE}%)" for s in scores]


def test_what_comes_from_data_is_text_whatever_it_is(make_run: MakeRun) -> None:
    names = ('<b>&"', "</style><script>alert(1)<", "猫", "сова $x^2$")
    names = tuple(name.replace("/", "\N{DIVISION SLASH}") for name in names)
    run = make_run(names, command="mobilenetv2 train '<i>' --out </pre>", notes=["<u>"], directory="<s>")
    odd = run.path.parent / "data" / "val" / names[0] / "<img src=x onerror=alert(1)>.png"
    (odd.parent / "0.png").rename(odd)
    not_utf8 = os.fsencode(odd.parent) + b"/\xff\xfe.png"
    os.rename(os.fsencode(odd.parent / "1.png"), not_utf8)
    report.write(run.path)
    page = page_of(run)
    assert page.tags.isdisjoint({"b&", "script", "i", "u", "s"})
    for name in names:
        assert page.texts.count(name) >= 2  # in the tables
    assert "mobilenetv2 train '<i>' --out </pre>" in page.texts
    assert odd.name in page.text  # in the gallery
    assert "\\udcff\\udcfe.png" in page.text


@pytest.mark.parametrize("classes", [2, 60])
def test_any_number_of_classes_is_shown_in_a_small_page(classes: int, make_run: MakeRun) -> None:
    run = make_run([f"class number {i:02}" for i in range(classes)], val=1)
    report.write(run.path)
    page = page_of(run)
    assert {f"class number {i:02}" for i in range(classes)} <= set(page.texts)
    assert len(page.pictures("jpeg")) <= 24 + 24
    assert run.report.stat().st_size < 3_000_000


def test_a_run_that_measured_nothing_says_so(make_run: MakeRun) -> None:
    run = make_run(val=0)
    report.write(run.path)
    page = page_of(run)
    assert "nothing is measured" in page.text
    assert "no pictures are held out" in page.text
    assert "How well it does" not in page.text
    assert report.read(run.path).to_json()["accuracy"] is None
    assert not run.evaluation.exists()


def test_the_report_is_made_again_without_the_data(make_run: MakeRun) -> None:
    run = make_run()
    report.write(run.path)
    before = page_of(run)
    shutil.rmtree(run.path.parent / "data")
    report.write(run.path)
    after = page_of(run)
    assert "is not there any more" in after.text
    assert after.pictures("jpeg") == []
    assert [picture.tobytes() for picture in after.pictures("png")] == [
        picture.tobytes() for picture in before.pictures("png")
    ]
    assert {text for text in before.texts if "%" in text and "(" not in text} <= set(after.texts)


def test_a_model_that_cannot_be_measured_keeps_what_training_measured(make_run: MakeRun) -> None:
    run = make_run()
    shutil.rmtree(run.path.parent / "data")
    outcome = report.read(run.path).to_json()
    assert outcome["accuracy"] == 0.4
    low, high = outcome["accuracy_interval95"]
    assert low < 0.4 < high
    report.write(run.path)
    assert "The model was not measured" in page_of(run).text


def test_a_model_is_measured_once(make_run: MakeRun, random_model: Callable[..., ModelFile]) -> None:
    run = make_run()
    calls: list[int] = []
    report.write(run.path, progress=lambda done, total: calls.append(total))
    report.write(run.path, progress=lambda done, total: calls.append(total))
    assert calls == [9] * 9
    other = random_model(size=SIZE, outputs=3, labels=("cat", "dog", "owl"), width_mult=0.35, seed=1)
    model_file.write(run.model, other)
    report.write(run.path, progress=lambda done, total: calls.append(total))
    assert calls == [9] * 18


def test_what_the_run_left_out_is_not_measured(make_run: MakeRun) -> None:
    run = make_run()
    data = run.path.parent / "data"
    shutil.copy(data / "train" / "cat" / "0.png", data / "val" / "cat" / "known.png")
    shutil.copy(data / "train" / "dog" / "0.png", data / "val" / "owl" / "which.png")
    (data / "val" / "owl" / "empty.png").write_bytes(b"")
    run.check.write_text(json.dumps(check.check(data).to_json()))
    report.write(run.path)
    found = json.loads(run.evaluation.read_text())
    assert (found["n"], found["unreadable"]) == (9, [])
    text = page_of(run).text
    assert "the same picture in several classes: train/dog/0.png, val/owl/which.png" in text
    assert "val/owl/empty.png" in text


def test_pictures_held_out_of_an_undivided_data_set_are_found_again(make_run: MakeRun) -> None:
    run = make_run(val=0)
    data = run.path.parent / "data"
    held_out = [place(path, data) for path in data.glob("train/*/0.png")]
    run.settings.write_text(json.dumps({**json.loads(run.settings.read_text()), "held_out": held_out}))
    report.write(run.path)
    assert json.loads(run.evaluation.read_text())["n"] == 3
    (data / held_out[0]).unlink()
    run.evaluation.unlink()
    report.write(run.path)
    assert "1 of the pictures held out are not in" in page_of(run).text


def test_a_run_of_an_earlier_release_is_reported_as_far_as_it_is_known(make_run: MakeRun) -> None:
    run = make_run()
    settings = json.loads(run.settings.read_text())
    kept = ("recipe", "classes", "fingerprint", "notes", "held_out", "finished")
    run.settings.write_text(json.dumps({name: settings[name] for name in kept}))
    run.check.unlink()
    report.write(run.path)
    page = page_of(run)
    assert "earlier release" in page.text
    assert page.texts.count("unknown") >= 3
    assert f"{40.0}\N{NO-BREAK SPACE}%" in page.text
    assert len(page.pictures("png")) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b""),
        ("run.json", b"\xff\xfe\x00"),
        ("run.json", b"[]"),
        ("run.json", b'{"recipe": 3}'),
        ("run.json", b'{"recipe": {}, "classes": [], "fingerprint": "", "finished"'),
        ("metrics.csv", b"epoch,train_loss\n1,low\n"),
        ("metrics.csv", b"train_loss\n1\n"),
        ("metrics.csv", b"epoch\n1,2,3\n"),
        ("model.safetensors", b"no model"),
    ],
)
def test_a_damaged_run_is_one_line(
    name: str, content: bytes, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    (run.path / name).write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["mobilenetv2", "report", str(run.path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {run.path / name} is ")
    assert err.count("\n") == 1


def test_damaged_extras_count_as_missing(make_run: MakeRun) -> None:
    run = make_run()
    report.write(run.path)
    whole = json.loads(run.evaluation.read_text())
    run.evaluation.write_text("{")
    run.check.write_text("[1]")
    report.write(run.path)
    again = json.loads(run.evaluation.read_text())
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    assert "mobilenetv2 check finds out" in page_of(run).text


def test_a_folder_without_a_run_or_without_a_model_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no run"):
            report.write(folder)
    run = make_run()
    run.model.unlink()
    with pytest.raises(UsageError, match="no model yet"):
        report.write(run.path)


def test_a_run_under_way_is_marked_as_such(make_run: MakeRun) -> None:
    run = make_run(finished=False, recipe={"name": "mine", "epochs": 5}, recipe_source=None, recipe_changed={})
    report.write(run.path)
    text = page_of(run).text
    assert "has not ended: 2 of 5 epochs are done" in text
    assert "none of the named recipes" in text
    assert report.read(run.path).to_json()["finished"] is False


def test_the_verb_needs_no_torch_and_prints_the_page_or_the_outcome(make_run: MakeRun) -> None:
    run = make_run()
    code = (
        "import sys\nsys.modules.update(torch=None, lightning=None, torchvision=None)\n"
        "from mobilenetv2 import cli\nsys.argv[0] = 'mobilenetv2'\ncli.main()"
    )
    command = [sys.executable, "-c", code, "report", str(run.path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout == f"{run.report}\n"
    outcome = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert outcome == report.read(run.path).to_json()
    assert outcome["classes"] == ["cat", "dog", "owl"]
    assert outcome["accuracy"] == json.loads(run.evaluation.read_text())["top1"]
    assert (outcome["kept_epoch"], outcome["epochs"], outcome["seconds"]) == (2, 2, 3)


def test_an_engine_that_cannot_run_here_leaves_a_report_with_the_reason(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Error("the engine has no kernels for abacus")

    monkeypatch.setattr(facts, "load", refuse)
    run = make_run()
    report.write(run.path)
    assert "not measured: the engine has no kernels for abacus." in page_of(run).text


# ---- the command that repeats a run

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@functools.cache
def verbs() -> Any:
    return typer.main.get_command(cli.app)


def train_context(arguments: list[str]) -> typer.Context:
    return verbs().commands["train"].make_context("train", arguments)


@given(
    paths=st.tuples(texts, texts),
    init=st.none() | texts,
    settings=st.lists(texts, max_size=3),
    devices=st.integers(1, 8),
    workers=st.none() | st.integers(0, 9),
    flags=st.sets(st.sampled_from(["--strict", "--recompute"])),
)
def test_the_command_in_the_report_is_the_one_that_was_given(
    paths: tuple[str, str],
    init: str | None,
    settings: list[str],
    devices: int,
    workers: int | None,
    flags: set[str],
) -> None:
    given_ = [*flags, "-o", paths[1], "--devices", str(devices)]
    given_ += [word for setting in settings for word in ("--set", setting)]
    given_ += ["--init", init] if init is not None else []
    given_ += ["--workers", str(workers)] if workers is not None else []
    context = train_context([*given_, "--", paths[0]])
    words = shlex.split(command_line(context))
    assert words[:2] == ["mobilenetv2", "train"]
    assert train_context(words[2:]).params == context.params


def test_the_command_is_short_and_goes_on_with_nothing() -> None:
    options = ["-o", "runs/1", "--resume", "--set", "epochs=2", "--task", "classification"]
    context = train_context(["my pictures", *options])
    assert command_line(context) == "mobilenetv2 train 'my pictures' --out runs/1 --task classification --set epochs=2"
