"""Pictures made of photos and answers: answers below a photo, boxes on it, contact sheets.

Sizes in pixels. Text is Pillow's own font, which knows Latin, Greek and Cyrillic letters; others come out as boxes
there, while text and JSON carry them.
"""

from __future__ import annotations

import colorsys
import functools
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mobilenetv2 import files
from mobilenetv2.errors import UsageError

UInt8Array = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (240, 242, 245)
FAINT: Colour = (172, 178, 188)
TRACK: Colour = (52, 57, 67)
BAR: Colour = (77, 171, 247)
RIGHT: Colour = (64, 192, 87)
WRONG: Colour = (250, 82, 82)

PHOTO_SIDES = (480, 960)  # the longer side of a drawn photo: least and largest
BOXES_SIDES = (480, 1600)  # the same where boxes are drawn on it, which may be small
PANEL_WIDTH = 400  # a narrower photo is centred above a panel of this width
TILE = 192  # side of a contact sheet's thumbnails


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture of a contact sheet, RGB [H, W, 3], with lines of text below it.

    `right` colours its edge: green where it is True, red where it is False, none where it is None.
    """

    rgb: UInt8Array
    lines: tuple[str, ...]
    right: bool | None = None


def photo_with_bars(rgb: UInt8Array, rows: Sequence[tuple[str, float, str]], *, title: str = "") -> UInt8Array:
    """`rgb` [H, W, 3] above one line per row: (label, share 0..1 of a full bar, text at its end).

    The photo's longer side becomes 480 to 960 pixels, its proportions stay. Labels that are too long end in
    "…". Raises `UsageError` where `rgb` is not uint8 [H, W, 3].
    """
    photo = _scaled(rgb, *PHOTO_SIDES)
    width = max(photo.width, PANEL_WIDTH)
    size = min(max(round(width / 38), 15), 24)
    font, row_height, pad = _font(size), round(1.7 * size), round(0.8 * size)
    lines = len(rows) + bool(title)
    canvas = Image.new("RGB", (width, photo.height + 2 * pad + lines * row_height), PAPER)
    canvas.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)

    y = photo.height + pad + row_height // 2  # the middle of the first line
    if title:
        draw.text((pad, y), fitted(title, font, width - 2 * pad), INK, font, anchor="lm")
        y += row_height
    ends = max((font.getlength(end) for _, _, end in rows), default=0.0)
    label_width = round(0.56 * width) - pad
    left, right = pad + label_width + pad, round(width - pad - ends - pad)
    for i, (label, share, end) in enumerate(rows):
        ink = INK if i == 0 else FAINT
        draw.text((pad, y), fitted(label, font, label_width), ink, font, anchor="lm")
        half = max(3, size // 5)
        draw.rectangle((left, y - half, right, y + half), TRACK)
        if filled := round(min(max(share, 0.0), 1.0) * (right - left)):
            draw.rectangle((left, y - half, left + filled, y + half), BAR)
        draw.text((width - pad, y), end, ink, font, anchor="rm")
        y += row_height
    return np.asarray(canvas)


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the photo (left, top, right, bottom), with a line of text on it where there is any."""

    xyxy: tuple[float, float, float, float]
    colour: Colour
    text: str = ""


