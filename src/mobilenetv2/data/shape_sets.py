"""Generated pictures written as data sets: a folder per class, or pictures beside their masks."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mobilenetv2 import files
from mobilenetv2.data.masks import BACKGROUND, IGNORE
from mobilenetv2.data.shapes import CLASSES, MAX_OBJECTS, MAX_SIZE, MIN_SIZE, VERSION, Scene, check_range, scene
from mobilenetv2.errors import FileError, UsageError
from mobilenetv2.segmentation_metrics import boundary

_MARKER = "generated_shapes.json"

Progress = Callable[[int, int], None]  # (done, total)


def write_image_folder(
    folder: str | os.PathLike[str],
    *,
    train: int,
    val: int,
    size: int = 96,
    seed: int = 0,
    replace: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write pictures with one object: `folder/train/<class>/00001.jpg` ... and `folder/val/<class>/...`.

    `train` and `val` count pictures, 10 or more each. Classes are balanced to within one picture; the two
    splits are two series, shared with no other `seed`. The set is built beside `folder` and gets its name when
    it is whole: an interrupted run leaves nothing that looks like one. A whole set that was written with
    the same arguments is kept as it is; one of other arguments is replaced with `replace`, and nothing else ever is.
    `progress(done, total)` is called after each picture, and once with `done == total` for a kept set. Raises
    `UsageError` where an argument is out of its range or `folder` holds something else, and `FileError` where a file
    cannot be written.
    """

    def write(root: Path, split: str, index: int, picture: Scene) -> None:
        file = root / split / CLASSES[picture.label] / f"{index // len(CLASSES) + 1:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.image).save(file, quality=92)

    arguments = {"train": train, "val": val, "size": size, "seed": seed}
    _write_set(Path(folder), arguments, write, "{split}/*/*.jpg", progress, replace=replace)


def write_segmentation_folder(
    folder: str | os.PathLike[str],
    *,
    train: int,
    val: int,
    size: int = 96,
    objects: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write pictures with `objects` (1..5) and their masks: `folder/images/train/00001.jpg` ... with
    `folder/masks/train/00001.png` ..., the same for `val`, and `classes.txt`: background, then the shapes.

    The pixels to both sides of an outline are 255: they do not count, as in Pascal VOC. Everything else is as
    `write_image_folder` says.
    """

    def write(root: Path, split: str, index: int, picture: Scene) -> None:
        mask = np.where(boundary(picture.mask), np.uint8(IGNORE), picture.mask)
        for kind, pixels, suffix in (("images", picture.image, "jpg"), ("masks", mask, "png")):
            file = root / kind / split / f"{index + 1:05}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, quality=92)
        if not index:
            files.write_text(root / "classes.txt", "\n".join((BACKGROUND, *CLASSES)) + "\n")

    check_range("objects", objects, 1, MAX_OBJECTS)
    arguments = {"train": train, "val": val, "size": size, "seed": seed, "objects": objects}
    _write_set(Path(folder), arguments, write, "images/{split}/*.jpg", progress)


def _write_set(
    folder: Path,
    arguments: Mapping[str, int],
    write: Callable[[Path, str, int, Scene], None],
    pattern: str,
    progress: Progress | None,
    *,
    replace: bool = False,
) -> None:
    """`write(root, split, index, scene)` puts one picture into the set; `pattern` finds all of a split's."""
    train, val, size, seed = (arguments[name] for name in ("train", "val", "size", "seed"))
    check_range("train", train, len(CLASSES))
    check_range("val", val, len(CLASSES))
    check_range("size", size, MIN_SIZE, MAX_SIZE)
    check_range("seed", seed, 0)
    made_from = {"version": VERSION, "classes": list(CLASSES), **arguments}
    report = progress or (lambda done, total: None)
    if _holds_anything(folder):
        if _holds_set(folder, made_from, pattern):
            return report(train + val, train + val)
        if not (replace and _holds_only_a_set(folder, pattern)):
            hint = "choose another folder or remove this one"
            raise UsageError(f"{folder} is not empty and holds no complete set of these pictures: {hint}")

    building = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    done = 0
    try:
        for split, count, series in (("train", train, 2 * seed), ("val", val, 2 * seed + 1)):
            for index in range(count):
                write(building, split, index, scene(series, index, size=size, objects=arguments.get("objects", 1)))
                done += 1
                report(done, train + val)
        files.write_text(building / _MARKER, json.dumps(made_from, indent=1) + "\n")
        if replace and (folder / _MARKER).exists():
            shutil.rmtree(folder)  # a set and nothing else, as checked above
        elif folder.exists():
            folder.rmdir()  # empty, as checked above
        building.rename(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)  # nothing is there once it has its name


def _holds_anything(folder: Path) -> bool:
    try:
        return folder.exists() and any(folder.iterdir())
    except NotADirectoryError:
        raise UsageError(f"{folder} is a file: name a folder to write to") from None
    except OSError as error:
        raise FileError(f"{folder} cannot be read: {error.strerror or error}") from None


def _holds_only_a_set(folder: Path, pattern: str) -> bool:
    """Whether there is nothing in it but what a call with any arguments wrote."""
    ours = {folder / _MARKER}
    for split in ("train", "val"):
        ours.update(folder.glob(pattern.format(split=split)))
    return (folder / _MARKER).is_file() and all(file in ours for file in folder.rglob("*") if not file.is_dir())


def _holds_set(folder: Path, made_from: Mapping[str, object], pattern: str) -> bool:
    marker = folder / _MARKER
    try:
        if not marker.is_file() or json.loads(files.read_bytes(marker)) != made_from:
            return False
    except ValueError:  # not JSON
        return False
    return all(len(list(folder.glob(pattern.format(split=split)))) == made_from[split] for split in ("train", "val"))
