"""Figures 5, 6 and 7 as data: what they are drawn from, and that they are drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import spec
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.paper import figure1, figure5, figure6, figure7
from mobilenetv2.spec import Backbone


def is_picture(png: bytes) -> bool:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 10


def test_figure5_has_the_papers_grid_and_its_range_of_costs() -> None:
    points = figure5.published()
    grid = {(point.width_mult, point.resolution) for point in points}
    assert grid == {(w, r) for w in (0.35, 0.5, 0.75, 1.0) for r in (96, 128, 160, 192, 224)} | {(1.3, 224), (1.4, 224)}
    assert [points[0].multiply_adds // 10**6, points[-1].multiply_adds // 10**6] == [11, 582]


def test_figure5_accuracy_rises_with_width_and_with_resolution() -> None:
    top1 = {(point.width_mult, point.resolution): point.top1 for point in figure5.published()}
    for width, size in top1:
        for larger in ((width * 4 / 3, size), (width, size + 32)):
            if larger in top1:
                assert top1[larger] > top1[width, size]


def test_figure5_no_point_beats_the_frontier() -> None:
    points = figure5.published()
    best = figure5.frontier(points)
    for point in points:
        assert any(other.top1 >= point.top1 and other.multiply_adds <= point.multiply_adds for other in best)
    assert is_picture(figure5.draw(points))


def test_figure5s_rivals_are_the_other_networks_of_table_4_as_printed() -> None:
    assert figure5.rivals() == [
        ("MobileNetV1", 575, 70.6), ("ShuffleNet (1.5)", 292, 71.5), ("ShuffleNet (x2)", 524, 73.7),
        ("NasNet-A", 564, 74.0),
    ]  # fmt: skip


def test_figure6_holds_every_variant_with_several_seeds() -> None:
    result = figure6.stored()
    curves = figure6.curves(result)
    assert {curve.variant for curve in curves} == set(figure6.NAMES)
    assert all(len(curve.finals) >= 3 for curve in curves)
    assert all(len(curve.mean) == result["recipe"]["epochs"] for curve in curves)
    assert {"command", "date", "cpu", "versions", "data"} <= result.keys()
    assert is_picture(figure6.draw(result))


def test_figure6_is_ordered_by_the_last_accuracy() -> None:
    finals = [curve.mean[-1] for curve in figure6.curves(figure6.stored())]
    assert finals == sorted(finals, reverse=True)
    assert [row[0] for row in figure6.rows(figure6.stored())] == [
        figure6.NAMES[curve.variant] for curve in figure6.curves(figure6.stored())
    ]


def test_figure6_mean_and_spread_are_those_over_the_seeds() -> None:
    runs = [{"variant": "paper", "seed": i, "accuracy": [10.0, 20.0 + i]} for i in range(3)]
    (curve,) = figure6.curves({"runs": runs})
    assert curve.mean.tolist() == [10, 21]
    assert curve.spread.tolist() == [0, 1]
    with pytest.raises(UsageError, match="at least one run"):
        figure6.curves({"runs": []})


def test_figure7_counts_the_channels_of_the_reference_backend(random_model) -> None:
    model = random_model(width_mult=0.35, size=32)
    pictures = figure7.pictures(2, 32)
    found = {pattern.name: pattern for pattern in figure7.of_model(pictures, model)}
    maps = ReferenceBackend(model).features(pictures)
    for name, conv in (
        ("s16.expanded", spec.blocks(model.info.spec.backbone)[13].expand),
        ("out", spec.last(model.info.spec.backbone)),
    ):
        assert conv is not None
        positive = (maps[name] > 0).sum(-1)
        pattern = found[conv.name]
        assert (pattern.least, pattern.most) == (positive.min(), positive.max())
        assert pattern.mean == pytest.approx(positive.mean())
        assert pattern.below == pytest.approx((positive < conv.in_channels).mean())


def test_figure7_about_half_of_the_channels_are_positive_at_the_start() -> None:
    found = figure7.at_initialisation(figure7.pictures(2, 64))
    assert len(found) == 1 + 1 + 16 * 2 + 1  # the stem, block 0's depthwise, two of each other block, the last
    assert 0.3 < np.mean([pattern.mean / pattern.channels for pattern in found]) < 0.7
    expansions = [pattern for pattern in found if pattern.threshold]
    assert all(pattern.threshold * 6 == pattern.channels for pattern in expansions[:-1])
    assert is_picture(figure7.draw([("at initialisation", found)]))


def test_figure7_refuses_another_activation(random_model) -> None:
    model = random_model(width_mult=0.35, activation="relu", size=32)
    with pytest.raises(UsageError, match="Figure 7 and Lemma 2 need ReLU6"):
        figure7.of_model(figure7.pictures(1, 32), model)


def test_figure7_weights_at_the_start_are_torchs_in_spread() -> None:
    tensors = figure7.initial(Backbone())
    conv = spec.last(Backbone())
    assert tensors[f"{conv.name}.weight"].std() == pytest.approx((2 / conv.out_channels) ** 0.5, rel=0.01)


def test_figure1_is_drawn() -> None:
    assert is_picture(figure1.draw_orthant())
