"""Drawings keep what they show: every size of photo, long labels."""

from __future__ import annotations

import io
import itertools

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


# ---- boxes


def test_boxes_are_drawn_where_they_are_at_the_size_of_the_drawing() -> None:
    grey = np.full((100, 200, 3), 90, np.uint8)
    drawn = plots.with_boxes(grey, [plots.Mark((20, 10, 120, 60), (255, 0, 0))], sides=(400, 400))
    assert drawn.shape == (200, 400, 3)
    rows, columns = np.nonzero((drawn == (255, 0, 0)).all(axis=-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (40, 20, 239, 119)
    assert (drawn[60, 100] == 90).all()
    assert (grey == 90).all()


def test_boxes_beyond_the_photo_and_very_small_ones_are_drawn_too() -> None:
    grey = np.full((50, 50, 3), 90, np.uint8)
    small = plots.with_boxes(grey, [plots.Mark((10.1, 10.1, 10.2, 10.2), (0, 255, 0))], sides=(50, 50))
    assert (small[10, 10] == (0, 255, 0)).all()
    wide = plots.with_boxes(grey, [plots.Mark((-99, 20, 99, 30), (0, 255, 0))], sides=(50, 50))
    assert (wide[20] == (0, 255, 0)).all()


def test_the_text_of_a_box_stays_in_the_photo() -> None:
    grey = np.full((480, 480, 3), 90, np.uint8)
    corners = ((0, 0, 30, 30), (470, 0, 480, 9), (470, 470, 480, 480), (100, 200, 200, 300))
    for corner in corners:
        drawn = plots.with_boxes(grey, [plots.Mark(corner, (255, 0, 0), "dog 0.93")])
        plate = (drawn == (255, 0, 0)).all(axis=-1)
        assert plate.sum() > 400
        assert (drawn[plate.any(axis=1)][:, plate.any(axis=0), 0] < 90).any()  # ink
    long = plots.with_boxes(grey, [plots.Mark((0, 0, 5, 5), (255, 0, 0), "x" * 500)])
    assert long.shape == grey.shape


def test_classes_have_colours_of_their_own() -> None:
    colours = [plots.colour_of(i) for i in range(20)]
    assert len(set(colours)) == 20
    assert all(np.abs(np.subtract(one, two)).max() > 30 for one, two in itertools.pairwise(colours))


def test_a_thumbnail_as_jpeg_is_small_and_nearly_the_same(grace_hopper):
    small = plots.thumbnail(image.read(grace_hopper))
    written = plots.jpeg(small)
    assert len(written) < 15_000
    with Image.open(io.BytesIO(written)) as read:
        assert read.format == "JPEG"
        assert np.abs(np.asarray(read).astype(int) - small).mean() < 6
