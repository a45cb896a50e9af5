"""Labelled pictures in WebDataset shards: which tars a data set has, and which samples lie where in each.

In a shard, members whose names agree up to the first dot after the last slash are one sample: a picture and a label.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mobilenetv2 import limits
from mobilenetv2.data import shard_files
from mobilenetv2.data.folders import ENDINGS, PARTS, SPLITS, entries, part_in, some
from mobilenetv2.data.shard_files import Shard, is_url, name_of
from mobilenetv2.errors import DatasetError, FileError, UsageError

LABELS = (".cls", ".json", ".txt")  # the suffixes of labels; the first that a sample has counts
CLASSES = "classes.txt"

Progress = Callable[[int, int], None]  # (done, total)
Incomplete = tuple[tuple[str, str], ...]  # (shard/member, what its sample has)

_NO_LABEL = 'no label (.cls, .txt, or .json with "label" or "cls")'
_NO_PICTURE = "no picture"
_SEVERAL = "several pictures, of which the first is used (a sample's name ends at its first dot)"
_TWICE = "a name that the shard has twice, of which the last is used"
_LABEL_BYTES = 1 << 20  # of a label's file at most
_MOST_SHARDS = 1_000_000
_SUFFIX = ".index"
_FORMAT = b"2\n"  # of what is kept under it
_BLOCK = 512
_EXTENDED = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)


@dataclass(frozen=True, slots=True)
class ShardMember:
    """A picture's file inside a shard: `size` bytes from `offset` on."""

    shard: Shard
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.shard.place}/{self.name}"

    def read_bytes(self) -> bytes:
        """The file. Raises `FileError`, `DownloadError`, and `DatasetError` where the shard has changed."""
        data = shard_files.read(self.shard, self.offset, self.size)
        if len(data) < self.size:
            raise FileError(f"{self} cannot be read: its shard ends before it does")
        return data


Labelled = list[tuple[str, ShardMember]]  # a label as it is written, and a picture


