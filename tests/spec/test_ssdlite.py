"""The detector as data: the paper's anchors, layers and costs, its switches, and its JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import spec, spec_fields
from mobilenetv2.complexity import complexity
from mobilenetv2.errors import SpecError
from mobilenetv2.spec import Spec, SSDLite, ssdlite, ssdlite_anchors
from mobilenetv2.spec_fields import backbone


def detector(head: SSDLite | None = None, **fields: Any) -> Spec:
    return spec_fields.network(backbone(**fields), head or SSDLite())


@pytest.mark.parametrize(
    ("size", "maps", "anchors"), [(300, (19, 10, 5, 3, 2, 1), 1917), (320, (20, 10, 5, 3, 2, 1), 2034)]
)
def test_tensorflows_maps_and_anchor_counts(size: int, maps: tuple[int, ...], anchors: int) -> None:
    assert ssdlite.grids(detector(), (size, size)) == tuple((side, side) for side in maps)
    assert ssdlite.anchor_count(detector(), (size, size)) == anchors


def test_the_anchors_are_those_of_tensorflows_configuration() -> None:
    first, second, *_, last = ssdlite_anchors()
    assert [(w * h, w / h) for w, h in first] == [pytest.approx(pair) for pair in ((0.01, 1), (0.04, 2), (0.04, 1 / 2))]
    scale, following = 0.35, 0.5
    areas = [*[scale**2] * 5, scale * following]
    assert [(w * h, w / h) for w, h in second] == [
        pytest.approx(pair) for pair in zip(areas, (1, 2, 1 / 2, 3, 1 / 3, 1), strict=True)
    ]
    assert last[-1] == pytest.approx((math.sqrt(0.95),) * 2)
    assert [len(pairs) for pairs in ssdlite_anchors()] == [3, 6, 6, 6, 6, 6]
    assert [len(pairs) for pairs in ssdlite_anchors(layers=3, ratios=(1, 2), reduce_first=False)] == [3, 3, 3]


def test_the_heads_read_the_expansion_of_block_13_and_the_last_map() -> None:
    layers = ssdlite.layers(detector())
    assert [chain[0].in_channels for chain in layers.class_heads] == [576, 1280, 512, 256, 256, 128]
    assert [chain[-1].out_channels for chain in layers.class_heads] == [3 * 81, *[6 * 81] * 5]
    assert [chain[-1].out_channels for chain in layers.box_heads] == [3 * 4, *[6 * 4] * 5]
    assert [[conv.out_channels for conv in chain] for chain in layers.extras] == [
        [256, 256, 512], [128, 128, 256], [128, 128, 256], [64, 64, 128],
    ]  # fmt: skip
    assert all(chain[1].groups == chain[1].in_channels for chain in layers.extras)


@pytest.mark.parametrize(
    ("classes", "size", "millions", "billions"),
    [(80, 320, 4.34, 0.789), (90, 320, 4.50, 0.804), (90, 300, 4.50, 0.750)],
)
def test_the_papers_table_6(classes: int, size: int, millions: float, billions: float) -> None:
    costs = complexity(detector(SSDLite(classes)), size)
    assert round(costs.parameters / 1e6, 2) == millions
    assert costs.multiply_adds / 1e9 == pytest.approx(billions, abs=0.0005)


@pytest.mark.parametrize(("separable", "millions", "billions"), [(False, 14.78, 1.26), (True, 2.11, 0.178)])
def test_the_papers_table_5_of_what_stands_on_the_backbone(separable: bool, millions: float, billions: float) -> None:
    layers = complexity(detector(SSDLite(separable=separable)), 320).layers
    on_top = [layer for layer in layers if not layer.name.startswith("features.")]
    assert len(on_top) == len(ssdlite.convolutions(detector(SSDLite(separable=separable))))
    assert sum(layer.parameters for layer in on_top) / 1e6 == pytest.approx(millions, abs=0.005)
    assert sum(layer.multiply_adds for layer in on_top) / 1e9 == pytest.approx(billions, abs=0.002)


def test_maps_are_live_until_their_heads_have_read_them() -> None:
    layers = {layer.name: layer for layer in complexity(detector(), 320).layers}
    first, second = 20 * 20 * 576, 10 * 10 * 1280
    assert layers["features.14.conv.1.0"].live == first + 10 * 10 * 576  # its input is the map
    assert layers["features.14.conv.2"].live == first + 10 * 10 * (576 + 160)
    assert layers["extras.0.0.0"].live == first + second + 10 * 10 * 256
    assert layers["extras.0.1.0"].live == first + second + (10 * 10 + 5 * 5) * 256
    others = second + 5 * 5 * 512 + (3 * 3 + 2 * 2) * 256 + 128
    assert layers["class_heads.0.1"].live == first + others + 20 * 20 * (576 + 3 * 81)
    assert layers["box_heads.0.1"].live == others + 20 * 20 * (576 + 3 * 4)


@pytest.mark.parametrize("width", [0.35, 1.4])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_any_backbone_carries_a_detector(width: float, padding: str) -> None:
    network = detector(SSDLite(20), width_mult=width, padding=padding, output_stride=16)
    found = ssdlite.layers(network)
    taps = spec.taps(network.backbone)
    channels = [taps[name].channels for name in ("s16.expanded", "out")]
    assert [chain[0].in_channels for chain in found.box_heads[:2]] == channels
    assert all(conv.padding == padding for conv in ssdlite.convolutions(network))
    assert ssdlite.grids(network, (97, 161))[:3] == ((7, 11), (7, 11), (4, 6))
    assert network.task == "detection"


def test_tensor_names_are_unique_and_begin_with_their_part() -> None:
    names = list(spec.tensors(detector()))
    assert len(names) == len(set(names))
    assert {name.split(".")[0] for name in names} == {"features", "extras", "class_heads", "box_heads"}
    assert "extras.0.1.1.running_var" in names
    assert {f"box_heads.0.{part}" for part in ("0.0.weight", "0.1.bias", "1.weight", "1.bias")} <= set(names)
    plain = spec.tensors(detector(SSDLite(separable=False)))
    assert plain["extras.0.1.0.weight"] == (512, 256, 3, 3)
    assert plain["class_heads.5.0.weight"] == (6 * 81, 128, 3, 3)


@given(
    classes=st.integers(1, 500),
    background=st.sampled_from(["none", "first", "last"]),
    separable=st.booleans(),
    extras=st.lists(st.integers(1, 600), max_size=5),
    anchor=st.tuples(st.floats(1e-3, 2), st.floats(1e-3, 2)),
    coder=st.tuples(*[st.floats(0.1, 20)] * 4),
)
def test_json_gives_the_same_detector_back(
    classes: int, background: str, separable: bool, extras: list[int], anchor: tuple[float, float], coder: tuple
) -> None:
    head = spec_fields.ssdlite(
        classes=classes, background=background, separable=separable, extras=extras, taps=("s8", "s32"),
        anchors=[[anchor]] * (len(extras) + 2), coder=coder, score="sigmoid" if background == "none" else "softmax",
    )  # fmt: skip
    network = detector(head, width_mult=0.5, padding="same")
    assert spec_fields.from_json(json.loads(json.dumps(spec_fields.to_json(network)))) == network
    assert head.outputs == classes + (background != "none")


def test_a_detector_of_another_origin_says_its_own_layers_and_centres() -> None:
    head = spec_fields.ssdlite(
        squeezes=[256, 128, 128, 64], linear_extras=True, pointwise_last=True, steps=[0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
    )
    network = detector(head)
    assert spec_fields.from_json(json.loads(json.dumps(spec_fields.to_json(network)))) == network
    found = ssdlite.layers(network)
    assert [chain[0].out_channels for chain in found.extras] == [256, 128, 128, 64]
    assert {chain[-1].activation for chain in found.extras} == {"linear"}
    assert [len(chain) for chain in found.class_heads] == [len(chain) for chain in found.box_heads] == [2] * 5 + [1]
    assert (found.class_heads[-1][0].name, found.class_heads[-1][0].kernel) == ("class_heads.5.0", 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": 0}, "classes must be a whole number from 1 to 100,000, got 0"),
        ({"score": "softmax", "background": "none"}, "score must be sigmoid, got 'softmax'"),
        ({"extras": (512, 0)}, "channels in extras must be a whole number"),
        ({"extras": (512,)}, "anchors must be given for each of 2 taps and 1 extras, got 6 lists"),
        ({"anchors": [[(0.1, 0.1)]] * 5 + [[]]}, "anchors of one map must have 1 to 1,000 entries, got 0"),
        (
            {"anchors": [[(0.1, -0.1)]] * 6},
            "a side of an anchor must be a number at least 0.001 and at most 1,000, got -0.1",
        ),
        ({"anchors": [0.1] * 6}, "anchors of one map must be a list, got 0.1"),
        ({"coder": (10, 10, 5)}, "coder must have 4 entries, got 3"),
        ({"iou_threshold": 1.5}, "iou_threshold must be a number at least 0 and at most 1, got 1.5"),
        ({"taps": ()}, "taps must have 1 to 64 entries, got 0"),
        ({"squeezes": (256, 128, 128)}, r"squeezes \(one for each extra\) must have 4 entries, got 3"),
        ({"squeezes": (256, 128, 128, 0)}, "channels in squeezes must be a whole number"),
        ({"steps": (0.1,) * 5}, r"steps \(one for each map\) must have 6 entries, got 5"),
        ({"steps": (0.1,) * 5 + (-1,)}, "a distance in steps must be a number above 0"),
        ({"linear_extras": 2}, "linear_extras must be True or False, got 2"),
        ({"outputs": 91}, "unknown field 'outputs' of the detector"),
    ],
)
def test_wrong_fields_are_named_with_their_value(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec_fields.ssdlite(**fields)


def test_a_tap_that_the_backbone_has_not_is_named() -> None:
    head = SSDLite(taps=("s16.expanded", "s64"))
    with pytest.raises(SpecError, match=r"a tap must be .*s16\.expanded.* or out, got 's64'"):
        detector(head)
    data = spec_fields.to_json(Spec(head=head))
    with pytest.raises(SpecError, match="got 's64'"):
        spec_fields.from_json(data)
