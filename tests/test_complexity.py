"""Costs against the published counts: TF-Slim's grid, torchvision, timm and ExecuTorch's measured arena."""

import pytest

from mobilenetv2 import spec
from mobilenetv2.complexity import complexity
from mobilenetv2.errors import UsageError
from mobilenetv2.spec import STAGES, Spec
from mobilenetv2.spec_fields import backbone, classifier

# width: parameters with 1000 and 1001 outputs, million multiply-adds at 224, 192, 160, 128, 96 (1000 outputs)
PUBLISHED = {
    1.4: (6_108_776, 6_110_569, (582.20, 428.21, 297.92, 191.31, 108.40)),
    1.3: (5_386_792, 5_388_457, (509.37, 374.68, 260.70, 167.45, 94.92)),
    1.0: (3_504_872, 3_506_153, (300.77, 221.32, 154.08, 99.07, 56.29)),
    0.75: (2_636_424, 2_637_705, (209.07, 153.94, 107.30, 69.13, 39.45)),
    0.5: (1_968_680, 1_969_961, (97.13, 71.70, 50.18, 32.58, 18.89)),
    0.35: (1_677_128, 1_678_409, (59.29, 43.90, 30.87, 20.22, 11.93)),
}
# million multiply-adds and parameters without batch norm, in TF-Slim's README, floored there
SLIM = {1.4: (582, 6.06), 1.3: (509, 5.34), 1.0: (300, 3.47), 0.75: (209, 2.61), 0.5: (97, 1.95), 0.35: (59, 1.66)}


@pytest.mark.parametrize("width", PUBLISHED)
def test_parameters_and_multiply_adds_of_every_published_point(width: float) -> None:
    with_1000, with_1001, multiply_adds = PUBLISHED[width]
    network = Spec(backbone(width_mult=width))
    assert complexity(network, 224).parameters == with_1000
    assert complexity(Spec(network.backbone, classifier(outputs=1001)), 224).parameters == with_1001
    found = [round(complexity(network, size).multiply_adds / 1e6, 2) for size in (224, 192, 160, 128, 96)]
    assert found == list(multiply_adds)


@pytest.mark.parametrize("width", SLIM)
def test_tf_slims_own_numbers_follow(width: float) -> None:
    costs = complexity(Spec(backbone(width_mult=width), classifier(outputs=1001)), 224)
    batch_norm = sum(2 * conv.out_channels for conv in spec.convolutions(backbone(width_mult=width)))
    assert int(costs.multiply_adds / 1e6) == SLIM[width][0]
    assert (costs.parameters - batch_norm) / 1e6 == pytest.approx(SLIM[width][1], abs=0.01)


@pytest.mark.parametrize(
    ("repeats", "width", "parameters", "mega"),
    [((1, 3, 4, 5, 4, 4, 1), 1.1, 4_516_520, 430.5), ((1, 3, 5, 6, 5, 5, 1), 1.2, 5_831_144, 668.9)],
)
def test_timms_deeper_variants(repeats: tuple[int, ...], width: float, parameters: int, mega: float) -> None:
    stages = [(t, c, n, s) for (t, c, _, s), n in zip(STAGES, repeats, strict=True)]
    costs = complexity(Spec(backbone(width_mult=width, stages=stages, stem_channels=32, last_channels=1280)), 224)
    assert costs.parameters == parameters
    assert costs.multiply_adds / 1e6 == pytest.approx(mega, abs=0.05)


def test_the_layer_by_layer_peak_is_the_arena_that_executorch_measures() -> None:
    costs = complexity(Spec(), 224)
    assert costs.peak.live == 1_505_280  # int8 bytes; pytorch/executorch#17651
    assert costs.peak.name == "features.2.conv.1.0"
    assert costs.largest.elements == 112 * 112 * 96


@pytest.mark.parametrize(("width", "size", "peak"), [(1.0, 96, 276_480), (0.35, 224, 752_640), (1.4, 224, 2_257_920)])
def test_the_peak_of_other_points(width: float, size: int, peak: int) -> None:
    assert complexity(Spec(backbone(width_mult=width)), size).peak.live == peak


def test_a_shortcuts_source_is_live_until_it_is_added() -> None:
    layers = {layer.name: layer for layer in complexity(Spec(), 224).layers}
    narrow, wide = 56 * 56 * 24, 56 * 56 * 144
    assert layers["features.3.conv.0.0"].live == narrow + wide
    assert layers["features.3.conv.1.0"].live == narrow + 2 * wide
    assert layers["features.3.conv.2"].live == 2 * narrow + wide


def test_multiply_adds_equal_those_counted_by_hand_for_one_block() -> None:
    # paper, section 3.3: h w d' t (d' + k^2 + d'') at stride 1
    layers = {layer.name: layer for layer in complexity(Spec(), 224).layers}
    block = [layers[f"features.3.conv.{part}"].multiply_adds for part in ("0.0", "1.0", "2")]
    assert sum(block) == 56 * 56 * 24 * 6 * (24 + 9 + 24)


def test_non_square_and_tiny_inputs_have_costs_too() -> None:
    assert complexity(Spec(), (97, 224)).layers[0].output == (49, 112, 32)
    assert complexity(Spec(), 1).layers[-1].output == (1, 1, 1000)
    with pytest.raises(UsageError, match="must be positive, got 0 x 0"):
        complexity(Spec(), 0)
