"""The model file: what goes in comes out, and every way of damaging one is noticed and named."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2 import model_file
from mobilenetv2.errors import FileError, ModelFileError
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]


@pytest.fixture
def model(random_model: RandomModel) -> ModelFile:
    return random_model(width_mult=0.35, outputs=3, labels=("Käse", "犬", "a, b"), padding="same", bn_eps=1e-3)


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, Any]], None]) -> None:
    """Change tensors and header of a file, with a right digest of the header: what a foreign writer would do."""
    with safetensors.safe_open(path, framework="numpy") as reader:
        header = json.loads(reader.metadata()["mobilenetv2"])
        tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118  it is no mapping
    change(tensors, header)
    del header["sha256"]
    canonical = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    header["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_bytes(safetensors.numpy.save(tensors, {"mobilenetv2": json.dumps(header, indent=1)}))


def test_what_is_written_is_read_back(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.safetensors"
    model = replace(model, info=replace(model.info, batch_norm="folded", provenance={"source": "x", "notes": ["é"]}))
    model_file.write(path, model)
    found = model_file.read(path)
    assert found.info == model.info
    assert list(found.info.labels) == ["Käse", "犬", "a, b"]
    assert found.tensors.keys() == model.tensors.keys()
    assert all(np.array_equal(found.tensors[name], model.tensors[name]) for name in model.tensors)
    assert os.listdir(path.parent) == ["m.safetensors"]  # no temporary file stays


def test_a_detector_is_read_back_with_its_anchors_and_defaults(random_detector: RandomModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    head = {"anchors": [[(0.1, 0.2), (1 / 3, 0.7)]] * 6, "coder": (1.0, 2.0, 3.0, 4.0), "iou_threshold": 0.45}
    model = random_detector(head=head, labels=tuple("abcde"), size=(96, 128))
    model_file.write(path, model)
    found = model_file.read(path)
    assert found.info == model.info
    assert (found.info.task, found.info.classes) == ("detection", 5)
    assert all(np.array_equal(found.tensors[name], model.tensors[name]) for name in model.tensors)
    with safetensors.safe_open(path, framework="numpy") as reader:
        header = json.loads(reader.metadata()["mobilenetv2"])
    assert header["task"] == "detection"
    assert header["spec"]["head"]["kind"] == "ssdlite"
    assert header["spec"]["head"]["anchors"][0] == [[0.1, 0.2], [1 / 3, 0.7]]


def drop_head(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    del tensors["box_heads.2.1.bias"]


def reclassify(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    header["spec"]["head"]["classes"] = 6


def lose_anchors(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    header["spec"]["head"]["anchors"].pop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_head, r"box_heads\.2\.1\.bias is missing"),
        (reclassify, r"class_heads\.0\.1\.weight is \[18, 192, 1, 1\], expected \[21, 192, 1, 1\]"),
        (lose_anchors, r"anchors must be given for each of 2 taps and 4 extras, got 5 lists"),
    ],
)
def test_each_wrong_content_of_a_detector_is_named(
    change: Any, words: str, random_detector: RandomModel, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, random_detector())
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=words):
        model_file.read(path)


def test_any_safetensors_reader_sees_torchvisions_names(model: ModelFile, tmp_path: Path) -> None:
    model_file.write(tmp_path / "m.safetensors", model)
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert tensors["features.1.conv.0.0.weight"].shape == (16, 1, 3, 3)
    assert tensors["classifier.1.weight"].shape == (3, 1280)


def test_the_same_model_is_the_same_bytes(model: ModelFile, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model_file.write(tmp_path / name, model)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def drop(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    del tensors["features.5.conv.1.1.bias"]


def add(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["extra"] = np.zeros(1, np.float32)


def misshape(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["features.0.0.weight"] = np.zeros((16, 3, 3, 5), np.float32)


def put_nan(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["classifier.1.bias"][1] = np.nan


def retype(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["classifier.1.bias"] = tensors["classifier.1.bias"].astype(np.float16)


def negate(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["features.0.1.running_var"][0] = -1


def alter(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    tensors["features.0.0.weight"][0, 0, 0, 0] += 1


def relabel(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    header["labels"].append("one too many")


def newer(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    header["format_version"] = 99


def forget(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    del header["preprocessing"]


def warp(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    header["spec"]["backbone"]["padding"] = "circular"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, r"features\.5\.conv\.1\.1\.bias is missing"),
        (add, r"extra is not part of the network"),
        (misshape, r"features\.0\.0\.weight is \[16, 3, 3, 5\], expected \[16, 3, 3, 3\]"),
        (put_nan, r"classifier\.1\.bias has 1 values that are not finite"),
        (retype, r"classifier\.1\.bias is F16, expected F32"),
        (negate, r"running_var has a negative variance"),
        (alter, r"a tensor was altered"),
        (relabel, r"4 labels for 3 classes"),
        (newer, r"format version 99, this release reads version 1"),
        (forget, r"the header has no 'preprocessing'"),
        (warp, r"padding must be symmetric or same, got 'circular'"),
    ],
)
def test_each_wrong_content_is_named(change: Any, words: str, model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, model)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=words) as caught:
        model_file.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_byte_flipped_in_a_label_is_noticed(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, model)
    data = path.read_bytes()
    assert data.count(b"a, b") == 1
    path.write_bytes(data.replace(b"a, b", b"a, c"))
    with pytest.raises(ModelFileError, match="the header was altered"):
        model_file.read(path)


@pytest.fixture(scope="session")
def written(random_model: RandomModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, Path]:
    model = random_model(width_mult=0.35, outputs=3, round_nearest=1, last_channels=8)
    path = tmp_path_factory.mktemp("written") / "m.safetensors"
    model_file.write(path, model)
    return model, path


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed(data: st.DataObject, written: tuple[ModelFile, Path]) -> None:
    model, path = written
    content = bytearray(path.read_bytes())
    header_end = 8 + int.from_bytes(content[:8], "little")
    # as many flips in the header, which is small, as in the tensors
    where = data.draw(st.one_of(st.integers(0, header_end - 1), st.integers(header_end, len(content) - 1)))
    content[where] ^= 1 << data.draw(st.integers(0, 7))
    flipped = path.with_name("flipped")
    flipped.write_bytes(content)
    try:
        found = model_file.read(flipped)
    except ModelFileError:
        return
    # JSON has spaces that mean nothing: whatever is still read is the very same model
    assert found.info == model.info
    assert all(np.array_equal(found.tensors[name], model.tensors[name]) for name in model.tensors)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_file_is_no_model_file(keep: int, model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, model)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="is not a model file"):
        model_file.read(path)


def test_other_files_are_refused_with_the_way_out(tmp_path: Path) -> None:
    foreign = tmp_path / "other.safetensors"
    foreign.write_bytes(safetensors.numpy.save({"w": np.zeros(3, np.float32)}))
    with pytest.raises(ModelFileError, match=r"mobilenetv2 import .*other\.safetensors"):
        model_file.read(foreign)
    text = tmp_path / "weights.pth"
    text.write_text("hello")
    with pytest.raises(ModelFileError, match=r"is not a model file .*mobilenetv2 import"):
        model_file.read(text)
    with pytest.raises(FileError, match="is a folder"):
        model_file.read(tmp_path)
    with pytest.raises(FileError, match="does not exist"):
        model_file.read(tmp_path / "nothing.safetensors")


def test_a_wrong_model_is_never_written(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, model)
    before = path.read_bytes()
    tensors = {**model.tensors, "classifier.1.bias": np.full(3, np.inf, np.float32)}
    with pytest.raises(ModelFileError, match="not finite"):
        model_file.write(path, ModelFile(model.info, tensors))
    assert path.read_bytes() == before


def test_an_unwritable_place_is_one_clear_error(model: ModelFile, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(FileError, match="cannot write"):
        model_file.write(blocker / "m.safetensors", model)
    with pytest.raises(FileError, match="it is a folder"):
        model_file.write(tmp_path, model)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_leaves_the_old_file(model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    model_file.write(path, model)
    before = path.read_bytes()

    def write_to_full_device(self: Path, data: bytes) -> int:
        with open("/dev/full", "wb", buffering=0) as device:
            return device.write(data)

    monkeypatch.setattr(Path, "write_bytes", write_to_full_device)
    with pytest.raises(FileError, match="No space left"):
        model_file.write(path, model)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.safetensors"]
