"""Drawings keep what they show: every size of photo, long labels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from mobilenetv2 import image, plots
from mobilenetv2.errors import UsageError
from mobilenetv2.plots import BAR, RIGHT, WRONG, Tile

ROWS = [("tabby", 0.75, "75.0 %"), ("Egyptian cat", 0.25, "25.0 %")]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def pixels_of(drawn: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (drawn == np.array(colour, dtype=np.uint8)).all(axis=-1)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (28, 28), (2000, 3000), (3000, 2000), (2, 3000), (3000, 2), (480, 960)]
)
def test_a_photo_of_any_size_comes_out_readable(height, width):
    drawn = plots.photo_with_bars(grey(height, width), ROWS)
    panel = drawn.shape[0] - round(height * min(max(max(height, width), 480), 960) / max(height, width))
    assert 400 <= drawn.shape[1] <= 960
    assert 60 <= panel <= 160
    assert plots.photo_with_bars(grey(height, width), []).shape[0] < drawn.shape[0]


def test_bars_are_as_long_as_their_shares():
    drawn = plots.photo_with_bars(grey(500, 500), [("a", 1.0, "x"), ("b", 0.5, "x"), ("c", 0.0, "x"), ("d", 0.25, "x")])
    lengths = pixels_of(drawn, BAR).sum(axis=1)
    found = [int(length) for length, before in zip(lengths[1:], lengths[:-1], strict=True) if length and not before]
    assert found == pytest.approx([found[0], found[0] / 2, found[0] / 4], abs=2)
    assert found[0] > 100


@settings(max_examples=20)
@given(st.text(max_size=80), st.integers(40, 400))
def test_a_fitted_text_is_no_wider_than_its_place_and_whole_where_there_is_room(text, width):
    font = ImageFont.load_default(15)
    found = plots.fitted(text, font, width)
    assert font.getlength(found) <= width
    assert "\n" not in found
    if found.endswith("…") and "…" not in text:
        assert " ".join(text.split()).startswith(found[:-1])
    else:
        assert found == " ".join(text.split())


def test_a_label_that_is_too_long_does_not_reach_its_bar():
    short = plots.photo_with_bars(grey(300, 480), [("a", 1.0, "9 %")])
    long = plots.photo_with_bars(grey(300, 480), [("patas, hussar monkey, " * 9, 1.0, "9 %")])
    assert (pixels_of(long, BAR) == pixels_of(short, BAR)).all()


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(UsageError, match=r"must be uint8 \[H, W, 3\]"):
        plots.photo_with_bars(bad, ROWS)


def test_a_contact_sheet_marks_right_and_wrong_and_keeps_the_order():
    red, blue = np.zeros((2, 50, 50, 3), dtype=np.uint8)
    red[...] = (255, 0, 0)
    blue[...] = (0, 0, 255)
    sheet = plots.contact_sheet([Tile(red, ("a",), right=True), Tile(blue, ("b",), right=False)], columns=2)
    middle = sheet.shape[1] // 2
    for left, right, colour in ((0, middle, RIGHT), (middle, None, WRONG), (0, middle, (255, 0, 0))):
        assert pixels_of(sheet[:, left:right], colour).any()
    assert not pixels_of(sheet[:, middle:], RIGHT).any()
    assert pixels_of(sheet, (0, 0, 255)).sum() == plots.TILE**2


@pytest.mark.parametrize(("tiles", "columns", "rows"), [(1, 6, 1), (6, 6, 1), (7, 6, 2), (7, 3, 3)])
def test_a_contact_sheet_has_as_many_rows_as_it_needs(tiles, columns, rows):
    tile = Tile(grey(20, 30), ("one line", "two lines"))
    one = plots.contact_sheet([tile]).shape[0]
    sheet = plots.contact_sheet([tile] * tiles, columns=columns)
    gap = 12
    assert sheet.shape[0] - gap == rows * (one - gap)
    assert (sheet.shape[1] - gap) == min(tiles, columns) * (plots.TILE + gap)


def test_a_contact_sheet_of_nothing_is_refused():
    with pytest.raises(UsageError, match="needs pictures"):
        plots.contact_sheet([])


def test_boxes_are_drawn_where_they_are_and_the_rest_of_the_photo_is_left_alone() -> None:
    photo = grey(400, 600)
    drawn = plots.photo_with_boxes(photo, [plots.Box((100, 100, 500, 300), plots.colour_of(3), "dog 93 %")])
    assert drawn.shape == photo.shape
    colour = plots.colour_of(3)
    for y, x in ((100, 300), (299, 300), (200, 100), (200, 499)):
        assert tuple(drawn[y, x]) == colour
    assert (drawn[110:290, 110:490] == 128).all()
    assert (drawn[:70] == 128).all()
    assert not (photo != 128).any()


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (30, 40), (60, 600), (2500, 1800)])
@pytest.mark.parametrize("place", ["whole", "corner", "dot"])
def test_labels_are_within_the_picture_whatever_its_shape(size: tuple[int, int], place: str) -> None:
    height, width = size
    photo = grey(*size)
    xyxy = {
        "whole": (0.0, 0.0, float(width), float(height)),
        "corner": (width - 0.5, height - 0.5, float(width), float(height)),
        "dot": (width / 2, height / 2, width / 2 + 0.1, height / 2 + 0.1),
    }[place]
    text = "a label that is longer than many a photo is wide 93 %"
    drawn = plots.photo_with_boxes(
        photo, [plots.Box(xyxy, plots.colour_of(0), text), plots.Box(xyxy, plots.colour_of(1), "99 %")]
    )
    for kind in (0, 1) if height > 1 else (0,):  # a line of pixels has room for one
        assert pixels_of(drawn, plots.colour_of(kind)).sum() > 400  # its background, some 18 pixels high


def test_the_first_boxes_label_is_never_covered() -> None:
    photo = grey(400, 600)
    boxes = [plots.Box((50, 50, 300, 300), plots.colour_of(kind), f"class {kind}") for kind in range(12)]
    first = plots.photo_with_boxes(photo, boxes[:1])
    label = pixels_of(first, plots.colour_of(0))
    label[50:] = False  # above the box
    assert label.sum() > 400
    assert (plots.photo_with_boxes(photo, boxes)[label] == plots.colour_of(0)).all()


def test_classes_have_colours_of_their_own() -> None:
    colours = np.array([plots.colour_of(kind) for kind in range(80)], int)
    assert len({tuple(colour) for colour in colours}) == 80
    differences = np.abs(colours[:20, None] - colours[None, :20]).sum(axis=2) + 1000 * np.eye(20, dtype=int)
    assert differences.min() > 80
    assert plots.colour_of(1000) == plots.colour_of(1000)


def test_boxes_without_text_need_no_room_for_it() -> None:
    narrow = plots.photo_with_boxes(grey(192, 20), [plots.Box((-99, 20, 99, 30), (255, 0, 0))], sides=(192, 192))
    assert narrow.shape == (192, 20, 3)
    assert (narrow[20] == (255, 0, 0)).all()


def test_a_thumbnail_as_jpeg_is_small_and_nearly_the_same(grace_hopper):
    small = plots.thumbnail(image.read(grace_hopper))
    written = plots.jpeg(small)
    assert len(written) < 15_000
    with Image.open(io.BytesIO(written)) as read:
        assert read.format == "JPEG"
        assert np.abs(np.asarray(read).astype(int) - small).mean() < 6


def test_a_mask_is_painted_where_it_is_and_background_is_left_alone() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[:, 50:100], mask[:, 150:] = 2, 255
    drawn = plots.photo_with_mask(grey(100, 200), mask, ("background", "a", "b"), sides=(400, 400))
    assert drawn.shape == (200, 400, 3)
    assert (drawn[:, 2:98] == 128).all()
    assert (drawn[:, 202:298] == 128).all()
    painted = drawn[:, 102:198]
    assert (painted == painted[0, 0]).all()
    blend = 0.4 * 128 + 0.6 * np.array(plots.colour_of(2))
    assert np.abs(painted[0, 0] - blend).max() <= 0.5
    assert (drawn[:, 302:] > 180).all()  # what does not count is paler
    with pytest.raises(UsageError, match="the mask has"):
        plots.photo_with_mask(grey(10, 10), mask, (), sides=(400, 400))
