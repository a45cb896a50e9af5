"""Shards as WebDataset and tar make them, with what people put into them and what happens to them on the way."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from mobilenetv2 import image
from mobilenetv2.data import shard_files, shards
from mobilenetv2.data.classification import ClassificationData, open_classification, splits
from mobilenetv2.errors import DatasetError, FileError, UsageError
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import Classifier, Spec

Files = list[tuple[str, str | bytes]]
Pack = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indices go."""
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "shards"


def tar(path: Path, *contents: tuple[str, str | bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as written:
        for name, content in contents:
            data = content.encode() if isinstance(content, str) else content
            header = tarfile.TarInfo(name)
            header.size = len(data)
            written.addfile(header, io.BytesIO(data))
    return path


def labelled(*names: str, suffix: str = ".cls") -> Files:
    """Samples called 0, 1, ... with these labels; the picture of each is its name."""
    return [one for i, name in enumerate(names) for one in ((f"{i}.jpg", f"picture {i}"), (f"{i}{suffix}", name))]


def model_of(*names: str, ids: tuple[str, ...] = ()) -> ModelInfo:
    head = Classifier(outputs=len(names))
    return ModelInfo(Spec(head=head), image.recipe("torchvision-v1", 224), labels=names, label_ids=ids)


def found(data: ClassificationData) -> list[tuple[str, str]]:
    """The name in its shard and the class of every picture."""
    return [(sample.picture.name, data.names[sample.label]) for sample in data.samples]


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


# ---- what webdataset writes


def test_what_webdatasets_writer_packs_is_read_as_webdatasets_reader_reads_it(tmp_path: Path, pack: Pack) -> None:
    for i in range(20):
        (tmp_path / "set" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "abc"[i % 3] / f"{i}.png").write_bytes(picture(i))
    folder = pack(tmp_path / "set", tmp_path / "shards", per_shard=6)
    data = open_classification(folder)
    ours = [(data.names[sample.label], sample.read_bytes(), str(sample.picture)) for sample in data.samples]
    pattern = f"{folder}/pictures-{{000..003}}.tar"
    theirs: list[dict[str, Any]] = []
    for url in braceexpand.braceexpand(pattern):
        with open(url, "rb") as file:
            theirs += group_by_keys(tar_file_expander([{"url": url, "stream": file}]))
    assert [(name, content) for name, content, _ in ours] == [(one["cls"].decode(), one["png"]) for one in theirs]
    assert [name for *_, name in ours] == [f"{one['__url__']}/{one['__key__']}.png" for one in theirs]
    assert open_classification(pattern).samples == data.samples
    assert np.array_equal(image.read(data.samples[5].picture), image.read(ours[5][1]))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_and_long_names_are_read(tmp_path: Path, form: int) -> None:
    folder = "a" * 60 if form == tarfile.USTAR_FORMAT else "ä" * 130
    name = f"./{folder}/{'n' * 50}.jpg"
    path = tar(tmp_path / "x.tar", (name, "content"), (name.replace(".jpg", ".cls"), "cat"), form=form)
    [sample] = open_classification(path).samples
    assert sample.read_bytes() == b"content"
    assert str(sample.picture) == f"{path}/{name[2:]}"


def test_a_member_travels_to_a_worker_in_few_bytes(tmp_path: Path) -> None:
    samples = open_classification(tar(tmp_path / "x.tar", *labelled(*"ab" * 100))).samples
    assert pickle.loads(pickle.dumps(samples)) == samples
    assert len(pickle.dumps(samples)) < 100 * len(samples)


# ---- labels


@pytest.mark.parametrize(
    ("suffix", "written"),
    [
        (".cls", " cat\n"),
        (".txt", "\ufeffcat"),
        (".json", '{"label": "cat"}'),
        (".json", '{"width": 3, "cls": "cat", "label": null}'),
    ],
)
def test_a_label_is_text_or_json(tmp_path: Path, suffix: str, written: str) -> None:
    data = open_classification(tar(tmp_path / "x.tar", ("d/1.webp", b"x"), (f"d/1{suffix}", written)))
    assert found(data) == [("d/1.webp", "cat")]
    assert data.notes == ()


def test_of_several_labels_cls_counts_then_json_then_txt(tmp_path: Path) -> None:
    contents: Files = [("1.txt", "a cat on a mat"), ("1.json", '{"label": 3}'), ("1.cls", "7"), ("1.jpg", "x")]
    for gone, label in ((None, "7"), ("1.cls", "3"), ("1.json", "a cat on a mat")):
        contents = [one for one in contents if one[0] != gone]
        assert open_classification(tar(tmp_path / f"{label}.tar", *contents)).names == (label,)


def test_names_are_sorted_and_numbers_as_numbers(tmp_path: Path) -> None:
    assert open_classification(tar(tmp_path / "n.tar", *labelled("10", "9", "9"))).names == ("9", "10")
    assert open_classification(tar(tmp_path / "x.tar", *labelled("10", "9", "x"))).names == ("10", "9", "x")


def test_a_list_of_classes_beside_the_shards_names_their_numbers(tmp_path: Path) -> None:
    path = tar(tmp_path / "set" / "x.tar", *labelled("2", "0", "owl", "3"))
    (tmp_path / "set" / "classes.txt").write_text("cat\ndog\n\nowl\n")
    for data in (open_classification(path), open_classification(path.parent)):
        assert data.names == ("cat", "dog", "owl")
        assert found(data) == [("0.jpg", "owl"), ("1.jpg", "cat"), ("2.jpg", "owl")]
        assert data.unmatched == (("3", 1),)
    data = open_classification(path, classes=model_of("Owl", "yak", "cat"))
    assert found(data) == [("0.jpg", "Owl"), ("1.jpg", "cat"), ("2.jpg", "Owl")]


def test_two_classes_of_one_name_are_told_apart_by_number(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", *labelled("0", "1"))
    (tmp_path / "classes.txt").write_text("crane\ncrane\n")
    assert [sample.label for sample in open_classification(path).samples] == [0, 1]
    assert [sample.label for sample in open_classification(path, classes=model_of("crane", "crane")).samples] == [0, 1]
    with pytest.raises(DatasetError, match="'crane' is ambiguous"):
        open_classification(path, classes=model_of("crane", "owl", "crane"))


def test_a_models_classes_are_found_by_name_id_or_number(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", *labelled("n01440764", "1", "Great_Grey_Owl", "yeti"))
    model = model_of("tench", "goldfish", "great grey owl", ids=("n01440764", "n01443537", "n01622779"))
    data = open_classification(path, classes=model)
    assert [sample.label for sample in data.samples] == [0, 1, 2]
    assert data.notes == ("yeti: no such class, 1 pictures left out",)


# ---- samples that are not whole


def test_samples_without_label_or_picture_are_counted_and_named(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "x.tar",
        *labelled("cat", "dog"),
        *[(f"bare{i}.jpg", "x") for i in range(7)],
        *[("lone.cls", "cat"), ("odd.png", "x"), ("odd.json", "[1"), ("void.png", "x"), ("void.cls", " ")],
        *[("two.jpg", "x"), ("two.png", "y"), ("two.cls", "cat"), ("seg.jpg", "x"), ("seg.mask.png", "y")],
        *[("seg.cls", "dog"), ("0.jpg", "again"), ("._0.jpg", "x"), ("__index__.json", "{}")],
    )
    data = open_classification(path)
    assert [name for name, _ in found(data)] == ["0.jpg", "1.jpg", "two.jpg", "seg.jpg"]
    assert data.samples[0].read_bytes() == b"again"
    notes = "\n".join(data.notes)
    assert f'9 samples with no label (.cls, .txt, or .json with "label" or "cls"): {path}/bare0.jpg, ' in notes
    assert f"{path}/bare4.jpg and 4 more" in notes
    assert f"1 samples with no picture: {path}/lone.cls" in notes
    assert (
        "1 samples with several pictures, of which the first is used (a sample's name ends at its first dot): " in notes
    )
    assert f"1 samples with a name that the shard has twice, of which the last is used: {path}/0.jpg" in notes
    assert len(data.notes) == 4


def test_shards_without_any_whole_sample_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no labelled pictures in 1 shards: 1 samples with no label .*tar/1\.jpg"):
        open_classification(tar(tmp_path / "x.tar", ("1.jpg", "x")))
    with pytest.raises(DatasetError, match="no labelled pictures in 1 shards: no samples"):
        open_classification(tar(tmp_path / "y.tar"))


# ---- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    contents = [
        ("a/1.jpg", os.urandom(700)),
        ("a/1.cls", "cat"),
        ("a/2.jpg", os.urandom(1500)),
        ("a/2.json", '{"cls":1}'),
    ]
    return tar(tmp_path_factory.mktemp("whole") / "x.tar", *contents, form=tarfile.USTAR_FORMAT).read_bytes()


def samples_of(content: bytes, path: Path) -> list[tuple[str, bytes]] | str:
    """What is read, or the line that says why not."""
    path.write_bytes(content)
    shutil.rmtree(os.environ["MOBILENETV2_HOME"], ignore_errors=True)
    try:
        listed, incomplete = shards.read([str(path)])
    except DatasetError as error:
        return str(error)
    assert incomplete == ()
    return [(label, member.read_bytes()) for label, member in listed]


def is_whole_or_refused(content: bytes, whole: bytes, path: Path) -> bool:
    found = samples_of(content, path)
    if isinstance(found, str):
        return found.startswith(f"{path} is damaged, cut short or no plain tar (") and "\n" not in found
    return found == samples_of(whole, path)


MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@MANY
@given(where=st.integers(0, 10_240))
def test_a_shard_that_was_cut_off_is_never_taken_for_a_whole_one(where: int, whole: bytes, tmp_path: Path) -> None:
    assert is_whole_or_refused(whole[:where], whole, tmp_path / "x.tar")


@MANY
@given(header=st.sampled_from([0, 1536, 2560, 4608]), place=st.integers(0, 511), value=st.integers(0, 255))
def test_a_damaged_header_is_noticed(header: int, place: int, value: int, whole: bytes, tmp_path: Path) -> None:
    assert whole[header + 257 : header + 262] == b"ustar"
    content = bytearray(whole)
    content[header + place] = value
    assert is_whole_or_refused(bytes(content), whole, tmp_path / "x.tar")


def test_one_line_names_the_first_damaged_shard_and_counts_the_others(tmp_path: Path, whole: bytes) -> None:
    for i in range(4):
        (tmp_path / f"{i}.tar").write_bytes(whole[: 2000 if i else None])
    (tmp_path / "3.tar").write_bytes(b"\x1f\x8b" + bytes(5000))
    with pytest.raises(DatasetError, match=r"1\.tar is damaged, cut .*: make or copy it again \(3 of 4 shards"):
        open_classification(tmp_path)


def test_a_shard_that_changes_under_way_is_not_read_at_the_old_places(tmp_path: Path) -> None:
    samples = open_classification(tar(tmp_path / "x.tar", *labelled("a", "b"))).samples
    tar(tmp_path / "x.tar", *labelled("a", "b", "c"))
    with pytest.raises(DatasetError, match=r"x\.tar has changed since this run began: start it again"):
        samples[0].read_bytes()
    with pytest.raises(FileError, match=r"gone\.tar cannot be read: No such file"):
        shards.ShardMember(shard_files.Shard("gone.tar", 10, ""), 0, 5, "1.jpg").read_bytes()


# ---- which tars


def make(folder: Path, *names: str, label: str = "cat") -> Path:
    for name in names:
        tar(folder / name, *labelled(label))
    return folder


def shards_of(data: ClassificationData) -> list[str]:
    return [Path(str(sample.picture)).parent.name for sample in data.samples]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("b.tar", "a.TAR"), {"all": ["a.TAR", "b.tar"]}),
        (("train-0.tar", "val-0.tar", "train-1.tar"), {"train": ["train-0.tar", "train-1.tar"], "val": ["val-0.tar"]}),
        (
            ("imagenet1k-validation-00.tar", "imagenet1k-Training_1.tar"),
            {"train": ["imagenet1k-Training_1.tar"], "val": ["imagenet1k-validation-00.tar"]},
        ),
        (("test/x.tar", "Valid/1.tar", "train/1.tar"), {"train": ["1.tar"], "val": ["1.tar"], "test": ["x.tar"]}),
    ],
)
def test_a_folder_of_shards_is_divided_by_names_or_folders(
    names: tuple[str, ...], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    folder = make(tmp_path / "set", *names)
    (folder / "notes.md").write_text("how these were made")
    assert splits(folder) == tuple(part for part in expected if part != "all")
    for part, files in expected.items():
        assert shards_of(open_classification(folder, split=None if part == "all" else part)) == files
    used = next(part for part in ("val", "test", "train", "all") if part in expected)
    assert shards_of(open_classification(folder)) == expected[used]


def test_the_classes_of_every_split_are_those_of_train(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", *labelled("a", "b", "c"))
    tar(tmp_path / "val-0.tar", *labelled("c", "d"))
    data = open_classification(tmp_path)
    assert (data.names, data.unmatched) == (("a", "b", "c"), (("d", 1),))
    assert found(data) == [("0.jpg", "c")]


def test_a_folder_of_pictures_stays_one_whatever_tars_lie_in_it(tmp_path: Path) -> None:
    make(tmp_path, "all.tar", "train/backup.tar")
    for name in ("cat/1.jpg", "train/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [sample.path.name for sample in open_classification(tmp_path).samples] == ["1.jpg", "2.jpg"]


def test_shards_that_are_divided_in_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"some are not \(.*extra\.tar\): name all or none"):
        open_classification(make(tmp_path, "train-0.tar", "extra.tar"))


@pytest.mark.parametrize(("name", "split"), [("0.tar", "val"), ("train-0.tar", "val"), ("train-0.tar", "x")])
def test_a_split_that_is_not_there_is_refused(name: str, split: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"has no '{split}' split"):
        open_classification(make(tmp_path, name), split=split)


def test_a_pattern_is_every_shard_it_names_and_missing_ones_are_named(tmp_path: Path) -> None:
    make(tmp_path, "a-08.tar", "a-09.tar", "a-10.tar")
    assert shards_of(open_classification(f"{tmp_path}/a-{{08..10}}.tar")) == ["a-08.tar", "a-09.tar", "a-10.tar"]
    with pytest.raises(DatasetError, match=r"2 of 4 shards do not exist: .*a-07\.tar, .*a-11\.tar$"):
        open_classification(f"{tmp_path}/a-{{07,{{09..11}}}}.tar")


@pytest.mark.parametrize("pattern", ["a-{0..3.tar", "a-{}.tar", "a-{x}.tar", "a-{3..0}.tar", "a-{0..9999999}.tar"])
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="a-"):
        shards.parts(pattern)


words = st.text("abz-_./", max_size=4)
ranges = st.tuples(st.integers(0, 120), st.integers(0, 12)).map(lambda n: f"{{{n[0]:04}..{n[0] + n[1]:04}}}")


@given(st.recursive(words | ranges, lambda inner: st.lists(inner, min_size=2, max_size=3).map(
    lambda parts: "{" + ",".join(parts) + "}") | st.tuples(inner, inner).map("".join), max_leaves=6))  # fmt: skip
def test_braces_mean_what_they_mean_to_webdataset(pattern: str) -> None:
    assert shards.expand(pattern) == list(braceexpand.braceexpand(pattern))


# ---- the index


def test_the_index_is_kept_and_made_again_when_it_is_damaged_or_the_shard_changed(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar(tmp_path / "x.tar", *labelled("a", "b"), ("bare.jpg", "x"))
    calls: list[tuple[int, int]] = []

    def opened() -> ClassificationData:
        calls.clear()
        return open_classification(path, progress=lambda done, total: calls.append((done, total)))

    first = opened()
    assert calls == [(1, 1)]
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", None)  # a tar cannot be read
        assert opened() == first
    assert calls == []
    [kept] = home.glob("*.index")
    content = bytearray(kept.read_bytes())
    for place in (0, 40, len(content) - 1):
        content[place] ^= 1
        kept.write_bytes(content)
        assert opened() == first
        assert calls == [(1, 1)]
    kept.write_bytes(b"")
    assert opened() == first
    tar(path, *labelled("a", "b", "c"))
    assert len(opened().samples) == 3


def test_an_index_that_cannot_be_kept_is_no_error(tmp_path: Path, home: Path) -> None:
    home.parent.write_text("not a folder")
    assert len(open_classification(tar(tmp_path / "x.tar", *labelled("a", "b"))).samples) == 2


def test_json_labels_of_every_kind_never_stop_the_reading(tmp_path: Path) -> None:
    labels = [json.dumps({"label": label}) for label in (True, 1.5, [1], {}, "", None, 10**30)] + ["", "nope", '"cat"']
    data = open_classification(tar(tmp_path / "x.tar", *labelled(*labels, suffix=".json")))
    assert data.names == (str(10**30),)
