"""What is wrong with pictures and their masks: found by reading every one of them, before anything is learned."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilenetv2 import image, plots
from mobilenetv2.data.annotation import FAULTS, Fault
from mobilenetv2.data.check import GALLERY, Progress
from mobilenetv2.data.classification import Sample
from mobilenetv2.data.examine import Examined, examine_one
from mobilenetv2.data.findings import listed, of_missing, of_same_bytes, same_bytes, with_absolute_files
from mobilenetv2.data.masks import IGNORE
from mobilenetv2.data.segmentation import (
    AS_FOUND,
    BACKGROUND,
    Form,
    Places,
    SegmentationData,
    SegmentationSample,
    open_parts,
)
from mobilenetv2.data.segmentation_augment import sizes_differ
from mobilenetv2.errors import Error
from mobilenetv2.text import joined, plain

_CHUNK = 64  # pictures that wait in memory
_LISTED = 3  # classes that are named below a picture, those with the most pixels


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A picture and its mask, read: `pixels[i]` counts those of class i, `ignored` those that do not count.

    `problem` says why the picture cannot be read, `mask_problem` why the mask cannot be used; `pixels` is empty then.
    `blank` is where nothing of a mask counts.
    """

    sample: SegmentationSample
    digest: str
    problem: str | None
    mask_problem: str | None
    pixels: tuple[int, ...] = ()
    ignored: int = 0
    size: tuple[int, int] = (0, 0)  # height, width

    @property
    def blank(self) -> bool:
        return self.ignored > 0 and not any(self.pixels)


