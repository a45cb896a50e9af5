"""Boxes: formats, overlap, anchors, coding and non-maximum suppression, each against its plain definition."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mobilenetv2 import boxes
from mobilenetv2.spec import Spec, SSDLite, ssdlite
from mobilenetv2.spec_fields import backbone

CODER = (10.0, 10.0, 5.0, 5.0)
CODING = 1e-5  # of a box's own size: float32 deltas


def random_boxes(n: int, seed: int, *, largest: float = 0.6) -> np.ndarray:
    """[n, 4] xyxy with centres in the unit square, of 1 % to `largest` of it."""
    rng = np.random.default_rng(seed)
    centre, extent = rng.uniform(0, 1, (n, 2)), rng.uniform(0.01, largest, (n, 2))
    return boxes.xyxy_from_cxcywh(np.concatenate([centre, extent], axis=1))


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def plain_nms(
    found: np.ndarray, scores: np.ndarray, iou: float, score: float, most_per_class: int, most: int
) -> list[tuple[int, int]]:
    """Every class by itself, then the best of all: (box, class), best first."""
    kept: list[tuple[int, int]] = []
    for of_class in range(scores.shape[1]):
        order = sorted(range(len(found)), key=lambda i: (-scores[i, of_class], i))
        own: list[int] = []
        for i in order:
            if scores[i, of_class] < score or len(own) == most_per_class:
                break
            if all(plain_iou(found[i], found[j]) <= iou for j in own):
                own.append(i)
        kept += [(i, of_class) for i in own]
    return sorted(kept, key=lambda pair: (-scores[pair], *pair))[:most]


@given(arrays(np.float64, (5, 4), elements=st.floats(-1000, 1000)))
def test_formats_go_there_and_back(found: np.ndarray) -> None:
    np.testing.assert_allclose(boxes.xyxy_from_cxcywh(boxes.cxcywh_from_xyxy(found)), found, atol=1e-9)
    np.testing.assert_allclose(boxes.xyxy_from_xywh(boxes.xywh_from_xyxy(found)), found, atol=1e-9)


def test_formats_mean_what_their_names_say() -> None:
    box = np.array([10.0, 20.0, 30.0, 60.0])
    np.testing.assert_array_equal(boxes.cxcywh_from_xyxy(box), [20, 40, 20, 40])
    np.testing.assert_array_equal(boxes.xywh_from_xyxy(box), [10, 20, 20, 40])
    assert boxes.area(box) == 800
    assert boxes.area(np.array([30.0, 20, 10, 60])) == 0
    np.testing.assert_array_equal(boxes.clip(np.array([-5.0, 20, 500, 60]), 100, 50), [0, 20, 100, 50])


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 99))
def test_iou_is_intersection_over_union(n: int, m: int, seed: int) -> None:
    a, b = random_boxes(n, seed), random_boxes(m, seed + 100)
    found = boxes.iou(a, b)
    expected = np.array([[plain_iou(x, y) for y in b] for x in a]).reshape(n, m)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(np.diag(boxes.iou(a, a)), 1)


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9]])
    assert not boxes.iou(empty, np.concatenate([empty, [[0, 0, 1, 1]]])).any()


@pytest.mark.parametrize("size", [(320, 320), (300, 300), (97, 161), (1, 1), (320, 32)])
def test_anchors_are_map_by_map_row_by_row_cell_by_cell(size: tuple[int, int]) -> None:
    head = SSDLite(20)
    network = Spec(backbone(width_mult=0.35), head)
    found = boxes.anchors(network, size)
    expected = []
    height, width = size
    for (rows, columns), shapes in zip(ssdlite.grids(network, size), head.anchors, strict=True):
        for row in range(rows):
            for column in range(columns):
                for w, h in shapes:  # in units of the shorter side
                    extent = (min(size) * w / width, min(size) * h / height)
                    expected.append(((column + 0.5) / columns, (row + 0.5) / rows, *extent))
    assert found.shape == (ssdlite.anchor_count(network, size), 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_steps_say_where_centres_are_and_none_lies_beyond_the_edge() -> None:
    steps = (0.07, 0.11, 0.2, 0.35, 0.5, 1.0)
    size = (240, 300)  # the shorter side is the unit
    found = boxes.anchors(Spec(backbone(), SSDLite(steps=steps)), size)
    plain = boxes.anchors(Spec(backbone(), SSDLite()), size)
    np.testing.assert_array_equal(found[:, 2:], plain[:, 2:])
    np.testing.assert_allclose(found[3 * 4][:2] * (300, 240), (4.5 * 0.07 * 240, 0.5 * 0.07 * 240), rtol=1e-6)
    assert found[:, :2].max() == 1


def test_an_anchor_of_ratio_1_is_square_in_pixels_on_any_input() -> None:
    found = boxes.anchors(Spec(backbone(), SSDLite(20)), (160, 480))[0]
    assert (found[2] * 480, found[3] * 160) == (pytest.approx(16), pytest.approx(16))


@settings(max_examples=50)
@given(st.integers(1, 50), st.integers(0, 999), st.sampled_from([CODER, (1.0, 2.0, 3.0, 4.0)]))
def test_coding_goes_there_and_back(n: int, seed: int, coder: tuple[float, float, float, float]) -> None:
    wanted = boxes.cxcywh_from_xyxy(random_boxes(n, seed)).astype(np.float32)
    beside = boxes.cxcywh_from_xyxy(random_boxes(n, seed + 1)).astype(np.float32)
    deltas = boxes.encode(wanted, beside, coder)
    assert deltas.dtype == np.float32
    np.testing.assert_allclose(boxes.decode(deltas, beside, coder), wanted, rtol=CODING, atol=CODING)


def test_coding_is_faster_r_cnns_formula() -> None:
    box, anchor = np.array([0.6, 0.5, 0.4, 0.1]), np.array([0.5, 0.5, 0.2, 0.2])
    expected = [10 * 0.5, 0, 5 * np.log(2), 5 * np.log(0.5)]
    np.testing.assert_allclose(boxes.encode(box, anchor, CODER), expected, atol=1e-6)
    np.testing.assert_allclose(boxes.decode(np.zeros(4), anchor, CODER), anchor, rtol=1e-6)


def test_absurd_deltas_decode_to_finite_boxes() -> None:
    anchor = np.full((3, 4), 0.5, np.float32)
    deltas = np.full((3, 4), 1e6, np.float32) * [[1], [-1], [0]]
    assert np.isfinite(boxes.decode(deltas.astype(np.float32), anchor, CODER)).all()


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 40),
    classes=st.integers(1, 5),
    seed=st.integers(0, 9999),
    levels=st.sampled_from([4, 1000]),  # few levels: many equal scores
    iou=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    score=st.sampled_from([0.0, 0.25, 0.9]),
    most_per_class=st.sampled_from([1, 3, 100]),
    most=st.sampled_from([1, 10, 100]),
)
def test_suppression_is_the_plain_algorithm(
    n: int, classes: int, seed: int, levels: int, iou: float, score: float, most_per_class: int, most: int
) -> None:
    found = random_boxes(n, seed)
    scores = np.random.default_rng(seed).integers(0, levels + 1, (n, classes)) / levels
    kept = boxes.nms(
        found, scores, iou_threshold=iou, score_threshold=score, most_per_class=most_per_class, most=most
    )  # fmt: skip
    assert list(zip(*(part.tolist() for part in kept), strict=True)) == plain_nms(
        found, scores, iou, score, most_per_class, most
    )


def test_suppression_sorts_no_more_than_it_needs_and_still_finds_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found, scores = random_boxes(300, 0), np.random.default_rng(0).integers(0, 50, (300, 4)) / 50
    options: dict[str, Any] = {"iou_threshold": 0.5, "score_threshold": 0.0, "most_per_class": 300, "most": 1200}
    whole = boxes.nms(found, scores, **options)
    monkeypatch.setattr(boxes, "_CHUNK", 7)
    in_chunks = boxes.nms(found, scores, **options)
    assert all(np.array_equal(a, b) for a, b in zip(whole, in_chunks, strict=True))


@pytest.mark.parametrize("iou", [0.3, 0.6])
def test_suppression_agrees_with_torchvision(iou: float) -> None:
    found = random_boxes(2034, 1, largest=0.3)
    scores = np.random.default_rng(1).permutation(2034) / 2034  # no two are equal
    kept, _ = boxes.nms(
        found, scores[:, None], iou_threshold=iou, score_threshold=0.0, most_per_class=2034, most=2034
    )  # fmt: skip
    theirs = torchvision.ops.nms(torch.from_numpy(found), torch.from_numpy(scores), iou)
    assert kept.tolist() == theirs.tolist()
