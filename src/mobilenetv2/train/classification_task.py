"""Classification as the trainer's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import MobileNetV2, load_tensors
from mobilenetv2.train import start
from mobilenetv2.train.batches import Batches, training_batches, validation_batches
from mobilenetv2.train.classification import Classifier, Teacher
from mobilenetv2.train.pictures import TrainingData, open_training_data
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.task import Progress, Score, Task


class _Classification:
    name = "classification"
    columns: tuple[str, ...] = ("val_loss", "val_accuracy")
    best = Score("val_accuracy", "val accuracy")
    patience = Score("val_loss", "val loss", least=True)

    def open(
        self, dataset: str, recipe: Recipe, *, strict: bool, cache_bytes: int, progress: Progress | None,
        places: Mapping[str, Any],
    ) -> TrainingData:  # fmt: skip
        if places:
            raise UsageError(f"--{next(iter(places))} is for pictures with boxes or masks, and these have a class each")
        return open_training_data(dataset, seed=recipe.seed, strict=strict, cache_bytes=cache_bytes, progress=progress)

    def start(self, data: TrainingData, recipe: Recipe, init: ModelFile | None) -> tuple[ModelFile, list[str]]:
        return start.model(data, recipe, init)

    def teacher(self, model: ModelFile, names: tuple[str, ...]) -> Teacher:
        return start.teacher(model, names)

    def batches(self, data: TrainingData, recipe: Recipe, info: ModelInfo, **division: int) -> tuple[Batches, Batches]:
        train = training_batches(data.train, recipe, recipe.train_size or info.preprocessing.size[0], **division)
        return train, validation_batches(data.val, info.preprocessing, **division)

    def learner(
        self, first: ModelFile, recipe: Recipe, data: TrainingData, *, batches: int, teacher: Teacher | None,
        recompute: bool,
    ) -> Classifier:  # fmt: skip
        info = first.info
        network = MobileNetV2.from_spec(info.spec)
        load_tensors(network, first.tensors)
        network.recompute(recompute)
        return Classifier(
            network, recipe, info.preprocessing, batches=batches, frozen_norm=info.batch_norm == "folded",
            teacher=teacher,
        )  # fmt: skip


TASK: Task = _Classification()
