"""ncnn's pairs of files: every weight arrives as the real number it stands for, every rule of the detector too."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ncnn_files import CAFFE_ANCHORS, Files, Row, write_detector

from mobilenetv2 import boxes, image, model_file, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import import_file, load_any
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.backend import TorchBackend
from mobilenetv2.spec import Spec, ssdlite

RandomModel = Callable[..., ModelFile]
SAME: dict[str, Any] = {"padding": "same", "bn_eps": 1e-3}


def source(random_detector: RandomModel, *, size: int | tuple[int, int] = 96, **options: Any) -> ModelFile:
    """A random detector with Caffe's anchors and identity batch norm, as these files have it."""
    head = {"anchors": CAFFE_ANCHORS, "score_threshold": 0.25, "iou_threshold": 0.45, **options.pop("head", {})}
    model = random_detector(size=size, head=head, **{**SAME, **options})
    tensors = dict(model.tensors)
    for name, values in tensors.items():
        if name.endswith("running_mean"):
            tensors[name] = np.zeros_like(values)
        elif name.endswith("running_var"):
            tensors[name] = np.full_like(values, 1 - 1e-3)
        elif values.ndim == 1 and name.endswith("weight"):
            tensors[name] = np.ones_like(values)
    return ModelFile(model.info, tensors)


def imported(files: Files, folder: Path, **options: Any) -> ModelFile:
    return import_file(files.write(folder / "network"), **options)


def outputs(model: ModelFile) -> dict[str, np.ndarray]:
    height, width = model.info.preprocessing.size
    return TorchBackend(model).run(np.random.default_rng(3).integers(0, 256, (1, height, width, 3), dtype=np.uint8))


# -- what arrives


