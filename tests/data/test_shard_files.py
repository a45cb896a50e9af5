"""Shards by URL: fetched when needed into a small folder that processes share, and always the right bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilenetv2
from mobilenetv2.data import shard_files
from mobilenetv2.data.classification import open_classification, splits
from mobilenetv2.errors import DatasetError, DownloadError, UsageError

Pack = Callable[..., Path]
Serve = Callable[[Path], Any]

SHARDS = 6  # of 8 pictures, 30,720 bytes each
URL = "/train-{000..005}.tar"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where shards are fetched to, empty; a server that does not answer is not waited for."""
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shard_files, "_PAUSES_S", ())
    shard_files._open.clear()
    return tmp_path / "home" / "shards"


@pytest.fixture
def folder(tmp_path: Path, pack: Pack) -> Path:
    """Six shards of train."""
    rng = np.random.default_rng(0)
    for i in range(8 * SHARDS):
        path = tmp_path / "set" / "train" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return pack(tmp_path / "set", tmp_path / "shards")


def sizes(home: Path) -> list[int]:
    return [path.stat().st_size for path in home.glob("*.tar")]


def test_shards_by_url_are_those_of_the_folder(folder: Path, home: Path, serve: Serve) -> None:
    site = serve(folder)
    here, there = open_classification(folder), open_classification(site.url + URL)
    assert splits(site.url + URL) == ("train",)
    assert (there.names, there.split) == (here.names, here.split)
    for ours, theirs in zip(here.samples, there.samples, strict=True):
        assert theirs.read_bytes() == ours.read_bytes()
        assert str(theirs.picture) == f"{site.url}/{'/'.join(str(ours.picture).split('/')[-3:])}"
    assert sum(request.startswith("GET /train") for request in site.requests) == SHARDS
    site.requests.clear()
    again = open_classification(site.url + URL)
    assert again.samples == there.samples
    assert {request.split()[0] for request in site.requests} == {"HEAD"}  # each was asked about, none fetched


def test_the_folder_of_fetched_shards_stays_within_its_bound(
    folder: Path, home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (folder / "train-000.tar").stat().st_size
    monkeypatch.setenv(shard_files.BOUND, str(2 * one + 1000))
    most = 0
    samples = open_classification(serve(folder).url + URL).samples
    digests = []
    for sample in samples:
        digests.append(hashlib.sha256(sample.read_bytes()).digest())
        most = max(most, sum(sizes(home)))
    assert one < most <= 2 * one + 1000
    assert digests == [hashlib.sha256(sample.read_bytes()).digest() for sample in open_classification(folder).samples]


def test_two_shards_are_kept_however_small_the_bound_because_pictures_of_both_are_mixed(
    folder: Path, home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shard_files.BOUND, "1KB")
    site = serve(folder)
    samples = open_classification(site.url + URL).samples
    first = samples[0].read_bytes()
    samples[8].read_bytes()
    site.requests.clear()
    for _ in range(5):
        assert samples[0].read_bytes() == first
        samples[8].read_bytes()
    assert site.requests == []
    samples[16].read_bytes()
    assert len(sizes(home)) == 2


def test_a_shard_that_another_process_removed_stays_readable_and_is_fetched_again_when_closed(
    folder: Path, home: Path, serve: Serve
) -> None:
    site = serve(folder)
    sample = open_classification(site.url + URL).samples[3]
    before = sample.read_bytes()
    site.requests.clear()
    for path in home.glob("*.tar"):
        path.unlink()
    assert sample.read_bytes() == before
    assert site.requests == []
    shard_files._open.clear()
    assert sample.read_bytes() == before
    assert site.requests == ["GET /train-000.tar"]


def test_the_least_recently_used_shard_goes_first(
    folder: Path, home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = open_classification(serve(folder).url + URL).samples
    shards = list(dict.fromkeys(sample.picture.shard for sample in samples))  # type: ignore[union-attr]
    one = shards[0].size
    for age, shard in enumerate([shards[4], shards[1], shards[3]], start=1):
        os.utime(shard.kept.with_suffix(".tar"), (age, age))
    shard_files._open.clear()
    monkeypatch.setenv(shard_files.BOUND, str(4 * one))
    shards[0].kept.with_suffix(".tar").unlink()
    shard_files.read(shards[0], 0, 1)
    assert {shard for shard in shards if not shard.kept.with_suffix(".tar").exists()} == {shards[4], shards[1]}


def test_threads_that_need_a_shard_at_once_fetch_it_once(folder: Path, home: Path, serve: Serve) -> None:
    site = serve(folder)
    samples = open_classification(site.url + URL).samples
    shard_files._open.clear()
    for path in home.glob("*.tar"):
        path.unlink()
    site.requests.clear()
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda sample: sample.read_bytes(), samples[:8]))
    assert contents == [sample.read_bytes() for sample in samples[:8]]
    assert site.requests == ["GET /train-000.tar"]


