"""The fields of a network from outside: every value is of its kind and within its limit, or refused by name."""

import dataclasses
import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import limits, spec, spec_fields
from mobilenetv2.errors import SpecError
from mobilenetv2.spec import Backbone, Classifier, DeepLab, Spec, SSDLite

MAKERS = {
    Backbone: spec_fields.backbone,
    Classifier: spec_fields.classifier,
    SSDLite: spec_fields.ssdlite,
    DeepLab: spec_fields.deeplab,
}
FIELDS = [(kind, field.name) for kind in MAKERS for field in dataclasses.fields(kind)]
# No field of any of them may be one of these.
IMPOSSIBLE = [
    math.nan, math.inf, -math.inf, -1, -0.5, 1e308, 10**400, 10**5000, 2**63, "8", "\ud800", b"8", {}, object(),
    [[]], [None], ["a", 3], [math.nan], [[[1]]], [10**400], np.array([1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), FIELDS)
@pytest.mark.parametrize("value", IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_no_field_takes_a_value_that_cannot_be(kind: type, name: str, value: object) -> None:
    with pytest.raises(SpecError) as error:
        MAKERS[kind](**{name: value})
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Backbone, {"output_stride": 8.0}),
        (Backbone, {"output_stride": True}),
        (Backbone, {"round_nearest": 8.0}),
        (Backbone, {"in_channels": True}),
        (SSDLite, {"classes": 3.0}),
        (SSDLite, {"separable": 1}),
        (SSDLite, {"extras": (512.0,) * 4}),
        (DeepLab, {"rates": (6.0,)}),
        (Classifier, {"outputs": 10.0}),
    ],
)
def test_a_number_of_another_kind_is_no_whole_number(kind: type, fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(fields))):
        MAKERS[kind](**fields)


def test_numpys_numbers_are_numbers_and_become_pythons() -> None:
    stages = [[np.float32(6), np.int64(16), np.int8(2), np.int16(2)]]
    net = spec_fields.backbone(stages=stages, output_stride=np.int64(16), width_mult=np.float32(0.5))
    assert net == Backbone(width_mult=0.5, stages=((6.0, 16, 2, 2),), output_stride=16)
    network = Spec(net, spec_fields.deeplab(classes=np.int32(5), rates=[np.uint8(3)]))
    assert spec_fields.from_json(json.loads(json.dumps(spec_fields.to_json(network)))) == network


@pytest.mark.parametrize(
    "stages",
    [
        [(1, 16, limits.BLOCKS, 1)],
        [(1, 16, 1, 1)] * limits.BLOCKS,
        [(limits.EXPANSION, 64, 1, 2)],
        [(1, limits.CHANNELS, 1, 1)],
        [(1 / 32, 64, 2, 2)],
    ],
)
def test_a_table_just_within_the_limits_is_a_network(stages: list[Any]) -> None:
    net = spec_fields.backbone(stages=stages)
    assert all(1 <= conv.out_channels <= limits.CHANNELS for conv in spec.convolutions(net))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": [(1, 16, limits.BLOCKS + 1, 1)]}, "blocks n must be a whole number from 1 to 1,000, got 1001"),
        ({"stages": [(1, 16, 600, 1), (1, 16, 401, 1)]}, "has 1,001 blocks in all: the limit is 1,000"),
        ({"stages": [(1, 16, 1, 1)] * (limits.BLOCKS + 1)}, "must have 1 to 1,000 entries"),
        ({"stages": [(1, 16, 10**9, 1)]}, "blocks n must be"),
        ({"stages": [(math.nan, 16, 1, 1)]}, r"row \(nan, 16, 1, 1\) of inverted_residual_setting: expansion t"),
        ({"stages": [(1025, 16, 1, 1)]}, "expansion t must be a number above 0 and at most 1,024, got 1025"),
        ({"stages": [(1e-9, 16, 1, 1)]}, "expansion 1e-09 of 32 channels makes 0 channels"),
        ({"stages": [(1, 1, 1, 1), (0.1, 3, 1, 1)], "round_nearest": 1}, "expansion 0.1 of 1 channels makes 0"),
        ({"stages": [(1, 3, 1, 1), (0.1, 3, 1, 1)], "round_nearest": 1}, "makes 0 channels"),
        ({"stages": [(6, 16, 1, 1), (6, 16_000, 2, 1)]}, "expansion 6 of 16,000 channels makes 96,000 channels"),
        ({"round_nearest": limits.CHANNELS + 1}, "round_nearest must be a whole number from 1 to 65,536"),
        ({"round_nearest": limits.CHANNELS, "stages": [(1, 65_536, 1, 1)], "width_mult": 3}, "makes 196,608 channels"),
        ({"last_channels": limits.CHANNELS + 1}, "last_channels must be"),
        ({"in_channels": limits.CHANNELS + 1}, "in_channels must be"),
    ],
)
def test_a_network_beyond_a_limit_or_without_channels_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_fields.backbone(**fields)


