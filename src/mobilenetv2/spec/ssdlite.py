"""SSDLite as data (paper, section 6.2): its layers, which maps they read, and the anchors of each map.

Two maps are read from the backbone (`taps`), each further one (`extras`) is made of the map before it. Every map
has two heads, for classes and for boxes. Anchor n of a map's cell owns channels n x outputs ... of its class head and
n x 4 ... (dx, dy, dw, dh) of its box head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from mobilenetv2.spec.backbone import Background, ConvSpec, taps

if TYPE_CHECKING:  # a Spec holds one of these heads
    from mobilenetv2.spec.network import Spec

Score = Literal["sigmoid", "softmax"]
Anchors = tuple[tuple[float, float], ...]  # the (width, height) of each anchor in a cell

RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width / height; TensorFlow's own configuration writes the last one 0.3333


def ssdlite_anchors(
    *,
    layers: int = 6,
    smallest: float = 0.2,
    largest: float = 0.95,
    ratios: Sequence[float] = RATIOS,
    reduce_first: bool = True,
) -> tuple[Anchors, ...]:
    """TensorFlow's SSD anchors for each of `layers` maps, in the order of its heads' channels.

    Scales s_k rise evenly from `smallest` to `largest`; an anchor of ratio r is s_k sqrt(r) wide and s_k / sqrt(r)
    high. After the `ratios` comes a square of scale sqrt(s_k s_k+1), where the scale after the last is 1. With
    `reduce_first` the first map has three instead: a square of 0.1, and `smallest` at the ratios 2 and 1/2.
    """
    steps = max(layers - 1, 1)
    scales = [smallest + (largest - smallest) * k / steps for k in range(layers)] + [1.0]
    result: list[Anchors] = []
    for k, (scale, following) in enumerate(pairwise(scales)):
        shapes = [*((scale, ratio) for ratio in ratios), (math.sqrt(scale * following), 1.0)]
        if k == 0 and reduce_first:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        result.append(tuple((s * math.sqrt(ratio), s / math.sqrt(ratio)) for s, ratio in shapes))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class SSDLite:
    """Detection heads on several maps. `spec_fields.ssdlite(...)` makes one from unchecked values.

    `classes` are the real ones; `background` says whether there is one more output for "nothing here", and where.
    `score`: each class by itself (sigmoid), or one of all outputs (softmax, which needs the background). `separable`
    False is the plain SSD of Table 5, with full 3x3 convolutions. `extras` are the channels of the extra maps.

    `anchors` has for each map the (width, height) of its cells' anchors, in units of the input's shorter side: as
    TensorFlow has it, an anchor of ratio 1 is square in pixels on a non-square input too. `coder` are the scales of dx,
    dy, dw, dh.

    Four fields are for detectors of other origin. `squeezes`: the channels to which each extra narrows before its 3x3;
    None is half of its own. `linear_extras`: extra maps end without activation, as bottlenecks do. `pointwise_last`:
    the last map's heads are one 1x1 convolution. `steps`: for each map the distance of its anchors' centres in units of
    the input's shorter side, centres beyond the input's edge lying on it; None is one cell.

    The rest is what decoding does where nobody says otherwise: boxes below `score_threshold` are not shown, nor those
    that overlap a better one of their class by more than `iou_threshold`, and at most `most_per_class` and `most` are.
    """

    task: ClassVar[str] = "detection"

    classes: int = 80
    background: Background = "first"
    score: Score = "sigmoid"
    separable: bool = True
    taps: tuple[str, ...] = ("s16.expanded", "out")
    extras: tuple[int, ...] = (512, 256, 256, 128)
    anchors: tuple[Anchors, ...] = ssdlite_anchors()
    coder: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.3
    iou_threshold: float = 0.6
    most_per_class: int = 100
    most: int = 100
    squeezes: tuple[int, ...] | None = None
    linear_extras: bool = False
    pointwise_last: bool = False
    steps: tuple[float, ...] | None = None

    @property
    def outputs(self) -> int:
        """Scores per anchor: the classes, and the background where there is one."""
        return self.classes + (self.background != "none")


@dataclass(frozen=True, slots=True)
class Layers:
    """The convolutions on the backbone, as chains that run one after the other.

    `extras[i]` reads the last of the taps' maps (i = 0) or the map of `extras[i - 1]`. `class_heads[k]` and
    `box_heads[k]` read map k: the taps' maps first, then those of the extras.
    """

    extras: tuple[tuple[ConvSpec, ...], ...]
    class_heads: tuple[tuple[ConvSpec, ...], ...]
    box_heads: tuple[tuple[ConvSpec, ...], ...]


def layers(network: Spec) -> Layers:
    """The layers of a detector's head."""
    head = head_of(network)
    found = taps(network.backbone)
    channels = [found[name].channels for name in head.taps]
    extras: list[tuple[ConvSpec, ...]] = []
    for i, out_channels in enumerate(head.extras):
        squeezed = max(out_channels // 2, 1) if head.squeezes is None else head.squeezes[i]
        extras.append(_extra(network, f"extras.{i}", channels[-1], squeezed, out_channels))
        channels.append(out_channels)
    class_heads, box_heads = (
        tuple(
            _head(network, f"{name}.{k}", c, len(anchors) * values, last=k == len(channels) - 1)
            for k, (c, anchors) in enumerate(zip(channels, head.anchors, strict=True))
        )
        for name, values in (("class_heads", head.outputs), ("box_heads", 4))
    )
    return Layers(tuple(extras), class_heads, box_heads)


def convolutions(network: Spec) -> tuple[ConvSpec, ...]:
    """Every convolution of a detector's head: extras, class heads, box heads."""
    found = layers(network)
    return tuple(conv for chain in (*found.extras, *found.class_heads, *found.box_heads) for conv in chain)


def grids(network: Spec, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of each map that has heads, for an input of `size` (height, width)."""
    head, found = head_of(network), taps(network.backbone)
    strides = [found[name].stride for name in head.taps]
    strides += [strides[-1] * 2 ** (i + 1) for i in range(len(head.extras))]
    return tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in strides)


def anchor_count(network: Spec, size: tuple[int, int]) -> int:
    """Anchors on all maps, for an input of `size` (height, width): 2,034 at 320 x 320."""
    cells = (rows * columns for rows, columns in grids(network, size))
    return sum(n * len(anchors) for n, anchors in zip(cells, head_of(network).anchors, strict=True))


def head_of(network: Spec) -> SSDLite:
    """The head of a network that is known to be a detector."""
    assert isinstance(network.head, SSDLite), network.head
    return network.head


def _extra(network: Spec, name: str, in_channels: int, squeezed: int, out_channels: int) -> tuple[ConvSpec, ...]:
    """1x1 to fewer channels, then 3x3 of stride 2, depthwise and 1x1 where it is separable."""
    head = head_of(network)
    activation = "linear" if head.linear_extras else network.backbone.activation
    squeeze = _conv(network, f"{name}.0", in_channels, squeezed)
    if not head.separable:
        widen = _conv(network, f"{name}.1", squeezed, out_channels, kernel=3, stride=2)
        return squeeze, replace(widen, activation=activation)
    depthwise = _conv(network, f"{name}.1", squeezed, squeezed, kernel=3, stride=2, groups=squeezed)
    return squeeze, depthwise, replace(_conv(network, f"{name}.2", squeezed, out_channels), activation=activation)


def _head(network: Spec, name: str, in_channels: int, out_channels: int, *, last: bool) -> tuple[ConvSpec, ...]:
    """A 3x3 that ends in plain numbers, depthwise and 1x1 where it is separable; `last` is that of the last map."""
    head = head_of(network)
    if last and head.pointwise_last:
        return (_predict(network, f"{name}.0", in_channels, out_channels, kernel=1),)
    if not head.separable:
        return (_predict(network, f"{name}.0", in_channels, out_channels, kernel=3),)
    depthwise = _conv(network, f"{name}.0", in_channels, in_channels, kernel=3, groups=in_channels)
    return depthwise, _predict(network, f"{name}.1", in_channels, out_channels, kernel=1)


def _conv(
    network: Spec, name: str, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> ConvSpec:
    """With batch norm and the backbone's activation."""
    return ConvSpec(
        f"{name}.0", f"{name}.1", in_channels, out_channels, kernel=kernel, stride=stride, groups=groups,
        padding=network.backbone.padding, activation=network.backbone.activation,
    )  # fmt: skip


def _predict(network: Spec, name: str, in_channels: int, out_channels: int, *, kernel: int) -> ConvSpec:
    """With a bias and nothing after it."""
    padding = network.backbone.padding
    return ConvSpec(
        name, None, in_channels, out_channels, kernel=kernel, padding=padding, activation="linear", bias=True
    )
