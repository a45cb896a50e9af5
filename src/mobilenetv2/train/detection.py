"""The detector as a LightningModule: its losses by name, and average precision after each epoch.

B batch, C channels, H W input, A anchors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.detection_metrics import CocoAP, VocAP
from mobilenetv2.evaluate_detection import LEAST_SCORE, MOST, FoundBoxes, found_boxes
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.nn import SSDLite, Target, focal, hard_mined
from mobilenetv2.nn.ssd_loss import ClassLoss
from mobilenetv2.results import decode_detections
from mobilenetv2.train.detection_batches import TrainBatch, ValBatch
from mobilenetv2.train.detection_recipes import DetectionRecipe
from mobilenetv2.train.learner import Learner, has_seen_data

_CLASS_LOSSES: dict[str, ClassLoss] = {"hard_mined": hard_mined, "focal": focal}


class Detector(Learner[SSDLite]):
    """Trains a detector as `info` describes it; the rest is `Learner`'s."""

    recipe: DetectionRecipe

    def __init__(self, network: SSDLite, recipe: DetectionRecipe, info: ModelInfo, **options: Any) -> None:
        super().__init__(network, recipe, info.preprocessing, **options)
        self._info = info
        self._found: list[tuple[DetectionSample, FoundBoxes]] = []
        self._loss = torch.zeros(2, dtype=torch.float64)  # summed over pictures, pictures

    @property
    def heads(self) -> nn.Module:
        return nn.ModuleList([self.network.extras, self.network.class_heads, self.network.box_heads])

    def settled(self, norm: nn.BatchNorm2d) -> bool:
        return has_seen_data(norm)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        images, targets, *shown = batch
        moved = [Target(target.boxes_xyxy_norm.to(device), target.classes.to(device)) for target in targets]
        return images.to(device), moved, *shown

    def losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        images, targets = batch
        images_BCHW = self.normalised(images)
        return self._cost(self.network(images_BCHW), targets, images_BCHW)

    def _cost(self, outputs: dict[str, Tensor], targets: list[Target], images_BCHW: Tensor) -> dict[str, Tensor]:
        height, width = images_BCHW.shape[-2:]
        class_loss = _CLASS_LOSSES[self.recipe.class_loss]
        found = self.network.loss(outputs, targets, (height, width), class_loss=class_loss)
        return {**found, "box_loss": self.recipe.box_weight * found["box_loss"]}

    # ---- measuring

    def forget(self) -> None:
        self._found = []
        self._loss = torch.zeros(2, dtype=torch.float64)

    def validation_step(self, batch: ValBatch, batch_idx: int) -> None:
        images, targets, shown = batch
        images_BCHW = self.normalised(images)
        outputs = {name: value.float() for name, value in self.measured(images_BCHW).items()}
        cost = float(torch.stack([*self._cost(outputs, targets, images_BCHW).values()]).sum())
        self._loss += torch.tensor([cost * len(images), len(images)], dtype=torch.float64)
        raw = {name: value.cpu().numpy() for name, value in outputs.items()}
        for i, (sample, geometry) in enumerate(shown):
            one = {name: value[i : i + 1] for name, value in raw.items()}
            answer = decode_detections(one, self._info, geometry, score=LEAST_SCORE, most=MOST)
            self._found.append((sample, found_boxes(answer)))

    def measured_scores(self) -> dict[str, float]:
        """What was found: "val_loss", "val_ap50" (VOC's average precision at an overlap of 0.5) and "val_ap" (COCO's);
        the last two only where there was anything to find."""
        loss, pictures = self.summed(self._loss).tolist()
        if not pictures:
            return {}
        found = self._found
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, found)
            found = [pair for part in parts for pair in part]
        voc, coco = VocAP(self._info.classes), CocoAP(self._info.classes)
        for sample, boxes in found:
            voc.add(sample, boxes)
            coco.add(sample, boxes)
        scores = {"val_loss": loss / pictures, "val_ap50": voc.compute().ap50, "val_ap": coco.compute().ap}
        return {name: value for name, value in scores.items() if not math.isnan(value)}
