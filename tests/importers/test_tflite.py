"""TFLite files: every weight arrives as the real number it stands for, and nothing else is taken for a MobileNetV2."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import image, model_file, spec
from mobilenetv2.errors import FileError, WeightsError
from mobilenetv2.importers import import_file, tflite
from mobilenetv2.importers.tflite.graph import Tensor
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors

RandomModel = Callable[..., ModelFile]
Author = Callable[..., Any]  # of conftest.py: writes a TFLite graph that can be changed first
TOLERANCE = 1e-5  # relative to the largest logit; batch norm was folded in float64 and rounded to float32


def source_model(random_model: RandomModel, **fields: object) -> ModelFile:
    return random_model(**{"width_mult": 0.35, "padding": "same", "bn_eps": 1e-3, "outputs": 12, **fields})


def imported(a: Any, folder: Path, *, size: int | None = None) -> ModelFile:
    path = folder / "network.tflite"
    path.write_bytes(a.to_bytes())
    return tflite.read(path, size=size)


@torch.inference_mode()
def logits(model: ModelFile, images_BHWC: np.ndarray) -> np.ndarray:
    network = MobileNetV2.from_spec(model.info.spec).eval()
    load_tensors(network, model.tensors)
    parts = [
        network(torch.from_numpy(part.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
        for part in np.array_split(images_BHWC, max(1, len(images_BHWC) // 25))
    ]
    return np.concatenate(parts)


# -- what arrives


@pytest.mark.few(1)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [96, 97])
def test_float_graph_gives_the_logits_of_its_source(
    random_model: RandomModel, author: Author, tmp_path: Path, padding: str, size: int
) -> None:
    model = source_model(random_model, padding=padding)
    explicit = padding == "symmetric"
    found = imported(author(model, size=size, explicit_padding=explicit), tmp_path)
    images = np.random.default_rng(0).normal(size=(2, size, size, 3))
    expected = logits(model, images)
    assert expected.std() > 0.01
    assert np.abs(logits(found, images) - expected).max() <= TOLERANCE * np.abs(expected).max()
    if size % 2 == 0:  # at odd sizes both paddings read the same zeros
        assert found.info.spec.backbone.padding == padding
    assert found.info.preprocessing.size == (size, size)


@pytest.mark.parametrize("storage", ["float32", "float16", "uint8", "int8"])
def test_every_weight_is_the_number_that_the_file_stores(
    random_model: RandomModel, author: Author, tmp_path: Path, storage: str
) -> None:
    a = author(source_model(random_model), storage=storage)
    found = imported(a, tmp_path)
    model_file.check(found, name="imported")
    assert found.info.spec.backbone.width_mult == 0.35
    for conv in spec.convolutions(found.info.spec.backbone):
        np.testing.assert_array_equal(found.tensors[f"{conv.name}.weight"], a.known[f"{conv.name}.weight"])
        np.testing.assert_array_equal(found.tensors[f"{conv.norm}.bias"], a.known[f"{conv.name}.bias"])
    for name in ("classifier.1.weight", "classifier.1.bias"):
        np.testing.assert_array_equal(found.tensors[name], a.known[name])


def test_folded_batch_norm_is_stored_as_the_identity(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    found = imported(author(source_model(random_model)), tmp_path)
    assert found.info.batch_norm == "folded"
    for conv in spec.convolutions(found.info.spec.backbone):
        scale = found.tensors[f"{conv.norm}.weight"] / np.sqrt(found.tensors[f"{conv.norm}.running_var"] + 1e-3)
        np.testing.assert_allclose(scale, 1, rtol=1e-6)
        assert not found.tensors[f"{conv.norm}.running_mean"].any()


@pytest.mark.few(3)
@pytest.mark.parametrize("pool", ["MEAN", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("fully_connected", [True, False])
@pytest.mark.parametrize("explicit_padding", [True, False])
def test_ways_to_write_the_same_network_give_the_same_model(
    random_model: RandomModel, author: Author, tmp_path: Path, pool: str, fully_connected: bool, explicit_padding: bool
) -> None:
    model = source_model(random_model)
    a = author(model, pool=pool, fully_connected=fully_connected, explicit_padding=explicit_padding)
    found, plain = imported(a, tmp_path), imported(author(model), tmp_path)
    assert found.info == plain.info
    assert all((found.tensors[name] == plain.tensors[name]).all() for name in plain.tensors)


def test_1001_outputs_mean_background_first_and_imagenet(
    random_model: RandomModel, author: Author, tmp_path: Path
) -> None:
    path = tmp_path / "network.tflite"
    path.write_bytes(author(source_model(random_model, outputs=1001, width_mult=0.1, last_channels=16)).to_bytes())
    info = import_file(path).info
    assert info.spec.head.background == "first"
    assert (info.labels[0], info.labels[281]) == ("tench", "tabby")
    assert info.provenance["source"] == "tflite"


def test_relu_graph_is_a_relu_network_and_ranges_that_end_at_6_are_relu6(
    random_model: RandomModel, author: Author, tmp_path: Path
) -> None:
    assert (
        imported(author(source_model(random_model, activation="relu")), tmp_path).info.spec.backbone.activation
        == "relu"
    )
    for fused in (0, 1):  # NONE and RELU: the quantised output, 0..6, does the rest
        a = author(source_model(random_model), storage="uint8")
        for operator in a.operators:
            if operator.options.get("FusedActivationFunction") == 3:
                operator.options["FusedActivationFunction"] = fused
        assert imported(a, tmp_path).info.spec.backbone.activation == "relu6"


# -- how pixels are normalised


@pytest.mark.parametrize(
    ("pixels", "mean", "std"), [("uint8", 128, 128), ("int8", 128, 128), ("float32", 127.5, 127.5)]
)
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_quantised_input_says_how_pixels_are_normalised(
    random_model: RandomModel, author: Author, tmp_path: Path, pixels: str, storage: str, mean: float, std: float
) -> None:
    info = imported(author(source_model(random_model), pixels=pixels, storage=storage), tmp_path).info
    assert info.preprocessing.mean == (mean,) * 3
    assert info.preprocessing.std == (std,) * 3
    assert any("normalised" in note for note in info.provenance["notes"]) == (pixels == "float32")


@pytest.mark.parametrize("unit", [1, 255], ids=["0..255", "0..1"])
def test_arithmetic_before_the_first_convolution_is_the_normalisation(
    random_model: RandomModel, author: Author, tmp_path: Path, unit: float
) -> None:
    a = author(source_model(random_model))
    stem = a.operators[0]
    mean, std = np.array([120, 110, 100], np.float32) / unit, np.array(50 / unit, np.float32)
    shape = a.tensors[0].shape
    centred, scaled = a.tensor("centred", shape), a.tensor("scaled", shape)
    a.operator("SUB", [0, a.constant("mean", mean)], centred)
    a.operator("DIV", [centred, a.constant("std", std)], scaled)
    a.operators[:] = [*a.operators[-2:], *a.operators[:-2]]
    stem.inputs[0] = scaled
    preprocessing = imported(a, tmp_path).info.preprocessing
    np.testing.assert_allclose(preprocessing.mean, (120, 110, 100), rtol=1e-5)
    np.testing.assert_allclose(preprocessing.std, (50, 50, 50), rtol=1e-5)


def test_scale_that_is_nearly_one_over_127_5_is_taken_for_it(
    random_model: RandomModel, author: Author, tmp_path: Path
) -> None:
    a = author(source_model(random_model), pixels="uint8")
    a.tensors[0].scales, a.tensors[0].zero_points = np.array([1 / 127.5]), np.array([127])
    preprocessing = imported(a, tmp_path).info.preprocessing
    assert (preprocessing.mean[0], preprocessing.std[0]) == (127, 127.5)


def test_open_input_size_is_the_one_asked_for_or_224(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    a = author(source_model(random_model))
    a.tensors[0].shape = (1, -1, -1, 3)
    assert imported(a, tmp_path).info.preprocessing.size == (224, 224)
    assert imported(a, tmp_path, size=160).info.preprocessing.size == (160, 160)


# -- dequantisation


@given(
    rows=st.integers(1, 4), columns=st.integers(1, 4), axis=st.integers(0, 1), per_channel=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_dequantised_value_is_scale_times_distance_from_zero_point(
    rows: int, columns: int, axis: int, per_channel: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stored = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
    n = (rows, columns)[axis] if per_channel else 1
    scales, zeros = rng.uniform(0.001, 2, n), rng.integers(-128, 128, n).astype(np.float64)
    values = Tensor("w", (rows, columns), "int8", stored.reshape(-1), scales, zeros, axis).values()
    for i in range(rows):
        for j in range(columns):
            k = (i, j)[axis] if per_channel else 0
            assert values[i, j] == (int(stored[i, j]) - zeros[k]) * scales[k]


# -- what is refused


def refused(a: Any, folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        imported(a, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_operators_of_other_tasks_are_named(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    a = author(source_model(random_model))
    a.operators[-1].kind = "ARG_MAX"
    assert "ARG_MAX" in refused(a, tmp_path)
    assert "classifiers" in refused(a, tmp_path)


def test_second_output_is_refused(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    a = author(source_model(random_model))
    a.outputs.append(a.operators[-2].outputs[0])
    assert "2 outputs" in refused(a, tmp_path)


def test_differences_from_the_network_are_named(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    model = source_model(random_model)
    stride = author(model)
    next(o for o in stride.operators if o.kind == "DEPTHWISE_CONV_2D").options.update(StrideH=2, StrideW=2)
    assert "features.1.conv.0.0" in refused(stride, tmp_path)
    assert "stride" in refused(stride, tmp_path)

    activation = author(model)
    activation.operators[2].options["FusedActivationFunction"] = 3  # the first projection
    assert "features.1.conv.1" in refused(activation, tmp_path)

    shortcut = author(model)
    add = next(o for o in shortcut.operators if o.kind == "ADD")
    shortcut.operators.remove(add)
    for operator in shortcut.operators:
        operator.inputs = [add.inputs[1] if i == add.outputs[0] else i for i in operator.inputs]
    assert "shortcut" in refused(shortcut, tmp_path)

    added_twice = author(model)
    add = next(o for o in added_twice.operators if o.kind == "ADD")
    add.inputs[0] = add.inputs[1]
    assert "add" in refused(added_twice, tmp_path).lower()


def test_nothing_of_the_file_is_left_out(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    unread = author(source_model(random_model))
    unread.constant("forgotten", np.zeros(3, np.float32))
    assert "forgotten" in refused(unread, tmp_path)

    second_head = author(source_model(random_model))
    features = next(o for o in second_head.operators if o.kind == "MEAN").outputs[0]
    second_head.operator("SOFTMAX", [features], second_head.tensor("more", (1, 1280)))
    assert "features" in refused(second_head, tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    random_model: RandomModel, author: Author, tmp_path: Path, value: float
) -> None:
    a = author(source_model(random_model))
    weights = a.tensors[a.operators[0].inputs[1]].values
    assert weights is not None
    weights[0, 0, 0, 0] = value
    assert "finite" in refused(a, tmp_path)


def test_scales_that_do_not_fit_their_tensor_are_refused(
    random_model: RandomModel, author: Author, tmp_path: Path
) -> None:
    a = author(source_model(random_model), storage="int8", pixels="int8")
    weights = a.tensors[a.operators[0].inputs[1]]
    weights.scales, weights.zero_points = weights.scales[:-1], weights.zero_points[:-1]
    assert "scales" in refused(a, tmp_path)


def test_only_tflite_files_are_recognised(random_model: RandomModel, author: Author, tmp_path: Path) -> None:
    real, text, empty = tmp_path / "a.bin", tmp_path / "b.tflite", tmp_path / "c.tflite"
    real.write_bytes(author(source_model(random_model)).to_bytes())
    text.write_text("no network")
    empty.write_bytes(b"")
    assert tflite.recognises(real)
    assert not any(map(tflite.recognises, (text, empty, tmp_path, tmp_path / "missing.tflite")))
    for path in (text, empty):
        with pytest.raises(WeightsError, match="TFL3"):
            tflite.read(path)
    with pytest.raises(FileError, match="missing"):
        tflite.read(tmp_path / "missing.tflite")


@pytest.fixture(scope="module")
def healthy(random_model: RandomModel, author: Author) -> bytes:
    return author(source_model(random_model, width_mult=0.05, last_channels=8, outputs=3), storage="int8").to_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        found = tflite.read(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        model_file.check(found, name="damaged")


# -- Google's own files


@pytest.mark.parametrize(
    ("name", "storage"),
    [("mobilenet_v2_1.0_224_quant", "uint8 per tensor"), ("tf2_mobilenet_v2_1.0_224_ptq", "int8 per channel")],
)
def test_published_classifiers_answer_as_litert_does(real_data: Path, name: str, storage: str) -> None:
    model = import_file(real_data / "weights" / "google-coral" / f"{name}.tflite")
    assert model.info.provenance["weights"] == storage
    folder = real_data / "classification" / "imagenet_val_300"
    with open(folder / f"litert_{name}_top5.csv", newline="") as file:
        rows = list(csv.reader(file))[1:61]
    truth, litert = (np.array([int(row[i]) for row in rows]) for i in (1, 2))
    preprocessing = image.override(model.info.preprocessing, resize="none", crop=224)
    crops = np.stack([np.asarray(image.load(folder / "data" / row[0], preprocessing)[0]) for row in rows])
    images = image.normalise(crops.astype(np.uint8), preprocessing)
    answers = logits(model, images).argmax(1) - 1  # background is output 0
    assert (answers == litert).sum() >= 56  # 93 % of 60
    assert abs((answers == truth).sum() - (litert == truth).sum()) <= 2
