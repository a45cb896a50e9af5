"""What cannot be an argument of the engine is one `UsageError`, before any memory is asked for."""

import contextlib
import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenetv2 import files, looks, notes, upsample
from mobilenetv2.engine import Engine, cache, ir, memory, pack, program, reference
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import ConvSpec

RandomModel = Callable[..., ModelFile]
TINY = ((1, 8, 1, 1),)


@pytest.fixture(scope="module")
def model(random_model: RandomModel) -> ModelFile:
    return random_model(outputs=3, stages=TINY)


@pytest.fixture(scope="module")
def segmenter(random_segmenter: RandomModel) -> Engine:
    model = random_segmenter(stages=((1, 8, 1, 1), (2, 8, 1, 2)), head={"channels": 8})
    return Engine(model, size=17)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": "2"}, "threads must be a whole number from 1 to 256, got '2'"),
        ({"threads": None}, "threads must be"),
        ({"threads": 1.5}, "threads must be"),
        ({"batch": "a"}, "batch must be a whole number from 1 up, got 'a'"),
        ({"batch": True}, "batch must be"),
        ({"batch": 10**30}, r"needs .* GiB of memory, and .* is available"),
        ({"budget": "x"}, "budget must be"),
        ({"budget": -1}, "budget must be"),
        ({"precision": np.zeros(2)}, "precision must be fp32"),
        ({"size": 1.5}, r"size must be \(height, width\) or one whole number, got 1.5"),
        ({"size": "32"}, "size must be"),
        ({"size": (1, 2, 3)}, "size must be"),
        ({"size": (32.0, 32.0)}, "size must be"),
        ({"size": True}, "size must be"),
        ({"size": 0}, "the input size must be positive, got 0 x 0"),
        (
            {"size": (10**6, 10**6)},
            r"1000000 x 1000000 needs 2,794.0 GiB of memory, and .* is available: use a smaller",
        ),
        ({"size": 10**30}, r"needs 2.8e\+51 GiB"),
        ({"size": 10**400}, r"needs more than 1e300 GiB"),
        ({"size": 10**5000}, r"a number of thousands of digits"),
        ({"size": (1, 10**6)}, r"at most 100,000 pixels a side, got 1 x 1000000"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(model: ModelFile, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        Engine(model, **{"size": 16, **arguments})
    assert len(str(raised.value)) <= 600


@pytest.mark.parametrize("wrong", [5, None, [1]])
def test_a_model_is_a_path_a_name_or_a_model_file(wrong: Any) -> None:
    with pytest.raises(UsageError, match="model must be a path, a name or a ModelFile"):
        Engine(wrong)


def test_numbers_of_numpy_are_numbers(model: ModelFile) -> None:
    one: Any = np.int64(1)
    side: Any = np.int32(15)
    made = Engine(model, size=(16 * one, side), threads=one, batch=one, budget=one * 10**9)
    assert repr(made.plan) == repr(Engine(model, size=[16, 15], budget=10**9).plan)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("images", [[1, 2], None, 5, "x", np.float32(1), np.zeros((1, 16, 16, 3), object)])
def test_images_that_are_none_are_refused(model: ModelFile, images: Any) -> None:
    for backend in (Engine(model, size=16), ReferenceBackend(model)):
        with pytest.raises(UsageError, match="images must be"):
            backend.run(images)


def test_memory_that_is_not_there_is_not_asked_for(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(model, size=16)
    monkeypatch.setattr(memory, "UNASKED", 0)
    monkeypatch.setattr(memory, "available", lambda: 100)
    with pytest.raises(UsageError, match=r"one image of 16 x 16 needs 0.0 MiB of memory, and 0.0 MiB is available"):
        Engine(model, size=16)
    with pytest.raises(Error, match="use a smaller batch"):
        engine.run(np.zeros((100, 16, 16, 3), np.uint8))
    with pytest.raises(Error, match=r"features.0.0 in the reference backend needs"):
        ReferenceBackend(model).run(np.zeros((1, 16, 16, 3), np.uint8))


def test_what_is_available_keeps_to_the_limits_of_the_process() -> None:
    assert 0 < memory.available() < 1 << 50
    assert memory.shown(3 << 20) == "3.0 MiB"
    assert memory.shown(3 << 40) == "3,072.0 GiB"


BAD_PLACES = {
    "no places": None,
    "outside": upsample.Places(3, np.array([3]), np.zeros(1, np.float32)),
    "before": upsample.Places(3, np.array([-1]), np.zeros(1, np.float32)),
    "of another length": upsample.Places(3, np.array([1]), np.zeros(2, np.float32)),
    "a list": upsample.Places(3, [1], [0.0]),  # pyright: ignore[reportArgumentType]
    "no map": upsample.Places(0, np.zeros(0, np.intp), np.zeros(0, np.float32)),
}


@pytest.mark.parametrize("places", list(BAD_PLACES.values()), ids=list(BAD_PLACES))
def test_masks_and_averages_read_nothing_outside_their_maps(segmenter: Engine, places: Any) -> None:
    good = upsample.resized(3, 9, align_corners=True)
    logits = np.zeros((1, 3, 3, 5), np.float32)
    for rows, columns in ((places, good), (good, places)):
        with pytest.raises(UsageError):
            segmenter.best_classes(logits, rows, columns)
        with pytest.raises(UsageError):
            segmenter.best_on_average([looks.Look(logits[0], rows, columns)], (9, 9))


def test_maps_and_looks_of_other_kinds_are_refused(segmenter: Engine) -> None:
    good = upsample.resized(3, 9, align_corners=True)
    logits = np.zeros((1, 3, 3, 5), np.float32)
    wrong: list[Any] = [None, [1], logits[0], logits[..., :4], logits.astype(object), logits[:, :2]]
    for one in wrong:
        with pytest.raises(UsageError, match="logits must be"):
            segmenter.best_classes(one, good, good)
    seen = looks.Look(logits[0], good, good)
    others: list[Any] = [None, [], [1], [seen, looks.Look(logits[0, ..., :4], good, good)], [looks.Look(5, good, good)]]  # pyright: ignore[reportArgumentType]
    for one in others:
        with pytest.raises(UsageError, match=r"looks|logits"):
            segmenter.best_on_average(one, (9, 9))
    sizes: list[Any] = [None, 9, (9,), (9.0, 9), (8, 9), (True, 9)]
    for size in sizes:
        with pytest.raises(UsageError):
            segmenter.best_on_average([seen], size)
    with pytest.raises(UsageError, match="top of a look"):
        segmenter.best_on_average([looks.Look(logits[0], good, good, top=1)], (9, 9))
    for size in ("x", (1.0, 2), None, (10**9, 10**9)):
        with pytest.raises(UsageError, match=r"size|memory"):
            segmenter.resized(size)  # pyright: ignore[reportArgumentType]
    assert segmenter.resized((np.int64(17), 17)) is segmenter  # pyright: ignore[reportArgumentType]


# ---- numbers that float32 cannot hold


@pytest.mark.parametrize("large", [1e20, 3e38])
def test_weights_beyond_float32s_range_are_named_and_warn_nobody(model: ModelFile, large: float) -> None:
    tensors = {name: value.copy() for name, value in model.tensors.items()}
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    tensors[name][0] = large
    wild = ModelFile(model.info, tensors)
    with pytest.raises(Error, match=rf"the weights of {name.removesuffix('.weight')}\b.* leave the range of float32"):
        Engine(wild, size=16)
    found = ReferenceBackend(wild).run(np.full((1, 16, 16, 3), 9, np.uint8))["logits"]
    assert found.shape == (1, 3)  # and no warning, which the tests would take for an error


def test_large_weights_that_fit_are_run(model: ModelFile) -> None:
    weights = pack.pack(model, Engine(model, size=16).plan)
    assert np.abs(weights).max() < 1e-3 * pack.LARGEST


@pytest.mark.parametrize("dilation", [1, 2, 5, 7, 8, 1000, 10**9])
def test_an_atrous_rate_beyond_the_map_takes_no_memory(dilation: int) -> None:
    conv = ConvSpec("x", None, 2, 3, kernel=3, dilation=dilation)
    rng = np.random.default_rng(0)
    images, weight = rng.normal(0, 1, (1, 7, 5, 2)), rng.normal(0, 1, (3, 2, 3, 3))
    expected = np.zeros((1, 7, 5, 3))
    for y in range(7):
        for x in range(5):
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    row, column = y + i * dilation, x + j * dilation
                    if 0 <= row < 7 and 0 <= column < 5:
                        expected[0, y, x] += weight[:, :, i + 1, j + 1] @ images[0, row, column]
    np.testing.assert_allclose(reference.convolve(images, weight, conv), expected, atol=1e-12)


# ---- its surroundings


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(notes, "_said", set())


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_the_engine_answers_and_says_so_once(
    model: ModelFile, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        Engine(model, size=16).run(np.zeros((1, 16, 16, 3), np.uint8))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("note: the engine compiles every time and keeps nothing: ")
    assert said.endswith("set XDG_CACHE_HOME to a folder\n")
    with pytest.raises(files.FileError, match="set XDG_CACHE_HOME"):
        cache.folder()


def test_a_note_is_one_safe_line_and_needs_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notes, "_said", set())
    notes.once("a", "\x1b[31m\nred")
    notes.once("a", "again")
    assert capsys.readouterr().err == "note: \\x1b[31m\\nred\n"
    monkeypatch.setattr(sys, "stderr", None)
    notes.once("b", "nobody hears it")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


def test_a_pipe_or_a_link_in_the_cache_is_not_read(kept: Path, tmp_path: Path) -> None:
    cache.machine_code("plan", lambda: b"code")
    (path,) = kept.iterdir()
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert cache.machine_code("plan", lambda: b"anew") == b"anew"
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.machine_code("plan", lambda: b"and anew") == b"and anew"
    path.unlink()
    (path / "folder").mkdir(parents=True)
    assert cache.machine_code("plan", lambda: b"once more") == b"once more"


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"nonsense\n", b"[" * 5000, b'{"run": 0}\nxx', b'{"run": 1e9}\nxx', b"[]\n", b"\xff\n",
                b'{"run": 0, "lead": 0, "part": 0, "serve": 10000000}\nxx'],
)  # fmt: skip
def test_what_is_kept_and_cannot_be_called_is_compiled_anew(kept: Path, content: bytes) -> None:
    cache.machine_code("plan", lambda: content)
    good = b'{"run": 0, "lead": 0, "part": 1, "serve": 1}\nxx'
    assert program.machine_code("plan", lambda: good) == good
    assert program.machine_code("plan", lambda: b"not asked") == good


def test_without_llvmlite_what_is_cached_still_runs_and_the_rest_is_one_line(
    kept: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((1, 16, 16, 3), np.uint8)
    cache._versions.cache_clear()
    expected = Engine(model, size=16).run(images)["logits"]
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith(("llvmlite", "mobilenetv2.engine.jit"))]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "llvmlite", None)
        patch.delattr("mobilenetv2.engine.jit", raising=False)
        np.testing.assert_array_equal(Engine(model, size=16).run(images)["logits"], expected)
        with pytest.raises(Error, match=r"needs llvmlite, which does not load .*: pip install llvmlite"):
            Engine(model, size=18)

    def none(name: str) -> str:
        raise cache.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cache.metadata, "version", none)
    cache._versions.cache_clear()
    Engine(model, size=16)
    cache._versions.cache_clear()


def test_a_compiler_that_finds_no_memory_is_not_loaded(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    monkeypatch.setattr(memory, "of_process", lambda: 200 << 20)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "llvmlite.binding", raising=False)
        with pytest.raises(Error, match=r"needs 224.0 MiB of address space, 200.0 MiB is left \(ulimit -v\)"):
            program.machine_code("plan", lambda: b"code")


def test_a_kernel_can_be_copied_and_looked_at_before_it_is_made() -> None:
    made = ir.Module(cpus.host()).function("f", ("x",), ())
    with contextlib.suppress(TypeError):  # LLVM's own objects decide
        copy.copy(made)
    with pytest.raises(AttributeError, match="_arguments"):
        _ = ir.Kernel.__new__(ir.Kernel)._arguments
    with pytest.raises(AttributeError, match="unknown"):
        _ = made.unknown
    assert made.x is not None
