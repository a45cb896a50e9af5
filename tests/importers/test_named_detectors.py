"""Random weights in other projects' SSDLite networks, imported, give the raw outputs and anchors that those have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repositories import MMDetectionSSDLite, QfgaohaoSSDLite, randomise
from safetensors.numpy import save_file
from tensorflow_variables import convolution, stem_and_blocks
from torch import nn

from mobilenetv2 import boxes, spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import import_file
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import SSDLite, ssdlite

RandomModel = Callable[..., ModelFile]
TOLERANCE = 1e-5  # of the largest output; float32 sums of the same terms in another order


@torch.inference_mode()
def assert_same_outputs(model: ModelFile, theirs: nn.Module, size: int) -> None:
    images = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    found = TorchBackend(model).run(images)
    for name, values in zip(("class_logits", "box_deltas"), expected, strict=True):
        assert values.std() > 1e-3, "outputs that do not depend on the input would prove nothing"
        difference = np.abs(found[name] - values.numpy()).max() / values.abs().max().item()
        print(f"{name}: max difference {difference:.1e}")
        assert difference <= TOLERANCE


def head_of(model: ModelFile) -> SSDLite:
    return ssdlite.head_of(model.info.spec)


# -- qfgaohao


@pytest.fixture(scope="module")
def qfgaohao(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network = randomise(QfgaohaoSSDLite(21))
    path = tmp_path_factory.mktemp("qfgaohao") / "mb2-ssd-lite.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_qfgaohao(qfgaohao: tuple[nn.Module, Path]) -> None:
    network, path = qfgaohao
    model = import_file(path)
    head = head_of(model)
    assert model.info.provenance["source"] == "qfgaohao"
    assert (head.score, head.background, head.squeezes) == ("softmax", "first", (256, 128, 128, 64))
    assert (model.info.labels, model.info.batch_norm) == (class_names("voc").names, "live")
    preprocessing = model.info.preprocessing
    assert (preprocessing.size, preprocessing.mean, preprocessing.std) == ((300, 300), (127.0,) * 3, (128.0,) * 3)
    assert_same_outputs(model, network, 300)


def test_qfgaohao_s_anchors_are_their_priors(qfgaohao: tuple[nn.Module, Path]) -> None:
    """Written from their description: centres by the map's nominal stride, everything clamped to the picture."""
    priors: list[list[float]] = []
    rows = (
        (19, 16, 60, 105),
        (10, 32, 105, 150),
        (5, 64, 150, 195),
        (3, 100, 195, 240),
        (2, 150, 240, 285),
        (1, 300, 285, 330),
    )
    for cells, shrinkage, small, large in rows:
        for row, column in itertools.product(range(cells), repeat=2):
            shapes = [(small, small), (math.sqrt(small * large),) * 2]
            for root in (math.sqrt(2), math.sqrt(3)):
                shapes += [(small * root, small / root), (small / root, small * root)]
            centre = (column + 0.5) * shrinkage, (row + 0.5) * shrinkage
            priors += [[*centre, *shape] for shape in shapes]
    expected = np.clip(np.array(priors) / 300, 0, 1)
    model = import_file(qfgaohao[1])
    np.testing.assert_allclose(boxes.anchors(model.info.spec, (300, 300)), expected, atol=1e-6)
    assert head_of(model).coder == (10, 10, 5, 5)


# -- mmdetection


def test_mmdetection(tmp_path: Path) -> None:
    network = randomise(MMDetectionSSDLite(80))
    torch.save({"meta": {"epoch": 120}, "state_dict": network.state_dict()}, tmp_path / "ssdlite.pth")
    model = import_file(tmp_path / "ssdlite.pth")
    head = head_of(model)
    assert model.info.provenance["source"] == "mmdetection"
    assert (head.score, head.background, head.taps) == ("softmax", "last", ("s16", "out"))
    assert (model.info.labels, model.info.label_ids) == (class_names("coco").names, class_names("coco").ids)
    assert model.info.preprocessing.mean == (123.675, 116.28, 103.53)
    assert_same_outputs(model, network, 320)
    # the first anchors of two maps, from the configuration
    anchors = boxes.anchors(model.info.spec, (320, 320)) * 320
    np.testing.assert_allclose(anchors[0], (8, 8, 48, 48), atol=1e-3)
    np.testing.assert_allclose(anchors[2], (8, 8, 48 * math.sqrt(2), 48 / math.sqrt(2)), atol=1e-3)
    fourth = 6 * (20**2 + 10**2 + 5**2)
    np.testing.assert_allclose(anchors[fourth + 6 * 8 + 1], (267.5, 267.5, *[math.sqrt(202 * 253)] * 2), atol=1e-3)


# -- TensorFlow's variables


