"""Command lines: every verb with good and bad values for its arguments and options, run as the console script does."""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.detection_files import write_coco
from data.segmentation_files import write_folders
from fuzz.models import joined, signed, split
from fuzz.pictures import small
from fuzz.sandbox import LONGEST, Case, WrongAnswerError, has_controls
from fuzz.targets import Maker, Target, models
from fuzz.values import TEXTS, bytes_changed
from mobilenetv2 import model_file
from mobilenetv2.errors import Error

_CODES = (0, 1, 2, 130)
# Nothing that a writing verb is given leads out of the working folder: these alone are named as outputs.
_OUTPUTS = (
    "out.png",
    "new/out",
    "out",
    "",
    " ",
    "a.png",
    "a.png/x",
    "set",
    "x\x1b[31m",
    "y" * 300,
    "-",
    "é.json",
    "n\nl.json",
    "model.safetensors",
)
_WRITTEN = {"out", "draw", "masks", "report", "save_mistakes", "save", "coco"}
_TEXTS = tuple(text.replace("\x00", "").replace("\ud800", "\udc80") for text in TEXTS)  # what a command line can hold
_WORDS: dict[str, tuple[str, ...]] = {
    "backend": ("engine", "reference", "Engine", "onnx", ""), "split": ("train", "val", "test", "VAL", "x"),
    "recipe": ("imagenet", "x"), "task": ("classification", "detection", "segmentation"),
    "background": ("first", "last", "none"), "resize": ("40", "none", "0", "1e3"),
    "source": ("torchvision", "keras", "x"), "to": ("torchvision", "keras"),
    "budget": ("1KB", "512KB", "1MiB", "9" * 400 + "GB", "1.5.5KB", "-1"),
    "settings": ("epochs=1", "epochs=nan", "lr=1e999", "x=1", "=", "size=9999999999", "batch=1.5", "lr=" + "9" * 5_000),
    "precision": ("32", "bf16", "8"), "size": ("32", "8192", "8193"), "crop": ("32", "64", "8192"),
}  # fmt: skip
# The options that are numbers, by name: the library that parses them says it differently in each of its versions.
_COUNTED = {
    "top", "score", "iou", "most", "threads", "crop", "size", "ignore", "batch", "output_stride", "rounds", "freeze",
    "devices", "nodes", "workers", "seconds", "seeds", "starts", "epochs", "lr",
}  # fmt: skip
_NUMBERS = (
    "0",
    "1",
    "2",
    "-1",
    "3.5",
    "1e3",
    "nan",
    "inf",
    "16",
    "257",
    "99999999999999999999",
    "9" * 5_000,
    "0x10",
    "1_000",
    "٣",
    "",
)


def _prepare(folder: Path) -> Maker:
    import typer

    from mobilenetv2 import cli

    with contextlib.suppress(ImportError):
        importlib.import_module("mobilenetv2.train.fit")  # with torch: no child could import it in its time
    group: Any = typer.main.get_command(cli.app)
    verbs = dict(_verbs(group, ()))
    files = _write_inputs(folder)

    def make(rng: random.Random, here: Path) -> Case:
        for name in files:
            (here / name).symlink_to(folder / name)
        (here / "a.png").unlink()
        (here / "a.png").write_bytes((folder / "a.png").read_bytes())
        path = rng.choice(_OFTEN) if rng.random() < 0.7 else rng.choice(sorted(verbs))
        words = [*path, *_words(rng, path, verbs[path], files)]

        def run() -> None:
            _as_the_shell(cli.main, words, here)

        def sound() -> bool:
            with verbs[path].make_context("mobilenetv2", words[len(path) :]):
                return True

        return Case(run, sound, " ".join(ascii(word)[:60] for word in words), threads=256)

    return make


_OFTEN = (("predict",), ("evaluate",), ("import",), ("info",), ("check",), ("train",))


def _verbs(group: Any, path: tuple[str, ...]) -> Any:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, (*path, name))
        else:
            yield (*path, name), command


