"""What is on a photo: decoded from a classifier's logits, as text, JSON, and drawn below the photo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks, plots, text
from mobilenetv2.image import Geometry
from mobilenetv2.metrics import real_classes, top_k
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.results.scores import not_finite, percent, shown_label, softmax

BACKGROUND_INDEX = -1
BACKGROUND_LABEL = "background"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer. `index` counts real classes from 0 (background is -1); `score` is a probability, 0..1."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """What is on a photo: at least one answer, best first."""

    predictions: tuple[Prediction, ...]

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """One line per answer: the score in per cent, then the label."""
        return text.joined(f"{percent(p.score):>8}  {shown_label(p.label)}" for p in self.predictions)

    def to_json(self, *, file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Plain JSON values, `file` (where given) as it was written; scores are rounded to 6 decimals."""
        return {
            **({} if file is None else {"file": os.fspath(file)}),
            "task": "classification",
            "predictions": [{"index": p.index, "label": p.label, "score": round(p.score, 6)} for p in self.predictions],
        }

    def draw(self, rgb: npt.NDArray[np.uint8], *, title: str = "") -> npt.NDArray[np.uint8]:
        """The photo [H, W, 3] with its answers and their scores below it; `title` is a line above them.

        Any size is shown: the photo's longer side comes out as 480 to 960 pixels, in its own proportions.
        """
        rows = [(p.label, p.score, percent(p.score)) for p in self.predictions]
        return plots.photo_with_bars(rgb, rows, title=title)


def decode_classification(
    raw: Mapping[str, npt.NDArray[np.float32]],
    info: ModelInfo,
    geometry: Geometry | None = None,
    *,
    top: int = 5,
    with_background: bool = False,
) -> Classification:
    """The `top` best classes (fewer where the model has fewer) from `raw["logits"]` [1, outputs].

    A score is the softmax over all outputs; background is then left out, and the other scores are not
    scaled up to fill its place. `with_background` shows it as one more answer, index -1. Equal logits are
    in the order of their index. A class has no place in the photo, so `geometry` is not looked at.

    Raises `UsageError` where `top` is no whole number from 1 up, and `Error` where the logits are not finite numbers.
    """
    top = checks.whole("top", top)
    with_background = checks.choice("with_background", with_background, (True, False))
    logits_BO = np.asarray(raw["logits"], dtype=np.float64)
    assert logits_BO.shape == (1, info.spec.head.outputs), (logits_BO.shape, info.spec.head)
    background = info.spec.head.background
    if not np.isfinite(logits_BO).all():
        raise not_finite()
    indices = top_k(logits_BO, min(top, info.classes), background=background)[0]
    scores_BO = softmax(logits_BO)
    scores_L = real_classes(scores_BO, background)[0]
    found = [Prediction(int(i), info.label(int(i)), float(scores_L[i])) for i in indices]
    if with_background and background != "none":
        column = 0 if background == "first" else -1
        logit = logits_BO[0, column]
        better = sum(real_classes(logits_BO, background)[0, p.index] > logit for p in found)
        found.insert(better, Prediction(BACKGROUND_INDEX, BACKGROUND_LABEL, float(scores_BO[0, column])))
    return Classification(tuple(found[:top]))
