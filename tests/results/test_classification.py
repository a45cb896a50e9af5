"""Raw outputs become answers: ranked, scored over all outputs, written as text, JSON and pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import image
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.results import Classification, Prediction, decode_classification
from mobilenetv2.spec import Background, Classifier, Spec

ANSWER = Classification((Prediction(281, "tabby", 0.71234567), Prediction(285, "Egyptian cat", 0.0002)))


def info_for(outputs: int, background: Background = "none", *, named: bool = True) -> ModelInfo:
    spec = Spec(head=Classifier(outputs=outputs, background=background))
    labels = tuple(f"name {i}" for i in range(spec.head.classes)) if named else ()
    return ModelInfo(spec, image.recipe("torchvision-v1", 224), labels=labels)


def raw_of(*logits: float) -> dict[str, np.ndarray]:
    return {"logits": np.array([logits], dtype=np.float32)}


def test_the_best_classes_come_first_with_their_names_and_softmax_scores():
    answer = decode_classification(raw_of(0.0, math.log(6), math.log(3)), info_for(3))
    assert [(p.index, p.label) for p in answer.predictions] == [(1, "name 1"), (2, "name 2"), (0, "name 0")]
    assert [p.score for p in answer.predictions] == pytest.approx([0.6, 0.3, 0.1])


@pytest.mark.parametrize("background", ["first", "last"])
def test_background_takes_its_share_of_the_scores_and_is_no_answer(background: Background):
    real = (0.0, math.log(2))
    logits = (math.log(7), *real) if background == "first" else (*real, math.log(7))
    answer = decode_classification(raw_of(*logits), info_for(3, background))
    assert [(p.index, p.label) for p in answer.predictions] == [(1, "name 1"), (0, "name 0")]
    assert [p.score for p in answer.predictions] == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("background", ["first", "last"])
@pytest.mark.parametrize(("share", "place"), [(7, 0), (1.5, 1), (0.5, 2)])
def test_background_is_shown_in_its_place_as_minus_one_when_asked_for(background: Background, share, place):
    real = (0.0, math.log(2))
    logits = (math.log(share), *real) if background == "first" else (*real, math.log(share))
    answer = decode_classification(raw_of(*logits), info_for(3, background), with_background=True)
    expected = [1, 0]
    expected.insert(place, -1)
    assert [p.index for p in answer.predictions] == expected
    assert answer.predictions[place].label == "background"
    assert sum(p.score for p in answer.predictions) == pytest.approx(1)


def test_background_counts_among_the_top_and_can_fall_out_of_them():
    answer = decode_classification(raw_of(9.0, 1.0, 2.0, 3.0), info_for(4, "first"), top=2, with_background=True)
    assert [p.index for p in answer.predictions] == [-1, 2]
    answer = decode_classification(raw_of(-9.0, 1.0, 2.0, 3.0), info_for(4, "first"), top=2, with_background=True)
    assert [p.index for p in answer.predictions] == [2, 1]


def test_asking_for_background_changes_nothing_where_there_is_none():
    raw, info = raw_of(1.0, 2.0), info_for(2)
    assert decode_classification(raw, info, with_background=True) == decode_classification(raw, info)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12), st.integers(1, 15))
def test_scores_are_fractions_in_falling_order_and_as_many_as_asked_for_or_there_are(logits, top):
    answer = decode_classification(raw_of(*logits), info_for(len(logits)), top=top)
    scores = [p.score for p in answer.predictions]
    assert len(scores) == min(top, len(logits))
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)
    if top >= len(logits):
        assert sum(scores) == pytest.approx(1)


def test_equal_logits_are_in_the_order_of_the_classes():
    answer = decode_classification(raw_of(1.0, 2.0, 1.0, 2.0), info_for(4))
    assert [p.index for p in answer.predictions] == [1, 3, 0, 2]


def test_large_logits_do_not_overflow():
    answer = decode_classification(raw_of(3e38, -3e38, 0.0), info_for(3))
    assert [p.score for p in answer.predictions] == [1, 0, 0]


def test_without_names_a_class_is_called_by_its_number():
    assert decode_classification(raw_of(0.0, 1.0), info_for(2, named=False)).predictions[0].label == "class 1"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_output_that_is_not_finite_is_an_error_and_no_answer(bad):
    with pytest.raises(Error, match="outputs are not finite"):
        decode_classification(raw_of(0.0, bad, 1.0), info_for(3))


def test_no_answers_at_all_cannot_be_asked_for():
    with pytest.raises(UsageError, match="top must be a whole number from 1 up, got 0"):
        decode_classification(raw_of(0.0, 1.0), info_for(2), top=0)


def test_json_has_the_documented_keys_and_survives_json():
    found = json.loads(json.dumps(ANSWER.to_json(file=Path("a.jpg"))))
    assert found == {
        "file": "a.jpg",
        "task": "classification",
        "predictions": [
            {"index": 281, "label": "tabby", "score": 0.712346},
            {"index": 285, "label": "Egyptian cat", "score": 0.0002},
        ],
    }
    assert list(found) == ["file", "task", "predictions"]


def test_json_of_a_picture_without_a_file_has_no_file():
    assert list(ANSWER.to_json()) == ["task", "predictions"]


def test_text_is_a_line_per_answer_with_aligned_labels():
    first, second = str(ANSWER).splitlines()
    assert first.split() == ["71.2", "%", "tabby"]
    assert second.split() == ["<", "0.1", "%", "Egyptian", "cat"]
    assert first.index("tabby") == second.index("Egyptian")


def test_the_drawing_is_the_photo_with_an_answer_below_it():
    photo = np.full((300, 500, 3), (200, 30, 30), dtype=np.uint8)
    drawn = ANSWER.draw(photo)
    assert drawn.dtype == np.uint8
    assert (drawn[:300, :500] == photo).all()
    assert drawn.shape[0] > 340
    assert len(np.unique(drawn[300:].reshape(-1, 3), axis=0)) > 10  # letters have many shades
    assert ANSWER.draw(photo, title="true class: lynx").shape[0] > drawn.shape[0]
