"""Runs that go on: what is refused before anything is written, what is in the way, and finished runs made longer."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accidents import TASKS, ended, forked, make_sets, tiny
from mobilenetv2 import cli, files, model_file, report
from mobilenetv2.errors import FileError, TrainingError, UsageError
from mobilenetv2.run_files import RunFiles
from mobilenetv2.train import TrainingRun, fit, hardware, recipes
from mobilenetv2.train.failures import Interrupted, explained
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.lock import NAME, locked


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(report, "write", lambda run, **_: Path(run) / "report.html")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"))


def run_on(sets: Path, out: Path, task: str = "classification", **options: Any) -> TrainingRun:
    chosen = {"recipe": tiny(task, "epochs=2"), "progress": False, "accelerator": "cpu", **options}
    return fit(sets / task, out, **chosen)


def ctrl_c(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C while step `step` of a run is made."""
    look = Learner._look

    def interrupted(self: Learner[Any], loss: Any, batch_idx: int) -> None:
        if self.global_step == step:
            signal.raise_signal(signal.SIGINT)
        look(self, loss, batch_idx)

    monkeypatch.setattr(Learner, "_look", interrupted)


@pytest.fixture(scope="module")
def interrupted(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint in the middle of its second epoch."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        torch.set_num_threads(1)
        patch.setattr(report, "write", lambda run, **_: Path(run) / "report.html")
        ctrl_c(patch, 7)
        assert run_on(sets, out).stopped
    return out


@pytest.fixture
def stopped(interrupted: Path, tmp_path: Path) -> RunFiles:
    """A copy of it."""
    shutil.copytree(interrupted, tmp_path / "run")
    return RunFiles(tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# ---- the checkpoint


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _foreign(file: Path) -> None:
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "bit": _flip,
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(b"\x80\x02garbage" * 99),
    "pickle": lambda file: file.write_bytes(pickle.dumps(Evil())),
    "foreign": _foreign,
    "folder": _folder,
    "pipe": _pipe,
    "link": _link,
}


@pytest.mark.parametrize("noted", [True, False], ids=["of this release", "of an earlier release"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_checkpoint_that_is_none_is_one_line_with_the_way_out(
    damage: str, noted: bool, stopped: RunFiles, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stopped.path.parent)
    if not noted:
        stopped.digests.unlink()
    DAMAGE[damage](stopped.last)
    before = content(stopped.path)
    with pytest.raises(UsageError) as error:
        run_on(sets, stopped.path, resume=True)
    message = str(error.value)
    assert str(stopped.last) in message
    assert "\n" not in message
    assert "remove it" in message or "move it away" in message
    assert not Path("executed").exists()
    kept = {
        name: data for name, data in content(stopped.path).items() if noted or name not in ("run.json", "check.json")
    }
    assert kept.items() <= before.items()


def test_without_its_checkpoint_a_run_begins_again_and_says_so(stopped: RunFiles, sets: Path) -> None:
    stopped.last.unlink()
    run = run_on(sets, stopped.path, resume=True)
    assert any("last.ckpt is gone: the run begins again" in note for note in run.notes)
    assert run.ended == "epochs"


def test_the_checkpoint_before_is_known_as_well_as_the_one_being_written(
    stopped: RunFiles, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, _ = stopped.digests.read_text().split()
    stopped.digests.write_text(f"{'0' * 64}\n{now}\n")  # a kill between the digest and the checkpoint
    ctrl_c(monkeypatch, 8)
    assert run_on(sets, stopped.path, resume=True).stopped
    assert stopped.digests.read_text().split()[1] == now


@pytest.mark.parametrize(
    "settings", ["[" * 200_000, '{"a":' * 200_000, "{}", "[]", '{"recipe": {"epochs": 1e999}}', "\xff"]
)
def test_run_json_that_is_none_is_one_line(settings: str, stopped: RunFiles, sets: Path) -> None:
    stopped.settings.write_text(settings, encoding="latin-1")
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        run_on(sets, stopped.path, resume=True)


@pytest.mark.parametrize("value", [{"held_out": 5}, {"notes": "x"}, {"lengthened": ["x"]}, {"places": []}, {"task": 1}])
def test_a_field_of_run_json_of_another_type_is_one_line(value: dict[str, Any], stopped: RunFiles, sets: Path) -> None:
    stopped.settings.write_text(json.dumps({**json.loads(stopped.settings.read_text()), **value}))
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        run_on(sets, stopped.path, resume=True)


# ---- two at once, and what a kill left


def test_one_run_at_a_time_is_at_work_in_a_folder(stopped: RunFiles, sets: Path, tmp_path: Path) -> None:
    ready, go = os.pipe()

    def hold() -> None:
        with locked(stopped.path):
            os.write(go, b"x")
            signal.pause()

    pid = forked(hold)
    assert os.read(ready, 1) == b"x"
    each: list[dict[str, Any]] = [{"resume": True}, {"overwrite": True}, {}]
    for options in each:
        with pytest.raises(UsageError, match=rf"another run is at work in .*run \(process {pid}\)"):
            run_on(sets, stopped.path, **options)
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    with locked(stopped.path):
        assert (stopped.path / NAME).read_text() == f"{os.getpid()}\n"
    assert not (stopped.path / NAME).exists()


def test_a_worker_that_outlives_a_run_holds_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        pid = forked(signal.pause)
    try:
        with locked(tmp_path / "run"):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    assert not (tmp_path / "run").exists()  # made for nothing


def test_a_lock_never_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "thesis").write_text("precious")
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "thesis")
    with pytest.raises(FileError, match="cannot write"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis").read_text() == "precious"


def test_what_a_kill_left_is_removed_at_the_next_start_and_nothing_else(
    stopped: RunFiles, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (stopped.last, stopped.model, stopped.settings):
        with files.writing(file) as temporary:
            shutil.copy(file, temporary)
            left = temporary.with_name(temporary.name[: -len(file.suffix) - 8] + "a_kill_1" + file.suffix)
            left.write_bytes(b"half of it")
        (stopped.path / f"{left.name}.kept").write_text("no name of ours")
    (stopped.path / ".notes").write_text("mine")
    ctrl_c(monkeypatch, 8)
    run_on(sets, stopped.path, resume=True)
    hidden = {path.name for path in stopped.path.iterdir() if path.name.startswith(".")}
    assert len(hidden) == 4
    assert all(name == ".notes" or name.endswith(".kept") for name in hidden)


# ---- options


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16': did you mean '16-mixed'"),
        ({"precision": "bf16"}, "did you mean 'bf16-mixed'"),
        ({"precision": "nonsense"}, "unknown precision 'nonsense': choose one of auto"),
        ({"accelerator": "tpu"}, "unknown accelerator 'tpu'"),
        ({"devices": 0}, "devices must be a whole number"),
        ({"devices": 100_000}, "devices must be at most"),
        ({"nodes": 0}, "nodes must be a whole number"),
        ({"workers": -1}, "workers must be a whole number from 0 to 256, got -1"),
        ({"workers": 100_000}, "workers must be a whole number from 0 to 256"),
        ({"resume": True, "overwrite": True}, "leave out --overwrite"),
        ({"recipe": tiny("detection")}, "is for detection"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read_or_written(
    option: dict[str, Any], message: str, sets: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run_on(sets, tmp_path / "new" / "run", **option)
    assert not (tmp_path / "new").exists()


def test_float16_on_a_cpu_is_bfloat16_and_said() -> None:
    asked = {"accelerator": "cpu", "devices": 1, "nodes": 1, "workers": None}
    found = hardware.choose(precision="16-mixed", **asked)
    assert found.precision == "bf16-mixed"
    assert found.note is not None
    assert hardware.choose(precision="auto", **asked).precision == "32-true"


def test_a_folder_in_the_place_of_a_runs_file_is_refused_at_the_start(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"model\.safetensors is a folder, and no file of a run: move it away"):
        run_on(sets, tmp_path / "run", overwrite=True)


def cli_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["mobilenetv2", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code


SHORT = ["--set", "size=32", "--set", "width_mult=0.35", "--set", "epochs=1", "--workers", "0"]


def test_the_command_line_overwrites_and_freezes_as_the_recipe_counts(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(sets / "classification"), "-o", str(tmp_path / "run"), *SHORT]
    for number in (0, 2):
        assert not cli_of([*command, "--freeze", str(number), "--overwrite"], monkeypatch)
        assert RunFiles(tmp_path / "run").read_settings()["recipe"]["freeze"] == number
    capsys.readouterr()
    assert cli_of(command, monkeypatch) == 2
    assert "--overwrite" in capsys.readouterr().err


# ---- Ctrl-C


def test_ctrl_c_in_the_first_epoch_ends_with_130_and_says_what_there_is(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        ctrl_c(patch, 0)
        with pytest.raises(Interrupted, match=r"there is no model yet; .* --resume goes on"):
            run_on(sets, tmp_path / "one")
    assert not (tmp_path / "one" / "model.safetensors").exists()
    assert RunFiles(tmp_path / "one").read_settings()["ended"] is None
    ctrl_c(monkeypatch, 0)
    command = ["train", str(sets / "classification"), "-o", str(tmp_path / "run"), *SHORT, "--set", "batch_size=8"]
    assert cli_of(command, monkeypatch) == 130
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("stopped before the end of the first epoch: there is no model yet")


def test_a_second_ctrl_c_ends_the_run_as_such(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Learner._look

    def twice(self: Learner[Any], loss: Any, batch_idx: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        look(self, loss, batch_idx)

    monkeypatch.setattr(Learner, "_look", twice)
    with pytest.raises(KeyboardInterrupt):
        run_on(sets, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- longer


@pytest.mark.parametrize("task", TASKS)
def test_a_finished_run_is_made_longer_and_that_too_can_be_killed(
    task: str, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = tiny(task, "epochs=3")
    assert run_on(sets, tmp_path / "one", task, recipe=tiny(task, "epochs=1")).ended == "epochs"
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = dict(model_file.read(tmp_path / "one" / "model.safetensors").tensors)
    whole = run_on(sets, tmp_path / "one", task, resume=True, recipe=longer)
    assert (whole.epochs, whole.planned, whole.sessions) == (3, 3, 2)
    assert "in 2 sessions" in whole.text()
    assert any("2 more from the weights reached" in note for note in whole.notes)
    with monkeypatch.context() as patch:
        ctrl_c(patch, {"classification": 7, "detection": 5, "segmentation": 5}[task])
        assert run_on(sets, tmp_path / "two", task, resume=True, recipe=longer).stopped
    again = run_on(sets, tmp_path / "two", task, resume=True, recipe=longer)
    assert again.sessions == 3
    ours, theirs = (dict(model_file.read(run.model).tensors) for run in (whole, again))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert not all(np.array_equal(ours[name], before[name]) for name in ours)
    rates = [row["learning_rate"] for row in RunFiles(tmp_path / "one").rows()]
    single = run_on(sets, tmp_path / "three", task, recipe=dataclasses.replace(longer, epochs=2))
    assert rates[1:] == [row["learning_rate"] for row in RunFiles(single.model.parent).rows()]


def test_only_more_epochs_make_a_finished_run_longer(sets: Path, tmp_path: Path) -> None:
    run = run_on(sets, tmp_path / "run", recipe=tiny("classification", "epochs=2"))
    for changes, message in (
        (("epochs=2",), "is finished: give it more than its 2 epochs .--resume --set epochs=4"),
        (("epochs=1",), "began with epochs=2"),
        (("epochs=3", "seed=5"), "began with epochs=2, seed=0"),
    ):
        with pytest.raises(UsageError, match=message):
            run_on(sets, tmp_path / "run", resume=True, recipe=tiny("classification", *changes))
    (tmp_path / "run" / "last.ckpt").unlink()
    with pytest.raises(UsageError, match=r"last\.ckpt is gone: train on from the run's model with --init"):
        run_on(sets, tmp_path / "run", resume=True, recipe=tiny("classification", "epochs=3"))
    assert run.model.exists()


def test_settings_on_the_command_line_change_the_resumed_runs_own_recipe(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", str(sets / "classification"), "-o", str(tmp_path / "run")]
    assert not cli_of([*command, *SHORT], monkeypatch)
    assert not cli_of([*command, "--resume", "--set", "epochs=2", "--workers", "0"], monkeypatch)
    settings = RunFiles(tmp_path / "run").read_settings()
    assert (settings["recipe"]["size"], settings["recipe"]["epochs"], settings["lengthened"]) == (32, 2, [1])
    assert cli_of([*command, "--resume", "--set", "size=64"], monkeypatch) == 2


@pytest.mark.parametrize("changes", [("patience=1", "learning_rate=1e-12"), ("max_minutes=0.001", "epochs=9")])
def test_a_run_that_ended_early_says_why_and_is_over_when_its_end_was_not_noted(
    changes: tuple[str, ...], sets: Path, tmp_path: Path
) -> None:
    recipe = tiny("classification", "epochs=9", "batch_norm_momentum=1e-6", *changes)
    run = run_on(sets, tmp_path / "run", recipe=recipe)
    assert run.ended == ("patience" if recipe.patience else "time")
    assert f"ended after {run.epochs} of 9 epochs" in run.text()
    settings = tmp_path / "run" / "run.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "finished": False, "ended": None}))
    model_file.write(tmp_path / "run" / "start.safetensors", model_file.read(run.model))
    again = run_on(sets, tmp_path / "run", recipe=recipe, resume=True)
    assert (again.epochs, again.ended) == (run.epochs, run.ended)


# ---- what ends a run from outside


def test_a_worker_that_is_killed_is_one_line(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mobilenetv2.train.pictures import Pictures

    main = os.getpid()

    def killed(self: Pictures, index: int) -> Any:
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Pictures, "read", killed)
    with pytest.raises(
        TrainingError, match=r"was ended \(Killed\), as the system does when memory is short: --workers 0"
    ):
        run_on(sets, tmp_path / "run", workers=1, cache_bytes=0)


@pytest.mark.slow
def test_too_little_shared_memory_is_one_line(sets: Path, tmp_path: Path) -> None:
    code = "import sys\nfrom mobilenetv2 import cli\nsys.argv[0] = 'mobilenetv2'\ncli.main()"
    command = [
        "train",
        str(sets / "classification"),
        "-o",
        str(tmp_path / "run"),
        *SHORT[:-1],
        "1",
        "--set",
        "size=128",
    ]
    script = f'mount -t tmpfs -o size=100k tmpfs /dev/shm && exec {sys.executable} -c "$0" "$@"'
    try:
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a mount of its own")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, code, *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the processes that decode pictures have too little shared")
    assert "use --workers 0" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_bug_of_our_own_is_not_explained_away() -> None:
    recipe = recipes.find("basic")
    assert explained(KeyError("x"), recipe, "") is None
    assert explained(RuntimeError("shapes differ"), recipe, "") is None
    of_worker = FileError("Caught in a worker\n  File x\nmobilenetv2.errors.FileError: a.jpg has gone")
    assert str(explained(of_worker, recipe, "epoch 1 is there")) == "a.jpg has gone; epoch 1 is there"


@pytest.mark.parametrize("error", [KeyError("set/images/5.jpg"), RecursionError(), MemoryError(), ValueError("a\nb")])
def test_whatever_the_report_does_the_model_is_safe(
    error: Exception, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Path:
        raise error

    monkeypatch.setattr(report, "write", broken)
    command = ["train", str(sets / "classification"), "-o", str(tmp_path / "run"), *SHORT]
    assert not cli_of(command, monkeypatch)
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'run' / 'model.safetensors'}: epoch 1 of 1")
    assert err.splitlines()[-1].startswith("no report: ")
    assert "mobilenetv2 report" in err.splitlines()[-1]
    assert RunFiles(tmp_path / "run").read_settings()["finished"] is True


def test_a_checkpoint_of_zip_members_alone_is_refused(stopped: RunFiles, sets: Path) -> None:
    stopped.digests.unlink()
    with zipfile.ZipFile(stopped.last, "w") as members:
        members.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(UsageError, match=r"last\.ckpt cannot be read"):
        run_on(sets, stopped.path, resume=True)
