"""A k x k convolution as products of shifted rows: a tile of pixels sums up over the kernel's places inside the map."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobilenetv2.engine.addresses import Number, Pointer
from mobilenetv2.engine.head_operations import Convolution
from mobilenetv2.engine.ir import Kernel, Module
from mobilenetv2.engine.kernels.inverted_residual import NUMBERS, POINTERS
from mobilenetv2.engine.kernels.memory import share
from mobilenetv2.engine.kernels.product import accumulate, by_row, panel_weights, start, store_all
from mobilenetv2.engine.needs import sections
from mobilenetv2.engine.schedule import Panel
from mobilenetv2.engine.tiling import Run, Tiling, runs
from mobilenetv2.spec import ConvSpec


def emit(module: Module, name: str, operation: Convolution) -> Kernel:
    """One thread's share of a convolution: some pieces of rows of some panels."""
    f = module.function(name, POINTERS, NUMBERS)
    at = sections(operation.weights)[0]
    writer = Tiles(module, name, operation.conv, operation.height, operation.width, operation.tiling)
    lines, channels = operation.tiling.rows, operation.map_channels
    begin, end = share(f, len(operation.tiling.panels) * len(lines))
    for group in operation.tiling.groups:
        beyond = (end + (len(lines) - 1)) // len(lines)
        low, high = f.most(begin // len(lines), group.first), f.least(beyond, group.first + group.count)
        with f.loop(low, high) as number:
            first_channel = group.panel.start + (number - group.first) * group.panel.channels
            before = number * len(lines)
            first, last = f.most(begin, before) - before, f.least(end, before + len(lines)) - before
            for run in runs(lines):
                with f.loop(f.most(first, run.first), f.least(last, run.first + run.count)) as piece:
                    y = run.piece.start + (piece - run.first) * run.piece.size
                    target = f.target + y * (operation.out[1] * channels) + first_channel
                    weights = f.weights + at["weight"], f.weights + at["bias"]
                    writer.piece(f, group.panel, first_channel, run, y, weights, target)
    f.end()
    return f


@dataclass(frozen=True, slots=True)
class Tiles:
    """Writes the code of a convolution's tiles: a function for each size of tile, which is called with its place."""

    module: Module
    name: str
    conv: ConvSpec
    height: int
    width: int
    tiling: Tiling
    functions: dict[tuple[Panel, int, int], Kernel] = field(default_factory=dict)

    def piece(
        self, f: Kernel, panel: Panel, first_channel: Number, run: Run, y: Number, weights: tuple[Pointer, Pointer],
        target: Pointer,
    ) -> None:  # fmt: skip
        """Calls for all tiles of the piece of rows from `y` on, of the panel that begins with `first_channel`.

        `weights`: the packed weights and biases of all panels; `target`: where the panel of the first pixel goes.
        """
        depth = self.conv.kernel**2 * self.conv.in_channels
        of_panel = panel_weights(panel, first_channel, depth, *weights)
        for across in runs(self.tiling.columns):
            tile = self._tile(panel, run.piece.size, across.piece.size)
            with f.loop(0, across.count) as number:
                x = across.piece.start + number * across.piece.size
                f.call(tile, f.source, target + x * self.conv.out_channels, of_panel.weight, of_panel.bias, y, x)

    def _tile(self, panel: Panel, tall: int, wide: int) -> Kernel:
        """The function (source, target, weight, bias, y, x) that computes `tall` x `wide` pixels of a panel."""
        key = Panel(0, panel.widths, panel.beyond), tall, wide
        if key not in self.functions:
            name = f"{self.name}_tile{len(self.functions)}"
            self.functions[key] = self._emit(name, *key)
        return self.functions[key]

    def _emit(self, name: str, panel: Panel, tall: int, wide: int) -> Kernel:
        f = self.module.function(name, ("source", "target", "weight", "bias"), ("y", "x"))
        conv, channels = self.conv, self.conv.in_channels
        weights = panel_weights(panel, 0, conv.kernel**2 * channels, f.weight, f.bias)
        row, pixel = self.width * channels, channels
        offsets = [conv.stride * (i * row + j * pixel) for i in range(tall) for j in range(wide)]
        sums = start(f, len(offsets), weights)
        (first_y, last_y), (first_x, last_x) = self._inside(f, f.y, self.height), self._inside(f, f.x, self.width)
        top, left = conv.pads(self.height)[0], conv.pads(self.width)[0]
        with f.loop(first_y, last_y, carry=sums, turns=True) as ky:
            line = f.source + (f.y * conv.stride + ky * conv.dilation - top) * row
            with f.loop(first_x, last_x, carry=sums, turns=True) as kx:
                place = line + (f.x * conv.stride + kx * conv.dilation - left) * pixel
                weight = f.weight + (ky * conv.kernel + kx) * (channels * panel.channels)
                accumulate(f, sums, place, offsets, weight, weights, channels)
        out = conv.out_size(self.width) * conv.out_channels
        targets = [i * out + j * conv.out_channels for i in range(tall) for j in range(wide)]
        for target, vectors in zip(targets, by_row(sums, len(offsets)), strict=True):
            store_all(f, panel, f.target + target, vectors, conv.activation)
        f.end()
        return f

    def _inside(self, f: Kernel, place: Number, size: int) -> tuple[Number, Number]:
        """The kernel's rows inside a map of `size` rows for output row `place`: see `schedule.kernel_range`."""
        conv = self.conv
        before = conv.pads(size)[0] - place * conv.stride  # of the first kernel row to the map, or below 0
        first = (f.most(before, 0) + (conv.dilation - 1)) // conv.dilation
        last = (before + (size - 1)) // conv.dilation + 1  # the kernel's middle is inside, so this is not below 0
        return first, f.least(last, conv.kernel)
