"""Which pictures are trained on, which ones measure, and what of them is kept decoded."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image
from mobilenetv2.data.classification import ClassificationData, Sample, open_classification, splits
from mobilenetv2.errors import DatasetError, FileError, ImageError

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
    used picture's place, class, part and size in bytes. `square` is the side of the pictures where they are all
    square and of one size, else None.
    """

    names: tuple[str, ...]
    train: Pictures
    val: Pictures
    notes: tuple[str, ...]
    fingerprint: str
    square: int | None


def open_training_data(
    dataset: Path, *, seed: int, cache_bytes: int = CACHE_BYTES, progress: Progress | None = None
) -> TrainingData:
    """The pictures of an ImageFolder or a `path,label` file, each decoded once to see that it can be.

    Where there is no val split, 10 % of each class, chosen by `seed` and the pictures' names, is held out. Pictures
    stay decoded in memory where all of them together take at most `cache_bytes`.

    Raises `DatasetError` where there are fewer than two classes, or a class has no readable picture to train on.
    """
    has = splits(dataset)
    notes: list[str] = []
    if "train" in has:
        whole = open_classification(dataset, split="train")
        train = list(whole.samples)
        if "val" in has:
            held_out = open_classification(dataset, split="val")
            val = list(held_out.samples)
            if held_out.unmatched:
                notes.append(_left_out_classes(held_out))
        else:
            train, val = _split(train, dataset, seed)
    elif has:
        raise DatasetError(f"{dataset} has a {', '.join(has)} split and no train split: name the folder of one train")
    else:
        whole = open_classification(dataset)
        train, val = _split(list(whole.samples), dataset, seed)
    if len(whole.names) < 2:
        raise DatasetError(f"{dataset} has one class, {''.join(whole.names)!r}: a classifier needs at least two")
    if "val" not in has:
        notes.append(_split_note(train, val))
    notes.extend(_empty_classes(whole, dataset))

    pixels, unreadable, sizes = _decode([*train, *val], cache_bytes, progress)
    if unreadable:
        notes.append(_unreadable_note(unreadable))
    good_train = [sample for sample in train if sample.path not in unreadable]
    good_val = [sample for sample in val if sample.path not in unreadable]
    _check_classes(whole.names, good_train, unreadable)

    def kept(samples: Sequence[Sample]) -> Pictures:
        decoded = None if pixels is None else tuple(pixels[sample.path] for sample in samples)
        return Pictures(tuple(samples), decoded)

    one_size = next(iter(sizes)) if len(sizes) == 1 else None
    return TrainingData(
        names=whole.names,
        train=kept(good_train),
        val=kept(good_val),
        notes=tuple(notes),
        fingerprint=_fingerprint(dataset, whole.names, good_train, good_val),
        square=one_size[0] if one_size is not None and one_size[0] == one_size[1] else None,
    )


def _split(samples: list[Sample], dataset: Path, seed: int) -> tuple[list[Sample], list[Sample]]:
    """`VAL_SHARE` of each class held out, at least one picture where it has two; a picture's rank is a hash of
    its name, so that adding pictures moves few of the others."""
    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample)
    held_out: set[Path] = set()
    for members in by_class.values():
        count = max(1, round(VAL_SHARE * len(members))) if len(members) > 1 else 0
        ranked = sorted(members, key=lambda sample: _rank(_place(sample.path, dataset), seed))
        held_out.update(sample.path for sample in ranked[:count])
    train = [sample for sample in samples if sample.path not in held_out]
    return train, [sample for sample in samples if sample.path in held_out]


def _rank(place: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{place}".encode()).digest()


def _place(path: Path, dataset: Path) -> str:
    """Where a picture lies in its data set, the same on every machine."""
    return Path(os.path.relpath(path, dataset if dataset.is_dir() else dataset.parent)).as_posix()


def _decode(
    samples: Sequence[Sample], cache_bytes: int, progress: Progress | None
) -> tuple[dict[Path, UInt8Array] | None, dict[Path, str], set[tuple[int, int]]]:
    """Decoded pictures by path (None where they do not all fit), why others could not be, and the sizes found."""
    pixels: dict[Path, UInt8Array] | None = {}
    unreadable: dict[Path, str] = {}
    sizes: set[tuple[int, int]] = set()
    used = 0
    for done, (sample, found) in enumerate(_read_all(samples), start=1):
        if isinstance(found, str):
            unreadable[sample.path] = found
        else:
            sizes.add((found.shape[0], found.shape[1]))
            used += found.nbytes
            if pixels is not None:
                pixels[sample.path] = found
        if used > cache_bytes:
            pixels = None
        if progress is not None:
            progress(done, len(samples))
    return pixels, unreadable, sizes


def _read_all(samples: Sequence[Sample], chunk: int = 64) -> Iterator[tuple[Sample, UInt8Array | str]]:
    """Each sample with its picture, or with why it cannot be read. Chunks bound what waits in memory."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        for start in range(0, len(samples), chunk):
            part = samples[start : start + chunk]
            yield from zip(part, pool.map(_try_read, part), strict=True)


def _try_read(sample: Sample) -> UInt8Array | str:
    try:
        return image.read(sample.path)
    except (ImageError, FileError) as error:
        return str(error)


def _check_classes(names: Sequence[str], train: Sequence[Sample], unreadable: dict[Path, str]) -> None:
    pictures = Counter(sample.label for sample in train)
    missing = [name for label, name in enumerate(names) if not pictures[label]]
    if missing:
        why = f" ({next(iter(unreadable.values()))})" if unreadable else ""
        raise DatasetError(f"class {missing[0]!r} has no readable picture to train on{why}: add some or remove it")


def _fingerprint(dataset: Path, names: Sequence[str], train: Sequence[Sample], val: Sequence[Sample]) -> str:
    sha = hashlib.sha256()
    for part, samples in (("train", train), ("val", val)):
        for sample in samples:
            size = sample.path.stat().st_size
            sha.update(f"{part}\t{names[sample.label]}\t{_place(sample.path, dataset)}\t{size}\n".encode())
    return sha.hexdigest()


# ---- what people are told


def _split_note(train: Sequence[Sample], val: Sequence[Sample]) -> str:
    if not val:
        return "no val split, and too few pictures to hold some out: nothing is measured"
    return f"no val split: {len(val)} pictures, {100 * VAL_SHARE:.0f} % of each class, held out; {len(train)} train"


def _left_out_classes(data: ClassificationData) -> str:
    names = ", ".join(name for name, _ in data.unmatched)
    pictures = sum(count for _, count in data.unmatched)
    return f"val has classes that train has not ({names}): {pictures} pictures left out"


def _empty_classes(data: ClassificationData, dataset: Path) -> Iterator[str]:
    if not dataset.is_dir():
        return
    sample = data.samples[0]
    inside = sample.path.relative_to(dataset).parts
    root = dataset.joinpath(*inside[: inside.index(data.names[sample.label])])
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in data.names:
            yield f"folder {folder.name} has no pictures: it is not a class of this model"


def _unreadable_note(unreadable: dict[Path, str], most: int = 5) -> str:
    reasons = "; ".join(list(unreadable.values())[:most])
    more = f"; and {len(unreadable) - most} more" if len(unreadable) > most else ""
    return f"{len(unreadable)} pictures left out: {reasons}{more}"
