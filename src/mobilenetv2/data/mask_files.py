"""Where pictures and their masks lie: Pascal VOC's folders, or a folder of pictures beside a folder of masks.

A mask has its picture's name, perhaps with a word at its end (`street.jpg`, `street_mask.png`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenetv2 import files
from mobilenetv2.data.annotation import Fault
from mobilenetv2.data.folders import PARTS, SPLITS, entries, files_below, files_with, is_picture
from mobilenetv2.data.voc import TRAINVAL
from mobilenetv2.errors import DatasetError

# Names of folders, without capitals and signs; the first that is there counts.
_PICTURES = (
    "images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "frames", "leftimg8bit", "input", "inputs",
)  # fmt: skip
_MASKS = (
    "masks", "mask", "segmentationclass", "segmentationmasks", "segmentation", "segmentations", "labels", "label",
    "annotations", "annotation", "annots", "annot", "gtfine", "groundtruth", "gt", "targets", "target",
)  # fmt: skip
_ENDINGS = (
    "_gtFine_labelTrainIds", "_gtFine_labelIds", "_leftImg8bit", "_masks", "_mask", "_labels", "_label", "_seg", "_gt",
    "_annotation", "_L", "-mask", "-label",
)  # fmt: skip
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg")  # a JPEG is refused when it is read, with words
_VOC_MASKS, _VOC_PICTURES, _VOC_LISTS = "SegmentationClass", "JPEGImages", Path("ImageSets", "Segmentation")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures with their masks, in order, and what has no other half."""

    pairs: Sequence[tuple[Path, Path]]
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class MaskLayout:
    """The parts of a data set of masks ("train", "val", "test" as far as it is divided, else "all"); `more` are lists
    beside them, such as VOC's "trainval"."""

    parts: tuple[str, ...]
    read: Callable[[str], Pairs]
    more: tuple[str, ...] = ()


def is_voc(folder: Path) -> bool:
    """Whether a folder has VOC's folder of masks."""
    return (folder / _VOC_MASKS).is_dir()


def has_masks(folder: Path) -> bool:
    """Whether a folder has pictures and, in a folder of another name, masks of some of them."""
    return any(belong(*pair) for pair in _places(folder).values())


def voc(path: Path, *, images: Path | None, masks: Path | None) -> MaskLayout:
    """VOC's folders: `ImageSets/Segmentation` divides them; without it every mask counts."""
    masks, images = masks or path / _VOC_MASKS, images or path / _VOC_PICTURES
    if not images.is_dir():
        raise DatasetError(f"{path}: the pictures of {masks.name} were not found: name their folder with --images")
    listed = {file.stem: file for file in files_with(path / _VOC_LISTS, ".txt")} if _lists(path) else {}
    if not listed:
        return MaskLayout(("all",), lambda _: _pairs(images, masks, all_pictures=False))
    more = tuple(name for name in listed if name not in PARTS)
    if "train" not in listed and TRAINVAL in listed:
        listed["train"] = listed[TRAINVAL]
    parts = tuple(part for part in PARTS if part in listed)
    if not parts:
        return MaskLayout(("all",), lambda _: _pairs(images, masks, all_pictures=False))
    return MaskLayout(parts, lambda part: _listed(listed[part], images, masks), more)


def _lists(path: Path) -> bool:
    return (path / _VOC_LISTS).is_dir()


def folders(path: Path, *, images: Path | None, masks: Path | None) -> MaskLayout:
    """A folder of pictures and one of masks: two that are given, or two of the usual names in `path`.

    Each may be divided (`images/train`), or lie in a part (`train/images`), or be one (`train` and `train_masks`).
    Raises `DatasetError` where none are found.
    """
    if images is None and masks is None:
        places = _places(path)
        places = {part: pair for part, pair in places.items() if belong(*pair)}
    else:
        found = _whole(path)
        images = images or (found[0] if found else path)
        masks = masks or (found[1] if found else path)
        places = _divided(images, masks) or {"all": (images, masks)}
    if not places:
        raise DatasetError(
            f"{path}: no folder of masks was found beside pictures: name both with --images and --labels"
        )
    return MaskLayout(tuple(places), lambda part: _pairs(*places[part]))