@dataclass(frozen=True, slots=True)
class SegmentationCheck:
    """What was found in a data set; the keys of the mappings are "train", "val" and "test", or "all".

    `pixels[part][i]` is how many pixels class `names[i]` has, `occurs[part][i]` in how many pictures, `ignored` how
    many pixels do not count, `pictures` how many pictures of a part can be used with their masks. `notes` say how the
    masks were understood, `faults` what has no other half or was left out. `unreadable` holds pictures with the reason,
    and `masks` pictures whose mask cannot be used: it is damaged, of another size, or has unknown values. In the masks
    of `blank` pictures nothing counts. Groups of pictures with the same bytes: `duplicates` within a part, `leaks` in
    several. `missing` are (part, class) without a pixel.
    """

    form: Form
    names: tuple[str, ...]
    pixels: Mapping[str, tuple[int, ...]]
    occurs: Mapping[str, tuple[int, ...]]
    ignored: Mapping[str, int]
    pictures: Mapping[str, int]
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    masks: tuple[tuple[str, str], ...] = ()
    blank: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """Each fault in a sentence; nothing where the data is sound."""
        return tuple(line for lines in self._by_kind() for line in lines)

    def _by_kind(self) -> Iterator[list[str]]:
        yield [f"cannot be read: {reason}" for _, reason in self.unreadable]
        yield [f"cannot be used: {reason}" for _, reason in self.masks]
        for kind in FAULTS:
            yield [str(fault) for fault in self.faults if fault.kind == kind]
        yield [f"{file}: all pixels of its mask are ignored" for file in self.blank]
        yield from of_same_bytes(self.duplicates, self.leaks)
        yield of_missing(self.missing, "pixel")

    @property
    def counts(self) -> Mapping[str, tuple[int, ...]]:
        """`occurs`: in how many pictures each class is."""
        return self.occurs

    def absolute(self) -> SegmentationCheck:
        """The same with the whole path of every file, which holds in any folder."""
        return with_absolute_files(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: every field, and "ok"."""
        return {
            "task": "segmentation",
            "form": self.form,
            "ok": not self.findings,
            "classes": [
                {
                    "label": name,
                    **{
                        part: {"pixels": pixels[i], "pictures": self.occurs[part][i]}
                        for part, pixels in self.pixels.items()
                    },
                }
                for i, name in enumerate(self.names)
            ],
            "pictures": dict(self.pictures),
            "ignored": dict(self.ignored),
            "notes": list(self.notes),
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "masks": [{"file": file, "error": error} for file, error in self.masks],
            "faults": [
                {"kind": fault.kind, "file": fault.file, "value": fault.value, "done": fault.done}
                for fault in self.faults
            ],
            "blank": list(self.blank),
            "leaks": [list(group) for group in self.leaks],
            "duplicates": [list(group) for group in self.duplicates],
            "missing": [{"part": part, "label": name} for part, name in self.missing],
        }

    def text(self) -> str:
        """Each class's share of the pixels that count, and in how many pictures it is; then the findings, the first
        ones of each kind."""
        parts = list(self.pixels)
        totals = {part: sum(self.pixels[part]) for part in parts}
        rows: list[tuple[str, list[tuple[str, int | str]]]] = [
            (plain(name), [(_percent(self.pixels[part][i], totals[part]), self.occurs[part][i]) for part in parts])
            for i, name in enumerate(self.names)
        ]
        everything = {part: totals[part] + self.ignored[part] for part in parts}
        rows.append(("ignored", [(_percent(self.ignored[part], everything[part]), "") for part in parts]))
        rows.append(("pictures", [("", self.pictures[part]) for part in parts]))
        width = max(len(name) for name, _ in rows)
        head = f"{'class':{width}}" + "".join(f"{part:>10} pictures" for part in parts)
        table = (f"{name:{width}}" + "".join(f"{a:>10} {b:>8}" for a, b in cells) for name, cells in rows)
        lines = [head, *(line.rstrip() for line in table), ""]
        lines += [f"note: {note}" for note in self.notes]
        return joined([*lines, *listed(self._by_kind())])


def from_json(values: Mapping[str, Any]) -> SegmentationCheck:
    """The `SegmentationCheck` that `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` where it did not."""
    rows = values["classes"]
    pictures = {str(part): int(count) for part, count in values["pictures"].items()}
    pixels, occurs = (
        {part: tuple(int(row[part][kind]) for row in rows) for part in pictures} for kind in ("pixels", "pictures")
    )
    unreadable, masks = (tuple((one["file"], one["error"]) for one in values[kind]) for kind in ("unreadable", "masks"))
    duplicates, leaks = (tuple(tuple(map(str, group)) for group in values[kind]) for kind in ("duplicates", "leaks"))
    return SegmentationCheck(
        form=values["form"],
        names=tuple(row["label"] for row in rows),
        pixels=pixels,
        occurs=occurs,
        ignored={str(part): int(count) for part, count in values["ignored"].items()},
        pictures=pictures,
        notes=tuple(values["notes"]),
        faults=tuple(
            Fault(one["kind"], one["file"], one["value"], one["done"])
            for one in values["faults"]
            if FAULTS[one["kind"]]
        ),
        unreadable=unreadable,
        masks=masks,
        blank=tuple(values["blank"]),
        duplicates=duplicates,
        leaks=leaks,
        missing=tuple((one["part"], one["label"]) for one in values["missing"]),
    )


def check(
    dataset: str | os.PathLike[str],
    parts: Mapping[str, SegmentationData] | None = None,
    *,
    places: Places = AS_FOUND,
    progress: Progress | None = None,
) -> SegmentationCheck:
    """Read every picture and mask of a data set, all of its parts, and say what is wrong.

    `parts` are those of `open_parts`, where it is open already. `progress(done, total)` is called after each picture.
    Raises `DatasetError` where there is nothing to read.
    """
    parts = open_parts(dataset, places=places) if parts is None else parts
    return judge(parts, look_at_all(parts, progress=progress))


def look_at_all(parts: Mapping[str, SegmentationData], *, progress: Progress | None = None) -> dict[str, list[Looked]]:
    """Every picture with its mask read, by part; `progress` as in `check`."""
    samples = [(part, sample) for part, data in parts.items() for sample in data.samples]
    found: dict[str, list[Looked]] = {part: [] for part in parts}
    classes = len(next(iter(parts.values())).names)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            looked = pool.map(lambda one: look(one[1], classes), chunk)
            for done, ((part, _), one) in enumerate(zip(chunk, looked, strict=True), start=start + 1):
                found[part].append(one)
                if progress is not None:
                    progress(done, len(samples))
    return found


def look(sample: SegmentationSample, classes: int) -> Looked:
    """Read a picture and its mask."""
    picture: Examined = examine_one(Sample(sample.path, 0)).without_pixels()
    try:
        mask_HW = sample.read_mask()
    except Error as error:
        return Looked(sample, picture.digest, picture.problem, str(error))
    if picture.problem is None and picture.shape != mask_HW.shape:
        return Looked(sample, picture.digest, None, sizes_differ(sample, picture.shape, mask_HW.shape))
    counts = np.bincount(mask_HW.reshape(-1), minlength=256)
    pixels = tuple(counts[:classes].tolist())
    return Looked(sample, picture.digest, picture.problem, None, pixels, int(counts[IGNORE]), mask_HW.shape)


def judge(parts: Mapping[str, SegmentationData], found: Mapping[str, Sequence[Looked]]) -> SegmentationCheck:
    """What the pictures and masks of each part tell."""
    data = next(iter(parts.values()))
    readable = {part: [one for one in ones if one.problem is None] for part, ones in found.items()}
    sound = {part: [one for one in ones if one.mask_problem is None] for part, ones in readable.items()}
    counts = {
        part: np.array([one.pixels for one in ones], np.int64).reshape(len(ones), len(data.names))
        for part, ones in sound.items()
    }
    duplicates, leaks = same_bytes(
        (one.digest, part, str(one.sample.path)) for part, ones in readable.items() for one in ones
    )
    every = [one for ones in found.values() for one in ones]
    pixels = {part: tuple(counts_NL.sum(axis=0).tolist()) for part, counts_NL in counts.items()}
    return SegmentationCheck(
        form=data.form,
        names=data.names,
        pixels=pixels,
        occurs={part: tuple((counts_NL > 0).sum(axis=0).tolist()) for part, counts_NL in counts.items()},
        ignored={part: sum(one.ignored for one in ones) for part, ones in sound.items()},
        pictures={part: len(ones) for part, ones in sound.items()},
        notes=data.found,
        faults=tuple(fault for part in parts.values() for fault in part.faults),
        unreadable=tuple((str(one.sample.path), one.problem) for one in every if one.problem is not None),
        masks=tuple((str(one.sample.path), one.mask_problem) for one in every if one.mask_problem is not None),
        blank=tuple(str(one.sample.path) for ones in sound.values() for one in ones if one.blank),
        duplicates=duplicates,
        leaks=leaks,
        missing=tuple(
            (part, name) for part in pixels for name, n in zip(data.names, pixels[part], strict=True) if not n
        ),
    )


def write_gallery(
    path: str | os.PathLike[str], found: SegmentationCheck, parts: Mapping[str, SegmentationData]
) -> None:
    """`gallery` as a PNG. Raises `FileError`, and `UsageError` where there is no picture at all."""
    plots.write_png(path, plots.contact_sheet(gallery(found, parts)))


def gallery(found: SegmentationCheck, parts: Mapping[str, SegmentationData]) -> list[plots.Tile]:
    """Pictures that cannot be used, other faults, then some of the sound ones with their classes.

    Raises `ImageError` or `FileError` where a picture has gone since it was checked.
    """
    samples = [(sample, data.names) for data in parts.values() for sample in data.samples]
    by_file = {str(sample.path): (sample, names) for sample, names in samples}
    tiles: list[plots.Tile] = []
    bad = {file for file, _ in found.unreadable}
    for file, reason in found.unreadable[:GALLERY]:
        grey = np.full((96, 96, 3), 200, np.uint8)
        tiles.append(plots.Tile(plots.thumbnail(grey), (Path(file).name, reason.removeprefix(f"{file} ")), right=False))
    wrong = [(*by_file[file], _short(reason, by_file[file][0])) for file, reason in found.masks if file in by_file]
    wrong += [(*by_file[file], "all pixels are ignored") for file in found.blank if file in by_file]
    for groups, what in ((found.leaks, "in several parts"), (found.duplicates, "twice")):
        wrong += [(*by_file[file], what) for group in groups for file in group if file in by_file]
    for sample, names, what in [one for one in wrong if str(one[0].path) not in bad][:GALLERY]:
        tiles.append(plots.Tile(_drawn(sample, names)[0], (what, sample.path.name), right=False))
    shown = bad | {str(sample.path) for sample, _, _ in wrong}
    sound = [file for file in by_file if file not in shown]
    for file in sound[:: max(1, math.ceil(len(sound) / max(GALLERY - len(tiles), 1)))]:
        rgb, words = _drawn(*by_file[file])
        tiles.append(plots.Tile(rgb, (words, Path(file).name)))
    return tiles[: 2 * GALLERY]


def _drawn(sample: SegmentationSample, names: Sequence[str]) -> tuple[plots.UInt8Array, str]:
    """A thumbnail with the classes in their colours, where the mask can be used, and the classes' shares in words."""
    rgb = image.read(sample.path)
    try:
        mask_HW = sample.read_mask()
    except Error:
        return plots.thumbnail(rgb), ""
    if mask_HW.shape != rgb.shape[:2]:
        return plots.thumbnail(rgb), ""
    pixels = np.bincount(mask_HW.reshape(-1))[: len(names)].tolist()
    counts = Counter({names[i]: n for i, n in enumerate(pixels) if n and names[i] != BACKGROUND})
    listed = [f"{name} {_percent(count, mask_HW.size)}" for name, count in counts.most_common(_LISTED)]
    words = ", ".join(listed + [f"{len(counts) - _LISTED} more"] * (len(counts) > _LISTED)) or BACKGROUND
    return plots.photo_with_mask(rgb, mask_HW, names, sides=(plots.TILE, plots.TILE)), words


def _short(reason: str, sample: SegmentationSample) -> str:
    return (
        reason.removeprefix(f"{sample.mask}: ")
        .replace(str(sample.mask), "the mask")
        .replace(str(sample.path), "the picture")
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if part else "-"
