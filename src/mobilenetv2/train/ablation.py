"""The ablations of Figure 6, trained from scratch on generated pictures: small enough for two cores.

Every variant is the same network but for one field of its spec, sees the same pictures in the same order for the same
seed, and is trained by the same recipe. A run uses one thread, so that runs may go side by side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mobilenetv2 import image, spec
from mobilenetv2.data import shapes
from mobilenetv2.errors import TrainingError, UsageError, unknown_name
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import MobileNetV2, save_tensors
from mobilenetv2.train import recipes

VARIANTS: dict[str, dict[str, Any]] = {  # what differs from the paper's network: fields of `spec.Backbone`
    "paper": {},  # linear bottleneck, shortcuts between bottlenecks
    "relu6": {"bottleneck": "relu6"},
    "expansion": {"shortcut": "expansion"},
    "none": {"shortcut": "none"},
}


@dataclass(frozen=True, slots=True)
class Ablation:
    """One recipe for all variants: `train` and `val` pictures of `size` pixels, SGD with a cosine schedule."""

    size: int = 48
    width_mult: float = 0.35
    train: int = 4000
    val: int = 1000
    epochs: int = 18
    batch: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 4e-5
    warmup: float = 0.05  # share of the steps

    @property
    def steps_per_epoch(self) -> int:
        return self.train // self.batch


@dataclass(frozen=True, slots=True)
class Run:
    """One training: accuracy on the validation pictures in per cent, and training loss, after each epoch."""

    variant: str
    seed: int
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]


def run(variant: str, seed: int, recipe: Ablation = Ablation()) -> Run:
    """Train `variant` from the initial weights, order and flips that `seed` gives.

    Raises `UsageError` for a variant that is none of `VARIANTS`, and for fewer pictures than a batch.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, list(VARIANTS))
    if recipe.steps_per_epoch < 1:
        raise UsageError(f"train must be at least one batch of {recipe.batch} pictures, got {recipe.train}")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    images, labels = _pictures(recipe.size, recipe.train, series=0)
    val_images, val_labels = _pictures(recipe.size, recipe.val, series=1)
    network = MobileNetV2(len(shapes.CLASSES), recipe.width_mult, **VARIANTS[variant])
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, functools.partial(_rate, recipe))
    accuracy: list[float] = []
    losses: list[float] = []
    for _ in range(recipe.epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(recipe.train, generator=rng)[: recipe.steps_per_epoch * recipe.batch].split(
            recipe.batch
        ):
            loss = F.cross_entropy(network(_flipped(images[chosen], rng)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            total += loss.item()
        losses.append(round(total / recipe.steps_per_epoch, 4))
        accuracy.append(round(_accuracy(network, val_images, val_labels), 2))
    return Run(variant, seed, tuple(accuracy), tuple(losses))


def runs(
    recipe: Ablation,
    *,
    seeds: int = 3,
    processes: int = 2,
    done: Callable[[Run], None] = lambda finished: None,
) -> tuple[Run, ...]:
    """All variants with seeds 0 to `seeds` - 1, `processes` at a time, in the order variant, seed.

    `done` is called with each run as it ends.
    """
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {seeds}")
    found: list[Run] = []
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            # seed by seed, so that a run that is broken off has told something about every variant
            waiting = [pool.submit(run, variant, seed, recipe) for seed in range(seeds) for variant in VARIANTS]
            for finished in as_completed(waiting):
                found.append(finished.result())
                done(found[-1])
    except BrokenProcessPool:
        raise TrainingError(
            f"a training process was killed after {len(found)} of {seeds * len(VARIANTS)} runs, most likely because "
            "memory ran out: close other programs and run it again"
        ) from None
    order = list(VARIANTS)
    return tuple(sorted(found, key=lambda one: (order.index(one.variant), one.seed)))


def start(variant: str, *, outputs: int = 1000, size: int = 224, seed: int = 0) -> ModelFile:
    """`variant` at width 1.0 with first weights as TF-Slim draws them, for `train --init`: the ablation at full scale.

    Raises `UsageError` for a variant that is none of `VARIANTS`.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, list(VARIANTS))
    torch.manual_seed(seed)
    network = MobileNetV2(outputs, **VARIANTS[variant])
    std = recipes.find("paper").initial_std
    assert std is not None, "the paper's recipe has one"
    for conv in spec.convolutions(network.spec.backbone):
        weight = network.get_parameter(f"{conv.name}.weight")
        torch.nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    made = {"source": "mobilenetv2 paper figure6", "variant": variant, "seed": seed}
    info = ModelInfo(network.spec, image.recipe("torchvision-v2", size), provenance=made)
    return ModelFile(info, save_tensors(network))


def _rate(recipe: Ablation, step: int) -> float:
    """The learning rate's factor: linear warm-up, then half a cosine down to 0."""
    total = recipe.epochs * recipe.steps_per_epoch
    warmup = max(1, round(total * recipe.warmup))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@functools.lru_cache(maxsize=2)
def _pictures(size: int, count: int, *, series: int) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, H, W] in -1 to 1 and their labels."""
    scenes = [shapes.scene(series, index, size=size) for index in range(count)]
    pixels_BHWC: npt.NDArray[np.uint8] = np.stack([scene.image for scene in scenes])
    images = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.tensor([scene.label for scene in scenes])
    return images.contiguous(memory_format=torch.channels_last), labels


def _flipped(images_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Each picture mirrored left to right, or not, by chance."""
    turned = torch.rand(len(images_BCHW), generator=rng) < 0.5
    return torch.where(turned[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def _accuracy(network: MobileNetV2, images_BCHW: Tensor, labels: Tensor) -> float:
    network.eval()
    with torch.inference_mode():
        right = sum(int((network(images).argmax(1) == truth).sum()) for images, truth in _batches(images_BCHW, labels))
    return 100 * right / len(labels)


def _batches(images_BCHW: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images_BCHW.split(250), labels.split(250), strict=True)
