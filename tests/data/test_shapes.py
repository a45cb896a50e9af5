"""Generated pictures: repeatable, true to their boxes and mask, told apart by the outline alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2.data.shape_sets import write_image_folder
from mobilenetv2.data.shapes import CLASSES, Scene, scene
from mobilenetv2.errors import FileError, UsageError

any_scene = st.builds(
    scene,
    seed=st.integers(0, 2**32),
    index=st.integers(0, 10_000),
    size=st.sampled_from([32, 33, 64, 96, 97, 225, 320]),
    objects=st.integers(1, 5),
)
checked_on_scenes = settings(max_examples=40, deadline=None)


def _same(a: Scene, b: Scene) -> bool:
    return a.label == b.label and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "boxes_xyxy", "box_labels", "mask")
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def hundred() -> list[Scene]:
    return [scene(11, index, size=64) for index in range(100)]


# ---- one scene


@given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_the_same_arguments_give_the_same_scene(seed: int, index: int, objects: int) -> None:
    assert _same(scene(seed, index, objects=objects), scene(seed, index, objects=objects))


def test_another_process_gives_the_same_scene() -> None:
    code = (
        "import hashlib; from mobilenetv2.data.shapes import scene;"
        "print(hashlib.sha256(scene(5, 6, size=65, objects=3).image.tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    runs = [subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)]
    runs.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True))
    assert runs[0].stdout == runs[1].stdout != ""


def test_every_scene_of_a_series_and_of_two_series_is_another_picture(hundred: list[Scene]) -> None:
    pictures = {picture.image.tobytes() for picture in hundred}
    pictures |= {scene(12, index, size=64).image.tobytes() for index in range(100)}
    assert len(pictures) == 200


@given(any_scene)
@checked_on_scenes
def test_shapes_and_types_are_as_documented(picture: Scene) -> None:
    side, count = picture.mask.shape[0], len(picture.box_labels)
    assert picture.image.shape == (side, side, 3)
    assert picture.image.dtype == np.uint8
    assert picture.image.flags.c_contiguous
    assert picture.mask.shape == (side, side)
    assert picture.mask.dtype == np.uint8
    assert picture.boxes_xyxy.shape == (count, 4)
    assert picture.boxes_xyxy.dtype == np.float32
    assert picture.box_labels.dtype == np.int64
    assert picture.label in picture.box_labels


@given(any_scene)
@checked_on_scenes
def test_boxes_are_the_bounds_of_what_the_mask_shows(picture: Scene) -> None:
    side = picture.mask.shape[0]
    in_a_box_of_its_class = picture.mask == 0
    for (x1, y1, x2, y2), label in zip(picture.boxes_xyxy.astype(int), picture.box_labels, strict=True):
        assert 0 <= x1 < x2 <= side
        assert 0 <= y1 < y2 <= side
        part = picture.mask[y1:y2, x1:x2] == label + 1
        for edge in (part[0], part[-1], part[:, 0], part[:, -1]):
            assert edge.any(), "a box is larger than its object"
        in_a_box_of_its_class[y1:y2, x1:x2] |= part
        if np.count_nonzero(picture.box_labels == label) == 1:
            rows, columns = np.nonzero(picture.mask == label + 1)
            assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert in_a_box_of_its_class.all(), "a box is smaller than its object"


@given(any_scene)
@checked_on_scenes
def test_the_mask_holds_the_labels_and_the_label_is_the_largest_objects(picture: Scene) -> None:
    assert set(np.unique(picture.mask)) == {0, *(picture.box_labels + 1)}
    if len(set(picture.box_labels)) == len(picture.box_labels):
        areas = np.bincount(picture.mask.ravel(), minlength=len(CLASSES) + 1)[1:]
        assert areas[picture.label] == areas.max()


@given(any_scene)
@checked_on_scenes
@example(scene(356, 356, size=64, objects=5))  # four leave so little room that the fifth was a speck
def test_each_object_is_large_enough_to_be_told_and_hides_little_of_another(picture: Scene) -> None:
    side = picture.mask.shape[0]
    widths, heights = (picture.boxes_xyxy[:, 2:] - picture.boxes_xyxy[:, :2]).T
    assert np.maximum(widths, heights).min() >= 0.12 * side
    boxes = picture.boxes_xyxy
    corner1 = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    corner2 = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(corner2 - corner1, 0, None).prod(-1)
    smaller = np.minimum.outer(widths * heights, widths * heights)
    assert (shared - np.diag(np.diag(shared)) <= 0.45 * smaller).all()


def test_a_scene_at_another_size_is_the_same_scene() -> None:
    for index in range(20):
        coarse, fine = (scene(3, index, size=size, objects=2) for size in (60, 180))
        assert coarse.box_labels.tolist() == fine.box_labels.tolist()
        assert np.abs(coarse.boxes_xyxy * 3 - fine.boxes_xyxy).max() <= 4.5  # a pixel and a half of the coarse one
        assert np.mean(np.kron(coarse.mask, np.ones((3, 3))) == fine.mask) > 0.97


def test_objects_stand_out_from_their_background(hundred: list[Scene]) -> None:
    for picture in hundred:
        inside = picture.image[picture.mask > 0].mean(axis=0)
        outside = picture.image[picture.mask == 0].mean(axis=0)
        assert np.linalg.norm(inside - outside) > 40  # of 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"index": -1}, "index must be at least 0, got -1"),
        ({"size": 31}, "size must be 32 to 1024, got 31"),
        ({"objects": 0}, "objects must be 1 to 5, got 0"),
        ({"objects": 6}, "objects must be 1 to 5, got 6"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scene(**{"seed": 0, "index": 0, **arguments})


# ---- the class is in the outline alone


def test_any_run_of_indices_is_balanced(hundred: list[Scene]) -> None:
    assert np.bincount([picture.label for picture in hundred]).tolist() == [10] * len(CLASSES)


def _nearest_mean_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of the nearest-mean classifier, learnt on the first half and asked about the second."""
    half = len(labels) // 2
    spread = features[:half].std(axis=0) + 1e-9
    means = np.stack([features[:half][labels[:half] == label].mean(axis=0) for label in range(len(CLASSES))])
    distances = (((features[half:, None] - means) / spread) ** 2).sum(axis=-1)
    return float(np.mean(distances.argmin(axis=1) == labels[half:]))


