"""Machine code on disk: found again, never trusted when damaged, never in the way."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilenetv2.engine import Engine, cache, jit
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
TINY = ((1, 8, 1, 1),)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


def never() -> bytes:
    raise AssertionError("built although it was there")


def test_code_is_built_once_and_found_again(folder: Path) -> None:
    assert cache.machine_code("plan", lambda: b"code") == b"code"
    assert cache.machine_code("plan", never) == b"code"
    assert cache.machine_code("other plan", lambda: b"other") == b"other"
    assert len(list(folder.iterdir())) == 2


def test_only_the_owner_may_enter_the_folder(folder: Path) -> None:
    cache.machine_code("plan", lambda: b"code")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert next(folder.iterdir()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"mobilenetv2 engine 2\n", b"\0" * 100])
def test_a_damaged_file_is_built_anew(folder: Path, damage: bytes) -> None:
    cache.machine_code("plan", lambda: b"code")
    next(folder.iterdir()).write_bytes(damage)
    assert cache.machine_code("plan", lambda: b"code again") == b"code again"
    assert cache.machine_code("plan", never) == b"code again"


@pytest.mark.parametrize("position", [0, 30, -1])
def test_one_changed_byte_is_noticed(folder: Path, position: int) -> None:
    cache.machine_code("plan", lambda: b"code" * 50)
    path = next(folder.iterdir())
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert cache.machine_code("plan", lambda: b"new") == b"new"


def test_one_files_code_is_not_anothers(folder: Path) -> None:
    cache.machine_code("plan", lambda: b"code")
    (first,) = folder.iterdir()
    cache.machine_code("other", lambda: b"other")
    (second,) = set(folder.iterdir()) - {first}
    first.replace(second)
    assert cache.machine_code("other", lambda: b"built") == b"built"


def test_a_file_that_others_may_write_is_not_run(folder: Path) -> None:
    cache.machine_code("plan", lambda: b"code")
    next(folder.iterdir()).chmod(0o622)
    assert cache.machine_code("plan", lambda: b"mine") == b"mine"


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.machine_code("plan", lambda: b"code") == b"code"


def test_the_cache_can_be_turned_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENETV2_CACHE", "off")
    assert cache.machine_code("plan", lambda: b"code") == b"code"
    assert not folder.exists()


def test_the_least_recently_used_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3500)
    for age, name in ((300, "oldest"), (200, "older"), (100, "old")):
        before = set(folder.iterdir()) if folder.exists() else set()
        cache.machine_code(name, lambda: bytes(1000))
        (path,) = set(folder.iterdir()) - before
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    cache.machine_code("oldest", never)  # used again: now the newest
    cache.machine_code("new", lambda: bytes(1000))
    cache.machine_code("oldest", never)
    assert cache.machine_code("older", lambda: b"gone") == b"gone"


def test_what_an_interrupted_write_left_is_not_read_and_removed_later(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    left = folder / ".new-left"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    cache.machine_code("plan", lambda: b"code")
    assert not left.exists()


FILL = """
from mobilenetv2.engine import cache
for turn in range({turns}):
    for i in range(20):
        name = str(i + 20 * turn * {fresh})
        assert cache.machine_code(name, lambda: bytes([i]) * 50_000) == bytes([i]) * 50_000
"""


@pytest.mark.slow
def test_processes_may_fill_one_cache_together(folder: Path) -> None:
    code = FILL.format(turns=1, fresh=0)
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(list(folder.iterdir())) == 20


@pytest.mark.slow
def test_a_process_killed_while_it_writes_leaves_nothing_wrong(folder: Path) -> None:
    for delay in (0.0, 0.01, 0.02, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", FILL.format(turns=10_000, fresh=1)])
        while not folder.exists() or not list(folder.iterdir()):
            assert writer.poll() is None
        time.sleep(delay)
        writer.kill()
        writer.wait()
    for i in range(20):
        assert cache.machine_code(str(i), lambda i=i: bytes([i]) * 50_000) == bytes([i]) * 50_000


def test_a_second_engine_compiles_nothing(random_model: RandomModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(outputs=4, stages=TINY)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    expected = Engine(model, size=16).run(images)["logits"]
    other = random_model(outputs=4, stages=TINY, seed=1)
    monkeypatch.setattr(jit, "object_code", lambda *_: never())
    np.testing.assert_array_equal(Engine(model, size=16).run(images)["logits"], expected)
    assert not np.array_equal(Engine(other, size=16).run(images)["logits"], expected)  # weights are not in the code
    with pytest.raises(AssertionError, match="built"):
        Engine(model, size=17)
