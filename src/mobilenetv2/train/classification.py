"""The classifier as a LightningModule: its loss, its optimiser, and how far the run is.

B batch, C channels, H W input, L labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms import v2

from mobilenetv2.errors import TrainingError
from mobilenetv2.image import Preprocessing
from mobilenetv2.nn import MobileNetV2, save_tensors
from mobilenetv2.train import schedule
from mobilenetv2.train.batches import Batch, Batches
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.rmsprop import RMSprop

Clock = Callable[[], float]  # seconds

_LOOK_EVERY = 50  # steps on a GPU between looks at the loss: each one waits for the GPU


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network whose answers are learned from. `outputs` [L] are those of its outputs that are the labels."""

    network: nn.Module
    preprocessing: Preprocessing
    outputs: Sequence[int]


class Classifier(LightningModule):
    """Trains `network` by `recipe` in epochs of `batches` batches.

    With `frozen_norm` batch norm keeps its statistics and its scale: what a file with folded batch norm needs.
    """

    def __init__(
        self,
        network: MobileNetV2,
        recipe: Recipe,
        preprocessing: Preprocessing,
        *,
        batches: int,
        frozen_norm: bool = False,
        teacher: Teacher | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # 1.6 times as fast on a CPU at width 0.35, 96 px
        self.recipe = recipe
        self.batches = batches
        self.seconds = 0.0  # since the run began, validation and earlier parts of a resumed run included
        self.training_seconds = 0.0  # in training epochs alone
        self.pictures = 0  # trained on, each as often as it was seen
        self.position = 0.0  # epochs, as in the recipe
        self._frozen_scale = frozen_norm
        self._norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._frozen = list(network.features[: recipe.freeze])
        for norm in self._norms:
            norm.momentum = recipe.batch_norm_momentum
            norm.weight.requires_grad_(not frozen_norm)
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.average = (
            AveragedModel(network, multi_avg_fn=_average(recipe.ema), use_buffers=True) if recipe.ema else None
        )
        if self.average is not None:  # several devices would wait for its gradients
            self.average.requires_grad_(False)
        # mixup's and cutmix's classes come from the network; with neither, labels stay numbers
        mixed = [kind(alpha=alpha, num_classes=network.spec.head.outputs)
                 for kind, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)) if alpha]  # fmt: skip
        self._mix = v2.RandomChoice(mixed) if mixed else None
        self._teacher = [] if teacher is None else [teacher]  # in a list: its weights are not the module's
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("_std", _per_channel(preprocessing.std), persistent=False)
        self._clock = clock
        self._began = clock()
        self._epoch_began = self._began
        self._losses: list[Tensor] = []
        self._measured = torch.zeros(3, dtype=torch.float64)  # summed loss, right answers, pictures

    # ---- how far the run is

    @property
    def progress(self) -> float:
        """The share of the run's epochs or of its minutes that is used up, whichever is larger; 1 at the end."""
        return min(self.position / self.recipe.epochs, 1.0)

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.seconds + self._clock() - self._began

    def tensors(self) -> dict[str, Any]:
        """The model file's tensors: the averaged weights where they are averaged."""
        return save_tensors(self.measured)

    @property
    def measured(self) -> nn.Module:
        """The network whose answers count: the average where there is one."""
        return self.network if self.average is None else self.average.module

    def _move_to(self, batch_idx: int) -> None:
        minutes, epochs = self.recipe.max_minutes, self.recipe.epochs
        used = 0.0 if minutes is None else epochs * self.elapsed() / (60 * minutes)
        self.position = max(self.current_epoch + batch_idx / self.batches, used)

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        groups = [
            {"params": members, "weight_decay": recipe.weight_decay if decayed else 0.0, "scale": scale, "head": head}
            for part, scale, head in (
                (self.network.features, recipe.backbone_scale, False),
                (self.network.classifier, recipe.head_scale, True),
            )
            for decayed in (True, False)
            if (members := [w for w in part.parameters() if w.requires_grad and _decays(w, recipe) == decayed])
        ]
        rate, momentum = recipe.learning_rate, recipe.momentum
        if recipe.optimiser == "rmsprop":
            return RMSprop(groups, rate, decay=recipe.rms_decay, momentum=momentum, epsilon=recipe.epsilon)
        # One pass over each tensor: the others take up to a tenth of a small network's step on a CPU. Lightning refuses
        # to shorten gradients for it in mixed precision.
        fused = None if recipe.clip is not None and self.trainer.precision.endswith("mixed") else True
        if recipe.optimiser == "sgd":
            nesterov = recipe.nesterov and momentum > 0
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, fused=fused)
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), eps=recipe.epsilon, fused=fused)

    def on_train_start(self) -> None:
        self._began = self._epoch_began = self._clock()  # an epoch that goes on does not start
        for teacher in self._teacher:
            teacher.network.to(self.device).eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        batches = self.trainer.train_dataloader
        assert isinstance(batches, Batches)
        batches.set_epoch(self.current_epoch)
        self._losses = []
        self._epoch_began = self._clock()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._move_to(batch_idx)
        # dropout's and mixup's draws then depend on the step alone, and a resumed run makes the same ones
        key = [self.recipe.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        alone = schedule.head_alone(self.recipe, self.position)
        for norm in self._norms:
            norm.train(not (self.recipe.frozen_norm or self._frozen_scale or alone))
        for layer in self._frozen:
            layer.eval()
        rate = schedule.learning_rate(self.recipe, self.position)
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        for group in optimiser.param_groups:
            group["lr"] = 0.0 if alone and not group["head"] else group["scale"] * rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels_B = batch
        images_BCHW = self._normalised(images, self._mean, self._std)
        size = schedule.picture_size(self.recipe, self.position, full=images_BCHW.shape[-1])
        if size < images_BCHW.shape[-1]:
            images_BCHW = F.interpolate(images_BCHW, (size, size), mode="bilinear", antialias=True)
        targets = labels_B  # [B], or [B, L] where pictures are blended
        if self._mix is not None:
            images_BCHW, targets = self._mix(images_BCHW, labels_B)
        logits_BL = self._logits(images_BCHW)
        loss = F.cross_entropy(logits_BL, targets, label_smoothing=self.recipe.label_smoothing)
        for teacher in self._teacher:
            loss = loss + self._distance(teacher, images_BCHW, logits_BL, loss)
        if images.device.type == "cpu" or batch_idx % _LOOK_EVERY == 0:
            self._look(loss, batch_idx)
        self._losses.append(loss.detach())
        self.pictures += len(labels_B) * self.trainer.world_size
        # the mean over the whole batch, where its parts on several devices are not of one size
        batches = self.trainer.train_dataloader
        assert isinstance(batches, Batches)
        return loss * batches.weight(self.current_epoch, batch_idx)

    def _logits(self, images_BCHW: Tensor) -> Tensor:
        # several devices wait for the gradients of all weights, zero as they may be
        if self.trainer.world_size == 1 and schedule.head_alone(self.recipe, self.position):
            with torch.no_grad():
                features_BChw = self.network.features(images_BCHW)
            return self.network.classifier(features_BChw.mean((2, 3)))
        return self.network(images_BCHW)

    def step_ended(self, batch_idx: int) -> None:
        """Bring the average and the position up to date; not a hook, as callbacks' hooks come before the module's and
        one of them saves all this."""
        stepped = (batch_idx + 1) % self.recipe.accumulate == 0 or self.trainer.is_last_batch
        if self.average is not None and stepped and self.global_step % self.recipe.ema_every == 0:
            self.average.update_parameters(self.network)
        self._move_to(batch_idx + 1)
        if self.progress >= 1:
            self.trainer.should_stop = True
        if self.trainer.should_stop or self.trainer.is_last_batch:
            self.training_seconds += self._clock() - self._epoch_began
            self._epoch_began = self._clock()

    def _distance(self, teacher: Teacher, images_BCHW: Tensor, logits_BL: Tensor, loss: Tensor) -> Tensor:
        """What turns the share `recipe.distil` of `loss` into the distance from the teacher's softened answers."""
        recipe, theirs = self.recipe, teacher.preprocessing
        mean, std = (_per_channel(values).to(loss.device) for values in (theirs.mean, theirs.std))
        shown_BCHW = (images_BCHW * self._std + self._mean - mean) / std
        if shown_BCHW.shape[-2:] != theirs.size:
            shown_BCHW = F.interpolate(shown_BCHW, theirs.size, mode="bilinear", antialias=True)
        with torch.no_grad():
            wanted_BL = teacher.network(shown_BCHW)[:, teacher.outputs]
        log_answers_BL = F.log_softmax(logits_BL / recipe.temperature, dim=1)
        log_wanted_BL = F.log_softmax(wanted_BL / recipe.temperature, dim=1)
        divergence = F.kl_div(log_answers_BL, log_wanted_BL, reduction="batchmean", log_target=True)
        return recipe.distil * (recipe.temperature**2 * divergence - loss)

    def _look(self, loss: Tensor, batch_idx: int) -> None:
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, step {batch_idx + 1}: "
                f"lower the learning rate (--set learning_rate={self.recipe.learning_rate / 5:g})"
            )

    # ---- measuring

    def on_validation_epoch_start(self) -> None:
        self._measured = torch.zeros(3, dtype=torch.float64)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels_B = batch
        logits_BL = self.measured(self._normalised(images, self._mean, self._std)).float()
        loss = F.cross_entropy(logits_BL, labels_B, reduction="sum")
        right = (logits_BL.argmax(dim=1) == labels_B).sum()
        self._measured += torch.tensor([float(loss), float(right), len(labels_B)], dtype=torch.float64)

    def scores(self) -> dict[str, float]:
        """What the last epoch reached, on all devices together: "train_loss", and, of the validation pictures,
        "val_loss" and "val_accuracy"."""
        losses = torch.stack(self._losses).double()
        sums = torch.cat([torch.tensor([float(losses.sum()), len(losses)], dtype=torch.float64), self._measured])
        if self.trainer.world_size > 1:
            sums = sums.to(self.device)
            torch.distributed.all_reduce(sums)
        loss, steps, val_loss, right, measured = sums.tolist()
        found = {"train_loss": loss / steps}
        if measured:
            found["val_loss"] = val_loss / measured
            found["val_accuracy"] = right / measured
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {
            "seconds": self.elapsed(),
            "training_seconds": self.training_seconds,
            "pictures": self.pictures,
            "losses": [] if self.trainer.is_last_batch else self._losses,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        run = checkpoint["run"]
        self.seconds, self.training_seconds, self.pictures = run["seconds"], run["training_seconds"], run["pictures"]
        self._losses = run["losses"]

    def _normalised(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        images_BCHW = images.to(memory_format=torch.channels_last)
        if images_BCHW.dtype != torch.uint8:  # an interpolation that ends in float32, normalised
            return images_BCHW
        return (images_BCHW.float() - mean) / std


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def _decays(weight: Tensor, recipe: Recipe) -> bool:
    if weight.ndim <= 1:
        return recipe.decay_norms
    depthwise = weight.ndim == 4 and weight.shape[1] == 1
    return recipe.decay_depthwise or not depthwise


def _average(decay: float) -> Callable[[Any, Any, Any], None]:
    """TensorFlow's moving average with a step count: early on the decay is (1 + n) / (10 + n)."""

    def update(averages: Any, weights: Any, averaged: Any) -> None:
        n = int(averaged)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, share)
            else:  # batch norm's step counters
                average.copy_(weight)

    return update
