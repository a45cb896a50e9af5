"""The torch network: torchvision's names and numbers, the seed code's interface, and what we add to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import mobilenetv2
from mobilenetv2 import model_file
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn import ConvBNReLU, InvertedResidual, MobileNetV2, load_tensors, mobilenet_v2, save_tensors

RandomModel = Callable[..., ModelFile]


def randomise(network: nn.Module) -> None:
    """Random batch-norm statistics, so that a swapped or forgotten one shows."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 5)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)


def pictures(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
@torch.inference_mode()
def test_torchvisions_network_and_ours_exchange_state_dicts_strictly(width: float) -> None:
    theirs = torchvision.models.mobilenet_v2(width_mult=width).eval()
    randomise(theirs)
    ours = mobilenet_v2(width_mult=width).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = pictures(97, 128)
    assert torch.equal(ours(x), theirs(x))
    again = torchvision.models.mobilenet_v2(width_mult=width).eval()
    again.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(again(x), theirs(x))


def test_the_default_network_has_314_entries() -> None:
    assert len(MobileNetV2().state_dict()) == 314
    assert sum(p.numel() for p in MobileNetV2().parameters()) == 3_504_872


def test_the_seed_codes_calls_work_as_they_stand() -> None:
    layer = ConvBNReLU(3, 8, kernel_size=5, stride=2, groups=1)
    assert all(map(isinstance, layer, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU6)))
    assert len(layer) == 3
    assert layer[0].padding == (2, 2)
    assert layer[0].bias is None
    block = InvertedResidual(8, 8, 1, expand_ratio=6)
    assert block.use_res_connect
    assert block(torch.zeros(1, 8, 5, 5)).shape == (1, 8, 5, 5)
    assert not InvertedResidual(8, 8, 2, expand_ratio=6).use_res_connect
    assert len(InvertedResidual(8, 16, 1, expand_ratio=1).conv) == 3
    with pytest.raises(AssertionError):
        InvertedResidual(8, 8, 3, 6)
    assert mobilenetv2.mobilenet_v2 is mobilenet_v2
    named = mobilenet_v2(pretrained=False, progress=False, num_classes=7, width_mult=0.35)
    assert named.state_dict()["classifier.1.weight"].shape == (7, 1280)
    unrounded = MobileNetV2(width_mult=0.35, round_nearest=1)
    assert unrounded.state_dict()["features.0.0.weight"].shape == (11, 3, 3, 3)


@pytest.mark.parametrize("setting", [[], [[6, 24, 2]]])
def test_a_malformed_setting_is_a_value_error_that_shows_it(setting: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="got") as caught:
        MobileNetV2(inverted_residual_setting=setting)
    assert str(setting[0] if setting else setting) in str(caught.value)


def test_torchvisions_block_and_norm_layer_arguments_work() -> None:
    class Plain(nn.Sequential):
        def __init__(self, inp: int, oup: int, stride: int, expand_ratio: float, norm_layer: object) -> None:
            super().__init__(nn.Conv2d(inp, oup, 1, stride))

    def group_norm(channels: int) -> nn.Module:
        return nn.GroupNorm(4, channels)

    network = MobileNetV2(num_classes=5, width_mult=0.5, block=Plain, norm_layer=group_norm)
    assert network(pictures(32, 32)).shape == (2, 5)
    with pytest.raises(UsageError, match="Plain"):
        network.features_dict(pictures(32, 32))


