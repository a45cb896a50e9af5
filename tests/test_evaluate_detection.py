"""Evaluation with a detector whose raw outputs are known: a perfect one scores 1, others what is counted by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from known_detector import ANSWERS, HEIGHT, NAMES, TRUTHS, WIDTH, A, B, C, D, Oracle, Row, known, pictures, raw_of
from mobilenetv2 import image
from mobilenetv2.data.detection import DetectionData, Places, open_detection
from mobilenetv2.detection_report import save_mistakes, write_report
from mobilenetv2.errors import DatasetError, Error, UsageError
from mobilenetv2.evaluate_detection import CLASS_COLUMNS, DetectionEvaluation, evaluate
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.predictor import Predictor
from mobilenetv2.spec import Backbone, Classifier, Spec, SSDLite


@pytest.fixture
def result(tmp_path: Path) -> DetectionEvaluation:
    return evaluate(Predictor(Oracle(ANSWERS)), pictures(tmp_path, TRUTHS))


def test_a_detector_that_knows_the_truth_scores_one(tmp_path: Path) -> None:
    found = evaluate(Predictor(Oracle(known(TRUTHS))), pictures(tmp_path, TRUTHS))
    assert (found.n, found.boxes, found.split, found.backend) == (4, 6, "val", "oracle")
    numbers = found.coco.to_json()
    assert {name for name, value in numbers.items() if value is None} == {
        "ap_small", "ap_large", "ar_small", "ar_large",
    }  # fmt: skip
    # at most one box a picture and class: the second cat of a picture cannot be found
    assert {name: value for name, value in numbers.items() if value not in (1, None)} == {
        "ar1": pytest.approx((1 + 1 + 1 / 2) / 3)
    }
    assert found.voc.ap50 == 1
    assert found.became == {"right": 6, "confused": 0, "missed": 0, "false": 0}
    assert (found.confusion == np.diag([2, 2, 2, 0])).all()
    assert found.seconds > 0


def test_what_became_of_every_box_is_what_was_counted_by_hand(result: DetectionEvaluation) -> None:
    assert result.became == {"right": 3, "confused": 1, "missed": 2, "false": 1}
    assert [one.mistakes for one in result.outcomes] == [0, 2, 1, 1]
    assert [one.f1 for one in result.outcomes] == [1, 2 / 5, 0, 0]
    assert result.confusion.tolist() == [[2, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]]
    # ant: right, right, wrong; bee: right, wrong, and one is missed; cat: one of two is found, from 0.01 up
    assert result.voc.per_class == pytest.approx((1, 1 / 2, 1 / 2))
    assert result.voc.ap50 == pytest.approx(2 / 3)
    assert result.coco.ap50 == pytest.approx((1 + 51 / 101 + 51 / 101) / 3)  # COCO looks at 101 recalls
    assert result.coco.per_class[0] == pytest.approx(1)


def test_json_has_the_documented_keys_first_and_no_nan(result: DetectionEvaluation) -> None:
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(found)[:5] == ["task", "n", "ap", "ap50", "ap75"]
    assert (found["task"], found["n"], found["boxes"], found["voc_ap50"]) == ("detection", 4, 6, 0.666667)
    assert (found["score"], found["iou"], found["most"], found["difficult"]) == (0.01, 0.6, 200, "ignore")
    assert (found["right"], found["confused"], found["missed"], found["false"]) == (3, 1, 2, 1)
    rows = {row["label"]: row for row in found["classes"]}
    assert list(rows) == list(NAMES)
    assert tuple(rows["ant"]) == CLASS_COLUMNS
    assert rows["ant"] == {
        "index": 0, "label": "ant", "boxes": 2, "found": 3, "right": 2, "precision": 0.666667, "recall": 1.0,
        "f1": 0.8, "voc_ap50": 1.0, "ap": 1.0,
    }  # fmt: skip
    assert (rows["cat"]["found"], rows["cat"]["precision"], rows["cat"]["recall"]) == (0, None, 0.0)


def test_text_shows_scores_the_weakest_classes_first_and_what_was_confused(result: DetectionEvaluation) -> None:
    text = str(result)
    assert "4 pictures, 6 boxes of 3 classes, backend oracle" in text
    assert "VOC   AP50 66.7 %" in text
    assert "3 boxes right, 1 of another class, 2 missed, 1 false" in text
    assert "difficult objects do not count" in text
    assert text.index("\n  bee ") < text.index("\n  cat ") < text.index("\n  ant ")
    assert "1  cat -> bee" in text
    assert "nan" not in text


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_change_nothing_but_the_number_of_runs(batch: int, result: DetectionEvaluation, tmp_path: Path) -> None:
    backend, calls = Oracle(ANSWERS), []
    data = pictures(tmp_path, TRUTHS)
    again = evaluate(Predictor(backend), data, batch=batch, progress=lambda done, total: calls.append((done, total)))
    assert {**again.to_json(), "seconds": 0} == {**result.to_json(), "seconds": 0}
    assert [one.answer for one in again.outcomes] == [one.answer for one in result.outcomes]
    assert len(backend.batches) == math.ceil(4 / batch)
    assert calls == [(i, 4) for i in range(1, 5)]


def test_difficult_objects_count_only_when_asked_for_and_crowds_never(tmp_path: Path) -> None:
    data = pictures(
        tmp_path,
        [[(0, A), (0, B), (0, C), (0, D)]],
        difficult=[False, True, True, False],
        crowd=[False, False, False, True],
    )
    predictor = Predictor(Oracle([[(0, 0.9, A), (0, 0.8, B), (0, 0.7, D)]]))
    ignored, counted = evaluate(predictor, data), evaluate(predictor, data, count_difficult=True)
    assert (ignored.boxes, counted.boxes) == (1, 3)
    assert (ignored.voc.ap50, counted.voc.ap50) == (1, pytest.approx(2 / 3))
    assert (ignored.coco.ap50, counted.coco.ap50) == (pytest.approx(1), pytest.approx(67 / 101))
    assert ignored.became == {"right": 1, "confused": 0, "missed": 0, "false": 0}
    assert counted.became == {"right": 2, "confused": 0, "missed": 1, "false": 0}
    assert (ignored.to_json()["difficult"], counted.to_json()["difficult"]) == ("ignore", "count")
    assert "difficult objects count" in counted.text()


def test_the_options_are_the_decoders(tmp_path: Path) -> None:
    data = pictures(tmp_path, [[(0, A)]])
    predictor = Predictor(Oracle([[(0, 0.9, A), (0, 0.8, (12, 10, 60, 50)), (0, 0.005, C), (0, 0.4, D)]]))

    def scores(**options: Any) -> list[float]:
        return [round(d.score, 3) for d in evaluate(predictor, data, **options).outcomes[0].answer.detections]

    assert scores() == [0.9, 0.4]
    assert scores(score=0.001) == [0.9, 0.4, 0.005]
    assert scores(iou=1.0) == [0.9, 0.8, 0.4]
    assert scores(most=1) == [0.9]
    sure = evaluate(predictor, data, score=0.5)
    assert (sure.sure, sure.score, sure.became["false"]) == (0.5, 0.5, 0)
    assert evaluate(predictor, data).sure == 0.25
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"score": 2}, "score must be"),
        ({"iou": -1}, "iou must be"),
        ({"most": 0}, "most must be"),
    ]
    for wrong, words in wrongs:
        with pytest.raises(UsageError, match=words):
            evaluate(predictor, data, **wrong)


def test_a_data_set_of_one_class(tmp_path: Path) -> None:
    truths = [[(0, A), (0, B)], [(0, C)]]
    found = evaluate(Predictor(Oracle(known(truths), ("cell",))), pictures(tmp_path, truths, ("cell",)))
    assert (found.coco.ap, found.voc.ap50) == (1, 1)
    assert "confused (true" not in found.text()
    names = {file.name for file in write_report(found, tmp_path / "report").iterdir()}
    assert {"precision_recall.png", "confusion.png", "predictions_1.png"} < names
    folder = save_mistakes(found, tmp_path / "mistakes")
    assert not folder.exists()  # there are none


def test_classes_without_names_go_by_their_numbers(tmp_path: Path) -> None:
    pictures(tmp_path, [[(1, A)]])
    truth = {
        "images": [{"id": 7, "file_name": "picture 0.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [A[0], A[1], A[2] - A[0], A[3] - A[1]]}],
        "categories": [{"id": 5, "name": "1"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    backend = Oracle([[(1, 0.9, A)]], (), classes=3)
    data = open_detection(tmp_path / "truth.json", classes=backend.info)
    found = evaluate(Predictor(backend), data)
    assert (found.names[1], found.voc.ap50) == ("class 1", 1)
    write_report(found, tmp_path / "report")
    assert "class 1" in (tmp_path / "report" / "classes.csv").read_text()


def test_five_hundred_objects_in_one_picture(tmp_path: Path) -> None:
    corners = [(6 * column, 4 * row) for row in range(20) for column in range(25)]
    truths = [[(i % 3, (x, y, x + 5.0, y + 3.5)) for i, (x, y) in enumerate(corners)]]
    backend = Oracle(known(truths), size=320)
    data = pictures(tmp_path, truths)
    found = evaluate(Predictor(backend), data, most=1000)
    assert (found.boxes, found.voc.ap50) == (500, 1)
    assert found.coco.ar100 == pytest.approx(0.6, abs=0.01)  # COCO looks at 100 boxes of each of the 3 classes
    assert evaluate(Predictor(backend), data).became["missed"] == 300
    write_report(found, tmp_path / "report")


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    data = pictures(tmp_path, TRUTHS)
    data.samples[1].path.write_bytes(data.samples[1].path.read_bytes()[:40])
    data.samples[3].path.unlink()
    found = evaluate(Predictor(Oracle(ANSWERS)), data, batch=3)
    assert (found.n, found.boxes, len(found.outcomes)) == (2, 2, 2)
    assert [file for file, _ in found.unreadable] == [str(data.samples[i].path) for i in (1, 3)]
    assert "2 pictures could not be read" in found.text()
    assert "does not exist" in found.to_json()["unreadable"][1]["error"]
    for sample in data.samples:
        sample.path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of the 4 pictures could be read; the first: .*0\.png is empty"):
        evaluate(Predictor(Oracle(ANSWERS)), data)


def test_what_cannot_be_evaluated_is_refused_by_name(tmp_path: Path) -> None:
    predictor, data = Predictor(Oracle(ANSWERS)), pictures(tmp_path, TRUTHS)
    for names in (NAMES[:2], NAMES[::-1]):
        with pytest.raises(UsageError, match=r"open_detection\(path, classes=predictor.info\)"):
            evaluate(predictor, pictures(tmp_path, [[(0, A)]], names))
    with pytest.raises(DatasetError, match="no pictures"):
        evaluate(predictor, DetectionData((), NAMES, "coco"))
    classifier = Oracle([])
    classifier.info = ModelInfo(Spec(head=Classifier(outputs=3)), image.recipe("torchvision-v1", 32), NAMES)
    with pytest.raises(UsageError, match="this is a model for classification"):
        evaluate(Predictor(classifier), data)
    broken = Oracle(ANSWERS)
    broken.run = lambda images_BHWC: {  # pyright: ignore[reportAttributeAccessIssue]
        name: values * math.nan for name, values in Oracle.run(broken, images_BHWC).items()
    }
    with pytest.raises(Error, match="not finite"):
        evaluate(Predictor(broken), data)


# ---- real pictures


class Stored:
    """A backend that gives the stored detections of real pictures, which it is asked for in this order."""

    name = "stored"

    def __init__(self, names: tuple[str, ...], rows: Sequence[tuple[Sequence[Row], tuple[int, int]]]) -> None:
        head = SSDLite(classes=len(names), most_per_class=1000)
        self.info = ModelInfo(Spec(Backbone(width_mult=0.35), head), image.recipe("ssd", 300), names)
        self.rows = iter(rows)

    def run(self, images_BHWC: Any, /) -> dict[str, np.ndarray]:
        assert len(images_BHWC) == 1
        return raw_of(self.info, *next(self.rows))


def scores_of_voc100(form: str, folder: Path, **options: Any) -> tuple[float, int]:
    """VOC's AP in per cent, and the boxes that count."""
    names = tuple((folder / "voc.names").read_text().split())
    stored = json.loads((folder / "reference_ssdlite_detections.json").read_text())["detections"]
    places = Places(images=folder / "images")
    data = open_detection(folder / "gts" / form, places=places, classes=Stored(names, []).info)
    rows: list[Any] = [
        ([(names.index(label), score, box) for label, score, *box in stored[sample.path.stem]], sample.size)
        for sample in data.samples
    ]
    found = evaluate(Predictor(Stored(names, rows)), data, iou=1.0, batch=1, **options)
    return 100 * found.voc.ap50, found.boxes


@pytest.mark.parametrize("form", ["pascalvoc_format", "coco_format_v1", "yolo_format"])
def test_voc100_scores_the_same_in_every_form_where_difficult_objects_count(form: str, real_data: Path) -> None:
    found = scores_of_voc100(form, real_data / "detection" / "voc100", count_difficult=True)
    assert found == (pytest.approx(67.709, abs=0.002), 273)


def test_vocs_form_alone_says_which_objects_of_voc100_are_difficult(real_data: Path) -> None:
    found = scores_of_voc100("pascalvoc_format", real_data / "detection" / "voc100")
    assert found == (pytest.approx(71.473, abs=0.002), 235)
