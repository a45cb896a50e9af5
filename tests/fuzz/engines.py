"""The engine's own arguments and images, of types and sizes that nobody should give it. Where it answers, it must
answer as the reference does."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.models import compare
from fuzz.sandbox import Case, WrongAnswerError
from fuzz.targets import Maker, Target, models
from mobilenetv2 import model_file

_NUMBERS: tuple[Any, ...] = (
    1, 2, 3, 8, 0, -1, 16, 257, 10**6, 10**30, 1.0, 1.5, 1e308, float("nan"), True, False, None, "2", "a", b"1",
    (1, 2), [3], {}, np.int64(2), np.uint8(3), np.float32(2), np.array(2), np.array([1, 2]), np.bool_(True),
    Fraction(2), 2j, object(), "9" * 5000,
)  # fmt: skip
_SIZES: tuple[Any, ...] = (
    *_NUMBERS, (32, 32), (1, 1), (17, 33), (1, 2_000), (40_000, 40_000), (10**6, 10**6), (32, 32, 3), (32,), (),
    [32, 32], (32.0, 32.0), (np.int64(32), np.int64(16)), (None, 32), ("32", "32"), (-1, 32), (0, 5),
    np.array([32, 32]), range(30, 32), "32x32",
)  # fmt: skip
_BUDGETS: tuple[Any, ...] = (*_NUMBERS, 1_000, 100_000, 10**9, "1MB")
_PRECISIONS: tuple[Any, ...] = ("fp32", "fp32", "fp32", "fp16", "int8", "", None, 32, "\x1b[31m", "x" * 5_000)
_FITTING: tuple[Any, ...] = (32, 1, 8, (32, 32), (17, 33), (1, 1), (1, 2_000))
_MODELS: tuple[Any, ...] = (
    None,
    5,
    b"x",
    "",
    "nothing",
    "v2_1.0_224x",
    "\x00",
    "/",
    ".",
    [],
    {},
    "a" * 5_000,
    "x\x1b.safetensors",
    object(),
)


def _prepare(folder: Path) -> Maker:
    from mobilenetv2.engine import Engine
    from mobilenetv2.engine.reference import ReferenceBackend
    from mobilenetv2.predictor import load

    good = list(models().values())
    path = folder / "model.safetensors"
    model_file.write(path, good[0])
    for model in good:
        Engine(model)
    photo = np.zeros((20, 30, 3), np.uint8)
    load(path)(photo)

    def make(rng: random.Random, here: Path) -> Case:
        model = rng.choice(good)
        given = _arguments(rng)
        images = _images(rng, given["size"], model.info.spec.backbone.in_channels)
        note = ", ".join(f"{key}={re.sub(' at 0x.*', '>', repr(value)):.40}" for key, value in given.items())

        def run() -> None:
            found = Engine(rng.choice((model, model, model, path)), **given)
            answers = found.run(images)
            compare(answers, ReferenceBackend(model if found.info is model.info else good[0]).run(images))
            again = found.run(images)
            if any(not np.array_equal(answers[name], again[name], equal_nan=True) for name in answers):
                raise WrongAnswerError("the second answer differs from the first")

        def run_load() -> None:
            options = {
                "threads": given.get("threads"),
                "crop": given.get("size"),
                "resize": given.get("budget"),
                "backend": "engine",
            }
            chosen = {name: value for name, value in options.items() if rng.random() < 0.4}
            predictor = load(rng.choice((path, model, *_MODELS)), progress=False, **chosen)
            more = {"batch": given["batch"]} if "batch" in given else {}
            list(predictor.many([photo, photo], **more))

        ways = run_load if rng.random() < 0.25 else run
        return Case(ways, lambda: _are_usual(given), note, threads=256)

    return make


def _arguments(rng: random.Random) -> dict[str, Any]:
    """Mostly good ones, and one or two that are not."""
    given: dict[str, Any] = {
        "threads": rng.choice((1, 2, 3)),
        "batch": rng.choice((1, 2, 5)),
        "size": rng.choice((32, (17, 33), (1, 1))),
    }
    pools = {"threads": _NUMBERS, "batch": _NUMBERS, "size": _SIZES, "budget": _BUDGETS, "precision": _PRECISIONS}
    for name in rng.sample(list(pools), rng.choice((0, 0, 1, 1, 1, 2))):
        given[name] = rng.choice(pools[name])
    return given


def _are_usual(given: dict[str, Any]) -> bool:
    """Whether all are of the right type: what is then refused, is refused for its value."""
    whole = all(
        isinstance(given.get(name, 1), int) and not isinstance(given.get(name, 1), bool)
        for name in ("threads", "batch")
    )
    size, budget = given["size"], given.get("budget")
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    whole = whole and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    return whole and isinstance(given.get("precision", ""), str) and (budget is None or isinstance(budget, int))


def _images(rng: random.Random, size: Any, channels: int) -> Any:
    """Images of the engine's size, mostly, in any layout of memory; at times no images at all."""
    sides = size if isinstance(size, tuple) else (size,)
    fits = all(type(side) is int for side in sides) and size in _FITTING  # True is no side
    height, width = (
        rng.choice(_FITTING[3:])
        if not fits or rng.random() < 0.1
        else size
        if isinstance(size, tuple)
        else (size, size)
    )
    count = rng.choice((1, 2, 3, 7))
    made: Any = np.random.default_rng(rng.randrange(1 << 30)).integers(
        0, 256, (count, height, width, channels), dtype=np.uint8
    )
    roll = rng.random()
    if roll < 0.4:
        return made
    if roll < 0.65:
        return made.astype(np.float32) / 255
    if roll < 0.85:
        return rng.choice((np.asfortranarray(made), made[:, ::-1], made[..., ::-1], made[:, :, ::-1], made[::2]))
    if roll < 0.95:
        wrong = (
            made[0],
            made[:0],
            made[..., :1],
            made.astype(np.float64),
            made.astype(">f4"),
            made.astype(bool),
            made.astype(object),
            made[None],
        )
        return rng.choice(wrong)
    return rng.choice((None, [], made.tolist(), "x", 5, b"", made.astype(np.float32) * np.float32(np.nan)))


TARGETS = (Target("engine", _prepare, 0.5),)
