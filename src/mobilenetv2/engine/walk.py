"""A network's layers as fused steps in the order in which they run: the backbone's, then those of its task's head.

Steps read and write maps by name. Where those lie, and for how long, is `plan`'s matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace

from mobilenetv2 import spec
from mobilenetv2.engine.head_operations import Mean
from mobilenetv2.engine.operations import Linear, Pool, Stem
from mobilenetv2.engine.schedule import Cpu, Limits
from mobilenetv2.engine.walker import Map, Output, Walker, Work, nameless
from mobilenetv2.spec import Backbone, BlockSpec, Classifier, DeepLab, Spec, SSDLite, deeplab, ssdlite

Place = tuple[int | None, bool]  # a block's index or None for the last map; its expanded tensor or its output


def walk(
    network: Spec, size: tuple[int, int], cpu: Cpu, *, threads: int, limits: Limits
) -> tuple[list[Work], tuple[Output, ...]]:
    """The steps of `network` for images of `size` (height, width), and what they give to the caller."""
    walker = Walker(cpu, threads, limits)
    image = Map("image", *size, network.backbone.in_channels)
    tasks = {Classifier: _classifier, SSDLite: _detector, DeepLab: _segmenter}
    return walker.steps, tasks[type(network.head)](walker, network, image)


def _classifier(walker: Walker, network: Spec, image: Map) -> tuple[Output, ...]:
    *_, (_, features) = _backbone(walker, network.backbone, image, ())
    last, linear = spec.last(network.backbone), spec.linear(network)
    pixels = features.height * features.width
    shape = walker.product(pixels, last.in_channels, last.out_channels, widest=4, dealt="panels")
    pool = Pool(last.activation, shape, next_weights=linear.in_features * linear.out_features)
    pooled = walker.add("last + mean", pool, {"": last.name}, features, (1, 1))
    shape = walker.product(1, linear.in_features, linear.out_features, dealt="panels")
    walker.add("classifier", Linear(shape), {"": linear.name}, pooled, (1, 1), target="logits")
    return (Output("logits", (linear.out_features,)),)


def _detector(walker: Walker, network: Spec, image: Map) -> tuple[Output, ...]:
    """Heads follow the map that they read. What one makes is a run of anchors, written to its place among all."""
    head = ssdlite.head_of(network)
    layers, taps = ssdlite.layers(network), spec.taps(network.backbone)
    size = image.height, image.width
    count = ssdlite.anchor_count(network, size)
    outputs = Output("class_logits", (count, head.outputs)), Output("box_deltas", (count, 4), count * head.outputs)
    per_map = (h * w * len(own) for (h, w), own in zip(ssdlite.grids(network, size), head.anchors, strict=True))
    first_anchor = [0, *itertools.accumulate(per_map)]

    def heads(k: int, source: Map) -> None:
        for kind, chains, output in zip(("class", "box"), (layers.class_heads, layers.box_heads), outputs, strict=True):
            at = first_anchor[k] * output.shape[1]
            walker.convolutions(f"{kind} head {k}", chains[k], source, target=output.name, target_at=at)

    places: list[Place] = [(taps[name].block, taps[name].expanded) for name in head.taps]
    maps: dict[Place, Map] = {}

    def visit(place: Place, found: Map) -> None:
        maps[place] = found
        for k, wanted in enumerate(places):
            if wanted == place:
                heads(k, found)

    found = image
    for place, found in _backbone(walker, network.backbone, image, places):
        visit(place, found)
    if (None, False) in places:
        visit((None, False), walker.pointwise("last", spec.last(network.backbone), found))
    source = maps[places[-1]]
    for k, chain in enumerate(layers.extras):
        source = walker.convolutions(f"extra {k}", chain, source)
        heads(len(places) + k, source)
    return outputs


def _segmenter(walker: Walker, network: Spec, image: Map) -> tuple[Output, ...]:
    """Branches' shares of the projection are added up, so that they are never laid side by side.

    The projection's sums begin with the pooling's share, which is one row for all pixels and has the bias in it.
    """
    *_, (_, features) = _backbone(walker, network.backbone, image, ())
    layers = deeplab.layers(network)
    conv, width = layers.project, layers.pooling.out_channels
    mean = Mean(features.height * features.width, features.channels)
    pooled = walker.pointwise("pooling", layers.pooling, walker.add("mean", mean, {}, features, (1, 1)))
    bare = replace(conv, in_channels=width, activation="linear")
    sums = walker.pointwise("pooling project", bare, pooled, inputs={"": (0, width)})
    first, *atrous = layers.branches
    for i, branch in enumerate(atrous, start=1):
        at = width * (1 + i)
        sums = walker.branch(f"branch {i}", branch, conv, (at, at + width), features, sums)
    walker.pixel_head((first, conv, layers.logits), (width, 2 * width), features, sums)
    return (Output("logits_map", (features.height, features.width, layers.logits.out_channels)),)


def _backbone(walker: Walker, net: Backbone, image: Map, taps: Collection[Place]) -> Iterator[tuple[Place, Map]]:
    """The stem and the blocks. Of the maps that come to exist each is given with its place; those of `taps` do."""
    conv, blocks = spec.stem(net), spec.blocks(net)
    keeps = {block.index - 1 for block in blocks if block.shortcut == "expansion"}
    row = walker.product(conv.out_size(image.width), 9 * conv.in_channels, conv.out_channels, widest=4)
    stem = Stem(nameless(conv), image.height, image.width, row)
    # a shortcut around the first block needs the stem's map
    fused = blocks[0].expand is None and blocks[0].shortcut == "none" and 0 not in keeps
    found = image if fused else walker.add("stem", stem, {"expand": conv.name}, image, stem.out)
    chained = _chained(blocks, keeps, taps, stem.out, walker.limits) if fused else 0
    if chained:
        found = walker.chain(f"stem + blocks 0-{chained - 1}", blocks[:chained], stem, conv.name, image)
        yield (chained - 1, False), found
    shared = ""
    for block in blocks[chained:]:
        name, source, rest = f"block {block.index}", found, block
        if (block.index, True) in taps and block.expand is not None:
            source = walker.pointwise(f"{name} expand", block.expand, found)
            yield (block.index, True), source
            # what a shortcut adds would not be what the rest reads: then the block expands for itself again
            if block.shortcut == "bottleneck":
                source = found
            else:
                rest = replace(block, expand=None)
        joins = block.shortcut == "expansion"
        shared = shared if joins else f"{name} depthwise"
        first = (stem, conv.name) if fused and block.index == 0 else None
        keep = joins or block.index in keeps
        found = walker.block(name, rest, source, first=first, keep=keep, shared=shared)
        yield (block.index, False), found


def _chained(
    blocks: tuple[BlockSpec, ...], keeps: Collection[int], taps: Collection[Place], size: tuple[int, int],
    limits: Limits,
) -> int:  # fmt: skip
    """How many blocks the first step computes row by row, the stem's map being of `size`; 0 for no such step.

    As long as the map between two would not stay near the core, up to the first block with a stride: a thread computes
    the rows at the edge of its part again, and with every further stride twice as many. A map of `taps` must exist.
    """
    height, width = size
    for number, block in enumerate(blocks):
        apart = number in keeps or block.shortcut == "expansion" or (number, True) in taps
        if apart or block.depthwise.dilation > 1:
            return number if number > 1 else 0
        height, width = block.depthwise.out_size(height), block.depthwise.out_size(width)
        between = 4 * height * width * block.out_channels
        if block.depthwise.stride > 1 or between <= limits.chain_bytes or (number, False) in taps:
            return number + 1 if number else 0
    return 0
