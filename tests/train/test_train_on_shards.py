"""Training from shards: the same bits whenever and wherever, in an order that reads few shards at a time."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import model_file
from mobilenetv2.data import shard_files
from mobilenetv2.data.classification import Sample, open_classification
from mobilenetv2.data.shards import Shard, ShardMember
from mobilenetv2.errors import DatasetError, DownloadError, TrainingError
from mobilenetv2.evaluate import evaluate
from mobilenetv2.predictor import load
from mobilenetv2.train import TrainingRun, find, fit
from mobilenetv2.train import pictures as learning
from mobilenetv2.train.batches import training_batches
from mobilenetv2.train.classification import Classifier
from mobilenetv2.train.pictures import Pictures, open_training_data

SIZE = 32
TINY = dataclasses.replace(
    find("basic"), epochs=2, batch_size=8, optimiser="sgd", learning_rate=0.02, width_mult=0.35, size=SIZE, warmup=0.0,
    batch_norm_momentum=0.5, keep="last", ema=0.5, colour=0.2, mixup=0.3,
)  # fmt: skip
STEPS = 5  # of an epoch

Pack = Callable[..., Path]
Serve = Callable[[Path], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two colours: 40 pictures of train and 12 of val."""
    path, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 12)):
        for i in range(count):
            file = path / part / ("blue", "red")[i % 2] / f"{i:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            colour = np.eye(3)[i % 2] * 120 + 60
            Image.fromarray(np.clip(rng.normal(colour, 40, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)).save(file)
    return path


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Path:
    """The same in five shards and two, each of 30 KB to 50 KB."""
    return pack(folder, tmp_path_factory.mktemp("shards"))


URL = "/{train-{000..004},val-{000..001}}.tar"


@pytest.fixture(scope="module", autouse=True)
def small_windows() -> Iterator[None]:
    """Two or three shards."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learning, "_WINDOW_PICTURES", 17)
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is known from another test."""
    monkeypatch.setattr(shard_files, "_PAUSES_S", ())
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """Two epochs on the shards, not interrupted."""
    return run(shards, tmp_path_factory.mktemp("whole"))


def run(data: Path | str, out: Path, **arguments: Any) -> TrainingRun:
    arguments = {"recipe": TINY, "cache_bytes": 0, "workers": 0, **arguments}
    return fit(data, out, progress=False, accelerator="cpu", **arguments)


def tensors_of(run: TrainingRun) -> dict[str, np.ndarray]:
    return dict(model_file.read(run.model).tensors)


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not np.array_equal(left[name], right[name])] == []


# ---- the order


def members(counts: list[int]) -> Pictures:
    pictures = [
        Sample(ShardMember(Shard(f"{number}.tar", 1000, ""), i, 1, f"{i}.jpg"), 0)
        for number, count in enumerate(counts)
        for i in range(count)
    ]
    return Pictures(tuple(pictures))


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=12), seed=st.integers(0, 100))
def test_an_order_has_every_picture_once_and_mixes_few_shards_at_a_time(counts: list[int], seed: int) -> None:
    pictures = members(counts)
    order = pictures.shuffled(np.random.default_rng([seed, 3]))
    assert sorted(order.tolist()) == list(range(len(pictures)))
    assert np.array_equal(order, pictures.shuffled(np.random.default_rng([seed, 3])))
    owner = np.repeat(np.arange(len(counts)), counts)[order]
    places = [np.flatnonzero(owner == number) for number in range(len(counts))]
    for where in range(len(order)):
        under_way = [number for number, place in enumerate(places) if place[0] <= where <= place[-1]]
        # without any one of its shards a window of three or more would hold too few pictures
        assert len(under_way) <= 2 or sum(counts[n] for n in under_way) - max(counts[n] for n in under_way) < 17


