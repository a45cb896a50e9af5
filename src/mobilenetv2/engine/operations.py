"""The fused steps as data: shapes, schedule, and what each keeps in its weights and its scratch memory.

An operation has no names in it, so blocks of equal shape are equal operations and share one generated function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobilenetv2.engine import schedule
from mobilenetv2.engine.head_operations import Branch, Convolution, Mean, PixelHead, Pointwise, Resize
from mobilenetv2.engine.needs import Needs, Sections, conv_weights, product_weights
from mobilenetv2.engine.schedule import BlockSchedule, Panel, Product
from mobilenetv2.spec import Activation, ConvSpec, Shortcut


@dataclass(frozen=True, slots=True)
class Stem(Needs):
    """The first convolution on an image of `height` x `width`, which is normalised row by row as it is read."""

    conv: ConvSpec
    height: int
    width: int
    product: Product  # one output row

    @property
    def out(self) -> tuple[int, int]:
        return self.conv.out_size(self.height), self.conv.out_size(self.width)

    @property
    def map_channels(self) -> int:
        return self.conv.out_channels

    @property
    def line(self) -> int:
        """Elements of one normalised input row with the zeros beside it."""
        return (self.width + sum(self.conv.pads(self.width))) * self.conv.in_channels

    def lines(self, rows: int) -> int:
        """Input rows that `rows` output rows look at."""
        return (rows - 1) * self.conv.stride + self.conv.kernel

    @property
    def weights(self) -> Sections:
        row = self.width * self.conv.in_channels
        return (("scale", row), ("shift", row), *conv_weights("expand", self.conv))

    @property
    def scratch(self) -> Sections:
        return (("lines", self.lines(1) * self.line),)


@dataclass(frozen=True, slots=True)
class Block(Needs):
    """An inverted residual whose depthwise reads `height` x `width`; in the first one the stem may be the expansion.

    Where `shortcut` is "expansion", the shared memory holds the previous block's depthwise output, and this block's
    is added to it in place (the ablation of Figure 6 b).
    """

    stem: Stem | None
    expand: ConvSpec | None
    depthwise: ConvSpec
    project: ConvSpec
    shortcut: Shortcut
    height: int
    width: int
    schedule: BlockSchedule

    @property
    def out(self) -> tuple[int, int]:
        return self.depthwise.out_size(self.height), self.depthwise.out_size(self.width)

    @property
    def map_channels(self) -> int:
        return self.project.out_channels

    @property
    def columns(self) -> int:
        """Columns of an expanded row, the zeros beside it included."""
        return schedule.row_columns(self.depthwise, self.width)

    @property
    def ring_rows(self) -> int:
        return schedule.ring_rows(self.depthwise, self.schedule.stripe)

    @property
    def copies(self) -> bool:
        """Whether the depthwise reads the block's own input."""
        return self.stem is None and self.expand is None

    @property
    def ring(self) -> int:
        """Elements of all rings: one panel's where rows are not kept for the next stripe.

        There is none where the map is whole, and copying a row again costs less than room for all channels.
        """
        channels = self.depthwise.out_channels
        if self.schedule.whole or self.copies:
            channels = max(panel.channels for panel in self.schedule.panels)
        return self.ring_rows * self.columns * channels

    @property
    def wide(self) -> int:
        """Elements of the depthwise output of one stripe."""
        return self.schedule.stripe * self.out[1] * self.depthwise.out_channels

    @property
    def lines(self) -> int:
        """Normalised input rows kept for the stem; 0 without it."""
        return self.stem.lines(self.ring_rows) if self.stem else 0

    @property
    def weights(self) -> Sections:
        first = ()
        if self.stem is not None:
            first = self.stem.weights
        elif self.expand is not None:
            first = conv_weights("expand", self.expand)
        return (*first, *conv_weights("depthwise", self.depthwise), *conv_weights("project", self.project))

    @property
    def scratch(self) -> Sections:
        """Per thread."""
        line = self.stem.line if self.stem else 0
        wide = 0 if self.schedule.whole else self.wide
        return (("ring", self.ring), ("wide", wide), ("lines", self.lines * line))

    @property
    def shared(self) -> int:
        """For all threads: the depthwise output, where the map is computed whole."""
        return self.wide if self.schedule.whole else 0


