"""The networks as data. No framework is imported here, and no other package computes a channel count.

The PyTorch modules, the engine's steps, the complexity tables and the importers' name maps are walks over what
`blocks`, `convolutions`, `ssdlite.layers` and `tensors` return.
"""

from mobilenetv2.spec import deeplab, ssdlite
from mobilenetv2.spec.backbone import (
    LAST_CHANNELS,
    NORM_PARTS,
    STAGES,
    STEM_CHANNELS,
    WIDTHS,
    Activation,
    Backbone,
    Background,
    BlockSpec,
    ConvSpec,
    Padding,
    Shortcut,
    Stage,
    Tap,
    block,
    blocks,
    conv_tensors,
    convolutions,
    last,
    make_divisible,
    stem,
    taps,
)
from mobilenetv2.spec.deeplab import DeepLab
from mobilenetv2.spec.network import (
    Classifier,
    Head,
    LinearSpec,
    Spec,
    all_convolutions,
    has_last,
    linear,
    norm_eps,
    tensors,
)
from mobilenetv2.spec.ssdlite import Score, SSDLite, ssdlite_anchors

__all__ = [
    "norm_eps",
    "has_last",
    "deeplab",
    "all_convolutions",
    "DeepLab",
    "LAST_CHANNELS",
    "NORM_PARTS",
    "STAGES",
    "STEM_CHANNELS",
    "WIDTHS",
    "Activation",
    "Backbone",
    "Background",
    "BlockSpec",
    "Classifier",
    "ConvSpec",
    "Head",
    "LinearSpec",
    "Padding",
    "SSDLite",
    "Score",
    "Shortcut",
    "Spec",
    "Stage",
    "Tap",
    "block",
    "blocks",
    "conv_tensors",
    "convolutions",
    "last",
    "linear",
    "make_divisible",
    "ssdlite",
    "ssdlite_anchors",
    "stem",
    "taps",
    "tensors",
]