def variables(model: ModelFile) -> dict[str, np.ndarray]:
    """The tensors of `model` as TensorFlow's Object Detection API names and stores them."""
    result: dict[str, np.ndarray] = {}
    layers, net = ssdlite.layers(model.info.spec), model.info.spec.backbone

    def put(conv: spec.ConvSpec, scope: str) -> None:
        result.update(convolution(model, conv, scope))

    root = "FeatureExtractor/MobilenetV2"
    result.update(stem_and_blocks(model, root))
    put(spec.last(net), f"{root}/Conv_1")
    for i, depth in enumerate((512, 256, 256, 128)):
        put(layers.extras[i][0], f"{root}/layer_19_1_Conv2d_{i + 2}_1x1_{depth // 2}")
        put(layers.extras[i][1], f"{root}/layer_19_2_Conv2d_{i + 2}_3x3_s2_{depth}_depthwise")
        put(layers.extras[i][2], f"{root}/layer_19_2_Conv2d_{i + 2}_3x3_s2_{depth}")
    for k in range(6):
        put(layers.class_heads[k][0], f"BoxPredictor_{k}/ClassPredictor_depthwise")
        put(layers.class_heads[k][1], f"BoxPredictor_{k}/ClassPredictor")
        put(layers.box_heads[k][0], f"BoxPredictor_{k}/BoxEncodingPredictor_depthwise")
        put(layers.box_heads[k][1], f"BoxPredictor_{k}/BoxEncodingPredictor")
        # theirs are ty, tx, th, tw
        for name in ("weights", "biases"):
            stored = result[f"BoxPredictor_{k}/BoxEncodingPredictor/{name}"].copy()
            swapped = stored.copy()
            for ours, place in enumerate((1, 0, 3, 2)):
                swapped[..., place::4] = stored[..., ours::4]
            result[f"BoxPredictor_{k}/BoxEncodingPredictor/{name}"] = swapped
    return result


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def tensorflow(random_detector: RandomModel) -> tuple[ModelFile, dict[str, np.ndarray]]:
    model = random_detector(padding="same", bn_eps=1e-3, head={"classes": 90}, size=300)
    return model, variables(model)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_tensorflow_s_variables(tensorflow: tuple[ModelFile, dict[str, np.ndarray]], tmp_path: Path, kind: str) -> None:
    model, stored = tensorflow
    path = tmp_path / f"ssdlite_mobilenet_v2_coco.{kind}"
    if kind == "npz":
        save_npz(path, {**stored, "global_step": np.array(400_000)})
    else:
        save_file({f"{name}:0": np.ascontiguousarray(value) for name, value in stored.items()}, path)
    found = import_file(path)
    assert found.info.provenance["source"] == "tensorflow"
    assert found.info.preprocessing.recipe == "ssd-tf"
    assert (found.info.labels, found.info.label_ids) == (class_names("coco").names, class_names("coco").ids)
    assert boxes.anchors(found.info.spec, (300, 300)).shape == (1917, 4)
    used = [0, *map(int, class_names("coco").ids)]
    for name, values in model.tensors.items():
        if name.startswith("class_heads") and name.split(".")[2] == "1" and values.shape[0] % 91 == 0:
            values = values.reshape(-1, 91, *values.shape[1:])[:, used].reshape(-1, *values.shape[1:])
        np.testing.assert_array_equal(found.tensors[name], values, err_msg=name)


def test_a_network_of_one_s_own_classes_keeps_all_outputs(random_detector: RandomModel, tmp_path: Path) -> None:
    save_npz(tmp_path / "own.npz", variables(random_detector(padding="same", bn_eps=1e-3, head={"classes": 3})))
    found = import_file(tmp_path / "own.npz", size=320)
    assert (found.info.classes, found.info.labels, found.info.preprocessing.size) == (3, (), (320, 320))


def test_averages_are_taken_before_the_last_step_s(
    tensorflow: tuple[ModelFile, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    _, stored = tensorflow
    name = "BoxPredictor_0/ClassPredictor/biases"
    averaged = {**stored, f"{name}/ExponentialMovingAverage": stored[name] + 1, f"{name}/RMSProp": stored[name] * 0}
    save_npz(tmp_path / "averaged.npz", averaged)
    save_npz(tmp_path / "plain.npz", stored)
    found, plain = import_file(tmp_path / "averaged.npz"), import_file(tmp_path / "plain.npz")
    changed = "class_heads.0.1.bias"
    np.testing.assert_allclose(found.tensors[changed], plain.tensors[changed] + 1, rtol=1e-6)
    assert any("ExponentialMovingAverage" in note for note in found.info.provenance["notes"])


# -- what does not fit


def test_a_missing_and_a_left_over_tensor_are_named(qfgaohao: tuple[nn.Module, Path], tmp_path: Path) -> None:
    state = dict(qfgaohao[0].state_dict())
    del state["regression_headers.2.0.bias"]
    state["source_layer_add_ons.0.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "weights.pth")
    message = (
        r"qfgaohao: tensor regression_headers\.2\.0\.bias missing; tensor source_layer_add_ons\.0\.weight left over"
    )
    with pytest.raises(WeightsError, match=message):
        import_file(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("BoxPredictor_1/ClassPredictor/weights", (1, 1, 1280, 5), r"weights stands for \[5, 1280, 1, 1\], expected"),
        ("BoxPredictor_1/ClassPredictor/weights", (5,), r"ClassPredictor/weights \[5\] are no convolution's"),
        ("BoxPredictor_0/ClassPredictor/weights", (1, 1, 192, 5), "5 class outputs for 3 anchors"),
        ("BoxPredictor_0/BoxEncodingPredictor/biases", (13,), r"biases \[13\] are no convolution's"),
        ("FeatureExtractor/MobilenetV2/Conv/weights", (3, 3, 4, 16), r"MobilenetV2/Conv/weights stands for"),
    ],
)  # fmt: skip
def test_a_misshapen_variable_is_named(
    tensorflow: tuple[ModelFile, dict[str, np.ndarray]], tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    save_npz(tmp_path / "bad.npz", {**tensorflow[1], name: np.ones(shape, np.float32)})
    with pytest.raises(WeightsError, match=message) as caught:
        import_file(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_cut_npz_is_refused_in_one_line(tensorflow: tuple[ModelFile, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    save_npz(path, tensorflow[1])
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match=r"cut\.npz") as caught:
        import_file(path)
    assert "\n" not in str(caught.value)
