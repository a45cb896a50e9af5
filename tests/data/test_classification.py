"""Labelled folders and lists as people have them, with what they leave lying about in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilenetv2 import image
from mobilenetv2.data.classification import ClassificationData, Sample, open_classification, splits
from mobilenetv2.errors import DatasetError, FileError
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import Classifier, Spec


def model_of(*labels: str, ids: tuple[str, ...] = (), background: bool = False) -> ModelInfo:
    head = Classifier(outputs=len(labels) + background, background="first" if background else "none")
    return ModelInfo(Spec(head=head), image.recipe("torchvision-v1", 224), labels=labels, label_ids=ids)


def imagenet() -> ModelInfo:
    known = class_names("imagenet")
    return model_of(*known.names, ids=known.ids, background=True)


def make(folder: Path, *names: str) -> Path:
    """Empty files: what is in a picture is not looked at here."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def found(data: ClassificationData, below: Path) -> list[tuple[str, str]]:
    return [(sample.path.relative_to(below).as_posix(), data.names[sample.label]) for sample in data.samples]


# ---- folders


def test_without_a_model_the_classes_are_the_sorted_folders(tmp_path):
    make(tmp_path, "dog/2.jpg", "dog/1.jpg", "cat/9.png", "Bird/x.webp")
    data = open_classification(tmp_path)
    assert data.names == ("Bird", "cat", "dog")
    assert found(data, tmp_path) == [
        ("Bird/x.webp", "Bird"), ("cat/9.png", "cat"), ("dog/1.jpg", "dog"), ("dog/2.jpg", "dog"),
    ]  # fmt: skip
    assert data.notes == ()


def test_suffixes_count_in_any_case_and_other_or_hidden_files_are_skipped_and_counted(tmp_path):
    make(tmp_path, "a/1.JPG", "a/2.Jpeg", "a/3.TIFF", "a/notes.txt", "a/.DS_Store", "a/._1.jpg", "README.md")
    make(tmp_path, ".cache/x.jpg", "a/.thumbs/y.jpg", "empty/readme.txt")
    data = open_classification(tmp_path)
    assert [sample.path.name for sample in data.samples] == ["1.JPG", "2.Jpeg", "3.TIFF"]
    assert data.names == ("a",)
    assert data.skipped == 5
    assert "5 files skipped" in data.notes[0]


def test_deeper_folders_belong_to_their_class(tmp_path):
    make(tmp_path, "cat/home/1.jpg", "cat/2.jpg", "dog/park/far/3.jpg")
    assert found(open_classification(tmp_path), tmp_path) == [
        ("cat/2.jpg", "cat"), ("cat/home/1.jpg", "cat"), ("dog/park/far/3.jpg", "dog"),
    ]  # fmt: skip


