"""A whole network as data: a backbone, and the head that its task puts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mobilenetv2.spec import deeplab, ssdlite
from mobilenetv2.spec.backbone import Backbone, Background, ConvSpec, blocks, conv_tensors, last, stem
from mobilenetv2.spec.deeplab import DeepLab
from mobilenetv2.spec.ssdlite import SSDLite


@dataclass(frozen=True, slots=True)
class Classifier:
    """Global mean, dropout, one linear layer of `outputs`, of which one may stand for "background"."""

    task: ClassVar[str] = "classification"

    outputs: int = 1000
    background: Background = "none"
    dropout: float = 0.2

    @property
    def classes(self) -> int:
        """Real classes: background does not count."""
        return self.outputs - (self.background != "none")


Head = Classifier | SSDLite | DeepLab


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole network: what a model file says about its tensors."""

    backbone: Backbone = Backbone()  # noqa: RUF009 - frozen
    head: Head = Classifier()

    @property
    def task(self) -> str:
        """classification, detection or segmentation."""
        return self.head.task


@dataclass(frozen=True, slots=True)
class LinearSpec:
    name: str
    in_features: int
    out_features: int


def linear(network: Spec) -> LinearSpec:
    """The classifier's one layer."""
    assert isinstance(network.head, Classifier), network.head
    return LinearSpec("classifier.1", last(network.backbone).out_channels, network.head.outputs)


def norm_eps(network: Spec, conv: ConvSpec) -> float:
    """The epsilon of the batch norm after `conv`."""
    return network.backbone.bn_eps if conv.bn_eps is None else conv.bn_eps


def has_last(network: Spec) -> bool:
    """Whether the network has the backbone's last convolution: segmentation reads the map before it."""
    return not isinstance(network.head, DeepLab)


def all_convolutions(network: Spec) -> tuple[ConvSpec, ...]:
    """Every convolution of the whole network in the order in which it runs."""
    net = network.backbone
    found = [stem(net), *(conv for block in blocks(net) for conv in block.convolutions)]
    if has_last(network):
        found.append(last(net))
    if isinstance(network.head, SSDLite):
        found += ssdlite.convolutions(network)
    elif isinstance(network.head, DeepLab):
        found += deeplab.convolutions(network)
    return tuple(found)


def tensors(network: Spec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the network's model file, in the order in which they are used."""
    result: dict[str, tuple[int, ...]] = {}
    for conv in all_convolutions(network):
        result.update(conv_tensors(conv))
    if isinstance(network.head, Classifier):
        layer = linear(network)
        result[f"{layer.name}.weight"] = (layer.out_features, layer.in_features)
        result[f"{layer.name}.bias"] = (layer.out_features,)
    return result


def count_tensors(network: Spec) -> int:
    """How many `tensors` gives, without listing them: 262 for the default network."""
    net, head = network.backbone, network.head
    # a convolution with batch norm has five, one with a bias two
    count = 5 * (1 + has_last(network) + sum((2 if t == 1 else 3) * n for t, _, n, _ in net.stages))
    if isinstance(head, Classifier):
        return count + 2
    if isinstance(head, DeepLab):
        return count + 5 * (3 + len(head.rates) * head.aspp) + 2
    maps = len(head.taps) + len(head.extras)
    separable_heads = (maps - head.pointwise_last if maps else 0) if head.separable else 0
    return count + 5 * (3 if head.separable else 2) * len(head.extras) + 2 * (2 * maps) + 2 * 5 * separable_heads
