"""Tables 5 to 7: what detection and segmentation cost on MobileNetV2, beside other networks."""

from __future__ import annotations

from collections.abc import Callable

from mobilenetv2.complexity import Complexity, LayerCost, complexity
from mobilenetv2.paper.cells import Cell, Table, count, matches, quoted
from mobilenetv2.paper.compared import multiply_adds, parameters, v1_detector, v1_segmenter, v2_segmenter
from mobilenetv2.spec import Spec, SSDLite

Segmenter = Callable[..., tuple[LayerCost, ...]]  # compared.v1_segmenter or v2_segmenter
SIZE, CROP = 320, 513
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the picture, in DeepLab's evaluation; each also mirrored


def table5() -> Table:
    """The layers of SSD and SSDLite on MobileNetV2 for 80 classes and background, at 320 x 320."""
    plain, lite = (_head(complexity(Spec(head=SSDLite(separable=s)), SIZE)) for s in (False, True))
    cut = f"{multiply_adds(plain) / 1e9:.3f}B, cut"
    twice = f"{multiply_adds(lite) / 1e9:.3f}B; twice that (operations, not multiply-adds) is near the printed one"
    rows = (
        ("SSD", (count("14.8M", parameters(plain)), count("1.25B", multiply_adds(plain), convention=cut))),
        ("SSDLite", (count("2.1M", parameters(lite)), count("0.35B", multiply_adds(lite), reason=twice))),
    )
    return Table("table5", "Table 5: prediction layers, MobileNetV2, 320 x 320", ("params", "MAdds"), rows)


def table6() -> Table:
    """COCO: mean average precision on test-dev, costs at 320 x 320, milliseconds on the big core of a Pixel 1."""
    v1, v2 = v1_detector(SIZE), complexity(Spec(head=SSDLite()), SIZE).layers
    rows = (
        ("SSD300", tuple(map(quoted, ("23.2", "36.1M", "35.2B", "")))),
        ("SSD512", tuple(map(quoted, ("26.8", "36.1M", "99.5B", "")))),
        ("YOLOv2", tuple(map(quoted, ("21.6", "50.7M", "17.5B", "")))),
        ("MobileNetV1 + SSDLite", _detector("22.2", "5.1M", "1.3B", "270", v1)),
        ("MobileNetV2 + SSDLite", _detector("22.1", "4.3M", "0.8B", "200", v2)),
    )
    notes = ("The text calls MobileNetV2 the most accurate of the two; the table has 22.1 for it and 22.2 for V1.",)
    return Table("table6", "Table 6: COCO", ("mAP", "params", "MAdds", "CPU ms"), rows, notes)


def table7() -> Table:
    """VOC 2012: mean intersection over union, costs at 513 x 513; MF is six scales, each also mirrored."""
    rows = (
        ("MobileNetV1, OS 16, ASPP", _segmenter(v1_segmenter, "75.29", "11.15M", "14.25B", True, False)),
        ("MobileNetV1, OS 8, ASPP, MF", _segmenter(v1_segmenter, "78.56", "11.15M", "941.9B", True, True)),
        ("MobileNetV2*, OS 16, ASPP", _segmenter(v2_segmenter, "75.70", "4.52M", "5.8B", True, False)),
        ("MobileNetV2*, OS 8, ASPP, MF", _segmenter(v2_segmenter, "78.42", "4.52M", "387B", True, True)),
        ("MobileNetV2*, OS 16", _segmenter(v2_segmenter, "75.32", "2.11M", "2.75B", False, False)),
        ("MobileNetV2*, OS 8, MF", _segmenter(v2_segmenter, "77.33", "2.11M", "152.6B", False, True)),
        ("ResNet-101, OS 16, ASPP", tuple(map(quoted, ("80.49", "58.16M", "81.0B")))),
        ("ResNet-101, OS 8, ASPP, MF", tuple(map(quoted, ("82.70", "58.16M", "4870.6B")))),
    )
    notes = ("* The heads read the last block's 320 channels.",)
    return Table("table7", "Table 7: VOC 2012", ("mIOU", "params", "MAdds"), rows, notes)


def segmenter_multiply_adds(make: Segmenter, *, aspp: bool, many: bool, padded: bool) -> int:
    """At 513 x 513 and stride 16; `many`: at stride 8, the sum over all scales and their mirror images."""
    if not many:
        return multiply_adds(make(CROP, 16, aspp=aspp, padded=padded))
    sizes = [int((CROP - 1) * scale) + 1 for scale in SCALES]  # as DeepLab rounds: 257 is half of 513
    return 2 * sum(multiply_adds(make(size, 8, aspp=aspp, padded=padded)) for size in sizes)


def _head(costs: Complexity) -> list[LayerCost]:
    return [layer for layer in costs.layers if not layer.name.startswith("features.")]


def _detector(ap: str, params: str, madds: str, ms: str, costs: tuple[LayerCost, ...]) -> tuple[Cell, ...]:
    return quoted(ap), count(params, parameters(costs)), count(madds, multiply_adds(costs)), quoted(ms)


def _segmenter(make: Segmenter, score: str, params: str, madds: str, aspp: bool, many: bool) -> tuple[Cell, ...]:
    plain, padded = (segmenter_multiply_adds(make, aspp=aspp, many=many, padded=p) for p in (False, True))
    why = (
        f"{plain / 1e9:.3f}B counted plainly, {padded / 1e9:.3f}B with maps padded to a multiple of the dilation, as "
        "TensorFlow 1's space_to_batch does"
    )
    exact = matches(madds, padded)
    cell = count(madds, padded, convention=why) if exact else count(madds, plain, reason=f"{why}; printed is neither")
    return quoted(score), count(params, parameters(make(CROP, 16, aspp=aspp))), cell
