"""Generated pictures: textured shapes on textured backgrounds, with class, boxes and mask, for every task.

The outline alone tells the class: colours, textures, rotation, scale, place, perspective, light and noise
are drawn from the same distributions whatever the class. Letters in names: S side of the picture in pixels,
C cells of a texture, P points of an outline. Object coordinates are in units of S until an outline is drawn.

A 96 px picture takes 1.5 ms with one object and 5 ms with five, and 2.1 ms each when it is written to a set
(median, one thread of a busy two-core 2.8 GHz Xeon with AVX-512, NumPy 2.4, Pillow 13, 11.2026).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mobilenetv2.errors import UsageError

# In alphabetical order, so that folder order and label order are one.
CLASSES: tuple[str, ...] = (
    "arrow", "circle", "crescent", "cross", "heart", "hexagon", "ring", "square", "star", "triangle",
)  # fmt: skip

MIN_SIZE, MAX_SIZE, MAX_OBJECTS = 32, 1024, 5

VERSION = 2  # counts up when the same arguments give other pictures: older sets are not reused then

_SUPERSAMPLING = 4  # outlines are drawn this much larger and averaged down
_CONTRAST = 0.7  # least distance in RGB (0..1 each) between any colour of an object and of its background
# The circle around an object: least and largest radius by the number of objects, in units of S.
_RADII = {1: (0.30, 0.47), 2: (0.17, 0.28), 3: (0.15, 0.25), 4: (0.14, 0.22), 5: (0.13, 0.20)}
_SHRUNK = 0.7  # an object that finds no room shrinks, at most to this share of its least radius
_CLOSENESS = 0.92  # centres are at least this share of the radii's sum apart: below 1, objects may touch

Float32Array = NDArray[np.float32]
UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture with its ground truth.

    `image` is RGB [S, S, 3]; `label` the class of the largest object; `boxes_xyxy` [N, 4] float32, in
    pixels, are the exact bounds of what is seen of each object: x1, y1 its first column and row, x2, y2 one
    past its last; `box_labels` [N] int64; `mask` [S, S] is 0 on the background and class + 1 on an object.
    """

    image: UInt8Array
    label: int
    boxes_xyxy: Float32Array
    box_labels: NDArray[np.int64]
    mask: UInt8Array


def scene(seed: int, index: int, *, size: int = 96, objects: int = 1) -> Scene:
    """Picture number `index` of the series `seed` (0 or larger, both): the same arguments give the same picture.

    Only NumPy's bit stream and plain arithmetic are used per pixel, so machines agree too, save for a value
    that lies on the edge between two roundings. The first object's class is `index % len(CLASSES)`: any
    run of indices is balanced. Another `size` (the side in pixels, 32..1024) is the same scene drawn coarser
    or finer, with other noise. Each of the `objects` (1..5) lies wholly inside the picture, and they overlap
    a little at most. Raises `UsageError` for an argument out of its range.
    """
    check_range("seed", seed, 0)
    check_range("index", index, 0)
    check_range("size", size, MIN_SIZE, MAX_SIZE)
    check_range("objects", objects, 1, MAX_OBJECTS)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))

    box_labels = rng.integers(len(CLASSES), size=objects)
    box_labels[0] = index % len(CLASSES)
    background = _colours(rng, [])
    rgb_3SS = _paint(background, _texture(rng, size))
    owner_SS = np.zeros((size, size), np.uint8)  # 0 background, else object number + 1
    for number, (x, y, radius) in enumerate(_places(rng, objects)):
        coverage_SS = _coverage(rng, CLASSES[box_labels[number]], x, y, radius, size)
        paint_3SS = _paint(_colours(rng, background), _texture(rng, size))
        paint_3SS -= rgb_3SS
        paint_3SS *= coverage_SS * np.float32(1 / 255)
        rgb_3SS += paint_3SS
        owner_SS[coverage_SS >= 128] = number + 1

    seen = [owner_SS == number + 1 for number in range(objects)]
    areas = [np.count_nonzero(mask_SS) for mask_SS in seen]
    return Scene(
        image=_photograph(rng, rgb_3SS),
        label=int(box_labels[np.argmax(areas)]),
        boxes_xyxy=np.array([_bounds(mask_SS) for mask_SS in seen], np.float32),
        box_labels=box_labels,
        mask=np.concatenate([[0], box_labels + 1]).astype(np.uint8)[owner_SS],
    )


