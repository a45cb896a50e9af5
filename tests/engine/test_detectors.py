"""Whole detectors in the engine against the NumPy reference: widths, sizes, paddings, heads, threads, kinds of CPU."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import complexity, spec
from mobilenetv2.engine import Engine
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.describe import describe, text
from mobilenetv2.engine.plan import Plan, plan
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import Spec, SSDLite, ssdlite
from mobilenetv2.spec_fields import backbone

RandomModel = Callable[..., ModelFile]
AGREE = 1e-4  # of the largest output: float32 sums in one order against float64
ANCHORS = ((0.3, 0.3), (0.5, 0.4))
SHORT = ((1, 8, 1, 1), (6, 12, 2, 2), (4, 24, 2, 2))  # a network that compiles in a fraction of a second
SHORT_HEAD = {"taps": ("s4.expanded", "out"), "extras": (16, 8), "anchors": (ANCHORS,) * 4}
# strides are given up, so a shortcut goes around the block that leaves stride 8
GIVEN_UP = {"stages": ((1, 16, 1, 1), (2, 24, 1, 2), (2, 24, 1, 2), (2, 24, 1, 2), (3, 24, 2, 2)), "output_stride": 8}


def pictures(size: tuple[int, int], *, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)


def difference(engine: Engine, model: ModelFile, images: np.ndarray[Any, Any]) -> float:
    """The largest difference to the reference in float64, as a part of the largest value of its output."""
    found = engine.run(images)
    expected = ReferenceBackend(model, dtype=np.float64).run(images)
    assert {name: values.shape for name, values in found.items()} == {n: values.shape for n, values in expected.items()}
    assert all(values.dtype == np.float32 for values in found.values())
    return max(float(np.abs(found[n] - values).max() / np.abs(values).max()) for n, values in expected.items())


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("width_mult", "size", "padding", "head", "threads", "batch"),
    [
        (1.0, (320, 320), "same", {"classes": 90}, 2, 1),
        (1.0, (300, 300), "symmetric", {"classes": 20, "background": "none"}, 1, 1),
        (0.35, (97, 161), "same", {"classes": 20}, 3, 1),
        (0.35, (33, 200), "symmetric", {"classes": 1, "background": "none"}, 2, 3),
        (0.5, (97, 161), "symmetric", {"classes": 80}, 1, 3),
        (0.75, (33, 200), "same", {"classes": 90, "background": "none"}, 3, 3),
        (1.4, (97, 161), "same", {"classes": 1, "background": "first"}, 2, 1),
        (1.4, (64, 64), "symmetric", {"classes": 80, "background": "last", "score": "softmax"}, 3, 1),
    ],
)
def test_whole_detectors_agree_with_the_reference(
    random_detector: RandomModel, width_mult: float, size: tuple[int, int], padding: str, head: dict[str, Any],
    threads: int, batch: int,
) -> None:  # fmt: skip
    model = random_detector(width_mult=width_mult, size=size, padding=padding, bn_eps=1e-3, head=head)
    engine = Engine(model, threads=threads)
    assert difference(engine, model, pictures(size, batch=batch)) < AGREE


@pytest.mark.slow
def test_the_engine_and_torch_agree(random_detector: RandomModel) -> None:
    model = random_detector(size=(130, 97), padding="same")
    images = pictures((130, 97), batch=2)
    found, expected = Engine(model, threads=2).run(images), TorchBackend(model).run(images)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < AGREE * np.abs(values).max()


@pytest.mark.few(3)
@pytest.mark.parametrize("tap", list(spec.taps(backbone())))
def test_any_map_of_the_backbone_can_be_read(random_detector: RandomModel, tap: str) -> None:
    head = {"taps": (tap,), "extras": (), "anchors": (ANCHORS,)}
    model = random_detector(head=head)
    assert difference(Engine(model, size=(34, 51), threads=2), model, pictures((34, 51))) < AGREE


@pytest.mark.few(7)
@pytest.mark.parametrize(
    ("head", "fields"),
    [
        ({}, {"bottleneck": "relu6", "activation": "relu"}),
        ({}, {"shortcut": "expansion"}),
        ({"taps": ("s4.expanded", "s4", "s8", "out"), "anchors": (ANCHORS,) * 6}, {"shortcut": "expansion"}),
        ({"taps": ("out", "s4.expanded"), "extras": (1, 3)}, {"round_nearest": 1}),
        ({"taps": ("s4", "s4", "s2", "s2.expanded"), "anchors": (ANCHORS,) * 6}, {}),
        ({"taps": ("s2.expanded", "out"), "anchors": (ANCHORS,) * 4}, {"stages": ((6, 8, 2, 2), (2, 8, 1, 2))}),
        ({"taps": ("out", "s8"), "anchors": (ANCHORS, *[ANCHORS[:1]] * 3)}, GIVEN_UP),
        ({"taps": ("s8.expanded", "out")}, GIVEN_UP),
        ({"taps": ("out", "s8.expanded")}, {**GIVEN_UP, "shortcut": "expansion"}),
        ({"separable": False}, {}),
        ({"separable": False, "linear_extras": True, "squeezes": (3, 9), "classes": 17}, {"activation": "relu"}),
        ({"pointwise_last": True}, {}),
        ({"pointwise_last": True, "separable": False}, {}),
        ({}, {"output_stride": 8}),
    ],
    ids=str,
)
@pytest.mark.parametrize(("padding", "threads"), [("same", 1), ("symmetric", 2)])
def test_every_switch_of_the_network_is_honoured(
    random_detector: RandomModel, head: dict[str, Any], fields: dict[str, Any], padding: str, threads: int
) -> None:
    model = random_detector(head={**SHORT_HEAD, **head}, padding=padding, **{"stages": SHORT, **fields})
    size = (26, 33) if padding == "same" else (19, 40)
    assert difference(Engine(model, size=size, threads=threads), model, pictures(size, batch=2)) < AGREE


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    channels=st.tuples(*[st.integers(1, 40)] * 3),
    extras=st.lists(st.integers(1, 40), max_size=3),
    classes=st.integers(1, 40),
    padding=st.sampled_from(["same", "symmetric"]),
    threads=st.integers(1, 3),
    batch=st.integers(1, 4),
)
def test_any_size_and_any_number_of_channels_agrees(
    random_detector: RandomModel, size: tuple[int, int], channels: tuple[int, int, int], extras: list[int],
    classes: int, padding: str, threads: int, batch: int,
) -> None:  # fmt: skip
    stages = ((1, channels[0], 1, 1), (3, channels[1], 2, 2))
    head = {"taps": ("s2.expanded", "out"), "extras": extras, "anchors": (ANCHORS,) * (2 + len(extras))}
    model = random_detector(
        head={**head, "classes": classes}, stages=stages, stem_channels=channels[2], last_channels=channels[0] + 1,
        round_nearest=1, padding=padding,
    )  # fmt: skip
    assert difference(Engine(model, size=size, threads=threads), model, pictures(size, batch=batch)) < AGREE


@pytest.mark.few(1)
@pytest.mark.parametrize("level", ["x86-64", "haswell", "skylake-avx512"])
def test_every_kind_of_cpu_gives_the_same_answers(
    random_detector: RandomModel, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        cpus.runnable(level)
    except UsageError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("MOBILENETV2_CPU", level)
    for classes in (1, 20):
        model = random_detector(stages=SHORT, head={**SHORT_HEAD, "classes": classes})
        assert difference(Engine(model, size=(45, 19), threads=2), model, pictures((45, 19))) < AGREE


@pytest.mark.slow
def test_threads_and_batches_change_no_bit(random_detector: RandomModel) -> None:
    model = random_detector(stages=SHORT, head={**SHORT_HEAD, "classes": 20})
    images = pictures((96, 64), batch=5)
    expected = Engine(model, size=(96, 64)).run(images)
    for threads in (2, 3, 5):
        engine = Engine(model, size=(96, 64), threads=threads)
        apart = engine.run(images)
        together = [engine.run(image[np.newaxis]) for image in images]
        for name, values in expected.items():
            np.testing.assert_array_equal(apart[name], values)
            np.testing.assert_array_equal(np.concatenate([outputs[name] for outputs in together]), values)


def test_outputs_are_one_block_for_each_image(random_detector: RandomModel) -> None:
    model = random_detector(stages=SHORT, head=SHORT_HEAD)
    outputs = Engine(model, size=64, threads=2).run(pictures((64, 64), batch=3))
    logits, deltas = outputs["class_logits"], outputs["box_deltas"]
    assert logits.base is deltas.base  # nothing was copied
    anchors = logits.shape[1]
    assert deltas.ctypes.data - logits.ctypes.data == logits[0].nbytes
    assert logits.strides[0] == deltas.strides[0] == 4 * anchors * (logits.shape[2] + 4)
    assert all(values[0].flags.c_contiguous for values in outputs.values())


@pytest.mark.parametrize("size", [(320, 320), (97, 161)])
def test_a_plan_does_all_the_multiply_adds_of_the_network(size: tuple[int, int]) -> None:
    network = Spec(backbone(width_mult=0.75), SSDLite())
    steps = planned(network, size).steps
    assert sum(step.multiply_adds for step in steps) == complexity.complexity(network, size).multiply_adds


def planned(network: Spec, size: tuple[int, int], *, threads: int = 1) -> Plan:
    return plan(network, size, cpus.named("skylake-avx512"), threads=threads)


def test_heads_fill_the_outputs_without_overlap() -> None:
    found = planned(Spec(head=SSDLite(classes=20)), (300, 300))
    grids = ssdlite.grids(Spec(head=SSDLite()), (300, 300))
    for output, values in zip(found.outputs, (21, 4), strict=True):
        starts = sorted(step.target_at for step in found.steps if step.target == output.name)
        per_map = [h * w * n * values for (h, w), n in zip(grids, (3, 6, 6, 6, 6, 6), strict=True)]
        assert starts == [sum(per_map[:k]) for k in range(6)]
        assert output.size == sum(per_map)


def test_a_map_lives_until_its_last_reader() -> None:
    found = planned(Spec(head=SSDLite()), (320, 320))
    numbers = {step.name: number for number, step in enumerate(found.steps)}
    tapped, last = found.buffers["block 13 expand map"], found.buffers["last map"]
    assert (tapped.first, tapped.last) == (numbers["block 13 expand"], numbers["block 13"])
    assert (last.first, last.last) == (numbers["last"], numbers["extra 0"])
    assert tapped.size == 20 * 20 * 576


def test_no_shortcut_takes_the_place_of_a_map_that_is_read_later() -> None:
    net = backbone(width_mult=1.0, **GIVEN_UP)
    for taps, kept in ((("s8", "out"), False), (("out", "s8"), True)):  # extras are made of the last one
        head = SSDLite(taps=taps, extras=(8,), anchors=(ANCHORS,) * 3)
        steps = {step.name: step for step in planned(Spec(net, head), (64, 64)).steps}
        assert (steps["block 3"].source != steps["block 3"].target) == kept


def test_what_nobody_reads_is_not_computed() -> None:
    head = SSDLite(taps=("s8",), extras=(), anchors=(ANCHORS,))
    names = [step.name for step in planned(Spec(head=head), (224, 224)).steps]
    assert names == ["stem + blocks 0-1", "block 2", "block 3", "block 4", "block 5", "class head 0", "box head 0"]


def test_the_arena_of_the_published_detector_is_small() -> None:
    network = Spec(head=SSDLite())
    layer_by_layer = 4 * complexity.complexity(network, 320).peak.live
    assert layer_by_layer == 12_288_000
    assert planned(network, (320, 320)).arena_bytes * 9 < layer_by_layer
    assert planned(network, (320, 320), threads=2).arena_bytes * 7 < layer_by_layer


def test_a_description_has_the_heads_steps() -> None:
    network = Spec(backbone(width_mult=0.5), SSDLite())
    found = describe(network, (320, 320), threads=2)
    heads = {step["name"]: step for step in found["steps"] if "head" in step["name"]}
    assert heads.keys() == {f"{kind} head {k}" for kind in ("class", "box") for k in range(6)}
    assert heads["class head 0"]["output"] == "20 x 20 x 243"
    assert heads["class head 0"]["buffers"]["target"] == "class_logits"
    assert heads["box head 1"]["moved_bytes"] == 4 * 10 * 10 * (1280 + 24)
    assert heads["box head 1"]["layer_by_layer_moved_bytes"] == 4 * 10 * 10 * (3 * 1280 + 24)
    assert len(text(found).splitlines()) == 1 + len(found["steps"]) + 7


@pytest.mark.slow
def test_a_detector_within_a_budget_gives_the_same_answers(random_detector: RandomModel) -> None:
    model = random_detector(stages=SHORT, head=SHORT_HEAD, size=160)
    with pytest.raises(UsageError, match="smallest possible is") as refused:
        Engine(model, budget=1000)
    (smallest,) = re.findall(r"is ([\d,]+) bytes", str(refused.value))
    free, tight = Engine(model), Engine(model, budget=int(smallest.replace(",", "")))
    assert f"{tight.plan.arena_bytes:,}" == smallest
    assert tight.plan.arena_bytes < free.plan.arena_bytes
    expected, found = free.run(pictures((160, 160))), tight.run(pictures((160, 160)))
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < 1e-5 * np.abs(values).max()
