"""A training step in a bare loop, over the networks of torchvision, timm and this package, with the same weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilenetv2 import image
from mobilenetv2.importers import names
from mobilenetv2.nn import MobileNetV2
from mobilenetv2.train.batches import Batch
from mobilenetv2.train.memory import keeping_memory

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 4e-5
CLASSES = 1000

State = tuple[float, Mapping[str, Tensor]]  # a step's loss, and its gradients under our names


@dataclass(frozen=True, slots=True)
class Setting:
    """What is timed: a bare loop over the network of "torchvision", "timm" or "ours", the package's own loop ("fit")
    by `recipe`, or nothing but its "pictures".

    `source` is where batches come from: "fixed" is the same one again and again, "files" are decoded by `workers`
    processes (0: by this one), "memory" holds them decoded. `keeping`: within `keeping_memory`. `half`: in bfloat16
    where autocast says so. `work` is a folder with `pictures.csv`, and with `reference` where a step is compared.
    """

    way: Literal["torchvision", "timm", "ours", "fit", "pictures"]
    work: str
    size: int = 224
    width: float = 1.0
    batch: int = 32
    threads: int = 1
    keeping: bool = False
    recompute: bool = False
    recipe: str = "cosine"
    source: Literal["fixed", "files", "memory"] = "fixed"
    workers: int = 0
    device: str = "cpu"
    half: bool = False
    compiled: bool = False

    @property
    def comparable(self) -> bool:
        """Whether its first step is torchvision's: of the same batch, with no blended pictures or labels."""
        return self.source == "fixed" and self.recipe == "cosine"

    @property
    def reference(self) -> Path:
        """Where torchvision's step lies, float32."""
        return Path(self.work) / f"step_{self.width}_{self.size}_{self.batch}_{self.threads}.npz"


def steps(setting: Setting) -> Iterator[tuple[int, Callable[[], State]]]:
    """A step each time: the bytes that waited for the first one's gradients, and what came of this one."""
    network, ours = build(setting)
    network = network.to(setting.device, memory_format=torch.channels_last).train()
    run: Any = torch.compile(network) if setting.compiled else network
    images_BCHW, labels_B = (tensor.to(setting.device) for tensor in _normalised(setting))
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def forward() -> Tensor:
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.half):
            return F.cross_entropy(run(images_BCHW), labels_B)

    # hooks would be compiled in
    loss, kept_bytes = (forward(), 0) if setting.compiled else _with_kept_bytes(forward, network)
    while True:
        loss.backward()
        optimiser.step()
        value = loss.detach()
        del loss
        yield kept_bytes, lambda value=value: (value.item(), gradients(network, ours))
        optimiser.zero_grad()
        loss = forward()


def build(setting: Setting) -> tuple[nn.Module, dict[str, str] | None]:
    """The network with the weights that all have, and what we call its parameters where it calls them otherwise."""
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(width_mult=setting.width, dropout=0.0)
    ours = MobileNetV2(width_mult=setting.width, dropout=0.0)
    if setting.way == "torchvision":
        return theirs, None
    if setting.way == "timm":
        import timm

        assert setting.width == 1.0
        network = timm.create_model("mobilenetv2_100")
        called, weights = names.of("timm", ours.spec.backbone), theirs.state_dict()
        missing, unexpected = network.load_state_dict({called[name]: weights[name] for name in called}, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing)
        return network, {theirs: ours for ours, theirs in called.items()}
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.recompute(setting.recompute)
    return ours, None


def gradients(network: nn.Module, ours: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """The weights' gradients under our names; `ours` has these by the network's, where they differ."""
    found = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return found if ours is None else {ours[name]: gradient for name, gradient in found.items()}


def fixed(setting: Setting) -> Batch:
    """The same batch in every process: uint8 images, whose labels are all different."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (setting.batch, 3, 16, 16), np.uint8)
    images_BCHW = F.interpolate(torch.from_numpy(small), (setting.size, setting.size))
    return images_BCHW, torch.from_numpy(rng.permutation(CLASSES)[: setting.batch])


def write_reference(setting: Setting) -> None:
    """One step of torchvision's network, for the others to be compared with."""
    torch.set_num_threads(setting.threads)
    plain = dataclasses.replace(setting, way="torchvision", device="cpu", half=False, compiled=False)
    loss, found = next(steps(plain))[1]()
    np.savez(setting.reference, loss=loss, **{name: gradient.numpy() for name, gradient in found.items()})


def differences(setting: Setting, loss: float, found: Mapping[str, Tensor]) -> tuple[float, float]:
    """How far a step is from the reference's: as a part of the loss, and of the largest gradient."""
    reference = np.load(setting.reference)
    assert {"loss", *found} == {*reference}
    largest = max(float(np.abs(reference[name]).max()) for name in found)
    furthest = max(float(np.abs(found[name].float().cpu().numpy() - reference[name]).max()) for name in found)
    return abs(loss / float(reference["loss"]) - 1), furthest / largest


KINDS = {
    "convolution": ("aten::mkldnn_convolution",),
    "convolution, backward": ("aten::convolution_backward",),
    "batch norm": ("aten::native_batch_norm",),
    "batch norm, backward": ("aten::native_batch_norm_backward",),
    "ReLU6": ("aten::clamp", "aten::clamp_", "aten::hardtanh_"),
    "ReLU6, backward": ("aten::hardtanh_backward",),
    "copies": ("aten::copy_",),
}


def milliseconds_by_kind(setting: Setting) -> dict[str, float]:
    """Where the time of a bare step goes, by torch's profiler: the kinds of `KINDS`, and "other"."""
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(setting.threads)
    with keeping_memory() if setting.keeping else contextlib.nullcontext():
        step = steps(setting)
        next(step), next(step)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            next(step)
    found = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profiled.key_averages():
        kind = next((kind for kind, keys in KINDS.items() if event.key in keys), "other")
        found[kind] += event.self_cpu_time_total / 1e3
    return found


def _normalised(setting: Setting) -> Batch:
    images_BCHW, labels_B = fixed(setting)
    recipe = image.recipe("torchvision-v2", setting.size)
    mean, std = (torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1) for values in (recipe.mean, recipe.std))
    return ((images_BCHW.float() - mean) / std).contiguous(memory_format=torch.channels_last), labels_B


def _with_kept_bytes(forward: Callable[[], Tensor], network: nn.Module) -> tuple[Tensor, int]:
    """The loss, and the bytes of the storages that wait for its gradients, the weights not counted."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    return loss, sum(kept.values())
