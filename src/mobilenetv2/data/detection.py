"""Pictures with boxes on disk: COCO JSON, Pascal VOC XML or YOLO text, found out from what lies there."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilenetv2 import labels
from mobilenetv2.data import coco, voc, yolo
from mobilenetv2.data.annotation import FAULTS, DetectionSample, Fault, Form, Layout, StatedPart, repaired
from mobilenetv2.data.findings import unread_faults
from mobilenetv2.data.folders import EVALUATED, SPLITS, some
from mobilenetv2.data.yolo_plan import read_names
from mobilenetv2.errors import DatasetError, FileError, UsageError
from mobilenetv2.model_file import ModelInfo

_FORM_OF_SUFFIX: dict[str, Form] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".data": "yolo"}
_IN_WORDS: dict[Form, str] = {
    "coco": "COCO JSON files",
    "voc": "Pascal VOC XML files",
    "yolo": "YOLO text files or a data.yaml",
}


@dataclass(frozen=True, slots=True)
class Places:
    """What a data set does not say itself: the folder of its pictures, that of its XML or text files, and a text file
    with the name of a class per line."""

    images: Path | None = None
    labels: Path | None = None
    classes: Path | None = None


AS_FOUND = Places()


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Pictures with their objects, in an order that depends on their files alone.

    Labels index `names`, which are the model's classes where a model was given. `split` is "train", "val" or "test"
    where the data is divided. `faults` are what was repaired or left out while reading; `unmatched` names the classes
    that the model does not know, with how many boxes were left out for each.
    """

    samples: tuple[DetectionSample, ...]
    names: tuple[str, ...]
    form: Form
    split: str | None = None
    faults: tuple[Fault, ...] = ()
    unmatched: tuple[tuple[str, int], ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about what was read, one line each; often nothing."""
        notes: list[str] = []
        if self.split is not None:
            notes.append(f"{len(self.samples)} pictures of the {self.split} split are used")
        if self.unmatched:
            boxes = sum(count for _, count in self.unmatched)
            notes.append(f"{some([name for name, _ in self.unmatched])}: no such class, {boxes} boxes left out")
        groups = Counter((fault.kind, fault.done) for fault in self.faults)
        for (kind, done), count in groups.items():
            first = next(fault for fault in self.faults if (fault.kind, fault.done) == (kind, done))
            notes.append(f"{FAULTS[kind][count > 1]}: {count} {done} ({first.file}: {first.value})")
        return tuple(notes)


def open_detection(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    places: Places = AS_FOUND,
    classes: ModelInfo | None = None,
) -> DetectionData:
    """Pictures with their objects from a folder, a COCO JSON, a data.yaml or a Darknet obj.data.

    What a folder holds is found out: JSON files with images, annotations and categories; XML files, as a rule in
    `Annotations`; a data.yaml, an obj.data or text files in `labels`. `places` completes what is not found. `split`
    chooses a part, by the names "train", "val" and "test" or what people write for them; without it `val` is used, else
    `test`, else `train`. VOC's "trainval" counts as train.

    With `classes` (a model's), a class is one of its labels by name or alias ("tvmonitor" is "tv", see `labels.match`).
    Without, classes are in the order of the files: COCO's ids, YOLO's numbers, the file `places.classes`; VOC's are
    sorted by name, those of the train part where there is one.

    Faulty boxes are repaired or left out, and counted in `notes`; `repaired` says how. Raises `DatasetError` where
    nothing is found, several forms are, the pictures or annotations are missing, or no class is one of the model's.
    """
    path = Path(path)
    layout = _layout(path, places)
    part = _chosen(path, layout, split)
    stated = layout.read(part)
    data = _data(layout, part, stated, _own_names(layout, part, stated, places), places)
    return data if classes is None else _matched(path, data, classes)


def open_parts(
    path: str | os.PathLike[str],
    *,
    places: Places = AS_FOUND,
) -> dict[str, DetectionData]:
    """The parts of a data set by name, train first; {"all": ...} where it is not divided. As `open_detection`, but the
    classes of all parts are those of the first."""
    path = Path(path)
    layout = _layout(path, places)
    stated = {part: layout.read(part) for part in layout.parts}
    first = next(iter(stated))  # train, where there is one
    names = _own_names(layout, first, stated[first], places)
    return {part: _data(layout, part, one, names, places) for part, one in stated.items()}


def splits(path: str | os.PathLike[str], *, places: Places = AS_FOUND) -> tuple[str, ...]:
    """Which of "train", "val" and "test" a data set has, in this order; empty where it is not divided."""
    parts = _layout(Path(path), places).parts
    return () if parts == ("all",) else parts


def is_detection(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder looks like detection data of one of the forms, or of several."""
    return bool(_forms(Path(path)))


def _forms(path: Path) -> list[Form]:
    if not path.is_dir():
        form = _FORM_OF_SUFFIX.get(path.suffix.lower())
        return [form] if form is not None else []
    modules: dict[Form, bool] = {
        "coco": coco.recognises(path),
        "voc": voc.recognises(path),
        "yolo": yolo.recognises(path),
    }
    return [form for form, found in modules.items() if found]


def _layout(path: Path, places: Places) -> Layout:
    if not path.exists():
        raise FileError(f"{path} does not exist")
    for option, place in (("--images", places.images), ("--labels", places.labels)):
        if place is not None and not place.is_dir():
            raise FileError(
                f"{option} {place} is not a folder" if place.exists() else f"{option} {place} does not exist"
            )
    forms = _forms(path)
    if not forms and places.labels is not None:
        forms = _forms(places.labels) or (["yolo"] if places.classes is not None else [])
    if not forms:
        raise DatasetError(
            f"{path} is no detection data: a COCO JSON, a data.yaml, an obj.data, or a folder with one of them, "
            "with VOC's Annotations or with YOLO's labels is expected"
        )
    if len(forms) > 1:
        found = " and ".join(_IN_WORDS[form] for form in forms)
        raise DatasetError(f"{path} holds {found}: name the file or the folder in it that is meant")
    names = None if places.classes is None else read_names(places.classes)
    if forms[0] == "coco":
        if places.labels is not None:
            raise UsageError("--labels is for the XML files of VOC and the text files of YOLO: a COCO JSON has its own")
        return coco.layout(path, images=places.images)
    if forms[0] == "voc":
        return voc.layout(path, images=places.images, labels=places.labels)
    return yolo.layout(path, images=places.images, labels=places.labels, names=names)


def _chosen(path: Path, layout: Layout, split: str | None) -> str:
    if split is None:
        return next((part for part in EVALUATED if part in layout.parts), "all")
    wanted = SPLITS.get(split.lower(), split.lower())
    if wanted not in (*layout.parts, *layout.more) or wanted == "all":
        has = "it is not divided" if layout.parts == ("all",) else f"it has {', '.join((*layout.parts, *layout.more))}"
        raise DatasetError(f"{path} has no {split!r} split: {has}")
    return wanted


def _own_names(layout: Layout, part: str, stated: StatedPart, places: Places) -> tuple[str, ...]:
    """The classes of the data set itself, in order."""
    if places.classes is not None:
        return read_names(places.classes)
    if stated.names:
        return stated.names
    if "train" in layout.parts and part not in ("train", voc.TRAINVAL):
        stated = layout.read("train")
    return tuple(sorted({box.label for picture in stated.pictures for box in picture.boxes}))


def _data(layout: Layout, part: str, stated: StatedPart, names: tuple[str, ...], places: Places) -> DetectionData:
    index_of = {name: i for i, name in enumerate(names)}
    if places.classes is not None and layout.form != "yolo":  # the file may write a name in another way
        for label in {box.label for picture in stated.pictures for box in picture.boxes} - index_of.keys():
            found = labels.match(label, names)
            if found is not None:
                index_of[label] = found
    pictures = sorted(stated.pictures, key=lambda picture: picture.path)
    samples, faults = repaired(pictures, index_of, layout.form)
    unread: list[Fault] = []
    if layout.form != "coco":  # whose file names its pictures
        unread = unread_faults(Path(at).parent for picture in pictures for at in (picture.path, picture.file))
    split = None if part == "all" else "train" if part == voc.TRAINVAL else part
    return DetectionData(tuple(samples), names, layout.form, split, (*stated.faults, *faults, *unread))


def _matched(path: Path, data: DetectionData, info: ModelInfo) -> DetectionData:
    """The same data with the model's classes; boxes of others are left out."""
    names = tuple(info.label(i) for i in range(info.classes))
    try:
        found = [labels.match(name, names, info.label_ids) for name in data.names]
    except DatasetError as error:  # ambiguous
        raise DatasetError(f"{path}: {error}") from None
    if data.names and all(index is None for index in found):
        raise DatasetError(
            f"{path}: none of its classes ({some(data.names)}) is one of the model's {len(names)} ({some(names)}): "
            "name them alike"
        )
    index_D = np.array([-1 if index is None else index for index in found], np.int64)
    lost = Counter[int]()
    samples: list[DetectionSample] = []
    for sample in data.samples:
        labels_N = index_D[sample.labels]
        lost.update(sample.labels[labels_N < 0].tolist())
        samples.append(select(dataclasses.replace(sample, labels=labels_N), np.flatnonzero(labels_N >= 0)))
    unmatched = tuple((name, lost[i]) for i, name in enumerate(data.names) if found[i] is None)
    return dataclasses.replace(data, samples=tuple(samples), names=names, unmatched=unmatched)


def select(sample: DetectionSample, kept: Sequence[int] | np.ndarray) -> DetectionSample:
    """The sample with these of its boxes, by index or as a mask."""
    columns = ("boxes_xyxy", "labels", "difficult", "crowd", "areas")
    return dataclasses.replace(sample, **{name: getattr(sample, name)[kept] for name in columns})