def photo_with_boxes(
    rgb: UInt8Array, found: Sequence[Box], *, title: str = "", sides: tuple[int, int] = BOXES_SIDES
) -> UInt8Array:
    """`rgb` [H, W, 3] with boxes drawn on it, the first on top; `title` is a line below.

    The photo's longer side becomes one of `sides`, the least and the largest, its proportions stay; a photo too narrow
    for a label gets dark space beside or below it. A label lies above its box, in it or below it, where no earlier
    label is, and within the picture. Raises `UsageError` where `rgb` is not uint8 [H, W, 3].
    """
    photo = _scaled(rgb, *sides)
    size = min(max(round(max(photo.size) / 50), 13), 24)
    font, line, pad = _font(size), round(1.4 * size), round(0.3 * size)
    width, height = photo.size
    if any(box.text for box in found):
        width, height = max(width, 10 * size), max(height, line)
    canvas = Image.new("RGB", (width, height + (2 * line if title else 0)), PAPER)
    canvas.paste(photo, (0, 0))
    draw = ImageDraw.Draw(canvas)
    across, down = photo.width / rgb.shape[1], photo.height / rgb.shape[0]
    corners = [
        (round(left * across), round(top * down), round(right * across) - 1, round(bottom * down) - 1)
        for left, top, right, bottom in (box.xyxy for box in found)
    ]
    thick = max(2, round(max(photo.size) / 320))
    for box, corner in reversed(list(zip(found, corners, strict=True))):
        _outline(draw, corner, box.colour, thick)
    labelled = [(box, corner) for box, corner in zip(found, corners, strict=True) if box.text]
    texts = [fitted(box.text, font, width - 2 * pad) for box, _ in labelled]
    places: list[tuple[int, int, int, int]] = []
    for (_, corner), text in zip(labelled, texts, strict=True):
        label = (round(font.getlength(text)) + 2 * pad, line)
        places.append(_label_place(corner, label, (width, height), places))
    for (box, _), text, (left, top, right, bottom) in reversed(list(zip(labelled, texts, places, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), box.colour)
        draw.text((left + pad, (top + bottom) // 2), text, _readable_on(box.colour), font, anchor="lm")
    if title:
        draw.text((pad, height + line), fitted(title, font, width - 2 * pad), INK, font, anchor="lm")
    return np.asarray(canvas)


def colour_of(kind: int) -> Colour:
    """A strong colour for each number from 0 up: 20 that differ well, then 20 between them, and so on."""
    slot = 7 * kind % 20  # numbers that follow each other are far apart on the colour wheel; its neighbours alternate
    saturation, value = ((0.85, 1.0), (0.9, 0.65))[slot % 2]
    red, green, blue = colorsys.hsv_to_rgb(slot / 20 + kind // 20 % 4 / 80, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def painted(names: Sequence[str]) -> list[tuple[int, Colour]]:
    """The classes that are painted on a photo, each with its colour: all but the one called "background"."""
    return [(i, colour_of(i)) for i, name in enumerate(names) if name != "background"]


def photo_with_mask(
    rgb: UInt8Array, mask_HW: UInt8Array, names: Sequence[str], *, sides: tuple[int, int], ignore: int = 255
) -> UInt8Array:
    """`rgb` [H, W, 3] with each class of the mask [H, W] in its colour, between dark lines; `names` are the classes.

    The photo's longer side becomes one of `sides`, the least and the largest. Classes that are not `painted` are left
    as they are; what is `ignore` becomes paler. Raises `UsageError` where the mask is of another size.
    """
    if rgb.shape != (*mask_HW.shape, 3):
        raise UsageError(f"the mask has {list(mask_HW.shape)} pixels, the picture {list(rgb.shape[:2])}")
    photo = _scaled(rgb, *sides)
    rgb = np.asarray(photo)
    mask_HW = np.asarray(Image.fromarray(mask_HW).resize(photo.size, Image.Resampling.NEAREST))
    colours_L3 = np.full((256, 3), 255, np.float32)
    weights_L1 = np.full((256, 1), 0.6, np.float32)
    weights_L1[: len(names)] = 0
    for i, colour in painted(names):
        colours_L3[i], weights_L1[i] = colour, 0.6
    weights_L1[ignore] = 0.5
    weights_HW1 = weights_L1[mask_HW]
    mixed = rgb * (1 - weights_HW1) + colours_L3[mask_HW] * weights_HW1
    edge_HW = np.zeros(mask_HW.shape, bool)
    edge_HW[:, 1:] = mask_HW[:, 1:] != mask_HW[:, :-1]
    edge_HW[1:] |= mask_HW[1:] != mask_HW[:-1]
    mixed[edge_HW] = PAPER
    return mixed.round().astype(np.uint8)


def with_legend(rgb: UInt8Array, legend: Sequence[tuple[Colour, str]], *, title: str = "") -> UInt8Array:
    """A picture [H, W, 3] above lines of `legend`, a patch of colour and its text each, and of `title`; itself where
    there are none."""
    if not legend and not title:
        return rgb
    photo = Image.fromarray(rgb)
    size = min(max(round(max(photo.size) / 50), 15), 24)
    font, line, pad = _font(size), round(1.7 * size), round(0.8 * size)
    width = max(photo.width, PANEL_WIDTH)
    texts = [fitted(text, font, width - 3 * pad - size) for _, text in legend]
    widths = [round(font.getlength(text)) + size + 3 * pad for text in texts]
    places: list[tuple[int, int]] = []
    x, y = pad, photo.height + pad
    for one in widths:
        if x > pad and x + one > width:
            x, y = pad, y + line
        places.append((x, y))
        x += one
    below = (y + line if legend else photo.height + pad) + (line if title else 0) + pad
    canvas = Image.new("RGB", (width, below), PAPER)
    canvas.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for (colour, _), text, (left, top) in zip(legend, texts, places, strict=True):
        edge = top + (line - size) // 2
        draw.rectangle((left, edge, left + size - 1, edge + size - 1), colour)
        draw.text((left + size + pad // 2, top + line // 2), text, INK, font, anchor="lm")
    if title:
        draw.text(
            (pad, canvas.height - pad - line // 2), fitted(title, font, width - 2 * pad), FAINT, font, anchor="lm"
        )
    return np.asarray(canvas)


def thumbnail(rgb: UInt8Array) -> UInt8Array:
    """`rgb` as a contact sheet shows it, for those who collect many tiles: its longer side is 192 pixels."""
    return np.asarray(_scaled(rgb, TILE, TILE))


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6, cell: tuple[int, int] = (TILE, TILE)) -> UInt8Array:
    """The tiles in rows of `columns`, in order, each picture as large as fits into a `cell` (width, height). Raises
    `UsageError` where there is none."""
    if not tiles or columns < 1:
        raise UsageError(f"a contact sheet needs pictures and columns, got {len(tiles)} and {columns}")
    font, gap, edge, line = _font(15), 12, 5, 20
    columns = min(columns, len(tiles))
    width, height = cell[0], cell[1] + edge + line * max(len(tile.lines) for tile in tiles)
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + gap)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, tile in enumerate(tiles):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + gap)
        photo = _within(tile.rgb, cell)
        canvas.paste(photo, (x + (width - photo.width) // 2, y + (cell[1] - photo.height) // 2))
        below = y + cell[1]
        if tile.right is not None:
            draw.rectangle((x, below, x + width - 1, below + edge - 1), RIGHT if tile.right else WRONG)
        for j, text in enumerate(tile.lines):
            place = (x, below + edge + j * line + line // 2)
            draw.text(place, fitted(text, font, width), FAINT if j else INK, font, anchor="lm")
    return np.asarray(canvas)


def side_by_side(left: UInt8Array, right: UInt8Array) -> UInt8Array:
    """Two pictures as one, with a dark line of 8 pixels between them; the lower one's rest is dark too."""
    height, width = max(left.shape[0], right.shape[0]), left.shape[1] + 8 + right.shape[1]
    both = np.full((height, width, 3), PAPER, np.uint8)
    both[: left.shape[0], : left.shape[1]] = left
    both[: right.shape[0], width - right.shape[1] :] = right
    return both


def write_png(path: str | os.PathLike[str], rgb: UInt8Array) -> None:
    """Write uint8 RGB [H, W, 3] as a PNG, atomically. Raises `FileError`."""
    with files.writing(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="png")


def jpeg(rgb: UInt8Array) -> bytes:
    """uint8 RGB [H, W, 3] as a JPEG file's bytes: a thumbnail takes about 8 KB, a tenth of its PNG."""
    written = io.BytesIO()
    Image.fromarray(rgb).save(written, format="jpeg", quality=85, optimize=True)
    return written.getvalue()


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """`text` on one line, at most `width` pixels wide: cut, with "…" at its end, where it is longer."""
    text = " ".join(text[:4000].split())  # more of it fits nowhere, and measuring megabytes would take minutes
    if font.getlength(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def _scaled(rgb: UInt8Array, least: int, largest: int) -> Image.Image:
    """The picture with its longer side within `least` to `largest`."""
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise UsageError(f"a picture to draw on must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    photo = Image.fromarray(rgb)
    longer = max(photo.size)
    target = min(max(longer, least), largest)
    if target == longer:
        return photo
    width, height = (max(1, round(side * target / longer)) for side in photo.size)
    if target > longer:
        return photo.resize((width, height), Image.Resampling.BICUBIC)
    # a box filter first halves the time for 6000 x 4000: 0.55 -> 0.28 s
    return photo.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _within(rgb: UInt8Array, cell: tuple[int, int]) -> Image.Image:
    """The picture as large as fits into a cell (width, height)."""
    height, width = rgb.shape[:2]
    longer = round(max(width, height) * min(cell[0] / width, cell[1] / height))
    return _scaled(rgb, longer, longer)


def _outline(draw: ImageDraw.ImageDraw, corner: tuple[int, int, int, int], colour: Colour, thick: int) -> None:
    """A box's edge, with a dark line on both sides of it, so that it shows on its own colour too."""
    left, top, right, bottom = corner
    right, bottom = max(left, right), max(top, bottom)
    for inset, ink, width in ((-1, PAPER, thick + 2), (0, colour, thick)):
        edge = (left + inset, top + inset, max(right - inset, left + inset), max(bottom - inset, top + inset))
        draw.rectangle(edge, None, ink, width)


def _label_place(
    corner: tuple[int, int, int, int],
    label: tuple[int, int],
    canvas: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Where a label of (width, height) goes on the canvas: the first free place, else the first that is within it."""
    left, top, _, bottom = corner
    x = min(max(left, 0), canvas[0] - label[0])
    lines = [top - label[1], top, bottom + 1]
    lines += [top + side * n * label[1] for side in (1, -1) for n in range(1, 6)]
    places = [(x, y, x + label[0], y + label[1]) for y in lines]
    within = [place for place in places if place[1] >= 0 and place[3] <= canvas[1]]
    if not within:
        y = min(max(top, 0), canvas[1] - label[1])
        within = [(x, y, x + label[0], y + label[1])]
    free = (p for p in within if not any(p[0] < t[2] and t[0] < p[2] and p[1] < t[3] and t[1] < p[3] for t in taken))
    return next(free, within[0])


def _readable_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (WCAG's relative luminance: equal contrast is at 0.18)."""
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
