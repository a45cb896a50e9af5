"""Which found box is which true one of a picture, and which classes are confused.

Shape letters: N true boxes and D found boxes of a picture, L classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilenetv2.detection_metrics import BoolArray, Found, IntArray, Truth, at_least_one, check_fit, overlaps

BACKGROUND = -1  # the last row and column of a confusion matrix
NONE = -1  # the number of a box that is matched with none


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Which found box is which true one of a picture.

    `found_of` [N] has the found box of each true one and `true_of` [D] the true one of each found one, NONE where there
    is none. `right` [D] are matched boxes of the true class, `false` [D] those that are nowhere near a true box;
    `missed` [N] are true boxes that are to be found and are not matched.
    """

    found_of: IntArray
    true_of: IntArray
    right: BoolArray
    false: BoolArray
    missed: BoolArray


def match(truth: Truth, found: Found, *, overlap: float = 0.5, score: float = 0.0) -> Matches:
    """Match boxes that overlap by at least `overlap` (intersection over union), each at most once: first those of the
    same class, then others, the largest overlap first.

    Found boxes below `score` do not take part. Difficult objects and crowds are matched with nothing, and a found box
    on one of them is not false.
    """
    ignored_N = truth.crowd | truth.difficult
    sure_D = found.scores >= score
    overlaps_DN = overlaps(found.boxes_xyxy, truth.boxes_xyxy, truth.crowd)
    near_DN = (overlaps_DN >= overlap) & sure_D[:, None]
    same_DN = found.labels[:, None] == truth.labels
    found_of_N, true_of_D = np.full(len(truth.labels), NONE), np.full(len(found.labels), NONE)
    for allowed_DN in (same_DN & ~ignored_N, ~same_DN & ~ignored_N):
        pairs = np.argwhere(allowed_DN & near_DN)
        for d, n in pairs[np.argsort(-overlaps_DN[pairs[:, 0], pairs[:, 1]], kind="stable")]:
            if true_of_D[d] == NONE and found_of_N[n] == NONE:
                true_of_D[d], found_of_N[n] = n, d
    matched_D = true_of_D != NONE
    return Matches(
        found_of=found_of_N,
        true_of=true_of_D,
        right=matched_D & same_DN[np.arange(len(true_of_D)), true_of_D] if len(found_of_N) else matched_D,
        false=sure_D & ~matched_D & ~(near_DN & ignored_N).any(axis=1),
        missed=~ignored_N & (found_of_N == NONE),
    )


class DetectionConfusion:
    """How many true boxes of each class were found as which one; background is the last row and column.

    Boxes are matched as `match` says, those with a score of at least `score`. What stays unmatched is confused with
    background; found boxes on difficult objects and crowds are left out.
    """

    def __init__(self, classes: int, *, overlap: float = 0.5, score: float = 0.25) -> None:
        self.classes = at_least_one(classes)
        self.overlap = overlap
        self.score = score
        self._counts = np.zeros((classes + 1, classes + 1), np.int64)

    def add(self, truth: Truth, found: Found) -> None:
        """Count a picture. Raises `UsageError` where arrays do not fit together or a label is no class."""
        check_fit(truth, found, self.classes)
        matches = match(truth, found, overlap=self.overlap, score=self.score)
        counted_N = ~(truth.crowd | truth.difficult)
        found_as_N = np.full(len(truth.labels), BACKGROUND)
        matched_N = matches.found_of != NONE
        found_as_N[matched_N] = found.labels[matches.found_of[matched_N]]
        np.add.at(self._counts, (truth.labels[counted_N], found_as_N[counted_N]), 1)
        np.add.at(self._counts[BACKGROUND], found.labels[matches.false], 1)

    def compute(self) -> IntArray:
        """Counts [L + 1, L + 1]: row = true class, column = found class. Nothing is known of background on background:
        it is 0."""
        return self._counts.copy()