def test_initial_weights_are_the_seed_codes() -> None:
    torch.manual_seed(0)
    tensors = MobileNetV2().state_dict()
    stem = tensors["features.0.0.weight"]
    assert stem.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)  # fan out
    assert tensors["classifier.1.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert not tensors["classifier.1.bias"].any()


@pytest.mark.parametrize("size", [225, 513])
@torch.inference_mode()
def test_the_paddings_coincide_where_every_stride_2_input_is_odd(size: int, random_model: RandomModel) -> None:
    same, symmetric = twins(random_model)
    x = pictures(size, size, batch=1)
    assert torch.equal(same(x), symmetric(x))


@torch.inference_mode()
def test_the_paddings_differ_at_224(random_model: RandomModel) -> None:
    same, symmetric = twins(random_model)
    x = pictures(224, 224, batch=1)
    a, b = same(x), symmetric(x)
    assert (a - b).abs().max() > 0.01 * b.abs().max()


def twins(random_model: RandomModel) -> tuple[MobileNetV2, MobileNetV2]:
    """Two networks of the same tensors and different paddings."""
    tensors = random_model(width_mult=0.35).tensors
    same = MobileNetV2(width_mult=0.35, padding="same").eval()
    symmetric = MobileNetV2(width_mult=0.35, padding="symmetric").eval()
    for network in (same, symmetric):
        load_tensors(network, tensors)
    return same, symmetric


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.inference_mode()
def test_features_have_the_channels_and_strides_of_their_taps(output_stride: int) -> None:
    from mobilenetv2 import spec

    network = MobileNetV2(width_mult=0.5, output_stride=output_stride, padding="same").eval()
    found = network.features_dict(pictures(65, 96))
    taps = spec.taps(network.spec.backbone)
    assert found.keys() == taps.keys()
    for name, tap in taps.items():
        assert found[name].shape == (2, tap.channels, -(-65 // tap.stride), -(-96 // tap.stride)), name


@torch.inference_mode()
def test_the_expanded_tap_is_the_576_channels_inside_block_13() -> None:
    network = MobileNetV2().eval()
    x = pictures(64, 64)
    inside: list[Any] = []
    network.get_submodule("features.14.conv.0").register_forward_hook(
        lambda module, args, output: inside.append(output)
    )
    found = network.features_dict(x)["s16.expanded"]
    assert found.shape == (2, 576, 4, 4)
    assert torch.equal(found, inside[0])


@torch.inference_mode()
def test_dilation_keeps_the_receptive_field_of_the_undilated_network() -> None:
    """Every 2nd place of the dilated map, where padding does not reach, is the strided network's value."""
    torch.manual_seed(0)
    strided = MobileNetV2(width_mult=0.35, padding="same").eval()
    dilated = MobileNetV2(width_mult=0.35, padding="same", output_stride=16).eval()
    dilated.load_state_dict(strided.state_dict())
    x = pictures(225, 225, batch=1)  # odd throughout: both sample the same places
    a, b = strided.features_dict(x)["s32"], dilated.features_dict(x)["s32"]
    assert b.shape[-1] == 15
    assert torch.allclose(a, b[:, :, ::2, ::2], atol=1e-5)


def test_ablations_change_the_function_and_keep_the_tensors() -> None:
    torch.manual_seed(0)
    x = pictures(64, 64)
    plain = MobileNetV2(width_mult=0.35).eval()
    ablations: list[dict[str, Any]] = [{"shortcut": "none"}, {"shortcut": "expansion"}, {"bottleneck": "relu6"}]
    for fields in ablations:
        other = MobileNetV2(width_mult=0.35, **fields).eval()
        other.load_state_dict(plain.state_dict(), strict=True)
        assert not torch.allclose(other(x), plain(x)), fields


def test_the_output_does_not_depend_on_training_beyond_batch_norm_and_dropout() -> None:
    network = MobileNetV2(width_mult=0.35, dropout=0.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    assert network.train()(pictures(64, 64)).shape == network.eval()(pictures(64, 64)).shape


def test_a_model_file_carries_the_network_there_and_back(random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model(width_mult=0.5, outputs=11, in_channels=1, bn_eps=1e-3, padding="same")
    network = MobileNetV2.from_spec(model.info.spec)
    load_tensors(network, model.tensors)
    saved = save_tensors(network)
    assert saved.keys() == model.tensors.keys()
    assert all(np.array_equal(saved[name], model.tensors[name]) for name in saved)


def test_our_backbone_tensors_load_into_torchvision_as_they_are(random_model: RandomModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "m.safetensors"
    model_file.write(path, random_model())
    theirs = torchvision.models.mobilenet_v2()
    missing, unexpected = theirs.load_state_dict(load_file(path), strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_weights_from_a_file_set_the_architecture(random_model: RandomModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = random_model(width_mult=0.35, outputs=5, padding="same")
    model_file.write(path, model)
    network = mobilenet_v2(weights=str(path))
    assert network.spec == model.info.spec
    assert np.array_equal(save_tensors(network)["classifier.1.weight"], model.tensors["classifier.1.weight"])
    with pytest.raises(UsageError, match="num_classes"):
        mobilenet_v2(weights=str(path), num_classes=6)
    with pytest.raises(UsageError, match="padding"):
        mobilenet_v2(weights=str(path), padding="symmetric")
