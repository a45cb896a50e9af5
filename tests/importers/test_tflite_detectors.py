"""Detectors in TFLite files: the graph's own anchors, scales and box order, and the weights that it stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import boxes, model_file, spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import import_file
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import ssdlite, ssdlite_anchors

RandomModel = Callable[..., ModelFile]
Author = Callable[..., Any]  # of conftest.py: writes a TFLite graph that can be changed first
SAME: dict[str, Any] = {"padding": "same", "bn_eps": 1e-3}
TOLERANCE = 1e-4  # of the largest output: batch norm was folded and rounded to float32, in 70 layers; measured 1.3e-5


def imported(a: Any, folder: Path) -> ModelFile:
    (folder / "detector.tflite").write_bytes(a.to_bytes())
    return import_file(folder / "detector.tflite")


def assert_same_outputs(found: ModelFile, model: ModelFile) -> None:
    height, width = model.info.preprocessing.size
    images = np.random.default_rng(0).normal(size=(1, height, width, 3)).astype(np.float32)
    expected, raw = TorchBackend(model).run(images), TorchBackend(found).run(images)
    for name, values in expected.items():
        assert values.std() > 1e-3
        assert np.abs(raw[name] - values).max() <= TOLERANCE * np.abs(values).max(), name


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [96, 97])
def test_a_float_graph_gives_the_outputs_of_its_source(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path, size: int
) -> None:
    model = random_detector(size=size, **SAME)
    found = imported(author_of_detectors(model), tmp_path)
    head = dataclasses.replace(ssdlite.head_of(model.info.spec), most=10)
    assert (found.info.spec.backbone, found.info.spec.head) == (model.info.spec.backbone, head)
    assert (found.info.provenance["source"], found.info.batch_norm) == ("tflite", "folded")
    assert (found.info.preprocessing.recipe, found.info.preprocessing.size) == ("ssd-tf", (size, size))
    assert_same_outputs(found, model)


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        ({"score": "softmax"}, {"padding": "symmetric"}),
        ({"background": "none"}, SAME),
        ({"separable": False, "coder": (8, 9, 4, 3)}, SAME),
        ({"taps": ("s16", "out"), "extras": (32, 32, 32, 32)}, SAME),
        ({"pointwise_last": True, "linear_extras": True}, SAME),
        ({"anchors": [[(0.1 * k + 0.1, 0.2)] * 2 for k in range(6)]}, SAME),
    ],
    ids=str,
)
def test_other_heads(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path, head: dict[str, Any], fields: Any
) -> None:
    model = random_detector(head=head, **fields)
    found = imported(author_of_detectors(model, explicit_padding=fields["padding"] == "symmetric"), tmp_path)
    theirs, ours = ssdlite.head_of(model.info.spec), ssdlite.head_of(found.info.spec)
    assert dataclasses.replace(ours, most=100, anchors=theirs.anchors) == theirs
    assert found.info.spec.backbone.padding == fields["padding"]
    np.testing.assert_allclose(ours.anchors[-1], theirs.anchors[-1], atol=1e-6)
    anchors, expected = (boxes.anchors(spec, (96, 96)) for spec in (found.info.spec, model.info.spec))
    np.testing.assert_allclose(anchors, expected, atol=1e-6)
    assert_same_outputs(found, model)


@pytest.mark.parametrize("storage", ["float16", "uint8", "int8"])
def test_every_weight_is_the_number_that_the_file_stores(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path, storage: Any
) -> None:
    model = random_detector(**SAME)
    pixels = "float32" if storage == "float16" else storage
    a = author_of_detectors(model, storage=storage, pixels=pixels)
    found = imported(a, tmp_path)
    assert found.info.provenance["weights"].startswith(storage)
    convs = spec.all_convolutions(found.info.spec)
    norms = {f"{conv.name}.bias": f"{conv.norm}.bias" for conv in convs}
    for name, values in a.known.items():
        if name.startswith("box_heads") and name.split(".")[2] == "1":
            values = values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]].reshape(values.shape)
        ours = name if name in found.tensors else norms[name]
        np.testing.assert_array_equal(found.tensors[ours], values, err_msg=name)


def test_quantised_anchors_are_taken_for_tensorflow_s(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path
) -> None:
    a = author_of_detectors(random_detector(**SAME), storage="uint8", pixels="uint8")
    record = next(tensor for tensor in a.tensors if tensor.name == "anchors")
    record.scales, record.zero_points = np.array([0.0068]), np.array([10])
    record.values = np.clip(np.round(record.values / 0.0068 + 10), 0, 255).astype(np.uint8)
    record.dtype = "uint8"
    assert ssdlite.head_of(imported(a, tmp_path).info.spec).anchors == ssdlite_anchors()


def test_coco_s_outputs_become_its_80_classes(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path
) -> None:
    found = imported(author_of_detectors(random_detector(head={"classes": 90}, **SAME)), tmp_path)
    assert (found.info.classes, found.info.labels) == (80, class_names("coco").names)
    assert found.tensors["class_heads.0.1.bias"].shape == (3 * 81,)


def test_a_graph_without_the_last_operator_has_tensorflow_s_anchors_and_says_so(
    random_detector: RandomModel, author_of_detectors: Author, tmp_path: Path
) -> None:
    model = random_detector(**SAME)
    found = imported(author_of_detectors(model, postprocess=False), tmp_path)
    assert found.info.spec == model.info.spec
    assert sum("taken for" in note for note in found.info.provenance["notes"]) == 2
    a = author_of_detectors(model, postprocess=False)
    a.outputs.reverse()
    assert imported(a, tmp_path).info.spec == model.info.spec
    other = random_detector(head={"anchors": [[(0.1, 0.2)] * 2] * 6}, **SAME)
    with pytest.raises(WeightsError, match="holds no anchors"):
        imported(author_of_detectors(other, postprocess=False), tmp_path)


# -- what is refused


@pytest.fixture
def a(random_detector: RandomModel, author_of_detectors: Author) -> Any:
    return author_of_detectors(random_detector(**SAME))


def refused(a: Any, folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        imported(a, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def post(a: Any) -> Any:
    return a.operators[-1]


def test_what_the_last_operator_lacks_is_named(a: Any, tmp_path: Path) -> None:
    told = dict(post(a).custom)
    del post(a).custom["y_scale"]
    assert "lacks an option, or it is no number: 'y_scale'" in refused(a, tmp_path)
    post(a).custom = {**told, "num_classes": 17}
    assert "is for 17 classes, but there are 6 scores" in refused(a, tmp_path)
    post(a).custom = {**told, "x_scale": -1.0}
    assert "coder must be four numbers above 0" in refused(a, tmp_path)


def test_anchors_that_are_not_a_grid_are_refused(a: Any, tmp_path: Path) -> None:
    anchors = next(tensor for tensor in a.tensors if tensor.name == "anchors")
    for value in (0.5, np.nan):
        kept = anchors.values.copy()
        anchors.values[40, 0] = value
        assert "not the same shapes in the middle of each cell" in refused(a, tmp_path)
        anchors.values = kept
    anchors.values, anchors.shape = anchors.values[:-1], (len(anchors.values) - 1, 4)
    assert "the anchors are" in refused(a, tmp_path)


def test_nothing_is_left_out(a: Any, tmp_path: Path) -> None:
    a.constant("forgotten", np.zeros(3, np.float32))
    assert "forgotten" in refused(a, tmp_path)


def test_a_head_on_another_map_is_refused(a: Any, tmp_path: Path) -> None:
    first, second, *_ = heads(a)
    first.inputs[0] = second.inputs[0]
    assert "do not read the maps that those for boxes read" in refused(a, tmp_path)


def heads(a: Any) -> list[Any]:
    """The depthwise convolutions of the heads for boxes."""
    named = {i for i, tensor in enumerate(a.tensors) if tensor.name.startswith("box_heads")}
    return [o for o in a.operators if o.kind == "DEPTHWISE_CONV_2D" and o.outputs[0] in named]


def test_an_operator_of_another_network_is_named(a: Any, tmp_path: Path) -> None:
    next(o for o in a.operators if o.kind == "LOGISTIC").kind = "TANH"
    assert "TANH" in refused(a, tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_file_is_one_error_or_another_network_but_never_a_crash(
    healthy: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    damaged = bytearray(healthy)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged[: data.draw(st.integers(8, len(damaged)))])
    try:
        found = import_file(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        model_file.check(found, name="damaged")


@pytest.fixture(scope="module")
def healthy(random_detector: RandomModel, author_of_detectors: Author) -> bytes:
    head = {"extras": (8, 8, 8, 8), "classes": 2}
    small = random_detector(width_mult=0.05, last_channels=8, head=head, size=32, **SAME)
    return author_of_detectors(small, storage="int8", pixels="int8").to_bytes()
