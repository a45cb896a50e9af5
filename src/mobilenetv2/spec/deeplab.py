"""Mobile DeepLabv3's head as data (paper, section 6.3): branches on the last block's map, and what joins them.

Every branch gives `channels` channels at each place of the map: the mean over the whole map, a 1x1 convolution, and
with `aspp` an atrous 3x3 for each rate. Side by side in that order they are projected to `channels`, and these to one
logit per class. The reduced head, without `aspp`, is the one that the paper keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mobilenetv2.spec.backbone import Background, ConvSpec, blocks

if TYPE_CHECKING:  # a Spec holds one of these heads
    from mobilenetv2.spec.network import Spec


@dataclass(frozen=True, slots=True)
class DeepLab:
    """A class for every place of the last map. `spec_fields.deeplab(...)` makes one from unchecked values.

    `classes` are the real ones; `background` says whether one more output stands for none of them, and where. `rates`
    are the dilations of the 3x3 convolutions at output stride 16: twice that at 8, half of it at 32 (Chen et al. 2017,
    arXiv 1706.05587, section 4.1). `align_corners`: logits grow to the picture's size so that the corner pixels'
    centres stay where they are, as in TensorFlow's DeepLab; otherwise its edges do. `bn_eps` is that of the head's own
    batch norms, `dropout` stands before the logits while training.
    """

    task: ClassVar[str] = "segmentation"

    classes: int = 20
    background: Background = "first"
    aspp: bool = False
    rates: tuple[int, ...] = (6, 12, 18)
    channels: int = 256
    align_corners: bool = True
    bn_eps: float = 1e-5
    dropout: float = 0.1

    @property
    def outputs(self) -> int:
        """Logits per place: the classes, and the background where there is one."""
        return self.classes + (self.background != "none")


@dataclass(frozen=True, slots=True)
class Layers:
    """The head's convolutions: `pooling` on the map's mean, `branches` on the map, `project` on all of these side by
    side (pooling first), `logits` on what that gives."""

    pooling: ConvSpec
    branches: tuple[ConvSpec, ...]
    project: ConvSpec
    logits: ConvSpec


def layers(network: Spec) -> Layers:
    """The layers of a segmentation network's head."""
    head, net = head_of(network), network.backbone
    source = blocks(net)[-1].out_channels
    branches = [_conv(head, "branches.0", source)]
    if head.aspp:
        for i, rate in enumerate(head.rates):
            dilation = max(rate * 16 // net.output_stride, 1)
            branches.append(_conv(head, f"branches.{i + 1}", source, kernel=3, dilation=dilation))
    project = _conv(head, "project", head.channels * (1 + len(branches)))
    logits = ConvSpec("logits", None, head.channels, head.outputs, activation="linear", bias=True)
    return Layers(_conv(head, "pooling", source), tuple(branches), project, logits)


def convolutions(network: Spec) -> tuple[ConvSpec, ...]:
    """Every convolution of the head in the order in which it runs."""
    found = layers(network)
    return (found.pooling, *found.branches, found.project, found.logits)


def head_of(network: Spec) -> DeepLab:
    """The head of a network that is known to be for segmentation."""
    assert isinstance(network.head, DeepLab), network.head
    return network.head


def _conv(head: DeepLab, name: str, in_channels: int, *, kernel: int = 1, dilation: int = 1) -> ConvSpec:
    """With batch norm and ReLU: at stride 1, both paddings are the same."""
    return ConvSpec(
        f"{name}.0", f"{name}.1", in_channels, head.channels, kernel=kernel, dilation=dilation, activation="relu",
        bn_eps=head.bn_eps,
    )  # fmt: skip
