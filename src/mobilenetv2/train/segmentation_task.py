"""Segmentation as the trainer's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenetv2.data.segmentation import Places
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.train import segmentation_start
from mobilenetv2.train.batches import Batches
from mobilenetv2.train.masked_pictures import SegmentationTrainingData, open_segmentation_training
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.segmentation import Segmenter
from mobilenetv2.train.segmentation_batches import training_batches, validation_batches
from mobilenetv2.train.segmentation_recipes import SegmentationRecipe
from mobilenetv2.train.task import Progress, Score, Task


class _Segmentation:
    name = "segmentation"
    columns: tuple[str, ...] = ("val_loss", "val_miou", "val_pixel_accuracy")
    best = Score("val_miou", "val mIoU")
    patience = Score("val_miou", "val mIoU")

    def open(
        self, dataset: str, recipe: Recipe, *, strict: bool, cache_bytes: int, progress: Progress | None,
        places: Mapping[str, Any],
    ) -> SegmentationTrainingData:  # fmt: skip
        return open_segmentation_training(
            dataset, seed=recipe.seed, places=Places(**places), strict=strict, cache_bytes=cache_bytes,
            progress=progress,
        )  # fmt: skip

    def start(
        self, data: SegmentationTrainingData, recipe: Recipe, init: ModelFile | None
    ) -> tuple[ModelFile, list[str]]:
        assert isinstance(recipe, SegmentationRecipe)
        return segmentation_start.model(data, recipe, init)

    def teacher(self, model: ModelFile, names: tuple[str, ...]) -> Any:
        raise UsageError("segmentation networks learn from no teacher: leave out --teacher")

    def batches(
        self, data: SegmentationTrainingData, recipe: Recipe, info: ModelInfo, **division: int
    ) -> tuple[Batches, Batches]:
        assert isinstance(recipe, SegmentationRecipe)
        train = training_batches(data.train, recipe, info.preprocessing, **division)
        return train, validation_batches(data.val, info.preprocessing, **division)

    def learner(
        self, first: ModelFile, recipe: Recipe, data: SegmentationTrainingData, *, batches: int, teacher: Any,
        recompute: bool,
    ) -> Segmenter:  # fmt: skip
        assert isinstance(recipe, SegmentationRecipe)
        network = segmentation_start.learner_network(first)
        network.recompute(recompute)
        return Segmenter(
            network, recipe, first.info, pixels=data.train.counts.sum(axis=0).tolist(), batches=batches,
            frozen_norm=first.info.batch_norm == "folded",
        )  # fmt: skip


TASK: Task = _Segmentation()
