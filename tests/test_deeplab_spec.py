"""Mobile DeepLabv3 as data: its costs, its names, and which networks there are."""

import numpy as np
import pytest

from mobilenetv2 import complexity, model_file, spec
from mobilenetv2.errors import SpecError
from mobilenetv2.spec import deeplab
from mobilenetv2.spec_fields import backbone, from_json, network, to_json
from mobilenetv2.spec_fields import deeplab as checked


@pytest.mark.parametrize(
    ("width_mult", "output_stride", "aspp", "parameters", "multiply_adds"),
    [
        (1.0, 16, False, 2_113_557, 2_740_709_056),  # Table 7: 2.11 M, 2.75 B
        (1.0, 8, False, 2_113_557, 8_825_853_632),  # 152.6 B at six scales, mirrored too
        (1.0, 16, True, 4_523_541, 5_363_508_928),  # 4.52 M; the paper's 5.8 B is not reached by counting
        (0.5, 16, False, 700_245, 910_369_488),  # TensorFlow's dm0.5: 0.88 B
    ],
)
def test_the_published_networks_cost_what_was_published(width_mult, output_stride, aspp, parameters, multiply_adds):
    net = network(backbone(width_mult=width_mult, output_stride=output_stride), checked(aspp=aspp))
    costs = complexity.complexity(net, 513)
    assert (costs.parameters, costs.multiply_adds) == (parameters, multiply_adds)
    assert costs.layers[-1].output == (512 // output_stride + 1, 512 // output_stride + 1, 21)


def test_six_scales_and_their_mirror_images_cost_17_times_as_much():
    factor = 2 * sum((0.5 + 0.25 * i) ** 2 for i in range(6))
    assert factor == 17.375
    net = network(backbone(output_stride=8), checked())
    assert complexity.complexity(net, 513).multiply_adds * factor == pytest.approx(152.6e9, rel=0.006)


@pytest.mark.parametrize(("output_stride", "dilations"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_atrous_rates_follow_the_output_stride(output_stride, dilations):
    layers = deeplab.layers(network(backbone(output_stride=output_stride), checked(aspp=True)))
    assert tuple(conv.dilation for conv in layers.branches[1:]) == dilations
    assert layers.project.in_channels == 5 * 256


def test_the_last_convolution_of_the_classifier_is_not_there():
    net = network(backbone(), checked())
    names = [conv.name for conv in spec.all_convolutions(net)]
    assert spec.last(net.backbone).name not in names
    assert names[-4:] == ["pooling.0", "branches.0.0", "project.0", "logits"]
    assert spec.norm_eps(net, deeplab.layers(net).project) == 1e-5


def test_a_segmentation_model_survives_its_file(random_segmenter, tmp_path):
    model = random_segmenter(head={"aspp": True, "rates": (2, 3)}, labels=("a", "b", "c", "d"), bn_eps=1e-3)
    model_file.write(tmp_path / "m.safetensors", model)
    found = model_file.read(tmp_path / "m.safetensors")
    assert found.info == model.info
    assert all(np.array_equal(found.tensors[name], value) for name, value in model.tensors.items())
    assert from_json(to_json(model.info.spec)) == model.info.spec


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": 0}, "classes must be a whole number from 1 to 255, got 0"),
        ({"classes": 255}, "at most 255 with the background, got 256"),
        ({"rates": ()}, "rates must have 1 to 64 entries, got 0"),
        ({"rates": "6"}, "rates must be a list"),
        ({"aspp": 2}, "aspp must be True or False, got 2"),
        ({"bn_eps": 0}, "bn_eps must be a number above 0 and below 1, got 0"),
        ({"heads": 2}, "unknown field 'heads' of the segmentation head"),
    ],
)
def test_impossible_heads_are_refused_by_name(fields, words):
    with pytest.raises(SpecError, match=words):
        checked(**fields)
