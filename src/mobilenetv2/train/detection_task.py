"""Detection as the trainer's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenetv2.data.detection import Places
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.train import detection_start
from mobilenetv2.train.batches import Batches
from mobilenetv2.train.detection import Detector
from mobilenetv2.train.detection_batches import training_batches, validation_batches
from mobilenetv2.train.detection_recipes import DetectionRecipe
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.scenes import DetectionTrainingData, open_detection_training
from mobilenetv2.train.task import Progress, Score, Task


class _Detection:
    name = "detection"
    columns: tuple[str, ...] = ("train_class_loss", "train_box_loss", "val_loss", "val_ap50", "val_ap")
    best = Score("val_ap50", "val AP50")
    patience = Score("val_ap50", "val AP50")

    def open(
        self, dataset: str, recipe: Recipe, *, strict: bool, cache_bytes: int, progress: Progress | None,
        places: Mapping[str, Any],
    ) -> DetectionTrainingData:  # fmt: skip
        if "ignore" in places:
            raise UsageError("--ignore is for masks, and these pictures have boxes: leave it out")
        return open_detection_training(
            dataset, seed=recipe.seed, places=Places(**places), strict=strict, cache_bytes=cache_bytes,
            progress=progress,
        )  # fmt: skip

    def start(self, data: DetectionTrainingData, recipe: Recipe, init: ModelFile | None) -> tuple[ModelFile, list[str]]:
        assert isinstance(recipe, DetectionRecipe)
        return detection_start.model(data, recipe, init)

    def teacher(self, model: ModelFile, names: tuple[str, ...]) -> Any:
        raise UsageError("detectors learn from no teacher: leave out --teacher")

    def batches(
        self, data: DetectionTrainingData, recipe: Recipe, info: ModelInfo, **division: int
    ) -> tuple[Batches, Batches]:
        assert isinstance(recipe, DetectionRecipe)
        train = training_batches(data.train, recipe, info.preprocessing.size, **division)
        return train, validation_batches(data.val, info.preprocessing, **division)

    def learner(
        self, first: ModelFile, recipe: Recipe, data: DetectionTrainingData, *, batches: int, teacher: Any,
        recompute: bool,
    ) -> Detector:  # fmt: skip
        assert isinstance(recipe, DetectionRecipe)
        if recompute:
            raise UsageError("detectors read tensors inside the blocks, which --recompute forgets: leave it out")
        network = detection_start.learner_network(first)
        return Detector(network, recipe, first.info, batches=batches, frozen_norm=first.info.batch_norm == "folded")


TASK: Task = _Detection()
