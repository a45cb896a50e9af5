"""Which class every pixel of a photo has: decoded from a map of logits, as text, JSON, a mask's file, and drawn."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenetv2 import files, looks, plots, text, upsample
from mobilenetv2.data.masks import BACKGROUND, voc_colours
from mobilenetv2.image import Geometry
from mobilenetv2.looks import BestOnAverage, Look
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.results.scores import not_finite, percent, shown_label
from mobilenetv2.spec import deeplab
from mobilenetv2.upsample import BestClasses, Places

UInt8Array = npt.NDArray[np.uint8]

_COUNTED = 1 << 20  # pixels at a time: bincount makes 8 bytes of each


@dataclass(frozen=True, slots=True)
class Area:
    """One class on a photo. `index` is its value in the mask; where background is the model's first class, that is 0.
    `share` is the part of the photo's pixels that it has, 0..1."""

    index: int
    label: str
    pixels: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The class of every pixel: `mask` is uint8 [H, W], of the photo's own size, and `names` are the classes,
    background among them where the model has one."""

    mask: UInt8Array
    names: tuple[str, ...]

    @property
    def areas(self) -> tuple[Area, ...]:
        """The classes that some pixel has, the largest first; of equal ones the lower index."""
        pixels_L = np.zeros(256, np.int64)
        flat = self.mask.reshape(-1)
        for start in range(0, flat.size, _COUNTED):
            pixels_L += np.bincount(flat[start : start + _COUNTED], minlength=256)
        order = np.argsort(-pixels_L, kind="stable").tolist()
        return tuple(
            Area(i, self.names[i], int(pixels_L[i]), float(pixels_L[i] / self.mask.size)) for i in order if pixels_L[i]
        )

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """One line per class, the largest first: its share of the photo in per cent, its name, its pixels."""
        areas = self.areas
        labels = [shown_label(area.label) for area in areas]
        widest = max(map(len, labels))
        return text.joined(
            f"{percent(area.share):>8}  {label:{widest}}  {area.pixels:>11,} pixels"
            for area, label in zip(areas, labels, strict=True)
        )

    def to_json(
        self,
        *,
        file: str | os.PathLike[str] | None = None,
        mask: str | os.PathLike[str] | None = None,
        run_lengths: bool = False,
    ) -> dict[str, Any]:
        """Plain JSON values: the classes that some pixel has, the largest first. `file`, and `mask`, where the mask
        was written, stand as they are given. `run_lengths` adds to each class "rle", where it is, as COCO has it:
        "size" [height, width] and "counts", packed as pycocotools does."""
        classes: list[dict[str, Any]] = [
            {"index": area.index, "label": area.label, "pixels": area.pixels} for area in self.areas
        ]
        if run_lengths:
            for one in classes:
                one["rle"] = run_length_coded(self.mask == one["index"])
        return {
            **({} if file is None else {"file": os.fspath(file)}),
            "task": "segmentation",
            "classes": classes,
            **({} if mask is None else {"mask": os.fspath(mask)}),
        }

    def draw(self, rgb: UInt8Array, *, title: str = "") -> UInt8Array:
        """The photo [H, W, 3] with each class in its colour and, below it, what the colours mean; `title` is the last
        line.

        The photo's longer side comes out as 480 to 1600 pixels, in its own proportions. A class has the same colour on
        every photo; background has none.
        """
        shown = [area for area in self.areas if area.label != BACKGROUND]
        legend = [(plots.colour_of(area.index), f"{area.label} {percent(area.share)}") for area in shown]
        painted = plots.photo_with_mask(rgb, self.mask, self.names, sides=plots.BOXES_SIDES)
        return plots.with_legend(painted, legend, title=title)

    def save_mask(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as `write_mask` does."""
        write_mask(Path(path), self.mask)


def write_mask(path: Path, mask_HW: UInt8Array) -> None:
    """Write class numbers [H, W] as a PNG with VOC's palette, atomically. Raises `FileError`."""
    picture = Image.fromarray(mask_HW)
    picture.putpalette([level for colour in voc_colours(256) for level in colour], "RGB")
    with files.writing(path) as temporary:
        picture.save(temporary, format="png", optimize=True)


def class_names(info: ModelInfo) -> tuple[str, ...]:
    """What a segmentation model's outputs are called, background where it has one."""
    names = tuple(info.label(i) for i in range(info.classes))
    background = info.spec.head.background
    return (BACKGROUND, *names) if background == "first" else (*names, BACKGROUND) if background == "last" else names


def decode_segmentation(
    raw: Mapping[str, npt.NDArray[np.float32]],
    info: ModelInfo,
    geometry: Geometry,
    *,
    best_classes: BestClasses = upsample.best_classes,
    best_on_average: BestOnAverage = looks.best_on_average,
) -> Segmentation:
    """The class of each pixel of one photo, whose `raw` is {"logits_map": [1, h, w, outputs]}, or several such maps.

    Each pixel's centre is looked for in the input, and there in the map, between whose logits it lies; the largest is
    its class (the first of equals), or that with the largest softmax score on the average of all maps. So a photo that
    was not resized gets what the official evaluation gives: the map resized to the input, then argmax, then the padding
    cut off. Pixels that were cropped away have the class of the nearest one that was not. No value per class and pixel
    is stored. `best_classes` is `upsample`'s and `best_on_average` `looks`'s, or those that give the same, such as the
    engine's.

    Raises `Error` where a map is not finite, and `UsageError` for more than 256 classes.
    """
    found = [look_at(map_1hwL, info, geometry) for map_1hwL in raw.values()]
    if len(found) == 1:
        (one,) = found
        mask_HW = best_classes(one.logits[np.newaxis], one.rows, one.columns)[0]
    else:
        mask_HW = best_on_average(found, (geometry.photo_height, geometry.photo_width))
    return Segmentation(mask_HW, class_names(info))


def look_at(map_1hwL: npt.NDArray[np.float32], info: ModelInfo, geometry: Geometry) -> Look:
    """A map of logits with the places of all the photo's pixels in it. Raises `Error` where it is not finite."""
    assert len(map_1hwL) == 1, map_1hwL.shape
    if not np.isfinite(map_1hwL).all():
        raise not_finite()
    return Look(map_1hwL[0], *photo_places(map_1hwL.shape[1:3], info, geometry))


def photo_places(size: tuple[int, int], info: ModelInfo, geometry: Geometry) -> tuple[Places, Places]:
    """Where the centres of a photo's rows and columns lie in a map of `size` (h, w)."""
    aligned = deeplab.head_of(info.spec).align_corners
    found: list[Places] = []
    for axis, length in ((1, geometry.photo_height), (0, geometry.photo_width)):
        at = (np.arange(length) + 0.5) * geometry.scale[axis] + geometry.offset[axis]  # from the input's edge
        inputs, n = info.preprocessing.size[1 - axis], size[1 - axis]
        found.append(upsample.places(upsample.in_map(at, n, inputs, align_corners=aligned), n))
    return found[0], found[1]


def run_length_coded(inside_HW: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's packed run lengths of the pixels that are True: {"size": [H, W], "counts": text}."""
    from pycocotools import mask

    coded: Any = mask.encode(np.asfortranarray(inside_HW, np.uint8))
    return {"size": list(inside_HW.shape), "counts": coded["counts"].decode()}
