"""However a picture is changed, its boxes stay on their objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.data.detection_augment import (
    SSD,
    Augmentation,
    Scene,
    Window,
    augment,
    cut,
    flip,
    photometric,
    ssd_crop,
    zoom_out,
)
from mobilenetv2.errors import UsageError

GEOMETRY = Augmentation(photometric=False, fill=(0, 0, 0))


def scene_of(height: int, width: int, boxes: list[list[float]], labels: list[int] | None = None) -> Scene:
    """Each box painted in a grey of its own on black; box i has label i unless given."""
    rgb = np.zeros((height, width, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        rgb[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = 40 * (i + 1)
    array = np.array(boxes, np.float64).reshape(-1, 4)
    label = np.arange(len(boxes)) if labels is None else np.array(labels, np.int64)
    return Scene(rgb, array, label, np.zeros(len(boxes), bool))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Up to five boxes, each in a vertical strip of its own, so that none hides another."""
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 240))
    boxes: list[list[float]] = []
    strips = min(5, width)
    for i in range(strips):
        left, right = i * width // strips, (i + 1) * width // strips
        if draw(st.booleans()):
            x1 = draw(st.integers(left, right - 1))
            y1 = draw(st.integers(0, height - 1))
            boxes.append([x1, y1, draw(st.integers(x1 + 1, right)), draw(st.integers(y1 + 1, height))])
    return scene_of(height, width, boxes)


seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


@settings(max_examples=150, deadline=None)
@given(scene=scenes(), size=sizes, seed=seeds)
def test_boxes_stay_inside_have_an_area_and_keep_their_labels(scene: Scene, size: tuple[int, int], seed: int) -> None:
    changed = augment(scene, size, np.random.default_rng(seed))
    assert changed.rgb.shape == (*size, 3)
    assert changed.rgb.dtype == np.uint8
    boxes = changed.boxes_xyxy.astype(np.float32)
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes <= [size[1], size[0], size[1], size[0]]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(boxes) == len(changed.labels) == len(changed.ignored)
    assert set(changed.labels) <= set(scene.labels)


@settings(max_examples=150, deadline=None)
@given(scene=scenes(), seed=seeds)
def test_a_painted_rectangle_stays_under_its_box(scene: Scene, seed: int) -> None:
    # one box at a time: where the filter mixes two greys, none is right
    for i in range(len(scene.labels)):
        x1, y1, x2, y2 = scene.boxes_xyxy[i].astype(int)
        alone = Scene(np.zeros_like(scene.rgb), scene.boxes_xyxy[[i]], scene.labels[[i]], scene.ignored[[i]])
        alone.rgb[y1:y2, x1:x2] = 255
        size = (3 * scene.rgb.shape[0] + 16, 2 * scene.rgb.shape[1] + 16)
        changed = augment(alone, size, np.random.default_rng(seed), GEOMETRY)
        lit = changed.rgb[..., 0] > 127
        if not len(changed.labels):
            continue
        left, top, right, bottom = changed.boxes_xyxy[0]
        assert changed.labels.tolist() == [scene.labels[i]]
        columns, rows = np.flatnonzero(lit.any(axis=0)), np.flatnonzero(lit.any(axis=1))
        if right - left > 3 and bottom - top > 3:
            seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert np.abs(np.array(seen) - changed.boxes_xyxy[0]).max() <= 2


def test_the_whole_window_is_an_ordinary_resize() -> None:
    scene = scene_of(30, 60, [[6, 3, 30, 15]], [7])
    changed = cut(scene, scene.window, (60, 30))
    assert changed.boxes_xyxy.tolist() == [[3, 6, 15, 30]]
    assert changed.labels.tolist() == [7]
    same = cut(scene, scene.window, (30, 60))
    assert np.array_equal(same.rgb, scene.rgb)
    assert np.array_equal(same.boxes_xyxy, scene.boxes_xyxy)


