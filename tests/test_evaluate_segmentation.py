"""Evaluation of masks that are known: perfect ones score 1, others what is counted by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2.data.segmentation import SegmentationData, open_segmentation
from mobilenetv2.errors import DatasetError, Error, ImageError, UsageError
from mobilenetv2.evaluate_segmentation import (
    CLASS_COLUMNS,
    class_names,
    evaluate,
    evaluate_masks,
    share_of_equal_pixels,
    stored_masks,
)
from mobilenetv2.segmentation_report import save_mistakes, worst_first, write_report

NAMES = ("background", "cat", "dog")
TRUTHS = {
    "a": np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8),
    "b": np.array([[0, 255, 2], [0, 0, 2]], np.uint8),
    "c": np.array([[255, 255]], np.uint8),
}
FOUND = {
    "a": np.array([[0, 1, 1, 1], [0, 0, 1, 0]], np.uint8),
    "b": np.array([[0, 1, 2], [0, 0, 2]], np.uint8),
    "c": np.array([[1, 0]], np.uint8),
}


@pytest.fixture
def data(tmp_path: Path) -> SegmentationData:
    root = tmp_path / "set"
    for name, mask in TRUTHS.items():
        for folder, pixels in (("images", np.full((*mask.shape, 3), 99, np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return open_segmentation(root)


class Oracle:
    """A predictor that knows what to answer, by the name of the picture."""

    def __init__(self, masks: dict[str, np.ndarray], names: tuple[str, ...] = NAMES[1:]) -> None:
        head = SimpleNamespace(background="first")
        self.info = SimpleNamespace(
            task="segmentation", classes=len(names), label=lambda i: names[i], spec=SimpleNamespace(head=head)
        )
        self.backend = SimpleNamespace(name="oracle")
        self.masks, self.options = masks, {}

    def many(self, photos: Iterator[Path], **options: Any) -> Iterator[Any]:
        self.options = options
        for photo in photos:
            mask = self.masks.get(photo.stem)
            yield ImageError(f"{photo} is damaged") if mask is None else SimpleNamespace(mask=mask)


def ask(masks: dict[str, np.ndarray], data: SegmentationData, **options: Any) -> Any:
    return evaluate(Oracle(masks), data, **options)  # pyright: ignore[reportArgumentType]


def test_masks_that_are_the_truth_score_one(data: SegmentationData) -> None:
    perfect = {name: np.where(mask == 255, 1, mask).astype(np.uint8) for name, mask in TRUTHS.items()}
    found = ask(perfect, data)
    assert (found.n, found.backend) == (3, "oracle")
    assert (found.scores.miou, found.scores.pixel_accuracy, found.scores.pixels) == (1, 1, 13)
    assert all(band.miou == 1 for band in found.bands)
    assert [one.mask.tolist() for one in found.outcomes] == [mask.tolist() for mask in perfect.values()]


def test_scores_are_what_was_counted_by_hand(data: SegmentationData) -> None:
    found = ask(FOUND, data)
    # background 6 right of 7 true and 7 found, cat 3 of 4 and 4, dog 2 of 2 and 2
    assert found.scores.confusion.tolist() == [[6, 1, 0], [1, 3, 0], [0, 0, 2]]
    assert found.scores.iou.tolist() == [6 / 8, 3 / 5, 1]
    assert found.scores.miou == pytest.approx((6 / 8 + 3 / 5 + 1) / 3)
    assert found.scores.pixel_accuracy == 11 / 13
    a, b, c = found.outcomes
    assert a.miou == pytest.approx((3 / 5 + 3 / 5) / 2)
    assert (a.pixel_accuracy, b.miou) == (6 / 8, 1)
    assert np.isnan(c.miou)
    assert [one.truth.path.stem for one in worst_first(found.outcomes, 3)] == ["a", "b", "c"]


def test_json_has_the_documented_keys_first_and_no_nan(data: SegmentationData) -> None:
    found = json.loads(json.dumps(ask(FOUND, data).to_json(), allow_nan=False))
    assert list(found)[:4] == ["task", "n", "miou", "pixel_accuracy"]
    assert (found["task"], found["n"], found["miou"], found["absent"]) == ("segmentation", 3, 0.783333, [])
    assert tuple(found["classes"][1]) == CLASS_COLUMNS
    assert found["classes"][1] == {
        "index": 1, "label": "cat", "pixels": 4, "found": 4, "iou": 0.6, "recall": 0.75, "precision": 0.75,
    }  # fmt: skip
    assert [band["width"] for band in found["boundary"]] == [1, 2, 4, 8, 16, 32]


def test_the_text_names_weak_classes_absent_ones_and_confusions(data: SegmentationData) -> None:
    text = ask(FOUND, data).text()
    assert "3 pictures, 13 pixels of 3 classes, backend oracle" in text
    assert "mean IoU 78.3 %   pixel accuracy 84.6" in text
    rows = [line.split()[0] for line in text.splitlines() if line.endswith(("75.0", "85.7", "100.0"))]
    assert rows == ["cat", "background", "dog"]
    assert "7.7 %  cat -> background" in text
    only = {"a": TRUTHS["a"], "b": None, "c": np.array([[0, 0]], np.uint8)}
    text = ask({name: mask for name, mask in only.items() if mask is not None}, data).text()
    assert "no true pixel of dog, left out of the means" in text
    assert "1 pictures or masks could not be used" in text
    invented = {**only, "a": np.where(TRUTHS["a"] == 1, 2, 0).astype(np.uint8)}
    text = ask({name: mask for name, mask in invented.items() if mask is not None}, data).text()
    assert "; dog found all the same, which counts as 0" in text


def test_what_cannot_be_used_is_named_and_left_out(data: SegmentationData) -> None:
    masks = data.samples[0].path.parent.parent / "masks"
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(masks / "c.png")
    Image.fromarray(TRUTHS["b"].T.copy()).save(masks / "b.png")
    found = ask(FOUND, data)
    assert found.n == 1
    assert [(Path(file).stem, "value 9" in why, "the mask has 2 x 3" in why) for file, why in found.unreadable] == [
        ("b", False, True),
        ("c", True, False),
    ]
    with pytest.raises(DatasetError, match="none of the 3 pictures could be used"):
        ask({}, data)


def test_data_of_other_classes_or_tasks_is_refused(data: SegmentationData) -> None:
    with pytest.raises(UsageError, match="the data's 3 classes are not the model's 2"):
        evaluate(Oracle(FOUND, ("cat",)), data)  # pyright: ignore[reportArgumentType]
    other = Oracle(FOUND)
    other.info.task = "detection"
    with pytest.raises(UsageError, match="this is a model for detection"):
        evaluate(other, data)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="has the value 7"):
        ask({**FOUND, "a": np.full((2, 4), 7, np.uint8)}, data)


def test_a_models_names_have_background_where_its_outputs_do() -> None:
    info = Oracle({}).info
    assert class_names(info) == NAMES  # pyright: ignore[reportArgumentType]
    info.spec.head.background = "none"
    assert class_names(info) == NAMES[1:]  # pyright: ignore[reportArgumentType]


def test_stored_masks_of_another_program_are_scored_and_compared(data: SegmentationData, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(FOUND[name]).save(tmp_path / f"{name}.png")
    stored = evaluate_masks(data, stored_masks(data, tmp_path), backend="theirs")
    assert (stored.n, stored.unreadable[0][1].endswith("c.png does not exist")) == (2, True)
    assert stored.scores.confusion.tolist() == [[6, 1, 0], [1, 3, 0], [0, 0, 2]]
    other = {**FOUND, "a": TRUTHS["a"]}
    assert share_of_equal_pixels(stored, ask(other, data)) == 12 / 14
    assert share_of_equal_pixels(stored, stored) == 1


def test_the_report_has_tables_charts_masks_and_the_worst_pictures_first(
    data: SegmentationData, tmp_path: Path
) -> None:
    found = ask(FOUND, data)
    folder = write_report(found, tmp_path / "r")
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "report.json", "classes.csv", "class_iou.png", "confusion.png", "boundary.png", "predictions_1.png", "masks",
    }  # fmt: skip
    details = json.loads((folder / "report.json").read_text())
    assert details["confusion"] == [[0, 0, 6], [0, 1, 1], [1, 0, 1], [1, 1, 3], [2, 2, 2]]
    assert [one["miou"] for one in details["pictures"]] == [0.6, 1.0, None]
    for name, mask in FOUND.items():
        stored = Image.open(folder / "masks" / f"{name}.png")
        assert stored.mode == "P"
        assert np.asarray(stored).tolist() == mask.tolist()
    write_report(ask({"c": FOUND["c"]}, data), folder)  # nothing counts: charts of the earlier report are gone
    assert not {"class_iou.png", "confusion.png", "boundary.png"} & {file.name for file in folder.iterdir()}
    drawn = save_mistakes(found, tmp_path / "w")
    assert sorted(file.name for file in drawn.iterdir()) == ["001_a.png", "contact_sheet_1.png"]
    with pytest.raises(UsageError, match="limit must be at least 1"):
        worst_first(found.outcomes, 0)


def test_errors_are_given_back_and_not_raised(data: SegmentationData, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (2, 4, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    first, *others = stored_masks(data, tmp_path)
    assert isinstance(first, Error)
    assert "is coloured" in str(first)
    assert all(isinstance(one, Error) for one in others)
