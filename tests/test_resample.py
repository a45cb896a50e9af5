"""A recipe gives what its own library gives, travels as JSON, and its geometry leads back to the photo."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import image
from mobilenetv2.errors import ImageError, UsageError
from mobilenetv2.image import RECIPES, Geometry, Preprocessing

# Libraries are compared in units of 0..1 per channel; one level of 255 is what uint8 rounding may differ by.
ONE_LEVEL = 1 / 255
# height, width: upright, wide, both odd, margins of 1 and 3 pixels after the resize, smaller than the network's input
SIZES = ((606, 517), (375, 500), (501, 333), (257, 256), (256, 259), (700, 211), (50, 41))

sides = st.integers(1, 70)
recipes = st.builds(image.recipe, st.sampled_from(RECIPES), st.tuples(st.integers(1, 40), st.integers(1, 40)))


@pytest.fixture(scope="module")
def photos(grace_hopper: Path) -> list[np.ndarray]:
    """Parts of a real photo, of `SIZES`."""
    rgb = np.pad(image.read(grace_hopper), ((0, 100), (0, 0), (0, 0)), mode="reflect")
    return [np.ascontiguousarray(rgb[:height, :width]) for height, width in SIZES]


def model_input(rgb: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """float32 [h, w, C], normalised."""
    prepared: Any = image.prepare(rgb, preprocessing)[0]
    return image.normalise(prepared, preprocessing) if prepared.dtype == np.uint8 else prepared


def difference(rgb: np.ndarray, preprocessing: Preprocessing, normalised_CHW: Any) -> float:
    """The largest difference from a library's normalised input, in units of 0..1 per channel."""
    mine = model_input(rgb, preprocessing)
    theirs = np.asarray(normalised_CHW).transpose(1, 2, 0)
    assert mine.dtype == np.float32
    assert mine.shape == theirs.shape
    return float((np.abs(mine - theirs) * np.array(preprocessing.std) / 255).max())


def test_torchvision_s_own_presets(photos: list[np.ndarray]) -> None:
    weights = pytest.importorskip("torchvision").models.MobileNet_V2_Weights
    for name, preset in (("torchvision-v1", weights.IMAGENET1K_V1), ("torchvision-v2", weights.IMAGENET1K_V2)):
        transform = preset.transforms()  # downloads nothing
        for rgb in photos:
            found = difference(rgb, image.recipe(name, 224), transform(Image.fromarray(rgb)))
            assert found < 1e-6, (name, rgb.shape)  # the same Pillow: equal but for the order of float operations


@pytest.mark.parametrize("side", [224, 160, 96])
def test_timm_s_evaluation_transform(photos: list[np.ndarray], side: int) -> None:
    create_transform = pytest.importorskip("timm.data").create_transform
    preprocessing = image.recipe("timm", side)
    options = {"mean": [m / 255 for m in preprocessing.mean], "std": [s / 255 for s in preprocessing.std]}
    transform = create_transform((3, side, side), interpolation="bicubic", crop_pct=0.875, **options)
    for rgb in photos:
        assert difference(rgb, preprocessing, transform(Image.fromarray(rgb))) < 1e-6, rgb.shape


def test_transformers_image_processors(photos: list[np.ndarray]) -> None:
    """The one made of Pillow is equal; the one made of torch rounds some pixels the other way."""
    package = "transformers.models.mobilenet_v2."
    pil = pytest.importorskip(package + "image_processing_pil_mobilenet_v2").MobileNetV2ImageProcessorPil()
    fast = pytest.importorskip(package + "image_processing_mobilenet_v2").MobileNetV2ImageProcessor()
    for rgb in photos:
        for processor, limit in ((pil, 1e-6), (fast, ONE_LEVEL + 1e-6)):
            values = processor(Image.fromarray(rgb), return_tensors="np")["pixel_values"][0]
            assert difference(rgb, image.recipe("hf", 224), values) < limit, (type(processor).__name__, rgb.shape)


