"""Hyper-parameters as data: the named recipes, and how one of their fields is changed. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mobilenetv2.errors import UsageError, unknown_name
from mobilenetv2.train.recipe_fields import check

Optimiser = Literal["adamw", "sgd", "rmsprop"]
Schedule = Literal["cosine", "poly", "exponential", "constant"]
AutoAugment = Literal["none", "trivial", "rand"]
Keep = Literal["best", "last"]

# How new weights are drawn, and what is done to pictures that have a label each.
LABELS_ONLY = frozenset((
    "label_smoothing", "distil", "temperature", "initial_std", "zero_gamma", "crop_scale", "colour", "brightness",
    "hue", "auto_augment", "erase", "mixup", "cutmix", "small_size", "small_until",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run besides its pictures and its starting weights.

    **Length.** The run ends after `epochs`, or when `max_minutes` (None: no limit) have passed if that is sooner, or
    when `patience` epochs in a row (None: never) brought no better validation loss. Its *position*, 0 to `epochs`,
    is the epochs done, or the same share of the minutes if that is more; learning rate and picture size follow it, so
    a slow machine gets the whole schedule over fewer steps. `batch_size` counts the pictures of a step on all
    devices together; `accumulate` steps' gradients are averaged before the weights move.

    **Optimiser.** "rmsprop" is TensorFlow's (`train.rmsprop`), with `rms_decay` and `epsilon`; `momentum` is that of
    SGD and RMSProp, or AdamW's first beta. `weight_decay` is L2 regularisation, with AdamW decoupled; it acts on
    batch norm's scales and biases only with `decay_norms`, on depthwise weights only with `decay_depthwise`. Gradients
    longer than `clip` (their norm over all weights; None: any) are shortened to it.

    **Learning rate.** It rises linearly over `warmup` epochs from `warmup_start` times its peak, then falls to 0 over
    the rest, as half a cosine wave ("cosine") or as the share that is left to the power `power` ("poly"), or is
    multiplied by `decay` every `decay_epochs` ("exponential"), or stays. With `staircase` it changes between epochs
    only, or every `decay_epochs`. The last layer's is `head_scale` times that: AdamW moves each of its 1280 weights per
    class by the full rate, and too much of that drowns what the layers below learn. The other layers' is
    `backbone_scale` times it.

    **What learns.** `freeze` keeps the first layers as they are: 1 is the stem, 2 the stem and the first block, 19
    everything but the last layer. For the first `head_epochs` only the last layer learns. `frozen_norm` keeps batch
    norm's statistics, which small batches estimate badly. `batch_norm_momentum` is the weight of the newest batch in
    the running statistics. `ema` is the decay of an average of the weights, moved every `ema_every` steps, that is
    what is measured and kept; 0 for none. Early steps count more: the decay is at most (1 + n) / (10 + n) in the n-th.

    **Loss.** Cross entropy with `label_smoothing`; with a teacher, `distil` is the share of the loss that is the
    distance to the teacher's answers, both softened by `temperature` (arXiv 1503.02531).

    **Start.** Without starting weights, `initial_std` is the standard deviation of the convolutions' weights, drawn
    from a normal distribution cut off at twice that (TF-Slim: 0.09), or None for the network's own (Kaiming's, fan
    out), whose depthwise weights are so small that AdamW's equal steps upset them first. `zero_gamma` starts the last
    batch norm of each block with a shortcut at scale 0, so that the block begins as the identity (arXiv 1706.02677).

    **Augmentation**, in this order: a random part of at least `crop_scale` of the picture's area, 3:4 to 4:3 in shape,
    is resized to the input (1: the whole picture, its centre where it is not square), mirrored with probability
    `flip`, turned upside down with probability `vertical_flip`; contrast and saturation change by up to `colour`,
    brightness by up to `brightness` (None: as much), hue by up to `hue` of the colour circle, either way; then
    torchvision's TrivialAugmentWide or RandAugment (`auto_augment`); a rectangle is erased with probability `erase`.
    Each batch is then blended with itself in another order, by `mixup` (arXiv 1710.09412) or `cutmix` (1905.04899),
    the parameters of their Beta distributions; with both, either half of the time.

    Until the share `small_until` of the run batches are reduced to fewer pixels, from `small_size` at the start up to
    the input's own size in steps of 16: earlier steps are then cheaper, and each change of scale is small.

    `width_mult` and `size` (pixels, square) of None mean those of the starting weights, or 1.0 and 224 without;
    `train_size` of None trains at `size`, else the pictures that are learned from have that many pixels.
    `keep` is which epoch's weights become the model file: the best on validation pictures, or the last.
    """

    task: ClassVar[str] = "classification"
    unused: ClassVar[frozenset[str]] = frozenset()
    """Fields without a meaning for the task: they can neither be set nor are they written down."""

    name: str
    epochs: int = 30
    max_minutes: float | None = None
    patience: int | None = None
    batch_size: int = 32
    accumulate: int = 1
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    rms_decay: float = 0.9
    epsilon: float = 1e-8
    nesterov: bool = True
    weight_decay: float = 0.05
    decay_norms: bool = False
    decay_depthwise: bool = True
    clip: float | None = None
    schedule: Schedule = "cosine"
    power: float = 0.9
    decay: float = 0.98
    decay_epochs: float = 1.0
    staircase: bool = False
    warmup: float = 3.0
    warmup_start: float = 0.0
    head_scale: float = 1.0
    backbone_scale: float = 1.0
    freeze: int = 0
    head_epochs: float = 0.0
    frozen_norm: bool = False
    batch_norm_momentum: float = 0.1
    ema: float = 0.0
    ema_every: int = 1
    label_smoothing: float = 0.1
    distil: float = 0.5
    temperature: float = 2.0
    dropout: float = 0.2
    initial_std: float | None = None
    zero_gamma: bool = False
    crop_scale: float = 0.35
    flip: float = 0.5
    vertical_flip: float = 0.0
    colour: float = 0.3
    brightness: float | None = None
    hue: float = 0.0
    auto_augment: AutoAugment = "none"
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    small_size: int | None = None
    small_until: float = 0.0
    width_mult: float | None = None
    size: int | None = None
    train_size: int | None = None
    keep: Keep = "best"
    seed: int = 0