def test_a_box_is_kept_by_its_centre_and_cut_off_at_the_edge() -> None:
    scene = scene_of(100, 100, [[0, 0, 40, 40], [10, 10, 60, 60], [90, 90, 100, 100]])
    changed = cut(scene, (30, 30, 80, 80), (50, 50))
    assert changed.labels.tolist() == [1]
    assert changed.boxes_xyxy.tolist() == [[0, 0, 30, 30]]


def test_what_is_beyond_the_picture_has_the_fill_colour_and_nothing_else_has() -> None:
    scene = Scene(np.full((10, 20, 3), 200, np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    changed = cut(scene, (-20, -10, 20, 10), (40, 80), fill=(1, 2, 3), recolour=lambda rgb: rgb - np.uint8(50))
    assert (changed.rgb[20:, 40:] == 150).all()
    assert (changed.rgb[:20] == (1, 2, 3)).all()
    assert (changed.rgb[:, :40] == (1, 2, 3)).all()


def test_mirroring_twice_changes_nothing() -> None:
    scene = replace(scene_of(20, 31, [[0, 0, 4, 9], [10.25, 3, 31, 20]]), ignored=np.array([False, True]))
    once, twice = flip(scene), flip(flip(scene))
    assert once.boxes_xyxy.tolist() == [[27, 0, 31, 9], [0, 3, 20.75, 20]]
    assert np.array_equal(once.rgb, scene.rgb[:, ::-1])
    assert np.array_equal(twice.rgb, scene.rgb)
    assert np.array_equal(twice.boxes_xyxy, scene.boxes_xyxy)
    assert twice.ignored.tolist() == [False, True]


@given(seed=seeds, left=st.floats(-50, 50), top=st.floats(-50, 50), width=st.floats(1, 99), height=st.floats(1, 99))
def test_zooming_out_holds_the_window_and_its_proportions(
    seed: int, left: float, top: float, width: float, height: float
) -> None:
    x1, y1, x2, y2 = zoom_out((left, top, left + width, top + height), np.random.default_rng(seed), largest=4)
    assert x1 <= left + 1e-6
    assert y1 <= top + 1e-6
    assert x2 >= left + width - 1e-6
    assert y2 >= top + height - 1e-6
    assert (x2 - x1) / (y2 - y1) == pytest.approx(width / height)
    assert 1 - 1e-6 <= (x2 - x1) / width <= 4 + 1e-6


def overlap(window: Window, box: np.ndarray) -> float:
    """Intersection over union by counting points of a fine grid."""
    x, y = np.meshgrid(np.arange(0.125, 120, 0.25), np.arange(0.125, 120, 0.25))
    one, two = ((x > a) & (x < c) & (y > b) & (y < d) for a, b, c, d in (window, box))
    return float((one & two).sum() / (one | two).sum())


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_a_crop_overlaps_an_object_by_its_minimum(least: float) -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[10.0, 20, 70, 90], [80, 80, 110, 118]])
    windows = [ssd_crop((0, 0, 120, 120), boxes, rng, overlaps=(least,)) for _ in range(60)]
    parts = [window for window in windows if window != (0, 0, 120, 120)]
    assert len(parts) > (55 if least < 0.6 else 10)
    best = [max(overlap(window, box) for box in boxes) for window in parts]
    assert least - 0.02 < min(best) < least + 0.15  # the grid is coarse
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    for x1, y1, x2, y2 in parts:
        assert -1e-9 <= x1 < x2 <= 120 + 1e-9
        assert -1e-9 <= y1 < y2 <= 120 + 1e-9
        assert 0.5 - 1e-9 <= (x2 - x1) / (y2 - y1) <= 2 + 1e-9
        assert math.sqrt((x2 - x1) * (y2 - y1)) >= 0.3 * 120 - 1e-6
        assert ((centres > [x1, y1]) & (centres < [x2, y2])).all(axis=1).any()


