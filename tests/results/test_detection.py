"""Raw outputs become boxes on the photo: against the plain way, at the edges, on odd photos, and on real weights."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilenetv2
from mobilenetv2 import boxes, image
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.image import Geometry
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.results import (
    Detection,
    Detections,
    coco_categories,
    coco_image_id,
    decode,
    decode_detections,
)
from mobilenetv2.spec import Backbone, Spec, SSDLite

RandomModel = Callable[..., ModelFile]
Raw = dict[str, np.ndarray]

ANSWER = Detections(
    (
        Detection(11, "dog", 0.93456789, (10.126, 20.0, 110.5, 220.25)),
        Detection(0, "aeroplane", 0.0002, (0.0, 0.0, 5.0, 5.0)),
    )
)


def info_for(size: int | tuple[int, int] = 96, **head: Any) -> ModelInfo:
    labels = tuple(f"name {i}" for i in range(head.get("classes", 3)))
    spec = Spec(Backbone(width_mult=0.35), SSDLite(**{"classes": 3, **head}))
    return ModelInfo(spec, image.recipe("ssd", size), labels)


def geometry_for(info: ModelInfo, height: int, width: int) -> Geometry:
    return image.prepare(np.zeros((height, width, 3), np.uint8), info.preprocessing)[1]


def nothing(info: ModelInfo) -> Raw:
    """Raw outputs that say background everywhere, and boxes where the anchors are."""
    assert isinstance(info.spec.head, SSDLite)
    anchors = len(boxes.anchors(info.spec, info.preprocessing.size))
    return {
        "class_logits": np.full((1, anchors, info.spec.head.outputs), -20, np.float32),
        "box_deltas": np.zeros((1, anchors, 4), np.float32),
    }


def put(raw: Raw, info: ModelInfo, anchor: int, output: int, logit: float, box_xyxy_norm: tuple[float, ...]) -> None:
    """Make `anchor` say that this is there."""
    assert isinstance(info.spec.head, SSDLite)
    beside = boxes.anchors(info.spec, info.preprocessing.size)[anchor]
    wanted = boxes.cxcywh_from_xyxy(np.array(box_xyxy_norm))
    raw["box_deltas"][0, anchor] = boxes.encode(wanted, beside, info.spec.head.coder)
    raw["class_logits"][0, anchor, output] = logit


@pytest.mark.parametrize(("background", "output"), [("none", 1), ("first", 2), ("last", 1)])
def test_a_box_comes_back_in_pixels_of_the_photo_with_its_class(background: str, output: int) -> None:
    info = info_for(background=background)
    raw = nothing(info)
    put(raw, info, 40, output, math.log(4), (0.25, 0.1, 0.5, 0.8))
    (found,) = decode_detections(raw, info, geometry_for(info, 300, 400)).detections
    assert (found.index, found.label) == (1, "name 1")
    assert found.score == pytest.approx(0.8)
    assert found.box_xyxy == pytest.approx((100, 30, 200, 240), abs=0.01)


def test_softmax_shares_the_scores_among_all_outputs() -> None:
    info = info_for(score="softmax")
    raw = nothing(info)
    put(raw, info, 3, 1, -20 + math.log(7), (0.1, 0.1, 0.6, 0.6))  # against three others at -20
    (found,) = decode_detections(raw, info, geometry_for(info, 96, 96)).detections
    assert (found.index, found.score) == (0, pytest.approx(0.7))


def test_what_the_model_file_says_holds_where_nobody_says_otherwise() -> None:
    info = info_for(score_threshold=0.5, iou_threshold=0.4, most=2, most_per_class=1)
    raw = nothing(info)
    geometry = geometry_for(info, 100, 100)
    put(raw, info, 0, 1, 3.0, (0.0, 0.0, 0.5, 0.5))
    put(raw, info, 1, 1, 2.5, (0.0, 0.0, 0.5, 0.3))  # IoU 0.6
    put(raw, info, 2, 2, 2.0, (0.0, 0.0, 0.5, 0.5))  # another class may be there too
    put(raw, info, 3, 3, 1.0, (0.5, 0.5, 1.0, 1.0))
    put(raw, info, 4, 3, -1.0, (0.0, 0.5, 0.2, 1.0))

    def places(answer: Detections) -> list[int]:
        return [d.index for d in answer.detections]

    assert places(decode_detections(raw, info, geometry)) == [0, 1]
    assert places(decode_detections(raw, info, geometry, most=9)) == [0, 1, 2]
    assert places(decode_detections(raw, info, geometry, most=9, score=0.9)) == [0]
    assert places(decode_detections(raw, info, geometry, most=9, score=0.1)) == [0, 1, 2]  # one of a class
    many = replace(info, spec=Spec(info.spec.backbone, replace(info.spec.head, most_per_class=5)))
    assert places(decode_detections(raw, many, geometry, most=9, score=0.1)) == [0, 1, 2, 2]
    assert places(decode_detections(raw, many, geometry, most=9, iou=0.7)) == [0, 0, 1, 2]


def test_boxes_are_cut_to_the_photo_and_what_is_outside_is_left_out() -> None:
    info = info_for()
    raw = nothing(info)
    put(raw, info, 0, 1, 5.0, (-0.5, 0.2, 0.5, 1.7))
    put(raw, info, 9, 2, 5.0, (1.1, 0.2, 1.3, 0.4))
    (found,) = decode_detections(raw, info, geometry_for(info, 50, 200)).detections
    assert found.box_xyxy == pytest.approx((0, 10, 100, 50), abs=0.01)


def test_nothing_is_an_answer_too() -> None:
    info = info_for()
    answer = decode(nothing(info), info, geometry_for(info, 50, 60))
    assert answer == Detections(())
    assert str(answer) == "  nothing found"
    assert answer.to_json(file="a.jpg") == {"file": "a.jpg", "task": "detection", "detections": []}
    photo = np.full((500, 600, 3), 90, np.uint8)
    assert np.array_equal(answer.draw(photo), photo)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": 1.5}, "score must be a number at least 0 and at most 1, got 1.5"),
        ({"iou": -0.1}, "iou must be a number at least 0 and at most 1, got -0.1"),
        ({"most": 0}, "most must be a whole number from 1 up, got 0"),
    ],
)
def test_options_out_of_their_range_are_named(options: dict[str, Any], words: str) -> None:
    info = info_for()
    with pytest.raises(UsageError, match=words):
        decode_detections(nothing(info), info, geometry_for(info, 9, 9), **options)


@pytest.mark.parametrize("name", ["class_logits", "box_deltas"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_output_that_is_not_finite_is_an_error_and_no_answer(name: str, bad: float) -> None:
    info = info_for()
    raw = nothing(info)
    raw[name][0, 5, 1] = bad
    with pytest.raises(Error, match="outputs are not finite"):
        decode_detections(raw, info, geometry_for(info, 9, 9))


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_the_largest_floats_do_not_overflow(score: str) -> None:
    info = info_for(score=score)
    raw = nothing(info)
    raw["class_logits"][0, :3] = [[3e38, -3e38, 0, 3e38], [-3e38] * 4, [0, 3e38, -3e38, 0]]
    raw["box_deltas"][0, :3] = [[3e38, -3e38, 3e38, 3e38], [-3e38] * 4, [0, 0, 3e38, -3e38]]
    for found in decode_detections(raw, info, geometry_for(info, 30, 40), score=0.0).detections:
        left, top, right, bottom = found.box_xyxy
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 30


def test_json_has_the_documented_keys_and_survives_json() -> None:
    found = json.loads(json.dumps(ANSWER.to_json(file=Path("a.jpg"))))
    assert found == {
        "file": "a.jpg",
        "task": "detection",
        "detections": [
            {"index": 11, "label": "dog", "score": 0.934568, "box": [10.13, 20.0, 110.5, 220.25]},
            {"index": 0, "label": "aeroplane", "score": 0.0002, "box": [0.0, 0.0, 5.0, 5.0]},
        ],
    }


def test_coco_entries_have_left_top_width_height_and_the_data_sets_ids() -> None:
    assert ANSWER.to_coco(139, range(1, 21))[0] == {
        "image_id": 139, "category_id": 12, "bbox": [10.13, 20.0, 100.37, 200.25], "score": 0.934568,
    }  # fmt: skip
    coco = class_names("coco")
    info = replace(info_for(classes=80), labels=coco.names, label_ids=coco.ids)
    assert coco_categories(info)[:13] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14)
    assert coco_categories(info_for()) == (1, 2, 3)
    assert coco_categories(replace(info_for(), label_ids=("n01", "n02", "n03"))) == (1, 2, 3)
    assert coco_image_id("x/000000000139.jpg") == 139
    assert coco_image_id("2007_000027.jpg") == "2007_000027"


def test_text_is_a_line_per_object_with_aligned_columns() -> None:
    first, second = str(ANSWER).splitlines()
    assert first.split() == ["93.5", "%", "dog", "10", "20", "110", "220"]
    assert second.split() == ["<", "0.1", "%", "aeroplane", "0", "0", "5", "5"]
    assert len(first) == len(second)


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (60, 600), (1, 1), (333, 500)])
@pytest.mark.parametrize("recipe", ["ssd", "ssd-tf"])
def test_photos_of_any_shape_have_boxes_within_them(
    size: tuple[int, int], recipe: str, random_detector: RandomModel
) -> None:
    model = random_detector(size=64)
    info = replace(model.info, preprocessing=image.recipe(recipe, 64))
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    predictor = mobilenetv2.load(ModelFile(info, model.tensors), backend="reference")
    answer = predictor(photo, score=0.5)
    assert isinstance(answer, Detections)
    assert answer.detections
    for found in answer.detections:
        left, top, right, bottom = found.box_xyxy
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
    assert max(answer.draw(photo, title="a title").shape) >= 480


def test_a_photo_that_lies_on_its_side_is_answered_upright(random_detector: RandomModel, tmp_path: Path) -> None:
    predictor = mobilenetv2.load(random_detector(size=64), backend="reference")
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert predictor(tmp_path / "a.png") == predictor(upright)


def test_every_backend_finds_the_same_on_a_real_photo(grace_hopper: Path, random_detector: RandomModel) -> None:
    model = random_detector(size=(96, 128), padding="same", labels=("a", "b", "c", "d", "e"))
    reference, torch = (mobilenetv2.load(model, backend=name) for name in ("reference", "torch"))
    (expected,), (found,) = (list(predictor.many([grace_hopper], most=20)) for predictor in (reference, torch))
    assert isinstance(expected, Detections)
    assert isinstance(found, Detections)
    assert len(expected.detections) == 20
    assert [d.index for d in found.detections] == [d.index for d in expected.detections]
    for a, b in zip(found.detections, expected.detections, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        assert a.box_xyxy == pytest.approx(b.box_xyxy, abs=0.1)


def caffe_anchors(smallest: float, largest: float | None, ratios: tuple[int, ...]) -> list[tuple[float, float]]:
    """A PriorBox layer at 300 pixels: the square, the one between two scales, then each ratio and its inverse."""
    found = [(smallest, smallest)]
    if largest:
        found.append((math.sqrt(smallest * largest), math.sqrt(smallest * largest)))
    for ratio in map(math.sqrt, ratios):
        found += [(smallest * ratio, smallest / ratio), (smallest / ratio, smallest * ratio)]
    return [(w / 300, h / 300) for w, h in found]


def test_the_raw_heads_of_real_weights_decode_to_three_cyclists(real_data: Path) -> None:
    folder = real_data / "weights" / "ssdlite_voc_ncnn_int8"
    sides = [60, 105, 150, 195, 240, 285, 300]
    anchors = [caffe_anchors(60, None, (2,))]
    anchors += [caffe_anchors(a, b, (2, 3)) for a, b in pairwise(sides[1:])]
    head = SSDLite(20, anchors=tuple(map(tuple, anchors)), iou_threshold=0.45, score_threshold=0.35)
    info = ModelInfo(Spec(head=head), image.recipe("ssd-tf", 300), class_names("voc").names)
    heads = np.load(folder / "bicycle_raw_heads.npz")
    np.testing.assert_allclose(boxes.anchors(info.spec, (300, 300)), heads["priors_cxcywh"], atol=1e-6)
    scores = np.clip(heads["conf_after_sigmoid"].astype(np.float64), 1e-9, 1 - 1e-9)
    logits = np.log(scores / (1 - scores)).astype(np.float32)
    photo = image.read(folder / "bicycle.jpg")
    _, geometry = image.prepare(photo, info.preprocessing)
    answer = decode_detections({"class_logits": logits[None], "box_deltas": heads["loc"][None]}, info, geometry)
    assert [d.label for d in answer.detections] == ["person"] * 4 + ["bicycle"] * 3
    # a rider stands over each bicycle
    riders, bicycles = ([d.box_xyxy for d in answer.detections if d.label == name] for name in ("person", "bicycle"))
    overlaps = boxes.iou(np.array(bicycles), np.array(riders))
    assert (overlaps.max(axis=1) > 0.25).all()
