"""Two models with known answers on one data set: what is counted by hand, and statistics against their definitions."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import image, plots
from mobilenetv2.agreement import Agreement, class_order, cohen_kappa, compare, evaluate_both, mcnemar, write_report
from mobilenetv2.data.classification import ClassificationData, Sample, open_classification
from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.evaluate import evaluate
from mobilenetv2.importers import import_file
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.predictor import Predictor, load
from mobilenetv2.spec import Classifier, Spec

NAMES = ("ant", "bee", "cat")
GOOGLES = ("tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_1.0_224_quant")


class Oracle:
    """A backend that knows each picture by its grey level: picture i is answered with the class `answers[i]`."""

    name = "oracle"

    def __init__(self, answers: str, names: tuple[str, ...] = NAMES, sure: float | list[float] = 0.8) -> None:
        self.info = info(*names)
        each = sure if isinstance(sure, list) else [sure] * len(answers)
        others = len(names) - 1
        rows = [[s if name[0] == a else (1 - s) / others for name in names] for a, s in zip(answers, each, strict=True)]
        self.logits = np.log(np.array(rows, dtype=np.float32))

    def run(self, images_BHWC: Any, /) -> dict[str, np.ndarray]:
        return {"logits": self.logits[images_BHWC[:, 16, 16, 0] // 10]}


def info(*names: str, ids: tuple[str, ...] = (), classes: int = 0) -> ModelInfo:
    head = Classifier(outputs=classes or len(names))
    return ModelInfo(Spec(head=head), image.recipe("torchvision-v1", 32), labels=names, label_ids=ids)


@pytest.fixture
def data(tmp_path: Path) -> ClassificationData:
    """Eight pictures of ants, bees and cats, "aaabbbcc"; picture i is grey level 10 i."""
    samples: list[Sample] = []
    for i, label in enumerate([0, 0, 0, 1, 1, 1, 2, 2]):
        Image.new("L", (40, 36), 10 * i).save(tmp_path / f"{i}.png")
        samples.append(Sample(tmp_path / f"{i}.png", label))
    return ClassificationData(tuple(samples), NAMES)


FIRST, SECOND = "aaabbcca", "aabbacab"
# true             "aaabbbcc"
# same: 0, 1, 3, 5 -> 4 of 8; right both 0, 1, 3, first alone 2, 4, 6, second alone none, neither 5, 7


@pytest.fixture
def both(data: ClassificationData) -> Agreement:
    return evaluate_both(Predictor(Oracle(FIRST)), Predictor(Oracle(SECOND, sure=0.6)), data, models=("m", "n"))


def test_counts_are_those_counted_by_hand(both):
    assert (both.n, both.same) == (8, 4)
    assert (both.both_right, both.only_first, both.only_second, both.neither) == (3, 3, 0, 2)
    assert (both.first.top1, both.second.top1) == (6 / 8, 3 / 8)
    # the first answers a b c 4 2 2 times, the second 4 3 1: by chance 16 + 6 + 2 of 64
    assert both.kappa == pytest.approx((4 / 8 - 24 / 64) / (1 - 24 / 64))
    assert both.p_value == 2 / 8


def test_differences_are_in_order_with_both_answers(both):
    found = [(d.sample.path.name, d.first.label, d.second.label) for d in both.differences]
    assert found == [("2.png", "ant", "bee"), ("4.png", "bee", "ant"), ("6.png", "cat", "ant"), ("7.png", "ant", "bee")]
    assert both.differences[0].first.score == pytest.approx(0.8)
    assert both.differences[0].second.score == pytest.approx(0.6)


def test_a_model_agrees_with_itself(data):
    found = evaluate_both(Predictor(Oracle(FIRST)), Predictor(Oracle(FIRST)), data)
    assert (found.same, found.kappa, found.p_value, found.differences) == (8, 1, 1, ())
    assert (found.both_right, found.only_first, found.only_second, found.neither) == (6, 0, 0, 2)
    assert "differ on" not in found.text()


def test_the_other_way_round_is_the_mirror_image(data, both):
    other = evaluate_both(Predictor(Oracle(SECOND, sure=0.6)), Predictor(Oracle(FIRST)), data)
    assert (other.only_first, other.only_second) == (both.only_second, both.only_first)
    assert (other.same, other.kappa, other.p_value) == (both.same, both.kappa, both.p_value)


def test_classes_in_another_order_are_compared_by_name(data, both):
    reordered = Oracle(SECOND, names=("cat", "ant", "bee"), sure=0.6)
    found = evaluate_both(Predictor(Oracle(FIRST)), Predictor(reordered), data)
    assert found.second.top1 == both.second.top1
    assert found.differences == both.differences  # indices too are the first model's
    assert found.kappa == both.kappa


def test_progress_counts_each_picture_for_each_model(data):
    calls: list[tuple[int, int]] = []
    evaluate_both(
        Predictor(Oracle(FIRST)), Predictor(Oracle(SECOND)), data, progress=lambda *call: calls.append(call)
    )  # fmt: skip
    assert calls == [(i, 16) for i in range(1, 17)]


def test_pictures_that_cannot_be_read_are_left_out_for_both(data, tmp_path):
    (tmp_path / "2.png").write_bytes(b"nothing")
    found = evaluate_both(Predictor(Oracle(FIRST)), Predictor(Oracle(SECOND)), data)
    assert (found.n, found.same, found.only_first) == (7, 4, 2)
    assert [name for name, _ in found.unreadable] == [str(tmp_path / "2.png")]


def test_only_pictures_that_both_could_read_are_compared(data, tmp_path):
    first = evaluate(Predictor(Oracle(FIRST)), data)
    (tmp_path / "0.png").unlink()
    second = evaluate(Predictor(Oracle(SECOND)), data)
    found = compare(first, second, (0, 1, 2))
    assert (found.n, found.both_right) == (7, 2)
    assert [name for name, _ in found.unreadable] == [str(tmp_path / "0.png")]


def test_evaluations_of_other_pictures_are_refused(data):
    first = evaluate(Predictor(Oracle(FIRST)), data)
    second = evaluate(Predictor(Oracle(SECOND)), replace(data, samples=data.samples[1:]))
    with pytest.raises(UsageError, match="of different pictures"):
        compare(first, second, (0, 1, 2))


def test_no_picture_that_both_could_read_is_an_error(data, tmp_path):
    two = replace(data, samples=data.samples[:2])
    kept = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").unlink()
    first = evaluate(Predictor(Oracle(FIRST)), two)
    (tmp_path / "1.png").write_bytes(kept)
    (tmp_path / "0.png").unlink()
    second = evaluate(Predictor(Oracle(SECOND)), two)
    with pytest.raises(DatasetError, match="no picture that both"):
        compare(first, second, (0, 1, 2))


def test_json_is_the_firsts_evaluation_with_the_seconds_and_the_agreement(both):
    found = json.loads(json.dumps(both.to_json(), allow_nan=False))
    assert {key: found[key] for key in both.first.to_json()} == both.first.to_json()
    assert found["beside"] == {"model": "n", **both.second.to_json()}
    agreement = found["agreement"]
    differences = agreement.pop("differences")
    assert found["model"] == "m"
    assert agreement == {
        "n": 8, "same_answer": 4, "same_answer_share": 0.5, "both_right": 3, "only_first_right": 3,
        "only_second_right": 0, "neither_right": 2, "kappa": 0.2, "mcnemar_p": 0.25,
    }  # fmt: skip
    assert len(differences) == 4
    assert differences[0] == {
        "file": str(both.differences[0].sample.path),
        "true": {"index": 0, "label": "ant"},
        "first": {"index": 0, "label": "ant", "score": 0.8},
        "second": {"index": 1, "label": "bee", "score": 0.6},
    }


def test_kappa_that_is_not_defined_is_null(data):
    found = evaluate_both(Predictor(Oracle("a" * 8)), Predictor(Oracle("a" * 8)), data)
    assert found.same == 8
    assert found.to_json()["agreement"]["kappa"] is None
    assert "kappa not defined" in found.text()


def test_text_says_all_of_it(both):
    text = str(both)
    assert text.startswith(both.first.text())
    assert "the same first answer on 4 of 8 pictures, 50.00 %; Cohen's kappa 0.200" in text
    assert "both right 3, only the first 3, only the second 0, neither 2" in text
    assert "p = 0.25 " in text
    assert "they differ on 4 pictures:" in text
    rows = [line for line in text.splitlines() if line.endswith("2.png")]
    assert [row.split()[:-1] for row in rows] == [["ant", "80", "%", "ant", "60", "%", "bee"]]


def test_the_text_lists_the_first_ten_of_many_differences(data):
    many = replace(data, samples=data.samples * 3)
    text = evaluate_both(Predictor(Oracle("a" * 8)), Predictor(Oracle("b" * 8)), many).text()
    assert "they differ on 24 pictures, the first 10 of them:" in text
    assert text.count(".png") == 10


def test_the_report_has_the_differences_and_draws_them(both, tmp_path):
    folder = write_report(both, tmp_path / "report")
    names = sorted(file.name for file in folder.iterdir())
    assert names == [
        "agreement.json", "classes.csv", "confusion.png", "disagreements.png", "reliability.png", "report.json",
    ]  # fmt: skip
    assert json.loads((folder / "agreement.json").read_text()) == json.loads(json.dumps(both.beside_json()))
    with Image.open(folder / "disagreements.png") as drawn:
        assert drawn.width > 4 * 192  # four tiles in a row


def test_the_contact_sheet_has_sixty_with_the_surest_first_and_says_who_is_right(data, tmp_path, monkeypatch):
    sheets: list[list[plots.Tile]] = []
    monkeypatch.setattr(plots, "contact_sheet", lambda tiles: sheets.append(tiles) or tiles[0].rgb)
    second = Oracle("b" * 8, sure=[0.4, 0.7, 0.75, 0.5, 0.95, 0.45, 0.6, 0.55])  # the first is 80 % sure of "ant"
    found = evaluate_both(Predictor(Oracle("a" * 8)), Predictor(second), replace(data, samples=data.samples * 10))
    assert len(found.differences) == 80
    write_report(found, tmp_path / "report")
    [tiles] = sheets
    assert [(tile.lines, tile.right) for tile in tiles[::10]] == [
        (("first: 80 % ant", "second: 95 % bee", "true: bee"), False),
        (("first: 80 % ant", "second: 75 % bee", "true: ant"), True),
        (("first: 80 % ant", "second: 70 % bee", "true: ant"), True),
        (("first: 80 % ant", "second: 60 % bee", "true: cat"), None),
        (("first: 80 % ant", "second: 55 % bee", "true: cat"), None),
        (("first: 80 % ant", "second: 50 % bee", "true: bee"), False),
    ]
    assert len(tiles) == 60


def test_nothing_is_drawn_where_models_agree(data, tmp_path):
    found = evaluate_both(Predictor(Oracle(FIRST)), Predictor(Oracle(FIRST)), data)
    assert not (write_report(found, tmp_path / "report") / "disagreements.png").exists()


def test_class_order_is_the_permutation():
    assert class_order(info("ant", "bee", "cat"), info("cat", "ant", "bee")) == (2, 0, 1)
    assert class_order(info("ant", "bee"), info("ant", "bee")) == (0, 1)
    assert class_order(info("tv", "motorbike"), info("Motorcycle", "tvmonitor")) == (1, 0)
    assert class_order(info("0", "1", "2"), info("2", "0", "1")) == (2, 0, 1)  # names, not numbers
    assert class_order(info(classes=4), info(classes=4)) == (0, 1, 2, 3)


def test_classes_of_imagenet_are_matched_by_their_ids_where_two_share_a_name():
    imagenet = class_names("imagenet")
    order = np.random.default_rng(0).permutation(1000)
    first = info(*imagenet.names, ids=imagenet.ids)
    shuffled = [imagenet.names[i] for i in order], tuple(imagenet.ids[i] for i in order)
    assert imagenet.names.count("crane") == 2
    assert class_order(first, info(*shuffled[0], ids=shuffled[1])) == tuple(order)
    folders = info(*sorted(imagenet.ids))  # trained on folders with WordNet ids for names
    assert class_order(first, folders) == class_order(folders, first) == tuple(range(1000))
    with pytest.raises(UsageError, match="its class 'crane' may be one of several of first's"):
        class_order(info(*imagenet.names), info(*shuffled[0]))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("ant", "bee"), "m has 3 classes and n has 2: only models of the same classes"),
        (("ant", "bee", "dog"), "n: its class 'dog' is none of m's classes"),
        (("ant", "bee", "Bee"), "n: its class 'Bee' is the same as another of m's classes"),
        (("0", "1", "2"), "n: its class '0' is none of m's classes"),
    ],
)
def test_other_classes_are_refused_by_name_before_anything_is_evaluated(data, second, message):
    with pytest.raises(UsageError, match=message) as caught:
        evaluate_both(
            Predictor(Oracle(FIRST)), Predictor(Oracle(second[0][0] * 8, names=second)), data, models=("m", "n"),
            progress=lambda *_: pytest.fail("evaluated"),
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_labelled_and_an_unlabelled_model_are_not_compared():
    with pytest.raises(UsageError, match="its class 'class 0' is none of first's classes"):
        class_order(info("ant", "bee"), info(classes=2))


def test_kappa_of_cohens_textbook_table():
    # 20 both yes, 15 both no, 5 yes/no, 10 no/yes: p = 0.7, e = 0.5 x 0.6 + 0.5 x 0.4 = 0.5
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohen_kappa([a for a, _ in pairs], [b for _, b in pairs]) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_kappa_is_what_pairing_every_answer_with_every_other_expects(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    p = sum(a == b for a, b in pairs) / len(pairs)
    e = sum(a == b for a, b in product(first, second)) / len(pairs) ** 2
    found = cohen_kappa(first, second)
    if e == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx((p - e) / (1 - e))
        assert cohen_kappa(second, first) == found


def test_kappa_of_answers_drawn_independently_is_near_0():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, (2, 20_000)).tolist()
    assert abs(cohen_kappa(first, second)) < 0.02  # its standard deviation is about 0.005


def test_kappa_of_nothing_is_nan():
    assert math.isnan(cohen_kappa([], []))


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(0, 0, 1), (1, 0, 1), (0, 5, 2 / 32), (1, 5, 2 * 7 / 64), (3, 3, 1), (10, 2, 2 * (1 + 12 + 66) / 4096)],
)
def test_mcnemars_p_by_hand(b, c, p):
    assert mcnemar(b, c) == pytest.approx(p)


@pytest.mark.parametrize(("b", "c"), [(b, c) for b in range(7) for c in range(7 - b)])
def test_mcnemars_p_is_the_share_of_all_splits_that_are_as_uneven(b, c):
    splits = [sum(coins) for coins in product((0, 1), repeat=b + c)]
    uneven = sum(abs(2 * heads - (b + c)) >= abs(b - c) for heads in splits)
    assert mcnemar(b, c) == pytest.approx(uneven / len(splits))


def test_mcnemars_p_of_many_pictures_is_the_normal_distributions():
    z = (25_500 - 24_500 - 1) / math.sqrt(50_000)  # with the correction for continuity
    assert mcnemar(25_500, 24_500) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert mcnemar(5_000, 0) == 0  # below what a float can hold


def test_mcnemar_refuses_counts_below_0():
    with pytest.raises(UsageError, match="from 0 up, got -1 and 2"):
        mcnemar(-1, 2)


def test_googles_two_classifiers_agree_as_often_as_in_litert(real_data):
    first, second = (
        load(import_file(real_data / "weights" / "google-coral" / f"{name}.tflite"), resize="none", crop=224)
        for name in GOOGLES
    )
    folder = real_data / "classification" / "imagenet_val_300"
    data = open_classification(folder / "dataset.txt", classes=first.info)
    found = evaluate_both(first, second, replace(data, samples=data.samples[:60]))
    answers = []
    for name in GOOGLES:
        with open(folder / f"litert_{name}_top5.csv", newline="") as file:
            answers.append([row[2] for row in csv.reader(file)][1:61])
    assert abs(found.same - sum(a == b for a, b in zip(*answers, strict=True))) <= 3  # theirs are int8, ours float32
    assert found.kappa == pytest.approx(cohen_kappa(*answers), abs=0.05)
    assert found.both_right + found.only_first == round(60 * found.first.top1)
    assert found.both_right + found.only_second == round(60 * found.second.top1)