@pytest.mark.parametrize(
    ("kind", "within", "beyond"),
    [
        (Classifier, {"outputs": limits.CLASSES}, {"outputs": limits.CLASSES + 1}),
        (
            Classifier,
            {"outputs": limits.CLASSES + 1, "background": "first"},
            {"outputs": limits.CLASSES + 2, "background": "first"},
        ),
        (Classifier, {"outputs": 2, "background": "last"}, {"outputs": 1, "background": "last"}),
        (SSDLite, {"classes": limits.CLASSES}, {"classes": limits.CLASSES + 1}),
        (SSDLite, {"most": limits.BOXES}, {"most": limits.BOXES + 1}),
        (SSDLite, {"anchors": [[(1, 1)] * limits.ANCHORS] * 6}, {"anchors": [[(1, 1)] * (limits.ANCHORS + 1)] * 6}),
        (
            SSDLite,
            {"taps": ["out"] * limits.TAPS, "extras": [8] * limits.TAPS, "anchors": [[(1, 1)]] * 2 * limits.TAPS},
            {"taps": ["out"] * (limits.TAPS + 1), "anchors": [[(1, 1)]] * (limits.TAPS + 5)},
        ),
        (
            SSDLite,
            {"anchors": [[(limits.ANCHOR_SIDE, 1 / limits.ANCHOR_SIDE)]] * 6},
            {"anchors": [[(limits.ANCHOR_SIDE * 1.1, 1)]] * 6},
        ),
        (SSDLite, {"coder": [limits.CODER] * 4}, {"coder": [limits.CODER * 2] * 4}),
        (DeepLab, {"rates": [limits.RATE] * limits.RATES}, {"rates": [limits.RATE + 1]}),
        (DeepLab, {"rates": [1] * limits.RATES}, {"rates": [1] * (limits.RATES + 1)}),
        (DeepLab, {"classes": 255, "background": "none"}, {"classes": 255, "background": "first"}),
    ],
)
def test_a_head_just_within_a_limit_is_taken_and_one_beyond_is_not(
    kind: type, within: dict[str, Any], beyond: dict[str, Any]
) -> None:
    head = MAKERS[kind](**within)
    network = Spec(Backbone(), head)
    assert spec_fields.from_json(json.loads(json.dumps(spec_fields.to_json(network)))) == network
    assert spec_fields.check(network) == network
    with pytest.raises(SpecError):
        MAKERS[kind](**beyond)
    with pytest.raises(SpecError):
        spec_fields.check(Spec(Backbone(), dataclasses.replace(head, **beyond)))


def test_a_spec_made_without_the_checks_is_checked_as_one_with_them() -> None:
    assert spec_fields.check(Spec()) == Spec()
    with pytest.raises(SpecError, match="expansion t"):
        spec_fields.check(Spec(Backbone(stages=((math.nan, 16, 1, 1),))))
    with pytest.raises(SpecError, match="a tap must be"):
        spec_fields.check(Spec(Backbone(), SSDLite(taps=("s16.expanded", "s64"))))


@given(
    stages=st.lists(st.tuples(st.sampled_from([1, 1.0, 2, 6.5]), st.integers(1, 9), st.integers(1, 4), st.just(2))),
    head=st.one_of(
        st.builds(Classifier, outputs=st.integers(1, 9)),
        st.builds(
            DeepLab, aspp=st.booleans(), rates=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
        ),
        st.builds(
            lambda extras, **fields: SSDLite(extras=extras, anchors=(((1.0, 1.0),),) * (2 + len(extras)), **fields),
            st.lists(st.integers(1, 9), max_size=3).map(tuple),
            taps=st.just(("out", "out")), separable=st.booleans(), pointwise_last=st.booleans(),
        ),
    ),
)  # fmt: skip
def test_tensors_are_counted_without_being_listed(stages: list[Any], head: Any) -> None:
    network = Spec(Backbone(stages=tuple(stages) or spec.STAGES), head)
    assert spec.count_tensors(network) == len(spec.tensors(network))


def test_a_description_of_many_more_tensors_than_there_are_is_refused_in_no_time() -> None:
    described = {"backbone": {"stages": [[6, 8, 1000, 1]]}, "head": {"kind": "ssdlite"}}
    start = time.process_time()
    with pytest.raises(SpecError, match="has 15,154 tensors, the file 3"):
        spec_fields.from_json(described, tensors=3)
    assert time.process_time() - start < 0.02
    assert spec_fields.from_json({"backbone": {}, "head": {"kind": "classifier"}}, tensors=3) == Spec()


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, {"backbone": {}}, {"backbone": [], "head": {}}, {"backbone": {}, "head": {}},
        {"backbone": {}, "head": {"kind": ["classifier"]}}, {"backbone": {}, "head": {"kind": {}}},
        {"backbone": {"\x1b[31m" * 1000: 1}, "head": {"kind": "classifier"}},
        {"backbone": {"padding": "\x1b" * 5000}, "head": {"kind": "classifier"}},
    ],
)  # fmt: skip
def test_what_describes_no_network_is_refused_in_a_short_line(data: object) -> None:
    with pytest.raises(SpecError) as error:
        spec_fields.from_json(data)
    assert len(str(error.value)) < 500
    assert str(error.value).isprintable()
