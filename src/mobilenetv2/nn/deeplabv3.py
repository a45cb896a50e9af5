"""Mobile DeepLabv3 for training, in torch: MobileNetV2's features and the segmentation head on its last block's map.

Shapes: B batch, C channels, H W image, h w feature map (the image over the output stride), O outputs per place.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilenetv2 import spec
from mobilenetv2.nn.mobilenetv2 import Backbone, Norm, conv_layer, initialise, norm_of
from mobilenetv2.nn.segmentation_loss import segmentation_loss
from mobilenetv2.spec import Spec, deeplab

LOGITS_STD = 0.01  # TensorFlow's DeepLab: a normal cut off at two deviations


class DeepLabV3(Backbone):
    """The segmentation network of `network`, whose head must be a `spec.DeepLab`. Input [B, 3, H, W], of any size.

    Its state dict has `spec.tensors`' names; the backbone's are torchvision's, without the last convolution. The
    initial weights: as a classifier's, but the logits' normal(0, 0.01) with zero bias. `norm_layer` stands for every
    batch norm, the pooling branch's too.
    """

    def __init__(self, network: Spec, norm_layer: Norm | None = None) -> None:
        super().__init__()
        self._build_features(network, norm_layer or norm_of(network))
        self.head = deeplab.head_of(network)
        layers = deeplab.layers(network)
        eps = spec.norm_eps(network, layers.project)
        norm = norm_layer or partial(nn.BatchNorm2d, eps=eps)
        self.pooling = conv_layer(layers.pooling, norm_layer or partial(PooledNorm, eps=eps))
        self.branches = nn.ModuleList(conv_layer(branch, norm) for branch in layers.branches)
        self.project = conv_layer(layers.project, norm)
        self.dropout = nn.Dropout(self.head.dropout)
        self.logits = conv_layer(layers.logits, norm)
        self.apply(initialise)
        nn.init.trunc_normal_(self.logits.get_parameter("weight"), std=LOGITS_STD, a=-2 * LOGITS_STD, b=2 * LOGITS_STD)

    @classmethod
    def from_spec(cls, network: Spec) -> DeepLabV3:
        """The network that a model file's spec describes, with initial weights."""
        return cls(network)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """{"logits_map": [B, h, w, O]}: per place of the last map its classes' logits.

        The same in training and evaluation, but for batch norm and dropout. One picture can train too: see
        `PooledNorm`.
        """
        x_BChw = self.last_map(images_BCHW)
        pooled_BC11 = self.pooling(x_BChw.mean((2, 3), keepdim=True))
        side_by_side = [pooled_BC11.expand(-1, -1, *x_BChw.shape[2:]), *(branch(x_BChw) for branch in self.branches)]
        projected_BChw = self.project(torch.cat(side_by_side, dim=1))
        return {"logits_map": self.logits(self.dropout(projected_BChw)).permute(0, 2, 3, 1)}

    def loss(
        self,
        outputs: dict[str, Tensor],
        masks_BHW: Tensor,
        *,
        class_weights_O: Tensor | None = None,
        hardest: float = 1.0,
    ) -> dict[str, Tensor]:
        """The losses of a batch by name, to be added up: `segmentation_loss`, resized as the head says."""
        return segmentation_loss(
            outputs["logits_map"], masks_BHW, align_corners=self.head.align_corners,
            class_weights_O=class_weights_O, hardest=hardest,
        )  # fmt: skip


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of the map's mean, [B, C, 1, 1]: one value per channel and picture.

    With one picture in a batch there is nothing to normalise by, the mean would be the value itself: its running
    statistics then stand in and stay as they are, as in evaluation; weight and bias train.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == self.num_features:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
