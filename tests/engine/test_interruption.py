"""Whatever interrupts a call, and wherever: later calls answer rightly, and nobody is left behind."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from interrupt import Caller, at_every_place, callers, struck_at

from mobilenetv2 import model_file
from mobilenetv2.engine import Engine, workers
from mobilenetv2.engine.workers import Team
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
SHORT = ((1, 16, 1, 1), (6, 24, 2, 2), (4, 40, 2, 1))
SCRIPT = Path(__file__).with_name("interrupt.py")
PAIRS = os.environ.get("MOBILENETV2_TEST_PAIRS", "3")  # of real signals, for each of five things that are called


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def model(random_model: RandomModel) -> ModelFile:
    return random_model(outputs=10, stages=SHORT)


def assert_ends(threads: set[threading.Thread]) -> None:
    gc.collect()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_two_close_together_leave_no_memory_that_nobody_wrote(model: ModelFile, monkeypatch: Any) -> None:
    engine = Engine(model, size=32, threads=2)
    images = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), np.uint8)
    expected = engine.run(images)["logits"].copy()
    with monkeypatch.context() as patch:
        patch.setattr(Team, "run", stop)
        patch.setattr(Team, "abandon", stop)  # the second one, as the first is dealt with
        with pytest.raises(KeyboardInterrupt):
            engine.run(images)
    with monkeypatch.context() as patch:
        patch.setattr(Team, "__init__", stop)  # and a third one, as the next call makes a new team
        with pytest.raises(KeyboardInterrupt):
            engine.run(images)
    junk = np.full((33, 10), 7, np.float32)
    del junk
    np.testing.assert_array_equal(engine.run(images)["logits"], expected)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_ctrl_c_at_any_instruction_and_another_after_it(model: ModelFile, number: int) -> None:
    caller = callers(model, 16, 2)[number]
    assert at_every_place(caller, seconds=3) > 25
    assert caller.wrong == 0


def test_ctrl_c_as_an_engine_is_made_leaves_no_thread(model: ModelFile) -> None:
    Engine(model, size=16, threads=3)  # its code is there now
    gc.collect()
    before = set(threading.enumerate())

    first = 0
    for first in range(1, 40):
        team = Team.__new__(Team)
        program: Any = SimpleNamespace(serve=lambda *_: None)
        hit = struck_at(lambda team=team, program=program: team.__init__(program, 4, 16), first)
        del team
        if not hit:
            break
    assert first > 20
    assert_ends(set(threading.enumerate()) - before)


def test_an_engine_that_cannot_be_made_anew_says_so_until_it_can(model: ModelFile, monkeypatch: Any) -> None:
    engine = Engine(model, size=16, threads=2)
    caller = Caller("engine", lambda: engine.run(np.zeros((3, 16, 16, 3), np.uint8))["logits"])

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Team, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            caller.run()
        patch.setattr(workers, "Memory", no_memory)
        for _ in range(2):
            with pytest.raises(MemoryError):
                caller.run()
    caller.run()
    assert (caller.runs, caller.wrong) == (1, 0)


def test_the_threads_of_a_call_that_was_interrupted_end(model: ModelFile, monkeypatch: Any) -> None:
    before = set(threading.enumerate())
    engine = Engine(model, size=16, threads=3)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    with monkeypatch.context() as patch:
        patch.setattr(Team, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            engine.run(np.zeros((1, 16, 16, 3), np.uint8))
    assert_ends(started)


def test_real_signals_in_pairs_and_alone_give_no_wrong_answer(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(path, model)
    command = [sys.executable, str(SCRIPT), "--model", str(path), "--pairs", PAIRS, "--runs", str(10 * int(PAIRS))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(" 0 wrong") == 10
    assert ended.stderr == ""


def test_fewer_threads_than_asked_for_give_the_same_bits_and_one_line(
    model: ModelFile, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    expected = Engine(model, size=32).run(images)["logits"]
    start = threading.Thread.start

    def at_most(limit: int) -> Callable[[threading.Thread], None]:
        count = 0

        def begin(thread: threading.Thread) -> None:
            nonlocal count
            count += 1
            if count > limit:
                raise RuntimeError("can't start new thread")
            start(thread)

        return begin

    for limit in (0, 1):
        monkeypatch.setattr("mobilenetv2.notes._said", set())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", at_most(limit))
            engine = Engine(model, size=32, threads=4, batch=9)
            again = Engine(model, size=32, threads=4)
        np.testing.assert_array_equal(engine.run(images)["logits"], expected)
        np.testing.assert_array_equal(engine.run(images[:1])["logits"], expected[:1])
        np.testing.assert_array_equal(again.run(images)["logits"], expected)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith(f"note: the engine runs on {limit + 1} of 4 threads, with the same results: ")
