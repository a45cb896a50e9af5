"""The classifier as a LightningModule: its loss, with a teacher's or without, and how it is measured.

B batch, C channels, H W input, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from mobilenetv2.image import Preprocessing
from mobilenetv2.nn import MobileNetV2
from mobilenetv2.train import schedule
from mobilenetv2.train.batches import Batch
from mobilenetv2.train.learner import Learner, per_channel
from mobilenetv2.train.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network whose answers are learned from. `outputs` [L] are those of its outputs that are the labels."""

    network: nn.Module
    preprocessing: Preprocessing
    outputs: Sequence[int]


class Classifier(Learner[MobileNetV2]):
    """Trains a classifier, from a teacher's answers too where there is one; the rest is `Learner`'s."""

    def __init__(
        self,
        network: MobileNetV2,
        recipe: Recipe,
        preprocessing: Preprocessing,
        *,
        teacher: Teacher | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, recipe, preprocessing, **options)
        # mixup's and cutmix's classes come from the network; with neither, labels stay numbers
        mixed = [kind(alpha=alpha, num_classes=network.spec.head.outputs)
                 for kind, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)) if alpha]  # fmt: skip
        self._mix = v2.RandomChoice(mixed) if mixed else None
        self._teacher = [] if teacher is None else [teacher]  # in a list: its weights are not the module's
        self._measured = torch.zeros(3, dtype=torch.float64)  # summed loss, right answers, pictures

    @property
    def heads(self) -> nn.Module:
        return self.network.classifier

    def on_train_start(self) -> None:
        super().on_train_start()
        for teacher in self._teacher:
            teacher.network.to(self.device).eval().requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images, labels_B = batch
        images_BCHW = self.normalised(images)
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
        return {"loss": loss}

    def _logits(self, images_BCHW: Tensor) -> Tensor:
        # several devices wait for the gradients of all weights, zero as they may be
        if self.trainer.world_size == 1 and self.alone:
            with torch.no_grad():
                features_BChw = self.network.features(images_BCHW)
            return self.network.classifier(features_BChw.mean((2, 3)))
        return self.network(images_BCHW)

    def _distance(self, teacher: Teacher, images_BCHW: Tensor, logits_BL: Tensor, loss: Tensor) -> Tensor:
        """What turns the share `recipe.distil` of `loss` into the distance from the teacher's softened answers."""
        recipe, theirs = self.recipe, teacher.preprocessing
        mean, std = (per_channel(values).to(loss.device) for values in (theirs.mean, theirs.std))
        shown_BCHW = (images_BCHW * self._std + self._mean - mean) / std
        if shown_BCHW.shape[-2:] != theirs.size:
            shown_BCHW = F.interpolate(shown_BCHW, theirs.size, mode="bilinear", antialias=True)
        with torch.no_grad():
            wanted_BL = teacher.network(shown_BCHW)[:, teacher.outputs]
        log_answers_BL = F.log_softmax(logits_BL / recipe.temperature, dim=1)
        log_wanted_BL = F.log_softmax(wanted_BL / recipe.temperature, dim=1)
        divergence = F.kl_div(log_answers_BL, log_wanted_BL, reduction="batchmean", log_target=True)
        return recipe.distil * (recipe.temperature**2 * divergence - loss)

    # ---- measuring

    def forget(self) -> None:
        self._measured = torch.zeros(3, dtype=torch.float64)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels_B = batch
        logits_BL = self.measured(self.normalised(images)).float()
        loss = F.cross_entropy(logits_BL, labels_B, reduction="sum")
        right = (logits_BL.argmax(dim=1) == labels_B).sum()
        self._measured += torch.tensor([float(loss), float(right), len(labels_B)], dtype=torch.float64)

    def measured_scores(self) -> dict[str, float]:
        """ "val_loss" and "val_accuracy"."""
        loss, right, pictures = self.summed(self._measured).tolist()
        return {"val_loss": loss / pictures, "val_accuracy": right / pictures} if pictures else {}
