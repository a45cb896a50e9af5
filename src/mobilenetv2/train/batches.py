"""Batches of augmented pictures for training, and of prepared ones for measuring.

B batch, C channels, S side of the network's input. Every picture's augmentation and every epoch's order follow from
(seed, epoch, index) alone, so that the number of workers, or a run that was resumed, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from mobilenetv2.image import Preprocessing, prepare
from mobilenetv2.train.pictures import Pictures
from mobilenetv2.train.recipes import Recipe

Batch = tuple[Tensor, Tensor]  # images [B, C, S, S], uint8 or float32 that is already normalised; labels int64 [B]
Keys = list[tuple[int, int]]  # (epoch, index) of each picture of a batch

VAL_BATCH = 64
_MAX_WORKERS = 2


class Batches:
    """An iterable of batches over worker processes: 0 where the pictures are decoded already, else up to 2.

    Not itself a `DataLoader`: Lightning would advise more workers than pictures in memory can use.
    """

    def __init__(self, dataset: Dataset[Batch], order: Callable[[int], list[Keys]], *, decoded: bool) -> None:
        self._dataset = dataset
        self._order = order
        self._workers = 0 if decoded else min(_MAX_WORKERS, os.cpu_count() or 1)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of the next iteration is that of `epoch`, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._order(0))

    def __iter__(self) -> Iterator[Batch]:
        sampler = self._order(self._epoch)
        # batch_size=None: the sampler's items are whole batches already
        yield from DataLoader(self._dataset, batch_size=None, sampler=sampler, num_workers=self._workers)


def training_batches(pictures: Pictures, recipe: Recipe, size: int) -> Batches:
    """Augmented uint8 batches in an order of their own each epoch.

    An epoch's pictures are spread evenly over its batches, none is left out, and with two pictures or more there is
    no batch of one, which batch norm could not learn from.
    """

    def order(epoch: int) -> list[Keys]:
        shuffled = np.random.default_rng([recipe.seed, epoch]).permutation(len(pictures))
        parts = min(-(-len(pictures) // recipe.batch_size), max(1, len(pictures) // 2))
        return [[(epoch, int(index)) for index in part] for part in np.array_split(shuffled, parts)]

    return Batches(_Augmented(pictures, recipe, size), order, decoded=pictures.pixels is not None)


def validation_batches(pictures: Pictures, preprocessing: Preprocessing) -> Batches:
    """Every picture once, prepared as a model file with this preprocessing prepares it."""
    starts = range(0, len(pictures), VAL_BATCH)
    keys = [[(0, i) for i in range(start, min(start + VAL_BATCH, len(pictures)))] for start in starts]
    return Batches(_Prepared(pictures, preprocessing), lambda epoch: keys, decoded=pictures.pixels is not None)


def augmentation(recipe: Recipe, size: int) -> v2.Compose:
    """The transform of one uint8 picture [C, H, W] to [C, size, size]; it draws from torch's global generator."""
    steps: list[torch.nn.Module] = []
    if recipe.crop_scale < 1:
        steps.append(v2.RandomResizedCrop(size, scale=(recipe.crop_scale, 1.0), antialias=True))
    else:
        steps += [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    if recipe.flip:
        steps.append(v2.RandomHorizontalFlip(recipe.flip))
    if recipe.vertical_flip:
        steps.append(v2.RandomVerticalFlip(recipe.vertical_flip))
    if recipe.colour:
        steps.append(v2.ColorJitter(recipe.colour, recipe.colour, recipe.colour))
    return v2.Compose(steps)


class _Augmented(Dataset[Batch]):
    def __init__(self, pictures: Pictures, recipe: Recipe, size: int) -> None:
        self._pictures = pictures
        self._seed = recipe.seed
        self._transform = augmentation(recipe, size)

    def __getitem__(self, keys: Keys) -> Batch:
        generator = torch.default_generator
        state = generator.get_state()  # dropout draws from it too
        try:
            images = [self._one(epoch, index) for epoch, index in keys]
        finally:
            generator.set_state(state)
        labels = [self._pictures.samples[index].label for _, index in keys]
        return torch.stack(images), torch.tensor(labels)

    def _one(self, epoch: int, index: int) -> Tensor:
        sequence = np.random.SeedSequence([self._seed, epoch, index])
        torch.default_generator.manual_seed(int(sequence.generate_state(1)[0]))
        return self._transform(torch.from_numpy(self._pictures.read(index)).permute(2, 0, 1))


class _Prepared(Dataset[Batch]):
    def __init__(self, pictures: Pictures, preprocessing: Preprocessing) -> None:
        self._pictures = pictures
        self._preprocessing = preprocessing

    def __getitem__(self, keys: Keys) -> Batch:
        images_BHWC = np.stack([prepare(self._pictures.read(index), self._preprocessing)[0] for _, index in keys])
        labels = [self._pictures.samples[index].label for _, index in keys]
        return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2), torch.tensor(labels)
