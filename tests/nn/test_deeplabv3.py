"""The torch segmentation network: the reference's numbers, the model file's names, and training, of one picture too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mobilenetv2 import spec, spec_fields
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn import DeepLabV3, MobileNetV2, load_tensors, save_tensors
from mobilenetv2.nn.backend import TorchBackend, network_for
from mobilenetv2.spec import Spec
from mobilenetv2.spec_fields import backbone

RandomModel = Callable[..., ModelFile]

AGREE = 3e-5  # of the largest logit: float32 sums in torch's order against float64

TINY: dict[str, Any] = {
    "stages": [(1, 8, 1, 1), (3, 8, 1, 2), (3, 16, 1, 2), (3, 16, 1, 2), (3, 24, 2, 2)],
    "stem_channels": 8,
    "output_stride": 16,
}


def network(net: dict[str, Any] | None = None, **head: Any) -> DeepLabV3:
    """A network of 4 classes and background that takes no time."""
    torch.manual_seed(0)
    head = {"classes": 4, "channels": 16, **head}
    return DeepLabV3.from_spec(spec_fields.network(backbone(**{**TINY, **(net or {})}), spec_fields.deeplab(**head)))


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("aspp", [False, True])
@pytest.mark.parametrize(
    ("width_mult", "output_stride", "size"),
    [
        (0.35, 8, (65, 49)),
        (0.35, 16, (1, 50)),
        (0.35, 32, (97, 33)),
        (0.5, 16, (64, 71)),
        (1.0, 32, (33, 40)),
        (1.4, 16, (47, 33)),
    ],
)
def test_torch_gives_the_references_logits(
    random_segmenter: RandomModel,
    padding: str,
    aspp: bool,
    width_mult: float,
    output_stride: int,
    size: tuple[int, int],
) -> None:
    model = random_segmenter(
        width_mult=width_mult, output_stride=output_stride, padding=padding, bn_eps=1e-3, head={"aspp": aspp}
    )
    images_BHWC = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    found = TorchBackend(model).run(images_BHWC)["logits_map"]
    expected = ReferenceBackend(model, dtype=np.float64).run(images_BHWC)["logits_map"]
    assert found.shape == (2, -(-size[0] // output_stride), -(-size[1] // output_stride), 5)
    assert found.flags.c_contiguous
    assert np.abs(found - expected).max() < AGREE * np.abs(expected).max()


@pytest.mark.parametrize("fields", [{"shortcut": "expansion"}, {"activation": "relu", "bottleneck": "relu6"}])
def test_the_papers_ablations_have_a_head_too(random_segmenter: RandomModel, fields: dict[str, Any]) -> None:
    model = random_segmenter(**fields)
    images_BHWC = np.random.default_rng(0).integers(0, 256, (1, 33, 33, 3), np.uint8)
    found = TorchBackend(model).run(images_BHWC)["logits_map"]
    expected = ReferenceBackend(model, dtype=np.float64).run(images_BHWC)["logits_map"]
    assert np.abs(found - expected).max() < AGREE * np.abs(expected).max()


@pytest.mark.parametrize("head", [{}, {"aspp": True}, {"aspp": True, "rates": (2, 4)}, {"background": "none"}])
def test_the_state_dict_has_the_model_files_names_and_shapes(head: dict[str, Any]) -> None:
    found = network(**head)
    assert {name: value.shape for name, value in save_tensors(found).items()} == spec.tensors(found.spec)


def test_a_model_file_carries_the_network_there_and_back(random_segmenter: RandomModel) -> None:
    model = random_segmenter(head={"aspp": True})
    found = network_for(model.info.spec)
    assert isinstance(found, DeepLabV3)
    load_tensors(found, model.tensors)
    saved = save_tensors(found)
    assert saved.keys() == model.tensors.keys()
    assert all(np.array_equal(saved[name], model.tensors[name]) for name in saved)


def test_the_backbone_is_the_classifiers_without_its_last_convolution() -> None:
    found = network().eval()
    theirs = MobileNetV2.from_spec(Spec(found.spec.backbone)).eval()
    missing, unexpected = theirs.features.load_state_dict(found.features.state_dict(), strict=False)
    last = len(found.features)
    assert {name.split(".")[0] for name in missing} == {str(last)}
    assert not unexpected
    x = torch.rand(1, 3, 64, 64)
    ours, classifiers = found.features_dict(x), theirs.features_dict(x)
    assert {*classifiers} - {*ours} == {"out"}
    assert all(torch.equal(value, classifiers[name]) for name, value in ours.items())
    assert found.last_channel == 24 == found.features(x).shape[1]


def test_each_batch_norm_has_its_own_epsilon() -> None:
    found = network({"bn_eps": 1e-3}, bn_eps=1e-4, aspp=True)
    for name, module in found.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.eps == (1e-3 if name.startswith("features") else 1e-4), name


def test_only_training_drops_out_and_only_before_the_logits() -> None:
    found = network(dropout=0.5)
    seen = []
    found.dropout.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    x = torch.rand(2, 3, 64, 64)
    found.train()(x)
    found.eval()(x)
    (before, after), (evaluated, kept) = seen
    assert before.shape[1] == 16
    assert not torch.equal(before, after)
    assert torch.equal(evaluated, kept)


def test_initial_logits_are_small_and_every_class_begins_nearly_alike() -> None:
    found = network(channels=256, classes=20)
    weight, bias = (found.logits.get_parameter(name) for name in ("weight", "bias"))
    assert weight.abs().max() <= 0.02
    assert weight.std().item() == pytest.approx(0.01 * 0.88, rel=0.05)  # cut off at two deviations
    assert not bias.any()


@pytest.mark.parametrize("aspp", [False, True])
def test_one_picture_trains_with_the_pooling_branchs_running_statistics(aspp: bool) -> None:
    found = network(aspp=aspp).train()
    mean, variance = (found.pooling.get_buffer(f"1.running_{name}") for name in ("mean", "var"))
    before = mean.clone(), variance.clone()
    x = torch.rand(1, 3, 64, 64)
    found.loss(found(x), torch.zeros(1, 64, 64))["class_loss"].backward()
    assert torch.equal(mean, before[0])
    assert torch.equal(variance, before[1])
    assert all(value.grad is not None and value.grad.isfinite().all() for value in found.parameters())
    gradient = found.pooling.get_parameter("1.weight").grad
    assert gradient is not None
    assert gradient.any()
    found(torch.rand(2, 3, 64, 64))
    assert not torch.equal(mean, before[0])


def test_recomputing_blocks_gives_the_same_gradients() -> None:
    found = network(dropout=0.0).train()
    x, masks_BHW = torch.rand(2, 3, 48, 48), torch.randint(0, 5, (2, 48, 48))
    gradients = []
    for on in (False, True):
        found.recompute(on)
        found.zero_grad()
        found.loss(found(x), masks_BHW)["class_loss"].backward()
        gradients.append([value.grad.clone() for value in found.parameters() if value.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_a_few_steps_find_the_halves_of_a_picture(one_thread: None) -> None:
    found = network(channels=32)
    x = 0.1 * torch.rand(2, 3, 32, 32)
    masks_BHW = torch.zeros(2, 32, 32, dtype=torch.uint8)
    x[0, 0, :, :16], masks_BHW[0, :, :16] = 1, 1  # red on the left, green below
    x[1, 1, 16:], masks_BHW[1, 16:] = 1, 2
    masks_BHW[:, 14:18] = 255
    optimizer = torch.optim.Adam(found.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = found.loss(found(x), masks_BHW)["class_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(5), abs=0.3)
    assert losses[-1] < 0.5 * losses[0]
