"""What an operation keeps in its weights and its scratch memory: named sections, one after the other.

All sizes and offsets count float32 elements; sections begin at multiples of 64 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mobilenetv2.engine.schedule import Product
from mobilenetv2.spec import ConvSpec

Sections = tuple[tuple[str, int], ...]  # names and sizes
ALIGNMENT = 16  # float32 elements: 64 bytes, a cache line


def aligned(size: int) -> int:
    """`size` elements, up to a multiple of 64 bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def sections(sizes: Iterable[tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Where named parts begin when laid one after the other, and their size together."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size in sizes:
        offsets[name] = end
        end += aligned(size)
    return offsets, end


class Needs:
    """What an operation keeps in memory: nothing, where it does not say otherwise. It writes `map_channels`."""

    __slots__ = ()

    @property
    def weights(self) -> Sections:
        return ()

    @property
    def scratch(self) -> Sections:
        """Per thread."""
        return ()

    @property
    def shared(self) -> int:
        """For all threads."""
        return 0


def conv_weights(name: str, conv: ConvSpec) -> Sections:
    return ((f"{name}.weight", math.prod(conv.weight_shape)), (f"{name}.bias", conv.out_channels))


def product_weights(product: Product, prefix: str = "") -> Sections:
    return ((f"{prefix}weight", product.depth * product.channels), (f"{prefix}bias", product.channels))
