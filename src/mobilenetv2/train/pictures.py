"""Which pictures are trained on, which ones measure, and what of them is kept decoded."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image
from mobilenetv2.data import check, trainable
from mobilenetv2.data.check import DataCheck, open_parts
from mobilenetv2.data.classification import ClassificationData, Picture, Sample, place
from mobilenetv2.data.examine import Examined, examine, recall
from mobilenetv2.data.shards import Shard, ShardMember
from mobilenetv2.errors import DatasetError
from mobilenetv2.text import counted

VAL_SHARE = 0.1  # of each class, where the data set has no val split
CACHE_BYTES = 1 << 30

# Shards mixed at a time: at least two, and as many more as hold these pictures, unless they are larger than that.
_WINDOW_PICTURES = 2000
_WINDOW_BYTES = 1 << 30

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
One = TypeVar("One")
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Labelled pictures. `pixels`, RGB [H, W, 3] each, holds them decoded, or is None where they stay on disk."""

    samples: tuple[Sample, ...]
    pixels: tuple[UInt8Array, ...] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> UInt8Array:
        """RGB [H, W, 3] of picture `index`."""
        return image.read(self.samples[index].picture) if self.pixels is None else self.pixels[index]

    def per_class(self, classes: int) -> list[int]:
        """How many pictures each class has."""
        counted = Counter(sample.label for sample in self.samples)
        return [counted[label] for label in range(classes)]

    def shuffled(self, generator: np.random.Generator) -> IntArray:
        """Every index once, in an order that follows from the pictures' shards and `generator` alone.

        Without shards any order is as likely as another. Pictures of shards come window by window, so that they are
        read from few places at a time: shards in random order, and within a window of them any order of its pictures.
        """
        windows = _windows(self.samples, generator)
        if windows is None:
            return generator.permutation(len(self.samples))
        return np.concatenate([generator.permutation(window) for window in windows])


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What a run learns from. `val` may be empty: nothing is measured then.

    `notes` are sentences for people about what was decided and left out. `fingerprint` is a SHA-256 over each
    used picture's part, class and bytes, in order. `square` is the side of the pictures where they are all
    square and of one size, else None. `check` is what was found in it; `held_out` are the places in the data set of
    the pictures that measure, where the data does not divide itself.
    """

    names: tuple[str, ...]
    train: Pictures
    val: Pictures
    notes: tuple[str, ...]
    fingerprint: str
    square: int | None
    check: DataCheck
    held_out: tuple[str, ...] = ()


def open_training_data(
    dataset: str | os.PathLike[str],
    *,
    seed: int,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
    progress: Progress | None = None,
) -> TrainingData:
    """The pictures of a data set (`open_classification`), each read once and checked (`data.check`); in shards that
    were checked before and do not fit into memory, not even once.

    Where there is no val split, 10 % of each class, chosen by `seed` and the pictures' bytes, is held out. Left out and
    named are pictures that cannot be read, those that are in several classes, and those of val that are in train too.
    Pictures stay decoded in memory where all of them together take at most `cache_bytes`. `progress(done, total)` is
    called after each shard that has no index yet, then after each picture.

    Raises `DatasetError` where there are fewer than two classes, a class has no readable picture to train on, or, with
    `strict`, the check finds anything.
    """
    parts = open_parts(dataset, progress=progress)
    refuse(trainable.without_train(dataset, parts))
    parts.pop("test", None)
    whole = next(iter(parts.values()))
    refuse(trainable.one_class(dataset, whole.names))
    found, pixels = _read(parts, cache_bytes, progress)
    checked = check.judge(dataset, parts, found)
    if strict:
        refuse_findings(dataset, checked.findings)
    wrong = {file for file, _ in checked.unreadable}.union(*checked.contradictions)
    good = {part: [one for one in ones if str(one.sample.picture) not in wrong] for part, ones in found.items()}
    train = good.get("train") or good.get("all") or []
    pictures = Counter(one.sample.label for one in train)
    counts = [pictures[label] for label in range(len(whole.names))]
    refuse(trainable.empty_class(whole.names, counts, [reason for _, reason in checked.unreadable]))
    notes = list(checked.findings)
    if "val" in parts:
        val, left_out = unlearned(good["val"], train, lambda one: one.digest)
        notes += left_out
    else:
        train, val = split(train, seed)
        notes.append(split_note(train, val))
    if wrong:
        notes.append(f"{len(wrong)} pictures left out")

    def kept(ones: Sequence[Examined]) -> Pictures:
        decoded = None if pixels is None else tuple(pixels[one.sample.picture] for one in ones)
        return Pictures(tuple(one.sample for one in ones), decoded)

    sizes = {one.shape for ones in good.values() for one in ones}
    height, width = next(iter(sizes)) if len(sizes) == 1 else (0, 1)
    return TrainingData(
        names=whole.names,
        train=kept(train),
        val=kept(val),
        notes=tuple(notes),
        fingerprint=_fingerprint(whole.names, train, val),
        square=height if height == width else None,
        check=checked,
        held_out=() if "val" in parts else tuple(place(one.sample.picture, dataset) for one in val),
    )


def _windows(samples: Sequence[Sample], generator: np.random.Generator) -> list[IntArray] | None:
    """The indices of the pictures in each window of shards, in random order of the shards; None without shards."""
    owners = [sample.picture.shard for sample in samples if isinstance(sample.picture, ShardMember)]
    if not owners:
        return None
    assert len(owners) == len(samples)
    runs: list[tuple[Shard, IntArray]] = []
    start = 0
    for shard, run in itertools.groupby(owners):
        count = sum(1 for _ in run)
        runs.append((shard, np.arange(start, start + count)))
        start += count
    windows: list[IntArray] = []
    waiting: list[IntArray] = []
    pictures = size = 0
    for i in generator.permutation(len(runs)).tolist():
        waiting.append(runs[i][1])
        pictures, size = pictures + len(runs[i][1]), size + runs[i][0].size
        if len(waiting) > 1 and (pictures >= _WINDOW_PICTURES or size >= _WINDOW_BYTES):
            windows.append(np.concatenate(waiting))
            waiting, pictures, size = [], 0, 0
    if waiting:
        windows.append(np.concatenate(waiting))
    return windows


def _read(
    parts: Mapping[str, ClassificationData], cache_bytes: int, progress: Progress | None
) -> tuple[dict[str, list[Examined]], dict[Picture, UInt8Array] | None]:
    """Every picture examined, by part, and their pixels, or None where they do not all fit."""
    known = {part: recall(data.samples) for part, data in parts.items()}
    before = {part: ones for part, ones in known.items() if ones is not None}
    if len(before) == len(parts) and sum(_bytes(one) for ones in before.values() for one in ones) > cache_bytes:
        return before, None
    found: dict[str, list[Examined]] = {part: [] for part in parts}
    pixels: dict[Picture, UInt8Array] | None = {}
    used = done = 0
    total = sum(len(data.samples) for data in parts.values())
    for part, data in parts.items():
        for one in examine(data.samples):
            found[part].append(one.without_pixels())
            used += _bytes(one)
            if one.pixels is not None and pixels is not None:
                pixels[one.sample.picture] = one.pixels
            if used > cache_bytes:
                pixels = None
            done += 1
            if progress is not None:
                progress(done, total)
    return found, pixels


def _bytes(one: Examined) -> int:
    """Of its pixels."""
    return 3 * one.shape[0] * one.shape[1]


def refuse(sentence: str | None) -> None:
    """Raises `DatasetError` with what `trainable` says, where it says anything."""
    if sentence is not None:
        raise DatasetError(sentence)


def refuse_findings(dataset: str | os.PathLike[str], findings: Sequence[str]) -> None:
    """Raises `DatasetError` with the first of the check's findings, where there are any."""
    if findings:
        raise DatasetError(f"{dataset}: {findings[0]} ({counted(len(findings), 'finding')}: see mobilenetv2 check)")


