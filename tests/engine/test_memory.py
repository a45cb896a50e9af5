"""The generated code touches no memory but its own: each array lies between pages that may not be touched."""

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mobilenetv2 import looks, upsample
from mobilenetv2.engine import Engine, averages, pack
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.averages import Averages
from mobilenetv2.engine.masks import Masks, table
from mobilenetv2.looks import Look
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
PAGE = mmap.PAGESIZE
_held: list[mmap.mmap] = []


def guarded(size: int, *, at_end: bool) -> npt.NDArray[np.uint8]:
    """`size` bytes flush against a forbidden page, behind them or before them, with forbidden pages on both sides."""
    inside = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    _held.append(memory)
    array = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert protect(array.ctypes.data, PAGE, 0) == 0
    assert protect(array.ctypes.data + PAGE + inside, PAGE, 0) == 0
    start = PAGE + (inside - size if at_end else 0)
    return array[start : start + size]


def guarded_floats(size: int, *, at_end: bool) -> npt.NDArray[np.float32]:
    return guarded(4 * size, at_end=at_end).view(np.float32)


@pytest.mark.slow
@pytest.mark.few(2)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", [None, "haswell", "x86-64"])
def test_nothing_outside_is_touched(
    random_model: RandomModel, monkeypatch: pytest.MonkeyPatch, level: str | None, *, at_end: bool
) -> None:
    if level:
        monkeypatch.setenv("MOBILENETV2_CPU", level)
    monkeypatch.setattr(pack, "aligned_zeros", lambda size: guarded_floats(size, at_end=at_end))
    fields: list[dict[str, Any]] = [
        {"stages": ((1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 2))},
        {"stages": ((1, 7, 1, 1), (3, 9, 2, 2), (2, 17, 1, 1)), "round_nearest": 1, "padding": "same"},
        {
            "stages": ((1, 8, 2, 1), (6, 24, 1, 2), (6, 24, 2, 2), (2, 24, 1, 2), (2, 24, 1, 2)),
            "output_stride": 8,
            "stem_channels": 13,
        },
        {"stages": ((1, 8, 1, 1), (2, 8, 2, 1)), "shortcut": "expansion", "last_channels": 33},
    ]
    for i, more in enumerate(fields):
        assert_untouched(random_model(outputs=5 + i, **more), at_end=at_end)


@pytest.mark.slow
@pytest.mark.few(1)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", [None, "haswell", "x86-64"])
def test_detectors_touch_nothing_outside(
    random_detector: RandomModel, monkeypatch: pytest.MonkeyPatch, level: str | None, *, at_end: bool
) -> None:
    if level:
        monkeypatch.setenv("MOBILENETV2_CPU", level)
    monkeypatch.setattr(pack, "aligned_zeros", lambda size: guarded_floats(size, at_end=at_end))
    head = {"taps": ("s4.expanded", "out"), "extras": (16, 5), "anchors": (((0.3, 0.3), (0.5, 0.4)),) * 4}
    for heads, more in (
        ({"classes": 1}, {"round_nearest": 1}),
        ({"classes": 20}, {"padding": "same"}),
        ({"classes": 20, "separable": False}, {"padding": "same", "round_nearest": 1}),
    ):
        stages = ((1, 8, 1, 1), (3, 9, 2, 2), (4, 17, 2, 2))
        model = random_detector(head={**head, **heads}, stages=stages, last_channels=33, **more)
        assert_untouched(model, at_end=at_end)


