"""The named recipes for segmentation, and the fields that they have beyond a classifier's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mobilenetv2.train.recipes import LABELS_ONLY, Recipe


@dataclass(frozen=True, slots=True)
class SegmentationRecipe(Recipe):
    """Everything that decides a segmentation network's run besides its pictures and its starting weights.

    Length, optimiser, learning rate, what learns, `dropout` (before the logits), `ema`, `seed`, `keep` and
    `width_mult` are `Recipe`'s; the "last layer" is everything above the backbone: the pooling branch, the projection
    and the logits. `unused` are those that have no meaning here.

    **Input.** `size` is the side of the network's square input; None makes it as large as the pictures need, at most
    513 either way, and pictures that are larger are made smaller first. `train_size` is the side of the places that are
    cut out to learn from, at most the input's (None: the input's).

    **Network.** `output_stride` of None is that of starting weights for segmentation, or 16. `aspp` adds the atrous
    branches of DeepLabv3 to a new head.

    **Loss.** Cross entropy of the pixels that count: of the share `hardest` of them, those with the largest loss. With
    `balance` a class's pixels weigh (1 / its share of all pixels) to that power: 0 is all alike, 1 all classes alike.

    **Augmentation** (`data.segmentation_augment`), in this order: the picture is made `least_scale` to `most_scale`
    times as large, in steps of a quarter, and a place is cut out; it is mirrored with probability `flip`; with
    `photometric` its colours are distorted.
    """

    task: ClassVar[str] = "segmentation"
    unused: ClassVar[frozenset[str]] = LABELS_ONLY | {"vertical_flip"}

    output_stride: int | None = None
    aspp: bool = False
    hardest: float = 1.0
    balance: float = 0.0
    least_scale: float = 0.5
    most_scale: float = 2.0
    photometric: bool = False


def _deeplab_voc() -> SegmentationRecipe:
    """tensorflow/models' research/deeplab (its README for Pascal VOC, train.py's defaults): 30,000 steps of SGD with
    momentum 0.9 in batches of 16, learning rate 0.007 x (1 - step / steps) ^ 0.9, weight decay 4e-5, places of 513
    pixels at scales from 0.5 to 2, mirrored, output stride 16; batch norm's 0.9997. 46 epochs are 30,000 steps of VOC's
    10,582 pictures. It begins with a classifier's weights; without them it is slow to learn."""
    return SegmentationRecipe(
        "deeplab-voc", epochs=46, batch_size=16, optimiser="sgd", learning_rate=0.007, momentum=0.9, nesterov=False,
        weight_decay=4e-5, decay_depthwise=False, schedule="poly", power=0.9, warmup=0.0, batch_norm_momentum=0.0003,
        dropout=0.1, size=513, keep="last",
    )  # fmt: skip


def _finetune() -> SegmentationRecipe:
    """Ours, the one used with starting weights: AdamW with the same poly schedule, the backbone a quarter as fast as
    what is above it, the statistics of batch norm kept as batches are small, the weights averaged, rare classes weighed
    up (CamVid's mean IoU after 30 epochs: 60 % so, 51 % without), places of 321 pixels."""
    return SegmentationRecipe(
        "finetune", epochs=30, patience=10, batch_size=8, learning_rate=1e-3, weight_decay=0.01, schedule="poly",
        power=0.9, warmup=0.5, backbone_scale=0.25, frozen_norm=True, clip=5.0, ema=0.99, dropout=0.1, train_size=321,
        photometric=True, balance=0.5,
    )  # fmt: skip


_MADE = (_deeplab_voc, _finetune)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (make() for make in _MADE)}
SOURCES: dict[str, str] = {make().name: " ".join((make.__doc__ or "").split()) for make in _MADE}
