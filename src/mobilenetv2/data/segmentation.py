"""Pictures with class masks on disk: Pascal VOC, folders of pictures and masks, or COCO's outlines, found out from what
lies there."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mobilenetv2 import labels
from mobilenetv2.data import coco, coco_masks, mask_classes, mask_files
from mobilenetv2.data.annotation import FAULTS, Fault
from mobilenetv2.data.coco_masks import Outlines
from mobilenetv2.data.findings import unread_faults
from mobilenetv2.data.folders import EVALUATED, SPLITS, some
from mobilenetv2.data.masks import BACKGROUND, IGNORE, MaskFile, UInt8Array, read_mask
from mobilenetv2.data.voc import TRAINVAL
from mobilenetv2.errors import DatasetError, Error, FileError, UsageError

Form = Literal["voc", "folders", "coco"]

LOOKED_AT = 200  # masks whose values are read to find out what they mean; the check and evaluation read them all


@dataclass(frozen=True, slots=True)
class Places:
    """What a data set does not say itself: the folder of its pictures, that of its masks, a list of the classes (see
    `mask_classes`), and the value of the masks that does not count."""

    images: Path | None = None
    labels: Path | None = None
    classes: Path | None = None
    ignore: int | None = None

    @staticmethod
    def from_json(values: Mapping[str, str | int]) -> Places:
        """Paths, and the value, by name."""
        return Places(**{name: at if isinstance(at, int) else Path(at) for name, at in values.items()})  # pyright: ignore


AS_FOUND = Places()


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationSample:
    """A picture file and its mask. `classes` has the class that each class of the mask becomes, where these differ."""

    path: Path
    mask: MaskFile | Outlines
    classes: tuple[int, ...] | None = None

    def read_mask(self) -> UInt8Array:
        """[H, W]: the class of each pixel, 255 (`IGNORE`) where it does not count.

        Raises `FileError`, `ImageError`, and `DatasetError` where a value of the mask has no meaning.
        """
        mask_HW = self.mask.read()
        if self.classes is None:
            return mask_HW
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.classes)] = self.classes
        return table[mask_HW]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationData:
    """Pictures with their masks, in an order that depends on their files alone.

    A mask's values index `names` (background is one of them where the data has it), which are the model's classes where
    a model was given. `split` is the part that is used, where the data is divided. `faults` are what was left out,
    `unmatched` the classes that the model does not know.
    """

    samples: tuple[SegmentationSample, ...]
    names: tuple[str, ...]
    form: Form
    split: str | None = None
    faults: tuple[Fault, ...] = ()
    found: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about what was read, one line each; often nothing."""
        notes = list(self.found)
        if self.split is not None:
            notes.append(f"{len(self.samples)} pictures of the {self.split} split are used")
        if self.unmatched:
            become = f"their pixels count as {BACKGROUND}" if BACKGROUND in self.names else "their pixels do not count"
            notes.append(f"{some(self.unmatched)}: no such class of the model, {become}")
        for kind, count in Counter(fault.kind for fault in self.faults).items():
            first = next(fault for fault in self.faults if fault.kind == kind)
            notes.append(f"{FAULTS[kind][count > 1]}: {count} {first.done} ({first.file}: {first.value})")
        return tuple(notes)


def open_segmentation(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    places: Places = AS_FOUND,
    classes: Sequence[str] | None = None,
) -> SegmentationData:
    """Pictures with masks from a folder or a COCO JSON.

    A folder is Pascal VOC's (`SegmentationClass`, `JPEGImages`), one with a folder of pictures and one of masks
    (`mask_files`), or one with COCO JSON files. `places` completes what is not found. `split` chooses a part, by the
    names "train", "val" and "test" or what people write for them, or a list of VOC's such as "trainval"; without it
    `val` is used, else `test`, else `train`.

    What the masks mean is read from `places.classes`, else from a list of classes beside them (`mask_classes.LISTS`),
    else VOC's own classes are taken for VOC's folders, and numbers elsewhere; `notes` says so. With `classes` (a
    model's names, background among them) a class is one of them by name or alias ("tvmonitor" is "tv"); pixels of
    others become background where the model has it, and do not count where it has not.

    Raises `DatasetError` where nothing is found, pictures or masks are missing, or no class is one of the model's.
    """
    path = Path(path)
    source = _source(path, places)
    part = _chosen(path, source, split)
    data = source.read(part)
    return data if classes is None else _matched(path, data, tuple(classes))


def open_parts(path: str | os.PathLike[str], *, places: Places = AS_FOUND) -> dict[str, SegmentationData]:
    """The parts of a data set by name, train first; {"all": ...} where it is not divided. As `open_segmentation`."""
    source = _source(Path(path), places)
    return {part: source.read(part) for part in source.parts}


def splits(path: str | os.PathLike[str], *, places: Places = AS_FOUND) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a data set has, in this order; empty where it is not divided."""
    parts = _source(Path(path), places).parts
    return () if parts == ("all",) else parts


def is_segmentation(path: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like pictures with masks. (COCO's files look alike for every task: they are none here.)"""
    path = Path(path)
    return path.is_dir() and (mask_files.is_voc(path) or mask_files.has_masks(path))


def are_masks(images: Path | None, masks: Path | None) -> bool:
    """Whether a folder has masks for pictures of another."""
    folders = [folder for folder in (images, masks) if folder is not None and folder.is_dir()]
    return len(folders) == 2 and mask_files.belong(*folders)