@dataclass(frozen=True, slots=True)
class Chain(Needs):
    """Blocks that follow each other row by row: the maps between them exist as a few rows only.

    The first may have the stem in it. A part of block i is called "i.part" in weights and scratch memory.
    """

    blocks: tuple[Block, ...]

    @property
    def out(self) -> tuple[int, int]:
        return self.blocks[-1].out

    @property
    def map_channels(self) -> int:
        return self.blocks[-1].map_channels

    def lines(self, number: int) -> int:
        """Output rows of block `number` that the next one looks at together."""
        return self.blocks[number + 1].ring_rows

    @property
    def weights(self) -> Sections:
        return tuple((f"{i}.{name}", size) for i, block in enumerate(self.blocks) for name, size in block.weights)

    @property
    def scratch(self) -> Sections:
        """Per thread."""
        own = ((f"{i}.{name}", size) for i, block in enumerate(self.blocks) for name, size in block.scratch)
        between = (
            (f"{i}.rows", self.lines(i) * block.out[1] * block.project.out_channels)
            for i, block in enumerate(self.blocks[:-1])
        )
        return (*own, *between)


@dataclass(frozen=True, slots=True)
class Pool(Needs):
    """The last pointwise convolution and the mean over its map, which never exists.

    `next_weights`: elements of weights that the following step reads once, at the speed of memory (the classifier's
    5 MB): this step, which computes more than it reads, asks for them beside its own.
    """

    activation: Activation
    product: Product
    next_weights: int = 0

    @property
    def next_lines(self) -> int:
        """Cache lines of them per turn of the inner loop: two at most, so that its multiply-adds still hide them."""
        tiles = -(-self.product.rows // self.product.tile.rows)
        turns = len(self.product.panels) * tiles * self.product.depth
        return min(2, -(-self.next_weights // (schedule.LINE * turns)))

    @property
    def map_channels(self) -> int:
        return self.product.channels

    @property
    def weights(self) -> Sections:
        return product_weights(self.product)


@dataclass(frozen=True, slots=True)
class Linear(Needs):
    """The classifier's layer on one row of features."""

    product: Product

    @property
    def map_channels(self) -> int:
        return self.product.channels

    @property
    def weights(self) -> Sections:
        return product_weights(self.product)


Tiled = Stem | Pool | Linear | Pointwise  # one product
Operation = Tiled | Block | Chain | Convolution | Branch | PixelHead | Mean | Resize


def multiply_adds(operation: Operation) -> int:
    """Of its convolutions and linear layers; a mean's and a resize's are not counted."""
    match operation:
        case Chain():
            return sum(map(multiply_adds, operation.blocks))
        case Block(expand=expand, depthwise=depthwise, project=project):
            total = multiply_adds(operation.stem) if operation.stem else 0
            if expand is not None:
                total += math.prod(expand.weight_shape) * operation.height * operation.width
            both = math.prod(depthwise.weight_shape) + math.prod(project.weight_shape)
            return total + both * math.prod(operation.out)
        case Stem() | Convolution():
            return math.prod(operation.conv.weight_shape) * math.prod(operation.out)
        case Branch(conv=conv, product=product):
            return (math.prod(conv.weight_shape) + product.depth * product.channels) * math.prod(operation.out)
        case PixelHead():
            return math.prod(operation.out) * sum(part.depth * part.channels for part in operation.products)
        case Mean() | Resize():
            return 0
        case _:
            return operation.product.rows * operation.product.depth * operation.product.channels


def panels(operation: Operation, section: str) -> tuple[Panel, ...]:
    """The panels in which the weights of `section` are laid out."""
    if isinstance(operation, Chain):
        number, _, section = section.partition(".")
        return panels(operation.blocks[int(number)], section)
    if isinstance(operation, Block):
        if section == "project":
            return operation.schedule.project.panels
        return operation.schedule.panels
    if isinstance(operation, PixelHead):
        return operation.products[operation.PARTS.index(section)].panels
    if isinstance(operation, Branch) and section == "project":
        return operation.product.panels
    if isinstance(operation, Convolution | Branch):
        return operation.tiling.panels
    assert isinstance(operation, Tiled), "no other has weights"
    return operation.product.panels
