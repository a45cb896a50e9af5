"""The appendix: what ReLU(Bx) keeps, and how much of space it collapses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.paper import figure1, lemmas

sizes = st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000))


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_with_n_positive_channels_the_input_is_found_again(drawn: tuple[int, int, int]) -> None:
    n, m, seed = drawn
    rng = np.random.default_rng(seed)
    matrix, points = rng.normal(size=(m, n)), rng.normal(size=(20, n))
    outputs = np.maximum(points @ matrix.T, 0)
    kept = lemmas.invertible(matrix, points)
    assert np.array_equal(kept, (outputs > 0).sum(1) >= n)  # for a matrix drawn at random
    condition = max((np.linalg.cond(matrix[row > 0]) for row in outputs[kept]), default=1)
    if condition < 1e6:
        np.testing.assert_allclose(lemmas.undo(matrix, outputs)[kept], points[kept], atol=1e-8)


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_with_fewer_another_input_has_the_same_output(drawn: tuple[int, int, int]) -> None:
    n, m, seed = drawn
    rng = np.random.default_rng(seed)
    matrix, points = rng.normal(size=(m, n)), rng.normal(size=(20, n))
    for point in points[~lemmas.invertible(matrix, points)]:
        positive = matrix @ point > 0
        # a direction that no positive channel sees; a small step along it changes no sign
        direction = np.linalg.svd(matrix[positive].reshape(-1, n))[2][-1]
        slopes = np.abs(matrix[~positive] @ direction)
        room = np.abs(matrix[~positive] @ point)
        other = point + direction * 0.5 * min([1.0, *(room / np.maximum(slopes, 1e-12))])
        assert not np.array_equal(other, point)
        np.testing.assert_allclose(
            np.maximum(matrix @ other, 0), np.maximum(matrix @ point, 0), atol=1e-12 * (1 + np.abs(matrix).max())
        )


def test_repeated_rows_count_once() -> None:
    matrix, points = np.ones((6, 2)), np.array([[1.0, 2.0]])
    assert not lemmas.invertible(matrix, points).any()  # six positive channels, one direction


@given(st.integers(1, 6), st.integers(1, 10))
def test_the_share_is_the_chance_of_too_few_heads(n: int, m: int) -> None:
    patterns = np.array(np.meshgrid(*[[0, 1]] * m)).reshape(m, -1).sum(0)
    assert lemmas.collapsed_share(n, m) == pytest.approx((patterns < n).mean())


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 5), (4, 8), (8, 24)])
def test_the_counted_share_is_theorem_1s(n: int, m: int) -> None:
    assert lemmas.measured_share(n, m, trials=500, points=10) == pytest.approx(lemmas.collapsed_share(n, m), abs=0.05)


def test_an_expansion_of_six_loses_next_to_nothing_and_one_nearly_all() -> None:
    shares = {t: share for t, _, share in lemmas.rows(n=16)}
    assert shares[6] < 1e-9
    assert shares[1] > 0.999
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_the_spiral_collapses_as_the_theorem_says_and_bends_less_in_more_dimensions() -> None:
    losses = figure1.figure1(trials=50)
    for loss in losses:
        assert loss.collapsed == pytest.approx(loss.expected, abs=0.08)
        assert loss.undone < 1e-8
    bends = [loss.bend for loss in losses]
    assert bends == sorted(bends, reverse=True)
    assert bends[-1] > 0.1  # 30 dimensions keep every point, and bend the plane all the same


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_inside_the_positive_orthant_relu_is_the_identity(seed: int) -> None:
    found = figure1.orthant(seed=seed, side=21)
    if found.inside:
        assert found.linear_error == 0
    assert found.beyond_error > 0


def test_bend_is_no_affine_map() -> None:
    points = figure1.spiral()
    assert figure1.bend(points, points @ np.array([[2.0, 1.0], [0.5, -1.0]]) + 3) == pytest.approx(0, abs=1e-12)
    assert figure1.bend(points, np.zeros_like(points)) == pytest.approx(1)