@dataclass(frozen=True, slots=True)
class _Source:
    parts: tuple[str, ...]
    read: Callable[[str], SegmentationData]
    more: tuple[str, ...] = ()


def _source(path: Path, places: Places) -> _Source:
    if not path.exists():
        raise FileError(f"{path} does not exist")
    for option, place in (("--images", places.images), ("--labels", places.labels)):
        if place is not None and not place.is_dir():
            raise FileError(
                f"{option} {place} is not a folder" if place.exists() else f"{option} {place} does not exist"
            )
    if path.is_dir() and mask_files.is_voc(path):
        return _of_masks(path, "voc", mask_files.voc(path, images=places.images, masks=places.labels), places)
    if path.is_dir() and (places.labels is not None or mask_files.has_masks(path)):
        return _of_masks(path, "folders", mask_files.folders(path, images=places.images, masks=places.labels), places)
    if path.suffix.lower() == ".json" or (path.is_dir() and coco.recognises(path)):
        return _of_coco(path, places)
    raise DatasetError(
        f"{path} is no segmentation data: a folder of pictures beside one of masks, VOC's SegmentationClass or a COCO "
        "JSON is expected; --images and --labels name the folders"
    )


def _of_masks(path: Path, form: Form, layout: mask_files.MaskLayout, places: Places) -> _Source:
    """What masks mean is decided once, for all parts together."""
    listed = places.classes or mask_classes.list_in(path)
    entries = None if listed is None else mask_classes.read_list(listed)
    if form == "voc" and entries is None:
        entries = mask_classes.VOC
    seen, masks = Counter[int](), 0
    if form == "folders" or listed is not None:
        every = [pair[1] for part in layout.parts for pair in layout.read(part).pairs]
        chosen = every[:: max(1, len(every) // LOOKED_AT)]
        seen, masks = _values(chosen), len(chosen)
    try:
        meaning = mask_classes.decide(entries, seen, masks, ignore=places.ignore)
    except DatasetError as error:
        raise DatasetError(f"{listed or path}: {error}") from None

    def read(part: str) -> SegmentationData:
        found = layout.read(part)
        samples = tuple(SegmentationSample(one, MaskFile(mask, meaning.coding)) for one, mask in found.pairs)
        faults = [*found.faults, *unread_faults(file.parent for pair in found.pairs for file in pair)]
        return SegmentationData(samples, meaning.names, form, _split(part), tuple(faults), meaning.notes)

    return _Source(layout.parts, read, layout.more)


def _values(masks: Sequence[Path]) -> Counter[int]:
    """In how many of these masks each value occurs. Masks that cannot be read, or are coloured, have none."""

    def of(mask: Path) -> list[int]:
        try:
            values_HW = read_mask(mask).values
        except Error:
            return []
        return [] if values_HW is None else np.flatnonzero(np.bincount(values_HW.reshape(-1))).tolist()

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="masks") as pool:
        return Counter(value for values in pool.map(of, masks) for value in values)


def _of_coco(path: Path, places: Places) -> _Source:
    for option, place in (("--labels", places.labels), ("--classes", places.classes), ("--ignore", places.ignore)):
        if place is not None:
            raise UsageError(f"{option} is for masks in files: a COCO JSON has its own")
    parts = coco.files_of_parts(path) if path.is_dir() else {"all": path}

    def read(part: str) -> SegmentationData:
        found = coco_masks.read(parts[part], images=places.images)
        samples = tuple(SegmentationSample(one, outlines) for one, outlines in sorted(found.pictures, key=_by_path))
        return SegmentationData(samples, found.names, "coco", _split(part), tuple(found.faults))

    return _Source(tuple(parts), read)


def _by_path(pair: tuple[Path, Outlines]) -> Path:
    return pair[0]


def _split(part: str) -> str | None:
    return None if part == "all" else "train" if part == TRAINVAL else part


def _chosen(path: Path, source: _Source, split: str | None) -> str:
    if split is None:
        return next((part for part in EVALUATED if part in source.parts), "all")
    wanted = SPLITS.get(split.lower(), split)
    if wanted not in (*source.parts, *source.more) or wanted == "all":
        has = "it is not divided" if source.parts == ("all",) else f"it has {', '.join((*source.parts, *source.more))}"
        raise DatasetError(f"{path} has no {split!r} split: {has}")
    return wanted


def _matched(path: Path, data: SegmentationData, names: tuple[str, ...]) -> SegmentationData:
    """The same data with the model's classes."""
    try:
        found = [labels.match(name, names) for name in data.names]
    except DatasetError as error:  # ambiguous
        raise DatasetError(f"{path}: {error}") from None
    if all(index is None for index in found):
        raise DatasetError(
            f"{path}: none of its classes ({some(data.names)}) is one of the model's {len(names)} ({some(names)}): "
            "name them alike in a list of classes, --classes"
        )
    other = names.index(BACKGROUND) if BACKGROUND in names else IGNORE
    table = tuple(other if index is None else index for index in found)
    samples = tuple(dataclasses.replace(sample, classes=table) for sample in data.samples)
    unmatched = tuple(name for name, index in zip(data.names, found, strict=True) if index is None)
    return dataclasses.replace(data, samples=samples, names=names, unmatched=unmatched)
