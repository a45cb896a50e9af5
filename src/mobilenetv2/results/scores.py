"""Scores: made of logits, and written for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import Error

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
    return Error("the network's output is not finite: its weights do not suit this backend or precision")


def percent(score: float) -> str:
    """A fraction, 0..1, with one decimal."""
    return "< 0.1 %" if 0 < score < 0.0005 else f"{100 * score:.1f} %"
