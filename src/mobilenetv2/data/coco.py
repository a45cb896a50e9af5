"""COCO's form of detection data: one JSON file per part with images, annotations and categories.

A box is [x, y, width, height]. Category ids may have gaps: classes are in the order of their ids, and categories of one
name are one class. `iscrowd` marks crowds; `ignore`, which converters of VOC write, marks difficult objects.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenetv2 import files, image, json_text
from mobilenetv2.data.annotation import Fault, Layout, StatedBox, StatedPart, StatedPicture, stated_size
from mobilenetv2.data.folders import PARTS, entries, files_with, part_in, some
from mobilenetv2.errors import DatasetError, Error
from mobilenetv2.text import quoted

_LISTS = ("images", "annotations", "categories")
_PICTURE_FOLDERS = ("images", "jpegimages", "imgs", "img", "pictures", "photos")
_TRIED = 20  # pictures that are looked for in each folder that may hold them


def layout(path: Path, *, images: Path | None) -> Layout:
    """The parts of a JSON file, or of a folder that `recognises` knows. Raises `DatasetError`."""
    parts = files_of_parts(path) if path.is_dir() else {"all": path}
    return Layout("coco", tuple(parts), lambda part: read(parts[part], images=images))


def recognises(folder: Path) -> bool:
    """Whether JSON files of this form are in the folder, its `annotations`, or the folders of its parts."""
    return bool(_json_files(folder))


def read(file: Path, *, images: Path | None = None) -> StatedPart:
    """What `file` states. Its pictures lie in `images`, else where they are found near the file.

    Annotations that cannot be understood, or whose picture is missing, are among the faults. Raises `DatasetError`
    where the file is not of this form, or none of its pictures is found.
    """
    content = content_of(file)
    faults: list[Fault] = []
    names, label_of = categories(file, content["categories"])
    sizes, file_names = listed_images(file, content["images"], faults)
    boxes: dict[Any, list[StatedBox]] = defaultdict(list)
    for number, one in enumerate(content["annotations"], start=1):
        try:
            number = one.get("id", number)
            x, y, width, height = map(float, one["bbox"])
            image_id, category = one["image_id"], one["category_id"]
            label = label_of.get(category) or f"category {category}"
            area = float(one.get("area") or math.nan)
            known = image_id in file_names
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            faults.append(malformed(file, f"annotation {number}", one, "bbox, image_id and category_id"))
            continue
        if not known:
            value = f"annotation {number}: no image has the id {image_id!r}"
            faults.append(Fault("no picture", str(file), value, "left out"))
            continue
        difficult, crowd = bool(one.get("ignore")), bool(one.get("iscrowd"))
        box_xyxy = (x, y, x + width, y + height)
        boxes[image_id].append(StatedBox(number, label, box_xyxy, difficult, crowd, area))

    pictures = [
        StatedPicture(path, str(path), size, boxes[image_id])
        for image_id, (path, size) in found_pictures(file, file_names, sizes, images, faults).items()
    ]
    return StatedPart(pictures, names, faults)


def found_pictures(
    file: Path,
    file_names: Mapping[Any, str],
    sizes: Mapping[Any, tuple[int, int] | None],
    images: Path | None,
    faults: list[Fault],
) -> dict[Any, tuple[Path, tuple[int, int]]]:
    """The file, height and width of each picture by its id. Those that are missing are added to `faults`."""
    folder = _picture_folder(file, list(file_names.values()), images)
    found: dict[Any, tuple[Path, tuple[int, int]]] = {}
    for image_id, name in file_names.items():
        path = _picture(folder, name)
        if path is None:
            faults.append(Fault("no picture", str(file), f"{name} is not in {folder}", "left out"))
            continue
        try:
            found[image_id] = path, sizes[image_id] or image.size(path)
        except Error as error:
            faults.append(Fault("unreadable", str(path), str(error), "left out"))
    return found


def content_of(file: Path) -> Mapping[str, list[Any]]:
    """The whole file, whose three lists are lists. Raises `DatasetError`."""
    content = json_text.read(file, error=DatasetError, surrogates=True)
    for key in _LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(f"{file} is no COCO data set: a list {key!r} is expected in it beside {_others(key)}")
    return content


def _others(key: str) -> str:
    return " and ".join(repr(other) for other in _LISTS if other != key)


def categories(file: Path, categories: Sequence[Any]) -> tuple[tuple[str, ...], Mapping[Any, str]]:
    """The names of the classes in the order of their ids, and the name by id. Raises `DatasetError`."""
    try:
        label_of = {int(one["id"]): str(one["name"]) for one in categories}
    except (KeyError, OverflowError, TypeError, ValueError):
        raise DatasetError(f"{file}: a category without an id (a whole number) or a name: give each both") from None
    if len(label_of) < len(categories):
        raise DatasetError(f"{file}: two categories have the same id: give each its own")
    if not label_of:
        raise DatasetError(f"{file} has no categories: list the classes in it")
    return tuple(dict.fromkeys(label_of[i] for i in sorted(label_of))), label_of


def listed_images(
    file: Path, images: Sequence[Any], faults: list[Fault]
) -> tuple[Mapping[Any, tuple[int, int] | None], Mapping[Any, str]]:
    """Height and width, where they are stated, and file name by id."""
    sizes: dict[Any, tuple[int, int] | None] = {}
    names: dict[Any, str] = {}
    for number, one in enumerate(images, start=1):
        try:
            key, name = one["id"], one["file_name"].replace("\\", "/")
            height, width = int(one.get("height") or 0), int(one.get("width") or 0)
            twice = key in names
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            faults.append(malformed(file, f"image {number}", one, "id and file_name"))
            continue
        if twice:
            faults.append(Fault("malformed", str(file), f"image {number}: the id {key!r} is taken", "left out"))
            continue
        names[key], sizes[key] = name, stated_size(height, width)
    if not names:
        raise DatasetError(f"{file} lists no images: each needs an id and a file_name")
    return sizes, names


def malformed(file: Path, what: str, found: object, expected: str) -> Fault:
    return Fault("malformed", str(file), f"{what}: {expected} are expected, got {quoted(found)}", "left out")


def _picture(folder: Path, name: str) -> Path | None:
    """`name` may have folders before it that are not below `folder`."""
    for path in (folder / name, folder / Path(name).name):
        if os.path.isfile(path):
            return path
    return None


def _picture_folder(file: Path, names: Sequence[str], images: Path | None) -> Path:
    """The folder that holds most of the first pictures."""
    tried = [images] if images is not None else _candidates(file)
    hits = [sum(_picture(folder, name) is not None for name in names[:_TRIED]) for folder in tried]
    best = tried[hits.index(max(hits))]
    if not max(hits) and not any(_picture(best, name) for name in names):
        raise DatasetError(
            f"{file}: none of its {len(names)} pictures ({names[0]} ...) was found in {some([str(f) for f in tried])}: "
            "name their folder with --images"
        )
    return best


def _candidates(file: Path) -> list[Path]:
    """The file's folder and the one above, in each a folder of pictures or of the same part."""
    part = part_in(file.stem)
    found: list[Path] = []
    for base in (file.parent, file.parent.parent):
        inner = entries(base)[0]
        pictures = [folder for folder in inner if folder.name.lower() in _PICTURE_FOLDERS]
        near = [folder for above in (base, *pictures) for folder in entries(above)[0]]
        parts = [folder for folder in near if part is not None and part_in(folder.name) == part]
        found += [base, *pictures, *parts]
    return list(dict.fromkeys(found))


