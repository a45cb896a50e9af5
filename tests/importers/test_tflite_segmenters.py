"""Mobile DeepLabv3 networks come out of TFLite files as they went in; others are refused, naming what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenetv2 import spec
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import import_file
from mobilenetv2.importers.parts import BN_EPS
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import deeplab

RandomModel = Callable[..., ModelFile]
Write = Callable[..., Any]
OURS = {"padding": "same", "bn_eps": BN_EPS}


def imported(author: Any, tmp_path: Path) -> ModelFile:
    path = tmp_path / "network.tflite"
    path.write_bytes(author.to_bytes())
    return import_file(path)


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({}, {}),
        ({"output_stride": 8, "width_mult": 0.5}, {"pool": "MEAN"}),
        ({"output_stride": 32}, {"ends": ()}),
        ({"head": {"aspp": True, "rates": (1, 2)}}, {"pooled_last": True}),
        ({"head": {"align_corners": False}}, {}),
        ({"head": {"aspp": True, "rates": (1, 3)}, "output_stride": 8}, {"ends": ("ARG_MAX",)}),
    ],
)
def test_the_network_gives_what_it_gave_at_home(
    fields: dict[str, Any], written: dict[str, Any], random_segmenter: RandomModel, author_of_segmenters: Write,
    tmp_path: Path,
) -> None:  # fmt: skip
    model = random_segmenter(**OURS, **fields)
    found = imported(author_of_segmenters(model, **written), tmp_path)
    assert found.info.spec.backbone == model.info.spec.backbone
    theirs, ours = (deeplab.head_of(one.info.spec) for one in (found, model))
    assert (theirs.outputs, theirs.aspp, theirs.align_corners) == (5, ours.aspp, ours.align_corners)
    assert theirs.background == "none"  # five outputs are not Pascal VOC's
    pixels = np.random.default_rng(1).normal(0, 1, (1, 65, 65, 3)).astype(np.float32)
    found_map, expected = (ReferenceBackend(m, dtype=np.float64).run(pixels)["logits_map"] for m in (found, model))
    np.testing.assert_allclose(found_map, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("storage", ["uint8", "int8", "float16"])
def test_stored_weights_are_the_real_numbers_they_stand_for(
    storage: str, random_segmenter: RandomModel, author_of_segmenters: Write, tmp_path: Path
) -> None:
    a = author_of_segmenters(random_segmenter(**OURS, head={"classes": 20}), storage=storage)
    found = imported(a, tmp_path)
    assert (found.info.classes, found.info.label(14)) == (20, "person")
    convs = spec.all_convolutions(found.info.spec)
    norms = {f"{conv.name}.bias": f"{conv.norm or conv.name}.bias" for conv in convs}
    for name, values in a.known.items():
        np.testing.assert_allclose(found.tensors[norms.get(name) or name], values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: setattr(next(o for o in a.operators if o.kind == "ARG_MAX"), "kind", "TANH"), "operators TANH"),
        (lambda a: a.operators[-3].options.update(StrideH=2, StrideW=2), "stride"),
        (lambda a: next(o for o in a.operators if o.kind == "CONCATENATION").inputs.pop(0), "branches on the mean"),
    ],
)
def test_another_network_is_refused_naming_what_does_not_fit(
    change: Callable[[Any], Any], words: str, random_segmenter: RandomModel, author_of_segmenters: Write, tmp_path: Path
) -> None:
    a = author_of_segmenters(random_segmenter(**OURS))
    change(a)
    with pytest.raises(WeightsError, match=words) as caught:
        imported(a, tmp_path)
    assert "\n" not in str(caught.value)


def test_googles_network_is_the_papers(real_data: Path) -> None:
    found = import_file(real_data / "weights" / "google-coral" / "deeplabv3_mnv2_pascal_quant.tflite")
    network, head = found.info.spec, deeplab.head_of(found.info.spec)
    assert (network.backbone.width_mult, network.backbone.output_stride, network.backbone.padding) == (1.0, 16, "same")
    assert (head.classes, head.background, head.aspp) == (20, "first", False)
    assert head.align_corners
    assert found.info.preprocessing.size == (513, 513)
    assert found.info.batch_norm == "folded"
