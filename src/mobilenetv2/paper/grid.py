"""The grid of section 6.1: MobileNetV2 at every width and resolution that was published, counted from the spec."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenetv2 import zoo
from mobilenetv2.complexity import LayerCost, complexity
from mobilenetv2.paper.cells import Cell, Table, count
from mobilenetv2.spec import Backbone, Classifier, Spec

PUBLISHER = "keras"  # the zoo's source whose files are TF-Slim's weights at every point
PARAMETERS = {1.4: "6.06M", 1.3: "5.34M", 1.0: "3.47M", 0.75: "2.61M", 0.5: "1.95M", 0.35: "1.66M"}
MULTIPLY_ADDS = {  # millions at 224, 192, 160, 128 and 96 pixels, as on TF-Slim's page
    1.4: (582,),
    1.3: (509,),
    1.0: (300, 221, 154, 99, 56),
    0.75: (209, 153, 107, 69, 39),
    0.5: (97, 71, 50, 32, 18),
    0.35: (59, 43, 30, 20, 11),
}
SIZES = (224, 192, 160, 128, 96)


def grid() -> Table:
    """All 22 points: top-1 as published with the weights, parameters and multiply-adds beside TF-Slim's own table."""
    top1 = {(e.width_mult, e.resolution): e.top1 for e in zoo.entries() if e.source == PUBLISHER and e.top1}
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for width, costs in MULTIPLY_ADDS.items():
        for size, millions in zip(SIZES, costs, strict=False):  # the two widest at 224 alone
            found = complexity(classifier(width), size)
            cells = (
                Cell("", f"{100 * top1[width, size]:.1f}", "published elsewhere"),
                count(PARAMETERS[width], without_norm(found.layers)),
                count(f"{millions}M", found.multiply_adds),
            )
            rows.append((point(width, size), cells))
    notes = (
        "Parameters and multiply-adds stand beside those of TF-Slim's page, which counts parameters without batch "
        "norm's scales and shifts and cuts everything to its digits.",
        f'The paper gives the range as "7M to 585M" multiply-adds and "1.7M to 6.9M" parameters: the smallest point '
        f"that was published has {complexity(classifier(0.35), 96).multiply_adds / 1e6:.1f}M, the largest 582.2M.",
        "Width 1.4 has 74.7 % in Table 4 and 75.0 % with the published weights; width 1.0 72.0 % and 71.8 %.",
    )
    return Table("grid", "Section 6.1: every published point", ("top-1", "params", "MAdds"), tuple(rows), notes)


def point(width: float, size: int) -> str:
    """The name of a row."""
    return f"{width:g} at {size}"


def points() -> list[tuple[float, int]]:
    """Width and size (pixels) of each row."""
    return [(width, size) for width, costs in MULTIPLY_ADDS.items() for size in SIZES[: len(costs)]]


def classifier(width: float) -> Spec:
    """The classifier with 1000 outputs."""
    return Spec(Backbone(width), Classifier(outputs=1000))


def without_norm(layers: Sequence[LayerCost]) -> int:
    """Parameters without batch norm's two for each channel: every convolution of a classifier has one."""
    convs = [layer for layer in layers if layer.operation.startswith(("conv", "depthwise"))]
    return sum(layer.parameters for layer in layers) - sum(2 * conv.output[2] for conv in convs)
