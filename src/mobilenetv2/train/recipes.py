"""Hyper-parameters as data: the named recipes, and how one of their fields is changed. No torch here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mobilenetv2.errors import UsageError, unknown_name

Optimiser = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "constant"]
Keep = Literal["best", "last"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run besides its pictures and its starting weights.

    The run ends after `epochs`, or when `max_minutes` (None: no limit) have passed if that is sooner. Its
    *progress* is the share of the epochs or of the minutes that is used up, whichever is larger; learning rate and
    picture size follow progress, so a slow machine gets the whole schedule over fewer steps.

    `momentum` is SGD's, or AdamW's first beta. The last layer's learning rate is `head_scale` times that of the
    others: AdamW moves each of its 1280 weights per class by the full rate, and too much of that drowns what the
    layers below learn. `weight_decay` is not applied to batch norm and biases. The
    learning rate rises linearly over the first `warmup` of the progress, then falls to 0 as half a cosine wave
    ("cosine") or stays ("constant"). `ema` is the decay per step of an average of the weights that is what is
    measured and kept; 0 for none. `batch_norm_momentum` is the weight of the newest batch in the running statistics.

    Without starting weights, `initial_std` is the standard deviation of the convolutions' weights, drawn from a normal
    distribution cut off at twice that (TF-Slim: 0.09), or None for the network's own (Kaiming's, fan out), whose
    depthwise weights are so small that AdamW's equal steps upset them first. `zero_gamma` starts the last batch
    norm of each block with a shortcut at scale 0, so that the block begins as the identity (arXiv 1706.02677, 5.1).

    Augmentation: a random part of at least `crop_scale` of the picture's area is resized to the input (1: the whole
    picture, its centre where it is not square), mirrored with probability `flip`, turned upside down with
    probability `vertical_flip`, and brightness, contrast and saturation change by up to `colour` either way (0: not).
    Until progress `small_until` batches are reduced to fewer pixels, from `small_size` at the start up to the
    input's own size in steps of 16: earlier steps are then cheaper, and each change of scale is small.

    `width_mult` and `size` (pixels, square) of None mean those of the starting weights, or 1.0 and 224 without.
    `keep` is which epoch's weights become the model file: the best on validation pictures, or the last.
    """

    name: str
    epochs: int = 30
    max_minutes: float | None = None
    batch_size: int = 32
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    head_scale: float = 1.0
    weight_decay: float = 0.05
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.1
    dropout: float = 0.2
    ema: float = 0.0
    batch_norm_momentum: float = 0.1
    initial_std: float | None = None
    zero_gamma: bool = False
    crop_scale: float = 0.35
    flip: float = 0.5
    vertical_flip: float = 0.0
    colour: float = 0.3
    small_size: int | None = None
    small_until: float = 0.0
    width_mult: float | None = None
    size: int | None = None
    keep: Keep = "best"
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("basic"),
        # Generated shapes in 90 s on two cores: what they look like from any side is the same shape.
        Recipe(
            "demo", epochs=10, max_minutes=1.5, batch_size=32, learning_rate=6e-3, head_scale=0.1, dropout=0.0,
            initial_std=0.09, zero_gamma=True, crop_scale=1.0, vertical_flip=0.5, colour=0.0, small_size=48,
            small_until=0.85, width_mult=0.35, size=96, keep="last",
        ),
    )
}  # fmt: skip

# Least and largest value of each number. A batch of one is nothing that batch norm could learn from.
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "max_minutes": (0.001, math.inf),
    "batch_size": (2, 65_536),
    "learning_rate": (1e-12, 1e3),
    "momentum": (0, 0.9999),
    "head_scale": (0, 1000),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.999),
    "dropout": (0, 0.999),
    "ema": (0, 0.999_999),
    "batch_norm_momentum": (1e-6, 1),
    "initial_std": (1e-6, 10),
    "crop_scale": (0.01, 1),
    "flip": (0, 1),
    "vertical_flip": (0, 1),
    "colour": (0, 0.99),
    "small_size": (32, 2048),
    "small_until": (0, 1),
    "width_mult": (0.05, 8),
    "size": (32, 2048),
    "seed": (0, 2**31 - 1),
}


def find(name: str) -> Recipe:
    """The recipe called `name`. Raises `UsageError` that suggests the nearest one."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


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

    Raises `UsageError` for an unknown field (the nearest one is suggested), for text that is not of the field's
    type, and for a value out of its range.
    """
    types = get_type_hints(Recipe)
    known = [field.name for field in dataclasses.fields(Recipe) if field.name != "name"]
    changes: dict[str, Any] = {}
    for name, text in overrides.items():
        if name not in known:
            raise unknown_name("recipe field", name, known)
        changes[name] = _parse(name, text, types[name])
    return check(dataclasses.replace(recipe, **changes))


def check(recipe: Recipe) -> Recipe:
    """`recipe` itself where every field is in its range. Raises `UsageError`."""
    for name, (least, largest) in _RANGES.items():
        value = getattr(recipe, name)
        if value is not None and not least <= value <= largest:
            wanted = f"at least {least:g}" if largest == math.inf else f"{least:g} to {largest:g}"
            raise UsageError(f"{name} must be {wanted}, got {value:g}")
    if recipe.small_until > 0 and recipe.small_size is None:
        raise UsageError("small_until needs small_size: the pixels that batches are reduced to")
    return recipe


def from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `dataclasses.asdict` gave. Raises `UsageError` where its fields are not this release's."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    if values.keys() != known:
        odd = sorted(values.keys() ^ known)
        raise UsageError(f"the recipe was written by another release: it differs in {', '.join(odd)}")
    return check(Recipe(**values))


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """The names of the fields, besides `name`, in which two recipes differ."""
    names = [field.name for field in dataclasses.fields(Recipe) if field.name != "name"]
    return [name for name in names if getattr(recipe, name) != getattr(other, name)]


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate at `progress`, 0..1: warm-up, then the schedule."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    rest = (progress - recipe.warmup) / max(1 - recipe.warmup, 1e-9)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def picture_size(recipe: Recipe, progress: float, *, full: int) -> int:
    """The side in pixels of the batches at `progress`, 0..1; `full` is the network's input size."""
    small = recipe.small_size
    if small is None or small >= full or progress >= recipe.small_until:
        return full
    return min(full, small + 16 * int((full - small) / 16 * progress / recipe.small_until))


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
