"""Our ReLU6 is torch's, with less memory."""

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from mobilenetv2.nn import MobileNetV2
from mobilenetv2.nn.relu6 import ReLU6

ABOVE_6, BELOW_6 = math.nextafter(6, 7), math.nextafter(6, 5)
EDGES = [-math.inf, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, BELOW_6, 6.0, ABOVE_6, math.inf, math.nan]


def value_and_gradient(activation: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = activation(leaf * 1)
    (value * weight).sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients_are_torchs_to_the_bit(training: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.tensor(EDGES), 6 * torch.randn(1000, generator=generator) + 3]).to(dtype)
    weight = torch.randn(len(x), generator=generator).to(dtype)
    ours = value_and_gradient(ReLU6().train(training), x, weight)
    theirs = value_and_gradient(nn.ReLU6(inplace=True), x, weight)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.nan_to_num(nan=-7.0), other.nan_to_num(nan=-7.0))


def test_a_training_step_is_torchvisions_to_the_bit_and_keeps_less() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(num_classes=5, dropout=0.0).train()
    ours = MobileNetV2(num_classes=5, dropout=0.0).train()
    ours.load_state_dict(theirs.state_dict())
    images_BCHW = torch.randn(4, 3, 96, 96)
    kept: list[int] = []
    for network in (ours, theirs):
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(images_BCHW).square().sum()
        loss.backward()
        kept.append(sum(sizes.values()) - sum(weight.numel() * 4 for weight in network.parameters()))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    assert kept[0] < 0.72 * kept[1]


def copied(network: nn.Module, x: Tensor) -> nn.Module:
    return copy.deepcopy(network)


def saved(network: nn.Module, x: Tensor) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def symbolically_traced(network: nn.Module, x: Tensor) -> nn.Module:
    return torch.fx.symbolic_trace(network)


def exported(network: nn.Module, x: Tensor) -> nn.Module:
    return torch.export.export(network, (x,)).module()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("through", [copied, saved, symbolically_traced, exported])
def test_a_network_with_it_goes_where_torchs_goes(
    training: bool, through: Callable[[nn.Module, Tensor], nn.Module]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), ReLU6()).train(training)
    x = 9 * torch.randn(2, 3, 4, 4)
    assert torch.equal(through(network, x)(x), network(x))
