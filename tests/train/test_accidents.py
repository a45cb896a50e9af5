"""Kills at any moment and full disks: nothing is lost, the result is the same to the last bit, every message is true.

MOBILENETV2_KILLS and MOBILENETV2_DISKS say how many of them: 50 and 20 are what a release is checked with.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from accidents import (
    TASKS,
    differences,
    ended,
    enlarge_disk,
    forked,
    kill_at_write,
    litter,
    make_sets,
    mount_small_disk,
    result_of,
    session,
)
from mobilenetv2 import model_file
from mobilenetv2.errors import Error
from mobilenetv2.run_files import RunFiles

KILLS = int(os.environ.get("MOBILENETV2_KILLS", 3))
DISKS = int(os.environ.get("MOBILENETV2_DISKS", 1))
MOST_IN_A_RUN = 5  # kills, after which a session is left alone


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def whole(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, float]]:
    """A run of each task that nothing happened to, and the seconds that it took."""
    found = {}
    for task in TASKS:
        out, began = tmp_path_factory.mktemp(task) / "run", time.monotonic()
        assert ended(forked(lambda task=task, out=out: session(sets, task, out))) == 0
        found[task] = out, time.monotonic() - began
    return found


@pytest.mark.few(1)
@pytest.mark.parametrize("task", TASKS)
def test_a_run_killed_at_any_moments_gives_the_same_bits(
    task: str, sets: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    reference, seconds = whole[task]
    rng = np.random.default_rng(TASKS.index(task))
    kills, runs = 0, 0
    while kills < -(-KILLS // len(TASKS)):
        out, here, status = tmp_path / f"{runs}" / "run", 0, 0
        runs += 1
        while not (out / "run.json").exists() or not json.loads((out / "run.json").read_text())["finished"]:
            at_write = here < MOST_IN_A_RUN and bool(rng.integers(2))

            def one(out: Path = out, write: int = int(rng.integers(40)) if at_write else -1) -> None:
                if write >= 0:
                    kill_at_write(write)
                session(sets, task, out)

            pid = forked(one)
            if not at_write and here < MOST_IN_A_RUN:
                time.sleep(rng.uniform(0, seconds))
                os.kill(pid, signal.SIGKILL)
            status = ended(pid)
            assert status in (0, -signal.SIGKILL)
            here += status != 0
        kills += here
        assert differences(out, reference) == []
        if status == 0:  # a run killed after it was finished is begun no more, and keeps its free lock
            assert litter(out) == []
    print(f"{task}: {kills} kills in {runs} runs, all of the same bits")


def sizes() -> list[int]:
    """In KB, evenly spread by their ratio; one alone is filled by the second epoch or the third."""
    return [6_000] if DISKS == 1 else np.geomspace(300, 20_000, DISKS).round().astype(int).tolist()


@pytest.mark.few(1)
@pytest.mark.parametrize("kilobytes", sizes())
@pytest.mark.parametrize("task", TASKS)
def test_after_a_full_disk_the_message_is_true_and_the_run_goes_on(
    task: str, kilobytes: int, sets: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    disk, reference = tmp_path / "disk", whole[task][0]

    def fill() -> dict[str, object]:
        try:
            mount_small_disk(disk, kilobytes)
        except OSError as error:
            return {"refused": str(error)}
        out = disk / "run"
        found: dict[str, object] = {"message": None}
        try:
            session(sets, task, out, save_every_s=600)  # an epoch at a time, so that some end before the disk is full
        except Error as error:
            found["message"] = str(error)
        model, last = out / "model.safetensors", out / "last.ckpt"
        found["epoch"] = model_file.read(model).info.provenance["epoch"] if model.exists() else None
        found["last"], found["litter"], found["there"] = last.exists(), litter(out), out.exists()
        found["rows"] = len(RunFiles(out).rows())
        enlarge_disk(disk, 100_000)
        if found["message"] is not None:
            session(sets, task, out, save_every_s=600)
        found["differences"], found["litter at the end"] = differences(out, reference), litter(out)
        return found

    found = result_of(fill)
    if "refused" in found:
        pytest.skip(f"needs a disk of its own: {found['refused']}")
    assert found["differences"] == []
    assert found["litter"] == found["litter at the end"] == []
    message = found["message"]
    print(f"{task}, {kilobytes:,} KB: {message or 'enough'}")
    if message is None:
        return
    assert isinstance(message, str)
    assert "No space left on device" in message
    named = re.search(r"epoch (\d+) is in (\S+);", message)
    assert (None if named is None else int(named[1])) == found["epoch"]
    assert ("nothing was saved" in message) == (not found["last"] and found["epoch"] is None)
    assert ("--resume goes on" in message) == found["last"]
    if "nothing was saved" in message:
        assert not found["there"]  # the next try needs the folder
    after = re.search(r"goes on after epoch (\d+)", message)
    if after is not None:
        assert int(after[1]) <= int(str(found["rows"]))
