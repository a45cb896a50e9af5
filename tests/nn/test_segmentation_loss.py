"""The segmentation loss against slow loops, and what training must survive: nothing that counts, weights of 0."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobilenetv2.engine import reference
from mobilenetv2.errors import UsageError
from mobilenetv2.nn.segmentation_loss import resized, segmentation_loss
from mobilenetv2.segmentation_metrics import IGNORE

OUTPUTS = 4


def batch(h: int, w: int, size: tuple[int, int], seed: int = 0, ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_BhwO = 3 * torch.randn(2, h, w, OUTPUTS, generator=generator)
    masks_BHW = torch.randint(0, OUTPUTS, (2, *size), generator=generator)
    masks_BHW[torch.rand(masks_BHW.shape, generator=generator) < ignored] = IGNORE
    return logits_BhwO.requires_grad_(), masks_BHW


def slow_loss(
    logits_BhwO: Tensor, masks_BHW: Tensor, *, align_corners: bool, weights: list[float], hardest: float
) -> float:
    """One pixel at a time, in Python's own numbers."""
    _, height, width = masks_BHW.shape
    maps = reference.resize(logits_BhwO.detach().double().numpy(), (height, width), align_corners=align_corners)
    found = []
    for logits, wanted in zip(maps.reshape(-1, OUTPUTS).tolist(), masks_BHW.flatten().tolist(), strict=True):
        if wanted == 255 or weights[wanted] == 0:
            continue
        loss = math.log(sum(math.exp(value) for value in logits)) - logits[wanted]
        found.append((weights[wanted] * loss, weights[wanted]))
    if not found:
        return 0.0
    found.sort(reverse=True)
    kept = found[: max(round(hardest * len(found)), 1)]
    return sum(loss for loss, _ in kept) / sum(weight for _, weight in kept)


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(1, 5),
    w=st.integers(1, 5),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    align_corners=st.booleans(),
    weights=st.one_of(st.none(), st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=OUTPUTS, max_size=OUTPUTS)),
    hardest=st.sampled_from([1.0, 0.5, 0.07, 0.001]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_the_loss_is_that_of_a_slow_loop(h, w, size, align_corners, weights, hardest, ignored, seed):
    logits_BhwO, masks_BHW = batch(h, w, size, seed, ignored)
    loss = segmentation_loss(
        logits_BhwO, masks_BHW, align_corners=align_corners, hardest=hardest,
        class_weights_O=None if weights is None else torch.tensor(weights),
    )["class_loss"]  # fmt: skip
    expected = slow_loss(
        logits_BhwO, masks_BHW, align_corners=align_corners, weights=weights or [1.0] * OUTPUTS, hardest=hardest
    )
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    align_corners=st.booleans(),
)
def test_resizing_is_the_references(h, w, size, align_corners):
    maps_BhwO = torch.rand(2, h, w, 3)
    found = resized(maps_BhwO, size, align_corners=align_corners)
    expected = reference.resize(maps_BhwO.numpy(), size, align_corners=align_corners)
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() < 1e-5  # torch finds its places in float32


def test_the_loss_counts_by_hand():
    logits_BhwO = torch.tensor([[[[0.0, math.log(3)]]]])  # probabilities 1/4 and 3/4 everywhere
    masks_BHW = torch.tensor([[[0, 1, 1, 255]]])
    easy, hard = math.log(4 / 3), math.log(4)

    def loss(weights: list[float] | None = None, hardest: float = 1.0) -> float:
        given = None if weights is None else torch.tensor(weights)
        found = segmentation_loss(
            logits_BhwO, masks_BHW, align_corners=True, class_weights_O=given, hardest=hardest
        )  # fmt: skip
        return found["class_loss"].item()

    assert loss() == pytest.approx((hard + 2 * easy) / 3)
    assert loss([3.0, 1.0]) == pytest.approx((3 * hard + 2 * easy) / 5)
    assert loss(hardest=0.34) == pytest.approx(hard)
    assert loss([0.0, 1.0]) == pytest.approx(easy)


@pytest.mark.parametrize("hardest", [1.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.ones(OUTPUTS), torch.zeros(OUTPUTS)])
def test_where_nothing_counts_loss_and_gradients_are_zero(hardest: float, weights: Tensor | None):
    logits_BhwO, masks_BHW = batch(3, 4, (17, 20))
    if weights is None or weights.any():
        masks_BHW[:] = IGNORE
    loss = segmentation_loss(logits_BhwO, masks_BHW, align_corners=True, class_weights_O=weights, hardest=hardest)
    loss["class_loss"].backward()
    assert loss["class_loss"].item() == 0
    assert logits_BhwO.grad is not None
    assert not logits_BhwO.grad.any()


def test_pixels_that_do_not_count_have_no_gradient():
    logits_BhwO, masks_BHW = batch(9, 9, (9, 9))
    segmentation_loss(logits_BhwO, masks_BHW, align_corners=True)["class_loss"].backward()
    assert logits_BhwO.grad is not None
    assert torch.equal(logits_BhwO.grad.abs().sum(dim=-1) > 0, masks_BHW != IGNORE)


def test_bytes_and_half_precision_give_the_same_loss():
    logits_BhwO, masks_BHW = batch(3, 4, (17, 20))
    half = logits_BhwO.detach().bfloat16()
    whole = segmentation_loss(half.float(), masks_BHW, align_corners=False)["class_loss"]
    found = segmentation_loss(half, masks_BHW.to(torch.uint8), align_corners=False)["class_loss"]
    assert found.dtype == torch.float32
    assert found == whole


def test_impossible_arguments_are_refused():
    logits_BhwO, masks_BHW = batch(3, 4, (17, 20))
    for hardest in (0.0, 1.5, math.nan):
        with pytest.raises(UsageError, match="hardest must be a share above 0 and at most 1, got"):
            segmentation_loss(logits_BhwO, masks_BHW, align_corners=True, hardest=hardest)
    with pytest.raises(UsageError, match=r"one for each of 4 outputs, got \(3,\)"):
        segmentation_loss(logits_BhwO, masks_BHW, align_corners=True, class_weights_O=torch.ones(3))
