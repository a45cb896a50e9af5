"""Maps of logits become masks of the photo's own size: against resize and argmax, on odd photos, as text and files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mobilenetv2 import image, plots
from mobilenetv2.data.masks import read_mask, voc_colours
from mobilenetv2.engine import reference
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.image import Geometry
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.results import Segmentation, class_names, decode, decode_segmentation
from mobilenetv2.spec import Backbone, DeepLab, Spec

RandomModel = Callable[..., ModelFile]
NAMES = ("background", "cat", "dog", "owl")
ANSWER = Segmentation(np.array([[0, 0, 0, 3], [0, 0, 3, 1]], np.uint8), NAMES)


def info_for(size: int | tuple[int, int] = 33, *, align_corners: bool = True, recipe: str = "deeplab") -> ModelInfo:
    spec = Spec(Backbone(output_stride=16), DeepLab(classes=3, align_corners=align_corners))
    return ModelInfo(spec, image.recipe(recipe, size), NAMES[1:])


def geometry_for(info: ModelInfo, height: int, width: int) -> Geometry:
    return image.prepare(np.zeros((height, width, 3), np.uint8), info.preprocessing)[1]


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (1, *shape, 4)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    photo=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    align_corners=st.booleans(),
)
def test_a_photo_that_was_not_resized_gets_the_official_mask(
    inputs: tuple[int, int], photo: tuple[int, int], size: tuple[int, int], align_corners: bool
) -> None:
    height, width = (min(pair) for pair in zip(inputs, photo, strict=True))
    info = info_for(inputs, align_corners=align_corners)
    raw = {"logits_map": logits(*size)}
    expected = reference.resize(raw["logits_map"], inputs, align_corners=align_corners)[0].argmax(-1)
    found = decode(raw, info, geometry_for(info, height, width))
    assert isinstance(found, Segmentation)
    assert found.mask.dtype == np.uint8
    np.testing.assert_array_equal(found.mask, expected[:height, :width])


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("recipe", ["deeplab", "ssd", "torchvision-v1"])
def test_a_photo_of_another_size_finds_its_pixels_where_they_went(recipe: str, align_corners: bool) -> None:
    info = info_for((64, 64), align_corners=align_corners, recipe=recipe)
    logits_1hwL = np.full((1, 64, 64, 4), -1, np.float32)  # as many places as pixels: either rule keeps them there
    geometry = geometry_for(info, 130, 200)
    (left, top, right, bottom) = geometry.boxes_to_input((60, 40, 120, 90)).round().astype(int)
    logits_1hwL[..., 0] = 0
    logits_1hwL[0, top:bottom, left:right, 2] = 1
    mask_HW = decode_segmentation({"logits_map": logits_1hwL}, info, geometry).mask
    assert mask_HW.shape == (130, 200)
    rows, columns = np.nonzero(mask_HW == 2)
    within = 1.01 / min(geometry.scale)  # a pixel of the input
    assert abs(rows.min() - 40) < within
    assert abs(rows.max() + 1 - 90) < within
    assert abs(columns.min() - 60) < within
    assert abs(columns.max() + 1 - 120) < within


def test_a_way_of_ones_own_to_make_masks_is_asked() -> None:
    info = info_for()
    asked: list[tuple[int, int]] = []

    def own(maps: np.ndarray, rows: object, columns: object) -> np.ndarray:
        asked.append(maps.shape[1:3])
        return np.full((1, 5, 7), 3, np.uint8)

    found = decode_segmentation({"logits_map": logits(3, 3)}, info, geometry_for(info, 5, 7), best_classes=own)
    assert asked == [(3, 3)]
    assert (found.mask == 3).all()


def test_a_map_that_is_not_finite_is_an_error() -> None:
    raw = {"logits_map": logits(3, 3)}
    raw["logits_map"][0, 1, 2, 3] = np.nan
    with pytest.raises(Error, match="not finite"):
        decode_segmentation(raw, info_for(), geometry_for(info_for(), 5, 7))


def test_classes_are_listed_the_largest_first() -> None:
    assert [(a.index, a.label, a.pixels, a.share) for a in ANSWER.areas] == [
        (0, "background", 5, 0.625),
        (3, "owl", 2, 0.25),
        (1, "cat", 1, 0.125),
    ]
    lines = str(ANSWER).splitlines()
    assert [line.split() for line in lines] == [
        ["62.5", "%", "background", "5", "pixels"],
        ["25.0", "%", "owl", "2", "pixels"],
        ["12.5", "%", "cat", "1", "pixels"],
    ]


def test_json_has_what_is_there_and_where_the_mask_is() -> None:
    assert ANSWER.to_json(file="a.jpg", mask=Path("a.png")) == {
        "file": "a.jpg",
        "task": "segmentation",
        "classes": [
            {"index": 0, "label": "background", "pixels": 5},
            {"index": 3, "label": "owl", "pixels": 2},
            {"index": 1, "label": "cat", "pixels": 1},
        ],
        "mask": "a.png",
    }
    assert set(ANSWER.to_json()) == {"task", "classes"}


def test_run_lengths_are_those_that_coco_reads() -> None:
    for one in ANSWER.to_json(run_lengths=True)["classes"]:
        coded: Any = {"size": one["rle"]["size"], "counts": one["rle"]["counts"].encode()}
        assert coded["size"] == [2, 4]
        assert coco_mask.area(coded) == one["pixels"]
        assert coded["counts"] == coco_mask.encode(np.asfortranarray(ANSWER.mask == one["index"], np.uint8))["counts"]


def test_a_masks_file_holds_the_classes_and_vocs_colours(tmp_path: Path) -> None:
    ANSWER.save_mask(tmp_path / "new" / "mask.png")
    stated = read_mask(tmp_path / "new" / "mask.png")
    np.testing.assert_array_equal(stated.values, ANSWER.mask)
    with Image.open(tmp_path / "new" / "mask.png") as file:
        assert file.mode == "P"
        assert tuple(np.asarray(file.convert("RGB"))[1, 2]) == voc_colours(4)[3]


def test_a_drawing_shows_classes_in_their_colours_above_a_legend() -> None:
    mask_HW = np.zeros((300, 600), np.uint8)
    mask_HW[:, 300:] = 3
    grey = np.full((300, 600, 3), 128, np.uint8)
    drawn = Segmentation(mask_HW, NAMES).draw(grey, title="what it is")
    assert drawn.shape[0] > 300
    assert drawn.shape[1] == 600
    np.testing.assert_array_equal(drawn[150, 100], (128, 128, 128))
    expected = np.round(0.4 * 128 + 0.6 * np.array(plots.colour_of(3)))
    np.testing.assert_array_equal(drawn[150, 500], expected)
    assert (drawn[300:] == plots.colour_of(3)).all(-1).any()
    assert not (drawn[300:] == plots.colour_of(1)).all(-1).any()
    bare = Segmentation(np.zeros((300, 600), np.uint8), NAMES).draw(grey)
    np.testing.assert_array_equal(bare, grey)
    with pytest.raises(UsageError, match="the mask has"):
        ANSWER.draw(grey)


@pytest.mark.parametrize(
    ("background", "names"),
    [("first", ("background", "x", "y")), ("last", ("x", "y", "background")), ("none", ("x", "y"))],
)
def test_background_is_named_where_the_model_has_it(background: str, names: tuple[str, ...]) -> None:
    spec = Spec(Backbone(), DeepLab(classes=2, background=background))  # pyright: ignore[reportArgumentType]
    assert class_names(ModelInfo(spec, image.recipe("deeplab", 33), ("x", "y"))) == names