def _paper() -> Recipe:
    """Section 6.1 of arXiv 1801.04381: RMSProp with decay and momentum 0.9, learning rate 0.045 x 0.98 per epoch,
    weight decay 4e-5, batches of 96 (there on each of 16 asynchronous workers). What it leaves open is TF-Slim's:
    epsilon 1.0 inside the root, weights of standard deviation 0.09, batch norm's 0.997; crops without colours and the
    200 epochs are ours."""
    return Recipe(
        "paper", epochs=200, batch_size=96, optimiser="rmsprop", learning_rate=0.045, momentum=0.9, rms_decay=0.9,
        epsilon=1.0, weight_decay=4e-5, schedule="exponential", decay=0.98, decay_epochs=1.0, staircase=True,
        warmup=0.0, batch_norm_momentum=0.003, label_smoothing=0.0, initial_std=0.09, crop_scale=0.05, colour=0.0,
        keep="last",
    )  # fmt: skip


def _slim() -> Recipe:
    """The flags and the code behind TF-Slim's published checkpoints (research/slim: mobilenet's README,
    `training_scope`, `inception_preprocessing`): as the paper, but x 0.98 every 2.5 epochs, labels smoothed, the
    weights averaged, depthwise weights not decayed, colours distorted (brightness 32 / 255, the others a half)."""
    return dataclasses.replace(
        _paper(), name="slim", decay_epochs=2.5, label_smoothing=0.1, ema=0.9999, decay_depthwise=False,
        colour=0.5, brightness=32 / 255, hue=0.2,
    )  # fmt: skip


def _cosine() -> Recipe:
    """d-li14/mobilenetv2.pytorch's: 150 epochs of SGD, batches of 256, learning rate 0.05 with five epochs of warm-up
    and a cosine over the rest, weight decay 4e-5; 72.2 % top-1 (its 250 epochs at 0.4 in batches of 1024: 72.8)."""
    return Recipe(
        "cosine", epochs=150, batch_size=256, optimiser="sgd", learning_rate=0.05, momentum=0.9, nesterov=False,
        weight_decay=4e-5, decay_norms=True, warmup=5.0, label_smoothing=0.0, crop_scale=0.08, colour=0.0, keep="best",
    )  # fmt: skip


def _torchvision_v2() -> Recipe:
    """torchvision's second recipe (pytorch/vision#3995, weights IMAGENET1K_V2: 72.154 % top-1): 600 epochs in batches
    of 1024, learning rate 0.5, TrivialAugment, mixup, cutmix, erasing, trained at 176 pixels for 224. Its average moves
    every 32 steps by 2e-5 x 1024 x 32 / 600."""
    return Recipe(
        "torchvision-v2", epochs=600, batch_size=1024, optimiser="sgd", learning_rate=0.5, momentum=0.9,
        nesterov=False, weight_decay=2e-5, staircase=True, warmup=5.0, warmup_start=0.01,
        ema=1 - 2e-5 * 1024 * 32 / 600, ema_every=32, crop_scale=0.08, colour=0.0, auto_augment="trivial", erase=0.1,
        mixup=0.2, cutmix=1.0, train_size=176, keep="best",
    )  # fmt: skip


