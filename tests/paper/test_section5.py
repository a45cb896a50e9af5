"""Section 5: a block in parts is the block, and what that does to memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2 import spec
from mobilenetv2.complexity import complexity
from mobilenetv2.engine import cpu, reference
from mobilenetv2.engine.schedule import balanced
from mobilenetv2.errors import UsageError
from mobilenetv2.paper import section5
from mobilenetv2.paper.section5 import PAPER, Runner
from mobilenetv2.spec import Backbone, BlockSpec

FLOAT32 = 1e-5  # sums of a few hundred float32 products in another order, relative to the largest


def whole(block: BlockSpec, x: np.ndarray, weights: section5.BlockWeights) -> np.ndarray:
    """The block by the reference, without its shortcut, in float64."""
    found = x[None].astype(np.float64)
    for conv, folded in zip(block.convolutions, (weights.expand, weights.depthwise, weights.project), strict=True):
        shape = (conv.kernel, conv.kernel, conv.in_channels // conv.groups, conv.out_channels)
        found = reference.convolve(found, folded.weight.reshape(shape).transpose(3, 2, 0, 1), conv)
        found = reference.activate(found + folded.bias, conv.activation)
    return found[0]


@given(t=st.integers(0, 12), number=st.sampled_from([1, 3, 14]), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_the_parts_add_up_to_the_block(t: int, number: int, height: int, width: int) -> None:
    block = spec.blocks(Backbone(width_mult=0.35))[number]
    x = np.random.default_rng(0).normal(size=(height, width, block.in_channels)).astype(np.float32)
    weights = section5.random_weights(block)
    wanted = whole(block, x, weights)
    runner = Runner(block, x, weights, cpu.chosen(), t)
    for _ in range(2):  # the second call finds the first one's sum
        assert np.abs(runner.run() - wanted).max() <= FLOAT32 * np.abs(wanted).max()


def test_more_parts_than_channels_are_refused() -> None:
    block = spec.blocks(Backbone(width_mult=0.35))[1]
    x = np.zeros((2, 2, block.in_channels), np.float32)
    with pytest.raises(UsageError, match="t must be 1 to the block's 48 expanded channels, got 49"):
        Runner(block, x, section5.random_weights(block), cpu.chosen(), 49)


def test_parts_are_whole_vectors_of_16_in_most_blocks_for_few_t_only() -> None:
    """What docs/paper.md sets beside the times."""
    wide = [block.depthwise.out_channels for block in spec.blocks(PAPER.backbone) if block.expand is not None]
    broken = {t: sum(any(part % 16 for part in balanced(n, t)) for n in wide) for t in section5.PARTS}
    assert broken == {1: 0, 2: 2, 3: 0, 4: 3, 5: 13, 6: 2, 8: 12, 16: 16}


def test_memory_falls_with_t_from_layer_by_layer_to_what_input_and_output_need() -> None:
    found = {split.t: split.formula_bytes or 0 for split in section5.memory()}
    assert found[1] == 4 * complexity(PAPER, 224).peak.live == 4 * 1_505_280
    assert (found[2], found[3], found[4], found[None]) == (4 * 1_028_608, 4 * 777_728, 4 * 702_464, 4 * 614_656)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_our_kernels_need_less_with_more_parts_and_least_by_their_own_schedule() -> None:
    network = spec.Spec(Backbone(width_mult=0.35, stages=((1, 16, 1, 1), (6, 24, 2, 2))), spec.Classifier(outputs=10))
    found = section5.measure(network, 64, parts=(1, 2, 8), rounds=1)
    own_bytes = {split.t: split.own_bytes or 0 for split in found}
    assert 0 < own_bytes[8] < own_bytes[2]
    assert 0 < own_bytes[0] < own_bytes[2]
    assert all(split.seconds for split in found if split.t is not None)
    assert section5.draw(found).startswith(b"\x89PNG")
    assert len(section5.rows(found)) == len(found)
