"""Labelled pictures: a folder with a folder per class, a text file of `path,label` lines, or shards."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenetv2 import files, labels, limits
from mobilenetv2.data import shards
from mobilenetv2.data.folders import (
    EVALUATED,
    PARTS,
    SPLITS,
    entries,
    files_below,
    is_picture,
    is_unread,
    some,
    unread_sentences,
)
from mobilenetv2.data.shard_files import is_url
from mobilenetv2.data.shards import Progress, ShardMember
from mobilenetv2.errors import DatasetError
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.text import counted

Picture = Path | ShardMember  # a file, or a part of one; `str` names it
Listed = Sequence[tuple[str, Picture]]  # a label as it is written, and a picture
Classes = tuple[tuple[str, ...], Callable[[str], int | None]]  # names in order, and how a label finds its index

# What the first column of a header line is called; any other first line is a picture's.
_HEADERS = frozenset(("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "picture"))


_DIGITS = 100  # of a label that is sorted as a number; Python refuses to read thousands of them
_MEANT = 0.5  # of a model's classes: folders with the numbers of so many mean these classes


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, in a file of its own or in a shard, and the index of its class."""

    picture: Picture
    label: int

    @property
    def path(self) -> Path:
        """The file of a picture that is not in a shard."""
        assert isinstance(self.picture, Path), f"{self.picture} is in a shard"
        return self.picture

    def read_bytes(self) -> bytes:
        """The picture's file as it is. Raises `FileError`; for a shard `DownloadError` and `DatasetError` too."""
        return files.read_bytes(self.picture) if isinstance(self.picture, Path) else self.picture.read_bytes()


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Labelled pictures, in an order that depends on their names alone; in a shard, on their places in it.

    `samples[i].label` indexes `names`, which are the model's classes where a model was given. `split` is
    "train", "val" or "test" where the data is divided. `unmatched` names the labels that are no class, with
    how many pictures were left out for each; `skipped` counts files that are hidden, no pictures, or in no
    class's folder; `unread` are photos of formats that are not read and what is no regular file; `incomplete` are
    (shard/member, what is wrong) of samples in shards.
    """

    samples: tuple[Sample, ...]
    names: tuple[str, ...]
    split: str | None = None
    unmatched: tuple[tuple[str, int], ...] = ()
    skipped: int = 0
    incomplete: shards.Incomplete = ()
    unread: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about what was read, one line each; often nothing."""
        notes: list[str] = []
        if self.split is not None:
            notes.append(f"{len(self.samples)} pictures of the {self.split} split are used")
        if self.unmatched:
            names = [name for name, _ in self.unmatched]
            pictures = sum(count for _, count in self.unmatched)
            notes.append(f"{some(names)}: no such class, {pictures} pictures left out")
        if self.skipped:
            notes.append(f"{self.skipped} files skipped: hidden, no pictures, or in no class's folder")
        return (*notes, *unread_sentences(self.unread), *shards.sentences(self.incomplete))


def open_classification(
    path: str | os.PathLike[str],
    *,
    classes: ModelInfo | None = None,
    split: str | None = None,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ClassificationData:
    """Labelled pictures from an ImageFolder, a text file, or WebDataset shards.

    A folder holds a folder of pictures per class (deeper folders belong to their class), or `train`, `val`
    and `test` folders that do. `split` chooses one of these; without it `val` is used, else `test`, else
    `train`. A text file has a `path,label` line per picture, with or without a header line: paths are
    relative to the file, the last comma splits, spaces around it do not count. Shards are what `shards.parts`
    describes; `progress(done, total)` is called after each that has no index yet.

    With `classes`, a label is one of the model's label names, a WordNet id, or a class number from 0
    (background never counts); see `labels.match`. Folders that are numbers mean class numbers only where they are half
    of the model's classes or more. Without, the labels themselves are the classes, sorted
    (as numbers where a text file or shards have nothing else); those of a `val` or `test` split are the ones of
    `train`, where there is one. `names` says what these are where that is known. The lines of a `classes.txt` beside
    shards are their classes, in its order, and what their numbers mean.

    Raises `DatasetError` where nothing is found, a listed file is missing, a shard is damaged, a label is
    ambiguous or none of them is a class of the model; `DownloadError` where a shard cannot be had.
    """
    if parts := shards.parts(path):
        return _open_shards(os.fspath(path), parts, classes, split, names, progress)
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, classes, split, names)
    if split is not None:
        raise DatasetError(f"{path} has no {split!r} split: a text file lists one set of pictures")
    return _open_text(path, classes)


def splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a data set has, in this order; empty where it is not divided."""
    if parts := shards.parts(path):
        return tuple(part for part in parts if part != "all")
    path = Path(path)
    return tuple(_split_folders(path)) if path.is_dir() else ()


def is_there(dataset: str) -> bool:
    """Whether a data set, or the first of its shards, can still be found; one behind a URL is taken to be there."""
    some_shards = next(iter(shards.parts(dataset).values()), [dataset])
    return is_url(dataset) or any(map(os.path.exists, (dataset, *some_shards[:1])))


def place(picture: Picture | str, dataset: str | os.PathLike[str]) -> str:
    """Where a picture lies in its data set (a folder, a text file that lists it, shards), the same on every machine."""
    if isinstance(picture, ShardMember):
        return f"{picture.shard.name}/{picture.name}"
    return Path(os.path.relpath(picture, dataset if os.path.isdir(dataset) else os.path.dirname(dataset))).as_posix()


def _wanted(dataset: object, parts: Collection[str], split: str | None) -> str:
    """The part that `split` names, or the one to evaluate on."""
    wanted = next(name for name in EVALUATED if name in parts) if split is None else SPLITS.get(split.lower())
    if wanted is None or wanted not in parts:
        raise DatasetError(f"{dataset} has no {split!r} split: it has {', '.join(parts)}")
    return wanted


def _open_shards(
    dataset: str,
    parts: dict[str, list[str]],
    classes: ModelInfo | None,
    split: str | None,
    names: Sequence[str] | None,
    progress: Progress | None,
) -> ClassificationData:
    if "all" not in parts:
        split = _wanted(dataset, parts, split)
    elif split is not None:
        raise DatasetError(f"{dataset} has no {split!r} split: name shards train-... and val-..., or folders of them")
    places = parts[split or "all"]
    listed, incomplete = shards.read(places, progress=progress)
    if not listed:
        wrong = "; ".join(shards.sentences(incomplete)) or "no samples"
        raise DatasetError(f"{dataset} holds no labelled pictures in {len(places)} shards: {wrong}")
    own = shards.listed_classes(dataset, places)
    if classes is not None:
        known = _classes_of_model(classes)
        known = known if own is None else _through(own, known)
    elif own is not None:
        known = own, lambda label: labels.match(label, own)
    elif names is None and "train" in parts and split != "train":
        known = _classes_of_labels(label for label, _ in shards.read(parts["train"], progress=progress)[0])
    else:
        known = _classes_of_labels(label for label, _ in listed) if names is None else _classes_of_data(names)
    return _matched(dataset, listed, known, split, 0, incomplete)


def _through(own: tuple[str, ...], classes: Classes) -> Classes:
    """Labels that are names or numbers of the data's own list, as indices of the model's classes."""
    names, index = classes

    def find(label: str) -> int | None:
        i = labels.match(label, own)
        return i if i is None or own == names else index(own[i])

    return names, find


def _open_folder(
    path: Path, classes: ModelInfo | None, split: str | None, names: Sequence[str] | None
) -> ClassificationData:
    parts = _split_folders(path)
    folder = path
    if parts:
        split = _wanted(path, parts, split)
        folder = parts[split]
    elif split is not None:
        raise DatasetError(f"{path} has no {split!r} split: make folders train and val with a folder per class in each")

    listed, skipped, unread = _labelled_files(folder)
    if not listed:
        raise _no_pictures(folder, skipped, unread)
    if classes is not None:
        _refuse_numbers(folder, {label for label, _ in listed}, classes)
        known = _classes_of_model(classes)
    elif names is not None:
        known = _classes_of_data(names)
    elif "train" in parts and split != "train":
        known = _classes_of_data(sorted({label for label, _ in _labelled_files(parts["train"])[0]}))
    else:
        known = _classes_of_data(sorted({label for label, _ in listed}))
    return _matched(folder, listed, known, split, skipped, unread=unread)


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of a divided data set. A folder "train" that holds no folders is a class: the vehicle."""
    parts: dict[str, Path] = {}
    for folder in entries(path)[0]:
        name = SPLITS.get(folder.name.lower())
        if name is None or not entries(folder)[0]:
            continue
        if name in parts:
            raise DatasetError(f"{path} has two {name} splits, {parts[name].name} and {folder.name}: rename one")
        parts[name] = folder
    return {name: parts[name] for name in PARTS if name in parts}


def _labelled_files(folder: Path) -> tuple[list[tuple[str, Path]], int, tuple[str, ...]]:
    """Every picture below the class folders with its label, sorted, how many other files there are, and what is meant
    to be read but is not."""
    listed: list[tuple[str, Path]] = []
    unread: list[Path] = []
    class_folders, loose = entries(folder)
    skipped = len(loose)
    for class_folder in class_folders:
        for file in files_below(class_folder, unread):
            if is_picture(file):
                listed.append((class_folder.name, file))
            elif is_unread(file):
                unread.append(file)
            else:
                skipped += 1
    return listed, skipped, tuple(map(str, sorted(unread)))


