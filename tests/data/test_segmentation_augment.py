"""However a picture is changed, its mask stays on it and gains no value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_files import MASKS, write_folders, write_mask

from mobilenetv2.data.segmentation import open_segmentation
from mobilenetv2.data.segmentation_augment import GREY, Augmentation, Labelled, augment, cut, flip, read_labelled
from mobilenetv2.errors import DatasetError, UsageError

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def painted(mask_HW: np.ndarray) -> Labelled:
    """Each class in a grey of its own."""
    return Labelled(np.repeat((20 + 50 * mask_HW.astype(int))[..., None], 3, axis=2).astype(np.uint8), mask_HW)


def blocks(seed: int, side: int = 16) -> np.ndarray:
    """Squares of random classes, with something to ignore."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, rng.integers(1, 6, 2)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, side, axis=0), side, axis=1)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, size=sizes, photometric=st.booleans())
def test_a_mask_gains_no_value_but_what_is_ignored(seed: int, size: tuple[int, int], photometric: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 3, 7, 255], size=rng.integers(1, 60, 2)).astype(np.uint8)
    rgb = rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    changed = augment(Labelled(rgb, mask), size, rng, Augmentation(photometric=photometric))
    assert changed.rgb.shape == (*size, 3)
    assert changed.mask.shape == size
    assert changed.rgb.dtype == changed.mask.dtype == np.uint8
    assert set(np.unique(changed.mask)) <= {*np.unique(mask), 255}


@settings(max_examples=150, deadline=None)
@given(seed=seeds, size=sizes)
def test_picture_and_mask_stay_aligned(seed: int, size: tuple[int, int]) -> None:
    one = painted(blocks(seed))
    changed = augment(one, size, np.random.default_rng(seed))
    # away from boundaries, where the filter mixes two classes, the grey tells the class
    height, width = size
    for y in range(2, height - 2):
        for x in range(2, width - 2):
            near = changed.mask[y - 2 : y + 3, x - 2 : x + 3]
            if (near == near[0, 0]).all():
                expected = GREY[0] if near[0, 0] == 255 else 20 + 50 * int(near[0, 0])
                assert changed.rgb[y, x].tolist() == [expected] * 3


@settings(max_examples=80, deadline=None)
@given(seed=seeds, size=sizes)
def test_a_cut_is_a_part_of_the_whole_scaled_picture(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, rng.integers(1, 40, 2)).astype(np.uint8)
    one = Labelled(rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8), mask)
    rows, columns = (max(1, round(side * rng.choice([0.5, 1, 1.75]))) for side in mask.shape)
    scaled = rows, columns
    top, left = (int(rng.integers(side)) for side in scaled)
    part, whole = cut(one, scaled, (top, left), size), cut(one, scaled, (0, 0), scaled)
    height, width = min(size[0], scaled[0] - top), min(size[1], scaled[1] - left)
    assert (part.mask[:height, :width] == whole.mask[top : top + height, left : left + width]).all()
    # the filter's weights are rounded for each part anew
    difference = part.rgb[:height, :width].astype(int) - whole.rgb[top : top + height, left : left + width]
    assert np.abs(difference).max(initial=0) <= 1
    assert (part.mask[height:] == 255).all()
    assert (part.rgb[height:] == GREY).all()
    assert (part.mask[:, width:] == 255).all()


def test_nothing_changes_at_scale_1_without_mirroring() -> None:
    one = painted(blocks(1))
    changed = augment(one, one.mask.shape, np.random.default_rng(0), Augmentation(scales=(1.0,), flip=0))
    assert (changed.rgb == one.rgb).all()
    assert (changed.mask == one.mask).all()


def test_mirroring_twice_is_nothing() -> None:
    one = painted(blocks(2))
    assert (flip(flip(one)).mask == one.mask).all()
    assert (flip(one).mask == one.mask[:, ::-1]).all()
    assert (flip(one).rgb == one.rgb[:, ::-1]).all()


def test_every_scale_and_both_sides_are_seen() -> None:
    one = painted(np.arange(64, dtype=np.uint8)[None].repeat(64, 0) // 32 * 3)
    shares, starts = set(), set()
    for seed in range(200):
        mask = augment(one, (200, 200), np.random.default_rng(seed), Augmentation(flip=0.5)).mask
        shares.add(int((mask[0] != 255).sum()) / 64)
        starts.add(int(mask[0][mask[0] != 255][0]))
    assert shares == {0.5, 0.75, 1, 1.25, 1.5, 1.75, 2}
    assert starts == {0, 3}


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    write_mask(tmp_path / "masks" / "a.png", MASKS["b"])
    data = open_segmentation(tmp_path)
    with pytest.raises(DatasetError, match=r"a.png: the mask has 4 x 5 pixels, but .*a.png has 6 x 4"):
        read_labelled(data.samples[0])
    assert (read_labelled(data.samples[1]).mask == MASKS["b"]).all()


def test_wrong_settings_are_refused() -> None:
    one = painted(blocks(0))
    with pytest.raises(UsageError, match="scales must be above 0"):
        augment(one, (9, 9), np.random.default_rng(0), Augmentation(scales=(0.0,)))
    with pytest.raises(UsageError, match="at least 1 x 1"):
        cut(one, (9, 9), (0, 0), (0, 9))
