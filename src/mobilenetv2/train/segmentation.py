"""The segmentation network as a LightningModule: its loss, and mean intersection over union after each epoch.

B batch, C channels, H W input, h w map, L classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobilenetv2.data.masks import IGNORE
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.nn import DeepLabV3
from mobilenetv2.nn.segmentation_loss import resized
from mobilenetv2.segmentation_metrics import scores
from mobilenetv2.train.learner import Learner, has_seen_data
from mobilenetv2.train.segmentation_batches import Batch
from mobilenetv2.train.segmentation_recipes import SegmentationRecipe


class Segmenter(Learner[DeepLabV3]):
    """Trains a segmentation network as `info` describes it; the rest is `Learner`'s.

    `pixels` are how many each class has in what is learned from.
    """

    recipe: SegmentationRecipe

    def __init__(
        self, network: DeepLabV3, recipe: SegmentationRecipe, info: ModelInfo, *, pixels: Sequence[int], **options: Any
    ) -> None:
        super().__init__(network, recipe, info.preprocessing, **options)
        self._weights_L: Tensor | None
        weights = torch.from_numpy(class_weights(pixels, recipe.balance)) if recipe.balance else None
        self.register_buffer("_weights_L", weights, persistent=False)
        self.forget()

    @property
    def heads(self) -> nn.Module:
        net = self.network
        return nn.ModuleList([net.pooling, net.branches, net.project, net.logits])

    def settled(self, norm: nn.BatchNorm2d) -> bool:
        return has_seen_data(norm)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images, masks_BHW = batch
        outputs = self.network(self.normalised(images))
        return {"loss": self._cost(outputs, masks_BHW, hardest=self.recipe.hardest)}

    def _cost(self, outputs: dict[str, Tensor], masks_BHW: Tensor, *, hardest: float) -> Tensor:
        found = self.network.loss(outputs, masks_BHW, class_weights_O=self._weights_L, hardest=hardest)
        return found["class_loss"]

    # ---- measuring

    def forget(self) -> None:
        outputs = self.network.head.outputs
        self._confusion_LL = torch.zeros(outputs, outputs, dtype=torch.int64)
        self._loss = torch.zeros(2, dtype=torch.float64)  # summed over pictures, pictures

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, masks_BHW = batch
        outputs = self.measured(self.normalised(images))
        cost = float(self._cost(outputs, masks_BHW, hardest=1.0))
        self._loss += torch.tensor([cost * len(images), len(images)], dtype=torch.float64)
        height, width = masks_BHW.shape[1:]
        logits_BHWL = resized(
            outputs["logits_map"].float(), (height, width), align_corners=self.network.head.align_corners
        )
        counted_BHW = masks_BHW != IGNORE
        found_P = logits_BHWL.argmax(dim=-1)[counted_BHW]
        classes = len(self._confusion_LL)
        pairs_P = masks_BHW[counted_BHW].long() * classes + found_P
        self._confusion_LL += torch.bincount(pairs_P, minlength=classes * classes).reshape(classes, classes).cpu()

    def measured_scores(self) -> dict[str, float]:
        """What was found at the input's size, padding left out: "val_loss", "val_miou" (`segmentation_metrics.scores`)
        and "val_pixel_accuracy"; the last two only where a pixel counted."""
        loss, pictures = self.summed(self._loss).tolist()
        if not pictures:
            return {}
        found = scores(self.summed(self._confusion_LL).cpu().numpy())
        values = {
            "val_loss": loss / pictures, "val_miou": found.miou, "val_pixel_accuracy": found.pixel_accuracy,
        }  # fmt: skip
        return {name: value for name, value in values.items() if not math.isnan(value)}


def class_weights(pixels: Sequence[int], balance: float) -> np.ndarray:
    """[L] float32: (1 / the class's share of the pixels) ^ `balance`, so that their mean over the pixels is 1. A class
    without any has 1: nothing of it is learned."""
    pixels_L = np.asarray(pixels, np.float64)
    weights_L = np.where(pixels_L > 0, np.maximum(pixels_L, 1) / max(pixels_L.sum(), 1), 1.0) ** -balance
    mean = (weights_L * pixels_L).sum() / max(pixels_L.sum(), 1)
    return np.where(pixels_L > 0, weights_L / max(mean, 1e-12), 1.0).astype(np.float32)
