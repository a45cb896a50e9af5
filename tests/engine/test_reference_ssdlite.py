"""The NumPy reference runs detectors: the same raw outputs as torch, in the documented order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import ssdlite

RandomModel = Callable[..., ModelFile]
AGREE = 1e-4  # of the largest output: float32 sums in another order, over 70 layers


def both(model: ModelFile, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return ReferenceBackend(model).run(images), TorchBackend(model).run(images)


def assert_agree(model: ModelFile, images: np.ndarray) -> None:
    expected, found = both(model, images)
    head = ssdlite.head_of(model.info.spec)
    anchors = ssdlite.anchor_count(model.info.spec, (images.shape[1], images.shape[2]))
    assert {name: values.shape for name, values in expected.items()} == {
        "class_logits": (len(images), anchors, head.outputs),
        "box_deltas": (len(images), anchors, 4),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert values.dtype == found[name].dtype == np.float32
        assert np.abs(found[name] - values).max() <= AGREE * np.abs(values).max(), name


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(
    ("width", "size"),
    [(0.35, (300, 300)), (0.35, (97, 161)), (1.0, (320, 320)), (1.4, (97, 161)), (0.35, (1, 130)), (0.35, (32, 320))],
)
def test_reference_and_torch_agree(
    width: float, size: tuple[int, int], padding: str, random_detector: RandomModel
) -> None:
    model = random_detector(width_mult=width, padding=padding, bn_eps=1e-3, size=size)
    images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    assert_agree(model, images)


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        ({"separable": False}, {"padding": "same"}),
        ({"background": "none"}, {}),
        ({"squeezes": (9, 8, 7, 6), "linear_extras": True, "pointwise_last": True, "steps": [0.2] * 6}, {}),
        ({"linear_extras": True, "separable": False}, {}),
        ({"background": "last", "score": "softmax"}, {"activation": "relu"}),
        ({"extras": (), "anchors": [[(0.1, 0.2)], [(0.5, 0.5), (0.9, 0.1)]]}, {}),
        ({"taps": ("s8", "s32", "out"), "extras": (7, 1), "anchors": [[(0.3, 0.3)]] * 5}, {"output_stride": 16}),
        ({}, {"shortcut": "expansion"}),
    ],
    ids=str,
)
def test_every_switch_of_the_head_means_the_same_to_both(
    head: dict[str, Any], fields: dict[str, Any], random_detector: RandomModel
) -> None:
    model = random_detector(head=head, size=65, **fields)
    assert_agree(model, np.random.default_rng(0).integers(0, 256, (3, 65, 50, 3), dtype=np.uint8))


@pytest.mark.parametrize("backend", [ReferenceBackend, TorchBackend])
def test_outputs_are_map_by_map_row_by_row_cell_by_cell(backend: Any, random_detector: RandomModel) -> None:
    """Heads that say the same everywhere, but for the anchor and the value: their biases."""
    model = random_detector(size=96, head={"anchors": [[(0.1, 0.1)] * 2] * 6})
    tensors = dict(model.tensors)
    for part, values in (("class_heads", 6), ("box_heads", 4)):
        for k in range(6):
            weight = tensors[f"{part}.{k}.1.weight"]
            tensors[f"{part}.{k}.1.weight"] = np.zeros_like(weight)
            tensors[f"{part}.{k}.1.bias"] = (np.arange(2 * values) + 100 * k).astype(np.float32)
    raw = backend(ModelFile(model.info, tensors)).run(np.zeros((1, 96, 96, 3), np.uint8))
    cells = [6 * 6, 3 * 3, 2 * 2, 1, 1, 1]
    for name, values in (("class_logits", 6), ("box_deltas", 4)):
        expected = [[100 * k + np.arange(2 * values).reshape(2, values)] * n for k, n in enumerate(cells)]
        np.testing.assert_array_equal(raw[name][0], np.concatenate([np.concatenate(rows) for rows in expected]))


@pytest.mark.parametrize("backend", [ReferenceBackend, TorchBackend])
def test_a_maps_places_are_in_reading_order(backend: Any, random_detector: RandomModel) -> None:
    """A head that hands on the first channel of its map."""
    model = random_detector(size=(96, 160))
    eps, channels = model.info.spec.backbone.bn_eps, 1280
    centre = np.zeros((channels, 1, 3, 3), np.float32)
    centre[:, :, 1, 1] = 1
    first = np.zeros_like(model.tensors["class_heads.1.1.weight"])
    first[0, 0] = 1
    norm = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1 - eps}
    tensors = {
        **model.tensors,
        "class_heads.1.0.0.weight": centre,
        **{f"class_heads.1.0.1.{part}": np.full(channels, value, np.float32) for part, value in norm.items()},
        "class_heads.1.1.weight": first,
        "class_heads.1.1.bias": np.zeros(len(first), np.float32),
    }
    model = ModelFile(model.info, tensors)
    images = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), dtype=np.uint8)
    expected = ReferenceBackend(model).features(images)["out"][0, :, :, 0]
    assert expected.shape == (3, 5)
    assert expected.std() > 0.1
    of_map = backend(model).run(images)["class_logits"][0, 6 * 10 * 3 :][: 3 * 5 * 6]
    np.testing.assert_allclose(of_map[::6, 0].reshape(3, 5), expected, atol=AGREE)


def test_a_batch_is_the_same_as_one_at_a_time(random_detector: RandomModel) -> None:
    backend = ReferenceBackend(random_detector())
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 33, 3), dtype=np.uint8)
    together = backend.run(images)
    for name, values in together.items():
        one_by_one = np.concatenate([backend.run(images[i : i + 1])[name] for i in range(3)])
        assert np.abs(values - one_by_one).max() <= AGREE * np.abs(one_by_one).max()
