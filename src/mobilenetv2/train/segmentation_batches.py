"""Batches of augmented pictures with their masks for training, and of prepared ones for measuring.

B batch, C channels, H W the network's input. As in `batches`, a picture's augmentation and an epoch's order follow from
(seed, epoch, index) alone.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mobilenetv2.data.masks import IGNORE, UInt8Array
from mobilenetv2.data.segmentation_augment import Augmentation, Labelled, augment
from mobilenetv2.image import Geometry, Preprocessing, prepare
from mobilenetv2.resample import layout
from mobilenetv2.train.batches import Batches, Keys, default_workers, in_turn, shuffled
from mobilenetv2.train.masked_pictures import MaskedPictures
from mobilenetv2.train.segmentation_recipes import SegmentationRecipe

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W] as `prepare` makes them, masks [B, H, W] uint8

VAL_BATCH = 4  # the logits of 21 classes at 513 x 513 are 22 MB a picture
_STEP = 0.25  # of the scales


def training_batches(
    pictures: MaskedPictures, recipe: SegmentationRecipe, preprocessing: Preprocessing, **division: int
) -> Batches:
    """Augmented uint8 batches, of places as large as the recipe says, in an order of their own each epoch."""
    return Batches(
        _Augmented(pictures, recipe, preprocessing),
        shuffled(pictures, recipe, **division),
        **{"workers": default_workers(pictures), **division},
    )


def validation_batches(pictures: MaskedPictures, preprocessing: Preprocessing, **division: int) -> Batches:
    """Every picture once, prepared as a model file with this preprocessing prepares it."""
    return Batches(
        _Prepared(pictures, preprocessing),
        in_turn(pictures, VAL_BATCH),
        **{"workers": default_workers(pictures), **division},
    )


def scales(recipe: SegmentationRecipe) -> tuple[float, ...]:
    """The scales from the recipe's least to its most, a quarter apart."""
    count = int((recipe.most_scale - recipe.least_scale) / _STEP + 1e-9) + 1
    return tuple(recipe.least_scale + _STEP * i for i in range(count))


def mask_to_input(mask: UInt8Array, geometry: Geometry, size: tuple[int, int]) -> UInt8Array:
    """A photo's mask [H, W] in the network's input of `size`: at each place that of the pixel in which its centre lies,
    255 beyond the photo."""
    sides: list[tuple[np.ndarray, np.ndarray]] = []
    for axis, length in ((1, mask.shape[0]), (0, mask.shape[1])):
        at = (np.arange(size[1 - axis]) + 0.5 - geometry.offset[axis]) / geometry.scale[axis]
        sides.append((np.clip(at.astype(np.int64), 0, length - 1), (at >= 0) & (at < length)))
    (rows, row_inside), (columns, column_inside) = sides
    return np.where(row_inside[:, None] & column_inside, mask[rows[:, None], columns], np.uint8(IGNORE))


class _Augmented(Dataset[Batch]):
    def __init__(self, pictures: MaskedPictures, recipe: SegmentationRecipe, preprocessing: Preprocessing) -> None:
        self._pictures = pictures
        self._recipe = recipe
        self._preprocessing = preprocessing
        self._scales = scales(recipe)
        most = recipe.train_size or max(preprocessing.size)
        self._size = min(most, preprocessing.size[0]), min(most, preprocessing.size[1])

    def __getitem__(self, keys: Keys) -> Batch:
        return _batch([self._one(epoch, index) for epoch, index in keys])

    def _one(self, epoch: int, index: int) -> Labelled:
        one, recipe = self._pictures.read(index), self._recipe
        # a photo that the network sees made smaller is learned at that scale too
        height, width = one.mask.shape
        _, (resized_height, _) = layout(height, width, self._preprocessing)
        smaller = resized_height / height
        red, green, blue = (int(value) for value in self._preprocessing.mean)
        settings = Augmentation(
            tuple(smaller * scale for scale in self._scales), recipe.flip, recipe.photometric, (red, green, blue)
        )
        return augment(one, self._size, np.random.default_rng([recipe.seed, epoch, index]), settings)


class _Prepared(Dataset[Batch]):
    def __init__(self, pictures: MaskedPictures, preprocessing: Preprocessing) -> None:
        self._pictures = pictures
        self._preprocessing = preprocessing

    def __getitem__(self, keys: Keys) -> Batch:
        found: list[Labelled] = []
        for _, index in keys:
            one = self._pictures.read(index)
            rgb, geometry = prepare(one.rgb, self._preprocessing)
            assert rgb.dtype == np.uint8
            found.append(Labelled(cast("UInt8Array", rgb), mask_to_input(one.mask, geometry, self._preprocessing.size)))
        return _batch(found)


def _batch(ones: list[Labelled]) -> Batch:
    images_BHWC, masks_BHW = np.stack([one.rgb for one in ones]), np.stack([one.mask for one in ones])
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2), torch.from_numpy(masks_BHW)