@pytest.mark.parametrize("padding", ["crop", "automatic", "explicit"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [96, (97, 128)], ids=str)
def test_the_network_is_the_one_that_was_written(
    random_detector: RandomModel, tmp_path: Path, padding: Any, fused: bool, size: Any
) -> None:
    model = source(random_detector, size=size)
    assert_same(imported(write_detector(model, padding=padding, fused=fused), tmp_path), model)


def assert_same(found: ModelFile, model: ModelFile) -> None:
    """The same network with the same tensors; sizes are written with six decimals."""
    assert found.info.spec.backbone == model.info.spec.backbone
    assert found.info.preprocessing == model.info.preprocessing
    head, expected = ssdlite.head_of(found.info.spec), ssdlite.head_of(model.info.spec)
    near = {name: getattr(expected, name) for name in ("anchors", "coder", "steps")}
    assert dataclasses.replace(head, **near) == expected
    np.testing.assert_allclose(head.coder, expected.coder, rtol=1e-5)
    size = model.info.preprocessing.size
    np.testing.assert_allclose(boxes.anchors(found.info.spec, size), boxes.anchors(model.info.spec, size), atol=1e-6)
    assert found.tensors.keys() == model.tensors.keys()
    assert all(np.array_equal(found.tensors[name], values) for name, values in model.tensors.items())


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_every_weight_is_the_number_that_the_file_stores(
    random_detector: RandomModel, tmp_path: Path, storage: Any
) -> None:
    model = source(random_detector)
    model.tensors["features.5.conv.1.0.weight"][7] = 0  # type: ignore[index]  # a dead channel
    files = write_detector(model, storage=storage)
    found = imported(files, tmp_path)
    assert (found.info.batch_norm, found.info.provenance["weights"]) == ("folded", storage)
    for conv in (*spec.convolutions(found.info.spec.backbone), *ssdlite.convolutions(found.info.spec)):
        np.testing.assert_array_equal(found.tensors[f"{conv.name}.weight"], files.known[f"{conv.name}.weight"])
        bias = found.tensors[f"{conv.norm}.bias" if conv.norm else f"{conv.name}.bias"]
        np.testing.assert_array_equal(bias, files.known[f"{conv.name}.bias"])
    assert not found.tensors["features.5.conv.1.0.weight"][7].any()


def test_quantised_weights_change_the_outputs_little(random_detector: RandomModel, tmp_path: Path) -> None:
    model = source(random_detector)
    expected = outputs(model)["class_logits"]
    found = outputs(imported(write_detector(model, storage="float16"), tmp_path))["class_logits"]
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(
    "head",
    [
        {"score": "softmax"},
        {"separable": False},
        {"linear_extras": True, "squeezes": (64, 96, 32, 16)},
        {"pointwise_last": True},
        {"steps": [0.17, 0.3, 0.5, 1.0, 1.0, 1.0]},
        {"taps": ("s16", "out"), "coder": (5, 5, 2, 2)},
    ],
    ids=str,
)
def test_other_heads(random_detector: RandomModel, tmp_path: Path, head: dict[str, Any]) -> None:
    model = source(random_detector, head=head)
    assert_same(imported(write_detector(model), tmp_path), model)


def test_symmetric_padding_is_told_from_same(random_detector: RandomModel, tmp_path: Path) -> None:
    model = source(random_detector, padding="symmetric")
    assert imported(write_detector(model, padding="explicit"), tmp_path).info.spec.backbone.padding == "symmetric"


def test_the_classes_are_called_what_networks_of_so_many_detect(random_detector: RandomModel, tmp_path: Path) -> None:
    files = write_detector(source(random_detector, head={"classes": 20}))
    info = imported(files, tmp_path).info
    assert (info.classes, info.labels, info.label_ids) == (20, class_names("voc").names, class_names("voc").ids)
    assert info.spec.head.background == "first"
    labels = tmp_path / "labelmap.prototxt"
    items = [f'item {{\n  name: "n{i}"\n  label: {i}\n  display_name: "thing {i}"\n}}\n' for i in range(20)]
    labels.write_text("".join(items))
    info = imported(files, tmp_path, labels=labels).info
    assert (info.labels[0], info.labels[18], info.labels[19]) == ("thing 1", "thing 19", "class 19")
    assert imported(files, tmp_path, background="none").info.classes == 21


# -- which files


def test_either_file_of_the_pair_may_be_given(random_detector: RandomModel, tmp_path: Path) -> None:
    param = write_detector(source(random_detector)).write(tmp_path / "network")
    model = import_file(param)
    for other in (import_file(param.with_suffix(".bin")), import_file(param, source="ncnn"), load_any(str(param))):
        assert other.info == model.info
    assert model.info.provenance["file"] == "network.bin"
    assert import_file(param, size=128).info.preprocessing.size == (128, 128)


def test_a_missing_bin_is_said(random_detector: RandomModel, tmp_path: Path) -> None:
    param = write_detector(source(random_detector)).write(tmp_path / "network")
    param.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"network\.param .* its weights network\.bin must lie beside it"):
        import_file(param)


def test_a_bin_without_a_param_is_not_ncnn_s(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    with pytest.raises(WeightsError, match="must lie beside each other"):
        import_file(tmp_path / "weights.bin", source="ncnn")


# -- what is refused, in one line


@pytest.fixture(scope="module")
def files(random_detector: RandomModel) -> Files:
    return write_detector(source(random_detector), storage="int8")


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        import_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 1000, -1])
def test_a_cut_bin_is_refused(files: Files, tmp_path: Path, keep: int) -> None:
    path = files.write(tmp_path / "network").with_suffix(".bin")
    path.write_bytes(path.read_bytes()[:keep])
    assert any(word in refused(path) for word in ("it is cut off", "is empty"))


def test_bytes_after_the_last_layer_are_refused(files: Files, tmp_path: Path) -> None:
    path = files.write(tmp_path / "network").with_suffix(".bin")
    path.write_bytes(path.read_bytes() + bytes(8))
    assert "network.bin has 8 bytes after the last layer's weights" in refused(path)


