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


@dataclass(frozen=True, slots=True)
class Mark:
    """A box on a photo, x1, y1, x2, y2 in the photo's pixels, with its text where there is any."""

    box_xyxy: tuple[float, float, float, float]
    colour: Colour
    text: str = ""


def colour_of(index: int) -> Colour:
    """A colour for a class: neighbours in number are far apart in hue."""
    hue = (0.58 + index * 0.618034) % 1  # the golden ratio spreads any number of them
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if index % 2 else 0.55, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def with_boxes(rgb: UInt8Array, marks: Sequence[Mark], *, sides: tuple[int, int] = PHOTO_SIDES) -> UInt8Array:
    """`rgb` [H, W, 3] with boxes drawn on it; its longer side becomes one of `sides`, the least and the largest.

    Later marks lie over earlier ones. Text stands on the upper edge of its box, inside the photo.
    """
    photo = _scaled(rgb, *sides)
    scale_x, scale_y = photo.width / rgb.shape[1], photo.height / rgb.shape[0]
    longer = max(photo.size)
    line, font = max(1, round(longer / 240)), _font(min(max(round(longer / 45), 11), 20))
    draw = ImageDraw.Draw(photo)
    for mark in marks:
        x1, y1, x2, y2 = mark.box_xyxy
        left, top = round(x1 * scale_x), round(y1 * scale_y)
        right, bottom = max(round(x2 * scale_x) - 1, left), max(round(y2 * scale_y) - 1, top)
        draw.rectangle((left, top, right, bottom), outline=mark.colour, width=line)
        if mark.text:
            text = fitted(mark.text, font, photo.width)
            _, _, width, height = font.getbbox(text)
            x = min(max(left, 0), max(photo.width - round(width) - 4, 0))
            y = min(max(top - round(height) - 4, 0), max(photo.height - round(height) - 4, 0))
            draw.rectangle((x, y, x + width + 4, y + height + 4), fill=mark.colour)
            draw.text((x + 2, y + 2), text, PAPER, font)
    return np.asarray(photo)


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


def thumbnail(rgb: UInt8Array) -> UInt8Array:
    """`rgb` as a contact sheet shows it, for those who collect many tiles: its longer side is 192 pixels."""
    return np.asarray(_scaled(rgb, TILE, TILE))


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6) -> UInt8Array:
    """The tiles in rows of `columns`, in order. Raises `UsageError` where there is none."""
    if not tiles or columns < 1:
        raise UsageError(f"a contact sheet needs pictures and columns, got {len(tiles)} and {columns}")
    font, gap, edge, line = _font(15), 12, 5, 20
    columns = min(columns, len(tiles))
    height = TILE + edge + line * max(len(tile.lines) for tile in tiles)
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (gap + columns * (TILE + gap), gap + rows * (height + gap)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, tile in enumerate(tiles):
        x, y = gap + i % columns * (TILE + gap), gap + i // columns * (height + gap)
        photo = _scaled(tile.rgb, TILE, TILE)
        canvas.paste(photo, (x + (TILE - photo.width) // 2, y + (TILE - photo.height) // 2))
        if tile.right is not None:
            draw.rectangle((x, y + TILE, x + TILE - 1, y + TILE + edge - 1), RIGHT if tile.right else WRONG)
        for j, text in enumerate(tile.lines):
            place = (x, y + TILE + edge + j * line + line // 2)
            draw.text(place, fitted(text, font, TILE), FAINT if j else INK, font, anchor="lm")
    return np.asarray(canvas)


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
    text = " ".join(text.split())
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


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