def test_a_link_to_a_class_folder_is_followed_and_a_loop_is_not(tmp_path):
    make(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    assert found(open_classification(tmp_path / "data"), tmp_path / "data") == [("cat/1.jpg", "cat")]


def test_folders_may_be_names_wordnet_ids_or_numbers_of_the_models_real_classes(tmp_path):
    make(tmp_path, "tench/1.jpg", "n01443537/2.jpg", "2/3.jpg", "Great_Grey_Owl/4.jpg")
    data = open_classification(tmp_path, classes=imagenet())
    assert {sample.path.name: sample.label for sample in data.samples} == {
        "1.jpg": 0,
        "2.jpg": 1,
        "3.jpg": 2,
        "4.jpg": 24,
    }
    assert data.names == class_names("imagenet").names


def test_two_folders_of_one_class_are_that_class_twice(tmp_path):
    make(tmp_path, "tench/1.jpg", "n01440764/2.jpg")
    assert [sample.label for sample in open_classification(tmp_path, classes=imagenet()).samples] == [0, 0]


def test_a_model_without_names_is_matched_by_number(tmp_path):
    make(tmp_path, "0/1.jpg", "02/2.jpg")
    head = Classifier(outputs=3)
    info = ModelInfo(Spec(head=head), image.recipe("torchvision-v1", 224))
    data = open_classification(tmp_path, classes=info)
    assert [sample.label for sample in data.samples] == [0, 2]
    assert data.names == ("class 0", "class 1", "class 2")


def test_an_ambiguous_folder_is_refused_with_the_ids_to_use(tmp_path):
    make(tmp_path, "crane/1.jpg", "tench/1.jpg")
    with pytest.raises(DatasetError, match=r"crane.*ambiguous.*n02012849.*n03126707") as caught:
        open_classification(tmp_path, classes=imagenet())
    assert str(tmp_path) in str(caught.value)


def test_unmatched_folders_are_listed_and_left_out(tmp_path):
    make(tmp_path, "cat/1.jpg", "unicorn/1.jpg", "unicorn/2.jpg", "yeti/1.jpg")
    data = open_classification(tmp_path, classes=model_of("dog", "cat"))
    assert data.samples == (Sample(tmp_path / "cat" / "1.jpg", 1),)
    assert data.unmatched == (("unicorn", 2), ("yeti", 1))
    assert data.notes == ("unicorn, yeti: no such class, 3 pictures left out",)


def test_no_matched_folder_is_an_error_that_shows_both_sides(tmp_path):
    make(tmp_path, "unicorn/1.jpg")
    with pytest.raises(DatasetError, match=r"\(unicorn\).*2 classes \(dog, cat\).*WordNet id or its number"):
        open_classification(tmp_path, classes=model_of("dog", "cat"))


# ---- splits


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    return make(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/c/3.jpg", "val/c/4.jpg", "test/a/5.jpg")


@pytest.mark.parametrize(
    ("split", "used", "files"),
    [(None, "val", ["4.jpg"]), ("train", "train", ["1.jpg", "2.jpg", "3.jpg"]), ("test", "test", ["5.jpg"])],
)
def test_val_is_used_unless_another_split_is_asked_for(divided, split, used, files):
    data = open_classification(divided, split=split)
    assert [sample.path.name for sample in data.samples] == files
    assert data.split == used
    assert used in data.notes[0]


def test_the_classes_of_every_split_are_those_of_train(divided):
    for split in ("train", "val", "test"):
        assert open_classification(divided, split=split).names == ("a", "b", "c")
    assert open_classification(divided).samples[0].label == 2


def test_a_class_that_train_does_not_have_is_listed(divided):
    make(divided, "val/d/6.jpg")
    assert open_classification(divided).unmatched == (("d", 1),)


@pytest.mark.parametrize(("there", "used"), [(("train", "test"), "test"), (("train",), "train")])
def test_without_val_it_is_test_and_then_train(tmp_path, there, used):
    make(tmp_path, *(f"{split}/a/1.jpg" for split in there))
    assert open_classification(tmp_path).split == used
    assert splits(tmp_path) == there


@pytest.mark.parametrize("folder", ["valid", "Validation", "VAL"])
def test_splits_are_found_under_the_names_people_give_them(tmp_path, folder):
    make(tmp_path, "Training/a/1.jpg", f"{folder}/a/2.jpg")
    assert splits(tmp_path) == ("train", "val")
    assert open_classification(tmp_path, split="val").samples[0].path == tmp_path / folder / "a" / "2.jpg"


def test_a_class_that_is_called_train_is_no_split(tmp_path):
    make(tmp_path, "bus/1.jpg", "train/2.jpg")
    assert splits(tmp_path) == ()
    assert open_classification(tmp_path).names == ("bus", "train")


def test_two_folders_for_one_split_are_refused(tmp_path):
    make(tmp_path, "val/a/1.jpg", "valid/a/1.jpg")
    with pytest.raises(DatasetError, match="two val splits, val and valid"):
        open_classification(tmp_path)


@pytest.mark.parametrize(("files", "split"), [(["train/a/1.jpg"], "val"), (["a/1.jpg"], "val"), (["val/a/1.jpg"], "x")])
def test_a_split_that_is_not_there_is_refused(tmp_path, files, split):
    make(tmp_path, *files)
    with pytest.raises(DatasetError, match=f"has no '{split}' split"):
        open_classification(tmp_path, split=split)


# ---- nothing there


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no pictures: a folder with a folder per class"),
        (["a/notes.txt", "b/x.doc"], "holds 2 files but no pictures"),
        (["a/notes.txt", "b/x.heic"], "holds no pictures that are read: 1 .heic file is in a format that is not read"),
        (["1.jpg", "2.png"], "holds 2 pictures but no folders of classes"),
        (["val/a/notes.txt"], r"val holds 1 file but no pictures"),
    ],
)
def test_a_folder_without_labelled_pictures_says_what_is_expected(tmp_path, files, message):
    make(tmp_path, *files)
    with pytest.raises(DatasetError, match=message):
        open_classification(tmp_path)


def test_a_path_that_does_not_exist_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match=r"nowhere does not exist"):
        open_classification(tmp_path / "nowhere")
    assert splits(tmp_path / "nowhere") == ()


# ---- text files