def test_shards_come_in_another_order_and_mixed_otherwise_in_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = members([20] * 10)
    first, second = (pictures.shuffled(np.random.default_rng([0, epoch])) // 20 for epoch in (0, 1))
    assert set(first[:40]) != set(second[:40])
    for order in (first, second):
        assert all(len(set(order[start : start + 40])) == 2 for start in range(0, 200, 40))
        assert all(len(set(order[start : start + 10])) == 2 for start in range(0, 200, 40))
    monkeypatch.setattr(learning, "_WINDOW_PICTURES", 2000)
    assert len(set(pictures.shuffled(np.random.default_rng([0, 0]))[:20] // 20)) > 6  # all of them fit
    monkeypatch.setattr(learning, "_WINDOW_BYTES", 2000)  # two shards
    assert len(set(pictures.shuffled(np.random.default_rng([0, 0]))[:40] // 20)) == 2


def test_without_shards_any_order_may_come() -> None:
    pictures = Pictures(tuple(Sample(Path(str(i)), i) for i in range(50)))
    order = pictures.shuffled(np.random.default_rng([7, 2]))
    assert np.array_equal(order, np.random.default_rng([7, 2]).permutation(50))
    assert Pictures(()).shuffled(np.random.default_rng(0)).tolist() == []


# ---- what is learned from


def test_shards_and_their_folder_are_the_same_data(folder: Path, shards: Path) -> None:
    theirs, ours = (open_training_data(path, seed=0) for path in (folder, shards))
    assert ours.names == theirs.names
    assert (len(ours.train), len(ours.val)) == (40, 12)
    assert sorted(sample.read_bytes() for sample in ours.val.samples) == sorted(
        sample.read_bytes() for sample in theirs.val.samples
    )
    assert (ours.square, ours.notes, ours.held_out) == (SIZE, (), ())


def test_a_flat_set_is_split_by_its_pictures_as_a_flat_folder_is(folder: Path, tmp_path: Path, pack: Pack) -> None:
    flat = pack(folder / "train", tmp_path / "flat")
    theirs, ours = (open_training_data(path, seed=0) for path in (folder / "train", flat))
    held_out = {sample.read_bytes() for sample in ours.val.samples}
    assert held_out == {sample.read_bytes() for sample in theirs.val.samples}
    assert len(ours.held_out) == len(held_out) == 4
    assert all((flat / place.split("/")[0]).is_file() for place in ours.held_out)


def test_the_second_time_no_picture_is_read_before_training(
    shards: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(shards)
    first = open_training_data(site.url + URL, seed=0, cache_bytes=0)
    site.requests.clear()
    with monkeypatch.context() as patched:
        patched.setattr(shard_files, "read", None)
        again = open_training_data(site.url + URL, seed=0, cache_bytes=0)
    assert (again.fingerprint, again.check, again.square) == (first.fingerprint, first.check, first.square)
    assert again.train.samples == first.train.samples
    assert {request.split()[0] for request in site.requests} == {"HEAD"}
    assert open_training_data(site.url + URL, seed=0).train.pixels is not None  # what fits is decoded all the same


def test_a_damaged_picture_is_named_every_time(folder: Path, tmp_path: Path, pack: Pack) -> None:
    for i in range(6):
        path = tmp_path / "set" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "train" / ("blue", "red")[i % 2] / f"{i:03}.png").read_bytes())
    (tmp_path / "set" / "a" / "text.png").write_text("not a picture")
    packed = pack(tmp_path / "set", tmp_path / "packed")
    for _ in range(2):
        data = open_training_data(packed, seed=0, cache_bytes=0)
        assert f"cannot be read: {packed}/pictures-000.tar/a/text.png is not a JPEG" in data.notes[0]
        assert len(data.train) + len(data.val) == 6


def test_workers_give_the_batches_that_none_give(shards: Path) -> None:
    pictures = open_training_data(shards, seed=0, cache_bytes=0).train
    for epoch in (0, 1):
        none, two = (training_batches(pictures, TINY, SIZE, workers=workers) for workers in (0, 2))
        none.set_epoch(epoch)
        two.set_epoch(epoch)
        for (images, labels), (other_images, other_labels) in zip(none, two, strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(labels, other_labels)


# ---- runs


@pytest.mark.slow
def test_fetched_and_local_shards_give_the_same_weights_and_so_do_pictures_in_memory(
    whole: TrainingRun, shards: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(tensors_of(run(shards, tmp_path / "memory", cache_bytes=1 << 30)), tensors_of(whole))
    monkeypatch.setenv(shard_files.BOUND, "100KB")
    site = serve(shards)
    assert_same(tensors_of(run(site.url + URL, tmp_path / "fetched", workers=2)), tensors_of(whole))
    assert sum(request.startswith("GET /train") for request in site.requests) > 3 * 5  # evicted, and fetched again


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, STEPS + 3])
def test_a_run_stopped_within_an_epoch_goes_on_as_if_it_had_not_stopped(
    step: int, whole: TrainingRun, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_step = Classifier.training_step

    def interrupted(self: Classifier, *arguments: Any) -> Any:
        if self.global_step == step:
            signal.raise_signal(signal.SIGINT)
        return training_step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "training_step", interrupted)
        if step < STEPS:
            with pytest.raises(TrainingError, match="before the end of the first epoch"):
                run(shards, tmp_path / "stopped")
        else:
            assert run(shards, tmp_path / "stopped").stopped
    resumed = run(shards, tmp_path / "stopped", recipe=None, resume=True, workers=2)
    assert_same(tensors_of(resumed), tensors_of(whole))


def test_evaluation_on_shards_is_that_on_the_folder(folder: Path, shards: Path, whole: TrainingRun) -> None:
    predictor = load(whole.model, backend="reference")
    theirs, ours = (evaluate(predictor, open_classification(path, classes=predictor.info)) for path in (folder, shards))
    assert (ours.n, ours.top1, ours.split) == (theirs.n, theirs.top1, "val") == (12, whole.score, "val")
    assert np.array_equal(ours.confusion, theirs.confusion)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_goes_away_ends_a_run_in_one_line(
    workers: int, shards: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shard_files.BOUND, "100KB")
    site = serve(shards)
    open_training_data(site.url + URL, seed=0, cache_bytes=0)

    def gone(*arguments: object, **more: object) -> None:
        raise DownloadError("cannot fetch it (gone): try again later")

    monkeypatch.setattr(shard_files.download, "fetch", gone)
    with pytest.raises(TrainingError, match=r"^cannot fetch it \(gone\): try again later; no epoch had ended, [^\n]*$"):
        run(site.url + URL, tmp_path / "run", workers=workers)


@pytest.mark.slow
def test_strict_refuses_shards_that_are_sorted_by_class(folder: Path, tmp_path: Path) -> None:
    from webdataset.writer import ShardWriter

    pictures = sorted((folder / "train").glob("*/*.png"))
    (tmp_path / "sorted").mkdir()
    with ShardWriter(str(tmp_path / "sorted" / "%d.tar"), maxcount=10, verbose=0) as writer:
        for i, picture in enumerate(pictures):
            writer.write({"__key__": str(i), "png": picture.read_bytes(), "txt": picture.parent.name})
    with pytest.raises(DatasetError, match=r"one has 1\.0 of them on average, by chance it would have 2\.0: shuffle"):
        open_training_data(tmp_path / "sorted", seed=0, strict=True)
