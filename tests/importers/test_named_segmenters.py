"""Torchvision-style networks for masks and TensorFlow's variables are imported where they fit, and told apart else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repositories import MMPretrain, randomise
from tensorflow_variables import convolution, stem_and_blocks
from torch import Tensor, nn

from mobilenetv2.errors import UsageError, WeightsError
from mobilenetv2.importers import import_file
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import deeplab

torchvision = pytest.importorskip("torchvision")

from torchvision.models._utils import IntermediateLayerGetter  # noqa: E402
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabHead, DeepLabV3  # noqa: E402
from torchvision.models.segmentation.fcn import FCNHead  # noqa: E402

RandomModel = Callable[..., ModelFile]
TOLERANCE = 1e-5  # of the largest logit; float32 sums of the same terms in another order
WIDTH = 0.35
LAST_MAP = 112  # channels of the last block's map at this width


class Whole(nn.Module):
    """A backbone whose layers are in `features`, as people who keep them in their own class have it."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.features(images)}


def features(last: str) -> nn.Module:
    return IntermediateLayerGetter(torchvision.models.mobilenet_v2(width_mult=WIDTH).features, {last: "out"})


def fitting(*, dilations: tuple[int, ...] = (12, 24, 36), outputs: int = 5, aux: bool = False) -> Any:
    head = nn.Sequential(ASPP(LAST_MAP, dilations, 32), nn.Conv2d(32, outputs, 1))
    return randomise(DeepLabV3(features("17"), head, FCNHead(LAST_MAP, outputs) if aux else None))


