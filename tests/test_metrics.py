"""Metrics against matrices counted by hand and against the slow way, picture by picture."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2.errors import UsageError
from mobilenetv2.metrics import NO_ANSWER, ConfusionMatrix, TopK, confused_pairs, interval, macro, per_class, top_k

# Three classes, ten pictures, counted by hand:       answered 0  1  2
BY_HAND_TRUE = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]  # true 0 (4)    3  1  0
BY_HAND_ANSWER = [0, 0, 0, 1, 1, 1, 0, 2, 0, 1]  #    1 (3)    1  2  0
#                                                     2 (3)    1  1  1


@st.composite
def scored_pictures(draw):
    """Rows of scores with many ties, and labels."""
    classes = draw(st.integers(1, 8))
    rows = draw(st.lists(st.lists(st.integers(-3, 3), min_size=classes, max_size=classes), min_size=1, max_size=12))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(rows), max_size=len(rows)))
    return np.array(rows, dtype=np.float32), np.array(labels)


@st.composite
def labels_and_answers(draw):
    classes = draw(st.integers(1, 6))
    n = draw(st.integers(0, 30))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    answers = draw(st.lists(st.integers(NO_ANSWER, classes - 1), min_size=n, max_size=n))
    return classes, np.array(labels, dtype=np.int64), np.array(answers, dtype=np.int64)


@given(scored_pictures(), st.integers(1, 10))
def test_top_k_sorts_each_row_by_score_and_then_by_class(pictures, k):
    scores, _ = pictures
    expected = [sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] for row in scores.tolist()]
    assert top_k(scores, k).tolist() == expected


@given(scored_pictures(), st.integers(1, 10), st.sampled_from(["first", "last"]))
def test_a_background_output_never_counts_wherever_it_is_and_however_high(pictures, k, where):
    scores, _ = pictures
    high = np.full((len(scores), 1), 99.0)
    with_background = np.hstack([high, scores] if where == "first" else [scores, high])
    assert top_k(with_background, k, background=where).tolist() == top_k(scores, k).tolist()


@pytest.mark.parametrize("bad", [[math.nan, 1, 2], [1, math.nan, 0], [3, 2, math.inf], [-math.inf] * 3])
def test_a_row_that_is_not_finite_has_no_answer_and_is_never_right(bad):
    answers = top_k([[0, 5, 1], bad], 3)
    assert answers.tolist() == [[1, 2, 0], [NO_ANSWER] * 3]
    score = TopK(3)
    for label in range(3):
        score.add(answers[1:], [label])
    assert score.compute() == {"top1": 0, "top5": 0}


def test_nan_in_the_background_output_alone_is_no_answer_either():
    assert top_k([[math.nan, 1, 2]], 1, background="first").tolist() == [[NO_ANSWER]]


def test_a_class_at_minus_infinity_is_ruled_out_and_the_others_still_count():
    assert top_k([[-math.inf, 1, 2]], 3).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(("scores", "k"), [([1.0, 2.0], 1), ([[1.0]], 0), (np.zeros((2, 0)), 1)])
def test_top_k_says_what_it_needs(scores, k):
    with pytest.raises(UsageError, match="top_k needs scores"):
        top_k(scores, k)


@given(scored_pictures())
def test_top_k_accuracy_is_the_share_of_labels_that_few_others_beat(pictures):
    """A label is among the first k where fewer than k classes come before it."""
    scores, labels = pictures
    classes = scores.shape[1]
    right = {1: 0, 3: 0}
    for row, label in zip(scores, labels, strict=True):
        before = sum(row[i] > row[label] or (row[i] == row[label] and i < label) for i in range(classes))
        for k in right:
            right[k] += before < k
    score = TopK(classes, ks=(1, 3))
    score.add(top_k(scores, 3), labels)
    assert score.compute() == {"top1": right[1] / len(labels), "top3": right[3] / len(labels)}


@given(scored_pictures(), st.integers(0, 12))
def test_adding_in_two_batches_is_adding_at_once(pictures, cut):
    scores, labels = pictures
    answers = top_k(scores, 5)
    whole, parts = TopK(scores.shape[1]), TopK(scores.shape[1])
    whole_matrix, parts_matrix = ConfusionMatrix(scores.shape[1]), ConfusionMatrix(scores.shape[1])
    whole.add(answers, labels)
    whole_matrix.add(answers[:, 0], labels)
    for part in (slice(None, cut), slice(cut, None)):
        parts.add(answers[part], labels[part])
        parts_matrix.add(answers[part, 0], labels[part])
    assert parts.compute() == whole.compute()
    assert parts.n == len(labels)
    assert (parts_matrix.compute() == whole_matrix.compute()).all()


def test_top_5_of_three_classes_counts_all_three():
    score = TopK(3)
    score.add(top_k([[9, 5, 1], [9, 5, 1]], 5), [2, 0])
    assert score.compute() == {"top1": 0.5, "top5": 1.0}


def test_scores_of_nothing_are_nan():
    assert all(math.isnan(value) for value in TopK(10).compute().values())


def test_top_5_refuses_answers_that_are_too_few_to_tell():
    with pytest.raises(UsageError, match="top-5 needs 5 answers per picture, got 1"):
        TopK(10).add([[3]], [3])


@pytest.mark.parametrize(
    ("answers", "labels", "message"),
    [
        ([0, 3], [0, 0], r"answers must be -1 to 2, got 0 to 3"),
        ([0, -2], [0, 0], r"answers must be -1 to 2, got -2 to 0"),
        ([0, 0], [0, 3], r"labels must be 0 to 2, got 0 to 3"),
        ([0, 0], [0, -1], r"labels must be 0 to 2, got -1 to 0"),
        ([0], [0, 0], r"answers must be \[pictures\] and labels \[pictures\]"),
        ([0.0], [0], r"whole numbers, got float64"),
    ],
)
def test_indices_that_are_no_class_are_refused_and_named(answers, labels, message):
    with pytest.raises(UsageError, match=message):
        ConfusionMatrix(3).add(answers, labels)


@pytest.mark.parametrize("make", [lambda: TopK(0), lambda: TopK(3, ks=()), lambda: TopK(3, ks=(0,))])
def test_top_k_without_classes_or_k_is_refused(make):
    with pytest.raises(UsageError, match="TopK needs"):
        make()


def test_a_confusion_matrix_without_classes_is_refused():
    with pytest.raises(UsageError, match="at least one class"):
        ConfusionMatrix(0)


def test_the_matrix_counted_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.add(BY_HAND_ANSWER, BY_HAND_TRUE)
    assert matrix.compute().tolist() == [[3, 1, 0, 0], [1, 2, 0, 0], [1, 1, 1, 0]]


def test_per_class_figures_counted_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.add(BY_HAND_ANSWER, BY_HAND_TRUE)
    found = per_class(matrix.compute())
    assert found.pictures.tolist() == [4, 3, 3]
    assert found.answered.tolist() == [5, 4, 1]
    assert found.right.tolist() == [3, 2, 1]
    assert found.recall == pytest.approx([3 / 4, 2 / 3, 1 / 3])
    assert found.precision == pytest.approx([3 / 5, 1 / 2, 1])
    assert found.f1 == pytest.approx([2 / 3, 4 / 7, 1 / 2])


def test_a_class_that_is_never_answered_has_precision_0_in_the_average_and_one_without_pictures_is_left_out():
    matrix = ConfusionMatrix(4)
    matrix.add([0, 0, 2, 3], [0, 1, 2, 2])  # class 1 is never answered, class 3 has no picture
    found = macro(per_class(matrix.compute()))
    assert found.precision == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert found.recall == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found.f1 == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)


def test_the_average_over_no_class_is_nan():
    found = macro(per_class(ConfusionMatrix(3).compute()))
    assert all(map(math.isnan, (found.precision, found.recall, found.f1)))


def test_pictures_without_an_answer_lower_recall_and_nothing_else():
    matrix = ConfusionMatrix(2)
    matrix.add([0, NO_ANSWER, NO_ANSWER, 1], [0, 0, 1, 1])
    assert matrix.compute().tolist() == [[1, 0, 1], [0, 1, 1]]
    found = per_class(matrix.compute())
    assert found.recall.tolist() == [0.5, 0.5]
    assert found.precision.tolist() == [1, 1]


@given(labels_and_answers())
def test_per_class_figures_are_what_counting_picture_by_picture_gives(data):
    classes, labels, answers = data
    matrix = ConfusionMatrix(classes)
    matrix.add(answers, labels)
    found = per_class(matrix.compute())
    for c in range(classes):
        both = sum(1 for true, answer in zip(labels, answers, strict=True) if true == answer == c)
        true, given_ = int((labels == c).sum()), int((answers == c).sum())
        recall = both / true if true else math.nan
        precision = both / given_ if given_ else math.nan
        assert found.recall[c] == pytest.approx(recall, nan_ok=True)
        assert found.precision[c] == pytest.approx(precision, nan_ok=True)
        if both:
            assert found.f1[c] == pytest.approx(2 * precision * recall / (precision + recall))
        else:
            assert found.f1[c] == pytest.approx(0 if true or given_ else math.nan, nan_ok=True)


@given(labels_and_answers())
def test_confused_pairs_are_the_wrong_answers_most_frequent_first(data):
    classes, labels, answers = data
    matrix = ConfusionMatrix(classes)
    matrix.add(answers, labels)
    pairs = confused_pairs(matrix.compute())
    pictures = [labels.tolist().count(label) for label in range(classes)]
    assert pairs == sorted(pairs, key=lambda pair: (-pair[2], pictures[pair[0]], pair[0], pair[1]))
    wrong = [(t, a) for t, a in zip(labels.tolist(), answers.tolist(), strict=True) if a not in (t, NO_ANSWER)]
    assert {(t, a): count for t, a, count in pairs} == {pair: wrong.count(pair) for pair in wrong}
    assert confused_pairs(matrix.compute(), limit=1) == pairs[:1]


def test_what_compute_gives_is_a_copy():
    matrix = ConfusionMatrix(2)
    matrix.add([0], [0])
    matrix.compute()[:] = 7
    assert matrix.compute().sum() == 1


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # by hand from the quadratic (p - x)^2 = z^2 x (1 - x) / n
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)],
)
def test_the_interval_is_wilsons(right, n, low, high):
    assert interval(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_holds_the_measured_share_and_solves_wilsons_quadratic(n, share):
    right = round(share * n)
    low, high = interval(right, n)
    assert 0 <= low <= right / n <= high <= 1
    z = NormalDist().inv_cdf(0.975)
    for bound in (low, high):
        assert (right / n - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_an_interval_of_nothing_is_refused(right, n):
    with pytest.raises(UsageError, match="interval needs"):
        interval(right, n)
