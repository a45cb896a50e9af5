"""A plan to look at: each step, its schedule, where its memory lies, and what that saves. Nothing is compiled."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from mobilenetv2 import spec
from mobilenetv2.complexity import complexity
from mobilenetv2.engine import cpu
from mobilenetv2.engine.head_operations import Branch, Convolution, Mean, PixelHead, Resize
from mobilenetv2.engine.operations import Block, Chain, Operation, Pool, Stem, Tiled
from mobilenetv2.engine.plan import Plan, Step, fitted
from mobilenetv2.engine.schedule import Product
from mobilenetv2.engine.tiling import Tiling
from mobilenetv2.spec import Spec


def describe(network: Spec, size: tuple[int, int], *, threads: int = 1, budget: int | None = None) -> dict[str, Any]:
    """Plain JSON values: what the engine would do with `network` on this CPU (or `MOBILENETV2_CPU`).

    `arena_bytes` is all memory for activations, shared with nothing, and at most `budget` where one is given;
    `layer_by_layer_bytes` is what running one layer at a time needs at least (`complexity`); `bottleneck_bytes` is the
    largest map between two blocks, the figure of the paper's Table 3. Offsets count from the arena's start. A step
    moves the maps that it reads and writes (`moved_bytes`); layer by layer, every layer between them would.
    Raises `UsageError` for a CPU without kernels, and for a budget that nothing fits.
    """
    planned = fitted(network, size, cpu.chosen(), threads=threads, budget=budget)
    costs = complexity(network, size)
    return {
        "cpu": planned.cpu.name,
        "vector_lanes": planned.cpu.lanes,
        "size": list(size),
        "threads": threads,
        "arena_bytes": planned.arena_bytes,
        "layer_by_layer_bytes": 4 * costs.peak.live,
        "bottleneck_bytes": 4 * largest_between(network, size),
        "weights_bytes": 4 * planned.weights,
        "multiply_adds": sum(step.multiply_adds for step in planned.steps),
        "steps": [_step(step, number, planned) for number, step in enumerate(planned.steps)],
        "buffers": [
            {
                "name": buffer.name,
                "offset": 4 * buffer.at,
                "bytes": 4 * buffer.size,
                "first_step": buffer.first,
                "last_step": buffer.last,
            }
            for buffer in planned.buffers.values()
        ],
    }


def largest_between(network: Spec, size: tuple[int, int]) -> int:
    """Elements of the largest map between two blocks: what must exist where blocks are computed one after the other."""
    height, width = (spec.stem(network.backbone).out_size(side) for side in size)
    largest = 0
    for block in spec.blocks(network.backbone):
        height, width = block.depthwise.out_size(height), block.depthwise.out_size(width)
        largest = max(largest, height * width * block.out_channels)
    return largest


def text(description: dict[str, Any]) -> str:
    """`describe`'s object as a table of steps and lines about memory."""
    buffers = {buffer["name"]: buffer for buffer in description["buffers"]}
    rows = [("step", "output", "multiply-adds", "at", "KiB", "live KiB", "schedule")]
    for step in description["steps"]:
        target = buffers.get(step["buffers"]["target"])  # the caller's outputs are not in the arena
        rows.append(
            (
                step["name"],
                step["output"],
                f"{step['multiply_adds'] / 1e6:.1f} M",
                f"{target['offset']:,}" if target else "",
                f"{target['bytes'] / 1024:,.1f}" if target else "",
                f"{step['live_bytes'] / 1024:,.0f}",
                step["schedule"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines: list[str] = []
    for *cells, how in rows:
        aligned = (
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  ".join((*aligned, how)))
    arena, layers = description["arena_bytes"], description["layer_by_layer_bytes"]
    threads = description["threads"]
    moved, apart = (
        sum(step[key] for step in description["steps"]) for key in ("moved_bytes", "layer_by_layer_moved_bytes")
    )
    return "\n".join(
        (
            *lines,
            "",
            f"arena           {arena:,} bytes ({threads} thread{'s' * (threads > 1)}, {description['cpu']})",
            f"layer by layer  {layers:,} bytes, {layers / arena:.1f} times as much",
            f"Table 3         {description['bottleneck_bytes']:,} bytes: the largest map between two blocks",
            f"moved           {moved:,} bytes of activations between steps",
            f"layer by layer  {apart:,} bytes, {apart / moved:.1f} times as much",
            f"weights         {description['weights_bytes']:,} bytes",
        )
    )


def _step(step: Step, number: int, planned: Plan) -> dict[str, Any]:
    live = [buffer for buffer in planned.buffers.values() if buffer.first <= number <= buffer.last]
    return {
        "name": step.name,
        "output": _output(step),
        "schedule": schedule_text(step),
        "multiply_adds": step.multiply_adds,
        "live_bytes": 4 * sum(buffer.size for buffer in live),
        **_moved(step.operation),
        "buffers": {
            role: name
            for role in ("source", "target", "scratch", "shared")
            if (name := getattr(step, role)) is not None
        },
    }


def _moved(operation: Operation) -> dict[str, int]:
    """Bytes of activations that a step reads and writes, and that its layers would, one after the other."""
    maps = _maps(operation)
    blocks = operation.blocks if isinstance(operation, Chain) else (operation,)
    added = operation.shared if isinstance(operation, Branch | PixelHead) else 0  # what other branches gave
    for block in blocks:
        if isinstance(block, Block) and block.shortcut != "none":
            channels = block.map_channels if block.shortcut == "bottleneck" else block.depthwise.out_channels
            added += math.prod(block.out) * channels
    return {
        "moved_bytes": 4 * (maps[0] + maps[-1] + added),
        "layer_by_layer_moved_bytes": 4 * (sum(map(sum, pairwise(maps))) + added),
    }


def _maps(operation: Operation) -> list[int]:
    """Elements of what the first of a step's layers reads, and of what each of them writes."""
    match operation:
        case Chain():
            first, *others = operation.blocks
            return [*_maps(first), *(size for block in others for size in _maps(block)[1:])]
        case Block(stem=stem, expand=expand, depthwise=depthwise):
            pixels, out = operation.height * operation.width, math.prod(operation.out)
            maps = _maps(stem) if stem else [pixels * (expand or depthwise).in_channels]
            maps += [pixels * expand.out_channels] if expand else []
            return [*maps, out * depthwise.out_channels, out * operation.map_channels]
        case Stem(conv=conv) | Convolution(conv=conv):
            return [operation.height * operation.width * conv.in_channels, math.prod(operation.out) * conv.out_channels]
        case Branch(conv=conv):
            before, pixels = operation.height * operation.width, math.prod(operation.out)
            return [before * conv.in_channels, pixels * conv.out_channels, pixels * operation.map_channels]
        case PixelHead():
            pixels, products = math.prod(operation.out), operation.products
            return [pixels * products[0].depth, *(pixels * product.channels for product in products)]
        case Mean():
            return [operation.pixels * operation.channels, operation.channels]
        case Resize():
            return [math.prod(operation.size) * operation.channels, math.prod(operation.out) * operation.channels]
        case _:
            shape = operation.product
            pooled = [shape.channels] if isinstance(operation, Pool) else []
            return [shape.rows * shape.depth, shape.rows * shape.channels, *pooled]


def _output(step: Step) -> str:
    out = getattr(step.operation, "out", None)
    channels = step.operation.map_channels
    return str(channels) if out is None else f"{out[0]} x {out[1]} x {channels}"


def schedule_text(step: Step) -> str:
    """How a step runs, in words."""
    operation = step.operation
    if isinstance(operation, Chain):
        return "; ".join(_block(block) for block in operation.blocks)
    if isinstance(operation, Block):
        return _block(operation)
    if isinstance(operation, Convolution):
        return f"tiles {_tiling(operation.tiling)}"
    if isinstance(operation, Branch):
        how = f"{len(operation.bands)} bands of rows"
        return f"{how}; tiles {_tiling(operation.tiling)}, project {_tile(operation.product)}"
    if isinstance(operation, PixelHead):
        tiles = (f"{part} {_tile(product)}" for part, product in zip(operation.PARTS, operation.products, strict=True))
        return f"{operation.products[0].rows} pixels at a time; {', '.join(tiles)}"
    return f"tiles {_tile(operation.product)}" if isinstance(operation, Tiled) else ""


def _block(operation: Block) -> str:
    chosen = operation.schedule
    how = (
        f"whole map, {len(chosen.panels)} x {chosen.panels[0].channels} channels at a time"
        if chosen.whole
        else f"{chosen.stripe} row(s) at a time, ring of {operation.ring_rows}"
    )
    expand = f"expand {_tile(chosen.expand)}, " if chosen.expand else ""
    return f"{how}; {expand}project {_tile(chosen.project)}"


def _tiling(tiling: Tiling) -> str:
    """The largest tile: rows, columns, vectors of channels."""
    rows, columns = (max(piece.size for piece in pieces) for pieces in (tiling.rows, tiling.columns))
    return f"{rows} x {columns} x {max(len(panel.widths) for panel in tiling.panels)}"


def _tile(product: Product) -> str:
    return f"{product.tile.rows} x {product.tile.vectors}"
