"""Small data sets of pictures with masks, written in each of the forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("background", "cat", "dog")


def mask_of(*rows: str) -> np.ndarray:
    """ "0011", "0.." as a mask: digits are classes, a dot is 255."""
    return np.array([[255 if letter == "." else int(letter) for letter in row] for row in rows], np.uint8)


# In each there is a cat or a dog; together they have every class, and something to ignore.
MASKS: Mapping[str, np.ndarray] = {
    "a": mask_of("000000", "011100", "011.00", "000000"),
    "b": mask_of("0000", "2222", "22..", "2222", "0000"),
    "c": mask_of("0012", "0012", "0012"),
}


def write_picture(path: Path, mask_HW: np.ndarray, seed: int = 0) -> None:
    """Random colours of the mask's size, the same for the same size and seed."""
    rng = np.random.default_rng([seed, *mask_HW.shape])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*mask_HW.shape, 3), dtype=np.uint8)).save(path)


def write_mask(path: Path, mask_HW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask_HW).save(path)


def write_voc(folder: Path, lists: Mapping[str, str] | None = None) -> Path:
    """VOC's folders with palette masks of VOC's first classes; `lists` are the names in each list."""
    for name, mask_HW in MASKS.items():
        write_picture(folder / "JPEGImages" / f"{name}.png", mask_HW)
        indexed = Image.fromarray(mask_HW)
        indexed.putpalette(list(range(256)) * 3, "RGB")
        (folder / "SegmentationClass").mkdir(exist_ok=True)
        indexed.save(folder / "SegmentationClass" / f"{name}.png")
    for part, names in (lists or {}).items():
        file = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names.split()) + "\n")
    return folder


def write_folders(folder: Path, *, images: str = "images", masks: str = "masks", ending: str = "") -> Path:
    """A folder of pictures, one of masks, and classes.txt."""
    for name, mask_HW in MASKS.items():
        write_picture(folder / images / f"{name}.png", mask_HW)
        write_mask(folder / masks / f"{name}{ending}.png", mask_HW)
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def coco_json() -> dict[str, list[dict]]:
    """`MASKS` as one object for each class and picture, and one for what is ignored, a crowd."""
    annotations: list[dict] = []
    for image_id, mask_HW in enumerate(MASKS.values(), start=1):
        for value in np.unique(mask_HW[mask_HW > 0]).tolist():
            runs = run_lengths(mask_HW == value)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 10 * (1 if value == 255 else value),
                    "segmentation": {"size": list(mask_HW.shape), "counts": runs},
                    "iscrowd": int(value == 255),
                    "bbox": [0, 0, 1, 1],
                    "area": 1,
                }
            )
    images = [
        {"id": i, "file_name": f"{name}.png", "height": mask_HW.shape[0], "width": mask_HW.shape[1]}
        for i, (name, mask_HW) in enumerate(MASKS.items(), start=1)
    ]
    categories = [{"id": 10, "name": "cat"}, {"id": 20, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def run_lengths(inside_HW: np.ndarray) -> list[int]:
    """Down the columns, the first run outside."""
    lengths, inside = [0], False
    for pixel in inside_HW.T.reshape(-1).tolist():
        if pixel != inside:
            lengths.append(0)
            inside = pixel
        lengths[-1] += 1
    return lengths


def write_coco(folder: Path) -> Path:
    for name, mask_HW in MASKS.items():
        write_picture(folder / "images" / f"{name}.png", mask_HW)
    (folder / "annotations.json").write_text(json.dumps(coco_json()))
    return folder
