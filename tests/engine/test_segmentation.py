"""Whole segmentation networks in the engine against the NumPy reference: widths, strides, paddings, sizes, threads."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import complexity, upsample
from mobilenetv2.engine import Engine
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.plan import plan
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import DeepLab, Spec
from mobilenetv2.spec_fields import backbone

RandomModel = Callable[..., ModelFile]
AGREE = 1e-4  # of the largest output: float32 sums in one order against float64


def pictures(size: tuple[int, int], *, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)


def assert_agrees(engine: Engine, model: ModelFile, images: np.ndarray[Any, Any]) -> None:
    found = engine.run(images)["logits_map"]
    expected = ReferenceBackend(model, dtype=np.float64).run(images)["logits_map"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < AGREE * np.abs(expected).max()


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("width_mult", "size", "stride", "padding", "head", "threads", "batch"),
    [
        (1.0, (513, 513), 16, "same", {"classes": 20, "channels": 256}, 2, 1),
        (0.35, (97, 161), 8, "symmetric", {"aspp": True}, 1, 3),
        (0.5, (129, 65), 16, "same", {"aspp": True, "classes": 20}, 2, 1),
        (1.4, (65, 65), 32, "symmetric", {"aspp": True, "rates": (1, 30)}, 3, 1),
        (0.35, (1, 40), 16, "same", {"aspp": True, "channels": 7}, 2, 2),
        (0.35, (33, 50), 8, "symmetric", {"channels": 40, "classes": 1}, 3, 3),
    ],
)
def test_whole_networks_agree_with_the_reference(
    random_segmenter: RandomModel, width_mult: float, size: tuple[int, int], stride: int, padding: str,
    head: dict[str, Any], threads: int, batch: int,
) -> None:  # fmt: skip
    model = random_segmenter(width_mult=width_mult, size=size, output_stride=stride, padding=padding, head=head)
    assert_agrees(Engine(model, threads=threads), model, pictures(size, batch=batch))


@pytest.mark.few(1)
@pytest.mark.parametrize("level", ["x86-64", "haswell", "skylake-avx512"])
def test_every_kind_of_cpu_gives_the_same_answers(
    random_segmenter: RandomModel, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        cpus.runnable(level)
    except UsageError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("MOBILENETV2_CPU", level)
    model = random_segmenter(size=(70, 33), head={"aspp": True})
    assert_agrees(Engine(model, threads=2), model, pictures((70, 33)))


def test_threads_and_batches_change_no_bit(random_segmenter: RandomModel) -> None:
    model = random_segmenter(size=(96, 65), head={"aspp": True})
    images = pictures((96, 65), batch=5)
    expected = Engine(model).run(images)["logits_map"]
    for threads in (2, 3):
        engine = Engine(model, threads=threads)
        np.testing.assert_array_equal(engine.run(images)["logits_map"], expected)
        together = [engine.run(image[np.newaxis])["logits_map"] for image in images]
        np.testing.assert_array_equal(np.concatenate(together), expected)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)), widths=st.tuples(*[st.integers(1, 40)] * 3),
    classes=st.integers(1, 40), aspp=st.booleans(), stride=st.sampled_from([8, 16]),
    padding=st.sampled_from(["same", "symmetric"]), threads=st.integers(1, 3), batch=st.integers(1, 4),
)  # fmt: skip
def test_any_size_and_any_number_of_channels_agrees(
    random_segmenter: RandomModel, size: tuple[int, int], widths: tuple[int, int, int], classes: int, aspp: bool,
    stride: int, padding: str, threads: int, batch: int,
) -> None:  # fmt: skip
    first, second, head = widths
    model = random_segmenter(
        stages=((1, first, 1, 2), (2, second, 1, 2), (2, second, 2, 2)), round_nearest=1, output_stride=stride,
        padding=padding, head={"aspp": aspp, "rates": (1, 3), "channels": head, "classes": classes},
    )  # fmt: skip
    assert_agrees(Engine(model, size=size, threads=threads, batch=batch), model, pictures(size, batch=batch))


@pytest.mark.few(1)
@pytest.mark.parametrize("aspp", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_within_a_budget_gives_the_same_answers(
    random_segmenter: RandomModel, threads: int, *, aspp: bool
) -> None:
    model = random_segmenter(size=161, head={"aspp": aspp})
    with pytest.raises(UsageError, match="smallest possible is") as refused:
        Engine(model, threads=threads, budget=1000)
    (smallest,) = re.findall(r"is ([\d,]+) bytes", str(refused.value))
    free, tight = (Engine(model, threads=threads, budget=b) for b in (None, int(smallest.replace(",", ""))))
    assert f"{tight.plan.arena_bytes:,}" == smallest
    assert tight.plan.arena_bytes < free.plan.arena_bytes
    images = pictures((161, 161), batch=3)
    expected = free.run(images)["logits_map"]
    assert np.abs(tight.run(images)["logits_map"] - expected).max() < 1e-5 * np.abs(expected).max()
    assert tight.resized((97, 97)).plan.arena_bytes <= tight.plan.arena_bytes  # its other sizes keep it too


def test_masks_are_the_definitions(random_segmenter: RandomModel, random_model: RandomModel) -> None:
    engine = Engine(random_segmenter(size=65), threads=2)
    logits = engine.run(pictures((65, 65)))["logits_map"]
    rows = columns = upsample.resized(5, 65, align_corners=True)
    expected = upsample.best_classes(logits, rows, columns)
    np.testing.assert_array_equal(engine.best_classes(logits, rows, columns), expected)
    with pytest.raises(UsageError, match="classification gives no map"):
        Engine(random_model(width_mult=0.35, size=32)).best_classes(logits, rows, columns)


@pytest.mark.parametrize("aspp", [False, True])
def test_a_plan_does_all_the_multiply_adds_of_the_network(*, aspp: bool) -> None:
    network = Spec(backbone(output_stride=16), DeepLab(aspp=aspp))
    steps = plan(network, (513, 513), cpus.named("skylake-avx512"), threads=2).steps
    saved = (33 * 33 - 1) * 256 * 256  # the pooling's share of the projection is the same for all pixels
    assert sum(step.multiply_adds for step in steps) + saved == complexity.complexity(network, 513).multiply_adds
