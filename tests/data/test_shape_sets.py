"""Generated pictures with masks are a sound data set that tells the same as the scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilenetv2.data.segmentation import open_parts, open_segmentation
from mobilenetv2.data.segmentation_check import check
from mobilenetv2.data.shape_sets import write_image_folder, write_segmentation_folder
from mobilenetv2.data.shapes import CLASSES, scene
from mobilenetv2.errors import UsageError


def test_a_written_set_is_sound_and_has_the_scenes_masks(tmp_path: Path) -> None:
    write_segmentation_folder(tmp_path / "set", train=12, val=10, size=48, objects=4, seed=3)
    parts = open_parts(tmp_path / "set")
    assert {part: len(data.samples) for part, data in parts.items()} == {"train": 12, "val": 10}
    assert parts["train"].names == ("background", *CLASSES)
    assert check(tmp_path / "set", parts).findings == ()
    for index, sample in enumerate(parts["val"].samples):
        mask, expected = sample.read_mask(), scene(7, index, size=48, objects=4).mask
        counted = mask != 255
        assert (mask[counted] == expected[counted]).all()
        assert set(np.unique(expected)) <= set(np.unique(mask))
        assert 0.5 < counted.mean() < 1


def test_a_whole_set_is_kept_and_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    calls: list[tuple[int, int]] = []
    write_segmentation_folder(folder, train=10, val=10, size=32)
    write_segmentation_folder(folder, train=10, val=10, size=32, progress=lambda *call: calls.append(call))
    assert calls == [(20, 20)]
    with pytest.raises(UsageError, match="choose another folder"):
        write_segmentation_folder(folder, train=10, val=10, size=32, objects=2)
    with pytest.raises(UsageError, match="objects must be 1 to 5, got 6"):
        write_segmentation_folder(tmp_path / "other", train=10, val=10, objects=6)
    assert open_segmentation(folder).notes == ("10 pictures of the val split are used",)


def test_a_set_of_other_arguments_is_replaced_where_that_is_wanted_and_nothing_else_is(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_image_folder(folder, train=20, val=10, size=32)
    write_image_folder(folder, train=10, val=10, size=32, replace=True)
    assert len(list(folder.glob("*/*/*.jpg"))) == 20
    kept = folder / "val" / CLASSES[0] / "00001.jpg"
    written = kept.stat().st_mtime_ns
    write_image_folder(folder, train=10, val=10, size=32, replace=True)
    assert kept.stat().st_mtime_ns == written

    (folder / "train" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="choose another folder"):
        write_image_folder(folder, train=20, val=10, size=32, replace=True)
    assert (folder / "train" / "mine.txt").read_text() == "mine"
