"""The pieces of the heads by themselves against the reference: pointwise, mean, resize, depthwise and pointwise."""

import numpy as np
import pytest
import single
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine import reference, schedule, walker
from mobilenetv2.engine.head_operations import Mean, Pointwise, Resize, Slice
from mobilenetv2.engine.lower import Folded
from mobilenetv2.engine.schedule import Cpu, Limits
from mobilenetv2.errors import UsageError
from mobilenetv2.spec import Activation, BlockSpec, ConvSpec

AGREE = 1e-5  # of the largest output


def runnable_levels() -> list[Cpu]:
    found: list[Cpu] = []
    for name, cpu in cpus.NAMED.items():
        try:
            found.append(cpus.runnable(name))
        except UsageError:
            assert cpu.name == name  # another architecture, or a newer CPU than this
    return found


levels = st.sampled_from(runnable_levels())
channels = st.integers(1, 70)
sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
threads = st.integers(1, 3)


def agrees(found: single.Array, expected: single.Array) -> None:
    assert np.abs(found - expected).max() <= AGREE * np.abs(expected).max()


@settings(max_examples=40, deadline=None)
@given(
    size=sizes, depth=channels, out=channels, before=st.integers(0, 9), after=st.integers(0, 9), cpu=levels,
    threads=threads, activation=st.sampled_from(["relu6", "relu", "linear"]), beyond=st.booleans(),
)  # fmt: skip
def test_a_pointwise_convolution_writes_its_slice_and_nothing_else(
    size: tuple[int, int], depth: int, out: int, before: int, after: int, cpu: Cpu, threads: int,
    activation: Activation, beyond: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(depth)
    x = rng.normal(0, 1, (1, *size, depth)).astype(np.float32)
    weight, bias = rng.normal(0, 1, (depth, out)), rng.normal(0, 1, out)
    product = schedule.product(size[0] * size[1], depth, out, cpu, beyond=beyond)
    pointwise = Pointwise(activation, size, product, Slice(before, before + out + after))
    shape = (1, *size, before + out + after)
    found = single.run(pointwise, x, {"": Folded(weight, bias)}, shape, cpu, threads=threads)
    agrees(found[..., before : before + out], reference.activate(x.astype(np.float64) @ weight + bias, activation))
    assert np.isnan(found[..., :before]).all()
    assert np.isnan(found[..., before + out :]).all()


@settings(max_examples=30, deadline=None)
@given(size=sizes, channels=st.integers(1, 400), cpu=levels, threads=threads)
def test_a_mean_is_the_references(size: tuple[int, int], channels: int, cpu: Cpu, threads: int) -> None:
    x = np.random.default_rng(channels).normal(0, 1, (1, *size, channels)).astype(np.float32)
    found = single.run(Mean(size[0] * size[1], channels), x, {}, (1, channels), cpu, threads=threads)
    agrees(found, reference.global_mean(x.astype(np.float64)))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes, out=st.tuples(st.integers(1, 70), st.integers(1, 70)), channels=channels, before=st.integers(0, 9),
    align_corners=st.booleans(), cpu=levels, threads=threads,
)  # fmt: skip
def test_a_resize_is_the_references(
    size: tuple[int, int], out: tuple[int, int], channels: int, before: int, align_corners: bool, cpu: Cpu, threads: int
) -> None:
    x = np.random.default_rng(channels).normal(0, 1, (1, *size, channels)).astype(np.float32)
    resize = Resize(size, out, channels, align_corners, Slice(before, before + channels))
    found = single.run(resize, x, {}, (1, *out, before + channels), cpu, threads=threads)
    expected = reference.resize(x.astype(np.float64), out, align_corners=align_corners)
    agrees(found[..., before:], expected)
    assert np.isnan(found[..., :before]).all()


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("size", "out"), [((33, 33), (513, 513)), ((5, 7), (1, 1)), ((1, 1), (4, 3)), ((8, 6), (3, 4))]
)
def test_the_reference_resizes_as_torch_does(
    size: tuple[int, int], out: tuple[int, int], *, align_corners: bool
) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(0, 1, (2, *size, 3))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(x.transpose(0, 3, 1, 2)), out, mode="bilinear", align_corners=align_corners
    )
    ours = reference.resize(x, out, align_corners=align_corners)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(size=sizes, channels=channels, out=channels, stride=st.sampled_from([1, 2]), cpu=levels, threads=threads)
def test_a_depthwise_and_a_pointwise_are_a_block_without_expansion(
    size: tuple[int, int], channels: int, out: int, stride: int, cpu: Cpu, threads: int
) -> None:
    """SSDLite's heads: the depthwise has an activation, the pointwise has none but a bias."""
    depthwise = ConvSpec("d", None, channels, channels, kernel=3, stride=stride, groups=channels, activation="relu6")
    project = ConvSpec("p", None, channels, out, activation="linear")
    block = BlockSpec(0, "head", None, depthwise, project, "none")
    rng = np.random.default_rng(channels)
    x = rng.normal(0, 1, (1, *size, channels)).astype(np.float32)
    narrow, wide = rng.normal(0, 0.3, depthwise.weight_shape), rng.normal(0, 0.3, project.weight_shape)
    bias, shift = rng.normal(0, 1, channels), rng.normal(0, 1, out)
    expected = reference.convolve(x.astype(np.float64), narrow, depthwise) + bias
    expected = reference.convolve(reference.activate(expected, "relu6"), wide, project) + shift
    operation = walker.block_operation(block, None, size, cpu, Limits())
    folded = {"depthwise": Folded(narrow.reshape(channels, 9).T, bias), "project": Folded(wide[:, :, 0, 0].T, shift)}
    agrees(single.run(operation, x, folded, expected.shape, cpu, threads=threads), expected)