def check_range(name: str, value: int, least: int, largest: int | None = None) -> None:
    """Raises `UsageError` where an argument is out of its range."""
    if value < least or (largest is not None and value > largest):
        wanted = f"at least {least}" if largest is None else f"{least} to {largest}"
        raise UsageError(f"{name} must be {wanted}, got {value}")


# ---- where objects lie, what they are painted with


def _places(rng: np.random.Generator, objects: int) -> list[tuple[float, float, float]]:
    """Centre x, y and radius of the circle around each object; a circle that finds no room shrinks."""
    smallest, largest = _RADII[objects]
    places: list[tuple[float, float, float]] = []
    while len(places) < objects:
        radius = float(rng.uniform(smallest, largest))
        while radius >= _SHRUNK * smallest:
            x, y = rng.uniform(radius, 1 - radius, size=2).tolist()
            if all(math.hypot(x - x2, y - y2) >= _CLOSENESS * (radius + radius2) for x2, y2, radius2 in places):
                places.append((x, y, radius))
                break
            radius *= 0.98
        else:
            places = []  # the others leave no room: begin anew
    return places


def _colours(rng: np.random.Generator, others: list[list[float]]) -> list[list[float]]:
    """Two related colours, RGB in 0..1, that each stand out from every one of `others`."""
    while True:
        first = rng.random(3)
        second = np.clip(first + rng.uniform(-0.15, 0.15, size=3), 0, 1)
        pair = [first.tolist(), second.tolist()]
        if all(math.dist(colour, other) >= _CONTRAST for colour in pair for other in others):
            return pair


def _paint(colours: list[list[float]], texture_SS: Float32Array) -> Float32Array:
    """[3, S, S]: the first colour where the texture is 0, the second where it is 1."""
    first, second = np.array(colours, np.float32)[:, :, None, None]
    return (second - first) * texture_SS + first


# ---- textures: [S, S] in 0..1; `along` and `across` are turned coordinates in units of the period


def _stripes(along_SS: Float32Array, across_SS: Float32Array) -> Float32Array:
    return _wave(along_SS) * 4 + 0.5


def _checks(along_SS: Float32Array, across_SS: Float32Array) -> Float32Array:
    return _wave(along_SS) * _wave(across_SS) * 16 + 0.5


def _dots(along_SS: Float32Array, across_SS: Float32Array) -> Float32Array:
    along_SS, across_SS = _from_centre(along_SS), _from_centre(across_SS)
    return 1.7 - along_SS**2 * 12 - across_SS**2 * 12


def _gradient(along_SS: Float32Array, across_SS: Float32Array) -> Float32Array:
    return along_SS * 0.15 + 0.5


_PERIODIC = (_stripes, _checks, _dots, _gradient)


def _texture(rng: np.random.Generator, size: int) -> Float32Array:
    kind = int(rng.integers(len(_PERIODIC) + 1))
    turn, period, phase_along, phase_across = rng.random(4).tolist()
    cells = int(rng.integers(5, 14))
    cells_CC = rng.integers(256, size=(cells, cells), dtype=np.uint8)
    if kind == len(_PERIODIC):  # blotches
        blotches = Image.fromarray(cells_CC).resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(blotches, np.float32) * np.float32(1 / 255)
    x_1S, y_S1 = _grid(size)
    period = 0.08 + 0.17 * period
    cos, sin = math.cos(2 * math.pi * turn) / period, math.sin(2 * math.pi * turn) / period
    along_SS = x_1S * cos + (y_S1 * sin + phase_along)
    across_SS = y_S1 * cos + (phase_across - x_1S * sin)
    return np.clip(_PERIODIC[kind](along_SS, across_SS), 0, 1)


def _wave(x: Float32Array) -> Float32Array:
    """A triangle wave of period 1, -1/2..1/2: a sine could differ between machines in its last digit."""
    distance: Float32Array = np.abs(_from_centre(x))
    return distance * 2 - 0.5