@dataclass(frozen=True, slots=True)
class Index:
    """The samples of a shard in its order: their pictures' names, offsets and sizes in bytes, and their labels."""

    names: tuple[str, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    labels: tuple[str, ...]
    incomplete: tuple[tuple[str, str], ...] = ()  # (member, what its sample has)


def parts(dataset: str | os.PathLike[str]) -> dict[str, list[str]]:
    """The shards (paths or URLs) of each part, "train", "val" and "test" or "all"; empty where `dataset` has none.

    A data set of shards is a tar, a pattern of tars as `expand` knows it, a URL of either, or a folder that holds
    tars and no folders, or nothing but folders named by splits that do. A word in each file name may say the split.

    Raises `DatasetError` where the names divide only some of them, `UsageError` for a wrong pattern.
    """
    written = os.fspath(dataset)
    if is_url(written):
        return _divided(written, expand(written))
    if os.path.isdir(written):
        return _in_folder(Path(written))
    if written.lower().endswith(".tar"):
        return _divided(written, [written] if os.path.exists(written) else expand(written))
    return {}


def expand(pattern: str) -> list[str]:
    """What a shell's braces mean: `a-{00..12}.tar`, `{train-{000..146},val-{00..06}}.tar`. Raises `UsageError`."""
    begin = pattern.find("{")
    if begin < 0:
        return [pattern]
    depth, cuts = 0, [begin]
    for end in range(begin, len(pattern)):
        depth += (pattern[end] == "{") - (pattern[end] == "}")
        if depth == 0:
            break
        if depth == 1 and pattern[end] == ",":
            cuts.append(end)
    else:
        raise UsageError(f"{pattern} has a brace that is not closed")
    cuts.append(end)
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", pattern[begin + 1 : end]):
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST_SHARDS:
            raise UsageError(f"{pattern} counts from {numbers[1]} to {numbers[2]}: give the smaller number first")
        middles = [f"{number:0{len(numbers[1])}}" for number in range(first, last + 1)]
    elif len(cuts) > 2:
        middles = [name for a, b in itertools.pairwise(cuts) for name in expand(pattern[a + 1 : b])]
    else:
        raise UsageError(f"{pattern} has braces without numbers in them: {{000..012}} is expected")
    return [pattern[:begin] + middle + rest for middle in middles for rest in expand(pattern[end + 1 :])]


def read(places: Sequence[str], *, progress: Progress | None = None) -> tuple[Labelled, Incomplete]:
    """The label and the picture of every sample, shard by shard in their order, and what is wrong with the others.

    A shard is read once and its index kept: `progress(done, total)` is called after each, should one have to be read.
    Raises `DatasetError` where shards do not exist or are damaged, `FileError`, `DownloadError`.
    """
    located = shard_files.locate(places)
    missing = [place for place, shard in zip(places, located, strict=True) if shard is None]
    if missing:
        raise DatasetError(f"{len(missing)} of {len(places)} shards do not exist: {some(missing, 2)}")
    listed: Labelled = []
    incomplete: list[tuple[str, str]] = []
    damaged: list[str] = []
    for done, shard in enumerate((shard for shard in located if shard is not None), start=1):
        found = _kept(shard)
        if found is None:
            try:
                found = index(shard)
            except DatasetError as error:
                damaged.append(str(error))
                continue
            if progress is not None:
                progress(done, len(places))
        members = zip(found.labels, found.offsets, found.sizes, found.names, strict=True)
        listed += [(label, ShardMember(shard, offset, size, name)) for label, offset, size, name in members]
        incomplete += [(f"{shard.place}/{name}", what) for name, what in found.incomplete]
    if damaged:
        more = f" ({len(damaged)} of {len(places)} shards are damaged)" if len(damaged) > 1 else ""
        raise DatasetError(damaged[0] + more)
    return listed, tuple(incomplete)


def listed_classes(dataset: str | os.PathLike[str], shards: Sequence[str]) -> tuple[str, ...] | None:
    """The names in `classes.txt` in the folder `dataset`, else beside the first of the shards, one per line; None
    where there is no such file. Raises `FileError`, `DownloadError`, `DatasetError`."""
    beside = _beside(shards[0])
    for place in (beside,) if not os.path.isdir(dataset) else (os.path.join(dataset, CLASSES), beside):
        if (shard := shard_files.locate([place])[0]) is None:
            continue
        try:
            lines = shard_files.read(shard, 0, shard.size).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DatasetError(f"{place} is no text file (UTF-8) of class names, one per line") from None
        return tuple(line.strip() for line in lines if line.strip())
    return None


def sentences(incomplete: Incomplete) -> list[str]:
    """What is wrong with samples, in a line for each kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for place, what in incomplete:
        kinds[what].append(place)
    return [f"{len(places)} samples with {what}: {some(places)}" for what, places in kinds.items()]


# ---- which tars there are


def _in_folder(folder: Path) -> dict[str, list[str]]:
    folders, tars = _tars(folder)
    if not folders:
        return _divided(str(folder), tars)
    found: dict[str, list[str]] = {}
    for inner in folders:
        name = SPLITS.get(inner.name.lower())
        if name is None or tars:
            return {}
        deeper, own = _tars(inner)
        if deeper or not own:
            return {}
        if name in found:
            raise DatasetError(f"{folder} has two {name} splits: rename {inner.name} or the other")
        found[name] = own
    return {name: found[name] for name in PARTS if name in found}


def _tars(folder: Path) -> tuple[list[Path], list[str]]:
    folders, files_here = entries(folder)
    return folders, [str(file) for file in files_here if file.suffix.lower() == ".tar" and file.name[0] != "."]


def _divided(dataset: str, places: Sequence[str]) -> dict[str, list[str]]:
    """Shards by the split that a word of their names says: imagenet1k-validation-00.tar."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for place in places:
        found[part_in(name_of(place))].append(place)
    if None not in found:
        return {name: found[name] for name in PARTS if name in found}
    if len(found) > 1:
        raise DatasetError(
            f"{dataset}: some shards are named by a split and some are not ({some(found[None], 2)}): name all or none"
        )
    return {"all": found[None]}


def _beside(place: str) -> str:
    if not is_url(place):
        return os.path.join(os.path.dirname(place), CLASSES)
    before, mark, query = place.partition("?")
    return before.rpartition("/")[0] + "/" + CLASSES + mark + query


# ---- what is in one


@dataclass(slots=True)
class _Sample:
    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> offset, size
    labels: dict[str, str | None] = field(default_factory=dict)  # suffix -> label
    first: str = ""


def index(shard: Shard) -> Index:
    """What is in a shard, by its headers and labels, and kept. Raises `DatasetError` for a damaged one."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    incomplete: list[tuple[str, str]] = []
    seen: set[str] = set()
    for member in _members(shard):
        name = member.name.removeprefix("./")
        folder, _, base = name.rpartition("/")
        suffix = os.path.splitext(base)[1].lower()
        if not member.isfile() or member.issparse() or base.startswith((".", "__")):
            continue  # folders, links; what macOS and the makers of shards add
        sample = samples[f"{folder}/{base.partition('.')[0]}"]
        sample.first = sample.first or name
        if name in seen:
            incomplete.append((name, _TWICE))
        seen.add(name)
        if suffix in ENDINGS:
            sample.pictures[name] = (member.offset_data, member.size)
        elif suffix in LABELS and member.size <= _LABEL_BYTES:
            sample.labels[suffix] = _label(suffix, shard_files.read(shard, member.offset_data, member.size))
    rows: list[tuple[str, int, int, str]] = []
    for sample in samples.values():
        label = next((found for suffix in LABELS if (found := sample.labels.get(suffix)) is not None), None)
        if not sample.pictures:
            incomplete.append((sample.first, _NO_PICTURE))
        elif label is None:
            incomplete.append((next(iter(sample.pictures)), _NO_LABEL))
        else:
            name, (offset, size) = min(sample.pictures.items(), key=lambda picture: picture[0].count("."))
            rows.append((name, offset, size, label))
            if sum(other.count(".") == name.count(".") for other in sample.pictures) > 1:
                incomplete.append((name, _SEVERAL))
    names, offsets, sizes, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    found = Index(names, offsets, sizes, labels, tuple(incomplete))
    _keep(shard, found)
    return found


def _members(shard: Shard) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar, each of them whole, to its end."""
    end = 0
    try:
        with shard_files.stream(shard) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_headers(shard)) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= end:
                    raise _damaged(shard, f"a member of {member.size:,} bytes at byte {end:,}")
                end = tar.offset
                yield member
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # it would keep every header
            end = tar.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _damaged(shard, str(error)) from None
    # tarfile takes a header that is damaged or missing for the end, which is a block of zeros
    if shard_files.read(shard, end, _BLOCK) != bytes(_BLOCK):
        raise _damaged(shard, f"no header and no end at byte {end:,} of {shard.size:,}")