def central_crop_then_bilinear(rgb: np.ndarray, side: int, *, half_pixel: bool) -> np.ndarray:
    """tf.image.central_crop(0.875), then bilinear without antialiasing, pixel by pixel; values 0..255."""
    top, left = (int((length - length * 0.875) / 2) for length in rgb.shape[:2])
    kept = rgb[top : rgb.shape[0] - top, left : rgb.shape[1] - left].astype(float)
    height, width = kept.shape[:2]
    result = np.empty((side, side, 3))
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            if half_pixel:
                y, x = (i + 0.5) * height / side - 0.5, (j + 0.5) * width / side - 0.5
            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            upper = kept[y0, x0] * (1 - (x - x0)) + kept[y0, x1] * (x - x0)
            lower = kept[y1, x0] * (1 - (x - x0)) + kept[y1, x1] * (x - x0)
            result[i, j] = upper * (1 - (y - y0)) + lower * (y - y0)
    return result


@pytest.mark.parametrize("shape", [(40, 57), (9, 9), (101, 64), (1, 1), (33, 200)])
def test_slim_and_keras_are_the_written_out_formula(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for name, half_pixel in (("slim", False), ("keras", True)):
        expected = central_crop_then_bilinear(rgb, 24, half_pixel=half_pixel) / 127.5 - 1
        found, _ = image.prepare(rgb, image.recipe(name, 24))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-4)  # float32 places: 200 * 2**-24 of a step of 255