def _from_centre(x: Float32Array) -> Float32Array:
    whole: Float32Array = np.floor(x)
    return x - whole - 0.5


@functools.lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Float32Array, Float32Array]:
    centres = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    return centres[None, :], centres[:, None]


# ---- outlines


def _coverage(rng: np.random.Generator, name: str, x: float, y: float, radius: float, size: int) -> UInt8Array:
    """[S, S]: the share of each pixel that the object covers, 0..255; it stays inside its circle."""
    turn, squeeze, squeeze_turn, tilt_x, tilt_y = rng.random(5).tolist()
    squeeze, tilt_x, tilt_y = 0.8 + 0.2 * squeeze, 0.3 * tilt_x - 0.15, 0.3 * tilt_y - 0.15
    fine = size * _SUPERSAMPLING
    draw = ImageDraw.Draw(canvas := Image.new("L", (fine, fine)))
    scale = None  # what brings the outline's farthest point to the circle
    for points_P2 in _outlines()[name]:
        points_P2 = _turned(points_P2, 2 * math.pi * turn)
        points_P2 = _turned(points_P2 * (squeeze, 1.0), math.pi * squeeze_turn)
        depth_P = 1 + points_P2[:, 0] * tilt_x + points_P2[:, 1] * tilt_y
        points_P2 = points_P2 / depth_P[:, None]
        fill = 255 if scale is None else 0
        scale = scale or radius / np.hypot(points_P2[:, 0], points_P2[:, 1]).max()
        points_P2 = (points_P2 * scale + (x, y)) * fine
        draw.polygon([(int(px), int(py)) for px, py in points_P2.tolist()], fill=fill)
    return np.asarray(canvas.reduce(_SUPERSAMPLING))


def _turned(points_P2: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = points_P2[:, 0], points_P2[:, 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


@functools.cache
def _outlines() -> dict[str, list[NDArray[np.float64]]]:
    """Per class an outline [P, 2] in the unit circle, y down; for two of them another that is cut out of it."""
    angle = 2 * np.pi * np.arange(64) / 64
    circle = _regular(64)
    heart_x = 16 * np.sin(angle) ** 3
    heart_y = 5 * np.cos(2 * angle) + 2 * np.cos(3 * angle) + np.cos(4 * angle) - 13 * np.cos(angle) - 2.5
    heart = np.stack([heart_x, heart_y], axis=1) / 17
    star = _regular(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
    arrow = [(1, 0), (0.1, -0.85), (0.1, -0.3), (-0.95, -0.3), (-0.95, 0.3), (0.1, 0.3), (0.1, 0.85)]
    corner = np.array([(1, -0.3), (1, 0.3), (0.3, 0.3)])
    cross = np.concatenate([_turned(corner, quarter * math.pi / 2) for quarter in range(4)])
    return {
        "arrow": [np.array(arrow)],
        "circle": [circle],
        "crescent": [circle, circle * 0.85 + (0.5, 0)],
        "cross": [cross],
        "heart": [heart],
        "hexagon": [_regular(6)],
        "ring": [circle, circle * 0.55],
        "square": [_regular(4)],
        "star": [star],
        "triangle": [_regular(3)],
    }


def _regular(corners: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _bounds(mask_SS: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask_SS.any(axis=0)), np.flatnonzero(mask_SS.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _photograph(rng: np.random.Generator, rgb_3SS: Float32Array) -> UInt8Array:
    """[S, S, 3]: under a light of some strength that falls off to one side, with noise."""
    strength, fall, turn, noise = rng.random(4).tolist()
    x_1S, y_S1 = _grid(rgb_3SS.shape[-1])
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    strength, fall = 0.7 + 0.3 * strength, 0.3 * fall
    light_SS = x_1S * (cos * fall) + (y_S1 * (sin * fall) + strength)
    levels_3SS = rng.integers(256, size=rgb_3SS.shape, dtype=np.uint8).astype(np.float32)
    levels_3SS -= 127.5
    levels_3SS *= 0.1 * noise
    levels_3SS += rgb_3SS * (light_SS * 255)
    np.clip(levels_3SS, 0, 255, out=levels_3SS)
    return np.stack(list(levels_3SS.astype(np.uint8)), axis=-1)
