"""How often answers are right: top-k, per class from a confusion matrix, and how well confidence foretells it.

Shape letters: B pictures, L real classes, K answers of a picture, best first.

An *answer* is the index of a real class, 0 to L - 1, or `NO_ANSWER`. Background is never an answer: where a
network has a background output, its answer is the best real class, however sure it is of background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError
from mobilenetv2.spec import Background

NO_ANSWER = -1
CALIBRATION_BINS = 15  # as in Guo et al. 2017

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def top_k(scores: npt.ArrayLike, k: int, *, background: Background = "none") -> IntArray:
    """The k best real classes of each row, best first: [B, min(k, L)] from logits or probabilities [B, outputs].

    The output that stands for `background` is left out and the others count from 0. Of equal scores the lower
    class comes first. A row that holds NaN, +inf or nothing but -inf was not computed rightly: all its
    answers are `NO_ANSWER`, which is never right.
    """
    scores_BL = np.asarray(scores, dtype=np.float64)
    if scores_BL.ndim != 2 or scores_BL.shape[1] < 1 or k < 1:
        raise UsageError(f"top_k needs scores [pictures, outputs] and k from 1 up, got {scores_BL.shape} and {k}")
    broken_B = ~np.isfinite(scores_BL.max(axis=1))  # the maximum of a row with NaN is NaN
    answers_BK = np.argsort(-real_classes(scores_BL, background), axis=1, kind="stable")[:, :k].astype(np.int64)
    answers_BK[broken_B] = NO_ANSWER
    return answers_BK


def real_classes(values_BO: npt.NDArray[Any], background: Background) -> npt.NDArray[Any]:
    """`values_BO` [B, outputs] without the column that stands for background: [B, L]."""
    if background == "none":
        return values_BO
    return values_BO[:, 1:] if background == "first" else values_BO[:, :-1]


class TopK:
    """The share of pictures whose class is among the first k answers, for each k of `ks`.

    With fewer than k classes all of them count: top-5 of three classes is 1, save for pictures without an answer.
    """

    def __init__(self, classes: int, ks: Sequence[int] = (1, 5)) -> None:
        if classes < 1 or not ks or min(ks) < 1:
            raise UsageError(f"TopK needs at least one class and k from 1 up, got {classes} classes, ks = {tuple(ks)}")
        self.classes = classes
        self.ks = tuple(ks)
        self.n = 0
        self._right = dict.fromkeys(self.ks, 0)

    def add(self, answers: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Count pictures: `answers` [B, K] as `top_k` gives them, `labels` [B] their true classes.

        Raises `UsageError` where an index is no class, or K is below both the largest k and the classes.
        """
        answers_BK, labels_B = _checked(answers, labels, self.classes, ndim=2)
        needed = min(max(self.ks), self.classes)
        if answers_BK.shape[1] < needed:
            raise UsageError(f"top-{max(self.ks)} needs {needed} answers per picture, got {answers_BK.shape[1]}")
        hits_BK = answers_BK == labels_B[:, None]
        self.n += len(labels_B)
        for k in self.ks:
            self._right[k] += int(hits_BK[:, :k].any(axis=1).sum())

    def compute(self) -> Mapping[str, float]:
        """{"top1": ..., "top5": ...}, fractions 0..1; NaN before anything was added."""
        return {f"top{k}": right / self.n if self.n else math.nan for k, right in self._right.items()}


