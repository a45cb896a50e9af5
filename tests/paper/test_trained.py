"""Lemma 2 on a network's own expansions."""

from collections.abc import Callable

import numpy as np
import pytest

from mobilenetv2 import spec
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, network_input
from mobilenetv2.paper import figure7, trained

Random = Callable[..., ModelFile]


def test_every_expansion_is_undone_where_its_open_channels_span_the_space(random_model: Random) -> None:
    model = random_model(width_mult=0.35, size=32)
    found = trained.undone(figure7.pictures(2, 32), model, places=10)
    blocks = {block.index: block for block in spec.blocks(model.info.spec.backbone) if block.expand is not None}
    assert [one.block for one in found] == list(blocks)
    for one in found:
        expand = blocks[one.block].expand
        assert expand is not None
        assert (one.inputs, one.channels) == (expand.in_channels, expand.out_channels)
        assert 0 <= one.open <= one.invertible <= 1
        assert np.isnan(one.error) if one.open == 0 else one.error < 1e-6
    assert any(one.open > 0 for one in found)


def test_an_expansion_is_the_affine_map_that_it_computes(random_model: Random) -> None:
    model = random_model(width_mult=0.35, size=32)
    net = model.info.spec.backbone
    conv = spec.blocks(net)[5].expand
    assert conv is not None
    tensors = {name: values.astype(np.float64) for name, values in model.tensors.items()}
    matrix, shift = trained.affine(conv, tensors, net.bn_eps)
    x = np.random.default_rng(0).normal(size=(1, 3, 4, conv.in_channels))
    assert np.clip(x @ matrix.T + shift, 0, 6) == pytest.approx(figure7.run(conv, tensors, net.bn_eps, x))


def test_rows_span_a_space_when_enough_of_them_are_independent() -> None:
    assert trained.spans(np.eye(3), 3)
    assert not trained.spans(np.eye(3)[:2], 3)
    assert not trained.spans(np.array([[1.0, 0], [2, 0], [3, 0]]), 2)


def test_the_table_says_what_the_network_saw(random_model: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure7, "pictures", lambda: np.zeros((1, 32, 32, 3), np.uint8))
    monkeypatch.setattr(trained, "PLACES", 2)
    table = trained.table(random_model(width_mult=0.35, size=32))
    assert len(table.rows) == 16
    assert "generated pictures" in table.notes[0]


def test_a_segmentation_network_ends_with_its_last_block(random_segmenter: Random) -> None:
    model = random_segmenter()
    net = model.info.spec.backbone
    images = network_input(figure7.pictures(1, 33), model.info)
    names = [conv.name for conv, _, _ in figure7.layers(net, model.tensors, images)]
    assert names == [conv.name for conv in spec.convolutions(net)[:-1]]
    assert len(trained.undone(figure7.pictures(1, 33), model, places=2)) == 16


def test_ablations_are_refused(random_model: Random) -> None:
    with pytest.raises(UsageError, match="Figure 7 and Lemma 2 need ReLU6"):
        trained.undone(figure7.pictures(1, 32), random_model(width_mult=0.35, size=32, activation="relu"))