def unlearned(val: Sequence[One], train: Iterable[One], digest: Callable[[One], str]) -> tuple[list[One], list[str]]:
    """Those of `val` whose bytes are not in `train`, and a note where some are."""
    learned = set(map(digest, train))
    kept = [one for one in val if digest(one) not in learned]
    left_out = len(val) - len(kept)
    return kept, [f"{left_out} pictures of val that are in train left out"] if left_out else []


def split(ones: Sequence[Examined], seed: int) -> tuple[list[Examined], list[Examined]]:
    """`VAL_SHARE` of each class held out, at least one picture where it has two; a picture's rank is a hash of
    its bytes, so that adding pictures moves few of the others and equal ones stay together."""
    by_class: dict[int, list[str]] = defaultdict(list)
    for one in ones:
        by_class[one.sample.label].append(one.digest)
    held_out: set[str] = set()
    for digests in by_class.values():
        count = max(1, round(VAL_SHARE * len(digests))) if len(set(digests)) > 1 else 0
        held_out.update(sorted(digests, key=lambda digest: _rank(digest, seed))[:count])
    return (
        [one for one in ones if one.digest not in held_out],
        [one for one in ones if one.digest in held_out],
    )


def _rank(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{digest}".encode()).digest()


def _fingerprint(names: Sequence[str], train: Sequence[Examined], val: Sequence[Examined]) -> str:
    sha = hashlib.sha256()
    for part, ones in (("train", train), ("val", val)):
        for one in ones:
            sha.update(f"{part}\t{names[one.sample.label]}\t{one.digest}\n".encode())
    return sha.hexdigest()


def split_note(train: Sequence[object], val: Sequence[object], *, each: str = "class") -> str:
    """What `split` did, in a sentence."""
    if not val:
        return "no val split, and too few pictures to hold some out: nothing is measured"
    return f"no val split: {len(val)} pictures, {100 * VAL_SHARE:.0f} % of each {each}, held out; {len(train)} train"
