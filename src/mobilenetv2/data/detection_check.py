"""What is wrong with pictures and their boxes: found by reading every one of them, before anything is learned."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import image, plots
from mobilenetv2.data.annotation import FAULTS, DetectionSample, Fault, Form
from mobilenetv2.data.check import GALLERY, Examined, Progress, examine
from mobilenetv2.data.classification import Sample
from mobilenetv2.data.detection import AS_FOUND, DetectionData, Places, open_parts
from mobilenetv2.data.findings import listed, of_missing, of_same_bytes, same_bytes, with_absolute_files
from mobilenetv2.errors import FileError, ImageError
from mobilenetv2.text import joined, plain

_GREY = np.full((plots.TILE, plots.TILE, 3), 200, np.uint8)


@dataclass(frozen=True, slots=True)
class DetectionCheck:
    """What was found in a data set; the keys of the mappings are "train", "val" and "test", or "all".

    `counts[part][i]` is how many boxes of class `names[i]` remain, `pictures` how many of a part's can be read, and
    `without` how many of these have no box. `faults` are what was repaired or left out while reading. `unreadable`
    holds files with the reason, `sizes` files whose height and width, as stated, are not those of the picture
    (stated, found). Groups of files with the same bytes: `duplicates` within a part, `leaks` in several. `missing` are
    (part, class) without a box.
    """

    form: Form
    names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    pictures: Mapping[str, int]
    without: Mapping[str, int]
    faults: tuple[Fault, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[str, tuple[int, int], tuple[int, int]], ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """Each fault in a sentence; nothing where the data is sound."""
        return tuple(line for lines in self._by_kind() for line in lines)

    def _by_kind(self) -> Iterator[list[str]]:
        yield [f"cannot be read: {reason}" for _, reason in self.unreadable]
        yield [
            f"{file}: stated as {stated[1]} x {stated[0]}, but the picture has {found[1]} x {found[0]} pixels"
            for file, stated, found in self.sizes
        ]
        for kind in FAULTS:
            yield [str(fault) for fault in self.faults if fault.kind == kind]
        yield from of_same_bytes(self.duplicates, self.leaks)
        yield of_missing(self.missing, "box")

    def absolute(self) -> DetectionCheck:
        """The same with the whole path of every file, which holds in any folder."""
        return with_absolute_files(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: every field, and "ok"."""
        return {
            "task": "detection",
            "form": self.form,
            "ok": not self.findings,
            "classes": [
                {"label": name, **{part: counts[i] for part, counts in self.counts.items()}}
                for i, name in enumerate(self.names)
            ],
            "pictures": dict(self.pictures),
            "without_objects": dict(self.without),
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "sizes": [{"file": file, "stated": list(one), "found": list(two)} for file, one, two in self.sizes],
            "faults": [
                {"kind": fault.kind, "file": fault.file, "value": fault.value, "done": fault.done}
                for fault in self.faults
            ],
            "leaks": [list(group) for group in self.leaks],
            "duplicates": [list(group) for group in self.duplicates],
            "missing": [{"part": part, "label": name} for part, name in self.missing],
        }

    def text(self) -> str:
        """The boxes per class, the pictures, and the findings: the first ones of each kind."""
        rows = [(plain(name), [counts[i] for counts in self.counts.values()]) for i, name in enumerate(self.names)]
        rows.append(("all boxes", [sum(counts) for counts in self.counts.values()]))
        rows.append(("pictures", list(self.pictures.values())))
        rows.append(("of them without a box", list(self.without.values())))
        width = max(len(name) for name, _ in rows)
        lines = [f"{'class':{width}}" + "".join(f"{part:>9}" for part in self.counts)]
        lines += [f"{name:{width}}" + "".join(f"{number:9,}" for number in numbers) for name, numbers in rows]
        lines.append("")
        return joined([*lines, *listed(self._by_kind())])


def from_json(values: Mapping[str, Any]) -> DetectionCheck:
    """The `DetectionCheck` that `to_json` gave; its faults have no boxes. Raises `KeyError`, `TypeError` or
    `ValueError` where it did not."""
    rows = values["classes"]
    pictures = {str(part): int(count) for part, count in values["pictures"].items()}
    duplicates, leaks = (tuple(tuple(map(str, group)) for group in values[kind]) for kind in ("duplicates", "leaks"))
    return DetectionCheck(
        form=values["form"],
        names=tuple(row["label"] for row in rows),
        counts={part: tuple(int(row[part]) for row in rows) for part in pictures},
        pictures=pictures,
        without={str(part): int(count) for part, count in values["without_objects"].items()},
        faults=tuple(
            Fault(one["kind"], one["file"], one["value"], one["done"])
            for one in values["faults"]
            if FAULTS[one["kind"]]
        ),
        unreadable=tuple((one["file"], one["error"]) for one in values["unreadable"]),
        sizes=tuple(
            (one["file"], (one["stated"][0], one["stated"][1]), (one["found"][0], one["found"][1]))
            for one in values["sizes"]
        ),
        duplicates=duplicates,
        leaks=leaks,
        missing=tuple((one["part"], one["label"]) for one in values["missing"]),
    )


def check(
    dataset: str | os.PathLike[str],
    parts: Mapping[str, DetectionData] | None = None,
    *,
    places: Places = AS_FOUND,
    progress: Progress | None = None,
) -> DetectionCheck:
    """Read every picture and annotation of a data set, all of its parts, and say what is wrong.

    `parts` are those of `open_parts`, where it is open already. `progress(done, total)` is called after each picture.
    Raises `DatasetError` where there is nothing to read.
    """
    parts = open_parts(dataset, places=places) if parts is None else parts
    samples = [(part, sample) for part, data in parts.items() for sample in data.samples]
    found: dict[str, list[tuple[DetectionSample, Examined]]] = {part: [] for part in parts}
    examined = examine(Sample(sample.path, 0) for _, sample in samples)
    for done, ((part, sample), one) in enumerate(zip(samples, examined, strict=True), start=1):
        found[part].append((sample, one.without_pixels()))
        if progress is not None:
            progress(done, len(samples))
    return judge(parts, found)