def test_an_unknown_storage_is_refused(files: Files, tmp_path: Path) -> None:
    path = files.write(tmp_path / "network").with_suffix(".bin")
    path.write_bytes(b"\x01\x02\x03\x04" + path.read_bytes()[4:])
    assert "'features.0.0' begin with 0x04030201" in refused(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7767517\n", "line 2 must be the counts"),
        ("7767517\n2 2\nInput data 0 1 data\n", "has 1 layers, but says that they are 2"),
        ("7767517\n1 1\nInput data 0\n", "line 3 is not a layer"),
        ("7767517\n1 1\nInput data 0 2 data\n", "line 3 is cut off"),
        ("7767517\n1 1\nInput data 0 1 data 0=x\n", "parameter '0=x'"),
        ("7767517\n1 1\nInput data 0 1 data -23300=2,1\n", "parameter '-23300=2,1'"),
        ("7767517\n1 1\nReLU a 1 1 b c\n", "reads 'b', which no layer before it makes"),
        ("7767517\n2 2\nInput a 0 1 a\nInput b 0 1 a\n", "makes 'a', which is there already"),
        ("7767517\n2 2\nInput a 0 1 a\nLSTM b 1 1 a b\n", "LSTM 'b' is a layer that no SSDLite"),
        ("7767517\n2 2\nInput a 0 1 a\nBatchNorm b 1 1 a b 0=3\n", "run ncnnoptimize first"),
        ("7767517\n2 2\nInput a 0 1 a\nReLU b 0 1 b\n", "reads or makes nothing"),
        ("7767517\n1 1\nInput a 0 1 a\n", "has 4 bytes after the last layer"),
    ],
)
def test_a_graph_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "network.param").write_text(text)
    (tmp_path / "network.bin").write_bytes(bytes(4))
    assert message in refused(tmp_path / "network.param")


def changed(files: Files, name: str, **fields: Any) -> Files:
    return Files([dataclasses.replace(row, **fields) if row.name == name else row for row in files.rows])


def params(files: Files, name: str, new: dict[int, str]) -> Files:
    return changed(files, name, params={**files.row(name).params, **new})


def without_sum(files: Files, name: str, instead: str) -> Files:
    rows = [row for row in files.rows if row.name != name]
    return Files([dataclasses.replace(r, inputs=[instead if x == name else x for x in r.inputs]) for r in rows])


