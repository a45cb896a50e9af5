"""Scores: made of logits, and written for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import Error
from mobilenetv2.text import LONGEST_LABEL, plain

FloatArray = npt.NDArray[np.floating]


def softmax(logits: FloatArray) -> FloatArray:
    """Over the last axis, in float64, where no difference of two float32 overflows."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Each by itself; below -80 a score is exp(-80), nearly the least that float32 has."""
    return 1 / (1 + np.exp(-np.maximum(logits, -80)))


def not_finite() -> Error:
    return Error("the network's outputs are not finite: its weights do not suit this backend or precision")


def percent(score: float) -> str:
    """A fraction, 0..1, with one decimal."""
    return "< 0.1 %" if 0 < score < 0.0005 else f"{100 * score:.1f} %"


def shown_label(label: str) -> str:
    """A class's name in an answer's text: on one line, and cut where it is very long."""
    return plain(label, LONGEST_LABEL)
