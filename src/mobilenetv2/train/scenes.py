"""Which pictures with boxes are trained on, which ones measure, and what of them is kept decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image
from mobilenetv2.data import detection_check, trainable
from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.data.classification import Sample, place
from mobilenetv2.data.detection import AS_FOUND, DetectionData, Places, open_parts
from mobilenetv2.data.detection_check import DetectionCheck
from mobilenetv2.data.examine import Examined, examine
from mobilenetv2.train.pictures import CACHE_BYTES, Progress, refuse, refuse_findings, split, split_note, unlearned

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ScenePictures:
    """Pictures with boxes. `pixels`, RGB [H, W, 3] each, holds them decoded, or is None where they stay on disk."""

    samples: tuple[DetectionSample, ...]
    pixels: tuple[UInt8Array, ...] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> UInt8Array:
        """RGB [H, W, 3] of picture `index`."""
        return image.read(self.samples[index].path) if self.pixels is None else self.pixels[index]

    def per_class(self, classes: int) -> list[int]:
        """How many boxes each class has."""
        counted = Counter(label for sample in self.samples for label in sample.labels.tolist())
        return [counted[label] for label in range(classes)]

    def shuffled(self, generator: np.random.Generator) -> IntArray:
        """Every index once, in random order."""
        return generator.permutation(len(self.samples))


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTrainingData:
    """What a detector learns from; the fields are those of `pictures.TrainingData`. Boxes lie inside their pictures and
    have an area. Difficult objects are learned like all others; those around a crowd are not in `train`."""

    names: tuple[str, ...]
    train: ScenePictures
    val: ScenePictures
    notes: tuple[str, ...]
    fingerprint: str
    check: DetectionCheck
    held_out: tuple[str, ...] = ()


def open_detection_training(
    dataset: str,
    *,
    seed: int,
    places: Places = AS_FOUND,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
    progress: Progress | None = None,
) -> DetectionTrainingData:
    """Read and check the pictures of a data set in `data.detection`'s forms, and divide them.

    Without a val part a seeded tenth measures: of the pictures whose rarest class is the same, for each class. Faulty
    boxes are repaired or left out as `data.annotation.repaired` says; pictures that cannot be read, and those of val
    that are in train, are left out. All are kept decoded where they take at most `cache_bytes`. Pictures without
    objects are learned from too.

    Raises `DatasetError` where no box is left to learn from, or, with `strict`, the check finds anything.
    """
    parts = open_parts(dataset, places=places)
    refuse(trainable.without_train(dataset, parts))
    parts.pop("test", None)
    names = next(iter(parts.values())).names
    found, pixels = _read(parts, names, cache_bytes, progress)
    checked = detection_check.judge(parts, found)
    if strict:
        refuse_findings(dataset, checked.findings)
    sound = {part: [pair for pair in pairs if pair[1].problem is None] for part, pairs in found.items()}
    train = sound.get("train") or sound.get("all") or []
    boxes = sum(len(sample.labels) for sample, _ in train)
    refuse(trainable.nothing_to_learn(dataset, "box", boxes, [reason for _, reason in checked.unreadable]))
    notes = list(checked.findings)
    if "val" in parts:
        val, learned = unlearned(sound["val"], train, lambda pair: pair[1].digest)
        notes += learned
    else:
        sample_of = {str(one.sample.picture): sample for sample, one in train}
        kept, out = split([one for _, one in train], seed)
        train, val = ([(sample_of[str(one.sample.picture)], one) for one in ones] for ones in (kept, out))
        notes.append(split_note(train, val, each="kind"))
    if checked.unreadable:
        notes.append(f"{len(checked.unreadable)} pictures left out")

    def pictures(pairs: Sequence[tuple[DetectionSample, Examined]]) -> ScenePictures:
        decoded = None if pixels is None else tuple(pixels[sample.path] for sample, _ in pairs)
        return ScenePictures(tuple(sample for sample, _ in pairs), decoded)

    return DetectionTrainingData(
        names=names,
        train=pictures(train),
        val=pictures(val),
        notes=tuple(notes),
        fingerprint=_fingerprint(names, train, val),
        check=checked,
        held_out=() if "val" in parts else tuple(place(sample.path, dataset) for sample, _ in val),
    )


Pairs = list[tuple[DetectionSample, Examined]]


def _read(
    parts: dict[str, DetectionData], names: Sequence[str], cache_bytes: int, progress: Progress | None
) -> tuple[dict[str, Pairs], dict[Path, UInt8Array] | None]:
    """Every picture examined, by part, its label the rarest class on it (-1: none), and their pixels, or None where
    they do not all fit."""
    counts = Counter(label for data in parts.values() for sample in data.samples for label in sample.labels.tolist())
    samples = [(part, sample) for part, data in parts.items() for sample in data.samples]
    rarest = (
        Sample(sample.path, min(sample.labels.tolist(), key=lambda label: (counts[label], label), default=-1))
        for _, sample in samples
    )
    found: dict[str, Pairs] = {part: [] for part in parts}
    pixels: dict[Path, UInt8Array] | None = {}
    used = 0
    for done, ((part, sample), one) in enumerate(zip(samples, examine(rarest), strict=True), start=1):
        found[part].append((sample, one.without_pixels()))
        used += 3 * one.shape[0] * one.shape[1]
        if used > cache_bytes:
            pixels = None
        if one.pixels is not None and pixels is not None:
            pixels[sample.path] = one.pixels
        if progress is not None:
            progress(done, len(samples))
    return found, pixels


def _fingerprint(names: Sequence[str], train: Pairs, val: Pairs) -> str:
    sha = hashlib.sha256("\t".join(names).encode())
    for part, pairs in (("train", train), ("val", val)):
        for sample, one in pairs:
            sha.update(f"{part}\t{one.digest}\t{sample.labels.tolist()}\t{sample.boxes_xyxy.tolist()}\n".encode())
    return sha.hexdigest()
