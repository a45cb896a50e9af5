"""Matching and loss against slow loops, and what training must survive: no objects, degenerate boxes, crowds."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobilenetv2 import boxes
from mobilenetv2.nn.ssd_loss import Target, focal, hard_mined, match, multibox_loss
from mobilenetv2.spec import Spec, SSDLite

HEADS = [
    SSDLite(3),
    SSDLite(3, background="none"),
    SSDLite(3, background="last"),
    SSDLite(3, score="softmax"),
    SSDLite(3, background="last", score="softmax"),
]
ANCHORS = 60


def some_boxes(n: int, seed: int) -> Tensor:
    """[n, 4] xyxy_norm of 5 % to 50 % of a picture."""
    generator = torch.Generator().manual_seed(seed)
    centre, extent = torch.rand(n, 2, generator=generator), 0.05 + 0.45 * torch.rand(n, 2, generator=generator)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=1)


def some_anchors(seed: int, n: int = ANCHORS) -> Tensor:
    return torch.from_numpy(boxes.cxcywh_from_xyxy(some_boxes(n, seed).numpy()))


def batch(head: SSDLite, counts: list[int], seed: int = 0) -> tuple[dict[str, Tensor], list[Target]]:
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        "class_logits": torch.randn(len(counts), ANCHORS, head.outputs, generator=generator).requires_grad_(),
        "box_deltas": torch.randn(len(counts), ANCHORS, 4, generator=generator).requires_grad_(),
    }
    targets = [
        Target(some_boxes(n, seed + i), torch.randint(0, head.classes, (n,), generator=generator))
        for i, n in enumerate(counts)
    ]
    return outputs, targets


def slow_match(anchors_cxcywh: np.ndarray, found_xyxy: np.ndarray) -> list[int]:
    overlaps = boxes.iou(found_xyxy, boxes.xyxy_from_cxcywh(anchors_cxcywh))
    matched = [-1] * len(anchors_cxcywh)
    for anchor in range(len(anchors_cxcywh)):
        for box in range(len(found_xyxy)):
            best = matched[anchor]
            if overlaps[box, anchor] >= 0.5 and (best == -1 or overlaps[box, anchor] > overlaps[best, anchor]):
                matched[anchor] = box
    pairs = [(b, a) for b in range(len(found_xyxy)) for a in range(len(anchors_cxcywh))]
    pairs.sort(key=lambda pair: -overlaps[pair])
    boxes_done: set[int] = set()
    anchors_done: set[int] = set()
    for box, anchor in pairs:
        if overlaps[box, anchor] > 0 and box not in boxes_done and anchor not in anchors_done:
            matched[anchor] = box
            boxes_done.add(box)
            anchors_done.add(anchor)
    return matched


def slow_loss(
    outputs: dict[str, Tensor], targets: list[Target], anchors: np.ndarray, head: SSDLite
) -> tuple[float, float]:
    """Hard-mined multibox loss, one anchor at a time."""
    logits, deltas = (outputs[name].detach().double().numpy() for name in ("class_logits", "box_deltas"))
    class_loss = box_loss = matches = 0.0
    for b, target in enumerate(targets):
        found = target.boxes_xyxy_norm.numpy()
        positives, negatives = [], []
        for anchor, box in enumerate(slow_match(anchors, found)):
            nothing = {"none": None, "first": 0, "last": head.outputs - 1}[head.background]
            one = nothing if box == -1 else int(target.classes[box]) + (head.background == "first")
            scores = logits[b, anchor]
            if head.score == "softmax":
                loss = np.log(np.exp(scores).sum()) - scores[one]
            else:
                probabilities = 1 / (1 + np.exp(-scores))
                loss = -sum(np.log(p if o == one else 1 - p) for o, p in enumerate(probabilities))
            (negatives if box == -1 else positives).append(loss)
            if box != -1:
                wanted = boxes.encode(boxes.cxcywh_from_xyxy(found[box]), anchors[anchor], head.coder)
                for error in np.abs(deltas[b, anchor] - wanted):
                    box_loss += error**2 / 2 if error < 1 else error - 0.5
        negatives = sorted(negatives, reverse=True)[: max(3 * len(positives), 3)]
        class_loss += sum(positives) + sum(negatives)
        matches += len(positives)
    return class_loss / max(matches, 1), box_loss / max(matches, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 9999))
def test_matching_is_the_slow_algorithm(n: int, seed: int) -> None:
    anchors, found = some_anchors(seed), some_boxes(n, seed + 1)
    assert match(anchors, found).tolist() == slow_match(anchors.numpy(), found.numpy())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 9999))
def test_every_box_has_an_anchor_where_one_is_left_and_all_others_overlap_by_half(n: int, seed: int) -> None:
    anchors, found = some_anchors(seed), some_boxes(n, seed + 1)
    matched = match(anchors, found).numpy()
    overlaps = boxes.iou(found.numpy(), boxes.xyxy_from_cxcywh(anchors.numpy()))
    for box in set(range(n)) - set(matched.tolist()):
        assert (matched[overlaps[box] > 0] != -1).all()
    weak = [a for a in range(ANCHORS) if matched[a] != -1 and overlaps[matched[a], a] < 0.5]
    assert len({matched[a] for a in weak}) == len(weak)  # each is the one anchor that was forced on its box
    assert all((overlaps[:, a] < 0.5).all() for a in range(ANCHORS) if matched[a] == -1)


def test_on_a_detectors_own_anchors_every_box_has_one() -> None:
    anchors = torch.from_numpy(np.array(boxes.anchors(Spec(head=SSDLite(3)), (160, 160))))
    for seed in range(20):
        assert set(range(15)) <= set(match(anchors, some_boxes(15, seed)).tolist())


def test_two_equal_boxes_get_two_anchors() -> None:
    found = some_boxes(1, 0).repeat(2, 1)
    assert {0, 1} <= set(match(some_anchors(1), found).tolist())


def test_more_boxes_than_anchors_use_all_anchors() -> None:
    anchors = torch.tensor([[0.4, 0.4, 0.5, 0.5], [0.6, 0.6, 0.5, 0.5]])
    assert set(match(anchors, some_boxes(30, 0)).tolist()) <= set(range(30))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.background}-{head.score}")
@pytest.mark.parametrize("counts", [[3, 0, 1], [0, 0], [20]])
def test_the_loss_is_the_slow_loss(head: SSDLite, counts: list[int]) -> None:
    anchors = some_anchors(7)
    outputs, targets = batch(head, counts)
    found = multibox_loss(outputs, targets, anchors, head, class_loss=hard_mined)
    class_loss, box_loss = slow_loss(outputs, targets, anchors.numpy(), head)
    assert found["class_loss"].item() == pytest.approx(class_loss, rel=1e-4)
    assert found["box_loss"].item() == pytest.approx(box_loss, rel=1e-4)


@pytest.mark.parametrize("head", HEADS[:3], ids=lambda head: head.background)
def test_focal_loss_is_torchvisions_over_all_anchors(head: SSDLite) -> None:
    anchors = some_anchors(7)
    outputs, targets = batch(head, [3])
    wanted = torch.zeros(1, ANCHORS, head.outputs)
    matched = slow_match(anchors.numpy(), targets[0].boxes_xyxy_norm.numpy())
    for a, box in enumerate(matched):
        if box != -1:
            wanted[0, a, int(targets[0].classes[box]) + (head.background == "first")] = 1
        elif head.background != "none":
            wanted[0, a, 0 if head.background == "first" else -1] = 1
    expected = torchvision.ops.sigmoid_focal_loss(outputs["class_logits"], wanted, reduction="sum")
    found = multibox_loss(outputs, targets, anchors, head, class_loss=focal)["class_loss"]
    assert found.item() == pytest.approx(expected.item() / (len(matched) - matched.count(-1)), rel=1e-5)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.background}-{head.score}")
@pytest.mark.parametrize("class_loss", [hard_mined, focal])
def test_pictures_without_objects_have_finite_losses_and_gradients(head: SSDLite, class_loss: Any) -> None:
    if class_loss is focal and head.score == "softmax":
        return
    outputs, targets = batch(head, [0, 0])
    found = multibox_loss(outputs, targets, some_anchors(0), head, class_loss=class_loss)
    sum(found.values(), torch.zeros(())).backward()
    assert all(loss.isfinite() for loss in found.values())
    assert found["box_loss"] == 0
    assert found["class_loss"] > 0
    for values in outputs.values():
        assert values.grad is not None
        assert values.grad.isfinite().all()
    rows = (outputs["class_logits"].grad != 0).any(dim=2).sum(dim=1)
    assert rows.tolist() == ([3, 3] if class_loss is hard_mined else [ANCHORS, ANCHORS])


@pytest.mark.parametrize("count", [1, 4])
def test_three_negatives_are_mined_for_each_match_and_they_are_the_worst(count: int) -> None:
    head = SSDLite(3)
    outputs, targets = batch(head, [count])
    matched = match(some_anchors(0), targets[0].boxes_xyxy_norm) != -1
    multibox_loss(outputs, targets, some_anchors(0), head, class_loss=hard_mined)["class_loss"].backward()
    logits = outputs["class_logits"]
    assert logits.grad is not None
    used = (logits.grad[0] != 0).any(dim=1)
    assert used[matched].all()
    assert (used & ~matched).sum() == min(3 * matched.sum(), (~matched).sum())
    background = torch.zeros(ANCHORS, 4)
    background[:, 0] = 1
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], background, reduction="none").sum(dim=1)
    assert losses[used & ~matched].min() >= losses[~used & ~matched].max()


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.background}-{head.score}")
def test_a_perfect_prediction_costs_next_to_nothing(head: SSDLite) -> None:
    anchors, found, classes = some_anchors(3), some_boxes(4, 5), torch.tensor([0, 1, 2, 0])
    matched = match(anchors, found)
    logits = torch.full((1, ANCHORS, head.outputs), -20.0)
    for a, box in enumerate(matched.tolist()):
        if box != -1:
            logits[0, a, int(classes[box]) + (head.background == "first")] = 20.0
        elif head.background != "none":
            logits[0, a, 0 if head.background == "first" else -1] = 20.0
    own = boxes.cxcywh_from_xyxy(found.numpy())[matched.clamp(min=0)]
    deltas = torch.from_numpy(boxes.encode(own, anchors.numpy(), head.coder))[None]
    outputs = {"class_logits": logits, "box_deltas": deltas}
    losses = multibox_loss(outputs, [Target(found, classes)], anchors, head, class_loss=hard_mined)
    assert losses["class_loss"] < 1e-6
    assert losses["box_loss"] < 1e-6


@pytest.mark.parametrize("class_loss", [hard_mined, focal])
def test_gradients_are_those_of_small_differences(class_loss: Any) -> None:
    head = SSDLite(3)
    outputs, targets = batch(head, [2, 1])
    anchors = some_anchors(0)

    def losses(logits: Tensor, deltas: Tensor) -> Tensor:
        # float32 inside: differences of 1e-2 stand above its rounding
        found = multibox_loss(
            {"class_logits": logits, "box_deltas": deltas}, targets, anchors, head, class_loss=class_loss
        )  # fmt: skip
        return found["class_loss"] + found["box_loss"]

    values = [outputs[name] for name in ("class_logits", "box_deltas")]
    losses(*values).backward()
    generator = torch.Generator().manual_seed(0)
    for i, value in enumerate(values):
        assert value.grad is not None
        direction = torch.randn(value.shape, generator=generator)
        step = 1e-3
        ends = [[v.detach() + sign * step * direction * (i == j) for j, v in enumerate(values)] for sign in (1, -1)]
        slope = (losses(*ends[0]) - losses(*ends[1])) / (2 * step)
        assert (value.grad * direction).sum().item() == pytest.approx(slope.item(), rel=0.02, abs=0.02)


def test_boxes_without_area_or_with_nan_are_passed_over() -> None:
    head = SSDLite(3)
    outputs, targets = batch(head, [2])
    boxes_xyxy, classes = targets[0]
    bad = torch.tensor([[0.3, 0.3, 0.3, 0.6], [0.9, 0.1, 0.2, 0.5], [torch.nan, 0, 1, 1], [0, 0, torch.inf, 1]])
    mixed = Target(torch.cat([bad, boxes_xyxy]), torch.cat([torch.tensor([0, 1, 2, 0]), classes]))
    anchors = some_anchors(0)
    expected = multibox_loss(outputs, targets, anchors, head, class_loss=hard_mined)
    found = multibox_loss(outputs, [mixed], anchors, head, class_loss=hard_mined)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_box_of_a_thousandth_of_a_pixel_has_a_finite_loss() -> None:
    head = SSDLite(3)
    outputs, _ = batch(head, [1])
    target = Target(torch.tensor([[0.5, 0.5, 0.5 + 3e-6, 0.5 + 3e-6]]), torch.tensor([1]))
    losses = multibox_loss(outputs, [target], some_anchors(0), head, class_loss=hard_mined)
    assert all(loss.isfinite() for loss in losses.values())
