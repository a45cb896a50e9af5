"""The fields of a recipe: set from text, and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from mobilenetv2 import hints
from mobilenetv2.errors import UsageError, unknown_name
from mobilenetv2.text import quoted

if TYPE_CHECKING:
    from mobilenetv2.train.recipes import Recipe

# Least and largest value of each number. A batch of one is nothing that batch norm could learn from.
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "max_minutes": (0.001, math.inf),
    "patience": (1, 100_000),
    "batch_size": (2, 65_536),
    "accumulate": (1, 65_536),
    "learning_rate": (1e-12, 1e3),
    "momentum": (0, 0.9999),
    "rms_decay": (0, 0.999_999),
    "epsilon": (1e-12, 10),
    "weight_decay": (0, 10),
    "clip": (1e-6, 1e6),
    "power": (0.01, 10),
    "decay": (0.01, 1),
    "decay_epochs": (1e-3, 100_000),
    "warmup": (0, 100_000),
    "warmup_start": (0, 1),
    "head_scale": (0, 1000),
    "backbone_scale": (0, 1000),
    "freeze": (0, 1000),
    "head_epochs": (0, 100_000),
    "batch_norm_momentum": (1e-6, 1),
    "ema": (0, 0.999_999),
    "ema_every": (1, 65_536),
    "label_smoothing": (0, 0.999),
    "distil": (0, 1),
    "temperature": (0.01, 100),
    "dropout": (0, 0.999),
    "initial_std": (1e-6, 10),
    "crop_scale": (0.01, 1),
    "flip": (0, 1),
    "vertical_flip": (0, 1),
    "colour": (0, 0.99),
    "brightness": (0, 0.99),
    "hue": (0, 0.5),
    "erase": (0, 1),
    "mixup": (0, 10),
    "cutmix": (0, 10),
    "small_size": (32, 2048),
    "small_until": (0, 1),
    "width_mult": (0.05, 8),
    "size": (32, 2048),
    "train_size": (32, 2048),
    "box_weight": (0, 1000),
    "zoom_out": (0, 1),
    "largest": (1, 100),
    "output_stride": (8, 32),
    "hardest": (0.001, 1),
    "balance": (0, 1),
    "least_scale": (0.05, 20),
    "most_scale": (0.05, 20),
    "seed": (0, 2**31 - 1),
}


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """`recipe` with fields changed by "name=value" texts, later ones winning. Raises `UsageError`."""
    overrides: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"a setting is written name=value, got {setting!r}")
        overrides[name.strip()] = value.strip()
    return with_overrides(recipe, overrides)


def with_overrides(recipe: Recipe, overrides: Mapping[str, str]) -> Recipe:
    """`recipe` with fields set from text: {"learning_rate": "0.01"}; "none" is None where a field may be None.

    Raises `UsageError` for an unknown field (the nearest one is suggested), for one of `recipe.unused`, for text that
    is not of the field's type, and for a value out of its range.
    """
    types = get_type_hints(type(recipe))
    known = [field.name for field in dataclasses.fields(recipe) if field.name not in {"name", *recipe.unused}]
    changes: dict[str, Any] = {}
    for name, text in overrides.items():
        if name in recipe.unused:
            raise UsageError(f"{name} has no meaning for {recipe.task}")
        if name not in known:
            if field := hints.of_field(name, known):
                raise UsageError(f"unknown recipe field {quoted(name)}: write {field}={quoted(text)[1:-1]}")
            raise unknown_name("recipe field", name, known)
        changes[name] = _parse(name, text, types[name])
    return check(dataclasses.replace(recipe, **changes))


def check(recipe: Recipe) -> Recipe:
    """`recipe` itself where every field is in its range. Raises `UsageError`."""
    for name, (least, largest) in _RANGES.items():
        value = getattr(recipe, name, None)
        if value is not None and not least <= value <= largest:
            wanted = f"at least {least:g}" if largest == math.inf else f"{least:g} to {largest:g}"
            raise UsageError(f"{name} must be {wanted}, got {value:g}")
    if recipe.small_until > 0 and recipe.small_size is None:
        raise UsageError("small_until needs small_size: the pixels that batches are reduced to")
    return recipe


def _parse(name: str, text: str, wanted: Any) -> Any:
    choices = get_args(wanted)
    if get_origin(wanted) is Literal:
        if text not in choices:
            raise unknown_name(name, text, choices)
        return text
    if type(None) in choices and text.lower() == "none":
        return None
    if wanted is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{name} must be true or false, got {text!r}")
        return text.lower() == "true"
    kind = int if int in (wanted, *choices) else float
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        expected = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name} must be {expected}{' or none' if type(None) in choices else ''}, got {text!r}")
    return value
