"""Batches of augmented pictures with their boxes for training, and of prepared ones for measuring.

B batch, C channels, H W the network's input, N boxes of a picture. As in `batches`, a picture's augmentation and an
epoch's order follow from (seed, epoch, index) alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.data.detection_augment import Augmentation, Scene, augment
from mobilenetv2.image import Geometry, Preprocessing, prepare
from mobilenetv2.nn import Target
from mobilenetv2.train.batches import Batches, Keys, default_workers, in_turn, shuffled
from mobilenetv2.train.detection_recipes import DetectionRecipe
from mobilenetv2.train.scenes import ScenePictures

TrainBatch = tuple[Tensor, list[Target]]  # images [B, C, H, W] uint8, and what is on each
ValBatch = tuple[Tensor, list[Target], list[tuple[DetectionSample, Geometry]]]  # images as `prepare` makes them


def training_batches(
    pictures: ScenePictures, recipe: DetectionRecipe, size: tuple[int, int], **division: int
) -> Batches:
    """Augmented uint8 batches of `size` (height, width) in an order of their own each epoch."""
    return Batches(
        _Augmented(pictures, recipe, size),
        shuffled(pictures, recipe, **division),
        **{"workers": default_workers(pictures), **division},
    )


def validation_batches(pictures: ScenePictures, preprocessing: Preprocessing, **division: int) -> Batches:
    """Every picture once, prepared as a model file with this preprocessing prepares it."""
    return Batches(
        _Prepared(pictures, preprocessing), in_turn(pictures), **{"workers": default_workers(pictures), **division}
    )


def augmentation(recipe: DetectionRecipe) -> Augmentation:
    """What the recipe says, as the augmentation takes it."""
    return Augmentation(
        crop=recipe.crop, zoom_out=recipe.zoom_out, largest=recipe.largest, flip=recipe.flip,
        vertical_flip=recipe.vertical_flip, photometric=recipe.photometric,
    )  # fmt: skip


class _Augmented(Dataset[TrainBatch]):
    def __init__(self, pictures: ScenePictures, recipe: DetectionRecipe, size: tuple[int, int]) -> None:
        self._pictures = pictures
        self._seed = recipe.seed
        self._settings = augmentation(recipe)
        self._size = size

    def __getitem__(self, keys: Keys) -> TrainBatch:
        scenes = [self._one(epoch, index) for epoch, index in keys]
        images_BHWC = np.stack([scene.rgb for scene in scenes])
        targets = [_target(scene.boxes_xyxy, scene.labels, self._size) for scene in scenes]
        return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2), targets

    def _one(self, epoch: int, index: int) -> Scene:
        rng = np.random.default_rng([self._seed, epoch, index])
        return augment(_scene(self._pictures, index), self._size, rng, self._settings)


class _Prepared(Dataset[ValBatch]):
    def __init__(self, pictures: ScenePictures, preprocessing: Preprocessing) -> None:
        self._pictures = pictures
        self._preprocessing = preprocessing

    def __getitem__(self, keys: Keys) -> ValBatch:
        indices = [index for _, index in keys]
        inputs, geometries = zip(
            *(prepare(self._pictures.read(index), self._preprocessing) for index in indices), strict=True
        )
        targets: list[Target] = []
        for index, geometry in zip(indices, geometries, strict=True):
            scene = _scene(self._pictures, index)
            targets.append(_target(geometry.boxes_to_input(scene.boxes_xyxy), scene.labels, self._preprocessing.size))
        shown = [(self._pictures.samples[index], geometry) for index, geometry in zip(indices, geometries, strict=True)]
        return torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2), targets, shown


def _scene(pictures: ScenePictures, index: int) -> Scene:
    """A picture with what is learned from: all but the boxes around a crowd."""
    sample = pictures.samples[index]
    single = ~sample.crowd
    boxes_xyxy, labels = sample.boxes_xyxy[single], sample.labels[single]
    return Scene(pictures.read(index), boxes_xyxy, labels, np.zeros(len(labels), bool))


def _target(boxes_xyxy: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> Target:
    """Boxes in pixels of the input of `size` (height, width), as the loss takes them."""
    height, width = size
    boxes_norm = (boxes_xyxy.reshape(-1, 4) / (width, height, width, height)).astype(np.float32)
    return Target(torch.from_numpy(boxes_norm), torch.from_numpy(labels.astype(np.int64)))
