"""k x k convolutions by themselves against the reference: every stride, dilation, padding, size and kind of CPU."""

import numpy as np
import pytest
import single
from hypothesis import given, settings
from hypothesis import strategies as st
from test_head import agrees, channels, levels, sizes, threads

from mobilenetv2.engine import reference, tiling
from mobilenetv2.engine.head_operations import Convolution
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.spec import Activation, ConvSpec, Padding


def assert_agrees(conv: ConvSpec, size: tuple[int, int], cpu: Cpu, threads: int) -> None:
    """Runs `conv` on a random map and asserts that it agrees with the reference in float64."""
    rng = np.random.default_rng(conv.in_channels)
    x = rng.normal(0, 1, (1, *size, conv.in_channels)).astype(np.float32)
    weight, bias = rng.normal(0, 1, conv.weight_shape), rng.normal(0, 1, conv.out_channels)
    operation = Convolution(conv, *size, tiling.tiling(conv, *size, cpu, threads=threads))
    folded = Folded(weight.transpose(2, 3, 1, 0).reshape(-1, conv.out_channels), bias)
    expected = reference.activate(reference.convolve(x.astype(np.float64), weight, conv) + bias, conv.activation)
    found = single.run(operation, x, {"": folded}, expected.shape, cpu, threads=threads)
    agrees(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    size=sizes, depth=channels, out=channels, stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2, 3, 6, 30]),
    padding=st.sampled_from(["symmetric", "same"]), activation=st.sampled_from(["relu6", "relu", "linear"]),
    kernel=st.sampled_from([1, 3, 5]), cpu=levels, threads=threads,
)  # fmt: skip
def test_a_convolution_is_the_references(
    size: tuple[int, int], depth: int, out: int, stride: int, dilation: int, padding: Padding, activation: Activation,
    kernel: int, cpu: Cpu, threads: int,
) -> None:  # fmt: skip
    conv = ConvSpec(
        "c", None, depth, out, kernel=kernel, stride=stride, dilation=dilation, padding=padding, activation=activation
    )
    assert_agrees(conv, size, cpu, threads)


@given(
    size=st.integers(1, 70), stride=st.sampled_from([1, 2]), dilation=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5]), padding=st.sampled_from(["symmetric", "same"]), most=st.integers(1, 14),
)  # fmt: skip
def test_all_rows_of_a_piece_see_the_same_rows_of_the_kernel(
    size: int, stride: int, dilation: int, kernel: int, padding: Padding, most: int
) -> None:
    conv = ConvSpec("c", None, 1, 1, kernel=kernel, stride=stride, dilation=dilation, padding=padding)
    found = tiling.pieces(conv, size, most)
    assert [piece.start for piece in found] == [sum(p.size for p in found[:i]) for i in range(len(found))]
    assert sum(piece.size for piece in found) == conv.out_size(size)
    assert max(piece.size for piece in found) <= most
    for piece in found:
        seen = {tiling.kernel_range(conv, piece.start + i, size) for i in range(piece.size)}
        assert len(seen) == 1
    assert sum(run.count for run in tiling.runs(found)) == len(found)


def test_what_lies_outside_the_map_is_left_out() -> None:
    """Dilated by 18, a kernel of 3 x 3 looks at 33 x 33 pixels from outside in six tenths of its places."""
    conv = ConvSpec("c", None, 1, 1, kernel=3, dilation=18)
    seen = [last - first for first, last in (tiling.kernel_range(conv, y, 33) for y in range(33))]
    assert sum(seen) ** 2 / (3 * 33) ** 2 == pytest.approx(0.405, abs=1e-3)
