"""The NumPy reference: each operation against its definition, the whole network against torch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.engine import reference
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import ConvSpec, Padding

RandomModel = Callable[..., ModelFile]
AGREE = 1e-4  # of the largest output: float32 sums in another order, over 52 layers


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 4),
    out=st.integers(1, 4),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    depthwise=st.booleans(),
    padding=st.sampled_from(["same", "symmetric"]),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_the_sum_that_defines_it(
    height: int, width: int, channels: int, out: int, kernel: int, stride: int, dilation: int, depthwise: bool,
    padding: Padding, seed: int,
) -> None:  # fmt: skip
    out = channels if depthwise else out
    conv = ConvSpec(
        "c", None, channels, out, kernel=kernel, stride=stride, dilation=dilation,
        groups=channels if depthwise else 1, padding=padding,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, height, width, channels))
    weight = rng.normal(size=conv.weight_shape)
    found = reference.convolve(x, weight, conv)
    top, left = conv.pads(height)[0], conv.pads(width)[0]
    expected = np.zeros((2, -(-height // stride), -(-width // stride), out))
    for b, row, column, o in np.ndindex(expected.shape):
        for i, j in np.ndindex(kernel, kernel):
            y, z = row * stride + i * dilation - top, column * stride + j * dilation - left
            if 0 <= y < height and 0 <= z < width:
                inputs = x[b, y, z, o] if depthwise else x[b, y, z]
                expected[b, row, column, o] += (inputs * weight[o, :, i, j]).sum()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_batch_norm_and_activations_are_their_formulas() -> None:
    x = np.array([[[[-1.0, 0.5, 20.0]]]])
    parts = {
        "weight": np.array([2.0, 1.0, 1.0]),
        "bias": np.array([0.0, 1.0, 0.0]),
        "running_mean": np.array([1.0, 0.5, 0.0]),
        "running_var": np.array([3.0, 1.0, 0.0]),
    }
    np.testing.assert_allclose(reference.batch_norm(x, parts, 1.0), [[[[-2.0, 1.0, 20.0]]]])
    np.testing.assert_array_equal(reference.activate(x, "relu6"), [[[[0, 0.5, 6]]]])
    np.testing.assert_array_equal(reference.activate(x, "relu"), [[[[0, 0.5, 20]]]])
    np.testing.assert_array_equal(reference.activate(x, "linear"), x)


@pytest.mark.few(4)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
@pytest.mark.parametrize("size", [96, 97, 224, 225])
def test_reference_and_torch_agree(size: int, width: float, padding: str, random_model: RandomModel) -> None:
    model = random_model(width_mult=width, padding=padding, bn_eps=1e-3, size=size, seed=size)
    images = np.random.default_rng(size).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    expected = ReferenceBackend(model).run(images)["logits"]
    found = TorchBackend(model).run(images)["logits"]
    assert expected.shape == (1, 1000)
    assert np.abs(found - expected).max() <= AGREE * np.abs(expected).max()


@pytest.mark.parametrize(
    "fields",
    [
        {"output_stride": 8},
        {"output_stride": 16, "padding": "same"},
        {"shortcut": "expansion"},
        {"shortcut": "none", "bottleneck": "relu6"},
        {"activation": "relu"},
        {"in_channels": 1},
        {"in_channels": 5, "padding": "same"},
        {"round_nearest": 1},
        {"stages": [(1, 13, 1, 1), (2.5, 17, 2, 2), (6, 23, 1, 2)], "stem_channels": 7, "last_channels": 33},
    ],
    ids=str,
)
def test_every_switch_of_the_spec_means_the_same_to_both(fields: dict, random_model: RandomModel) -> None:
    model = random_model(**{"width_mult": 0.35, "outputs": 10, "size": 65, **fields})
    if (channels := model.info.spec.backbone.in_channels) != 3:
        from dataclasses import replace

        preprocessing = replace(model.info.preprocessing, mean=(100.0,) * channels, std=(50.0,) * channels)
        model = ModelFile(replace(model.info, preprocessing=preprocessing), model.tensors)
    images = np.random.default_rng(0).integers(0, 256, (3, 65, 50, channels), dtype=np.uint8)
    expected = ReferenceBackend(model, dtype=np.float64).run(images)["logits"]
    for backend in (ReferenceBackend(model), TorchBackend(model)):
        assert np.abs(backend.run(images)["logits"] - expected).max() <= AGREE * np.abs(expected).max()


def test_a_batch_is_the_same_as_one_at_a_time(random_model: RandomModel) -> None:
    backend = ReferenceBackend(random_model(width_mult=0.35))
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 33, 3), dtype=np.uint8)
    together = backend.run(images)["logits"]
    one_by_one = np.concatenate([backend.run(images[i : i + 1])["logits"] for i in range(3)])
    assert np.abs(together - one_by_one).max() <= AGREE * np.abs(one_by_one).max()


def test_pixels_and_normalised_floats_are_the_same_input(random_model: RandomModel) -> None:
    from mobilenetv2.image import normalise

    model = random_model(width_mult=0.35)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for backend in (ReferenceBackend(model), TorchBackend(model)):
        pixels = backend.run(images)["logits"]
        floats = backend.run(normalise(images, model.info.preprocessing))["logits"]
        np.testing.assert_array_equal(pixels, floats)


def test_features_are_torchs(random_model: RandomModel) -> None:
    from mobilenetv2.nn import MobileNetV2, load_tensors

    model = random_model(width_mult=0.5, padding="same", output_stride=16)
    network = MobileNetV2.from_spec(model.info.spec).eval()
    load_tensors(network, model.tensors)
    x = np.random.default_rng(0).normal(size=(1, 64, 49, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = network.features_dict(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    ours = ReferenceBackend(model).features(x)
    assert ours.keys() == theirs.keys()
    for name, expected_BChw in theirs.items():
        expected = expected_BChw.numpy().transpose(0, 2, 3, 1)
        assert np.abs(ours[name] - expected).max() <= AGREE * np.abs(expected).max(), name


def test_the_smallest_picture_has_an_answer(random_model: RandomModel) -> None:
    model = random_model(width_mult=0.35)
    one = np.full((1, 1, 1, 3), 200, np.uint8)
    expected = TorchBackend(model).run(one)["logits"]
    assert np.abs(ReferenceBackend(model).run(one)["logits"] - expected).max() <= AGREE * np.abs(expected).max()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"\[4, 4, 3\]"),
        (np.zeros((1, 4, 4, 1), np.uint8), r"batch, height, width, 3\], got \[1, 4, 4, 1\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"got \[0, 4, 4, 3\]"),
        (np.zeros((1, 4, 4, 3), np.float64), "uint8 pixels or normalised float32, got float64"),
    ],
)
def test_images_of_another_kind_are_refused(images: np.ndarray, words: str, random_model: RandomModel) -> None:
    model = random_model(width_mult=0.35)
    for backend in (ReferenceBackend(model), TorchBackend(model)):
        with pytest.raises(UsageError, match=words):
            backend.run(images)