def _write_inputs(folder: Path) -> tuple[str, ...]:
    """Models, pictures and data sets, good ones and such as nobody should have."""
    for task, model in models().items():
        model_file.write(folder / f"{task}.safetensors", model)
    good = (folder / "classification.safetensors").read_bytes()
    header, numbers = split(good)
    ours = json.loads(header["__metadata__"]["mobilenetv2"])
    ours.pop("sha256")
    bad = {
        "evil": {"labels": ["\x1b[31mred", "two\nlines\u202e", "x" * 5_000]},
        "version": {"format_version": "\x1b[31m" + "9" * 5_000},
        "listed": {"provenance": [1, 2]},
        "spec": {"spec": {**ours["spec"], "backbone": {"padding": "\x1b]0;t\x07" * 100}}},
    }
    for name, changes in bad.items():
        again = {**header, "__metadata__": {"mobilenetv2": signed({**ours, **changes})}}
        (folder / f"{name}.safetensors").write_bytes(joined(again, numbers))
    (folder / "broken.safetensors").write_bytes(bytes_changed(random.Random(1), good))
    (folder / "foreign.safetensors").write_bytes(
        joined({"\x1b[31m" + "n" * 3_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    )
    model = models()["classification"]
    model_file.write(folder / "bare.safetensors", replace(model, info=replace(model.info, labels=())))
    small().save(folder / "a.png")
    small().save(folder / "b\x1b[31m.jpg")
    (folder / "cut.jpg").write_bytes((folder / "b\x1b[31m.jpg").read_bytes()[:300])
    (folder / "empty").write_bytes(b"")
    for label in ("cat", "dog\x1b[31m"):
        (folder / "set" / label).mkdir(parents=True)
        small().save(folder / "set" / label / "1.png")
    write_coco(folder / "boxes")
    write_folders(folder / "pairs")
    (folder / "list.csv").write_text("a.png,cat\nnothing.png,x\x1b[31m\n")
    (folder / "names.txt").write_text("cat\ndog\x1b]0;t\x07\n\nowl\n")
    (folder / "zero").symlink_to("/dev/zero")
    return tuple(sorted(entry.name for entry in folder.iterdir()))


def _words(rng: random.Random, path: tuple[str, ...], command: Any, files: tuple[str, ...]) -> list[str]:
    """Arguments and options of a verb. Those that would work for minutes get one that they must refuse."""
    words: list[str] = []
    chance = rng.choice((0.0, 0.05, 0.1, 0.2))
    for one in command.params:
        if one.param_type_name == "argument":
            words += [_input(rng, one.name, files) for _ in range(rng.choice((1, 1, 1, 2)) if one.nargs == -1 else 1)]
        elif one.required or rng.random() < chance:
            words.append(one.opts[0])
            if not one.is_flag:
                words.append(_value(rng, one, files))
    if path[0] in ("train", "demo", "bench", "paper"):
        words += {"train": ["--devices", "0"], "demo": ["--seconds", "-1"], "bench": ["--runtime", "x"]}.get(
            path[0], ["--nothing"]
        )
    return words


def _input(rng: random.Random, name: str, files: tuple[str, ...]) -> str:
    """What an argument of this name is, mostly; else any file, or no file."""
    fitting = {
        "model": [file for file in files if file.endswith(".safetensors")],
        "photos": ["a.png", "b\x1b[31m.jpg", "cut.jpg", "zero", "set"],
        "dataset": ["set", "boxes", "pairs", "list.csv", "empty"],
    }  # fmt: skip
    if name in fitting and rng.random() < 0.85:
        return rng.choice(fitting[name])
    return rng.choice((*files, *_TEXTS, "https://127.0.0.1:1/x.tar", "{1..99999999}.tar"))


def _value(rng: random.Random, option: Any, files: tuple[str, ...]) -> str:
    if option.name in _WRITTEN:
        return rng.choice(_OUTPUTS)
    if option.name in _WORDS and rng.random() < 0.7:
        return rng.choice(_WORDS[option.name])
    if option.name in _COUNTED:
        return rng.choice(("1", "2", "32", "0.5") if rng.random() < 0.4 else _NUMBERS if rng.random() < 0.8 else _TEXTS)
    return rng.choice((*files, *_TEXTS))


def _as_the_shell(main: Any, words: list[str], here: Path) -> None:
    """Raises `WrongAnswerError` for another exit code, a traceback, or text that no terminal should get; an `Error`
    where the command was refused."""
    sys.argv = ["mobilenetv2", *words]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = (
        (here.parent / f"{here.name}.{name}").read_bytes().decode(errors="surrogateescape") for name in ("out", "err")
    )
    lines = err.splitlines()
    if code not in _CODES:
        raise WrongAnswerError(f"exit code {code!r}")
    if "Traceback (most recent call last)" in err:
        raise WrongAnswerError(f"a traceback: {lines[-1]}")
    if "not enough memory" in err:
        raise WrongAnswerError("it ran out of memory")
    for where, text in (("stdout", out), ("stderr", err)):
        if has_controls(text.replace("\n", "")):
            raise WrongAnswerError(f"control characters on {where}")
    if any(len(line) > LONGEST for line in lines):
        raise WrongAnswerError(f"a line of {max(map(len, lines)):,} characters on stderr")
    if code == 2 and sum(line.startswith("error:") for line in lines) != 1 and not err.startswith("Usage:"):
        raise WrongAnswerError(f"{len(lines)} lines for a wrong command")
    if code:
        raise Error(lines[-1] if lines else "")


TARGETS = (Target("cli", _prepare, 0.6),)
