"""Tables 1 to 4: the block, the network, its largest tensors, and its costs beside other classifiers'."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenetv2.complexity import LayerCost, complexity
from mobilenetv2.paper.cells import Cell, Table, count, quoted
from mobilenetv2.paper.compared import mobilenet_v1, multiply_adds, parameters, shufflenet
from mobilenetv2.spec import Backbone, ConvSpec, Spec, block, blocks, last, stem

V1, V2, SHUFFLE = "MobileNetV1", "MobileNetV2", "ShuffleNet 2x, g=3"


def table1() -> Table:
    """The bottleneck residual block from k to k' channels with stride s and expansion t: each layer's input and output.

    Ours is read from a block of the spec with k = 24, k' = 32, s = 2, t = 6 on 56 x 56, and written in its letters.
    """
    k, made, t, s, edge = 24, 32, 6, 2, 56
    found = block(in_channels=k, out_channels=made, expansion=t, stride=s, net=Backbone())
    channels = {k: "k", t * k: "tk", made: "k'"}
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    printed = (
        ("h x w x k", "1x1 conv2d, ReLU6", "h x w x tk"),
        ("h x w x tk", "3x3 dwise s=s, ReLU6", "h/s x w/s x tk"),
        ("h/s x w/s x tk", "linear 1x1 conv2d", "h/s x w/s x k'"),
    )
    for name, conv, cells in zip(("expand", "depthwise", "project"), found.convolutions, printed, strict=True):
        after = conv.out_size(edge)
        ours = (_size(edge, channels[conv.in_channels]), _operator(conv), _size(after, channels[conv.out_channels]))
        rows.append((name, tuple(Cell(p, o) for p, o in zip(cells, ours, strict=True))))
        edge = after
    return Table("table1", "Table 1: the bottleneck residual block", ("input", "operator", "output"), tuple(rows))


def table2() -> Table:
    """The network for 224 x 224: every row's input, expansion t, channels c, repeats n and first stride s."""
    printed = (
        ("conv2d", "224x224x3", "-", "32", "1", "2"),
        ("bottleneck", "112x112x32", "1", "16", "1", "1"),
        ("bottleneck", "112x112x16", "6", "24", "2", "2"),
        ("bottleneck", "56x56x24", "6", "32", "3", "2"),
        ("bottleneck", "28x28x32", "6", "64", "4", "2"),
        ("bottleneck", "14x14x64", "6", "96", "3", "1"),
        ("bottleneck", "14x14x96", "6", "160", "3", "2"),
        ("bottleneck", "7x7x160", "6", "320", "1", "1"),
        ("conv2d 1x1", "7x7x320", "-", "1280", "1", "1"),
        ("avgpool 7x7", "7x7x1280", "-", "-", "1", "-"),
        ("conv2d 1x1", "1x1x1280", "-", "k", "", "-"),
    )
    net = Backbone()
    size, channels = 224, net.in_channels
    ours: list[tuple[str, ...]] = [("conv2d", f"{size}x{size}x{channels}", "-", f"{stem(net).out_channels}", "1", "2")]
    size, channels, built = stem(net).out_size(size), stem(net).out_channels, iter(blocks(net))
    for t, _, n, s in net.stages:
        group = [next(built) for _ in range(n)]
        out = group[0].out_channels
        ours.append(("bottleneck", f"{size}x{size}x{channels}", f"{t:g}", f"{out}", f"{n}", f"{group[0].stride}"))
        size, channels = size // s, out
    final = last(net).out_channels
    ours.append(("conv2d 1x1", f"{size}x{size}x{channels}", "-", f"{final}", "1", f"{last(net).stride}"))
    ours += [(f"avgpool {size}x{size}", f"{size}x{size}x{final}", "-", "-", "1", "-")]
    ours += [("conv2d 1x1", f"1x1x{final}", "-", "k", "", "-")]
    rows = tuple(
        (f"{i}", tuple(Cell(p, o) for p, o in zip(line, found, strict=True)))
        for i, (line, found) in enumerate(zip(printed, ours, strict=True), 1)
    )
    notes = (f"The text says 19 residual bottleneck layers; the table's repeats add up to {len(blocks(net))}.",)
    return Table("table2", "Table 2: MobileNetV2", ("operator", "input", "t", "c", "n", "s"), rows, notes)


