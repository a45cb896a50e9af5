"""What an evaluated detector leaves in a folder: files that others read, a table, drawings beside the truth."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from known_detector import ANSWERS, HEIGHT, NAMES, TRUTHS, WIDTH, A, B, Oracle, Row, known, pictures
from mobilenetv2 import detection_report, plots
from mobilenetv2.data.annotation import make_sample
from mobilenetv2.data.detection import DetectionData, Places, open_detection
from mobilenetv2.detection_report import MISSED, coco_files, save_mistakes, worst_first, write_report
from mobilenetv2.errors import UsageError
from mobilenetv2.evaluate_detection import CLASS_COLUMNS, DetectionEvaluation, evaluate
from mobilenetv2.predictor import Predictor


@pytest.fixture
def result(tmp_path: Path) -> DetectionEvaluation:
    return evaluate(Predictor(Oracle(ANSWERS)), pictures(tmp_path, TRUTHS))


def test_pycocotools_reads_both_files_and_scores_the_same(result: DetectionEvaluation, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = write_report(result, tmp_path / "report")
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO(str(folder / "truth.json"))
        official = COCOeval(truth, truth.loadRes(str(folder / "detections.json")), "bbox")
        official.evaluate()
        official.accumulate()
        official.summarize()
    ours = [-1 if value is None else value for value in result.coco.to_json().values()]
    assert official.stats.tolist() == pytest.approx(ours, abs=1e-9)
    assert truth.imgs["picture 1"]["file_name"] == "picture 1.png"


def test_the_truth_in_cocos_form_is_data_to_evaluate_on_again(tmp_path: Path) -> None:
    data = pictures(tmp_path, TRUTHS, difficult=[True, False])
    predictor = Predictor(Oracle(ANSWERS))
    first = evaluate(predictor, data)
    folder = write_report(first, tmp_path / "report")
    again = evaluate(
        predictor, open_detection(folder / "truth.json", places=Places(images=tmp_path), classes=predictor.info)
    )
    assert {**again.to_json(), "seconds": 0, "split": "val"} == {**first.to_json(), "seconds": 0}


def test_pictures_are_known_by_number_name_or_place(tmp_path: Path) -> None:
    def ids(*names: str) -> list[object]:
        files = [tmp_path / name for name in names]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            Image.new("L", (WIDTH, HEIGHT)).save(file)
        data = DetectionData(tuple(make_sample(file, [A], [0]) for file in files), NAMES, "coco")
        truth, found = coco_files(evaluate(Predictor(Oracle([[(0, 0.9, A)]])), data))
        assert [one["file_name"] for one in truth["images"]] == [str(Path(name)) for name in names]
        assert [one["image_id"] for one in truth["annotations"]] == [one["image_id"] for one in found]
        return [one["image_id"] for one in found]

    assert ids("000139.png", "000285.png") == [139, 285]
    assert ids("one.png", "two.png") == ["one", "two"]
    assert ids("1.png", "two.png") == [1, 2]  # pycocotools sorts them: all are of one kind
    assert ids("7.png", "a/7.png") == [1, 2]
    assert ids("7.png", "07.png") == [1, 2]


def test_the_report_has_every_pair_every_picture_and_a_table(result: DetectionEvaluation, tmp_path: Path) -> None:
    folder = write_report(result, tmp_path / "new" / "report")
    assert sorted(file.name for file in folder.iterdir()) == [
        "classes.csv", "confusion.png", "detections.json", "precision_recall.png", "predictions_1.png", "report.json",
        "truth.json",
    ]  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert {key: report[key] for key in result.to_json()} == result.to_json()
    assert report["confusion"] == [[0, 0, 2], [1, 1, 1], [1, -1, 1], [2, 1, 1], [2, -1, 1], [-1, 0, 1]]
    assert report["pictures"][1] == {
        "file": str(tmp_path / "picture 1.png"), "right": 1, "confused": 1, "missed": 1, "false": 0,
    }  # fmt: skip
    with open(folder / "classes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{key: "" if v is None else str(v) for key, v in row.items()} for row in result.class_rows()]


def test_the_worst_pictures_come_first(result: DetectionEvaluation) -> None:
    def names(limit: int) -> list[str]:
        return [one.truth.path.name for one in worst_first(result.outcomes, limit)]

    assert names(9) == [f"picture {i}.png" for i in (2, 3, 1, 0)]
    assert names(2) == ["picture 2.png", "picture 3.png"]
    with pytest.raises(UsageError, match="limit must be at least 1"):
        names(0)


def test_a_drawing_shows_the_truth_beside_what_was_found(result: DetectionEvaluation) -> None:
    def colours(picture: int) -> list[set[tuple[int, ...]]]:
        drawn = detection_report.draw(result.outcomes[picture], result, sides=(320, 320), named=9)
        assert drawn.shape == (240, 2 * 320 + 8, 3)
        marks = (plots.RIGHT, MISSED, plots.WRONG, plots.FAINT)
        return [
            {mark for mark in marks if (half == mark).all(axis=-1).sum() > 50}
            for half in (drawn[:, :320], drawn[:, 328:])
        ]

    assert colours(0) == [{plots.RIGHT}, {plots.RIGHT}]
    assert colours(1) == [{plots.RIGHT, MISSED}, {plots.RIGHT, plots.WRONG}]  # what is below 0.25 is not drawn
    assert colours(2) == [set(), {plots.WRONG}]
    assert colours(3) == [{MISSED}, set()]


def test_what_does_not_count_is_grey(tmp_path: Path) -> None:
    data = pictures(tmp_path, [[(0, A), (0, B)]], difficult=[True, False])
    found = evaluate(Predictor(Oracle([[(0, 0.9, A), (0, 0.9, B)]])), data)
    drawn = detection_report.draw(found.outcomes[0], found, sides=(320, 320), named=9)
    for box, colour in ((A, plots.FAINT), (B, plots.RIGHT)):
        for left in (0, 328):  # the right edge, away from labels
            assert tuple(drawn[2 * box[3] - 6, left + 2 * box[2] - 1]) == colour


def test_of_many_boxes_the_mistakes_alone_are_named(tmp_path: Path) -> None:
    truths = [[(0, (5 + 15 * i, 40, 15 + 15 * i, 90)) for i in range(10)]]
    found = evaluate(Predictor(Oracle([known(truths)[0][:-1]])), pictures(tmp_path, truths))
    few, all_named = (
        detection_report.draw(found.outcomes[0], found, sides=(640, 640), named=named) for named in (9, 10)
    )
    above = np.s_[60:155, :640]  # where labels stand
    assert ((few[above] == MISSED).all(axis=-1)).sum() > 150
    assert ((few[above] == plots.RIGHT).all(axis=-1)).sum() < 50
    assert ((all_named[above] == plots.RIGHT).all(axis=-1)).sum() > 150


def test_mistakes_are_drawn_worst_first_up_to_a_limit(result: DetectionEvaluation, tmp_path: Path) -> None:
    folder = save_mistakes(result, tmp_path / "all")
    drawn = ["001_picture-2.png", "002_picture-3.png", "003_picture-1.png", "contact_sheet_1.png"]
    assert sorted(file.name for file in folder.iterdir()) == drawn
    folder = save_mistakes(result, tmp_path / "one", limit=1)
    assert sorted(file.name for file in folder.iterdir()) == ["001_picture-2.png", "contact_sheet_1.png"]


def test_sixty_pictures_are_drawn_on_four_sheets(tmp_path: Path) -> None:
    truths = [[(0, A)]] * 70
    found = evaluate(Predictor(Oracle([[]] * 70)), pictures(tmp_path, truths))
    names = sorted(file.name for file in write_report(found, tmp_path / "report").glob("predictions_*"))
    assert names == [f"predictions_{i}.png" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("answers", [[[], []], [[(0, 0.9, A)], []]])
def test_pictures_without_any_object(answers: list[list[Row]], tmp_path: Path) -> None:
    found = evaluate(Predictor(Oracle(answers)), pictures(tmp_path, [[], []]))
    values = found.to_json()
    assert (values["ap"], values["voc_ap50"], values["boxes"], values["false"]) == (None, None, 0, len(answers[0]))
    assert "VOC   AP50 - %" in found.text()
    stale = [tmp_path / "report" / name for name in ("precision_recall.png", "predictions_2.png", "predictions_3.png")]
    stale[0].parent.mkdir()
    for file in stale:
        file.touch()
    folder = write_report(found, stale[0].parent)
    assert not any(file.exists() for file in stale)
    assert (folder / "confusion.png").exists() == bool(answers[0])
    assert (folder / "classes.csv").read_text().splitlines()[0] == ",".join(CLASS_COLUMNS)
    assert json.loads((folder / "detections.json").read_text()) == coco_files(found)[1]
