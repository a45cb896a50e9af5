"""Threads under Ctrl-C, after a fork, and many at once."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenetv2 import model_file
from mobilenetv2.engine import Engine
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
SHORT = ((1, 16, 1, 1), (6, 24, 2, 2), (4, 40, 2, 1))


def pictures(size: int, *, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


INTERRUPTED = """
import random, signal, sys, threading, time
import numpy as np
from mobilenetv2.engine import Engine
threads, batch = int(sys.argv[2]), int(sys.argv[3])
engine = Engine(sys.argv[1], size=64, threads=threads)
images = np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3), np.uint8)
expected = engine.run(images)["logits"]
caught = 0
random.seed(1)
signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer's signal raises what Ctrl-C raises
for turn in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 0.01))
        while True:
            engine.run(images)
    except KeyboardInterrupt:
        caught += 1
    assert np.array_equal(engine.run(images)["logits"], expected)
time.sleep(0.2)
print(caught, threading.active_count())
"""


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (2, 1), (2, 40), (3, 2)])
def test_ctrl_c_at_any_time_leaves_an_engine_that_works(
    random_model: RandomModel, tmp_path: Path, threads: int, batch: int
) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(path, random_model(outputs=10, stages=SHORT))
    command = [sys.executable, "-c", INTERRUPTED, str(path), str(threads), str(batch)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    caught, running = map(int, ended.stdout.split())
    assert caught == 60
    assert running == threads  # those of abandoned teams have ended


def test_ctrl_c_does_not_wait_for_the_rest_of_a_batch(random_model: RandomModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(path, random_model(outputs=10))
    code = (
        "import os, signal, sys, threading, time\nimport numpy as np\nfrom mobilenetv2.engine import Engine\n"
        "engine = Engine(sys.argv[1], size=224, threads=2)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells let what runs behind ignore it
        "pictures = np.zeros((3000, 224, 224, 3), np.uint8)\nbegun = time.monotonic()\n"
        "try:\n    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n    engine.run(pictures)\n"
        "except KeyboardInterrupt:\n    print(time.monotonic() - begun)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert float(ended.stdout) < 2, ended.stderr


def test_a_forked_process_goes_on_with_the_engine(random_model: RandomModel) -> None:
    engine = Engine(random_model(outputs=10, stages=SHORT), size=32, threads=2)
    expected = engine.run(pictures(32))["logits"]
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(engine.run(pictures(32))["logits"], expected) else 1)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        pytest.fail("the child hangs")
    assert status == 0
    np.testing.assert_array_equal(engine.run(pictures(32))["logits"], expected)


def test_many_threads_may_use_two_engines_at_once(random_model: RandomModel) -> None:
    model = random_model(outputs=10, stages=SHORT)
    images = pictures(32)
    engines = [Engine(model, size=32, threads=threads) for threads in (1, 2)]
    expected = engines[0].run(images)["logits"]
    agreed: list[bool] = []

    def work(number: int) -> None:
        answers = (engines[(number + i) % 2].run(images)["logits"] for i in range(250))
        agreed.extend(np.array_equal(answer, expected) for answer in answers)

    callers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert agreed == [True] * 1000


@pytest.mark.slow
def test_calls_that_come_just_as_threads_go_to_sleep_are_answered(random_model: RandomModel) -> None:
    engine = Engine(random_model(outputs=10, stages=((1, 8, 1, 1),)), size=16, threads=3)
    images = [pictures(16), pictures(16, batch=7)]
    expected = [engine.run(image)["logits"] for image in images]
    # a thread waits 100 to 300 microseconds before it sleeps
    pauses = np.random.default_rng(0).uniform(0, 600e-6, 4000)
    agreed: list[bool] = []

    def work() -> None:
        for i, pause in enumerate(pauses):
            until = time.perf_counter() + pause
            while time.perf_counter() < until:
                pass
            which = i % 5 == 0
            agreed.append(np.array_equal(engine.run(images[which])["logits"], expected[which]))

    caller = threading.Thread(target=work, daemon=True)
    caller.start()
    caller.join(timeout=60)
    assert agreed == [True] * len(pauses)


def test_threads_without_work_take_no_time(random_model: RandomModel) -> None:
    engine = Engine(random_model(outputs=10, stages=SHORT), size=32, threads=3)
    engine.run(pictures(32))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_a_forgotten_engine_ends_its_threads(random_model: RandomModel) -> None:
    before = set(threading.enumerate())
    engine = Engine(random_model(outputs=10, stages=SHORT), size=32, threads=3)
    engine.run(pictures(32))
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del engine
    gc.collect()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()