READ = """
import hashlib, random, sys
from mobilenetv2.data.classification import open_classification
samples = open_classification(sys.argv[1]).samples
found = {}
for i in random.Random(sys.argv[2]).choices(range(len(samples)), k=60):
    found[i] = hashlib.sha256(samples[i].read_bytes()).hexdigest()
print(sorted(found.items()))
"""


def test_processes_that_share_a_folder_too_small_for_them_read_the_right_bytes(
    folder: Path, home: Path, serve: Serve
) -> None:
    source = str(Path(mobilenetv2.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, shard_files.BOUND: "70KB"}
    command = [sys.executable, "-c", READ, serve(folder).url + URL]
    readers = [
        subprocess.Popen([*command, str(seed)], env=environment, stdout=subprocess.PIPE, text=True) for seed in range(3)
    ]
    right = [hashlib.sha256(sample.read_bytes()).hexdigest() for sample in open_classification(folder).samples]
    for reader in readers:
        out, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        found = eval(out)
        assert len(found) > 30
        assert all(right[i] == digest for i, digest in found)


def test_a_shard_that_changed_on_the_server_is_not_read_at_the_old_places(
    folder: Path, home: Path, serve: Serve
) -> None:
    samples = open_classification(serve(folder).url + URL).samples
    os.utime(folder / "train-000.tar", (1e9, 1e9))
    samples[0].read_bytes()  # what was fetched is what was indexed
    shard_files._open.clear()
    for path in home.glob("*.tar"):
        path.unlink()
    with pytest.raises(DownloadError, match=r"train-000\.tar \(it has changed there since this run began\)"):
        samples[0].read_bytes()


def test_missing_shards_are_named_with_their_urls(folder: Path, home: Path, serve: Serve) -> None:
    site = serve(folder)
    with pytest.raises(DatasetError, match=rf"2 of 8 shards do not exist: {site.url}/train-006\.tar, "):
        open_classification(f"{site.url}/train-{{000..007}}.tar")


def test_a_damaged_shard_is_named_with_its_url(folder: Path, home: Path, serve: Serve) -> None:
    content = (folder / "train-002.tar").read_bytes()
    (folder / "train-002.tar").write_bytes(content[:9000])
    site = serve(folder)
    with pytest.raises(DatasetError, match=rf"^{site.url}/train-002\.tar is damaged, cut short"):
        open_classification(site.url + URL)


def test_a_server_that_is_gone_is_one_line(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"^cannot fetch http://127\.0\.0\.1:9/a\.tar \(Connection refused\)"):
        open_classification("http://127.0.0.1:9/a.tar")


def test_a_server_that_comes_back_is_asked_again() -> None:
    answers = ["here", None, None]

    def call() -> str:
        if (answer := answers.pop()) is None:
            raise DownloadError("away")
        return answer

    assert shard_files._patiently(call, (0, 0)) == "here"
    answers += ["here", None, None]
    with pytest.raises(DownloadError, match="away"):
        shard_files._patiently(call, (0,))


def test_a_list_of_classes_is_found_beside_a_url_too(folder: Path, home: Path, serve: Serve) -> None:
    (folder / "classes.txt").write_text("b\na\n")
    assert open_classification(serve(folder).url + URL).names == ("b", "a")


def test_a_bound_that_is_no_number_is_refused(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shard_files.BOUND, "lots")
    with pytest.raises(UsageError, match=r"MOBILENETV2_SHARD_CACHE must be a number of bytes .*, got 'lots'"):
        shard_files.bound()
    for text, size in (("4GB", 4_000_000_000), ("1.5 GiB", 3 << 29), ("", 4_000_000_000)):
        monkeypatch.setenv(shard_files.BOUND, text)
        assert shard_files.bound() == size