def _headers(shard: Shard) -> type[tarfile.TarInfo]:
    """What reads a tar's headers, and bounds those before a member that hold its long name and attributes: tarfile
    recurses at each, and reads as much as it claims to have."""
    before = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal before
            found = super().frombuf(buf, encoding, errors)
            before = before + 1 if found.type in _EXTENDED else 0
            if before > limits.TAR_HEADERS:
                raise _damaged(shard, f"more than {limits.TAR_HEADERS} headers of names before one member")
            if found.size < 0 or (before and found.size > limits.TAR_HEADER_BYTES):
                raise _damaged(shard, f"a header that claims to have {found.size:,} bytes")
            return found

    return Header


def _damaged(shard: Shard, reason: str) -> DatasetError:
    return DatasetError(f"{shard.place} is damaged, cut short or no plain tar ({reason}): make or copy it again")


def _label(suffix: str, data: bytes) -> str | None:
    """The text of a label on one line; None where there is none in it."""
    try:
        text = data.decode("utf-8-sig")
        if suffix == ".json":
            value = json.loads(text)
            found = [value.get(key) for key in ("label", "cls")] if isinstance(value, dict) else []
            text = next((str(one) for one in found if isinstance(one, int | str) and not isinstance(one, bool)), "")
    except (ValueError, RecursionError):
        return None
    return " ".join(text.split()) or None


def _keep(shard: Shard, found: Index) -> None:
    columns = (found.names, found.offsets, found.sizes, found.labels, found.incomplete)
    body = json.dumps(columns, separators=(",", ":")).encode()
    shard_files.keep(shard, _SUFFIX, _FORMAT + body)


def _kept(shard: Shard) -> Index | None:
    text = shard_files.kept(shard, _SUFFIX)
    if text is None or not text.startswith(_FORMAT):
        return None
    names, offsets, sizes, labels, incomplete = json.loads(text[len(_FORMAT) :])
    return Index(tuple(names), tuple(offsets), tuple(sizes), tuple(labels), tuple(map(tuple, incomplete)))
