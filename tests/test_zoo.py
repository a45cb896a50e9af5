"""The table of published checkpoints is consistent, and names and files are where it says."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mobilenetv2 import zoo
from mobilenetv2.errors import UsageError

each_entry = pytest.mark.parametrize("entry", zoo.entries(), ids=lambda entry: entry.name)


def test_every_source_has_the_files_it_publishes():
    assert Counter(entry.source for entry in zoo.entries()) == {
        "torchvision": 2,
        "timm": 5,
        "huggingface": 4,
        "keras": 22,
        "d_li14": 11,
        "tonylins": 1,
        "mmpretrain": 1,
        "tflite": 2,
    }


def test_no_two_entries_share_a_name_or_a_file():
    names = [entry.name for entry in zoo.entries()]
    urls = [entry.url for entry in zoo.entries()]
    assert len(set(names)) == len(names)
    assert len(set(urls)) == len(urls)


@each_entry
def test_every_entry_is_complete_and_plausible(entry):
    assert entry.name.startswith(f"{entry.source}/{entry.width_mult:g}".rstrip("0"))
    assert f"-{entry.resolution}" in entry.name
    assert entry.licence in {"Apache-2.0", "BSD-3-Clause", "other"}
    assert 0.1 <= entry.width_mult <= 1.4
    assert entry.resolution in {96, 128, 160, 192, 224}
    assert entry.top1 is None or 0.3 < entry.top1 < 0.8
    assert entry.top5 is None or (entry.top1 or 0) < entry.top5 < 0.95
    assert entry.megabytes is None or 3 < entry.megabytes < 30
    assert re.fullmatch(r"|[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)


@each_entry
def test_every_file_is_fetched_over_https_and_has_a_format_that_an_importer_reads(entry):
    assert urlsplit(entry.url).scheme == "https"
    assert entry.file_name.endswith((".pth", ".pth.tar", ".bin", ".safetensors", ".h5", ".tflite"))


@each_entry
def test_the_hash_in_a_file_name_is_the_hash_that_is_checked(entry):
    if entry.file_name.endswith(".pth"):
        assert entry.file_name.endswith(f"-{entry.sha256}.pth")
        assert len(entry.sha256) == 8


def test_every_source_but_keras_and_tonylins_publishes_hashes():
    assert {entry.source for entry in zoo.entries() if not entry.sha256} == {"keras", "tonylins"}


def test_published_scores_are_fractions_of_what_the_publisher_prints():
    assert (zoo.find("torchvision/1.0-224-v1").top1, zoo.find("torchvision/1.0-224-v1").top5) == (0.71878, 0.90286)
    assert zoo.find("keras/0.35-96").top1 == 0.455
    assert zoo.find("keras/1.4-224").top5 == 0.925


def test_keras_files_are_the_ones_its_own_code_asks_for():
    entry = zoo.find("keras/0.5-160")
    assert entry.url == (
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_160.h5"
    )


@pytest.mark.parametrize(
    ("package", "file"), [("torchvision", "models/mobilenetv2.py"), ("timm", "models/efficientnet.py")]
)
def test_the_addresses_are_those_in_the_publishers_own_code(package, file):
    spec = importlib.util.find_spec(package)  # not imported: that would take seconds
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    code = (Path(spec.origin).parent / file).read_text()
    for entry in zoo.entries():
        if entry.source == package:
            assert entry.url in code


def test_a_name_finds_its_entry():
    for entry in zoo.entries():
        assert zoo.find(entry.name) is entry


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown model 'keras/0.35_96': did you mean 'keras/0.35-96'"):
        zoo.find("keras/0.35_96")


def test_files_are_kept_in_the_folder_that_the_environment_names(monkeypatch):
    entry = zoo.find("tonylins/1.0-224")
    file = "tonylins/1.0-224/mobilenetv2_1.0-f2a8633.pth.tar"
    monkeypatch.delenv("MOBILENETV2_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("USERPROFILE", "/home/ann")
    assert zoo.path_of(entry) == Path("/home/ann/.cache/mobilenetv2/zoo") / file
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert zoo.path_of(entry) == Path("/cache/mobilenetv2/zoo") / file
    monkeypatch.setenv("MOBILENETV2_HOME", "/models")
    assert zoo.path_of(entry) == Path("/models/zoo") / file
    assert zoo.path_of(entry, cache="/elsewhere") == Path("/elsewhere") / file


def test_no_two_entries_lie_at_the_same_place():
    places = {zoo.path_of(entry, cache="cache") for entry in zoo.entries()}
    assert len(places) == len(zoo.entries())


def test_a_published_file_put_there_by_hand_is_taken(real_data, tmp_path):
    entry = zoo.find("tflite/1.0-224-quant")
    place = zoo.path_of(entry, cache=tmp_path)
    place.parent.mkdir(parents=True)
    place.symlink_to((real_data / "weights/google-coral" / entry.file_name).resolve())
    assert zoo.fetch(entry, cache=tmp_path) == place