def test_colour_and_texture_do_not_give_the_class_away() -> None:
    pictures = [scene(21, index, size=32) for index in range(1600)]
    labels = np.array([picture.label for picture in pictures])
    images = np.stack([picture.image for picture in pictures]).astype(np.float64)
    masks = np.stack([picture.mask > 0 for picture in pictures])[..., None]
    whole = np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)
    inside = (images * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    spread = np.sqrt(((images - inside[:, None, None]) ** 2 * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2)))
    # chance is 0.1; 800 answers scatter by 0.011, so 0.15 is beyond four standard deviations
    assert _nearest_mean_accuracy(images.mean(axis=(1, 2)), labels) < 0.15
    assert _nearest_mean_accuracy(np.concatenate([inside, spread], axis=1), labels) < 0.15
    # the share of the picture that an object covers does show in the whole picture's statistics, a little
    assert _nearest_mean_accuracy(whole, labels) < 0.2


# ---- a folder of pictures


def test_a_written_folder_is_balanced_readable_and_shares_no_picture_between_splits(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "set", train=43, val=20, size=48)
    for split, most, least in (("train", 5, 4), ("val", 2, 2)):
        classes = sorted(path.name for path in (tmp_path / "set" / split).iterdir())
        counts = [len(list((tmp_path / "set" / split / name).glob("*.jpg"))) for name in classes]
        assert classes == list(CLASSES)
        assert (max(counts), min(counts)) == (most, least)
    contents = [data for name, data in _files(tmp_path / "set").items() if name.endswith(".jpg")]
    assert len(set(contents)) == len(contents) == 63
    with Image.open(tmp_path / "set" / "train" / "star" / "00001.jpg") as image:
        assert (image.size, image.mode) == ((48, 48), "RGB")


def test_a_written_picture_is_the_scene_of_its_class(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "set", train=20, val=10, size=64, seed=4)
    for split, series in (("train", 8), ("val", 9)):
        expected = scene(series, CLASSES.index("ring"), size=64).image.astype(int)
        with Image.open(tmp_path / "set" / split / "ring" / "00001.jpg") as image:
            assert np.abs(np.asarray(image) - expected).mean() < 12  # JPEG, and noise in halved colour planes


def test_a_complete_set_is_kept_and_anything_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    calls: list[tuple[int, int]] = []
    write_image_folder(folder, train=10, val=10, size=32, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 20) for done in range(1, 21)]
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    calls.clear()
    write_image_folder(folder, train=10, val=10, size=32, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(20, 20)]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps

    for train, val, size, seed in ((11, 10, 32, 0), (10, 11, 32, 0), (10, 10, 33, 0), (10, 10, 32, 1)):
        with pytest.raises(UsageError, match="choose another folder or remove this one"):
            write_image_folder(folder, train=train, val=val, size=size, seed=seed)
    next(folder.glob("val/*/*.jpg")).unlink()
    with pytest.raises(UsageError, match="holds no complete set"):
        write_image_folder(folder, train=10, val=10, size=32)


def test_someone_elses_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "photos" / "generated_shapes.json").write_text("{")
    before = _files(tmp_path)
    with pytest.raises(UsageError, match="photos is not empty"):
        write_image_folder(tmp_path / "photos", train=10, val=10)
    with pytest.raises(UsageError, match="is a file"):
        write_image_folder(tmp_path / "photos" / "cat.jpg", train=10, val=10)
    with pytest.raises(UsageError, match="train must be at least 10, got 9"):
        write_image_folder(tmp_path / "other", train=9, val=10)
    assert _files(tmp_path) == before


def test_an_interrupted_run_leaves_nothing_and_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image_folder(folder, train=10, val=10, size=32, progress=interrupt)
    assert list(tmp_path.rglob("*")) == [folder]
    write_image_folder(folder, train=10, val=10, size=32)
    assert len(list(folder.glob("*/*/*.jpg"))) == 20
    assert list(tmp_path.iterdir()) == [folder]
    assert json.loads((folder / "generated_shapes.json").read_text())["classes"] == list(CLASSES)


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot write"):
        write_image_folder(tmp_path / "file" / "set", train=10, val=10, size=32)