def judge(
    parts: Mapping[str, DetectionData], found: Mapping[str, Sequence[tuple[DetectionSample, Examined]]]
) -> DetectionCheck:
    """What the examined pictures of each part tell."""
    data = next(iter(parts.values()))
    sound = {part: [(sample, one) for sample, one in ones if one.problem is None] for part, ones in found.items()}
    labels = {
        part: Counter(label for sample, _ in ones for label in sample.labels.tolist()) for part, ones in sound.items()
    }
    counts = {part: tuple(counter[i] for i in range(len(data.names))) for part, counter in labels.items()}
    duplicates, leaks = same_bytes(
        (one.digest, part, str(sample.path)) for part, ones in sound.items() for sample, one in ones
    )
    return DetectionCheck(
        form=data.form,
        names=data.names,
        counts=counts,
        pictures={part: len(ones) for part, ones in sound.items()},
        without={part: sum(not len(sample.labels) for sample, _ in ones) for part, ones in sound.items()},
        faults=tuple(fault for part in parts.values() for fault in part.faults),
        unreadable=tuple(
            (str(sample.path), one.problem)
            for ones in found.values()
            for sample, one in ones
            if one.problem is not None
        ),
        sizes=tuple(
            (str(sample.path), sample.size, one.shape)
            for ones in sound.values()
            for sample, one in ones
            if sample.size is not None and sample.size != one.shape
        ),
        duplicates=duplicates,
        leaks=leaks,
        missing=tuple(
            (part, name) for part in counts for name, n in zip(data.names, counts[part], strict=True) if not n
        ),
    )


def write_gallery(path: str | os.PathLike[str], found: DetectionCheck, parts: Mapping[str, DetectionData]) -> None:
    """A PNG for people of the `gallery`. Raises `FileError`, and `UsageError` where there is no picture at all."""
    plots.write_png(path, plots.contact_sheet(gallery(found, parts)))


def gallery(found: DetectionCheck, parts: Mapping[str, DetectionData], *, most: int = GALLERY) -> list[plots.Tile]:
    """Faulty boxes in red on their pictures, other faults, then some of the sound pictures: at most twice `most`.

    A picture that cannot be read, or is no longer there, is grey.
    """
    samples = {str(sample.path): (sample, data.names) for data in parts.values() for sample in data.samples}
    bad = {file for file, _ in found.unreadable}
    tiles: list[plots.Tile] = []
    for file, reason in found.unreadable[:most]:
        tiles.append(plots.Tile(_GREY, (Path(file).name, reason.removeprefix(f"{file} ")), right=False))
    faulty: dict[str, list[Fault]] = defaultdict(list)
    for fault in found.faults:
        if fault.picture is not None and str(fault.picture) not in bad:
            faulty[str(fault.picture)].append(fault)
    for file, faults in list(faulty.items())[:most]:
        kinds = Counter(fault.kind for fault in faults)
        words = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        tiles.append(plots.Tile(_drawn(*samples[file], faults), (words, Path(file).name), right=False))
    wrong = [(file, f"stated as {one[1]} x {one[0]}") for file, one, _ in found.sizes]
    for groups, what in ((found.leaks, "in several parts"), (found.duplicates, "twice")):
        wrong += [(file, what) for group in groups for file in group]
    for file, what in [pair for pair in wrong if pair[0] in samples][:most]:
        tiles.append(plots.Tile(_drawn(*samples[file]), (what, Path(file).name), right=False))
    shown = bad | faulty.keys() | {file for file, _ in wrong}
    sound = [file for file in samples if file not in shown]
    for file in sound[:: max(1, math.ceil(len(sound) / max(most - len(tiles), 1)))]:
        sample, names = samples[file]
        boxes = Counter(names[label] for label in sample.labels.tolist())
        words = ", ".join(f"{count} {name}" for name, count in boxes.most_common()) or "no objects"
        tiles.append(plots.Tile(_drawn(sample, names), (words, Path(file).name)))
    return tiles[: 2 * most]


def _drawn(sample: DetectionSample, names: Sequence[str], faults: Sequence[Fault] = ()) -> plots.UInt8Array:
    """A thumbnail with the boxes in their classes' colours, and the faulty ones in red over them."""
    try:
        rgb = image.read(sample.path)
    except (ImageError, FileError):
        return _GREY
    boxes = np.clip(sample.boxes_xyxy, 0, [rgb.shape[1], rgb.shape[0]] * 2).tolist()
    marks = [plots.Box(tuple(box), plots.colour_of(label)) for box, label in zip(boxes, sample.labels, strict=True)]
    for fault in faults:
        if fault.box_xyxy is not None and np.isfinite(fault.box_xyxy).all():
            limit = 2 * max(rgb.shape)
            x1, y1, x2, y2 = (min(max(edge, -limit), limit) for edge in fault.box_xyxy)
            box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            least = max(rgb.shape) / 15  # a box without an area would not be seen
            grow = max(0.0, least - (box[2] - box[0])) / 2, max(0.0, least - (box[3] - box[1])) / 2
            seen = (box[0] - grow[0], box[1] - grow[1], box[2] + grow[0], box[3] + grow[1])
            marks.insert(0, plots.Box(seen, plots.WRONG))  # on top
    return plots.photo_with_boxes(rgb, marks, sides=(plots.TILE, plots.TILE))
