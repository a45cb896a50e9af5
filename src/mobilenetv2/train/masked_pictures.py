"""Which pictures with masks are trained on, which ones measure, and what of them is kept decoded."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2.data import segmentation_check, trainable
from mobilenetv2.data.classification import Sample, place
from mobilenetv2.data.examine import Examined
from mobilenetv2.data.segmentation import AS_FOUND, Places, SegmentationSample, open_parts
from mobilenetv2.data.segmentation_augment import Labelled, read_labelled
from mobilenetv2.data.segmentation_check import Looked, SegmentationCheck
from mobilenetv2.train.pictures import CACHE_BYTES, Progress, refuse, refuse_findings, split, split_note, unlearned

IntArray = npt.NDArray[np.int64]

MOST = 513  # pixels of an input's side that is not stated: DeepLab's for Pascal VOC
_STEP = 16  # sides are one more than a multiple: with output stride 16 the corners of map and input then meet


@dataclass(frozen=True, slots=True, eq=False)
class MaskedPictures:
    """Pictures with masks, of `sizes` (height, width). `counts` [N, L] are the pixels of each class on each of them,
    `pixels` holds them decoded, or is None where they stay on disk."""

    samples: tuple[SegmentationSample, ...]
    sizes: tuple[tuple[int, int], ...]
    counts: IntArray
    pixels: tuple[Labelled, ...] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> Labelled:
        """Picture `index` with its mask."""
        return read_labelled(self.samples[index]) if self.pixels is None else self.pixels[index]

    def per_class(self, classes: int) -> list[int]:
        """On how many pictures each class is."""
        return (self.counts > 0).sum(axis=0).tolist()

    def shuffled(self, generator: np.random.Generator) -> IntArray:
        """Every index once, in random order."""
        return generator.permutation(len(self.samples))


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationTrainingData:
    """What a segmentation network learns from; the fields are those of `pictures.TrainingData`. `names` are the masks'
    classes, background among them where the data has it."""

    names: tuple[str, ...]
    train: MaskedPictures
    val: MaskedPictures
    notes: tuple[str, ...]
    fingerprint: str
    check: SegmentationCheck
    held_out: tuple[str, ...] = ()

    def input_size(self) -> tuple[int, int]:
        """Height and width that hold every picture, those longer than `MOST` made smaller to that: 16 n + 1 each."""
        sides = [side * min(1.0, MOST / max(size)) for size in (*self.train.sizes, *self.val.sizes) for side in size]
        return _side(max(sides[0::2])), _side(max(sides[1::2]))


def open_segmentation_training(
    dataset: str,
    *,
    seed: int,
    places: Places = AS_FOUND,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
    progress: Progress | None = None,
) -> SegmentationTrainingData:
    """Read and check the pictures of a data set in `data.segmentation`'s forms, and divide them.

    Without a val part a seeded tenth measures: of the pictures whose rarest class is the same, for each class. Left out
    are pictures that cannot be read, whose mask cannot be used, or of whose mask nothing counts, and those of val that
    are in train. All are kept decoded where they take at most `cache_bytes`.

    Raises `DatasetError` where nothing is left to learn from, the parts have different classes, or, with `strict`, the
    check finds anything.
    """
    parts = open_parts(dataset, places=places)
    refuse(trainable.without_train(dataset, parts))
    parts.pop("test", None)
    names = next(iter(parts.values())).names
    refuse(trainable.other_classes(dataset, {part: data.names for part, data in parts.items()}))
    looked = segmentation_check.look_at_all(parts, progress=progress)
    checked = segmentation_check.judge(parts, looked)
    if strict:
        refuse_findings(dataset, checked.findings)
    sound = {part: [one for one in ones if _usable(one)] for part, ones in looked.items()}
    train = sound.get("train") or sound.get("all") or []
    reasons = [reason for _, reason in (*checked.unreadable, *checked.masks)]
    refuse(trainable.nothing_to_learn(dataset, "pixel", len(train), reasons))
    notes = [*checked.findings, *checked.notes]
    if "val" in parts:
        val, learned = unlearned(sound["val"], train, lambda one: one.digest)
        notes += learned
    else:
        train, val = _held_out(train, len(names), seed)
        notes.append(split_note(train, val, each="kind"))
    if left_out := sum(not _usable(one) for ones in looked.values() for one in ones):
        notes.append(f"{left_out} pictures left out")
    decoded = sum(4 * math.prod(one.size) for one in (*train, *val)) <= cache_bytes
    return SegmentationTrainingData(
        names=names,
        train=_pictures(train, len(names), decoded=decoded),
        val=_pictures(val, len(names), decoded=decoded),
        notes=tuple(notes),
        fingerprint=_fingerprint(names, train, val),
        check=checked,
        held_out=() if "val" in parts else tuple(place(one.sample.path, dataset) for one in val),
    )


def _usable(one: Looked) -> bool:
    return one.problem is None and one.mask_problem is None and not one.blank


def _held_out(ones: Sequence[Looked], classes: int, seed: int) -> tuple[list[Looked], list[Looked]]:
    """Those that train and those that measure."""
    occurs = (_counts(ones, classes) > 0).sum(axis=0).tolist()
    by_path = {str(one.sample.path): one for one in ones}
    rarest = [min((i for i, pixels in enumerate(one.pixels) if pixels), key=lambda i: (occurs[i], i)) for one in ones]
    kinds = [
        Examined(Sample(one.sample.path, label), one.digest, None, None, one.size)
        for one, label in zip(ones, rarest, strict=True)
    ]
    train, val = split(kinds, seed)
    return [by_path[str(one.sample.picture)] for one in train], [by_path[str(one.sample.picture)] for one in val]


def _pictures(ones: Sequence[Looked], classes: int, *, decoded: bool) -> MaskedPictures:
    samples = tuple(one.sample for one in ones)
    pixels = None
    if decoded:
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
            pixels = tuple(pool.map(read_labelled, samples))
    return MaskedPictures(samples, tuple(one.size for one in ones), _counts(ones, classes), pixels)


def _counts(ones: Sequence[Looked], classes: int) -> IntArray:
    return np.array([one.pixels for one in ones], np.int64).reshape(len(ones), classes)


def _side(length: float) -> int:
    return _STEP * max(math.ceil((length - 1) / _STEP), 2) + 1


def _fingerprint(names: Sequence[str], train: Sequence[Looked], val: Sequence[Looked]) -> str:
    sha = hashlib.sha256("\t".join(names).encode())
    for part, ones in (("train", train), ("val", val)):
        for one in ones:
            sha.update(f"{part}\t{one.digest}\t{one.pixels}\t{one.ignored}\n".encode())
    return sha.hexdigest()
