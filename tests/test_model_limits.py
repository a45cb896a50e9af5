"""A model file is bounded before it is believed: what is just within a limit opens, the rest is refused cheaply."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import image, limits, model_file, spec, spec_fields, summary
from mobilenetv2.errors import Error, FileError, ModelFileError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Spec

TINY = {"stages": [[1, 1, 1, 1]], "round_nearest": 1, "stem_channels": 1, "last_channels": 1}


def header(**changes: Any) -> dict[str, Any]:
    """That of a whole classifier; `changes` in its fields, and `backbone` or `head` in the spec's."""
    fields = {
        "format_version": 1,
        "task": "classification",
        "spec": {
            "backbone": {**TINY, **changes.pop("backbone", {})},
            "head": changes.pop("head", {"kind": "classifier", "outputs": 2}),
        },
        "labels": [],
        "label_ids": [],
        "preprocessing": {**image.recipe("slim", 32).to_json(), **changes.pop("preprocessing", {})},
        "batch_norm": "live",
        "provenance": {},
        "tensors_sha256": hashlib.sha256().hexdigest(),
    }
    return {**fields, **changes}


def signed(fields: dict[str, Any]) -> str:
    canonical = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    digest = hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
    return json.dumps({**fields, "sha256": digest})


def holding(text: str) -> bytes:
    """A safetensors file without tensors, with `text` as the header of ours."""
    start = json.dumps({"__metadata__": {"mobilenetv2": text}}).encode()
    return struct.pack("<Q", len(start)) + start


def random_file(network: Spec, path: Path, labels: tuple[str, ...] = ()) -> ModelInfo:
    tensors = {name: np.ones(shape, np.float32) for name, shape in spec.tensors(network).items()}
    info = ModelInfo(network, image.recipe("slim", 32), labels)
    model_file.write(path, ModelFile(info, tensors))
    return info