def test_the_two_bilinears_differ_by_half_a_pixel() -> None:
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    slim, keras = (
        replace(image.recipe(name, 8), central_fraction=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        for name in ("slim", "keras")
    )
    assert image.prepare(ramp, slim)[0][0, :, 0].tolist() == [0, 20, 40, 60, 80, 100, 120, 140]
    assert image.prepare(ramp, keras)[0][0, :, 0].tolist() == [5, 25, 45, 65, 85, 105, 125, 145]


def test_the_recipes_at_their_published_sizes() -> None:
    assert RECIPES == ("slim", "keras", "torchvision-v1", "torchvision-v2", "timm", "hf", "ssd", "deeplab", "ssd-tf")
    resize_to = {
        (name, side): image.recipe(name, side).resize_to
        for name, side in (
            *(("torchvision-v1", side) for side in (224, 192, 96)),
            *(("torchvision-v2", side) for side in (224, 160)),
            *(("timm", side) for side in (224, 160, 128)),
            *(("hf", side) for side in (224, 96, 513)),
        )
    }
    assert list(resize_to.values()) == [256, 219, 109, 232, 168, 256, 182, 146, 256, 128, 545]
    for name in RECIPES:
        oblong = image.recipe(name, (160, 224))
        assert (oblong.size, oblong.recipe) == ((160, 224), name)
        assert oblong.resize_to == image.recipe(name, 224).resize_to


def test_an_unknown_recipe_gets_the_nearest_one_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean 'torchvision-v2'"):
        image.recipe("torchvison-v2", 224)
    for size in (0, (224, -1), True):
        with pytest.raises(UsageError, match=r"size .* must be a list|size must be a whole number"):
            image.recipe("slim", size)


@settings(deadline=None)
@given(recipes)
def test_a_recipe_survives_json(preprocessing: Preprocessing) -> None:
    import json

    assert image.preprocessing_from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sise": [1, 1]}, "unknown preprocessing field 'sise': did you mean 'size'"),
        ({"size": [224]}, r"size \(height, width\) must have 2 entries, got 1"),
        ({"size": [224, 224.5]}, "size must be a whole number from 1 to 8,192, got 224.5"),
        ({"resize": "longest"}, "unknown preprocessing resize 'longest'"),
        ({"resize_to": None}, "resize_to must be a whole number from 1 to 10,000, got None"),
        ({"resize": "none"}, "resize_to must be None where resize is 'none', got 256"),
        ({"interpolation": "pil-bilinaer"}, "did you mean 'pil-bilinear'"),
        ({"interpolation": ["pil-bilinear"]}, "unknown preprocessing interpolation"),
        ({"central_fraction": 0}, "central_fraction must be a number at least 0.0001 and at most 1, got 0"),
        ({"central_fraction": True}, "central_fraction must be a number .* got True"),
        ({"crop_offset": "up"}, "unknown preprocessing crop_offset 'up'"),
        ({"mean": 127.5}, "mean must be a list, got 127.5"),
        ({"mean": ["a"]}, "mean must be a number at least -1,000,000 and at most 1,000,000, got 'a'"),
        ({"std": [1, 1, 0]}, "std must be a number at least 1e-06 and at most 1,000,000, got 0"),
        ({"std": [1, 1]}, r"std \(one for each mean\) must have 3 entries, got 2"),
        ({"std": [1, 1, math.nan]}, "std must be a number .* got nan"),
        ({"recipe": ""}, "recipe must be a text of 1 to 10,000 characters, got ''"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image.preprocessing_from_json(image.recipe("hf", 224).to_json() | change)


def test_a_missing_field_is_named_unless_it_has_a_default() -> None:
    whole = image.recipe("timm", 224).to_json()
    for field in ("size", "resize", "resize_to", "interpolation", "mean", "std"):
        with pytest.raises(UsageError, match=f"preprocessing field '{field}' is missing"):
            image.preprocessing_from_json({name: value for name, value in whole.items() if name != field})
    optional = {name: whole[name] for name in whole if name not in ("central_fraction", "crop_offset", "recipe")}
    assert image.preprocessing_from_json(optional) == replace(image.recipe("timm", 224), recipe="custom")
    with pytest.raises(UsageError, match="must be a JSON object"):
        image.preprocessing_from_json([whole])


def test_override_changes_what_it_is_asked_to() -> None:
    slim = image.recipe("slim", 224)
    assert image.override(slim) == slim
    assert image.override(slim, crop=224) == slim
    prescaled = image.override(slim, resize="none", crop=192)
    assert (prescaled.resize, prescaled.resize_to, prescaled.central_fraction) == ("none", None, 1.0)
    assert (prescaled.size, prescaled.recipe, prescaled.mean) == ((192, 192), "custom", slim.mean)
    short = image.override(slim, resize=256)
    assert (short.resize, short.resize_to, short.central_fraction, short.size) == ("short", 256, 1.0, (224, 224))
    assert image.override(image.recipe("hf", 224), crop=96).resize_to == 256
    wrongs: tuple[dict[str, Any], ...] = ({"resize": 0}, {"resize": "short"}, {"crop": -3}, {"crop": True})
    for wrong in wrongs:
        with pytest.raises(UsageError, match="must be a whole number from 1 to "):
            image.override(slim, **wrong)


def test_without_a_resize_the_middle_of_the_pixels_is_taken_as_it_is() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (227, 227, 3), dtype=np.uint8)
    for name, first in (("torchvision-v1", 2), ("slim", 1), ("hf", 1)):  # 1.5: to even, or down
        prepared, geometry = image.prepare(rgb, image.override(image.recipe(name, 224), resize="none"))
        assert np.array_equal(prepared, rgb[first : first + 224, first : first + 224])
        assert geometry == Geometry(227, 227, (1.0, 1.0), (-first, -first))


@settings(deadline=None)
@given(sides, sides, sides, sides)
def test_the_crop_and_its_zeros_are_torchvision_s(height: int, width: int, rows: int, columns: int) -> None:
    center_crop = pytest.importorskip("torchvision").transforms.functional.center_crop
    rgb = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    as_is = replace(image.override(image.recipe("timm", 8), resize="none"), size=(rows, columns))
    expected = np.asarray(center_crop(Image.fromarray(rgb), [rows, columns]))
    assert np.array_equal(image.prepare(rgb, as_is)[0], expected)


@settings(deadline=None)
@given(sides, sides, recipes)
def test_any_size_gives_the_network_s_size_and_boxes_come_back(
    height: int, width: int, preprocessing: Preprocessing
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    prepared, geometry = image.prepare(rgb, preprocessing)
    assert prepared.shape == (*preprocessing.size, 3)
    assert prepared.flags.c_contiguous
    assert prepared.flags.writeable
    assert prepared.dtype == (np.float32 if preprocessing.interpolation.startswith("tf") else np.uint8)
    assert (geometry.photo_height, geometry.photo_width) == (height, width)
    boxes_xyxy = np.random.default_rng(1).uniform(-10, 80, (5, 4))
    np.testing.assert_allclose(geometry.boxes_to_photo(geometry.boxes_to_input(boxes_xyxy)), boxes_xyxy, atol=1e-9)
    points_xy = boxes_xyxy[:, 2:]
    np.testing.assert_allclose(geometry.points_to_input(geometry.points_to_photo(points_xy)), points_xy, atol=1e-9)
    assert np.array_equal(geometry.boxes_to_input(boxes_xyxy)[:, :2], geometry.points_to_input(boxes_xyxy[:, :2]))
    assert geometry.boxes_to_photo(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [(300, 200), (211, 340), (60, 60)])
def test_a_mark_on_the_photo_is_found_where_the_geometry_says(name: str, shape: tuple[int, int]) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    box_xyxy = np.array([0.45 * shape[1], 0.4 * shape[0], 0.65 * shape[1], 0.6 * shape[0]]).round()
    x1, y1, x2, y2 = box_xyxy.astype(int)
    photo[y1:y2, x1:x2] = 255
    preprocessing = image.recipe(name, 112)
    prepared, geometry = image.prepare(photo, preprocessing)
    bright = prepared[..., 0] > (prepared[..., 0].min() + prepared[..., 0].max()) / 2
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    found_xyxy = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(geometry.boxes_to_input(box_xyxy), found_xyxy, atol=1.01)


def test_networks_of_one_channel_get_grey_and_other_counts_take_arrays() -> None:
    rgb = np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8, 1), 3, axis=2)
    rgb[..., 1] += 100
    for interpolation in ("pil-bilinear", "tf2-bilinear"):
        for channels in (1, 2, 5):
            p = replace(
                image.override(image.recipe("timm", 4), resize=4),
                interpolation=interpolation, mean=(10.0,) * channels, std=(2.0,) * channels,
            )  # fmt: skip
            many = np.dstack([rgb[..., 0] + c for c in range(channels)])
            together = model_input(many, p)
            assert together.shape == (4, 4, channels)
            one = replace(p, mean=(10.0,), std=(2.0,))
            for c in range(channels):
                assert np.array_equal(together[..., c], model_input(many[..., c : c + 1], one)[..., 0])
            assert np.array_equal(image.load(many, p)[0], image.prepare(many, p)[0])
    grey = replace(image.override(image.recipe("hf", 6), resize="none"), size=(6, 8), mean=(0.0,), std=(1.0,))
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(image.prepare(rgb, grey)[0][..., 0] - luma).max() <= 0.51
    with pytest.raises(UsageError, match="the network takes 3 channels, the picture has 5"):
        image.prepare(np.zeros((9, 9, 5), np.uint8), image.recipe("hf", 4))
    with pytest.raises(UsageError, match=r"uint8 \[H, W, C\]"):
        image.prepare(np.zeros((9, 9), np.uint8), image.recipe("hf", 4))


def test_normalise_works_on_batches_and_takes_only_pixels() -> None:
    preprocessing = image.recipe("torchvision-v1", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(image.normalise(pixels, preprocessing), expected, atol=1e-6)
    for wrong in (pixels.astype(np.float32), pixels[..., :2]):
        with pytest.raises(UsageError, match=r"normalise takes uint8 \[..., 3\]"):
            image.normalise(wrong, preprocessing)  # pyright: ignore[reportArgumentType]


def test_a_picture_too_narrow_to_be_resized_is_refused() -> None:
    with pytest.raises(ImageError, match="2 x 1000000 pixels would be resized to 256 x 128000000: too narrow"):
        image.prepare(np.zeros((1_000_000, 2, 3), np.uint8), image.recipe("hf", 224))


def test_load_names_the_file_whose_shape_is_impossible(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("RGB", (20_000, 1)).save(path)
    with pytest.raises(ImageError, match=r"line\.png: 20000 x 1 pixels would be resized to 5120000 x 256"):
        image.load(path, image.recipe("hf", 224))
