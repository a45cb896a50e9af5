"""Runs in processes of their own that are killed, or whose disk is full: forks, as torch takes seconds to import."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detection_sets import drawn, write_coco
from mobilenetv2 import model_file, report
from mobilenetv2.data import shapes
from mobilenetv2.data.shape_sets import write_image_folder, write_segmentation_folder
from mobilenetv2.run_files import RunFiles
from mobilenetv2.train import fit, recipes, saver, with_settings
from mobilenetv2.train.recipes import Recipe

TASKS = ("classification", "detection", "segmentation")
_CHANGES = {
    "classification": ("size=32", "batch_size=12", "ema=0.5", "dropout=0.2", "mixup=0.3"),
    "detection": ("size=64", "batch_size=4"),
    "segmentation": ("size=33", "batch_size=4"),
}


def make_sets(folder: Path) -> Path:
    """A tiny data set of each task, in folders of their names."""
    write_image_folder(folder / "classification", train=60, val=20, size=32)
    write_segmentation_folder(folder / "segmentation", train=12, val=10, size=32)
    write_coco(folder / "detection", drawn(0, 12), shapes.CLASSES, "train")
    write_coco(folder / "detection", drawn(12, 6), shapes.CLASSES, "val")
    return folder


def tiny(task: str, *changes: str) -> Recipe:
    settings = ["width_mult=0.35", "epochs=3", *_CHANGES[task], *changes]
    return with_settings(recipes.default(task, init=False), settings)


def session(sets: Path, task: str, out: Path, *, save_every_s: float = 0, **options: Any) -> None:
    """One session of a run: the first, or the next. 0 seconds are a checkpoint after every step."""
    torch.set_num_threads(1)
    saver.SAVE_EVERY_S = save_every_s
    report.write = lambda run, **_: Path(run) / "report.html"  # pyright: ignore[reportAttributeAccessIssue]
    resume = (out / "run.json").exists()
    fit(
        sets / task, out, recipe=tiny(task), resume=resume, overwrite=not resume, progress=False, accelerator="cpu",
        **options,
    )  # fmt: skip


def forked(work: Callable[[], Any]) -> int:
    """The id of a process that does `work`, and leaves at once, with 0 where it was done."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 : the status says it
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """How a process ended: its exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def result_of(work: Callable[[], Any]) -> Any:
    """What `work` gives in a process of its own, which has gone then with all that it mounted."""
    reader, writer = os.pipe()

    def send() -> None:
        os.close(reader)
        with open(writer, "wb") as sink:
            pickle.dump(work(), sink)

    pid = forked(send)
    os.close(writer)
    with open(reader, "rb") as source:
        data = source.read()
    assert ended(pid) == 0
    return pickle.loads(data)


def kill_at_write(number: int) -> None:
    """End this process with -9 just before the `number`th of its writes to disk or of the renamings after them."""
    left = [number]

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return killed

    os.fsync, os.replace = killing(os.fsync), killing(os.replace)


def mount_small_disk(folder: Path, kilobytes: int) -> None:
    """A disk of this size at `folder`, which this process and its children alone see. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    if ctypes.CDLL(None, use_errno=True).unshare(0x0002_0000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "no mount namespace of one's own")
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)],
    ):
        _run(command)


def enlarge_disk(folder: Path, kilobytes: int) -> None:
    _run(["mount", "-o", f"remount,size={kilobytes}k", str(folder)])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(error.errno, "no mount command") from None
    if done.returncode:
        raise OSError(done.returncode, done.stderr.strip())


def outcome(out: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """The weights and the epochs of a run, without what depends on the clock."""
    rows = [
        {name: value for name, value in row.items() if name not in ("seconds", "pictures_per_second")}
        for row in RunFiles(out).rows()
    ]
    return dict(model_file.read(out / "model.safetensors").tensors), rows


def differences(left: Path, right: Path) -> list[str]:
    """In what two runs differ: names of tensors, or "metrics"."""
    (ours, our_rows), (theirs, their_rows) = outcome(left), outcome(right)
    found = [name for name in ours.keys() | theirs.keys() if not np.array_equal(ours[name], theirs[name])]
    return found + ["metrics"] * (our_rows != their_rows)


def litter(out: Path) -> list[str]:
    """Hidden files in a run's folder: whatever a kill left."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in out.iterdir() if path.name.startswith("."))
    return []
