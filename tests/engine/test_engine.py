"""The engine against the NumPy reference: every way to build a network, every kind of CPU that can run here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import model_file
from mobilenetv2.engine import Engine
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.image import normalise
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
AGREE = 1e-4  # of the largest output: float32 sums in one order against float64
SHORT = ((1, 16, 1, 1), (6, 24, 2, 2), (4, 40, 2, 1))  # a network that compiles in a fraction of a second
LEVELS = ("x86-64", "haswell", "skylake-avx512")


def pictures(size: tuple[int, int], *, batch: int = 1, channels: int = 3, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (batch, *size, channels), np.uint8)


def difference(engine: Engine, model: ModelFile, images: np.ndarray[Any, Any]) -> float:
    """The largest difference to the reference in float64, as a part of the reference's largest output."""
    found = engine.run(images)["logits"]
    expected = ReferenceBackend(model, dtype=np.float64).run(images)["logits"]
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("width_mult", "size", "padding", "output_stride", "threads"),
    [
        (1.0, (96, 96), "symmetric", 32, 1),
        (1.0, (97, 64), "same", 32, 2),
        (0.75, (97, 97), "symmetric", 32, 1),
        (0.35, (57, 31), "same", 32, 2),
        (0.5, (32, 160), "symmetric", 32, 3),
        (1.4, (64, 64), "same", 32, 2),
        (1.0, (224, 224), "symmetric", 32, 1),
        (1.4, (225, 225), "same", 32, 2),
        (0.75, (320, 320), "same", 32, 2),
        (0.5, (513, 513), "same", 16, 2),
        (0.35, (513, 513), "symmetric", 8, 1),
    ],
)
def test_whole_networks_agree_with_the_reference(
    random_model: RandomModel, width_mult: float, size: tuple[int, int], padding: str, output_stride: int, threads: int
) -> None:
    model = random_model(width_mult=width_mult, padding=padding, output_stride=output_stride, outputs=1001)
    engine = Engine(model, size=size, threads=threads)
    assert difference(engine, model, pictures(size)) < AGREE


@pytest.mark.few(8)
@pytest.mark.parametrize(
    "fields",
    [
        {"activation": "relu"},
        {"activation": "linear", "bottleneck": "relu6"},
        {"shortcut": "none", "in_channels": 1},
        {"shortcut": "expansion"},
        {"shortcut": "expansion", "stages": ((1, 16, 1, 1), (2, 16, 3, 1))},
        {"shortcut": "expansion", "stages": ((1, 32, 3, 1),)},
        {"in_channels": 4, "stem_channels": 7},
        {"output_stride": 8, "stages": ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 24, 2, 2), (3, 40, 2, 2))},
        {"round_nearest": 1, "stages": ((1, 7, 1, 1), (3, 9, 2, 2), (2.5, 17, 2, 1)), "last_channels": 33},
        {"stages": ((6, 8, 2, 1), (1, 24, 2, 2), (0.5, 24, 2, 1))},
        {"stages": ((1, 64, 1, 2), (1, 64, 2, 1))},
        {"stages": ((1, 16, 2, 1),), "stem_channels": 16},
    ],
    ids=str,
)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_every_switch_of_the_network_is_honoured(
    random_model: RandomModel, fields: dict[str, Any], padding: str
) -> None:
    fields = {"stages": SHORT, **fields}
    model = random_model(outputs=5, padding=padding, **fields)
    channels = fields.get("in_channels", 3)
    if channels != 3:
        model = with_channels(model, channels)
    size = (26, 33) if padding == "same" else (19, 40)
    engine = Engine(model, size=size, threads=2)
    assert difference(engine, model, pictures(size, channels=channels)) < AGREE


def with_channels(model: ModelFile, channels: int) -> ModelFile:
    preprocessing = replace(model.info.preprocessing, mean=(100.0,) * channels, std=(60.0,) * channels)
    return replace(model, info=replace(model.info, preprocessing=preprocessing))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.tuples(*[st.integers(1, 40)] * 3),
    expansion=st.sampled_from([1, 2, 3]),
    strides=st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2])),
    padding=st.sampled_from(["same", "symmetric"]),
    outputs=st.integers(2, 40),
    threads=st.integers(1, 3),
)
def test_any_size_and_any_number_of_channels_agrees(
    random_model: RandomModel, size: tuple[int, int], channels: tuple[int, int, int], expansion: int,
    strides: tuple[int, int], padding: str, outputs: int, threads: int,
) -> None:  # fmt: skip
    stages = ((1, channels[0], 1, strides[0]), (expansion, channels[1], 2, strides[1]))
    model = random_model(
        outputs=outputs, padding=padding, stages=stages, stem_channels=channels[2], last_channels=channels[0] + 1,
        round_nearest=1,
    )  # fmt: skip
    assert difference(Engine(model, size=size, threads=threads), model, pictures(size)) < AGREE


