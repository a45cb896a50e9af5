"""Batches of augmented pictures for training, and of prepared ones for measuring.

B batch, C channels, S side of the network's input. Every picture's augmentation and every epoch's order follow from
(seed, epoch, index) alone, so that the number of workers, or a run that was resumed, changes nothing.
"""

from __future__ import annotations

import errno
import functools
import multiprocessing.queues
import os
import signal
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from mobilenetv2.image import Preprocessing, prepare
from mobilenetv2.train.pictures import Pictures
from mobilenetv2.train.recipes import Recipe

Batch = tuple[Tensor, Tensor]  # images [B, C, S, S], uint8 or float32 that is already normalised; labels int64 [B]
Keys = list[tuple[int, int]]  # (epoch, index) of each picture of a batch
Order = Callable[[int], list[Keys]]  # the batches of an epoch

VAL_BATCH = 64
_MAX_WORKERS = 2


class Shuffled(Protocol):
    """Pictures that know a random order."""

    def __len__(self) -> int: ...
    def shuffled(self, generator: np.random.Generator) -> npt.NDArray[np.int64]: ...


class Cached(Protocol):
    """Pictures that are decoded already, or not."""

    @property
    def pixels(self) -> object: ...


class Batches:
    """An iterable of batches over worker processes, which goes on in the middle of an epoch by its `state_dict`.

    `order(epoch)` gives the keys of each batch on all devices together; device `rank` of `devices` takes its share.
    Not itself a `DataLoader`: Lightning would advise more workers than pictures in memory can use.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        order: Order,
        *,
        workers: int,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self._dataset = dataset
        self._order = order
        self._workers = workers
        self._rank, self._devices = rank, devices
        self._epoch = 0
        self._done = 0  # batches of the epoch that have been given out
        self._first = 0  # the batch that the next iteration begins with

    def set_epoch(self, epoch: int) -> None:
        """The order of the next iteration is that of `epoch`, from 0."""
        if epoch != self._epoch:
            self._first = 0  # where another epoch ended: a time limit ends it anywhere
        self._epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How far the epoch is: what Lightning keeps in a checkpoint."""
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration begins where that of `state_dict` was; the ones after it at the start."""
        self._epoch = state["epoch"]
        self._first = state["done"] if state["done"] < len(self) else 0

    def weight(self, epoch: int, batch: int) -> float:
        """What this device's loss counts among the devices', whose mean is the whole batch's: 1 where they are even."""
        whole = self._order(epoch)[batch] if self._devices > 1 else ()
        return self._devices * len(self._share(whole)) / len(whole) if whole else 1.0

    def _share(self, keys: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        return keys[self._rank * len(keys) // self._devices : (self._rank + 1) * len(keys) // self._devices]

    def __len__(self) -> int:
        return len(self._order(0))

    def __iter__(self) -> Iterator[Any]:
        self._done, self._first = self._first, 0
        shares = [self._share(keys) for keys in self._order(self._epoch)[self._done :]]
        # batch_size=None: the sampler's items are whole batches already
        shares = [keys for keys in shares if keys]  # the last pictures to measure may be fewer than the devices
        loader = DataLoader(
            self._dataset, batch_size=None, sampler=shares, num_workers=self._workers, worker_init_fn=_fail_loudly
        )
        for batch in loader:
            self._done += 1
            yield batch


def training_batches(pictures: Pictures, recipe: Recipe, size: int, **division: int) -> Batches:
    """Augmented uint8 batches in an order of their own each epoch; `division` is `Batches`' workers, rank, devices.

    An epoch's pictures are spread evenly over its batches, none is left out, and with two pictures or more there is
    no batch of one, which batch norm could not learn from.
    """

    order = shuffled(pictures, recipe, **division)
    return Batches(_Augmented(pictures, recipe, size), order, **{"workers": default_workers(pictures), **division})


def validation_batches(pictures: Pictures, preprocessing: Preprocessing, **division: int) -> Batches:
    """Every picture once, prepared as a model file with this preprocessing prepares it; `division` as above."""
    return Batches(
        _Prepared(pictures, preprocessing), in_turn(pictures), **{"workers": default_workers(pictures), **division}
    )


def shuffled(pictures: Shuffled, recipe: Recipe, **division: int) -> Order:
    """The batches of `training_batches`."""

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> list[Keys]:
        mixed = pictures.shuffled(np.random.default_rng([recipe.seed, epoch]))
        least = 2 * division.get("devices", 1)
        parts = min(-(-len(pictures) // recipe.batch_size), max(1, len(pictures) // least))
        return [[(epoch, int(index)) for index in part] for part in np.array_split(mixed, parts)]

    return order


def in_turn(pictures: Sized, batch: int = VAL_BATCH) -> Order:
    """The batches of `validation_batches`: the same in every epoch."""
    starts = range(0, len(pictures), batch)
    keys = [[(0, i) for i in range(start, min(start + batch, len(pictures)))] for start in starts]
    return lambda epoch: keys


def default_workers(pictures: Cached) -> int:
    """Worker processes for a device: 0 where the pictures are decoded already, else up to 2."""
    return 0 if pictures.pixels is not None else min(_MAX_WORKERS, os.cpu_count() or 1)


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
    brightness = recipe.colour if recipe.brightness is None else recipe.brightness
    if recipe.colour or brightness or recipe.hue:
        steps.append(v2.ColorJitter(brightness, recipe.colour, recipe.colour, recipe.hue))
    if recipe.auto_augment != "none":
        steps.append(_AUTO_AUGMENT[recipe.auto_augment](interpolation=v2.InterpolationMode.BILINEAR))
    if recipe.erase:
        steps.append(v2.RandomErasing(recipe.erase, value=128))  # near the mean: torchvision erases after normalising
    return v2.Compose(steps)


def _fail_loudly(worker: int) -> None:
    """In a worker process: a batch that cannot be handed over ends the process, which the run notices at once.

    Python prints a traceback and goes on without the batch, for which the run would then wait for ever. Batches go
    through shared memory: where that is full, writing to it is a SIGBUS anyway.
    """
    if hasattr(signal, "SIGBUS"):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # PyTorch's handler prints a line of its own

    def end(error: Exception, batch: object) -> None:
        full = "shared memory" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.ENOMEM)
        if full and hasattr(signal, "SIGBUS"):
            signal.raise_signal(signal.SIGBUS)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[assignment]  # its own hook


_AUTO_AUGMENT = {"trivial": v2.TrivialAugmentWide, "rand": v2.RandAugment}


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
