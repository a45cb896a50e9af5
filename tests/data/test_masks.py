"""What masks mean: values, palettes, colours, lists of classes in several spellings, and what is ignored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segmentation_files import mask_of

from mobilenetv2.data.coco_masks import Outline, run_lengths
from mobilenetv2.data.mask_classes import VOC, Entry, decide, read_list
from mobilenetv2.data.masks import MaskFile, read_mask, voc_colours
from mobilenetv2.errors import DatasetError, Error, UsageError

MASK = mask_of("0012", "012.")
RGB = {0: (10, 0, 0), 1: (0, 20, 0), 2: (0, 0, 30), 255: (255, 255, 255)}
ENTRIES = (Entry("sky", 0), Entry("car", 1), Entry("tree", 2))
COLOURED = (Entry("sky", 0, RGB[0]), Entry("car", 1, RGB[1]), Entry("tree", 2, RGB[2]), Entry("void", 3, RGB[255]))


def painted(mask_HW: np.ndarray) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for value, colour in RGB.items():
        table[value] = colour
    return table[mask_HW]


def read(picture: Image.Image, path: Path, entries: tuple[Entry, ...] = ENTRIES) -> list:
    picture.save(path)
    return MaskFile(path, decide(entries, {0: 1, 1: 1, 2: 1, 255: 1}, 1).coding).read().tolist()


def with_palette(mask_HW: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    picture = Image.fromarray(mask_HW)
    picture.putpalette([level for colour in colours for level in colour], "RGB")
    return picture


def test_the_values_of_every_kind_of_file_are_read(tmp_path: Path) -> None:
    grey = Image.fromarray(MASK)
    opaque = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    pictures = {
        "grey.png": grey,
        "palette.png": with_palette(MASK, [(3 * i % 256, 0, 9) for i in range(256)]),
        "rgb.png": Image.merge("RGB", [grey] * 3),
        "rgba.png": Image.merge("RGBA", [*[grey] * 3, Image.new("L", grey.size, 255)]),
        "alpha.png": opaque,
        "wide.png": Image.fromarray(MASK.astype(np.uint16)),
        "grey.bmp": grey,
        "grey.tif": grey,
    }
    for name, picture in pictures.items():
        assert read(picture, tmp_path / name) == MASK.tolist(), name
    bits = Image.fromarray(MASK == 1)
    assert read(bits, tmp_path / "bits.png") == (MASK == 1).astype(int).tolist()


def test_colours_mean_what_the_list_says(tmp_path: Path) -> None:
    assert read(Image.fromarray(painted(MASK)), tmp_path / "rgb.png", COLOURED) == MASK.tolist()
    # an optimiser numbers the colours of a palette as it likes
    order = {0: 3, 1: 2, 2: 0, 255: 1}
    shuffled = np.vectorize(order.get)(MASK).astype(np.uint8)
    palette = [RGB[value] for value, _ in sorted(order.items(), key=lambda pair: pair[1])]
    assert read(with_palette(shuffled, palette), tmp_path / "palette.png", COLOURED) == MASK.tolist()
    # index masks with a list of colours: the values count
    assert read(Image.fromarray(MASK), tmp_path / "grey.png", COLOURED) == MASK.tolist()
    colours = np.array(voc_colours(256), np.uint8)
    voc = MaskFile(tmp_path / "voc.png", decide(VOC, {}, 0).coding)
    Image.fromarray(colours[MASK]).save(voc.path)
    assert voc.read().tolist() == MASK.tolist()


def test_vocs_colours_are_vocs() -> None:
    assert voc_colours(256)[0] == (0, 0, 0)
    assert voc_colours(256)[1:4] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert voc_colours(256)[15] == (192, 128, 128)  # person
    assert voc_colours(256)[255] == (224, 224, 192)
    assert len(set(voc_colours(256))) == 256


def test_vocs_colours_are_those_in_its_files(real_data: Path) -> None:
    file = real_data / "segmentation" / "voc2012_49" / "SegmentationClass" / "2007_000032.png"
    stated = read_mask(file).colours
    assert stated.tolist() == [red << 16 | green << 8 | blue for red, green, blue in voc_colours(256)]


def test_what_cannot_be_a_mask_is_said_in_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    whole = tmp_path / "whole.png"
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(whole)
    cases: list[tuple[str, object, str]] = [
        ("a.jpg", Image.fromarray(MASK), "is a JPEG, which changes a mask's values"),
        ("wide.png", Image.fromarray(np.full((2, 2), 300, np.uint16)), "has the value 300"),
        ("values.png", Image.fromarray(mask_of("0079")), r"values 7, 9 \(2 pixels\) are none of the 3 classes"),
        ("value.png", Image.fromarray(mask_of("0007")), r"value 7 \(1 pixels\) is none of the 3 classes"),
        ("colours.png", noise, "is coloured .* say what colours mean"),
        ("float.tif", Image.fromarray(np.zeros((2, 2), np.float32)), "pixels of kind F"),
        ("cut.png", whole.read_bytes()[:60], "damaged or cut short"),
        ("text.png", b"hello", "is not a JPEG, PNG"),
    ]
    for name, content, words in cases:
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            assert isinstance(content, Image.Image)
            content.save(tmp_path / name)
        with pytest.raises(Error, match=words) as caught:
            MaskFile(tmp_path / name, decide(ENTRIES, {}, 0).coding).read()
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    noise.save(tmp_path / "other.png")
    with pytest.raises(DatasetError, match="are none of those in the list of classes"):
        MaskFile(tmp_path / "other.png", decide(COLOURED, {}, 0).coding).read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sky\ncar\ntraffic light\n", [("sky", 0, None), ("car", 1, None), ("traffic light", 2, None)]),
        ("\ufeffsky\r\n\r\ncar\r\n", [("sky", 0, None), ("car", 1, None)]),
        ("0 sky\n2: traffic light\n", [("sky", 0, None), ("traffic light", 2, None)]),
        ("traffic light 1 2 3\ncar, 4, 5, 6\n", [("traffic light", 0, (1, 2, 3)), ("car", 1, (4, 5, 6))]),
        ("name,r,g,b\nsky,1,2,3\n", [("sky", 0, (1, 2, 3))]),
        ("64 128 64\tTraffic Light\n192 0 128 Car\n", [("Traffic Light", 0, (64, 128, 64)), ("Car", 1, (192, 0, 128))]),
        ("# label:color_rgb:parts\nsky:0,0,0::\ncat:128,0,0::\n", [("sky", 0, (0, 0, 0)), ("cat", 1, (128, 0, 0))]),
        ("__ignore__\n_background_\ncat\n", [("_background_", 0, None), ("cat", 1, None)]),
        ("area 1\narea 2\n", [("area 1", 0, None), ("area 2", 1, None)]),
    ],
)  # fmt: skip
def test_lists_of_classes_are_read_in_their_usual_spellings(text: str, expected: list, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode())
    found = read_list(tmp_path / "classes.txt")
    assert [(entry.name, entry.value, entry.colour) for entry in found] == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "on every line"), (b"a\na\n", "two classes have the name a"), (b"\xff\xfe\x00", "not a text file"),
        (b"a 1 2 3\nb 1 2 3\n", "two classes have the colour"),
        ("\n".join(map(str, range(256))).encode(), "256 classes"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_understood_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        read_list(tmp_path / "classes.txt")


def test_what_is_ignored_is_found_out_and_said() -> None:
    def meaning(entries: tuple[Entry, ...] | None, seen: dict[int, int], **options: int) -> tuple[list, dict, str]:
        found = decide(entries, seen, 20, **options)
        return list(found.names), dict(found.coding.values), "; ".join(found.notes)

    # 255 is there: nothing to find out
    names, values, notes = meaning(ENTRIES, {0: 20, 1: 20, 2: 1, 255: 4})
    assert (names, values, notes) == (["sky", "car", "tree"], {0: 0, 1: 1, 2: 2, 255: 255}, "")
    # one value without a name, in many masks: CamVid's void
    _, values, notes = meaning(ENTRIES, {0: 20, 1: 20, 3: 20})
    assert values[3] == 255
    assert "the value 3, in 20 of 20 masks, is no class of the list: it is ignored" in notes
    # rare, or one of several, or beside 255: a mistake, which reading names
    for seen in ({0: 20, 3: 1}, {0: 20, 3: 20, 4: 20}, {0: 20, 3: 20, 255: 20}):
        assert 3 not in meaning(ENTRIES, seen)[1]
    assert meaning(ENTRIES, {0: 20, 3: 1}, ignore=3)[1][3] == 255
    # a name that says so
    names, values, notes = meaning((Entry("Unlabelled", 0), Entry("car", 1), Entry("tree", 7)), {0: 20, 1: 20})
    assert (names, values) == (["car", "tree"], {0: 255, 1: 0, 7: 1, 255: 255})
    assert "Unlabelled: pixels of this name are ignored" in notes
    # a class that is ignored on demand
    assert meaning(ENTRIES, {0: 20}, ignore=0)[:2] == (["car", "tree"], {0: 255, 1: 0, 2: 1, 255: 255})
    # no list: numbers, 255 or nothing ignored
    names, values, notes = meaning(None, {0: 20, 3: 20})
    assert (names, values[3]) == (["0", "1", "2", "3"], 3)
    assert "the values 0 to 3 of the masks are taken as classes, none is ignored" in notes
    assert meaning(None, {0: 20, 1: 20, 3: 20}, ignore=3)[0] == ["0", "1"]
    # black and white
    assert meaning(None, {0: 20, 255: 20})[:2] == (["background", "foreground"], {0: 0, 255: 1})
    assert meaning((Entry("floor", 0), Entry("rug", 1)), {0: 20, 255: 20})[:2] == (["floor", "rug"], {0: 0, 255: 1})
    assert meaning(None, {0: 20, 255: 20}, ignore=255)[1][255] == 255
    with pytest.raises(UsageError, match="--ignore must be a value of the masks, 0 to 255, got 256"):
        meaning(ENTRIES, {}, ignore=256)
    with pytest.raises(DatasetError, match="coloured: what colours mean"):
        meaning(None, {})
    with pytest.raises(DatasetError, match="has none that counts"):
        meaning((Entry("void", 0),), {0: 20})


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_compressed_runrun_lengths_are_what_pycocotools_writes(h: int, w: int, share: float, seed: int) -> None:
    from pycocotools import mask

    inside = np.asfortranarray((np.random.default_rng(seed).random((h, w)) < share).astype(np.uint8))
    lengths = np.array(run_lengths(mask.encode(inside)["counts"]), np.int64)
    runs = Outline(1, lengths).runs(h, w)
    assert (inside == np.repeat(np.arange(len(runs)) % 2, runs).reshape(w, h).T).all()
