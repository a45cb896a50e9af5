"""Where a YOLO data set lies and what its classes are called: a data.yaml, a Darknet obj.data, or folders alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import files, limits
from mobilenetv2.data.folders import PARTS, SPLITS, entries, files_with, part_in, some
from mobilenetv2.errors import DatasetError
from mobilenetv2.text import quoted

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "names.txt", "labels.txt")
_DIGITS = 18  # of a number of classes
_PATH = 4_096  # letters of a path, as many as Linux takes
_DESCRIBES = {".yaml": rb"^(names|nc)\s*:", ".yml": rb"^(names|nc)\s*:", ".data": rb"^(names|train)\s*="}


@dataclass(frozen=True, slots=True)
class Plan:
    """What `source` says: where each part is listed (folders of pictures, text files that name them), and the classes
    by number. With `key_points` a line goes on behind its box."""

    source: Path
    parts: Mapping[str, Sequence[Path]]
    names: Mapping[int, str]
    key_points: bool = False


def plan_of(path: Path, images: Path | None, names: Sequence[str] | None) -> Plan:
    """The plan of a data.yaml, an obj.data or a folder; `images` and `names` take the place of what it says.

    Raises `DatasetError` where a folder, a list or the names are missing, with the option that completes it.
    """
    described = description(path) if path.is_dir() else path
    if described is None:
        return _plan_of_folder(path, images, names)
    if described.suffix.lower() == ".data":
        return _plan_of_darknet(described, images, names)
    return _plan_of_yaml(described, images, names)


def description(folder: Path) -> Path | None:
    """The data.yaml or obj.data in a folder, by any name. Raises `DatasetError` where several may be meant."""
    found = [
        file
        for file in files_with(folder, *_DESCRIBES)
        if re.search(_DESCRIBES[file.suffix.lower()], files.read_bytes(file, limit=limits.NAMES_BYTES), re.MULTILINE)
    ]
    usual = [file for file in found if file.stem in ("data", "dataset", "obj")]
    chosen = found if len(found) == 1 else usual
    if len(found) > 1 and len(chosen) != 1:
        raise DatasetError(f"{folder} has {some([file.name for file in found])}: name the one that is meant")
    return chosen[0] if chosen else None


def read_names(file: Path) -> tuple[str, ...]:
    """A class per line. Raises `FileError`, and `DatasetError` where it has none or is not UTF-8."""
    try:
        text = files.read_bytes(file, limit=limits.NAMES_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file (UTF-8) with the name of a class per line") from None
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        raise DatasetError(f"{file}: the name of a class is expected on every line")
    return tuple(lines)


def _plan_of_yaml(file: Path, images: Path | None, names: Sequence[str] | None) -> Plan:
    import yaml

    try:
        # Nothing but text, lists and tables: as safe as safe_load, and a class called `no` or `on` keeps its name.
        content = _content_of_yaml(file, yaml.BaseLoader(files.read_bytes(file, limit=limits.YAML_BYTES)))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(f"{file} is not YAML: {' '.join(str(error).split()):.120}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{file} is no data.yaml: keys such as train, val and names are expected")
    known = dict(enumerate(names)) if names is not None else _names_of_yaml(file, content)
    root = file.parent / str(content.get("path") or ".")[:_PATH]
    parts: dict[str, list[Path]] = {}
    for key, value in content.items():
        part = SPLITS.get(str(key).lower())
        written = [str(one) for one in (value if isinstance(value, list) else [value]) if one]
        if part is not None and written and images is None:
            parts[part] = [_place(file, part, one, root if os.path.isdir(root) else file.parent) for one in written]
    if images is not None:
        parts = _parts_below(images)
    if not parts:
        raise DatasetError(
            f"{file} names neither train nor val: write one in, or name the pictures' folder by --images"
        )
    return Plan(file, _in_order(parts), known, key_points="kpt_shape" in content)


def _content_of_yaml(file: Path, loader: Any) -> Any:
    """The document, whose aliases are followed only if that makes no more than `limits.YAML_VALUES` values of it: 500
    bytes of aliases of aliases can stand for 10^9."""
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        sizes: dict[int, int] = {}  # of each node, with all that is in it
        waiting = [(root, False)]
        while waiting:
            node, done = waiting.pop()
            if sizes.get(id(node), 0) > 0:
                continue
            inner: list[Any] = node.value if isinstance(node.value, list) else []
            if inner and isinstance(inner[0], tuple):
                inner = [part for pair in inner for part in pair]
            if done:
                sizes[id(node)] = 1 + sum(sizes[id(part)] for part in inner)
                continue
            sizes[id(node)] = 0
            waiting.append((node, True))
            for part in inner:
                if sizes.get(id(part)) == 0 and any(part is above for above, entered in waiting if entered):
                    raise DatasetError(f"{file}: an alias in it refers to itself: write the value out")
                waiting.append((part, False))
        if sizes[id(root)] > limits.YAML_VALUES:
            raise DatasetError(
                f"{file} has {sizes[id(root)]:.3g} values, aliases followed: the limit is {limits.YAML_VALUES:,}"
            )
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _whole(value: object) -> int | None:
    """A number from 0 as data.yaml writes it; None for anything else."""
    text = str(value)
    return int(text) if len(text) <= _DIGITS and text.isdecimal() else None


def _names_of_yaml(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    number = _whole(count)
    if not names and number is not None:
        if number > limits.LISTED_CLASSES:
            raise DatasetError(f"{file}: nc is {number:,}: the limit is {limits.LISTED_CLASSES:,} classes")
        return {i: f"class {i}" for i in range(number)}
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    try:
        known = {int(str(i)[: _DIGITS + 1]): str(name) for i, name in pairs}
    except ValueError:
        known = {}
    if not known or min(known) < 0:
        raise DatasetError(f"{file}: names must be a list of classes, or a table of their numbers, got {quoted(names)}")
    if isinstance(names, list) and number is not None and number != len(known):
        raise DatasetError(f"{file}: nc is {number}, but names lists {len(known)}: correct one of them")
    return known


def _place(file: Path, part: str, written: str, root: Path) -> Path:
    """A folder or list as data.yaml writes it; some tools write one "../" too many."""
    place = Path(written[:_PATH].replace("\\", "/"))
    while True:
        if os.path.isdir(root / place) or files.is_regular(root / place):
            return root / place
        if place.parts[:1] != ("..",):
            raise DatasetError(
                f"{file}: {part}: {written} does not exist in {root}: name the pictures' folder with --images"
            )
        place = Path(*place.parts[1:])


def _plan_of_darknet(file: Path, images: Path | None, names: Sequence[str] | None) -> Plan:
    text = files.read_bytes(file, limit=limits.NAMES_BYTES).decode("utf-8", "replace")
    content = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in text.splitlines())}
    if names is None:
        listed = _moved(file.parent, content.get("names") or "obj.names")
        if listed is None:
            raise DatasetError(f"{file}: names = {content.get('names', '')} does not exist: name it with --classes")
        names = read_names(listed)
    parts: dict[str, list[Path]] = {}
    for key, value in content.items():
        part = SPLITS.get(key.lower())
        if part is not None and value:
            place = _moved(file.parent, value)
            if place is not None:
                parts[part] = [place]
            elif images is None:
                raise DatasetError(f"{file}: {key} = {value} does not exist: name the pictures' folder with --images")
    if not parts and images is not None:
        parts = _parts_below(images)
    if not parts:
        raise DatasetError(f"{file} names neither train nor valid: write one in, or name their folder by --images")
    return Plan(file, _in_order(parts), dict(enumerate(names)))


def _moved(folder: Path, written: str) -> Path | None:
    """Darknet's paths start in its own folder; the first folders are dropped until something is there."""
    parts = Path(written[:_PATH].replace("\\", "/")).parts
    tried = (folder.joinpath(*parts[i:]) for i in range(len(parts)))
    return next((place for place in tried if os.path.isdir(place) or files.is_regular(place)), None)


def _plan_of_folder(folder: Path, images: Path | None, names: Sequence[str] | None) -> Plan:
    if images is not None:
        parts = _parts_below(images)
    elif (folder / "images").is_dir():
        parts = _parts_below(folder / "images")
    else:
        parts = _parts_below(folder)
    if names is None:
        listed = [place / name for place in (folder, folder / "labels") for name in NAME_FILES]
        found = next(filter(os.path.isfile, listed), None)
        if found is None:
            raise DatasetError(f"{folder}: its classes have no names: name a data.yaml, or by --classes a file of them")
        names = read_names(found)
    return Plan(folder, _in_order(parts), dict(enumerate(names)))


def _parts_below(folder: Path) -> dict[str, list[Path]]:
    parts: dict[str, list[Path]] = {}
    for inner in entries(folder)[0]:
        part = part_in(inner.name)
        if part is not None:
            parts.setdefault(part, []).append(inner)
    return parts or {"all": [folder]}


def _in_order(parts: Mapping[str, Sequence[Path]]) -> dict[str, Sequence[Path]]:
    return {part: parts[part] for part in (*PARTS, "all") if part in parts}
