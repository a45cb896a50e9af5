"""What the LightningModules of all tasks share: the optimiser, the average, the losses, and how far the run is.

A task's own is a subclass: `heads` are its layers that learn from the start, `losses` what a batch costs, and
`forget`, `validation_step` and `measured_scores` are how an epoch is measured. B batch, C channels, H W input.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mobilenetv2.errors import TrainingError
from mobilenetv2.image import Preprocessing
from mobilenetv2.nn import DeepLabV3, MobileNetV2, SSDLite, save_tensors
from mobilenetv2.train import schedule
from mobilenetv2.train.batches import Batches
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.rmsprop import RMSprop

Clock = Callable[[], float]  # seconds
Network = TypeVar("Network", MobileNetV2, SSDLite, DeepLabV3)

_LOOK_EVERY = 50  # steps on a GPU between looks at the loss: each one waits for the GPU


class Learner(LightningModule, Generic[Network]):
    """Trains `network` by `recipe` in epochs of `batches` batches.

    With `frozen_norm` batch norm keeps its statistics and its scale: what a file with folded batch norm needs.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        preprocessing: Preprocessing,
        *,
        batches: int,
        frozen_norm: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__()
        self.network: Network = network.to(
            memory_format=torch.channels_last
        )  # 1.6 times as fast on a CPU at width 0.35, 96 px
        self.recipe = recipe
        self.batches = batches
        self.seconds = 0.0  # since the run began, validation and earlier parts of a resumed run included
        self.training_seconds = 0.0  # in training epochs alone
        self.pictures = 0  # trained on, each as often as it was seen
        self.position = 0.0  # epochs, as in the recipe
        self._began_epochs, self._began_seconds = 0, 0.0  # where the recipe's position 0 is: later in a lengthened run
        self._frozen_scale = frozen_norm
        self._norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._frozen = list(network.features[: recipe.freeze])
        for norm in self._norms:
            norm.momentum = recipe.batch_norm_momentum
        self._settled: set[nn.BatchNorm2d] = set()
        self._settle([self.settled(norm) for norm in self._norms])
        self.average = (
            AveragedModel(network, multi_avg_fn=_average(recipe.ema), use_buffers=True) if recipe.ema else None
        )
        if self.average is not None:  # several devices would wait for its gradients
            self.average.requires_grad_(False)
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("_std", per_channel(preprocessing.std), persistent=False)
        self._clock = clock
        self._began = clock()
        self._epoch_began = self._began
        self._losses: list[Tensor] = []
        self._parts: dict[str, list[Tensor]] = {}  # the same, by the names of `losses`

    @property
    def heads(self) -> nn.Module:
        """The layers above the backbone, which learn `head_scale` times as fast and first."""
        raise NotImplementedError

    def settled(self, norm: nn.BatchNorm2d) -> bool:
        """Whether a batch norm's statistics are worth keeping where the recipe wants them kept, as it begins."""
        return True

    def _settle(self, settled: Sequence[bool]) -> None:
        """Decide which of the batch norms keep what the recipe or the starting weights freeze, and what learns."""
        self._settled = {norm for norm, keeps in zip(self._norms, settled, strict=True) if keeps}
        for norm in self._norms:
            norm.weight.requires_grad_(not (self._frozen_scale and norm in self._settled))
        for layer in self._frozen:
            layer.requires_grad_(False)

    # ---- how far the run is

    def begin_anew(self, epochs: int, seconds: float) -> None:
        """Count the recipe's epochs and minutes from where the run has done `epochs` in `seconds`."""
        self._began_epochs, self._began_seconds = epochs, seconds

    @property
    def progress(self) -> float:
        """The share of the run's epochs or of its minutes that is used up, whichever is larger; 1 at the end."""
        return min(self.position / self.recipe.epochs, 1.0)

    def is_over(self) -> bool:
        """Whether the run's epochs or minutes are used up before its next step."""
        self._move_to(0)
        return self.progress >= 1

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
        used = 0.0 if minutes is None else epochs * (self.elapsed() - self._began_seconds) / (60 * minutes)
        self.position = max(self.current_epoch - self._began_epochs + batch_idx / self.batches, used)

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        groups = [
            {"params": members, "weight_decay": recipe.weight_decay if decayed else 0.0, "scale": scale, "head": head}
            for part, scale, head in (
                (self.network.features, recipe.backbone_scale, False),
                (self.heads, recipe.head_scale, True),
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

    def on_train_epoch_start(self) -> None:
        batches = self.trainer.train_dataloader
        assert isinstance(batches, Batches)
        batches.set_epoch(self.current_epoch)
        self._losses, self._parts = [], {}
        self._epoch_began = self._clock()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._move_to(batch_idx)
        # dropout's and mixup's draws then depend on the step alone, and a resumed run makes the same ones
        key = [self.recipe.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        alone = self.alone
        for norm in self._norms:
            frozen = self.recipe.frozen_norm or self._frozen_scale or alone
            norm.train(not (frozen and norm in self._settled))
        for layer in self._frozen:
            layer.eval()
        rate = schedule.learning_rate(self.recipe, self.position)
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        for group in optimiser.param_groups:
            group["lr"] = 0.0 if alone and not group["head"] else group["scale"] * rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        found = self.losses(batch)
        loss = found["loss"] if len(found) == 1 else torch.stack([*found.values()]).sum()
        if loss.device.type == "cpu" or batch_idx % _LOOK_EVERY == 0:
            self._look(loss, batch_idx)
        self._losses.append(loss.detach())
        if len(found) > 1:
            for name, value in found.items():
                self._parts.setdefault(name, []).append(value.detach())
        self.pictures += len(batch[0]) * self.trainer.world_size
        # the mean over the whole batch, where its parts on several devices are not of one size
        batches = self.trainer.train_dataloader
        assert isinstance(batches, Batches)
        return loss * batches.weight(self.current_epoch, batch_idx)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """What a batch of (images, what is true) costs: {"loss": scalar}, or several with names of their own, which
        are added up and each put into the metrics as train_NAME."""
        raise NotImplementedError

    @property
    def alone(self) -> bool:
        """Whether only the heads learn at this point of the run."""
        return schedule.head_alone(self.recipe, self.position)

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

    def _look(self, loss: Tensor, batch_idx: int) -> None:
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, step {batch_idx + 1}: "
                f"lower the learning rate (--set learning_rate={self.recipe.learning_rate / 5:g})"
            )

    # ---- measuring

    def on_validation_epoch_start(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin to measure anew."""
        raise NotImplementedError

    def measured_scores(self) -> dict[str, float]:
        """What the pictures measured since `forget` say, on all devices together; nothing where there were none."""
        raise NotImplementedError

    def scores(self) -> dict[str, float]:
        """What the last epoch reached, on all devices together: "train_loss", its parts, and `measured_scores`."""
        sums = [torch.stack(losses).double().sum() for losses in (self._losses, *self._parts.values())]
        *totals, steps = self.summed(torch.stack([*sums, sums[0].new_tensor(len(self._losses))])).tolist()
        names = ("train_loss", *(f"train_{name}" for name in self._parts))
        found = {name: total / steps for name, total in zip(names, totals, strict=True)}
        return {**found, **self.measured_scores()}

    def summed(self, values: Tensor) -> Tensor:
        """`values` added up over all devices."""
        if self.trainer.world_size > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {
            "seconds": self.elapsed(),
            "training_seconds": self.training_seconds,
            "pictures": self.pictures,
            "losses": [] if self.trainer.is_last_batch else self._losses,
            "parts": {} if self.trainer.is_last_batch else self._parts,
            "settled": [norm in self._settled for norm in self._norms],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        run = checkpoint["run"]
        self.seconds, self.training_seconds, self.pictures = run["seconds"], run["training_seconds"], run["pictures"]
        self._losses, self._parts = run["losses"], run["parts"]
        if "settled" in run:  # the weights that a lengthened run begins with have statistics everywhere
            self._settle(run["settled"])

    def normalised(self, images: Tensor) -> Tensor:
        """The network's input [B, C, H, W] of uint8 pixels, or of what is normalised already."""
        images_BCHW = images.to(memory_format=torch.channels_last)
        if images_BCHW.dtype != torch.uint8:  # an interpolation that ends in float32, normalised
            return images_BCHW
        return (images_BCHW.float() - self._mean) / self._std


def per_channel(values: tuple[float, ...]) -> Tensor:
    """[1, C, 1, 1], to be used on [B, C, H, W]."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def has_seen_data(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch norm has statistics: that of new layers has none yet, and learns whatever the recipe freezes."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool((norm.running_mean != 0).any() or (norm.running_var != 1).any())


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