def save(tmp_path: Path, network: nn.Module | dict[str, Any]) -> Path:
    torch.save(network.state_dict() if isinstance(network, nn.Module) else network, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@torch.inference_mode()
def assert_same_logits(model: ModelFile, theirs: Any, *, output_stride: int = 32) -> None:
    images = np.random.default_rng(1).normal(size=(1, 97, 130, 3)).astype(np.float32)
    maps = theirs.backbone(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    expected = theirs.classifier(maps["out"]).numpy().transpose(0, 2, 3, 1)
    found = TorchBackend(model).run(images)["logits_map"]
    assert expected.shape[1:3] == (-(-97 // output_stride), -(-130 // output_stride))
    assert expected.std() > 1e-2
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"max difference {difference:.1e}")
    assert difference <= TOLERANCE


# -- torchvision's


@pytest.mark.parametrize("aux", [False, True])
def test_torchvision_s_aspp_gives_its_logits(tmp_path: Path, aux: bool) -> None:
    theirs = fitting(aux=aux)
    model = import_file(save(tmp_path, theirs))
    head, net = deeplab.head_of(model.info.spec), model.info.spec.backbone
    assert model.info.provenance["source"] == "torchvision"
    assert (net.padding, net.bn_eps, net.output_stride) == ("symmetric", 1e-5, 32)
    assert (head.outputs, head.channels, head.align_corners, head.dropout) == (5, 32, False, 0.5)
    assert [conv.dilation for conv in deeplab.layers(model.info.spec).branches] == [1, 12, 24, 36]
    assert model.info.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    notes = " ".join(model.info.provenance["notes"])
    assert "output stride is not in the file: 32 was taken" in notes
    assert "atrous rates are not in the file: 12, 24, 36 were taken" in notes
    assert ("aux_classifier" in notes) == aux
    assert_same_logits(model, theirs)


def test_without_atrous_branches_it_is_the_paper_s_head(tmp_path: Path) -> None:
    theirs = fitting(dilations=())
    model = import_file(save(tmp_path, theirs))
    assert not deeplab.head_of(model.info.spec).aspp
    assert_same_logits(model, theirs)


def test_a_backbone_that_keeps_the_name_features(tmp_path: Path) -> None:
    theirs = fitting()
    theirs.backbone = Whole(nn.Sequential(*(theirs.backbone[str(i)] for i in range(18))))
    assert_same_logits(import_file(save(tmp_path, theirs)), theirs)


def test_the_output_stride_can_be_said(tmp_path: Path) -> None:
    """At 16, block 13 gives up its stride and the blocks after it are dilated; the head's dilations stay."""
    theirs = fitting()
    file = save(tmp_path, theirs)
    theirs.backbone["14"].conv[1][0].stride = (1, 1)
    for name in ("15", "16", "17"):
        depthwise = theirs.backbone[name].conv[1][0]
        depthwise.dilation = depthwise.padding = (2, 2)
    model = import_file(file, output_stride=16)
    assert [conv.dilation for conv in deeplab.layers(model.info.spec).branches] == [1, 12, 24, 36]
    assert_same_logits(model, theirs, output_stride=16)


def test_another_count_of_atrous_branches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has 2 atrous branches, whose rates no file says: known are 3"):
        import_file(save(tmp_path, fitting(dilations=(6, 12))))


def test_the_output_stride_of_another_kind_of_file_cannot_be_said(tmp_path: Path) -> None:
    file = save(tmp_path, torchvision.models.mobilenet_v2(width_mult=0.1))
    with pytest.raises(UsageError, match="its output stride is 32; it can be said only of a network"):
        import_file(file, output_stride=16)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("classifier.0.project.0.weight", None, r"classifier\.0\.project\.0\.weight missing"),
        ("classifier.1.bias", None, r"classifier\.1\.bias missing"),
        ("backbone.3.conv.0.0.weight", None, r"backbone\.3\.conv\.0\.0\.weight missing"),
        ("classifier.0.project.0.weight", (32, 161, 1, 1), r"\[32, 161, 1, 1\] are no convolution's"),
        ("classifier.0.project.0.weight", (32,), r"project\.0\.weight \[32\] are no convolution's"),
        ("classifier.0.project.0.weight", (32, 165, 1, 1), r"\[32, 165, 1, 1\], expected \[32, 160, 1, 1\]"),
        ("classifier.0.convs.2.0.weight", (32, 112, 1, 1), r"convs\.2\.0\.weight .*expected \[32, 112, 3, 3"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    state = dict(fitting().state_dict())
    del state[name]
    with pytest.raises(WeightsError, match=message) as caught:
        import_file(save(tmp_path, state if shape is None else {**state, name: torch.ones(shape)}))
    assert "\n" not in str(caught.value)


# -- networks for masks that do not fit


def named(*names: str) -> dict[str, Tensor]:
    return {name: torch.ones(1) for name in names}


def strangers() -> dict[str, tuple[dict[str, Any], str]]:
    """By what they are: tensors (of those that no package here has, telling ones), and what is said of them."""
    segmentation = torchvision.models.segmentation
    plain = {"weights": None, "weights_backbone": None}
    whole_head = DeepLabV3(features("17"), DeepLabHead(LAST_MAP, 5))
    low = "backbone.low_level_features.0.0.weight"
    return {
        "torchvision's head": (whole_head.state_dict(), r"3x3 convolution \(classifier\.1\) follows the projection"),
        "the last map": (DeepLabV3(features("18"), DeepLabHead(1280, 5)).state_dict(), "after the last convolution"),
        "mobilenet_v3": (segmentation.deeplabv3_mobilenet_v3_large(**plain).state_dict(), "on a MobileNetV3"),
        "lraspp": (segmentation.lraspp_mobilenet_v3_large(**plain).state_dict(), "LR-ASPP"),
        "resnet": (segmentation.deeplabv3_resnet50(**plain).state_dict(), "on a ResNet"),
        "fcn": (DeepLabV3(features("17"), FCNHead(LAST_MAP, 5)).state_dict(), "FCN"),
        "VainF's v3": (
            {"model_state": named(low, "classifier.classifier.0.convs.0.0.weight"), "cur_itrs": 3},
            "zeros of their borders before the expansion",
        ),
        "VainF's v3+": (named(low, "classifier.aspp.convs.0.0.weight", "classifier.classifier.0.weight"), "DeepLabv3+"),
        "jfzhang95's": (
            named("backbone.features.0.0.weight", "aspp.aspp1.atrous_conv.weight", "decoder.last_conv.0.weight"),
            "jfzhang95's DeepLabv3+",
        ),
        "mmsegmentation's": (
            {f"backbone.{name}".replace("backbone.backbone", "backbone"): value
             for name, value in MMPretrain("0.5", 3).state_dict().items()}
            | named("decode_head.conv_seg.weight"),
            "mmsegmentation's",
        ),
        "smp's": (
            named("encoder.features.0.0.weight", "decoder.0.convs.0.0.weight", "segmentation_head.0.weight"),
            r"segmentation_models\.pytorch's",
        ),
        "TensorFlow's v3+": (
            named("MobilenetV2/Conv/weights", "aspp0/weights", "decoder/feature_projection0/weights"), "decoder",
        ),
        "TensorFlow's separable": (
            named("MobilenetV2/Conv/weights", "aspp0/weights", "aspp1_depthwise/depthwise_weights"), "separable",
        ),
    }  # fmt: skip


def test_a_network_for_masks_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    for what, (state, message) in strangers().items():
        with pytest.raises(WeightsError, match=message) as caught:
            import_file(save(tmp_path, state))
        text = str(caught.value)
        assert "\n" not in text, what
        assert text.startswith(f"{tmp_path / 'weights.pth'} is a network for masks that does not fit"), what
        assert "a 1x1 projection and 1x1 logits" in text, what  # and what does


# -- TensorFlow's variables


def variables(model: ModelFile) -> dict[str, np.ndarray]:
    """The tensors of `model` as TensorFlow's research/deeplab names and stores them."""
    layers = deeplab.layers(model.info.spec)
    scopes = ["image_pooling", *(f"aspp{i}" for i in range(len(layers.branches))), "concat_projection"]
    scopes.append("logits/semantic")
    convs = (layers.pooling, *layers.branches, layers.project, layers.logits)
    result = dict(stem_and_blocks(model, "MobilenetV2"))
    for conv, scope in zip(convs, scopes, strict=True):
        result.update(convolution(model, conv, scope))
    return result


@pytest.mark.parametrize("aspp", [False, True])
def test_tensorflow_s_variables(random_segmenter: RandomModel, tmp_path: Path, aspp: bool) -> None:
    expected = random_segmenter(padding="same", bn_eps=1e-3, head={"classes": 20, "aspp": aspp})
    stored = variables(expected)
    slots = {f"{name}/Momentum": value * 0 for name, value in stored.items()}
    arrays: dict[str, Any] = {**stored, **slots, "global_step": np.array(30_000)}
    np.savez(tmp_path / "model.ckpt-30000.npz", **arrays)
    found = import_file(tmp_path / "model.ckpt-30000.npz")
    assert found.info.spec == expected.info.spec
    assert (found.info.provenance["source"], found.info.preprocessing.size) == ("tensorflow", (513, 513))
    assert (found.info.label(14), found.info.preprocessing.recipe) == ("person", "deeplab")
    for name, values in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values, err_msg=name)
    other = import_file(tmp_path / "model.ckpt-30000.npz", output_stride=8).info.spec
    assert (other.backbone.output_stride, other.head) == (8, expected.info.spec.head)
