"""The stage table and what follows from it: the paper's Table 2, the published channel counts, taps and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import spec, spec_fields
from mobilenetv2.errors import SpecError
from mobilenetv2.spec import ConvSpec, Spec, make_divisible
from mobilenetv2.spec_fields import backbone, classifier

# stem, the last block of each of the seven stages, last convolution: as TF-Slim, Keras and timm have them
PUBLISHED_CHANNELS = {
    1.4: (48, (24, 32, 48, 88, 136, 224, 448), 1792),
    1.3: (40, (24, 32, 40, 80, 128, 208, 416), 1664),
    1.0: (32, (16, 24, 32, 64, 96, 160, 320), 1280),
    0.75: (24, (16, 24, 24, 48, 72, 120, 240), 1280),
    0.5: (16, (8, 16, 16, 32, 48, 80, 160), 1280),
    0.35: (16, (8, 8, 16, 24, 32, 56, 112), 1280),
}


@pytest.mark.parametrize("width", PUBLISHED_CHANNELS)
def test_channels_are_those_of_the_published_weights(width: float) -> None:
    net = backbone(width_mult=width)
    stages = tuple(spec.blocks(net)[i].out_channels for i in (0, 2, 5, 9, 12, 15, 16))
    assert (spec.stem(net).out_channels, stages, spec.last(net).out_channels) == PUBLISHED_CHANNELS[width]


def test_the_default_network_has_52_convolutions_in_17_blocks() -> None:
    net = backbone()
    assert len(spec.convolutions(net)) == 52
    assert len(spec.blocks(net)) == 17
    assert len(spec.tensors(Spec(net))) == 262
    assert [b.index for b in spec.blocks(net) if b.stride == 2] == [1, 3, 6, 13]
    assert [b.index for b in spec.blocks(net) if b.shortcut == "bottleneck"] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


def test_width_0_35_has_no_shortcut_where_only_the_channels_agree() -> None:
    block = spec.blocks(backbone(width_mult=0.35))[1]
    assert (block.in_channels, block.out_channels, block.stride) == (8, 8, 2)
    assert block.shortcut == "none"


@given(st.floats(0.01, 5000), st.sampled_from([1, 2, 4, 8, 16]))
def test_rounding_gives_a_multiple_that_is_never_more_than_ten_percent_below(value: float, divisor: int) -> None:
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= divisor
    assert rounded >= 0.9 * value
    assert rounded <= max(value + divisor, divisor)


def test_rounding_of_12_goes_up_because_8_would_lose_a_third() -> None:
    assert make_divisible(32 * 0.35, 8) == 16  # 11.2 -> 8 would be below 90 %
    assert make_divisible(24 * 0.35, 8) == 8
    assert make_divisible(44.8, 1) == 45


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (32, {1: 2, 3: 2, 6: 2, 13: 2}, {}),
        (16, {1: 2, 3: 2, 6: 2}, {14: 2, 15: 2, 16: 2}),
        (8, {1: 2, 3: 2}, {**dict.fromkeys(range(7, 14), 2), 14: 4, 15: 4, 16: 4}),
    ],
)
def test_the_block_that_gives_up_its_stride_keeps_the_old_dilation(
    output_stride: int, strides: dict[int, int], dilations: dict[int, int]
) -> None:
    found = spec.blocks(backbone(output_stride=output_stride))
    assert [b.stride for b in found] == [strides.get(i, 1) for i in range(17)]
    assert [b.depthwise.dilation for b in found] == [dilations.get(i, 1) for i in range(17)]


def test_taps_name_the_features_that_the_papers_heads_read() -> None:
    taps = spec.taps(backbone())
    assert {name: (tap.block, tap.channels, tap.stride) for name, tap in taps.items() if not tap.expanded} == {
        "s2": (0, 16, 2),
        "s4": (2, 24, 4),
        "s8": (5, 32, 8),
        "s16": (12, 96, 16),
        "s32": (16, 320, 32),
        "out": (None, 1280, 32),
    }
    assert taps["s16.expanded"] == spec.Tap("s16.expanded", 13, True, 576, 16)


def test_a_tap_keeps_its_name_at_a_smaller_output_stride() -> None:
    taps = spec.taps(backbone(output_stride=8))
    assert (taps["s32"].block, taps["s32"].stride) == (16, 8)
    assert taps["s16.expanded"].block == 13


def test_a_custom_table_with_six_strides_keeps_them_all() -> None:
    table = [(1, 16, 1, 2), (6, 24, 1, 2), (6, 32, 1, 2), (6, 64, 1, 2), (6, 96, 1, 2)]
    net = backbone(stages=table)
    assert spec.taps(net)["out"].stride == 64


@given(
    size=st.integers(1, 600),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2, 4]),
)
def test_pads_are_tensorflows_same_and_pytorchs_symmetric(size: int, kernel: int, stride: int, dilation: int) -> None:
    conv = {
        padding: ConvSpec("c", None, 1, 1, kernel=kernel, stride=stride, dilation=dilation, padding=padding)
        for padding in ("same", "symmetric")
    }
    reach = (kernel - 1) * dilation
    out = -(-size // stride)
    total = max((out - 1) * stride + reach + 1 - size, 0)  # TensorFlow's documented formula
    assert conv["same"].pads(size) == (total // 2, total - total // 2)
    before, after = conv["symmetric"].pads(size)
    assert before == reach // 2
    assert after <= reach // 2
    # PyTorch's documented output size with that padding on both sides
    assert (size + 2 * (reach // 2) - reach - 1) // stride + 1 == conv["symmetric"].out_size(size) == out
    if stride == 1 or (size % 2 == 1 and dilation == 1 and kernel == 3):
        assert conv["same"].pads(size) == conv["symmetric"].pads(size)


def test_even_sizes_at_stride_2_pad_right_and_bottom_only_under_same() -> None:
    conv = ConvSpec("c", None, 1, 1, kernel=3, stride=2, padding="same")
    assert conv.pads(224) == (0, 1)
    assert conv.pads(225) == (1, 1)


@pytest.mark.parametrize(
    "table",
    [[], [(1, 16, 1)], [(1, 16, 1, 1), (6, 24, 2)], [5], [(0, 16, 1, 1)], [(6, 0, 1, 1)], [(6, 16, 1, 3)]],
)
def test_a_malformed_stage_table_is_a_value_error_that_shows_the_value(table: list[object]) -> None:
    with pytest.raises(ValueError, match="inverted_residual_setting") as caught:
        backbone(stages=table)
    shown = table[-1] if table else "got 0"
    assert str(shown) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output_stride": 12}, "output_stride must be 8, 16 or 32, got 12"),
        ({"padding": "valid"}, "padding must be symmetric or same, got 'valid'"),
        ({"width_mult": 0}, "width_mult must be a number above 0 and at most 16"),
        ({"width_mult": "1"}, "width_mult must be a number"),
        ({"in_channels": 0}, "in_channels must be a whole number"),
        ({"bn_eps": 2.0}, "bn_eps must be a number above 0 and below 1"),
        ({"width": 1.0}, "unknown field 'width'"),
    ],
)
def test_wrong_fields_are_named_with_their_value(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        backbone(**fields)


def test_the_ablation_between_expansions_joins_the_seven_pairs_of_equal_width() -> None:
    found = spec.blocks(backbone(shortcut="expansion"))
    assert [b.index for b in found if b.shortcut == "expansion"] == [5, 8, 9, 10, 12, 15, 16]
    assert all(b.shortcut == "none" for b in spec.blocks(backbone(shortcut="none")))
    assert all(b.project.activation == "relu6" for b in spec.blocks(backbone(bottleneck="relu6")))


@given(
    width=st.sampled_from(spec.WIDTHS),
    padding=st.sampled_from(["same", "symmetric"]),
    output_stride=st.sampled_from([8, 16, 32]),
    shortcut=st.sampled_from(["bottleneck", "expansion", "none"]),
    outputs=st.integers(2, 2000),
    background=st.sampled_from(["none", "first", "last"]),
)
def test_json_gives_the_same_spec_back(
    width: float, padding: str, output_stride: int, shortcut: str, outputs: int, background: str
) -> None:
    net = backbone(width_mult=width, padding=padding, output_stride=output_stride, shortcut=shortcut, bn_eps=1e-3)
    network = Spec(net, classifier(outputs=outputs, background=background))
    assert spec_fields.from_json(spec_fields.to_json(network)) == network


def test_json_with_a_custom_table_survives_a_real_encoder() -> None:
    import json

    network = Spec(backbone(stages=[[1, 16, 1, 1], [2.5, 24, 2, 2]], stem_channels=20, last_channels=100))
    assert spec_fields.from_json(json.loads(json.dumps(spec_fields.to_json(network)))) == network


@pytest.mark.parametrize("data", [None, [], {}, {"backbone": {}}, {"backbone": {}, "head": {"kind": "x"}}])
def test_json_that_describes_no_network_is_refused(data: object) -> None:
    with pytest.raises(SpecError):
        spec_fields.from_json(data)
