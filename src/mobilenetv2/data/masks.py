"""Masks in picture files: what each value or colour means, and the classes of a file's pixels.

H W are those of the mask. A class mask is uint8 [H, W]: the index of a class, or 255 where a pixel does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.data.folders import some
from mobilenetv2.errors import DatasetError, ImageError
from mobilenetv2.segmentation_metrics import IGNORE

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]  # colours, as packed RGB
ClassArray = npt.NDArray[np.int16]  # of large masks every byte a pixel counts
Colour = tuple[int, int, int]

BACKGROUND = "background"  # the name of the class of what is nothing in particular, where data has one
UNKNOWN = -1

_GREYS: IntArray = np.arange(256, dtype=np.int32) * 0x010101
_AT_ONCE = 1 << 20  # pixels whose colours are looked up: that takes 17 bytes each


@dataclass(frozen=True, slots=True)
class Coding:
    """What masks mean: the class (or `IGNORE`) of each value, and of each colour where they have any."""

    values: Mapping[int, int]
    colours: Mapping[Colour, int]

    def classes(self, stated: StatedMask) -> ClassArray:
        """[H, W]: the class of each pixel, `IGNORE`, or `UNKNOWN`.

        Where both values and colours have a meaning, the reading counts that leaves fewer pixels unknown; of equal ones
        the colours'.
        """
        of_colour = {_packed(key): index for key, index in self.colours.items()}
        if stated.values is None:
            return _looked_up(stated.colours, of_colour)
        table = np.full(256, UNKNOWN, np.int16)
        table[list(self.values)] = list(self.values.values())
        readings = [table[stated.values]]
        if of_colour:
            readings.insert(0, _looked_up(stated.colours, of_colour)[stated.values])
        return min(readings, key=lambda found: int((found == UNKNOWN).sum()))


@dataclass(frozen=True, slots=True, eq=False)
class StatedMask:
    """A mask as its file has it. `values` are [H, W], and `colours` [256] the colour of each, as packed RGB; or there
    are no values, and the colours are those of the pixels, [H, W]."""

    values: UInt8Array | None
    colours: IntArray


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask's file, and what its values or colours mean."""

    path: Path
    coding: Coding

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> UInt8Array:
        """[H, W]: the class of each pixel, or `IGNORE`.

        Raises as `read_mask` does, and `DatasetError` where a value or colour has no meaning.
        """
        stated = read_mask(self.path)
        found_HW = self.coding.classes(stated)
        if (found_HW == UNKNOWN).any():
            raise DatasetError(f"{self.path}: {self._unknown(stated, found_HW)}")
        return found_HW.astype(np.uint8)

    def _unknown(self, stated: StatedMask, found_HW: ClassArray) -> str:
        lost_HW = found_HW == UNKNOWN
        pixels = f"{int(lost_HW.sum()):,} pixels"
        if stated.values is not None:
            values = np.unique(stated.values[lost_HW]).tolist()
            which, these = ("value", "is") if len(values) == 1 else ("values", "are")
            return (
                f"{which} {some([str(v) for v in values])} ({pixels}) {these} none of the {self.values_count} classes"
            )
        colours = np.unique(stated.colours[lost_HW]).tolist()
        names = some([f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in colours], 3)
        if not self.coding.colours:
            return f"is coloured ({names}): say what colours mean, a line `name red green blue` each, with --classes"
        which, these = ("colour", "is") if len(colours) == 1 else ("colours", "are")
        return f"{which} {names} ({pixels}) {these} none of those in the list of classes"

    @property
    def values_count(self) -> int:
        return len({index for index in self.coding.values.values() if index != IGNORE})


def read_mask(path: Path) -> StatedMask:
    """The values of a mask's file, or its colours. A coloured picture that has no colours but greys has values.

    Raises `FileError`, `ImageError` where it is damaged, and `DatasetError` where it is a JPEG or has more than 256
    values.
    """
    with image.stored(path) as picture:
        if picture.format == "JPEG":
            raise DatasetError(f"{path} is a JPEG, which changes a mask's values: masks are PNG files")
        mode = picture.mode
        if mode in ("1", "L"):
            return StatedMask(np.asarray(picture).astype(np.uint8), _GREYS)
        if mode == "P":
            palette = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
            colours = np.full(256, UNKNOWN, np.int32)
            colours[: len(palette)] = _packed_all(palette)
            return StatedMask(np.asarray(picture), colours)
        if mode in ("LA", "PA"):
            return StatedMask(np.ascontiguousarray(np.asarray(picture)[..., 0]), _GREYS)
        if mode.startswith("I"):
            wide_HW = np.asarray(picture)
            if not 0 <= wide_HW.min() <= wide_HW.max() <= 255:
                raise DatasetError(f"{path} has the value {wide_HW.max()}: at most 255 is expected, 8 bits a pixel")
            return StatedMask(wide_HW.astype(np.uint8), _GREYS)
        if mode not in ("RGB", "RGBA"):
            raise ImageError(f"{path} has pixels of kind {mode}: a mask has 8 bits a pixel, or colours (RGB)")
        if all((rgb_hW3 == rgb_hW3[..., :1]).all() for _, rgb_hW3 in _strips(picture)):
            values_HW = np.empty((picture.height, picture.width), np.uint8)
            for rows, rgb_hW3 in _strips(picture):
                values_HW[rows] = rgb_hW3[..., 0]
            return StatedMask(values_HW, _GREYS)
        colours_HW = np.empty((picture.height, picture.width), np.int32)
        for rows, rgb_hW3 in _strips(picture):
            colours_HW[rows] = _packed_all(rgb_hW3)
        return StatedMask(None, colours_HW)


def _strips(picture: Image.Image) -> Iterator[tuple[slice, UInt8Array]]:
    """The rows of a coloured picture, some at a time, [h, W, 3]: as a whole its array would be one more copy of it."""
    height = max(1, _AT_ONCE // picture.width)
    for top in range(0, picture.height, height):
        rows = slice(top, min(top + height, picture.height))
        yield rows, np.asarray(picture.crop((0, rows.start, picture.width, rows.stop)))[..., :3]


def _packed(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _packed_all(rgb: UInt8Array) -> IntArray:
    """[...] from [..., 3]."""
    packed = rgb[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed <<= 8
        packed |= rgb[..., channel]
    return packed


def _looked_up(colours: IntArray, index_of: Mapping[int, int]) -> ClassArray:
    found = np.full(colours.shape, UNKNOWN, np.int16)
    if not index_of:
        return found
    keys_K = np.array(sorted(index_of), np.int32)
    indices_K = np.array([index_of[int(key)] for key in keys_K], np.int16)
    flat, flat_colours = found.reshape(-1), colours.reshape(-1)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat_colours[start : start + _AT_ONCE]
        places = np.minimum(np.searchsorted(keys_K, part), len(keys_K) - 1)
        np.copyto(flat[start : start + _AT_ONCE], indices_K[places], where=keys_K[places] == part)
    return found


def voc_colours(count: int) -> tuple[Colour, ...]:
    """The first colours of Pascal VOC's palette, which most tools write; number 255 is its cream for the ignored."""
    colours: list[Colour] = []
    for number in range(count):
        channels = [0, 0, 0]
        for place in range(8):  # three bits of the number, the lowest first, become the highest bit of each channel
            for channel in range(3):
                channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