def _no_pictures(folder: Path, skipped: int, unread: Sequence[str]) -> DatasetError:
    loose = sum(map(is_picture, entries(folder)[1]))
    if loose:
        return DatasetError(
            f"{folder} holds {loose} pictures but no folders of classes: put the pictures of each class into a folder "
            "with its name, or list them in a text file of path,label lines"
        )
    if unread:
        return DatasetError(f"{folder} holds no pictures that are read: {unread_sentences(unread)[0]}")
    what = f"{counted(skipped, 'file')} but no pictures" if skipped else "no pictures"
    return DatasetError(f"{folder} holds {what}: a folder with a folder per class is expected (jpg, png, webp ...)")


def _open_text(path: Path, classes: ModelInfo | None) -> ClassificationData:
    try:
        content = files.read_bytes(path, limit=limits.LIST_BYTES)
        lines = None if b"\0" in content[:4096] else content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = None
    if lines is None:
        raise DatasetError(
            f"{path} is not a data set: a folder with a folder per class, or a text file (UTF-8) of path,label lines"
        )
    listed: list[tuple[str, Path]] = []
    missing: list[str] = []
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = (part.strip() for part in line.rpartition(","))
        if not (name and label):
            raise DatasetError(f"{path}, line {number}: path,label is expected, got {line.strip()!r:.80}")
        picture = path.parent / name
        if files.is_regular(picture):
            listed.append((label, picture))
        elif not (first and line.partition(",")[0].strip().lower() in _HEADERS):
            missing.append(f"line {number}: {name}")
        first = False
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} of its pictures do not exist ({some(missing, 2)}): "
            f"paths are relative to {path.parent}, and the last comma of a line splits"
        )
    if not listed:
        raise DatasetError(f"{path} lists no pictures: a path,label line for each is expected")
    if classes is not None:
        return _matched(path, listed, _classes_of_model(classes), None, 0)
    return _matched(path, listed, _classes_of_labels(label for label, _ in listed), None, 0)


def _refuse_numbers(folder: Path, found: Collection[str], info: ModelInfo) -> None:
    """Raise `DatasetError` for folders that are numbered, from 0 to 9 say, where the model's classes have names: these
    numbers hardly mean its classes number 0 to 9, and an evaluation would tell nothing and not say so."""
    names = [info.label(i) for i in range(info.classes)]
    if not info.labels or not all(map(labels.is_number, found)) or any(map(labels.is_number, names)):
        return
    if len(found) < _MEANT * len(names):
        raise DatasetError(
            f"{folder}: its folders are numbers ({some(sorted(found, key=int), 3)}), and the model's {len(names):,} "
            f"classes have names ({some(names, 3)}): name the folders by class or WordNet id, or, if these are the "
            "model's class numbers, list the pictures in a text file of path,label lines"
        )


def _classes_of_model(info: ModelInfo) -> Classes:
    names = tuple(info.label(i) for i in range(info.classes))
    return names, lambda label: labels.match(label, names, info.label_ids)


def _classes_of_labels(found: Iterable[str]) -> Classes:
    """Sorted, as numbers where they are nothing else."""
    found = set(found)
    are_numbers = all(label.isdecimal() and len(label) <= _DIGITS for label in found)
    return _classes_of_data(sorted(found, key=int if are_numbers else None))


def _classes_of_data(names: Sequence[str]) -> Classes:
    return tuple(names), {name: i for i, name in enumerate(names)}.get


def _matched(
    source: object,
    listed: Listed,
    classes: Classes,
    split: str | None,
    skipped: int,
    incomplete: shards.Incomplete = (),
    unread: tuple[str, ...] = (),
) -> ClassificationData:
    """The data set with every label as the index of its class."""
    names, index = classes
    pictures = Counter(label for label, _ in listed)
    try:
        indices = {label: index(label) for label in pictures}
    except DatasetError as error:  # ambiguous
        raise DatasetError(f"{source}: {error}") from None
    unmatched = tuple((label, pictures[label]) for label, i in indices.items() if i is None)
    if len(unmatched) == len(indices):
        raise DatasetError(
            f"{source}: none of its labels ({some(list(pictures))}) is one of the {len(names)} classes "
            f"({some(names)}): a label is a class's name, its WordNet id or its number from 0"
        )
    samples = tuple(Sample(picture, i) for label, picture in listed if (i := indices[label]) is not None)
    return ClassificationData(samples, names, split, unmatched, skipped, incomplete, unread)