@pytest.mark.few(1)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", [None, "haswell", "x86-64"])
def test_segmenters_touch_nothing_outside(
    random_segmenter: RandomModel, monkeypatch: pytest.MonkeyPatch, level: str | None, *, at_end: bool
) -> None:
    if level:
        monkeypatch.setenv("MOBILENETV2_CPU", level)
    monkeypatch.setattr(pack, "aligned_zeros", lambda size: guarded_floats(size, at_end=at_end))
    for stride, head, more in (
        (8, {"aspp": True, "rates": (1, 3), "channels": 7, "classes": 2}, {"round_nearest": 1}),
        (16, {"channels": 33, "classes": 20}, {"padding": "same"}),
    ):
        stages = ((1, 8, 1, 1), (3, 9, 1, 2), (4, 17, 2, 2), (2, 17, 2, 2))
        model = random_segmenter(head=head, stages=stages, output_stride=stride, **more)
        assert_untouched(model, at_end=at_end)


@pytest.mark.few(2)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", [None, "haswell", "x86-64"])
def test_averages_touch_nothing_outside(monkeypatch: pytest.MonkeyPatch, level: str | None, *, at_end: bool) -> None:
    monkeypatch.setattr(pack, "aligned_zeros", lambda size: guarded_floats(size, at_end=at_end))
    for (h, w, classes), (height, width) in (((5, 7, 21), (33, 49)), ((1, 1, 3), (5, 1)), ((4, 6, 1), (3, 16))):
        maps = np.random.default_rng(0).normal(0, 1, (2, h, w, classes)).astype(np.float32)
        rows, columns = (upsample.resized(a, b, align_corners=True) for a, b in ((h, height), (w, width)))
        seen = [
            Look(maps[0], rows, columns),
            Look(maps[1], rows, upsample.resized(w, 1, align_corners=True), 0, width - 1),
        ]
        made = Averages(cpus.runnable(level), threads=2)
        made(seen, (height, width))  # has the memory ready
        result = guarded(height * width, at_end=at_end).reshape(1, height, width)
        made._runner.run(averages.maps(seen)[np.newaxis], averages.table(seen, (height, width)), result)
        np.testing.assert_array_equal(result[0], looks.best_on_average(seen, (height, width)))
    _held.clear()


@pytest.mark.few(2)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", [None, "haswell", "x86-64"])
def test_masks_touch_nothing_outside(monkeypatch: pytest.MonkeyPatch, level: str | None, *, at_end: bool) -> None:
    """The masks are flush against the forbidden page too: their last vector may not be written as a whole."""
    monkeypatch.setattr(pack, "aligned_zeros", lambda size: guarded_floats(size, at_end=at_end))
    for (h, w, classes), out in (((5, 7, 21), (33, 49)), ((1, 1, 3), (5, 1)), ((4, 6, 2), (3, 2))):
        logits = guarded_floats(h * w * classes, at_end=at_end).reshape(1, h, w, classes)
        logits[:] = np.random.default_rng(0).normal(0, 1, logits.shape)
        rows, columns = (upsample.resized(a, b, align_corners=True) for a, b in zip((h, w), out, strict=True))
        made = Masks(w, classes, cpus.runnable(level), threads=2)
        result = guarded(out[0] * out[1], at_end=at_end).reshape(1, *out)
        made._runner.run(logits, table(rows, columns, classes), result)
        np.testing.assert_array_equal(result, upsample.best_classes(logits, rows, columns))
    _held.clear()


def assert_untouched(model: ModelFile, *, at_end: bool) -> None:
    """Runs of the model at several sizes read and write between forbidden pages, and give what others give."""
    for size, threads in (((33, 26), 1), ((19, 47), 2), ((1, 3), 3)):
        engine = Engine(model, size=size, threads=threads)
        images = guarded(size[0] * size[1] * 3, at_end=at_end).reshape(1, *size, 3)
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
        floats = guarded_floats(images.size, at_end=at_end).reshape(images.shape)
        floats[:] = images
        results = guarded_floats(engine.plan.results, at_end=at_end).reshape(1, -1)
        for pixels in (images, floats):
            results[:] = np.nan
            engine._runner.run(pixels, engine._weights, results)
            expected = [values.ravel() for values in engine.run(pixels.copy()).values()]
            np.testing.assert_array_equal(results[0], np.concatenate(expected))
    _held.clear()
