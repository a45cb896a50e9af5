"""Evaluation with a network whose logits are known: scores, reports and drawn mistakes are counted by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.data.classification import ClassificationData, Sample, open_classification
from mobilenetv2.errors import DatasetError, DownloadError, Error, UsageError
from mobilenetv2.evaluate import Evaluation, evaluate, save_mistakes, write_report
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.predictor import Predictor
from mobilenetv2.spec import Background, Classifier, Spec

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


class Table:
    """A backend that knows each picture by its grey level: picture i is answered with row i of `logits`."""

    name = "table"

    def __init__(self, logits: Any, names: tuple[str, ...], background: Background = "none") -> None:
        self.logits = np.asarray(logits, dtype=np.float32)
        head = Classifier(outputs=self.logits.shape[1], background=background)
        self.info = ModelInfo(Spec(head=head), image.recipe("torchvision-v1", 32), labels=names)
        self.batches: list[int] = []

    def run(self, images_BHWC: Any, /) -> dict[str, np.ndarray]:
        self.batches.append(len(images_BHWC))
        return {"logits": self.logits[images_BHWC[:, 16, 16, 0] // 10]}


def pictures(folder: Path, labels: list[int], names: tuple[str, ...] = NAMES) -> ClassificationData:
    """Picture i is grey level 10 i."""
    samples: list[Sample] = []
    for i, label in enumerate(labels):
        path = folder / f"{i}.png"
        Image.new("L", (40, 36), 10 * i).save(path)
        samples.append(Sample(path, label))
    return ClassificationData(tuple(samples), names, split="val")


def ranked(*orders: str) -> np.ndarray:
    """Logits over NAMES that put the classes with these initials first, in this order."""
    rows = np.zeros((len(orders), len(NAMES)))
    for row, order in zip(rows, orders, strict=True):
        for place, initial in enumerate(order):
            row[[name[0] for name in NAMES].index(initial)] = 10 - place
    return rows


# true classes:   ant      ant      bee      cat      cat      cat
ORDERS = ("abcdefg", "bacdefg", "bacdefg", "cabdefg", "abdefgc", "gabdcef")
LABELS = [0, 0, 1, 2, 2, 2]
# first answers:  ant ok   bee      bee ok   cat ok   ant      gnu       -> 3 of 6 right
# top five:       yes      yes      yes      yes      no (7th) yes (5th) -> 5 of 6


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    return evaluate(Predictor(Table(ranked(*ORDERS), NAMES)), pictures(tmp_path, LABELS))


def test_scores_are_those_counted_by_hand(result):
    assert (result.n, result.top1, result.top5) == (6, 3 / 6, 5 / 6)
    assert result.macro.precision == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert result.macro.recall == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert result.macro.f1 == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 3)
    assert (result.backend, result.split) == ("table", "val")
    assert result.seconds > 0


def test_the_confusion_matrix_is_the_one_counted_by_hand(result):
    expected = np.zeros((7, 8), dtype=int)
    for true, answer in [(0, 0), (0, 1), (1, 1), (2, 2), (2, 0), (2, 6)]:
        expected[true, answer] = 1
    assert (result.confusion == expected).all()
    assert result.per_class.precision[:3].tolist() == [1 / 2, 1 / 2, 1]


def test_mistakes_are_kept_in_order_with_what_was_answered(result):
    found = [(m.sample.path.name, m.sample.label, m.answer.predictions[0].label) for m in result.mistakes]
    assert found == [("1.png", 0, "bee"), ("4.png", 2, "ant"), ("5.png", 2, "gnu")]


def test_the_confidence_is_the_score_of_the_first_answer_as_results_give_it(tmp_path):
    data = pictures(tmp_path, [0, 1], ("no", "yes"))
    # background takes 1 / 2 of the first picture, and is not shared out: no 3 / 8, yes 1 / 8
    logits = np.log([[4, 3, 1], [1, 2, 7]])
    found = evaluate(Predictor(Table(logits, ("no", "yes"), "first")), data)
    assert found.answers.tolist() == [0, 1]
    assert found.confidences == pytest.approx([3 / 8, 7 / 10])
    assert found.samples == data.samples
    assert found.calibration.ece == pytest.approx((5 / 8 + 3 / 10) / 2)
    assert found.calibration.mce == pytest.approx(5 / 8)
    rows = found.to_json()["calibration"]
    assert len(rows) == 15
    assert [row["pictures"] for row in rows] == [0] * 5 + [1] + [0] * 4 + [1] + [0] * 4
    assert rows[5] == {"from": 0.333333, "to": 0.4, "pictures": 1, "confidence": 0.375, "accuracy": 1.0}
    assert rows[0] == {"from": 0.0, "to": 0.066667, "pictures": 0, "confidence": None, "accuracy": None}
    assert (found.to_json()["ece"], found.to_json()["mce"]) == (0.4625, 0.625)
    assert "calibration: ECE 46.25 %, MCE 62.50 % (15 bins), mean confidence 53.75 %" in found.text()


@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_batches_change_nothing_but_the_number_of_runs(tmp_path, batch, result):
    backend = Table(ranked(*ORDERS), NAMES)
    again = evaluate(Predictor(backend), pictures(tmp_path, LABELS), batch=batch)
    assert (again.confusion == result.confusion).all()
    assert (again.top5, again.mistakes) == (result.top5, result.mistakes)
    assert len(backend.batches) == math.ceil(6 / batch)


def test_progress_is_told_after_every_picture(tmp_path):
    calls: list[tuple[int, int]] = []
    data = pictures(tmp_path, LABELS)
    evaluate(Predictor(Table(ranked(*ORDERS), NAMES)), data, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("background", ["first", "last"])
def test_background_never_counts_as_an_answer(tmp_path, background, result):
    sure = np.full((6, 1), 50.0)
    logits = ranked(*ORDERS)
    logits = np.hstack([sure, logits] if background == "first" else [logits, sure])
    found = evaluate(Predictor(Table(logits, NAMES, background)), pictures(tmp_path, LABELS))
    assert (found.confusion == result.confusion).all()
    assert found.top5 == result.top5


def test_with_two_classes_top_5_is_everything(tmp_path):
    data = pictures(tmp_path, [0, 1], ("no", "yes"))
    found = evaluate(Predictor(Table([[2, 1], [2, 1]], ("no", "yes"))), data)
    assert (found.top1, found.top5) == (0.5, 1.0)


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path):
    data = pictures(tmp_path, LABELS)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:50])
    (tmp_path / "4.png").unlink()
    found = evaluate(Predictor(Table(ranked(*ORDERS), NAMES)), data, batch=4)
    assert (found.n, found.top1, found.top5) == (4, 3 / 4, 1)
    assert [file for file, _ in found.unreadable] == [str(tmp_path / "1.png"), str(tmp_path / "4.png")]
    assert "does not exist" in found.unreadable[1][1]
    assert "2 pictures could not be read" in found.text()
    assert found.to_json()["unreadable"][0] == {"file": str(tmp_path / "1.png"), "error": found.unreadable[0][1]}


class Away:
    """A picture in a shard that cannot be had."""

    def read_bytes(self) -> bytes:
        raise DownloadError("cannot fetch it")


def test_a_shard_that_cannot_be_had_ends_the_evaluation_and_is_no_damaged_picture(tmp_path):
    data = pictures(tmp_path, LABELS)
    samples = (*data.samples[:3], Sample(Away(), 0), *data.samples[3:])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DownloadError, match="cannot fetch it"):
        evaluate(Predictor(Table(ranked(*ORDERS), NAMES)), ClassificationData(samples, NAMES))


def test_no_readable_picture_at_all_is_an_error_with_the_first_reason(tmp_path):
    data = pictures(tmp_path, [0, 1])
    for sample in data.samples:
        sample.path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of the 2 pictures could be read; the first: .*0\.png is empty"):
        evaluate(Predictor(Table(ranked(*ORDERS), NAMES)), data)


def test_a_network_that_answers_nan_stops_the_evaluation(tmp_path):
    logits = ranked(*ORDERS)
    logits[3, 2] = math.nan
    with pytest.raises(Error, match="not finite"):
        evaluate(Predictor(Table(logits, NAMES)), pictures(tmp_path, LABELS))


def test_data_of_other_classes_is_refused(tmp_path):
    predictor = Predictor(Table(ranked(*ORDERS), NAMES))
    for names in (("ant", "bee"), NAMES[::-1]):
        with pytest.raises(UsageError, match=r"open_classification\(path, classes=predictor.info\)"):
            evaluate(predictor, pictures(tmp_path, [0, 1], names))
    with pytest.raises(DatasetError, match="no pictures"):
        evaluate(predictor, ClassificationData((), NAMES))


def test_json_has_the_documented_keys_first_and_no_nan(result):
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(found)[:4] == ["task", "n", "top1", "top5"]
    assert (found["task"], found["n"], found["top1"], found["top5"]) == ("classification", 6, 0.5, 0.833333)
    low, high = found["top1_interval95"]
    assert low < 0.5 < high
    assert (found["macro_precision"], found["macro_recall"], found["macro_f1"]) == (0.666667, 0.611111, 0.555556)
    rows = {row["label"]: row for row in found["classes"]}
    assert list(rows) == ["ant", "bee", "cat", "gnu"]  # the others neither have pictures nor were answered
    assert rows["cat"] == {
        "index": 2, "label": "cat", "pictures": 3, "answered": 1, "precision": 1.0, "recall": 0.333333, "f1": 0.5,
    }  # fmt: skip
    assert (rows["gnu"]["pictures"], rows["gnu"]["recall"], rows["gnu"]["precision"]) == (0, None, 0.0)


def test_text_shows_scores_the_weakest_classes_first_and_what_was_confused(result):
    text = str(result)
    assert "top-1  50.00 %" in text
    assert "top-5  83.33 %" in text
    assert "precision 66.67 %, recall 61.11 %, F1 55.56 %" in text
    assert "6 pictures of 3 classes, backend table" in text
    assert text.index("\n  cat ") < text.index("\n  ant ") < text.index("\n  bee ")
    assert "1  ant -> bee" in text


def test_a_perfect_model_has_nothing_confused(tmp_path):
    found = evaluate(Predictor(Table(ranked("abcdefg", "bacdefg"), NAMES)), pictures(tmp_path, [0, 1]))
    assert found.top1 == 1
    assert "confused" not in found.text()
    folder = save_mistakes(found, tmp_path / "mistakes")
    assert not folder.exists()


def test_the_report_is_json_with_every_pair_and_mistake_and_a_picture(result, tmp_path):
    folder = write_report(result, tmp_path / "new" / "report")
    assert sorted(file.name for file in folder.iterdir()) == [
        "classes.csv", "confusion.png", "reliability.png", "report.json",
    ]  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert {key: report[key] for key in result.to_json()} == result.to_json()
    assert report["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [2, 0, 1], [2, 2, 1], [2, 6, 1]]
    assert [mistake["true"]["label"] for mistake in report["mistakes"]] == ["ant", "cat", "cat"]
    assert report["mistakes"][0]["predictions"][0]["label"] == "bee"
    for name in ("confusion.png", "reliability.png"):
        with Image.open(folder / name) as drawn:
            assert drawn.format == "PNG"
    with open(folder / "classes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{key: "" if v is None else str(v) for key, v in row.items()} for row in result.class_rows()]
    assert (rows[2]["label"], rows[2]["recall"], rows[3]["recall"]) == ("cat", "0.333333", "")


def test_mistakes_are_drawn_surest_first_up_to_a_limit(tmp_path):
    logits = ranked(*ORDERS)
    logits[5] *= 3  # the surest mistake
    found = evaluate(Predictor(Table(logits, NAMES)), pictures(tmp_path, LABELS))
    folder = save_mistakes(found, tmp_path / "all")
    assert sorted(file.name for file in folder.iterdir()) == [
        "001_cat_as_gnu.png", "002_ant_as_bee.png", "003_cat_as_ant.png", "contact_sheet.png",
    ]  # fmt: skip
    with Image.open(folder / "001_cat_as_gnu.png") as drawn:
        assert drawn.convert("RGB").getpixel((100, 100)) == (50, 50, 50)
    folder = save_mistakes(found, tmp_path / "one", limit=1)
    assert sorted(file.name for file in folder.iterdir()) == ["001_cat_as_gnu.png", "contact_sheet.png"]
    with pytest.raises(UsageError, match="limit must be at least 1"):
        save_mistakes(found, tmp_path / "none", limit=0)


def test_labels_become_names_of_files_that_any_system_takes(tmp_path):
    names = ("a/b: c?", "..", "猫, лиса, long " * 9)
    data = pictures(tmp_path, [0, 1, 2], names)
    found = evaluate(Predictor(Table([[0, 9, 0], [0, 0, 9], [9, 0, 0]], names)), data)
    drawn = sorted(file.name for file in save_mistakes(found, tmp_path / "out").iterdir())
    assert len(drawn) == 4
    assert any(name.endswith("_a-b-c_as_class.png") for name in drawn)
    assert max(len(name.encode()) for name in drawn) < 200


def test_a_folder_evaluates_from_opening_to_report(tmp_path):
    for i, name in enumerate(["ant", "bee"]):
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        Image.new("L", (40, 36), 10 * i).save(folder / f"{name}.png")
    backend = Table(ranked("abcdefg", "abcdefg"), NAMES)
    data = open_classification(tmp_path / "data", classes=backend.info)
    found = evaluate(Predictor(backend), data)
    assert (found.n, found.top1, found.top5, found.split) == (2, 0.5, 1.0, "val")
