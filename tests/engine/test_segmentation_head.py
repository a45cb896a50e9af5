"""The steps of DeepLabv3's head by themselves against the reference: atrous branches, and the 1x1 convolutions."""

import numpy as np
import pytest
import single
from hypothesis import given, settings
from hypothesis import strategies as st
from test_head import agrees, channels, levels, sizes, threads

from mobilenetv2.engine import reference, schedule, tiling
from mobilenetv2.engine.head_operations import Branch, PixelHead
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.spec import ConvSpec


@settings(max_examples=40, deadline=None)
@given(
    size=sizes, depth=channels, wide=channels, out=channels, dilation=st.sampled_from([1, 2, 6, 12, 18]),
    joins=st.booleans(), most=st.integers(1, 9), cpu=levels, threads=threads,
)  # fmt: skip
@pytest.mark.slow
def test_an_atrous_branch_is_added_to_the_projection(
    size: tuple[int, int],
    depth: int,
    wide: int,
    out: int,
    dilation: int,
    joins: bool,
    most: int,
    cpu: Cpu,
    threads: int,
) -> None:
    rng = np.random.default_rng(depth)
    conv = ConvSpec("b", None, depth, wide, kernel=3, dilation=dilation, activation="relu")
    x = rng.normal(0, 1, (1, *size, depth)).astype(np.float32)
    before = rng.normal(0, 9, (1, *(size if joins else (1, 1)), out)).astype(np.float32)
    weight, bias = rng.normal(0, 1, conv.weight_shape), rng.normal(0, 1, wide)
    project = rng.normal(0, 1, (wide, out))
    tiles = tiling.tiling(conv, *size, cpu, threads=threads, most_rows=most)
    bands = tiling.bands(tiles.rows, most, threads=threads)
    largest = max(sum(piece.size for piece in tiles.rows[first:last]) for first, last in bands)
    product = schedule.product(largest * size[1], wide, out, cpu)
    operation = Branch(conv, *size, tiles, bands, product, joins)
    folded = Folded(weight.transpose(2, 3, 1, 0).reshape(-1, wide), bias)
    expected = reference.activate(reference.convolve(x.astype(np.float64), weight, conv) + bias, "relu")
    expected = expected @ project + before
    convs = {"conv": folded, "project": Folded(project, np.zeros(out))}
    shared, joined = (None, before) if joins else (before, None)
    found = single.run(operation, x, convs, expected.shape, cpu, threads=threads, shared=shared, joins=joined)
    agrees(found, expected)


@settings(max_examples=40, deadline=None)
@given(
    size=sizes, depth=channels, wide=channels, out=channels, classes=st.integers(1, 40), joins=st.booleans(),
    most=st.integers(1, 70), cpu=levels, threads=threads,
)  # fmt: skip
def test_the_head_is_three_convolutions_and_what_the_branches_gave(
    size: tuple[int, int], depth: int, wide: int, out: int, classes: int, joins: bool, most: int, cpu: Cpu, threads: int
) -> None:
    rng = np.random.default_rng(depth)
    x = rng.normal(0, 1, (1, *size, depth)).astype(np.float32)
    before = rng.normal(0, 9, (1, *(size if joins else (1, 1)), out)).astype(np.float32)
    branch, project, logits = (rng.normal(0, 1, shape) for shape in ((depth, wide), (wide, out), (out, classes)))
    bias, last = rng.normal(0, 1, wide), rng.normal(0, 1, classes)
    pixels = size[0] * size[1]
    stripes = tiling.stripes(pixels, most, threads=threads)
    rows = -(-pixels // stripes)
    products = (
        schedule.product(rows, depth, wide, cpu, beyond=True),
        schedule.product(rows, wide, out, cpu),
        schedule.product(rows, out, classes, cpu, beyond=True),
    )
    operation = PixelHead(("relu", "relu6", "linear"), size, products, stripes, joins)
    expected = reference.activate(x.astype(np.float64) @ branch + bias, "relu") @ project + before
    expected = reference.activate(expected, "relu6") @ logits + last
    folded = {
        "branch": Folded(branch, bias), "project": Folded(project, np.zeros(out)), "logits": Folded(logits, last)
    }  # fmt: skip
    found = single.run(operation, x, folded, expected.shape, cpu, threads=threads, shared=before)
    agrees(found, expected)


@given(st.integers(1, 300), st.integers(0, 400), st.integers(1, 5))
def test_stripes_hold_no_more_than_they_may_and_threads_have_equally_many(total: int, most: int, threads: int) -> None:
    count = tiling.stripes(total, most, threads=threads)
    assert -(-total // count) <= max(most, 1)
    assert count % threads == 0 or count == total


@given(st.integers(1, 70), st.integers(1, 30), st.integers(1, 14), st.integers(1, 70), st.integers(1, 4))
def test_bands_are_all_the_pieces(height: int, dilation: int, tall: int, most: int, threads: int) -> None:
    pieces = tiling.pieces(ConvSpec("c", None, 1, 1, kernel=3, dilation=dilation), height, min(tall, most))
    bands = tiling.bands(pieces, most, threads=threads)
    assert [i for first, last in bands for i in range(first, last)] == list(range(len(pieces)))
    assert len(bands) <= tiling.stripes(height, most, threads=threads)