class ConfusionMatrix:
    """How many pictures of each class got which first answer."""

    def __init__(self, classes: int) -> None:
        if classes < 1:
            raise UsageError(f"ConfusionMatrix needs at least one class, got {classes}")
        self.classes = classes
        self._counts = np.zeros((classes, classes + 1), dtype=np.int64)

    def add(self, answers: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Count pictures: `answers` [B] their first answers, `labels` [B] their true classes.

        Raises `UsageError` where an index is no class.
        """
        answers_B, labels_B = _checked(answers, labels, self.classes, ndim=1)
        columns_B = np.where(answers_B == NO_ANSWER, self.classes, answers_B)
        np.add.at(self._counts, (labels_B, columns_B), 1)

    def compute(self) -> IntArray:
        """Counts [L, L + 1]: row = true class, column = answer; the last column is "no answer"."""
        return self._counts.copy()


@dataclass(frozen=True, slots=True, eq=False)
class PerClass:
    """What a confusion matrix says about each class; arrays [L], fractions 0..1.

    `pictures`: how many have this class; `answered`: how many got it as their answer; `recall`: right /
    pictures, also called the class's accuracy; `precision`: right / answered; `f1`: their harmonic mean,
    2 x right / (pictures + answered). A fraction of nothing is NaN: recall of a class without pictures,
    precision of one that is never answered, F1 of one that is neither.
    """

    pictures: IntArray
    answered: IntArray
    right: IntArray
    recall: FloatArray
    precision: FloatArray
    f1: FloatArray


def per_class(counts: npt.NDArray[np.int64]) -> PerClass:
    """Per-class figures from `ConfusionMatrix.compute()`."""
    right = np.diagonal(counts).copy()
    pictures = counts.sum(axis=1)
    answered = counts[:, :-1].sum(axis=0)
    return PerClass(
        pictures=pictures,
        answered=answered,
        right=right,
        recall=_share(right, pictures),
        precision=_share(right, answered),
        f1=_share(2 * right, pictures + answered),
    )


@dataclass(frozen=True, slots=True)
class Macro:
    """Means over the classes that have pictures, each class counting the same; fractions 0..1.

    A class that is never answered counts with precision 0. `recall` is also called the mean class accuracy.
    NaN where no class has pictures.
    """

    precision: float
    recall: float
    f1: float


def macro(table: PerClass) -> Macro:
    """The averages of a table over its classes."""
    present = table.pictures > 0
    if not present.any():
        return Macro(math.nan, math.nan, math.nan)
    columns = (table.precision, table.recall, table.f1)
    return Macro(*(float(np.nan_to_num(column[present]).mean()) for column in columns))


def confused_pairs(counts: npt.NDArray[np.int64], *, limit: int | None = None) -> list[tuple[int, int, int]]:
    """The wrong answers by how often they were given: (true class, answer, pictures), most frequent first.

    Of equally frequent ones the true class with fewer pictures comes first, then the lower class, then the
    lower answer. "No answer" is not in it.
    """
    wrong = counts[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    labels, answers = np.nonzero(wrong)
    order = np.lexsort((answers, labels, counts.sum(axis=1)[labels], -wrong[labels, answers]))[:limit]
    return [(int(labels[i]), int(answers[i]), int(wrong[labels[i], answers[i]])) for i in order]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often answers of each confidence are right; arrays [bins], fractions 0..1.

    Bin i of N holds the pictures whose confidence is above i / N and at most (i + 1) / N; a confidence of 0 is
    in the first. `confidence` and `accuracy` are the means over a bin's `pictures`, NaN where it has none.
    """

    pictures: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """The expected calibration error: |accuracy - confidence| of a bin, averaged over the pictures
        (Guo et al. 2017, arXiv 1706.04599, eq. 3). NaN before anything was added."""
        return self._mean(np.abs(self.accuracy - self.confidence))

    @property
    def mce(self) -> float:
        """The maximum calibration error: |accuracy - confidence| of the worst bin (eq. 5). NaN as above."""
        filled = self.pictures > 0
        return float(np.abs(self.accuracy - self.confidence)[filled].max()) if filled.any() else math.nan

    @property
    def mean_confidence(self) -> float:
        return self._mean(self.confidence)

    @property
    def mean_accuracy(self) -> float:
        return self._mean(self.accuracy)

    def _mean(self, values: FloatArray) -> float:
        n = self.pictures.sum()
        return float(np.nansum(self.pictures * values) / n) if n else math.nan


class Calibration:
    """Whether answers are right as often as their confidence says, in `bins` bins of equal width."""

    def __init__(self, bins: int = CALIBRATION_BINS) -> None:
        if bins < 1:
            raise UsageError(f"Calibration needs at least one bin, got {bins}")
        self._edges = np.arange(1, bins) / bins
        self._pictures = np.zeros(bins, dtype=np.int64)
        self._right = np.zeros(bins, dtype=np.int64)
        self._confidence = np.zeros(bins)

    def add(self, confidences: npt.ArrayLike, right: npt.ArrayLike) -> None:
        """Count pictures: `confidences` [B] of their first answers, 0..1, and `right` [B], whether these are.

        Raises `UsageError` where a confidence is outside 0..1 or no number, or `right` is not boolean.
        """
        confidence_B, right_B = np.asarray(confidences, dtype=np.float64), np.asarray(right)
        if confidence_B.ndim != 1 or confidence_B.shape != right_B.shape:
            raise UsageError(
                f"confidences and right must be [pictures] both, got {confidence_B.shape} and {right_B.shape}"
            )
        if not len(confidence_B):
            return
        if right_B.dtype != np.bool_:
            raise UsageError(f"right must be True or False for each picture, got {right_B.dtype}")
        if not (confidence_B.min() >= 0 and confidence_B.max() <= 1):  # False with NaN, too
            raise UsageError(f"confidences must be 0 to 1, got {confidence_B.min()} to {confidence_B.max()}")
        bins_B = np.searchsorted(self._edges, confidence_B, side="left")  # an edge is its lower bin's
        n = len(self._pictures)
        self._pictures += np.bincount(bins_B, minlength=n)
        self._right += np.bincount(bins_B[right_B], minlength=n)
        self._confidence += np.bincount(bins_B, weights=confidence_B, minlength=n)

    def compute(self) -> Reliability:
        return Reliability(
            pictures=self._pictures.copy(),
            confidence=_share(self._confidence, self._pictures),
            accuracy=_share(self._right, self._pictures),
        )


def interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share measured as `right` of `n` pictures (Wilson's score interval, 1927)."""
    if not 0 <= right <= n or n < 1:
        raise UsageError(f"interval needs 0 <= right <= n and n from 1 up, got {right} of {n}")
    z = 1.959963984540054  # the normal distribution's 97.5 % point
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach))  # rounding may cross the share


def _share(part: IntArray | FloatArray, whole: IntArray) -> FloatArray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _checked(answers: npt.ArrayLike, labels: npt.ArrayLike, classes: int, *, ndim: int) -> tuple[IntArray, IntArray]:
    found, true = np.asarray(answers), np.asarray(labels)
    if found.ndim != ndim or true.ndim != 1 or len(found) != len(true):
        shape = "[pictures, answers]" if ndim == 2 else "[pictures]"
        raise UsageError(f"answers must be {shape} and labels [pictures], got {found.shape} and {true.shape}")
    if len(true) and (true.dtype.kind not in "iu" or found.dtype.kind not in "iu"):
        raise UsageError(f"answers and labels must be whole numbers, got {found.dtype} and {true.dtype}")
    if len(true) and not (true.min() >= 0 and true.max() < classes):
        raise UsageError(f"labels must be 0 to {classes - 1}, got {true.min()} to {true.max()}")
    if found.size and not (found.min() >= NO_ANSWER and found.max() < classes):
        raise UsageError(f"answers must be {NO_ANSWER} to {classes - 1}, got {found.min()} to {found.max()}")
    return found.astype(np.int64), true.astype(np.int64)
