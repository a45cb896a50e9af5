"""The class names are the published ones, and every way to write a class finds it."""

import ast
import importlib.util
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.labels import ALIASES, class_names, match

IMAGENET = class_names("imagenet")
VOC = class_names("voc")
COCO = class_names("coco")


def test_imagenet_is_in_the_standard_order():
    assert len(IMAGENET.names) == len(IMAGENET.ids) == 1000
    assert list(IMAGENET.ids) == sorted(set(IMAGENET.ids))
    # places that everyone knows by heart, and both ends
    known = {
        0: "tench",
        1: "goldfish",
        207: "golden retriever",
        281: "tabby",
        463: "bucket",
        954: "banana",
        999: "toilet tissue",
    }
    assert {i: IMAGENET.names[i] for i in known} == known
    assert (IMAGENET.ids[0], IMAGENET.ids[999]) == ("n01440764", "n15075141")


def test_the_classes_that_share_a_name_keep_it():
    twice = {name for name in IMAGENET.names if IMAGENET.names.count(name) > 1}
    assert twice == {"crane", "maillot"}
    assert (IMAGENET.names[264], IMAGENET.names[474]) == ("Cardigan", "cardigan")


def installed(package: str, file: str) -> str:
    """The text of a file of a package, which is not imported: that would take seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return (Path(spec.origin).parent / file).read_text()


def test_imagenet_ids_equal_those_of_timm():
    assert tuple(installed("timm", "data/_info/imagenet_synsets.txt").split()) == IMAGENET.ids


def test_names_equal_those_of_torchvision():
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(installed("torchvision", "models/_meta.py")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    theirs = zip(lists["_IMAGENET_CATEGORIES"], IMAGENET.names, strict=True)
    assert [pair for pair in theirs if pair[0] != pair[1]] == [
        ("crane bird", "crane"),
        ("maillot tank suit", "maillot"),
    ]
    assert lists["_VOC_CATEGORIES"] == ["__background__", *VOC.names]
    coco = {str(i): name for i, name in enumerate(lists["_COCO_CATEGORIES"]) if name != "N/A"}
    assert coco == {"0": "__background__"} | dict(zip(COCO.ids, COCO.names, strict=True))


def test_imagenet_equals_the_published_label_files(real_data):
    shifted = (real_data / "weights/google-coral/imagenet_labels.txt").read_text().splitlines()
    assert shifted[0] == "background"
    assert tuple(line.split(",")[0].strip() for line in shifted[1:]) == IMAGENET.names
    synsets = (real_data / "classification/imagenet_val_300/synset_words.txt").read_text().splitlines()
    assert tuple(line.split()[0] for line in synsets) == IMAGENET.ids


def test_voc_is_alphabetical_and_counts_from_one():
    assert list(VOC.names) == sorted(VOC.names)
    assert len(VOC.names) == 20
    assert dict(zip(VOC.ids, VOC.names, strict=True))["12"] == "dog"
    assert VOC.names[11] == "dog"


def test_coco_has_80_classes_with_their_category_ids():
    categories = dict(zip(map(int, COCO.ids), COCO.names, strict=True))
    assert len(categories) == 80
    assert sorted(set(range(1, 91)) - set(categories)) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert (categories[1], categories[13], categories[18], categories[90]) == (
        "person",
        "stop sign",
        "dog",
        "toothbrush",
    )


def test_every_class_is_found_by_its_number_and_its_wordnet_id():
    for i, wordnet in enumerate(IMAGENET.ids):
        assert match(wordnet, IMAGENET.names, IMAGENET.ids) == i
        assert match(wordnet.upper(), IMAGENET.names, IMAGENET.ids) == i
        assert match(f"{i:03d}", IMAGENET.names, IMAGENET.ids) == i


def test_every_name_that_is_not_shared_finds_its_class():
    for names, ids in ((IMAGENET.names, IMAGENET.ids), (VOC.names, VOC.ids), (COCO.names, COCO.ids)):
        for i, name in enumerate(names):
            if names.count(name) == 1:
                assert match(name, names, ids) == i
                assert match(name, names) == i


def test_a_number_is_the_class_number_and_never_a_category_id():
    assert COCO.ids[15] == "17"  # the cat's category id is 17
    assert COCO.names[match("17", COCO.names, COCO.ids) or 0] == "horse"


def test_a_name_that_is_a_number_wins_over_the_class_number():
    assert match("1", ["3", "2", "1", "0"]) == 2


@pytest.mark.parametrize("number", ["1000", "-1", "1.0", "٣", "9" * 5000, "n00000000", "", "   "])
def test_what_means_no_class_finds_none(number):
    assert match(number, IMAGENET.names, IMAGENET.ids) is None


@pytest.mark.parametrize("written", ["Golden_Retriever", "golden-retriever", "GOLDEN.RETRIEVER", "goldenretriever "])
def test_capitals_and_separators_do_not_matter(written):
    assert match(written, IMAGENET.names) == 207


@pytest.mark.parametrize(
    ("voc", "coco"),
    [
        ("aeroplane", "airplane"),
        ("diningtable", "dining table"),
        ("motorbike", "motorcycle"),
        ("pottedplant", "potted plant"),
        ("sofa", "couch"),
        ("tvmonitor", "tv"),
    ],
)
def test_voc_and_coco_understand_each_others_names(voc, coco):
    assert match(voc, COCO.names, COCO.ids) == COCO.names.index(coco)
    assert match(coco, VOC.names, VOC.ids) == VOC.names.index(voc)


def test_every_voc_class_is_a_coco_class_and_no_two_are_the_same():
    assert len({match(name, COCO.names) for name in VOC.names} - {None}) == 20


def test_no_word_stands_in_two_groups_of_aliases():
    words = [word for group in ALIASES for word in group]
    assert len(words) == len(set(words))


def test_a_shared_name_is_refused_with_the_ids_to_use():
    with pytest.raises(DatasetError, match=r"'crane' .*: use the WordNet ids.*n02012849.*n03126707"):
        match("crane", IMAGENET.names, IMAGENET.ids)
    with pytest.raises(DatasetError, match=r"use the class numbers instead, 134 \(crane\) and 517 \(crane\)"):
        match("Crane", IMAGENET.names)


def test_capitals_tell_two_names_apart_where_they_are_written_as_published():
    assert match("Cardigan", IMAGENET.names) == 264
    assert match("cardigan", IMAGENET.names) == 474
    with pytest.raises(DatasetError, match="ambiguous"):
        match("CARDIGAN", IMAGENET.names, IMAGENET.ids)


def test_other_synonyms_match_where_the_wordnet_ids_are_known():
    assert match("Tinca tinca", IMAGENET.names, IMAGENET.ids) == 0
    assert match("tench, Tinca tinca", IMAGENET.names, IMAGENET.ids) == 0
    assert match("Tinca tinca", IMAGENET.names) is None
    # a synonym of one class that is the name of another means the other
    assert match("missile", IMAGENET.names, IMAGENET.ids) == IMAGENET.names.index("missile")
    with pytest.raises(DatasetError, match=r"n02509815 \(lesser panda\) and n02510455 \(giant panda\)"):
        match("panda", IMAGENET.names, IMAGENET.ids)


def test_synonyms_follow_the_ids_of_a_model_with_few_classes():
    assert match("Tinca tinca", ["banana", "fish"], ["n07753592", "n01440764"]) == 1


def test_names_made_of_separators_alone_stay_apart():
    assert match("_", ["-", "_"]) == 1


@given(st.lists(st.text(alphabet=string.ascii_letters + " _-.é猫", min_size=1), unique=True, min_size=1))
def test_every_name_as_written_finds_its_own_class(names):
    assert [match(name, names) for name in names] == list(range(len(names)))


def test_an_unknown_set_of_names_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'imagenet'"):
        class_names("imagnet")


def test_a_message_about_names_of_any_content_is_one_short_line() -> None:
    name = "\x1b[31m\n" + "x" * 5000
    with pytest.raises(DatasetError) as error:
        match(name, [name, "b", name])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
