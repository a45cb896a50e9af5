"""Random weights in other libraries' own networks, imported, give the logits that those libraries compute."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from repositories import DLi14, MMPretrain, Tonylins, randomise
from safetensors.torch import save_file
from torch import Tensor, nn

from mobilenetv2 import complexity, spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import import_file
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors
from mobilenetv2.spec import Backbone

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

# relative to the largest logit; float32 sums of the same terms in another order differ by about 1e-6
TOLERANCE = 1e-5


def images(size: int, *, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def ours(model: ModelFile) -> MobileNetV2:
    network = MobileNetV2.from_spec(model.info.spec)
    load_tensors(network, model.tensors)
    return network.eval()


@torch.inference_mode()
def assert_same_logits(
    model: ModelFile, theirs: Callable[[Tensor], Tensor], *, sizes: Sequence[int] = (96,), channels: int = 3
) -> None:
    network = ours(model)
    for size in sizes:
        expected = theirs(images(size, channels=channels))
        found = network(images(size, channels=channels))
        assert expected.std() > 1e-3, "logits that do not depend on the input would prove nothing"
        difference = ((found - expected).abs().max() / expected.abs().max()).item()
        print(f"max difference {difference:.1e} at {size}")
        assert difference <= TOLERANCE


# -- the libraries' own networks


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("width", "kind"), [(1.0, "pth"), (0.35, "safetensors"), (0.62, "pth")], ids=["1.0", "0.35", "0.62"]
)
def test_torchvision(tmp_path: Path, width: float, kind: str) -> None:
    network = randomise(torchvision.models.mobilenet_v2(width_mult=width))
    file = tmp_path / f"weights.{kind}"
    save_file(network.state_dict(), file) if kind == "safetensors" else torch.save(network.state_dict(), file)
    model = import_file(file)
    assert model.info.provenance["source"] == "torchvision"
    assert model.info.labels[281] == "tabby"
    assert_same_logits(model, network)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["050", "100", "110d", "120d", "140"])
def test_timm(tmp_path: Path, name: str) -> None:
    network = randomise(timm.create_model(f"mobilenetv2_{name}", pretrained=False))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = import_file(tmp_path / "weights.pth")
    assert (model.info.provenance["source"], model.info.preprocessing.recipe) == ("timm", "timm")
    assert complexity.complexity(model.info.spec, 224).parameters == sum(p.numel() for p in network.parameters())
    assert_same_logits(model, network)


@pytest.mark.slow
def test_timm_with_one_input_channel(tmp_path: Path) -> None:
    network = randomise(timm.create_model("mobilenetv2_035", pretrained=False, in_chans=1, num_classes=7))
    save_file(network.state_dict(), tmp_path / "grey.safetensors")
    model = import_file(tmp_path / "grey.safetensors")
    assert (model.info.spec.backbone.in_channels, len(model.info.preprocessing.mean), model.info.labels) == (1, 1, ())
    assert any("1 input channels" in note for note in model.info.provenance["notes"])
    assert_same_logits(model, network, channels=1)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("width", "outputs", "file"),
    [(0.35, 1001, "pytorch_model.bin"), (1.0, 1001, "model.safetensors"), (1.4, 12, "model.safetensors"),
     (1.1, 12, "model.safetensors")],
)  # fmt: skip
def test_hugging_face_at_even_and_odd_sizes(tmp_path: Path, width: float, outputs: int, file: str) -> None:
    """Their code is the judge of TensorFlow's padding. At width 1.1 they round channels as nobody else does."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=width, num_labels=outputs)
    network = randomise(transformers.MobileNetV2ForImageClassification(config))
    state = network.state_dict()
    save_file(state, tmp_path / file) if file.endswith("safetensors") else torch.save(state, tmp_path / file)
    model = import_file(tmp_path / file)
    net, head = model.info.spec.backbone, model.info.spec.head
    assert (net.padding, net.bn_eps, model.info.preprocessing.recipe) == ("same", 1e-3, "hf")
    assert head.background == ("first" if outputs == 1001 else "none")
    assert (model.info.classes, len(model.info.labels)) == ((1000, 1000) if outputs == 1001 else (12, 0))
    assert_same_logits(model, lambda batch: network(batch).logits, sizes=(96, 97, 130))