def listed(tmp_path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    make(tmp_path, "data/a.JPEG", "data/b c.jpg", "data/d,e.jpg", "noext")
    file = tmp_path / "list.txt"
    file.write_text(text, encoding=encoding)
    return file


@pytest.mark.parametrize(
    "text",
    [
        "./data/a.JPEG, 1\n./data/b c.jpg, 0\n",
        "path,label\ndata/a.JPEG,cat\ndata/b c.jpg,dog\n",
        "File, class\r\n\r\n  data/a.JPEG  ,  cat  \r\n data/b c.jpg\t,\tdog",
        "image,x,label\ndata/a.JPEG,1\ndata/b c.jpg,00",
    ],
)
def test_a_list_is_read_with_or_without_header_and_with_names_or_numbers(tmp_path, text):
    data = open_classification(listed(tmp_path, text), classes=model_of("dog", "cat", background=True))
    assert found(data, tmp_path) == [("data/a.JPEG", "cat"), ("data/b c.jpg", "dog")]
    assert data.split is None
    assert data.notes == ()


def test_a_list_with_a_byte_order_mark_is_read(tmp_path):
    data = open_classification(listed(tmp_path, "data/a.JPEG,0\n", encoding="utf-8-sig"))
    assert [sample.path for sample in data.samples] == [tmp_path / "data" / "a.JPEG"]


def test_the_last_comma_splits(tmp_path):
    data = open_classification(listed(tmp_path, "data/d,e.jpg,cat\n"))
    assert found(data, tmp_path) == [("data/d,e.jpg", "cat")]


def test_absolute_paths_are_taken_as_they_are(tmp_path):
    file = listed(tmp_path, "")
    (tmp_path / "other").mkdir()
    away = tmp_path / "other" / "list.csv"
    away.write_text(f"{tmp_path / 'data' / 'a.JPEG'},x\n")
    assert open_classification(away).samples[0].path == tmp_path / "data" / "a.JPEG"
    assert file.exists()


def test_a_first_line_that_names_a_file_is_no_header_whatever_its_suffix(tmp_path):
    assert len(open_classification(listed(tmp_path, "noext,cat\ndata/a.JPEG,cat\n")).samples) == 2


def test_a_list_keeps_its_order(tmp_path):
    data = open_classification(listed(tmp_path, "data/b c.jpg,z\ndata/a.JPEG,y\nnoext,z\n"))
    assert [sample.path.name for sample in data.samples] == ["b c.jpg", "a.JPEG", "noext"]


def test_without_a_model_numbers_are_sorted_as_numbers_and_names_as_names(tmp_path):
    assert open_classification(listed(tmp_path, "data/a.JPEG,10\nnoext,9\n")).names == ("9", "10")
    assert open_classification(listed(tmp_path, "data/a.JPEG,10\nnoext,9\ndata/b c.jpg,x\n")).names == ("10", "9", "x")


def test_a_number_beyond_the_classes_is_unmatched(tmp_path):
    data = open_classification(listed(tmp_path, "data/a.JPEG,1\nnoext,2\n"), classes=model_of("dog", "cat"))
    assert data.unmatched == (("2", 1),)
    assert len(data.samples) == 1


def test_missing_pictures_are_counted_and_the_first_are_named_with_their_lines(tmp_path):
    file = listed(tmp_path, "gone1.jpg,0\ndata/a.JPEG,0\ngone2.jpg,0\ngone3.jpg,1\n")
    with pytest.raises(
        DatasetError, match=r"3 of its .* \(line 1: gone1.jpg, line 3: gone2.jpg and 1 more\).*relative"
    ):
        open_classification(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no pictures"),
        ("path,label\n", "lists no pictures"),
        ("data/a.JPEG,0\ndata/a.JPEG\n", r"line 2: path,label is expected, got 'data/a.JPEG'"),
        ("data/a.JPEG,\n", r"line 1: path,label is expected"),
        ("data/a.JPEG,unicorn\n", r"none of its labels \(unicorn\)"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        open_classification(listed(tmp_path, text), classes=model_of("dog", "cat"))


def test_a_list_has_no_splits(tmp_path):
    file = listed(tmp_path, "data/a.JPEG,0\n")
    assert splits(file) == ()
    with pytest.raises(DatasetError, match="has no 'val' split"):
        open_classification(file, split="val")


def test_a_picture_is_no_data_set(grace_hopper):
    with pytest.raises(DatasetError, match="is not a data set"):
        open_classification(grace_hopper)


# ---- real data


def test_the_300_validation_pictures_are_listed_with_their_classes(real_data):
    data = open_classification(real_data / "classification" / "imagenet_val_300" / "dataset.txt", classes=imagenet())
    assert len(data.samples) == 300
    assert data.samples[0].path.name == "ILSVRC2012_val_00000347.JPEG"
    assert (data.samples[0].label, data.names[472]) == (472, "canoe")
    assert data.notes == ()


def test_the_sign_language_digits_are_ten_classes_in_two_splits(real_data):
    folder = real_data / "classification" / "sign_language_digits"
    train, val = (open_classification(folder, split=split) for split in ("train", "val"))
    assert train.names == val.names == tuple("0123456789")
    assert len(train.samples) + len(val.samples) > 1500
    assert not {sample.path for sample in train.samples} & {sample.path for sample in val.samples}


@pytest.mark.parametrize("first", ['data/a.JPEG,"cat, tame"', "gone.JPEG2,cat", "missing,1"])
def test_a_first_line_that_is_no_header_is_never_dropped(tmp_path: Path, first: str) -> None:
    path = listed(tmp_path, f"{first}\ndata/b c.jpg,dog\n")
    with pytest.raises(DatasetError, match="line 1"):
        open_classification(path, classes=model_of("dog", "cat"))