def _places(path: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of pictures and masks of each part."""
    inner = {_plain(folder.name): folder for folder in reversed(entries(path)[0])}
    whole = _whole(path)
    if whole is not None:
        return _divided(*whole) or {"all": whole}
    found: dict[str, tuple[Path, Path]] = {}
    for name, folder in inner.items():
        if (part := SPLITS.get(name)) is None:
            continue
        beside = [inner[name + ending] for ending in _MASKS if name + ending in inner]
        if (pair := _whole(folder)) is not None:
            found[part] = pair
        elif beside:
            found[part] = folder, beside[0]
    return {part: found[part] for part in PARTS if part in found}


def _whole(path: Path) -> tuple[Path, Path] | None:
    inner = {_plain(folder.name): folder for folder in reversed(entries(path)[0])}
    pictures = [inner[name] for name in _PICTURES if name in inner]
    masks = [inner[name] for name in _MASKS if name in inner]
    return (pictures[0], masks[0]) if pictures and masks else None


def _divided(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """The parts that both folders have."""
    of_images, of_masks = (
        {part: inner for inner in entries(folder)[0] if (part := SPLITS.get(inner.name.lower()))}
        for folder in (images, masks)
    )
    return {part: (of_images[part], of_masks[part]) for part in PARTS if part in of_images and part in of_masks}


def belong(images: Path, masks: Path) -> bool:
    """Whether a mask is there for one of the pictures."""
    return bool(_matched(_named(images, is_picture), _named(masks, _is_mask)))


def _pairs(images: Path, masks: Path, *, all_pictures: bool = True) -> Pairs:
    """Pictures and masks by name; without `all_pictures`, pictures without a mask are no fault (VOC has many)."""
    pictures, found = _named(images, is_picture), _named(masks, _is_mask)
    mask_of = _matched(pictures, found)
    faults = [_without_mask(pictures[name], masks) for name in pictures if name not in mask_of and all_pictures]
    faults += [
        Fault("mask alone", str(found[name]), f"no picture of its name is in {images}", "left out")
        for name in found.keys() - mask_of.values()
    ]
    pairs = [(pictures[name], found[mask]) for name, mask in mask_of.items()]
    return _sorted(pairs, faults, images, masks)


def _listed(file: Path, images: Path, masks: Path) -> Pairs:
    """The pictures whose names are in `file`, with their masks."""
    pictures, found = _named(images, is_picture), _named(masks, _is_mask)
    mask_of = _matched(pictures, found)
    pairs: list[tuple[Path, Path]] = []
    faults: list[Fault] = []
    for line in dict.fromkeys(files.read_bytes(file).decode("utf-8", "replace").splitlines()):
        name = line.strip().removeprefix("/")
        name = name if name in pictures else Path(name.split()[0]).stem if name else ""
        if not name:
            continue
        if name not in pictures:
            faults.append(Fault("no picture", str(file), f"{name} is not in {images}", "left out"))
        elif name not in mask_of:
            faults.append(_without_mask(pictures[name], masks))
        else:
            pairs.append((pictures[name], found[mask_of[name]]))
    return _sorted(pairs, faults, images, masks)


def _without_mask(picture: Path, masks: Path) -> Fault:
    return Fault("no mask", str(picture), f"no mask of its name is in {masks}", "left out")


def _sorted(pairs: Sequence[tuple[Path, Path]], faults: Sequence[Fault], images: Path, masks: Path) -> Pairs:
    if not pairs:
        raise DatasetError(f"{images} and {masks}: no picture has a mask of its name: see --images and --labels")
    return Pairs(sorted(pairs), sorted(faults, key=lambda fault: (fault.kind, fault.file)))


def _named(folder: Path, wanted: Callable[[Path], bool]) -> dict[str, Path]:
    """Files in a folder and below it by their path in it, without suffix."""
    found: dict[str, Path] = {}
    for file in files_below(folder):
        if wanted(file):
            found.setdefault(os.path.relpath(file.with_suffix(""), folder), file)
    return found


def _matched(pictures: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """The name of each picture's mask: the same, else one that is the same without the ending of either."""
    short = {_without_ending(name): name for name in reversed(list(masks)) if name not in pictures}
    exact = {name: name for name in pictures if name in masks}
    others = {name: short.get(_without_ending(name)) or short.get(name) for name in pictures if name not in masks}
    return exact | {name: mask for name, mask in others.items() if mask is not None}


def _without_ending(name: str) -> str:
    ending = next((one for one in _ENDINGS if name.endswith(one)), "")
    return name.removesuffix(ending)


def _is_mask(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