NEXT = "printed with the channels of the stage after; the map that exists at this size is ours"
WIDE = "ShuffleNet's g = 3 has 240, 480, 960 channels; the printed ones are twice g = 2's 200, 400, 800"
OTHER_MAX = "the printed maximum leaves out the first row, 800"


def table3() -> Table:
    """Channels / memory in kilobytes of float16 of the largest tensor between blocks, at each size of map.

    The columns "as printed" take the paper's channels and check its memory; the others take the networks' own.
    """
    v1 = _widest(mobilenet_v1().features(224), "pointwise")
    shuffle = _widest(shufflenet(2, stem=48).features(224), "stem")
    shuffle |= {28: 480, 14: 960, 7: 1920, 56: 48}  # what a unit gives, its shortcut joined to it
    v2 = _widest([c for c in complexity(Spec(), 224).layers if c.name in _projects()], "")
    last_channels = {V1: 1024, V2: last(Backbone()).out_channels, SHUFFLE: shuffle[7]}
    printed = {
        112: ("64/1600", "16/400", "32/800"), 56: ("128/800", "32/200", "48/300"), 28: ("256/400", "64/100", "400/600"),
        14: ("512/200", "160/62", "800/310"), 7: ("1024/199", "320/32", "1600/156"), 1: ("1024/2", "1280/2", "1600/3"),
    }  # fmt: skip
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for edge, texts in printed.items():
        cells: list[Cell] = []
        for name, own, text in zip((V1, V2, SHUFFLE), (v1, v2, shuffle), texts, strict=True):
            cells += _memory(edge, text, last_channels[name] if edge == 1 else own[edge], name)
        rows.append((f"{edge}x{edge}", tuple(cells)))
    rows.append(("max, first version", _maxima(printed, (v1, v2, shuffle), ("1600", "400", "600"), 112)))
    rows.append(("max, second version", _maxima(printed, (v1, v2, shuffle), ("800", "200", "600"), 56)))
    columns = tuple(f"{name}, {what}" for name in (V1, V2, SHUFFLE) for what in ("as printed", "own channels"))
    notes = ("The second published version has 1/O(1) in the row 112x112 and so other maxima.",)
    return Table("table3", "Table 3: channels / kB in float16, 224 x 224", columns, tuple(rows), notes)


def table4() -> Table:
    """ImageNet: top-1, parameters, multiply-adds at 224, milliseconds on one core of a Pixel 1."""
    v2, wide = complexity(Spec(), 224), complexity(Spec(Backbone(width_mult=1.4)), 224)
    v1, small, large = (n.costs(224) for n in (mobilenet_v1(), shufflenet(1.5, stem=24), shufflenet(2, stem=48)))
    norms = sum(2 * cost.output[2] for cost in v2.layers if cost.operation.startswith(("conv", "depthwise")))
    formula = "the formula's own value: TF-Slim's page lists 6.06M (without batch norm) and 582M for the same network"
    without = f"without batch norm's scales and shifts, and cut; {v2.parameters:,} with them"
    older = "MobileNetV1's own paper prints 569M"
    stem24, stem48 = (f"with {n} channels after the stem" for n in (24, 48))
    rows = (
        ("MobileNetV1", _row("70.6", "113", count("4.2M", parameters(v1)),
                             count("575M", multiply_adds(v1), reason=older))),
        ("ShuffleNet (1.5)", _row("71.5", "", count("3.4M", parameters(small)),
                                  count("292M", multiply_adds(small), convention=stem24))),
        ("ShuffleNet (x2)", _row("73.7", "", count("5.4M", parameters(large)),
                                 count("524M", multiply_adds(large), convention=stem48))),
        ("NasNet-A", _row("74.0", "183", quoted("5.3M"), quoted("564M"))),
        ("MobileNetV2", _row("72.0", "75", count("3.4M", v2.parameters - norms, convention=without),
                             count("300M", v2.multiply_adds))),
        ("MobileNetV2 (1.4)", _row("74.7", "143", count("6.9M", wide.parameters, reason=formula),
                                   count("585M", wide.multiply_adds, reason=formula))),
    )  # fmt: skip
    notes = ("Counts are rounded or cut to the printed digits: 300,774,272 is 300M when cut.",)
    return Table("table4", "Table 4: ImageNet", ("top-1", "params", "MAdds", "CPU ms"), rows, notes)


