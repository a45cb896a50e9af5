"""DeepLabv3's head: branches and their projection, of which no map exists but the sums of atrous branches."""

from __future__ import annotations

import math

from mobilenetv2.engine.head_operations import Branch, PixelHead
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels.convolution import Tiles
from mobilenetv2.engine.kernels.inverted_residual import NUMBERS, POINTERS
from mobilenetv2.engine.kernels.memory import share
from mobilenetv2.engine.kernels.product import every_panel
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.tiling import runs


def emit_branch(module: Module, name: str, branch: Branch) -> Kernel:
    """One thread's bands of rows: the convolution's, then what they give to the projection."""
    f = module.function(name, POINTERS, NUMBERS)
    at, shape = sections(branch.weights)[0], branch.product
    conv, tiling, width = branch.conv, branch.tiling, branch.out[1]
    tiles = Tiles(module, name, conv, branch.height, branch.width, tiling)
    weights = f.weights + at["conv.weight"], f.weights + at["conv.bias"]
    begin, end = share(f, len(branch.bands))
    for number, (first, last) in enumerate(branch.bands):
        lines = tiling.rows[first:last]
        top = lines[0].start
        with f.when(f.both(f.less(number, end), f.less(begin, number + 1))):
            for group in tiling.groups:
                with f.loop(0, group.count) as one:
                    start = group.panel.start + one * group.panel.channels
                    for run in runs(lines):
                        with f.loop(0, run.count) as piece:
                            y = run.piece.start + piece * run.piece.size
                            target = f.scratch + (y - top) * (width * conv.out_channels) + start
                            tiles.piece(f, group.panel, start, run, y, weights, target)
            pixel = top * width
            step = shape.channels if branch.joins else 0
            every_panel(
                f, shape, sum(piece.size for piece in lines) * width, f.scratch, f.weights + at["project.weight"],
                f.shared + pixel * step, f.target + pixel * shape.channels, "linear", bias_step=step,
            )  # fmt: skip
    f.end()
    return f


def emit_pixel_head(module: Module, name: str, head: PixelHead) -> Kernel:
    """One thread's stripes of pixels, each through all three products."""
    f = module.function(name, POINTERS, NUMBERS)
    at, rows = sections(head.weights)[0], sections(head.scratch)[0]
    branch, project, logits = head.products
    step = project.channels if head.joins else 0
    begin, end = share(f, head.stripes)
    small, larger = divmod(math.prod(head.out), head.stripes)  # stripes of two sizes, the larger ones first
    for size, first, last in ((small + 1, 0, larger), (small, larger, head.stripes)):
        if first == last:
            continue
        with f.loop(f.most(begin, first), f.least(end, last)) as number:
            pixel = number * size + (larger if first else 0)
            places = (f.source + pixel * branch.depth, f.scratch + rows["branch"], f.scratch + rows["project"])
            targets = (*places[1:], f.target + pixel * logits.channels)
            biases = (
                f.weights + at["branch.bias"], f.shared + pixel * step, f.weights + at["logits.bias"],
            )  # fmt: skip
            for part, shape, activation, source, bias, target in zip(
                head.PARTS, head.products, head.activations, places, biases, targets, strict=True
            ):
                every_panel(
                    f, shape, size, source, f.weights + at[f"{part}.weight"], bias, target, activation,
                    bias_step=step if part == "project" else 0,
                )  # fmt: skip
    f.end()
    return f
