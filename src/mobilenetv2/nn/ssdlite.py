"""SSDLite for training, in torch: MobileNetV2's features, extra maps, and two heads on every map.

Shapes: B batch, C channels, H W image, h w feature map, A anchors, O outputs per anchor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mobilenetv2 import boxes
from mobilenetv2.nn.mobilenetv2 import Backbone, Norm, conv_layer, initialise, norm_of
from mobilenetv2.nn.ssd_loss import ClassLoss, Target, hard_mined, multibox_loss
from mobilenetv2.spec import ConvSpec, Spec, ssdlite

HEAD_STD = 0.03  # TensorFlow's configuration: a normal cut off at two deviations


class SSDLite(Backbone):
    """The detection network of `network`, whose head must be a `spec.SSDLite`. Input [B, 3, H, W], of any size.

    Its state dict has `spec.tensors`' names; the backbone's are torchvision's. The initial weights: the backbone's as
    a classifier's, all else normal(0, 0.03), batch norm 1 and 0, biases 0.
    """

    def __init__(self, network: Spec, norm_layer: Norm | None = None) -> None:
        super().__init__()
        norm = norm_layer or norm_of(network)
        layers = ssdlite.layers(network)
        self._build_features(network, norm)
        self.head = ssdlite.head_of(network)
        self.extras = _chains(layers.extras, norm)
        self.class_heads = _chains(layers.class_heads, norm)
        self.box_heads = _chains(layers.box_heads, norm)
        self.apply(initialise)
        for part in (self.extras, self.class_heads, self.box_heads):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.trunc_normal_(module.weight, std=HEAD_STD, a=-2 * HEAD_STD, b=2 * HEAD_STD)

    @classmethod
    def from_spec(cls, network: Spec) -> SSDLite:
        """The network that a model file's spec describes, with initial weights."""
        return cls(network)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """{"class_logits": [B, A, O], "box_deltas": [B, A, 4]}: per anchor its classes' logits and dx, dy, dw, dh.

        Anchors are in the order of `anchors`. The same in training and evaluation, but for batch norm.
        """
        features = self.features_dict(images_BCHW)
        maps = [features[name] for name in self.head.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return {
            "class_logits": _per_anchor(self.class_heads, maps, self.head.outputs),
            "box_deltas": _per_anchor(self.box_heads, maps, 4),
        }

    def anchors(self, size: tuple[int, int]) -> Tensor:
        """The anchors [A, 4] cxcywh_norm for images of `size` (height, width), where the weights are."""
        found = np.array(boxes.anchors(self.spec, size))
        return torch.from_numpy(found).to(next(self.parameters()).device)

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Sequence[Target],
        size: tuple[int, int],
        *,
        class_loss: ClassLoss = hard_mined,
    ) -> dict[str, Tensor]:
        """The losses of a batch by name, to be added up: see `multibox_loss`. `size` is the images' (height, width)."""
        return multibox_loss(outputs, targets, self.anchors(size), self.head, class_loss=class_loss)

    @torch.no_grad()
    def set_prior(self, probability: float) -> None:
        """Set the class heads' biases so that each anchor begins as background, but for this probability in all its
        classes (sigmoid: in each). Focal loss needs it: it would drown in the many anchors without an object."""
        head = self.head
        odds = probability / (1 - probability)
        for k, chain in enumerate(self.class_heads):
            *_, conv = chain.modules()
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            bias = conv.bias.view(len(head.anchors[k]), head.outputs)
            bias[:] = math.log(odds) if head.score == "sigmoid" else 0.0
            if head.background != "none":
                column = 0 if head.background == "first" else -1
                bias[:, column] = math.log((1 if head.score == "sigmoid" else head.classes) / odds)


def _chains(chains: Sequence[Sequence[ConvSpec]], norm: Norm) -> nn.ModuleList:
    return nn.ModuleList(nn.Sequential(*(conv_layer(conv, norm) for conv in chain)) for chain in chains)


def _per_anchor(heads: nn.ModuleList, maps: Sequence[Tensor], values: int) -> Tensor:
    """[B, A, values]: map by map, row by row, cell by cell."""
    found_BCHW = [head(features) for head, features in zip(heads, maps, strict=True)]
    return torch.cat([found.permute(0, 2, 3, 1).reshape(found.shape[0], -1, values) for found in found_BCHW], dim=1)