def _row(accuracy: str, milliseconds: str, *counts: Cell) -> tuple[Cell, ...]:
    return quoted(accuracy), *counts, quoted(milliseconds)


def _size(edge: int, channels: str) -> str:
    return f"h x w x {channels}" if edge == 56 else f"h/s x w/s x {channels}"


def _operator(conv: ConvSpec) -> str:
    if conv.groups > 1:
        return f"{conv.kernel}x{conv.kernel} dwise s=s, ReLU6"
    return "linear 1x1 conv2d" if conv.activation == "linear" else "1x1 conv2d, ReLU6"


def _projects() -> set[str]:
    return {block.project.name for block in blocks(Backbone())}


def _widest(costs: Sequence[LayerCost], part: str) -> dict[int, int]:
    """The most channels at each size, among the layers whose name has `part`."""
    result: dict[int, int] = {}
    for cost in costs:
        if part in cost.name:
            result[cost.output[0]] = max(result.get(cost.output[0], 0), cost.output[2])
    return result


def _kilobytes(edge: int, channels: int) -> float:
    return edge * edge * channels * 2 / 1000


def _memory(edge: int, text: str, own: int, name: str) -> tuple[Cell, Cell]:
    """The printed cell with its own channels, and what the network's are."""
    channels, _, memory = text.partition("/")
    exact = _kilobytes(edge, int(channels))
    checked = Cell(text, text) if _same(memory, exact) else Cell(
        text, f"{channels}/{exact:.1f}", reason=f"{edge} x {edge} x {channels} x 2 bytes is {exact:.1f} kB"
    )  # fmt: skip
    ours = f"{own}/{_kilobytes(edge, own):.1f}"
    agrees = own == int(channels) and checked.agrees
    return checked, Cell(text, text) if agrees else Cell(text, ours, reason=_why(edge, own, int(channels), name))


def _why(edge: int, own: int, channels: int, name: str) -> str:
    if own == channels:
        return f"{edge} x {edge} x {channels} x 2 bytes is {_kilobytes(edge, own):.1f} kB"
    if name == V2:
        return NEXT
    return "the stem at scale 2 has 48" if edge == 112 else WIDE


def _maxima(
    printed: dict[int, tuple[str, ...]], own: tuple[dict[int, int], ...], texts: tuple[str, ...], largest: int
) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for i, (found, text) in enumerate(zip(own, texts, strict=True)):
        edges = [edge for edge in printed if edge <= largest]
        said = max(_kilobytes(edge, int(printed[edge][i].partition("/")[0])) for edge in edges)
        real = max(_kilobytes(edge, found[edge]) for edge in edges if edge in found)
        for value, reason in ((said, OTHER_MAX), (real, NEXT if i == 1 else f"{WIDE}; {OTHER_MAX}")):
            cells.append(Cell(text, text) if _same(text, value) else Cell(text, f"{value:.1f}", reason=reason))
    return tuple(cells)


def _same(text: str, value: float) -> bool:
    """Whether `value` rounded or cut is `text`; one that ends in 00 is a round number, good to 5 %."""
    if text.endswith("00"):
        return abs(int(text) - value) <= 0.05 * value
    step = 10 ** (len(text) - len(text.rstrip("0")))
    return int(text) in (round(value / step) * step, int(value / step) * step)