def _finetune() -> Recipe:
    """Ours, the one used with starting weights: first the last layer alone, then everything, the backbone four times
    as slowly; batch norm keeps the statistics of the much larger data that it comes from."""
    return Recipe(
        "finetune", epochs=20, patience=6, learning_rate=2e-3, weight_decay=0.02, warmup=0.5, backbone_scale=0.25,
        head_epochs=1.0, frozen_norm=True, clip=5.0, ema=0.99, crop_scale=0.5, colour=0.2,
    )  # fmt: skip


def _basic() -> Recipe:
    """Ours, from random weights on a data set of thousands, not millions: AdamW, a short cosine."""
    return Recipe("basic")


def _demo() -> Recipe:
    """Generated shapes in 90 s on two cores: what they look like from any side is the same shape."""
    return Recipe(
        "demo", epochs=10, max_minutes=1.5, batch_size=32, learning_rate=6e-3, warmup=1.0, head_scale=0.1, dropout=0.0,
        initial_std=0.09, zero_gamma=True, crop_scale=1.0, vertical_flip=0.5, colour=0.0, small_size=48,
        small_until=0.85, width_mult=0.35, size=96, keep="last",
    )  # fmt: skip


_MADE = (_paper, _slim, _cosine, _torchvision_v2, _finetune, _basic, _demo)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (make() for make in _MADE)}
SOURCES: dict[str, str] = {make().name: " ".join((make.__doc__ or "").split()) for make in _MADE}

_FROM_NOTHING = {"classification": "basic", "detection": "ssdlite", "segmentation": "deeplab-voc"}


def of_task(task: str) -> Mapping[str, Recipe]:
    """The named recipes of a task."""
    return _of_task(task)[0]


def sources(task: str) -> Mapping[str, str]:
    """For each of them, where it comes from, in words."""
    return _of_task(task)[1]


def _of_task(task: str) -> tuple[Mapping[str, Recipe], Mapping[str, str]]:
    # their recipes are made of this module's class
    if task == "detection":
        from mobilenetv2.train import detection_recipes

        return detection_recipes.RECIPES, detection_recipes.SOURCES
    if task == "segmentation":
        from mobilenetv2.train import segmentation_recipes

        return segmentation_recipes.RECIPES, segmentation_recipes.SOURCES
    assert task == "classification", task
    return RECIPES, SOURCES


def default(task: str, *, init: bool) -> Recipe:
    """What a task is trained by where nobody says otherwise: "finetune" with starting weights, else `_FROM_NOTHING`."""
    return find("finetune" if init else _FROM_NOTHING[task], task)


def find(name: str, task: str = "classification") -> Recipe:
    """The task's recipe called `name`. Raises `UsageError` that suggests the nearest one."""
    known = of_task(task)
    if name not in known:
        raise unknown_name("recipe", name, known)
    return known[name]


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The fields that have a meaning for the recipe's task, as plain JSON values."""
    return {name: value for name, value in dataclasses.asdict(recipe).items() if name not in recipe.unused}


def from_json(values: Mapping[str, Any], task: str = "classification") -> Recipe:
    """The task's recipe that `to_json` gave. Raises `UsageError` where its fields are not this release's."""
    kind = type(default(task, init=False))
    known = to_json(default(task, init=False)).keys()
    if values.keys() != known:
        odd = sorted(values.keys() ^ known)
        raise UsageError(f"the recipe was written by another release: it differs in {', '.join(odd)}")
    return check(kind(**values))


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """The names of the fields, besides `name`, in which two recipes differ."""
    names = to_json(recipe).keys() - {"name"}
    return [name for name in sorted(names) if getattr(recipe, name) != getattr(other, name)]


def provenance(recipe: Recipe) -> dict[str, Any]:
    """Where a recipe's fields come from: "recipe_source" (a sentence) and "recipe_changed", the named recipe's values
    of the fields that differ from it; None and {} for a recipe that is not a named one."""
    named = of_task(recipe.task).get(recipe.name)
    return {
        "recipe_source": sources(recipe.task).get(recipe.name),
        "recipe_changed": {} if named is None else {name: getattr(named, name) for name in differences(named, recipe)},
    }
