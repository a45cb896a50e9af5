"""The named recipes for detectors, and the fields that they have beyond a classifier's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mobilenetv2.train.recipes import LABELS_ONLY, Recipe

ClassLossName = Literal["hard_mined", "focal"]
AnchorChoice = Literal["auto", "kept", "usual"]


@dataclass(frozen=True, slots=True)
class DetectionRecipe(Recipe):
    """Everything that decides a detector's run besides its pictures and its starting weights.

    Length, optimiser, learning rate, what learns, `ema`, `seed`, `keep`, `size` (320 where weights do not say
    otherwise) and `width_mult` are `Recipe`'s; the "last layer" is everything above the backbone: extra maps and heads.
    `unused` are those that have no meaning here.

    **Loss.** The classes' is the cross entropy of matched anchors and of the worst others, three for each
    ("hard_mined"), or the focal loss of all ("focal", for heads that score by sigmoid); the boxes' smooth L1 is added
    `box_weight` times.

    **Anchors** of a detector that the run starts from are "kept", or the "usual" ones of TensorFlow take their place,
    which begin with a tenth of the picture; "auto" takes these where clearly more objects of the data have one then.

    **Augmentation** (`data.detection_augment`), in this order: with probability `zoom_out` the picture lies in an empty
    one of up to `largest` times its sides; with `crop` a part is cut out that overlaps an object by a chance minimum;
    with `photometric` its colours are distorted; it is mirrored with probability `flip`, turned upside down with
    probability `vertical_flip`.
    """

    task: ClassVar[str] = "detection"
    unused: ClassVar[frozenset[str]] = LABELS_ONLY | {"dropout", "train_size"}

    anchors: AnchorChoice = "auto"
    class_loss: ClassLossName = "hard_mined"
    box_weight: float = 1.0
    zoom_out: float = 0.0
    largest: float = 4.0
    crop: bool = True
    photometric: bool = False


def _ssdlite() -> DetectionRecipe:
    """TensorFlow's ssdlite_mobilenet_v2_coco.config: RMSProp with decay and momentum 0.9 and epsilon 1.0, learning rate
    0.004 x 0.95 every 800,720 steps, batches of 24, 200,000 steps (41 epochs of COCO), weight decay 4e-5, batch norm's
    0.9997; mirrored, SSD's random crops; it begins with a classifier's weights. Without these it is slow to learn."""
    return DetectionRecipe(
        "ssdlite", epochs=41, batch_size=24, optimiser="rmsprop", learning_rate=0.004, momentum=0.9, rms_decay=0.9,
        epsilon=1.0, weight_decay=4e-5, schedule="exponential", decay=0.95, decay_epochs=162.0, staircase=True,
        warmup=0.0, batch_norm_momentum=0.0003, keep="last",
    )  # fmt: skip


def _finetune() -> DetectionRecipe:
    """Ours, the one used with starting weights: AdamW, the backbone a quarter as fast as the heads, the statistics of
    batch norm kept, the weights averaged, SSD's crops and colours and some zooming out."""
    return DetectionRecipe(
        "finetune", epochs=40, patience=12, batch_size=16, learning_rate=2e-3, weight_decay=0.01, warmup=1.0,
        backbone_scale=0.25, frozen_norm=True, clip=5.0, ema=0.99, zoom_out=0.2, largest=2.0, photometric=True,
    )  # fmt: skip


_MADE = (_ssdlite, _finetune)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (make() for make in _MADE)}
SOURCES: dict[str, str] = {make().name: " ".join((make.__doc__ or "").split()) for make in _MADE}
