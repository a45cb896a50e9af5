"""The classifier as a LightningModule: its loss, its optimiser, and how far the run is.

B batch, C channels, H W input, L labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mobilenetv2.errors import TrainingError
from mobilenetv2.image import Preprocessing
from mobilenetv2.nn import MobileNetV2, save_tensors
from mobilenetv2.train import recipes
from mobilenetv2.train.batches import Batch, Batches
from mobilenetv2.train.recipes import Recipe

Clock = Callable[[], float]  # seconds


class Classifier(LightningModule):
    """Trains `network` by `recipe` for at most `steps` batches.

    With `frozen_norm` batch norm keeps its statistics and its scale: what a file with folded batch norm needs.
    """

    def __init__(
        self,
        network: MobileNetV2,
        recipe: Recipe,
        preprocessing: Preprocessing,
        *,
        steps: int,
        frozen_norm: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # 1.6 times as fast on a CPU at width 0.35, 96 px
        self.recipe = recipe
        self.steps = steps
        self.seconds = 0.0  # since the run began, validation and earlier parts of a resumed run included
        self.training_seconds = 0.0  # in training epochs alone
        self.pictures = 0  # trained on, each as often as it was seen
        self._norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._frozen_norm = frozen_norm
        for norm in self._norms:
            norm.momentum = recipe.batch_norm_momentum
            norm.weight.requires_grad_(not frozen_norm)
        self.average = (
            AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
            if recipe.ema
            else None
        )
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("_std", _per_channel(preprocessing.std), persistent=False)
        self._clock = clock
        self._began = clock()
        self._epoch_began = self._began
        self._losses: list[Tensor] = []
        self._right = self._measured = 0
        self._val_loss = 0.0

    # ---- how far the run is

    @property
    def progress(self) -> float:
        """The share of the run's steps or of its minutes that is used up, whichever is larger; 1 at the end."""
        minutes = self.recipe.max_minutes
        used = 0.0 if minutes is None else self.elapsed() / (60 * minutes)
        return min(max(self.global_step / self.steps, used), 1.0)

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

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        groups = [
            {"params": members, "weight_decay": recipe.weight_decay if decayed else 0.0, "scale": scale}
            for part, scale in ((self.network.features, 1.0), (self.network.classifier, recipe.head_scale))
            for decayed in (True, False)
            if (members := [w for w in part.parameters() if w.requires_grad and (w.ndim > 1) == decayed])
        ]
        if recipe.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)
        # fused: one pass over each tensor; the others take a tenth of a small network's step on a CPU
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)

    def on_train_start(self) -> None:
        self._began = self._clock()

    def on_train_epoch_start(self) -> None:
        batches = self.trainer.train_dataloader
        assert isinstance(batches, Batches)
        batches.set_epoch(self.current_epoch)
        # dropout's draws then depend on the epoch alone, and a resumed run makes the same ones
        torch.manual_seed((self.recipe.seed << 20) + self.current_epoch)
        if self._frozen_norm:
            for norm in self._norms:
                norm.eval()
        self._losses.clear()
        self._epoch_began = self._clock()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        for group in optimiser.param_groups:
            group["lr"] = group["scale"] * recipes.learning_rate(self.recipe, self.progress)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels_B = batch
        images_BCHW = self._normalised(images)
        size = recipes.picture_size(self.recipe, self.progress, full=images_BCHW.shape[-1])
        if size < images_BCHW.shape[-1]:
            images_BCHW = F.interpolate(images_BCHW, (size, size), mode="bilinear", antialias=True)
        logits_BL = self.network(images_BCHW)
        loss = F.cross_entropy(logits_BL, labels_B, label_smoothing=self.recipe.label_smoothing)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, step {batch_idx + 1}: "
                f"lower the learning rate (--set learning_rate={self.recipe.learning_rate / 5:g})"
            )
        self._losses.append(loss.detach())
        self.pictures += len(labels_B)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.average is not None:
            self.average.update_parameters(self.network)
        if self.progress >= 1:
            self.trainer.should_stop = True
        if self.trainer.should_stop or self.trainer.is_last_batch:
            self.training_seconds += self._clock() - self._epoch_began

    # ---- measuring

    def on_validation_epoch_start(self) -> None:
        self._right = self._measured = 0
        self._val_loss = 0.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels_B = batch
        logits_BL = self.measured(self._normalised(images))
        self._val_loss += float(F.cross_entropy(logits_BL, labels_B, reduction="sum"))
        self._right += int((logits_BL.argmax(dim=1) == labels_B).sum())
        self._measured += len(labels_B)

    def scores(self) -> dict[str, float]:
        """What the last epoch reached: "train_loss", and, of the validation pictures, "val_loss" and "val_accuracy"."""
        found = {"train_loss": float(torch.stack(self._losses).mean())}
        if self._measured:
            found["val_loss"] = self._val_loss / self._measured
            found["val_accuracy"] = self._right / self._measured
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {
            "seconds": self.elapsed(),
            "training_seconds": self.training_seconds,
            "pictures": self.pictures,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        run = checkpoint["run"]
        self.seconds, self.training_seconds, self.pictures = run["seconds"], run["training_seconds"], run["pictures"]

    def _normalised(self, images: Tensor) -> Tensor:
        images_BCHW = images.to(memory_format=torch.channels_last)
        if images_BCHW.dtype != torch.uint8:  # an interpolation that ends in float32, normalised
            return images_BCHW
        return (images_BCHW.float() - self._mean) / self._std


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