def _json_files(folder: Path) -> list[Path]:
    near = [inner for inner in entries(folder)[0] if inner.name.lower() == "annotations" or part_in(inner.name)]
    return [file for place in (folder, *near) for file in files_with(place, ".json") if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """By the words in it: the file may be hundreds of megabytes."""
    with files.reading(file), open(file, "rb") as opened:
        if not file.stat().st_size:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(f'"{key}"'.encode()) >= 0 for key in _LISTS)


def files_of_parts(folder: Path) -> dict[str, Path]:
    """The file of each part, in the order of `PARTS`, or of "all". Raises `DatasetError` where a part has several."""
    by_part: dict[str, list[Path]] = defaultdict(list)
    for file in _json_files(folder):
        inner = file.parent.name if file.parent != folder else ""
        by_part[part_in(file.stem) or part_in(inner) or "all"].append(file)
    if len(by_part) > 1:
        by_part.pop("all", None)
    parts: dict[str, Path] = {}
    for part, found in by_part.items():
        chosen = found if len(found) == 1 else [file for file in found if file.name.startswith("instances")]
        if len(chosen) != 1:
            which = "" if part == "all" else f" of the {part} split"
            several = some([file.name for file in found])
            raise DatasetError(f"{folder} has several COCO files{which}, {several}: name the one that is meant")
        parts[part] = chosen[0]
    return {part: parts[part] for part in (*PARTS, "all") if part in parts}
