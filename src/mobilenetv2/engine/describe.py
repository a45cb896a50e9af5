"""A plan to look at: each step, its schedule, where its memory lies, and what that saves. Nothing is compiled."""

from __future__ import annotations

from typing import Any

from mobilenetv2.complexity import complexity
from mobilenetv2.engine import cpu
from mobilenetv2.engine.operations import Block, Chain
from mobilenetv2.engine.plan import Plan, Step, plan
from mobilenetv2.engine.schedule import Product
from mobilenetv2.spec import Spec


def describe(network: Spec, size: tuple[int, int], *, threads: int = 1) -> dict[str, Any]:
    """Plain JSON values: what the engine would do with `network` on this CPU (or `MOBILENETV2_CPU`).

    `arena_bytes` is all memory for activations, shared with nothing; `layer_by_layer_bytes` is what running one
    layer at a time needs at least (`complexity`). The paper's Table 3 counts the
    largest bottleneck alone: 802,816 bytes for width 1.0 at 224 in float32. Offsets count from the arena's start.
    Raises `UsageError` for a CPU without kernels.
    """
    planned = plan(network, size, cpu.chosen(), threads=threads)
    costs = complexity(network, size)
    return {
        "cpu": planned.cpu.name,
        "vector_lanes": planned.cpu.lanes,
        "size": list(size),
        "threads": threads,
        "arena_bytes": planned.arena_bytes,
        "layer_by_layer_bytes": 4 * costs.peak.live,
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


def text(description: dict[str, Any]) -> str:
    """`describe`'s object as a table of steps and two lines about memory."""
    rows = [
        (
            step["name"],
            step["output"],
            f"{step['multiply_adds'] / 1e6:.1f} M",
            f"{step['live_bytes'] / 1024:,.0f}",
            step["schedule"],
        )
        for step in description["steps"]
    ]
    rows.insert(0, ("step", "output", "multiply-adds", "KiB live", "schedule"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{name:{widths[0]}}  {output:{widths[1]}}  {cost:>{widths[2]}}  {live:>{widths[3]}}  {how}"
        for name, output, cost, live, how in rows
    ]
    arena, layers = description["arena_bytes"], description["layer_by_layer_bytes"]
    return "\n".join(
        (
            *lines,
            "",
            f"arena    {arena:,} bytes ({description['threads']} threads, {description['cpu']}); "
            f"layer by layer {layers:,}, {layers / arena:.1f} times as much",
            f"weights  {description['weights_bytes']:,} bytes",
        )
    )


def _step(step: Step, number: int, planned: Plan) -> dict[str, Any]:
    live = [buffer for buffer in planned.buffers.values() if buffer.first <= number <= buffer.last]
    return {
        "name": step.name,
        "output": _output(step),
        "schedule": _schedule(step),
        "multiply_adds": step.multiply_adds,
        "live_bytes": 4 * sum(buffer.size for buffer in live),
        "buffers": {
            role: name
            for role in ("source", "target", "scratch", "shared")
            if (name := getattr(step, role)) is not None
        },
    }


def _output(step: Step) -> str:
    operation = step.operation
    if isinstance(operation, Chain):
        operation = operation.blocks[-1]
    if isinstance(operation, Block):
        return f"{operation.out[0]} x {operation.out[1]} x {operation.project.out_channels}"
    channels = operation.product.channels
    out = getattr(operation, "out", None)
    return str(channels) if out is None else f"{out[0]} x {out[1]} x {channels}"


def _schedule(step: Step) -> str:
    operation = step.operation
    if isinstance(operation, Chain):
        return "; ".join(_block(block) for block in operation.blocks)
    return _block(operation) if isinstance(operation, Block) else f"tiles {_tile(operation.product)}"


def _block(operation: Block) -> str:
    chosen = operation.schedule
    how = (
        f"whole map, {len(chosen.panels)} x {chosen.panels[0].channels} channels at a time"
        if chosen.whole
        else f"{chosen.stripe} row(s) at a time, ring of {operation.ring_rows}"
    )
    expand = f"expand {_tile(chosen.expand)}, " if chosen.expand else ""
    return f"{how}; {expand}project {_tile(chosen.project)}"


def _tile(product: Product) -> str:
    return f"{product.tile.rows} x {product.tile.vectors}"
