"""The report of a segmentation run: what training measured, how it learned, its recipe and where it ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenetv2.errors import UsageError
from mobilenetv2.predictor import Predictor
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, percent
from mobilenetv2.report.tasks import Card, Progress, Section

NOUN, NETWORK, PREDICT = "segmenter", "DeepLabv3 on MobileNetV2", " --draw drawn"
NEEDED: frozenset[str] = frozenset()


def read_check(values: Any) -> Any:
    raise ValueError("checks of masks are written, not read back")


def held_out(dataset: str, settings: Mapping[str, Any], check: Any) -> Any:
    raise UsageError("mobilenetv2 evaluate measures masks")


def measure(predictor: Predictor, data: Any, progress: Progress | None) -> dict[str, Any]:
    raise UsageError("mobilenetv2 evaluate measures masks")


def outcome(facts: Facts) -> dict[str, Any]:
    return {"miou": facts.info.provenance.get("scores", {}).get("val_miou")}


def card(facts: Facts) -> Card | None:
    score = outcome(facts)["miou"]
    return None if score is None else ("val mIoU", percent(score), "as training measured it")


def sections(facts: Facts) -> list[Section]:
    return []


def count_rows(facts: Facts) -> list[tuple[str, Mapping[str, int]]]:
    return []


def gallery(facts: Facts) -> list[Html]:
    return []