def test_every_minimum_is_drawn_and_so_is_the_whole_window() -> None:
    rng = np.random.default_rng(0)
    box = np.array([[20.0, 20, 90, 100]])
    windows = [ssd_crop((0, 0, 120, 120), box, rng) for _ in range(400)]
    whole = sum(window == (0, 0, 120, 120) for window in windows)
    assert 400 / 7 * 0.7 < whole < 400 / 7 * 1.8  # a seventh, and more where 0.9 was drawn and not found
    best = np.array([overlap(window, box[0]) for window in windows])
    assert (best > 0.68).sum() > 40
    assert (best < 0.3).sum() > 3
    # nothing overlaps so much: the whole window is left
    assert ssd_crop((0, 0, 120, 120), np.array([[0.0, 0, 1, 1]]), rng, overlaps=(0.9,)) == (0, 0, 120, 120)


def test_a_picture_without_objects_and_one_with_500_are_changed_too() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 90, (500, 2))
    many = scene_of(100, 100, [])
    many = Scene(many.rgb, np.concatenate([corners, corners + 5], axis=1), np.arange(500), np.zeros(500, bool))
    for scene in (scene_of(40, 50, []), many, scene_of(1, 10, [[0, 0, 10, 1]]), scene_of(300, 30, [[0, 0, 30, 300]])):
        for _ in range(20):
            changed = augment(scene, (64, 64), rng)
            assert changed.rgb.shape == (64, 64, 3)
            assert np.isfinite(changed.boxes_xyxy).all()
    assert len(cut(many, many.window, (64, 64)).labels) == 500


def test_the_same_generator_gives_the_same_scene() -> None:
    scene = scene_of(90, 120, [[10, 10, 60, 60], [70, 20, 110, 80]])
    one, two = (augment(scene, (64, 48), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.boxes_xyxy, two.boxes_xyxy)
    other = augment(scene, (64, 48), np.random.default_rng(4))
    assert not np.array_equal(one.rgb, other.rgb)
    plain = Augmentation(crop=False, zoom_out=0, flip=0, photometric=False)
    assert np.array_equal(augment(scene, (90, 120), np.random.default_rng(0), plain).rgb, scene.rgb)


def test_colours_change_within_their_ranges_and_grey_stays_grey() -> None:
    rng = np.random.default_rng(0)
    grey = np.full((8, 8, 3), 128, np.uint8)
    changed = np.stack([photometric(grey, rng) for _ in range(200)])
    assert (changed.max(axis=-1) == changed.min(axis=-1)).all()
    assert 40 < changed.min() < 80  # (128 - 32) x 0.5 is 48
    assert 200 < changed.max() <= 240  # (128 + 32) x 1.5 is 240
    photo = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    before = photo.copy()
    several = [photometric(photo, rng) for _ in range(20)]
    assert np.array_equal(photo, before)
    assert len({one.tobytes() for one in several}) > 10
    assert sum(np.array_equal(one, photo) for one in several) < 10


RNG = np.random.default_rng(0)
BAD: list[tuple[str, Callable[[Scene], object]]] = [
    ("largest must be from 1 up, got 0.5", lambda scene: zoom_out(scene.window, RNG, largest=0.5)),
    ("smallest must be above 0", lambda scene: ssd_crop(scene.window, scene.boxes_xyxy, RNG, smallest=0)),
    ("size must be at least 1 x 1", lambda scene: cut(scene, scene.window, (0, 5))),
    ("the window not empty", lambda scene: cut(scene, (3, 3, 3, 9), (5, 5))),
]  # fmt: skip


@pytest.mark.parametrize(("words", "call"), BAD)
def test_what_cannot_be_is_refused(words: str, call: Callable[[Scene], object]) -> None:
    with pytest.raises(UsageError, match=words):
        call(scene_of(10, 10, [[1, 1, 5, 5]]))


def test_the_default_is_ssd_s() -> None:
    assert Augmentation() == SSD
