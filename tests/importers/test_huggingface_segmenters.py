"""Hugging Face's networks for masks, with random weights, give what its own code gives; else one line is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repositories import randomise
from safetensors.torch import load_file, save_file
from torch import nn

from mobilenetv2.engine import Engine
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import FileError, UsageError, WeightsError
from mobilenetv2.importers import import_file, load_any
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import deeplab

transformers = pytest.importorskip("transformers")

TORCH = 1e-6  # of the largest logit: the same operations of the same library
OURS = 5e-5  # of the largest logit: float32 sums in another order, through 55 layers
SIZES = ((65, 65), (64, 48), (51, 70))  # 65 = 4 x 16 + 1; even ones; neither


def network(**config: Any) -> Any:
    fields = {"num_labels": 21, "depth_multiplier": 0.5, "output_stride": 16, "image_size": 97, **config}
    return randomise(transformers.MobileNetV2ForSemanticSegmentation(transformers.MobileNetV2Config(**fields)))


def saved(network: Any, folder: Path, *, size: int = 97) -> Path:
    """A folder as the hub has it."""
    network.save_pretrained(folder)
    transformers.MobileNetV2ImageProcessor(
        size={"shortest_edge": size + 32}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return network(depth_multiplier=0.35)


@pytest.fixture
def folder(small: nn.Module, tmp_path: Path) -> Path:
    return saved(small, tmp_path / "model")


@torch.inference_mode()
def assert_same_logits(
    model: ModelFile, theirs: nn.Module, backend: Callable[[ModelFile], Any], tolerance: float, size: tuple[int, int]
) -> None:
    images = np.random.default_rng(1).normal(size=(1, *size, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).logits.numpy().transpose(0, 2, 3, 1)
    found = backend(model).run(images)["logits_map"]
    assert expected.std() > 1e-2, "logits that do not depend on the input would prove nothing"
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"max difference {difference:.1e} at {size}")
    assert difference <= tolerance


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "config",
    [
        {"output_stride": 8, "depth_multiplier": 1.0},
        {"output_stride": 16},
        {"output_stride": 32, "num_labels": 3},
        {"output_stride": 8, "tf_padding": False, "layer_norm_eps": 1e-5},
        {"finegrained_output": False, "hidden_act": "relu"},
        {"depth_multiplier": 1.1, "num_labels": 5},  # they round channels as nobody else does
    ],
    ids=["1.0 at 8", "0.5 at 16", "0.5 at 32", "symmetric", "relu", "1.1"],
)
def test_torch_and_the_reference_give_their_logits(tmp_path: Path, config: dict[str, Any]) -> None:
    theirs = network(**config)
    model = import_file(saved(theirs, tmp_path / "model"))
    head, net = deeplab.head_of(model.info.spec), model.info.spec.backbone
    assert net.output_stride == config.get("output_stride", 16)
    assert (head.outputs, head.aspp, head.bn_eps) == (config.get("num_labels", 21), False, 1e-5)
    for size in SIZES:
        assert_same_logits(model, theirs, TorchBackend, TORCH, size)
    assert_same_logits(model, theirs, ReferenceBackend, OURS, SIZES[2])


@pytest.mark.few(1)
@pytest.mark.parametrize(("output_stride", "size"), list(zip((16, 32, 8), SIZES, strict=True)), ids=str)
def test_the_engine_gives_their_logits(tmp_path: Path, output_stride: int, size: tuple[int, int]) -> None:
    theirs = network(depth_multiplier=0.35, output_stride=output_stride)
    model = import_file(saved(theirs, tmp_path / "model"))
    assert_same_logits(model, theirs, lambda model: Engine(model, size=size), OURS, size)


def test_a_folder_a_file_and_a_pickle_are_the_same_network(folder: Path, tmp_path: Path) -> None:
    expected = import_file(folder)
    old = tmp_path / "old"
    old.mkdir()
    torch.save(load_file(folder / "model.safetensors"), old / "pytorch_model.bin")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, old / name)
    for path in (folder / "model.safetensors", old, old / "pytorch_model.bin"):
        found = import_file(path)
        assert (found.info.spec, found.info.preprocessing) == (expected.info.spec, expected.info.preprocessing)
        for name, values in expected.tensors.items():
            np.testing.assert_array_equal(found.tensors[name], values, err_msg=name)
    assert load_any(str(folder)).info == expected.info  # what training starts from


def test_pictures_are_fitted_in_as_the_configuration_says(folder: Path) -> None:
    info = import_file(folder).info
    assert (info.preprocessing.size, info.preprocessing.resize) == ((97, 97), "fit")
    assert (info.preprocessing.mean, info.preprocessing.std) == ((127.5,) * 3, (127.5,) * 3)
    assert (info.classes, info.spec.head.background, info.label(14)) == (20, "first", "person")
    change(folder / "preprocessor_config.json", image_mean=[0, 0.2, 1], image_std=[1, 0.5, 0.1])
    preprocessing = import_file(folder, size=129).info.preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0, 51, 255), (255, 127.5, 25.5))
    assert (preprocessing.size, preprocessing.recipe) == ((129, 129), "custom")


def test_without_a_configuration_what_was_taken_is_said(folder: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).unlink()
    info = import_file(folder).info
    assert (info.spec.backbone.output_stride, info.preprocessing.size) == (8, (513, 513))
    notes = " ".join(info.provenance["notes"])
    assert "output stride is not in the file: 8 was taken" in notes
    assert "input size is not in the file: 513 was taken" in notes
    assert "mobilenet_v2.conv_1x1.convolution.weight" in notes  # and what masks do not depend on
    said = import_file(folder, output_stride=16, size=257).info
    assert (said.spec.backbone.output_stride, said.preprocessing.size) == (16, (257, 257))


def test_the_convolution_that_masks_do_not_need_may_be_missing(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    left = {name: value for name, value in state.items() if "conv_1x1" not in name}
    assert len(left) < len(state)
    save_file(left, folder / "model.safetensors")
    assert not any("left out" in note for note in import_file(folder).info.provenance["notes"])


@pytest.mark.parametrize(
    ("names", "labels", "background"),
    [
        (("background", "cat", "dog"), ("cat", "dog"), "first"),
        (("cat", "dog", "__background__"), ("cat", "dog"), "last"),
        (("cat", "dog", "owl"), ("cat", "dog", "owl"), "none"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), (), "none"),
    ],
)
def test_classes_are_called_as_the_configuration_says(
    tmp_path: Path, names: tuple[str, ...], labels: tuple[str, ...], background: str
) -> None:
    theirs = network(depth_multiplier=0.35, num_labels=len(names), id2label=dict(enumerate(names)))
    info = import_file(saved(theirs, tmp_path / "model")).info
    assert (info.labels, info.spec.head.background) == (labels, background)


def test_a_background_that_is_said_takes_the_place_of_the_configuration_s(tmp_path: Path) -> None:
    names = {0: "background", 1: "cat", 2: "dog"}
    folder = saved(network(depth_multiplier=0.35, num_labels=3, id2label=names), tmp_path / "model")
    assert import_file(folder, background="first").info.labels == ("cat", "dog")
    info = import_file(folder, background="none").info
    assert (info.classes, info.labels) == (3, ())


def test_an_output_that_becomes_the_background_is_not_taken_for_voc_s(tmp_path: Path) -> None:
    names = {0: "unlabeled", **{i: f"part {i}" for i in range(1, 21)}}
    folder = saved(network(depth_multiplier=0.35, id2label=names), tmp_path / "model")
    assert import_file(folder, background="first").info.labels == tuple(names.values())[1:]


def test_a_grey_network_s_own_mean_is_kept_and_one_of_three_is_refused(tmp_path: Path) -> None:
    folder = saved(network(depth_multiplier=0.35, num_channels=1), tmp_path / "model")
    with pytest.raises(WeightsError, match="has 3 numbers in image_mean, the network has 1 input channels"):
        import_file(folder)
    change(folder / "preprocessor_config.json", image_mean=[0.2], image_std=0.1, size=[200, 300])
    info = import_file(folder).info
    assert (info.preprocessing.mean, info.preprocessing.std, info.preprocessing.resize) == ((51,), (25.5,), "fit")
    assert any("own recipe would stretch them" in note for note in info.provenance["notes"])


def test_a_classifier_s_configuration_counts_too(tmp_path: Path) -> None:
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.35, id2label={0: "cat", 1: "dog"}, tf_padding=False, layer_norm_eps=1e-5, image_size=160
    )
    theirs: Any = randomise(transformers.MobileNetV2ForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    info = import_file(tmp_path).info
    assert (info.labels, info.preprocessing.size, info.preprocessing.recipe) == (("cat", "dog"), (160, 160), "hf")
    assert (info.spec.backbone.padding, info.spec.backbone.bn_eps) == ("symmetric", 1e-5)


def test_a_classifier_of_imagenet_keeps_the_names_that_have_ids(tmp_path: Path) -> None:
    names = {0: "background", 1: "tench, Tinca tinca", **{i: f"LABEL {i}" for i in range(2, 1001)}}
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, id2label=names)
    theirs: Any = randomise(transformers.MobileNetV2ForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    info = import_file(tmp_path).info
    assert (info.spec.head.background, info.labels[281], info.label_ids[0]) == ("first", "tabby", "n01440764")


# -- what does not fit


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"output_stride": 4}, r"config\.json has output_stride 4: known are 8, 16 and 32"),
        ("config.json", {"first_layer_is_expansion": False}, "no network here expands in its first block"),
        ("config.json", {"hidden_act": "swish"}, "hidden_act 'swish': known are relu6 and relu"),
        ("config.json", {"hidden_act": ["relu"]}, "hidden_act"),
        ("config.json", {"layer_norm_eps": 0}, "layer_norm_eps 0, expected"),
        ("config.json", {"model_type": "mobilevit"}, "model_type 'mobilevit', expected 'mobilenet_v2'"),
        ("config.json", {"model_type": None}, "model_type None, expected"),
        ("config.json", {"id2label": {"0": "cat", "1": "dog"}}, "has 21 outputs, but config.json beside it names 2"),
        ("config.json", {"id2label": {"1": "cat"}}, "id2label must name the outputs 0, 1, 2"),
        ("config.json", {"id2label": ["cat"]}, "id2label must name"),
        ("config.json", {"image_size": "large"}, "image_size 'large', expected sides of 1 to 8192 pixels"),
        ("preprocessor_config.json", {"crop_size": {"height": 0, "width": 5}}, r"crop_size \{.*\}, expected sides"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "image_std 0, expected a number above 0"),
        ("preprocessor_config.json", {"image_mean": "high"}, "image_mean 'high', expected a number"),
        ("preprocessor_config.json", {"rescale_factor": 0}, "rescale_factor 0, expected a number above 0"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused_in_one_line(
    folder: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    change(folder / file, **fields)
    with pytest.raises(WeightsError, match=message) as caught:
        import_file(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(str(folder)) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff"])
def test_a_damaged_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(WeightsError, match=r"config\.json (is not JSON|holds no JSON object)"):
        import_file(folder)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("segmentation_head.conv_pool.convolution.weight", None, r"conv_pool\.convolution\.weight missing"),
        ("segmentation_head.conv_projection.normalization.bias", None, r"normalization\.bias missing"),
        ("mobilenet_v2.layer.3.conv_3x3.convolution.weight", None, r"layer\.3\.conv_3x3\.convolution\.weight missing"),
        ("segmentation_head.other.weight", (3,), r"segmentation_head\.other\.weight left over"),
        ("segmentation_head.conv_pool.convolution.weight", (256, 9, 1, 1), r"stands for \[256, 9, 1, 1\], expected"),
        ("segmentation_head.conv_aspp.convolution.weight", (128, 112, 1, 1), r"conv_aspp.*expected \[256, 112, 1, 1\]"),
        ("segmentation_head.classifier.convolution.bias", (), r"classifier\.convolution\.bias stands for \[\]"),
        ("mobilenet_v2.layer.3.conv_3x3.convolution.weight", (48, 1, 5, 5), r"layer\.3\.conv_3x3.* expected"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    folder: Path, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop(name, None)
    save_file(state if shape is None else {**state, name: torch.ones(shape)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=message) as caught:
        import_file(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_and_an_impossible_stride_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder without model\.safetensors or pytorch_model\.bin"):
        import_file(tmp_path)
    with pytest.raises(UsageError, match="output_stride must be 8, 16 or 32, got 12"):
        import_file(folder, output_stride=12)