def refused(path: Path) -> str:
    """The one line with which `path` is refused, in little time and memory."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(Error) as caught:
            model_file.read(path)
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) <= 600 + len(str(path))
    size = path.stat().st_size if path.is_file() else 0
    assert seconds < 0.5 + size / 1e6  # traced, and on a busy machine; a kilobyte takes some 2 ms
    assert peak < 4e6 + 12 * size
    return message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": {"stages": [[6, 16, 10**9, 1]]}}, "blocks n must be a whole number from 1 to 1,000"),
        ({"backbone": {"stages": [[6, 16, 1000, 1]]}}, "has 15,012 tensors, the file 0"),
        ({"backbone": {"stages": [[6, 16, 1, 1]] * 3_000}}, "must have 1 to 1,000 entries, got 3,000"),
        ({"backbone": {"stages": [[math.nan, 16, 1, 1]]}}, "expansion t must be a number"),
        ({"backbone": {"stages": [[math.inf, 16, 1, 1]]}}, "expansion t must be a number"),
        ({"backbone": {"stages": [[1e308, 16, 1, 1]]}}, "expansion t must be a number"),
        ({"backbone": {"stages": [[1e-9, 16, 1, 1]]}}, "makes 0 channels"),
        ({"backbone": {"round_nearest": 10**400}}, "round_nearest must be a whole number"),
        ({"backbone": {"stages": [[6, 10**400, 1, 1]]}}, "channels c must be a whole number"),
        ({"backbone": {"output_stride": 8.0}}, "output_stride must be 8, 16 or 32, got 8.0"),
        ({"backbone": {"output_stride": 8.0}, "head": {"kind": "deeplab"}}, "output_stride must be"),
        ({"head": {"kind": "deeplab", "aspp": True, "rates": [10**6]}}, "rates must be a whole number from 1 to 1,024"),
        ({"head": {"kind": "ssdlite", "extras": [8] * 3_000}}, "extras must have 0 to 64 entries, got 3,000"),
        ({"head": {"kind": "ssdlite", "anchors": [[[1, 1]] * 1001] * 6}}, "must have 1 to 1,000 entries"),
        ({"provenance": ["a"]}, "provenance must be an object, got \\['a'\\]"),
        ({"provenance": None}, "provenance must be an object"),
        ({"preprocessing": {"mean": [1e300] * 3}}, "preprocessing mean must be a number at least -1,000,000"),
        ({"preprocessing": {"std": [1e-300] * 3}}, "preprocessing std must be a number at least 1e-06"),
        ({"preprocessing": {"mean": [math.nan] * 3}}, "preprocessing mean must be a number"),
        ({"preprocessing": {"resize": "short", "resize_to": 10_001}}, "resize_to must be a whole number from 1 to"),
        ({"preprocessing": {"size": [8193, 32]}}, "preprocessing size must be a whole number from 1 to 8,192"),
        ({"preprocessing": {"size": [32.0, 32]}}, "preprocessing size must be a whole number"),
        ({"preprocessing": {"central_fraction": 1e-9}}, "central_fraction must be a number"),
        ({"preprocessing": {"resize": ["fit"]}}, "unknown preprocessing resize"),
        ({"batch_norm": "x" * 5000}, "batch_norm must be live or folded, got"),
        ({"batch_norm": []}, "batch_norm must be live or folded, got"),
        ({"format_version": "\x1b]0;x\x07" * 900}, "format version"),
        ({"format_version": True}, "format version True"),
        ({"format_version": 1.0}, "format version 1.0"),
        ({"labels": ["x" * 10_001, "b"]}, "number 0 of the labels must be a text of 0 to 10,000"),
        ({"labels": ["a", 3]}, "number 1 of the labels must be a text"),
        ({"labels": {"0": "a"}}, "labels must be a list"),
        ({"labels": "ab"}, "labels must be a list"),
        ({"labels": ["a"]}, "1 labels for 2 classes"),
        ({"label_ids": ["a"] * 100_001}, "label_ids must have 0 to 100,000 entries"),
        ({"provenance": {"name": "\ud800"}}, "holds text that UTF-8 cannot write"),
        ({"spec": []}, "a network is described by"),
    ],
)
def test_a_header_that_asks_for_too_much_or_for_nonsense_is_refused(
    fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(holding(signed(header(**fields))))
    with pytest.raises(ModelFileError, match=words):
        model_file.read(path)
    refused(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000 + "]" * 100_000, "nests values more than 100 deep"),
        ('{"provenance": ' + '{"a":' * 990 + "1" + "}" * 991, "nests values more than 100 deep"),
        ('{"format_version": ' + "1" * 5000 + "}", "a number of thousands of digits"),
        ('{"a": "\\ud800"}', "UTF-8 cannot write"),
        ("{", "is not JSON"),
        ("[]", "the header was altered"),
    ],
)
def test_a_header_that_is_no_plain_json_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(holding(text))
    assert words in refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\xff" * 100, "does not begin as a safetensors file does"),
        (struct.pack("<Q", 2**63) + b"{}", "does not begin"),
        (struct.pack("<Q", 10**8) + b"{}", "does not begin"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14\n", "is a Git LFS pointer: fetch"),
        (b"PK\x03\x04" + b"\0" * 60, "is not a model file (a zip archive)"),
        (b"<!DOCTYPE html><html>404", "is not a model file (a web page)"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 9, "is not a model file (an HDF5 file)"),
    ],
)
def test_another_kind_of_file_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert words in refused(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_photo_in_the_models_place_is_recognised(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    Image.new("RGB", (9, 9)).save(path, format)
    assert f"is a {'WebP' if format == 'WEBP' else format} picture, not a model file: are the model" in refused(path)


def test_a_header_longer_than_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", limits.HEADER_BYTES + 1) + b"{")
        file.truncate(limits.HEADER_BYTES + 100)  # takes no room on the disk
    with pytest.raises(ModelFileError, match="a header of 16,777,217 bytes: the limit is 16,777,216"):
        model_file.read(path)


@pytest.mark.parametrize(
    ("fields", "head"),
    [
        ({"stages": [[6, 1, limits.BLOCKS, 1]]}, {"outputs": 2}),
        ({"stages": [[1, 1, 1, 1]] * limits.BLOCKS}, {"outputs": 2}),
        ({"stages": [[limits.EXPANSION, 1, 1, 1]]}, {"outputs": 2}),
        ({"last_channels": limits.CHANNELS}, {"outputs": 1}),
        ({}, {"outputs": limits.CLASSES}),
    ],
)
def test_a_network_just_within_a_limit_opens(fields: dict[str, Any], head: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    network = Spec(spec_fields.backbone(**{**TINY, **fields}), spec_fields.classifier(**head))
    info = random_file(network, path)
    assert model_file.read(path).info == info


def test_texts_just_within_the_limits_open(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    labels = tuple(f"{i:0{limits.STATED_TEXT}}" for i in range(1_600))  # 16 of at most 16.8 MB
    info = random_file(Spec(spec_fields.backbone(**TINY), spec_fields.classifier(outputs=1_600)), path, labels)
    assert model_file.read(path).info == info
    assert len(summary.text(summary.summarise(info))) < 2_000


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    network = Spec(spec_fields.backbone(**TINY), spec_fields.classifier(outputs=2))
    tensors = {name: np.ones(shape, np.float32) for name, shape in spec.tensors(network).items()}
    deep: Any = []
    for _ in range(2_000):
        deep = [deep]
    good = ModelInfo(network, image.recipe("slim", 32), ("a", "b"))
    for changes in (
        {"provenance": {"a": deep}},
        {"provenance": {"a": object()}},
        {"provenance": {"a": "\ud800"}},
        {"provenance": []},
        {"provenance": {"a": "x" * limits.HEADER_BYTES}},
        {"labels": ("a", "\ud800")},
        {"labels": ("a", 3)},
        {"batch_norm": "frozen"},
        {"spec": Spec(spec.Backbone(stages=((math.nan, 1, 1, 1),)))},
    ):
        info = ModelInfo(**{**{name: getattr(good, name) for name in ModelInfo.__slots__}, **changes})
        with pytest.raises(ModelFileError) as caught:
            model_file.write(path, ModelFile(info, tensors))
        assert len(str(caught.value)) < 900
        assert not path.exists()


def test_a_model_is_read_from_a_pipe(tmp_path: Path) -> None:
    path, pipe = tmp_path / "m.safetensors", tmp_path / "pipe"
    info = random_file(Spec(spec_fields.backbone(**TINY), spec_fields.classifier(outputs=2)), path)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
    writer.start()
    assert model_file.read(pipe).info == info
    writer.join()


def test_a_device_that_never_ends_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "m.safetensors"
    link.symlink_to("/dev/zero")
    monkeypatch.setattr("mobilenetv2.files.on_disk.__wrapped__.__kwdefaults__", {"limit": 1000})
    with pytest.raises(FileError, match="has more than 1,000 bytes"):
        model_file.read(link)


def test_a_summary_stays_short_and_on_its_lines(random_model: Callable[..., ModelFile]) -> None:
    info = random_model(outputs=2, labels=("a\x1b[31m", "b\nc"), width_mult=0.35).info
    nasty = {f"\x1b{i}" * 100: "\u202ex\n" * 5000 for i in range(300)}
    text = summary.text({**summary.summarise(info), "provenance": nasty})
    assert text.replace("\n", "").isprintable()
    assert len(text) < 60_000
    assert "and 260 more" in text
