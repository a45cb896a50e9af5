"""What is wrong with labelled pictures: found by reading every one of them, before anything is learned from them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import image, plots
from mobilenetv2.data import shards
from mobilenetv2.data.classification import ClassificationData, Sample, open_classification, splits
from mobilenetv2.data.examine import Examined, examine
from mobilenetv2.data.findings import with_absolute_files
from mobilenetv2.data.folders import some
from mobilenetv2.data.shards import ShardMember
from mobilenetv2.errors import FileError, ImageError
from mobilenetv2.text import joined, plain

UNEVEN = 10  # times as many pictures in the largest class as in the smallest
UNMIXED = 0.6  # of the classes that a shard would have by chance
GALLERY = 60  # pictures in a gallery

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What was found in a data set; `parts` are "train", "val" and "test" as far as it is divided, else "all".

    `counts[part][i]` is how many readable pictures class `names[i]` has. `unreadable` holds files with the reason.
    Groups of files with the same bytes: `duplicates` within one class and part, `leaks` in one class and several
    parts, `contradictions` in several classes. `missing` are (part, class) without a readable picture, `strangers`
    (part, class, pictures) that train does not know, `empty` folders of classes without any picture. `uneven` is
    (largest class, its pictures, smallest class, its pictures) of train, where that is `UNEVEN` times as many.
    `unmixed` is (classes in a shard of train on average, how many there would be if pictures lay in it by chance),
    where these are less than `UNMIXED` of those. `incomplete` are (shard/member, what its sample has), `skipped`
    counts other files.
    """

    names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    unreadable: tuple[tuple[str, str], ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    contradictions: tuple[tuple[str, ...], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    strangers: tuple[tuple[str, str, int], ...] = ()
    empty: tuple[str, ...] = ()
    uneven: tuple[str, int, str, int] | None = None
    unmixed: tuple[float, float] | None = None
    incomplete: shards.Incomplete = ()
    skipped: int = 0

    @property
    def findings(self) -> tuple[str, ...]:
        """Each fault in a sentence; nothing where the data is sound."""
        found = [f"cannot be read: {reason}" for _, reason in self.unreadable]
        for groups, what in (
            (self.leaks, "in several parts, so that what is measured was learned"),
            (self.contradictions, "in several classes"),
            (self.duplicates, "twice in its class"),
        ):
            found += [f"the same picture {what}: {some(group)}" for group in groups]
        found += [f"class {name!r} has no picture in {part}" for part, name in self.missing]
        found += [f"class {name!r} of {part} is not in train: {n} pictures" for part, name, n in self.strangers]
        found += [f"folder {name} has no pictures: it is no class" for name in self.empty]
        if self.uneven is not None:
            large, most, small, least = self.uneven
            found.append(f"uneven classes: {most} pictures of {large!r}, {least} of {small!r}")
        if self.unmixed is not None:
            found.append(
                f"classes are not mixed over the shards: one has {self.unmixed[0]:.1f} of them on average, by chance "
                f"it would have {self.unmixed[1]:.1f}: shuffle the pictures before they are packed"
            )
        return (*found, *shards.sentences(self.incomplete))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: every field, and "ok"."""
        return {
            "task": "classification",
            "ok": not self.findings,
            "classes": [
                {"label": name, **{part: counts[i] for part, counts in self.counts.items()}}
                for i, name in enumerate(self.names)
            ],
            "unreadable": [{"file": file, "error": error} for file, error in self.unreadable],
            "duplicates": [list(group) for group in self.duplicates],
            "leaks": [list(group) for group in self.leaks],
            "contradictions": [list(group) for group in self.contradictions],
            "missing": [{"part": part, "label": name} for part, name in self.missing],
            "strangers": [{"part": part, "label": name, "pictures": n} for part, name, n in self.strangers],
            "empty": list(self.empty),
            "uneven": None if self.uneven is None else list(self.uneven),
            "unmixed": None if self.unmixed is None else list(self.unmixed),
            "incomplete": [{"file": file, "has": what} for file, what in self.incomplete],
            "skipped": self.skipped,
        }

    def absolute(self) -> DataCheck:
        """The same with the whole path of every file, which holds in any folder."""
        return with_absolute_files(self)

    def text(self) -> str:
        """The counts per class, and the findings."""
        names = [plain(name) for name in self.names]
        width = max(5, *map(len, names))
        header = "".join(f"{part:>8}" for part in self.counts)
        lines = [f"{'class':{width}}{header}"]
        lines += [
            f"{name:{width}}" + "".join(f"{counts[i]:8,}" for counts in self.counts.values())
            for i, name in enumerate(names)
        ]
        lines.append(f"{'all':{width}}" + "".join(f"{sum(counts):8,}" for counts in self.counts.values()))
        if self.skipped:
            lines += ["", f"{self.skipped} files skipped: hidden, no pictures, or in no class's folder"]
        found = self.findings
        return joined([*lines, "", *found, f"{len(found)} findings" if found else "nothing wrong was found"])


def from_json(values: Mapping[str, Any]) -> DataCheck:
    """The `DataCheck` that `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` where it did not."""
    rows = values["classes"]
    groups = {
        kind: tuple(tuple(map(str, group)) for group in values[kind])
        for kind in ("duplicates", "leaks", "contradictions")
    }
    uneven, unmixed = values["uneven"], values["unmixed"]
    return DataCheck(
        names=tuple(row["label"] for row in rows),
        counts={part: tuple(int(row[part]) for row in rows) for part in rows[0] if part != "label"},
        unreadable=tuple((one["file"], one["error"]) for one in values["unreadable"]),
        **groups,
        missing=tuple((one["part"], one["label"]) for one in values["missing"]),
        strangers=tuple((one["part"], one["label"], one["pictures"]) for one in values["strangers"]),
        empty=tuple(values["empty"]),
        uneven=None if uneven is None else (uneven[0], uneven[1], uneven[2], uneven[3]),
        unmixed=None if unmixed is None else (unmixed[0], unmixed[1]),
        incomplete=tuple((one["file"], one["has"]) for one in values["incomplete"]),
        skipped=values["skipped"],
    )


def check(
    dataset: str | os.PathLike[str],
    parts: Mapping[str, ClassificationData] | None = None,
    *,
    progress: Progress | None = None,
) -> DataCheck:
    """Read every picture of a data set as `open_classification` knows it, all of its parts, and say what is wrong.

    `parts` are those of `open_parts`, where it is open already. `progress(done, total)` is called after each picture.
    Raises `DatasetError` where there is nothing to read.
    """
    parts = open_parts(dataset) if parts is None else parts
    samples = [(part, sample) for part, data in parts.items() for sample in data.samples]
    found: dict[str, list[Examined]] = {part: [] for part in parts}
    examined = examine(sample for _, sample in samples)
    for done, ((part, _), one) in enumerate(zip(samples, examined, strict=True), start=1):
        found[part].append(one.without_pixels())
        if progress is not None:
            progress(done, len(samples))
    return judge(dataset, parts, found)


def open_parts(dataset: str | os.PathLike[str], *, progress: Progress | None = None) -> dict[str, ClassificationData]:
    """The parts of a data set by name, train first; {"all": ...} where it is not divided.

    `progress(done, total)` is called after each shard that has no index yet.
    """
    parts: dict[str, ClassificationData] = {}
    for part in splits(dataset):
        names = parts["train"].names if "train" in parts else None
        parts[part] = open_classification(dataset, split=part, names=names, progress=progress)
    return parts or {"all": open_classification(dataset, progress=progress)}


def judge(
    dataset: str | os.PathLike[str], parts: Mapping[str, ClassificationData], found: Mapping[str, Sequence[Examined]]
) -> DataCheck:
    """What the examined pictures of each part tell."""
    names = next(iter(parts.values())).names
    counts = {part: _count(ones, len(names)) for part, ones in found.items()}
    first = next(iter(counts))  # train, or all
    groups: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for part, ones in found.items():
        for one in ones:
            if one.problem is None:
                groups[one.digest].append((part, one.sample))
    several = [group for group in groups.values() if len(group) > 1]
    by_kind: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for group in several:
        by_kind[_kind(group)].append(tuple(str(sample.picture) for _, sample in group))
    present = [(count, name) for name, count in zip(names, counts[first], strict=True) if count]
    most, least = (max(present), min(present)) if present else ((0, ""), (0, ""))
    return DataCheck(
        names=names,
        counts=counts,
        unreadable=tuple(
            (str(one.sample.picture), one.problem) for ones in found.values() for one in ones if one.problem is not None
        ),
        duplicates=tuple(by_kind["duplicate"]),
        leaks=tuple(by_kind["leak"]),
        contradictions=tuple(by_kind["contradiction"]),
        missing=tuple((part, name) for part in counts for name, n in zip(names, counts[part], strict=True) if not n),
        strangers=tuple((part, name, n) for part, data in parts.items() for name, n in data.unmatched),
        empty=() if shards.parts(dataset) else tuple(_empty(Path(dataset), parts)),
        uneven=(most[1], most[0], least[1], least[0]) if most[0] >= UNEVEN * max(least[0], 1) else None,
        unmixed=_unmixed(found[first]),
        incomplete=tuple(one for data in parts.values() for one in data.incomplete),
        skipped=sum(data.skipped for data in parts.values()),
    )


def write_gallery(path: str | os.PathLike[str], found: DataCheck, parts: Mapping[str, ClassificationData]) -> None:
    """A PNG for people of the `gallery`. Raises `FileError`."""
    plots.write_png(path, plots.contact_sheet(gallery(found, parts)))


def gallery(found: DataCheck, parts: Mapping[str, ClassificationData], *, most: int = GALLERY) -> list[plots.Tile]:
    """Every fault that can be seen (red, up to twice `most` pictures), else some pictures of each class.

    A picture that cannot be read, or is no longer there, is grey.
    """
    sample_of = {str(sample.picture): sample for data in parts.values() for sample in data.samples}
    labels = {str(sample.picture): data.names[sample.label] for data in parts.values() for sample in data.samples}
    part_of = {str(sample.picture): part for part, data in parts.items() for sample in data.samples}
    wanted: list[tuple[str, tuple[str, ...], bool | None]] = [
        (file, (Path(file).name, reason.removeprefix(f"{file} ")), False) for file, reason in found.unreadable[:most]
    ]
    for groups, what in (
        (found.leaks, "in several parts"),
        (found.contradictions, "in several classes"),
        (found.duplicates, "twice"),
    ):
        for file in (file for group in groups for file in group):
            here = f"{part_of[file]}/{labels[file]}" if file in labels else "no longer there"
            wanted.append((file, (f"{what}: {here}", Path(file).name), False))
    bad = {file for file, _, _ in wanted}
    sound = _spread([file for file in labels if file not in bad], max(most - len(wanted), 0))
    wanted += [(file, (labels[file], Path(file).name), None) for file in sound]
    wanted = wanted[: 2 * most]
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        seen = pool.map(_thumbnail, (sample_of.get(file) for file, _, _ in wanted))
        return [plots.Tile(rgb, lines, right) for rgb, (_, lines, right) in zip(seen, wanted, strict=True)]


def _thumbnail(sample: Sample | None) -> npt.NDArray[np.uint8]:
    try:
        if sample is not None:
            return plots.thumbnail(image.read(sample.picture))
    except (ImageError, FileError):
        pass
    return np.full((plots.TILE, plots.TILE, 3), 200, np.uint8)


def _count(ones: Iterable[Examined], classes: int) -> tuple[int, ...]:
    counted = Counter(one.sample.label for one in ones if one.problem is None)
    return tuple(counted[label] for label in range(classes))


def _kind(group: Sequence[tuple[str, Sample]]) -> str:
    if len({sample.label for _, sample in group}) > 1:
        return "contradiction"
    return "leak" if len({part for part, _ in group}) > 1 else "duplicate"


def _unmixed(ones: Sequence[Examined]) -> tuple[float, float] | None:
    shards_of: dict[object, Counter[int]] = defaultdict(Counter)
    for one in ones:
        if isinstance(one.sample.picture, ShardMember):
            shards_of[one.sample.picture.shard][one.sample.label] += 1
    if len(shards_of) < 3:  # two are mixed as a whole
        return None
    shares = np.array(list(Counter(one.sample.label for one in ones).values())) / len(ones)
    by_chance = np.mean([(1 - (1 - shares) ** counted.total()).sum() for counted in shards_of.values()])
    classes = np.mean([len(counted) for counted in shards_of.values()])
    return (float(classes), float(by_chance)) if classes < UNMIXED * by_chance else None


def _empty(dataset: Path, parts: Mapping[str, ClassificationData]) -> Iterator[str]:
    """Folders beside those of the classes that hold no picture."""
    roots = {
        sample.path.parents[len(sample.path.relative_to(dataset).parts) - (1 if part == "all" else 2)]
        for part, data in parts.items()
        for sample in data.samples[:1]
        if dataset.is_dir()
    }
    for root in sorted(roots):
        used = {sample.path.relative_to(root).parts[0] for data in parts.values() for sample in data.samples
                if sample.path.is_relative_to(root)}  # fmt: skip
        strange = {name for data in parts.values() for name, _ in data.unmatched}
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in used | strange:
                yield str(folder)


def _spread(items: Sequence[str], most: int) -> list[str]:
    if not items or not most:
        return []
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[int(i)] for i in places]