@pytest.mark.parametrize("level", LEVELS)
def test_every_kind_of_cpu_gives_the_same_answers(
    random_model: RandomModel, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        cpus.runnable(level)
    except UsageError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("MOBILENETV2_CPU", level)
    model = random_model(outputs=9, stages=SHORT)
    assert difference(Engine(model, size=(45, 19), threads=2), model, pictures((45, 19))) < AGREE


@pytest.mark.parametrize(("wanted", "seen"), [("plan", "Step(name='classifier'"), ("ir", "define"), ("asm", "run:")])
def test_debugging_shows_what_is_built(
    random_model: RandomModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: str,
    seen: str,
) -> None:
    monkeypatch.setenv("MOBILENETV2_DEBUG", wanted)
    Engine(random_model(outputs=2, stages=((1, 8, 1, 1),)), size=16)
    assert seen in capsys.readouterr().err
    monkeypatch.setenv("MOBILENETV2_DEBUG", "all")
    with pytest.raises(UsageError, match="must be plan, ir or asm, got 'all'"):
        Engine(random_model(outputs=2, stages=((1, 8, 1, 1),)), size=16)


def test_the_model_may_be_a_path_and_other_precisions_are_refused(random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model(outputs=3, stages=SHORT)
    model_file.write(tmp_path / "model.safetensors", model)
    images = pictures((32, 32))
    expected = Engine(model, size=32, batch=4).run(images)["logits"]
    np.testing.assert_array_equal(Engine(tmp_path / "model.safetensors", size=32).run(images)["logits"], expected)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"precision": "int8"}, "precision must be fp32, got 'int8'"),
        ({"batch": 0}, "batch must be a whole number from 1 up, got 0"),
        ({"budget": 1000}, "the smallest possible is"),
    ]
    for arguments, message in refused:
        with pytest.raises(UsageError, match=message):
            Engine(model, size=32, **arguments)


def test_an_unknown_cpu_is_refused(random_model: RandomModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENETV2_CPU", "hasswell")
    with pytest.raises(UsageError, match="did you mean 'haswell'"):
        Engine(random_model(stages=SHORT))


def test_code_for_another_architecture_is_not_run() -> None:
    other = "neoverse-n1" if cpus.host().architecture == "x86_64" else "x86-64"
    with pytest.raises(UsageError, match=f"cannot run code for {other}"):
        cpus.runnable(other)


def test_the_number_of_threads_changes_no_bit(random_model: RandomModel) -> None:
    model = random_model(outputs=10, width_mult=0.5)
    images = pictures((64, 48), batch=5)
    expected = Engine(model, size=(64, 48)).run(images)["logits"]
    for threads in (2, 3, 5):
        engine = Engine(model, size=(64, 48), threads=threads)
        apart = engine.run(images)["logits"]
        together = np.concatenate([engine.run(image[np.newaxis])["logits"] for image in images])
        np.testing.assert_array_equal(apart, expected)
        np.testing.assert_array_equal(together, expected)


def test_pixels_and_normalised_pixels_agree(random_model: RandomModel) -> None:
    model = random_model(outputs=10, stages=SHORT)
    images = pictures((31, 31), batch=2)
    engine = Engine(model, size=31)
    floats = normalise(images, model.info.preprocessing)
    logits = engine.run(images)["logits"]
    assert np.abs(logits - engine.run(floats)["logits"]).max() < AGREE * np.abs(logits).max()


def test_a_view_of_pictures_is_run_as_its_copy(random_model: RandomModel) -> None:
    engine = Engine(random_model(outputs=10, stages=SHORT), size=32)
    images = pictures((32, 64), batch=4)[::2, :, ::-2]
    np.testing.assert_array_equal(engine.run(images)["logits"], engine.run(images.copy())["logits"])


def test_the_size_is_the_model_files_unless_said(random_model: RandomModel) -> None:
    model = random_model(size=40, stages=SHORT)
    assert Engine(model).plan.size == (40, 40)
    assert Engine(model, size=(8, 9)).plan.size == (8, 9)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 32, 31, 3), np.uint8), r"\[batch, 32, 32, 3\], got \[1, 32, 31, 3\]"),
        (np.zeros((32, 32, 3), np.uint8), "images must be"),
        (np.zeros((0, 32, 32, 3), np.uint8), "images must be"),
        (np.zeros((1, 32, 32, 3), np.float64), "got float64"),
    ],
)
def test_other_images_are_refused(random_model: RandomModel, images: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Engine(random_model(stages=SHORT), size=32).run(images)


@pytest.mark.parametrize("threads", [0, -1, 257, True])
def test_impossible_numbers_of_threads_are_refused(random_model: RandomModel, threads: int) -> None:
    with pytest.raises(UsageError, match="threads must be a whole number from 1 to 256"):
        Engine(random_model(stages=SHORT), threads=threads)