def test_hugging_face_without_its_prefix(tmp_path: Path) -> None:
    """The names of a MobileNetV2Model with a classifier beside it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, num_labels=3)
    network = randomise(transformers.MobileNetV2ForImageClassification(config))
    state = {name.removeprefix("mobilenet_v2."): value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    model = import_file(tmp_path / "weights.pth", source="huggingface")
    assert_same_logits(model, lambda batch: network(batch).logits)


# -- repositories without a package


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("source", "network", "channels"),
    [
        ("d_li14", DLi14, "0.5"), ("d_li14", DLi14, "d-li14 0.1"),
        ("tonylins", Tonylins, "1.0"), ("tonylins", Tonylins, "tonylins 0.7"),
        ("mmpretrain", MMPretrain, "0.5"),
    ],
)  # fmt: skip
def test_repositories(tmp_path: Path, source: str, network: type[nn.Module], channels: str) -> None:
    net = randomise(network(channels, 1000))
    torch.save({"state_dict": net.state_dict(), "epoch": 3, "meta": {"time": "now"}}, tmp_path / "weights.pth")
    model = import_file(tmp_path / "weights.pth")
    assert model.info.provenance["source"] == source
    assert model.info.preprocessing.recipe == "torchvision-v1"
    assert_same_logits(model, net)


def test_d_li14_s_narrowest_network_costs_what_they_publish(tmp_path: Path) -> None:
    torch.save(DLi14("d-li14 0.1", 1000).state_dict(), tmp_path / "weights.pth")
    network = import_file(tmp_path / "weights.pth").info.spec
    assert network.backbone == Backbone(width_mult=0.1, round_nearest=4)
    costs = complexity.complexity(network, 224)
    assert costs.parameters / 1e6 == pytest.approx(1.356, abs=1e-3)
    assert costs.multiply_adds / 1e6 == pytest.approx(12.92, abs=1e-2)


# -- what the files may be wrapped in


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return randomise(torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=5))


def wrapped(state: dict[str, Tensor], how: str) -> dict[str, Any]:
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    return {
        "plain": state,
        "state_dict": {"state_dict": state, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}}},
        "model": {"model": state, "epoch": 7},
        "data parallel": {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        "compiled": {f"_orig_mod.{name}": value for name, value in state.items()},
        "timm's average": {"state_dict": other, "state_dict_ema": state},
        "torchvision's average": {
            "model": other,
            "model_ema": {"n_averaged": torch.tensor(9), **{f"module.{name}": v for name, v in state.items()}},
        },
    }[how]


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "how",
    ["plain", "state_dict", "model", "data parallel", "compiled", "timm's average", "torchvision's average"],
)
def test_wrappings(tmp_path: Path, small: nn.Module, how: str) -> None:
    torch.save(wrapped(small.state_dict(), how), tmp_path / "weights.pth.tar")
    model = import_file(tmp_path / "weights.pth.tar")
    averaged = any("averaged" in note for note in model.info.provenance["notes"])
    assert averaged == ("average" in how)
    assert_same_logits(model, small)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_become_float32(tmp_path: Path, small: nn.Module, dtype: torch.dtype, kind: str) -> None:
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in small.state_dict().items()}
    file = tmp_path / f"weights.{kind}"
    save_file(state, file) if kind == "safetensors" else torch.save(state, file)
    model = import_file(file)
    assert any(str(dtype).removeprefix("torch.") in note for note in model.info.provenance["notes"])
    for name, value in model.tensors.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, state[name].float().numpy())


# -- what does not fit


def save(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_a_missing_tensor_is_named(tmp_path: Path, small: nn.Module) -> None:
    state = small.state_dict()
    del state["features.7.conv.1.1.running_var"]
    with pytest.raises(WeightsError, match=r"weights.pth.*tensor features\.7\.conv\.1\.1\.running_var missing"):
        import_file(save(tmp_path, state))


def test_a_tensor_that_is_left_over_is_named(tmp_path: Path, small: nn.Module) -> None:
    state = {**small.state_dict(), "segmentation_head.weight": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"tensor segmentation_head\.weight left over"):
        import_file(save(tmp_path, state))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("features.3.conv.1.0.weight", (47, 1, 3, 3), r"features\.3\.conv\.1\.0\.weight is \[47, 1, 3, 3\], expected"),
        ("features.3.conv.1.1.bias", (1,), r"features\.3\.conv\.1\.1\.bias is \[1\], expected \[48\]"),
        ("features.0.0.weight", (8,), r"features\.0\.0\.weight is \[8\], expected \[8, 3, 3, 3\]"),
        ("classifier.1.weight", (5, 1279), r"classifier\.1\.weight is \[5, 1279\], expected \[5, 1280\]"),
        ("features.2.conv.3.running_var", (), r"features\.2\.conv\.3\.running_var is \[\], expected \[8\]"),
    ],
)  # fmt: skip
def test_a_misshapen_tensor_is_named(
    tmp_path: Path, small: nn.Module, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        import_file(save(tmp_path, {**small.state_dict(), name: torch.ones(shape)}))


def test_values_that_are_not_finite_are_refused(tmp_path: Path, small: nn.Module) -> None:
    state = {**small.state_dict(), "features.0.1.bias": torch.full((8,), float("nan"))}
    with pytest.raises(WeightsError, match=r"features\.0\.1\.bias has 8 values that are not finite"):
        import_file(save(tmp_path, state))


def test_whole_numbers_where_weights_should_be_are_refused(tmp_path: Path, small: nn.Module) -> None:
    state = {**small.state_dict(), "features.0.1.bias": torch.ones(8, dtype=torch.int64)}
    with pytest.raises(WeightsError, match=r"features\.0\.1\.bias is int64"):
        import_file(save(tmp_path, state))


def test_another_count_of_blocks_is_refused(tmp_path: Path) -> None:
    network = torchvision.models.mobilenet_v2(num_classes=5, inverted_residual_setting=[[1, 8, 1, 1], [6, 8, 2, 2]])
    with pytest.raises(WeightsError, match="3 inverted residuals"):
        import_file(save(tmp_path, network.state_dict()))


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no known MobileNetV2"):
        import_file(save(tmp_path, torchvision.models.squeezenet1_1().state_dict()))


def test_the_wrong_source_is_refused(tmp_path: Path, small: nn.Module) -> None:
    with pytest.raises(WeightsError, match="under timm's names"):
        import_file(save(tmp_path, small.state_dict()), source="timm")


def test_a_quantised_checkpoint_is_refused_in_one_line(tmp_path: Path, small: nn.Module) -> None:
    state = small.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: its quantised tensors are deprecated
        state["features.0.0.weight"] = torch.quantize_per_tensor(state["features.0.0.weight"], 0.1, 0, torch.qint8)
        file = save(tmp_path, state)
    with pytest.raises(WeightsError, match="quantised") as caught:
        import_file(file)
    assert "\n" not in str(caught.value)


def test_torch_script_is_refused_in_one_line(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: TorchScript is deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        import_file(tmp_path / "script.pt")


# -- the structure out of the channels


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(5, 200).map(lambda percent: percent / 100),
    divisor=st.sampled_from([1, 4, 8]),
    stem=st.sampled_from([None, 24]),
    last=st.sampled_from([None, 640]),
)
def test_the_backbone_that_is_found_has_the_channels_that_were_given(
    width: float, divisor: int, stem: int | None, last: int | None
) -> None:
    given_net = Backbone(width_mult=width, round_nearest=divisor, stem_channels=stem, last_channels=last)
    found = find_backbone(
        [
            BlockChannels(b.in_channels, b.depthwise.out_channels, b.out_channels, b.expand is not None)
            for b in spec.blocks(given_net)
        ],
        stem=spec.stem(given_net).out_channels,
        last=spec.last(given_net).out_channels,
        padding="same",
        bn_eps=1e-3,
    )
    assert (found.padding, found.bn_eps) == ("same", 1e-3)
    convs = [(c.in_channels, c.out_channels, c.stride, c.groups) for c in spec.convolutions(found)]
    assert convs == [(c.in_channels, c.out_channels, c.stride, c.groups) for c in spec.convolutions(given_net)]


@pytest.mark.parametrize("width", spec.WIDTHS)
def test_published_widths_are_found_by_name(width: float) -> None:
    net = Backbone(width_mult=width)
    channels = [
        BlockChannels(b.in_channels, b.depthwise.out_channels, b.out_channels, b.expand is not None)
        for b in spec.blocks(net)
    ]
    last = spec.last(net).out_channels
    found = find_backbone(channels, stem=spec.stem(net).out_channels, last=last, padding="symmetric", bn_eps=1e-5)
    assert found == net
