"""The steps of heads as data: convolutions and means of maps, and what DeepLabv3 puts on the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from mobilenetv2.engine.needs import Needs, Sections, conv_weights, product_weights
from mobilenetv2.engine.schedule import Product
from mobilenetv2.engine.tiling import Tiling
from mobilenetv2.spec import Activation, ConvSpec


@dataclass(frozen=True, slots=True)
class Slice:
    """Channels from `start` on of a map of `channels`: maps written side by side into one need no concatenation."""

    start: int
    channels: int


@dataclass(frozen=True, slots=True)
class Pointwise(Needs):
    """A 1x1 convolution and its activation on a map of `out` pixels; a pixel is a row of the product."""

    activation: Activation
    out: tuple[int, int]
    product: Product
    into: Slice

    @property
    def map_channels(self) -> int:
        return self.into.channels

    @property
    def weights(self) -> Sections:
        return product_weights(self.product)


@dataclass(frozen=True, slots=True)
class Convolution(Needs):
    """A k x k convolution that is not depthwise, on a map of `height` x `width`: a sum of products of shifted rows."""

    conv: ConvSpec
    height: int
    width: int
    tiling: Tiling

    @property
    def out(self) -> tuple[int, int]:
        return self.conv.out_size(self.height), self.conv.out_size(self.width)

    @property
    def map_channels(self) -> int:
        return self.conv.out_channels

    @property
    def weights(self) -> Sections:
        return (("weight", math.prod(self.conv.weight_shape)), ("bias", self.conv.out_channels))


@dataclass(frozen=True, slots=True)
class Mean(Needs):
    """The mean over a map of `pixels`, channel by channel: what image-level pooling begins with."""

    pixels: int
    channels: int

    @property
    def map_channels(self) -> int:
        return self.channels


@dataclass(frozen=True, slots=True)
class Resize(Needs):
    """A map of `size` pixels resampled bilinearly to `out` pixels, as `reference.resize` says; from 1 x 1, copies."""

    size: tuple[int, int]
    out: tuple[int, int]
    channels: int
    align_corners: bool
    into: Slice

    @property
    def map_channels(self) -> int:
        return self.into.channels


@dataclass(frozen=True, slots=True)
class Branch(Needs):
    """An atrous branch and its part of the projection of all branches, which are never laid side by side.

    A projection of maps side by side is the sum of their own projections. So the branch's map exists as a band of rows
    at a time, and is added to what the branches before gave: where it `joins` them, those are the map that this step
    writes to; otherwise they are one row of channels for all pixels. Either lies in the shared memory.
    """

    conv: ConvSpec
    height: int
    width: int
    tiling: Tiling
    bands: tuple[tuple[int, int], ...]  # of the tiling's pieces of rows: the first, and beyond the last
    product: Product  # the largest band's
    joins: bool

    @property
    def out(self) -> tuple[int, int]:
        return self.conv.out_size(self.height), self.conv.out_size(self.width)

    @property
    def map_channels(self) -> int:
        return self.product.channels

    @property
    def weights(self) -> Sections:
        return (*conv_weights("conv", self.conv), ("project.weight", self.product.depth * self.product.channels))

    @property
    def scratch(self) -> Sections:
        """Per thread."""
        return (("rows", self.product.rows * self.conv.out_channels),)

    @property
    def shared(self) -> int:
        return self.product.channels * (math.prod(self.out) if self.joins else 1)


@dataclass(frozen=True, slots=True)
class PixelHead(Needs):
    """DeepLabv3's 1x1 convolutions, pixel by pixel: its 1x1 branch, the projection of all branches, the logits.

    Between them only so many pixels exist as one of `stripes` has. What the other branches give to the projection lies
    in the shared memory: a row per pixel where it `joins` them, otherwise one row for all pixels.
    """

    PARTS: ClassVar = ("branch", "project", "logits")

    activations: tuple[Activation, Activation, Activation]
    out: tuple[int, int]
    products: tuple[Product, Product, Product]  # the largest stripe's
    stripes: int
    joins: bool

    @property
    def map_channels(self) -> int:
        return self.products[2].channels

    @property
    def weights(self) -> Sections:
        branch, project, logits = self.products
        return (
            *product_weights(branch, "branch."),
            ("project.weight", project.depth * project.channels),
            *product_weights(logits, "logits."),
        )

    @property
    def scratch(self) -> Sections:
        """Per thread."""
        branch, project, _ = self.products
        return (("branch", branch.rows * branch.channels), ("project", project.rows * project.channels))

    @property
    def shared(self) -> int:
        return self.products[1].channels * (math.prod(self.out) if self.joins else 1)
