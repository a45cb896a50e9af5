"""Which pictures are trained on, which ones measure, and what of them is kept decoded."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image
from mobilenetv2.data import check
from mobilenetv2.data.check import DataCheck, Examined, open_parts
from mobilenetv2.data.classification import ClassificationData, Sample, place
from mobilenetv2.errors import DatasetError

VAL_SHARE = 0.1  # of each class, where the data set has no val split
CACHE_BYTES = 1 << 30

UInt8Array = npt.NDArray[np.uint8]
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
        return image.read(self.samples[index].path) if self.pixels is None else self.pixels[index]


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
    dataset: Path,
    *,
    seed: int,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
    progress: Progress | None = None,
) -> TrainingData:
    """The pictures of an ImageFolder or a `path,label` file, each read once and checked (`data.check`).

    Where there is no val split, 10 % of each class, chosen by `seed` and the pictures' bytes, is held out. Left out and
    named are pictures that cannot be read, those that are in several classes, and those of val that are in train too.
    Pictures stay decoded in memory where all of them together take at most `cache_bytes`.

    Raises `DatasetError` where there are fewer than two classes, a class has no readable picture to train on, or, with
    `strict`, the check finds anything.
    """
    parts = open_parts(dataset)
    if "train" not in parts and "all" not in parts:
        has = ", ".join(parts)
        raise DatasetError(f"{dataset} has a {has} split and no train split: name the folder of one train")
    parts.pop("test", None)
    whole = next(iter(parts.values()))
    if len(whole.names) < 2:
        raise DatasetError(f"{dataset} has one class, {''.join(whole.names)!r}: a classifier needs at least two")
    found, pixels = _read(parts, cache_bytes, progress)
    checked = check.judge(dataset, parts, found)
    if strict and checked.findings:
        raise DatasetError(
            f"{dataset}: {checked.findings[0]} ({len(checked.findings)} findings: see mobilenetv2 check)"
        )
    wrong = {file for file, _ in checked.unreadable}.union(*checked.contradictions)
    good = {part: [one for one in ones if str(one.sample.path) not in wrong] for part, ones in found.items()}
    train = good.get("train") or good.get("all") or []
    _check_classes(whole.names, train, dict(checked.unreadable))
    notes = list(checked.findings)
    if "val" in parts:
        learned = {one.digest for one in train}
        val = [one for one in good["val"] if one.digest not in learned]
        if len(val) < len(good["val"]):
            notes.append(f"{len(good['val']) - len(val)} pictures of val that are in train left out")
    else:
        train, val = _split(train, seed)
        notes.append(_split_note(train, val))
    if wrong:
        notes.append(f"{len(wrong)} pictures left out")

    def kept(ones: Sequence[Examined]) -> Pictures:
        decoded = None if pixels is None else tuple(pixels[one.sample.path] for one in ones)
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
        held_out=() if "val" in parts else tuple(place(one.sample.path, dataset) for one in val),
    )


def _read(
    parts: Mapping[str, ClassificationData], cache_bytes: int, progress: Progress | None
) -> tuple[dict[str, list[Examined]], dict[Path, UInt8Array] | None]:
    """Every picture examined, by part, and their pixels by path, or None where they do not all fit."""
    found: dict[str, list[Examined]] = {part: [] for part in parts}
    pixels: dict[Path, UInt8Array] | None = {}
    used = done = 0
    total = sum(len(data.samples) for data in parts.values())
    for part, data in parts.items():
        for one in check.examine(data.samples):
            found[part].append(one.without_pixels())
            if one.pixels is not None:
                used += one.pixels.nbytes
                if pixels is not None:
                    pixels[one.sample.path] = one.pixels
            if used > cache_bytes:
                pixels = None
            done += 1
            if progress is not None:
                progress(done, total)
    return found, pixels


def _split(ones: Sequence[Examined], seed: int) -> tuple[list[Examined], list[Examined]]:
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


def _check_classes(names: Sequence[str], train: Sequence[Examined], unreadable: dict[str, str]) -> None:
    pictures = Counter(one.sample.label for one in train)
    missing = [name for label, name in enumerate(names) if not pictures[label]]
    if missing:
        why = f" ({next(iter(unreadable.values()))})" if unreadable else ""
        raise DatasetError(f"class {missing[0]!r} has no readable picture to train on{why}: add some or remove it")


def _fingerprint(names: Sequence[str], train: Sequence[Examined], val: Sequence[Examined]) -> str:
    sha = hashlib.sha256()
    for part, ones in (("train", train), ("val", val)):
        for one in ones:
            sha.update(f"{part}\t{names[one.sample.label]}\t{one.digest}\n".encode())
    return sha.hexdigest()


def _split_note(train: Sequence[Examined], val: Sequence[Examined]) -> str:
    if not val:
        return "no val split, and too few pictures to hold some out: nothing is measured"
    return f"no val split: {len(val)} pictures, {100 * VAL_SHARE:.0f} % of each class, held out; {len(train)} train"