DEVIATIONS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "no end": (
        lambda f: Files([row for row in f.rows if row.kind != "DetectionOutput"]),
        "has 0 layers DetectionOutput",
    ),
    "left over": (
        lambda f: Files([*f.rows, Row("ReLU", "late", ["detection_out"], ["late"], {})]),
        "ReLU 'late' is not part of an SSDLite",
    ),
    "branch": (
        lambda f: Files([*f.rows, Row("ReLU", "side", ["features.3.conv.0.0"], ["side"], {})]),
        "branches at 'features.3.conv.0.0'",
    ),
    "permute": (lambda f: params(f, "loc2/perm", {0: "1"}), "Permute 'loc2/perm' does not put the channels last"),
    "classes": (lambda f: params(f, "detection_out", {0: "5"}), "has 5 classes, but there are 6 scores"),
    "reshape": (lambda f: params(f, "reshape", {1: "7"}), "Reshape 'reshape' does not make a row"),
    "ratio": (lambda f: params(f, "priorbox1", {-23302: "1,2.0"}), "outputs for classes: 4 anchors"),
    "variance": (lambda f: params(f, "priorbox1", {3: "0.3"}), "have different variances"),
    "offset": (lambda f: params(f, "priorbox3", {13: "0.0"}), "'priorbox3' does not put its anchors into the middle"),
    "picture": (lambda f: params(f, "priorbox3", {9: "300"}), "is for pictures of 300 pixels, not 96"),
    "step": (lambda f: params(f, "priorbox3", {11: "50"}), "'priorbox3' has steps"),
    "clip": (lambda f: params(f, "features.8.conv.0.0", {-23310: "2,0.0,1.0"}), "clipped from 0 to 1"),
    "leaky": (lambda f: params(f, "features.8.conv.0.0", {9: "2"}), "ends in activation 2"),
    "stride": (lambda f: params(f, "features.8.conv.1.0", {3: "2"}), "has stride (2, 2), expected (1, 1)"),
    "groups": (lambda f: params(f, "features.8.conv.1.0", {7: "5"}), "do not fit each other"),
    "no scales": (lambda f: params(f, "features.8.conv.1.0", {8: "0"}), "tells of no scales"),
    "sum": (lambda f: params(f, "features.3.conv.sum", {0: "0"}), "does not add the input of a block"),
    "no shortcut": (
        lambda f: without_sum(f, "features.3.conv.sum", "features.3.conv.2"),
        "'features.3.conv.2' lacks a shortcut",
    ),
    "slice": (
        lambda f: params(f, "slice", {-23300: "2,2,-233", 1: "1"}),
        "does more than cut off the first row or column",
    ),
    "order of maps": (
        lambda f: changed(f, "mbox_priorbox", inputs=[f"priorbox{k}" for k in (1, 0, 2, 3, 4, 5)]),
        "does not begin at",
    ),
}  # fmt: skip


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_another_network_is_refused(files: Files, tmp_path: Path, deviation: str) -> None:
    change, message = DEVIATIONS[deviation]
    path = change(files).write(tmp_path / "network")
    found = refused(path)
    assert message in found
    assert found.startswith(str(tmp_path))


def test_random_damage_never_ends_in_a_traceback(files: Files, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = files.write(tmp_path / "network")
    text = path.read_bytes()
    for _ in range(150):
        data = bytearray(text)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(32, 127)
        path.write_bytes(bytes(data))
        with contextlib.suppress(WeightsError):  # a name may have been changed: harmless
            import_file(path)


# -- a real network


@pytest.fixture(scope="module")
def real(real_data: Path) -> tuple[Path, ModelFile]:
    folder = real_data / "weights" / "ssdlite_voc_ncnn_int8"
    return folder, import_file(folder / "mobilenetv2_ssdlite_voc.param")


def test_the_real_detector_gives_the_raw_heads_that_were_computed_elsewhere(real: tuple[Path, ModelFile]) -> None:
    folder, model = real
    expected = np.load(folder / "bicycle_raw_heads.npz")
    np.testing.assert_array_equal(boxes.anchors(model.info.spec, (300, 300)), expected["priors_cxcywh"])
    picture, _ = image.load(folder / "bicycle.jpg", model.info.preprocessing)
    raw = TorchBackend(model).run(picture[None])
    scores = 1 / (1 + np.exp(-raw["class_logits"][0]))
    # measured: 1.3e-6 and 1.4e-5
    assert np.abs(scores - expected["conf_after_sigmoid"]).max() < 1e-4
    assert np.abs(raw["box_deltas"][0] - expected["loc"]).max() < 1e-3


def test_the_real_detector_is_described_by_its_graph(real: tuple[Path, ModelFile]) -> None:
    info = real[1].info
    head = ssdlite.head_of(info.spec)
    net = spec_fields.backbone(**SAME)
    assert info.spec.backbone == net
    assert (head.classes, head.background, head.score, head.extras) == (20, "first", "sigmoid", (512, 256, 256, 128))
    assert (head.taps, head.squeezes, head.steps) == (("s16.expanded", "out"), None, None)
    assert (head.coder, head.iou_threshold, head.score_threshold) == ((10, 10, 5, 5), 0.45, 0.35)
    assert (info.labels, info.batch_norm) == (class_names("voc").names, "folded")
    model_file.check(real[1], name="real")
    assert Spec(net, head) == info.spec
