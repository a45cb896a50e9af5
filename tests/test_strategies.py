"""Scales, mirror images and windows: each is the plain network where it must be, and the mean of what it asks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import image, looks, strategies, upsample
from mobilenetv2.engine import Engine, reference
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import UsageError
from mobilenetv2.image import Geometry
from mobilenetv2.looks import Look
from mobilenetv2.model_file import ModelFile, network_input
from mobilenetv2.predictor import Predictor, load
from mobilenetv2.results import Segmentation, decode_segmentation
from mobilenetv2.results.scores import softmax

RandomModel = Callable[..., ModelFile]
sides = st.integers(1, 40)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def mask(predictor: Predictor, pixels: np.ndarray, **options: Any) -> np.ndarray:
    answer = predictor(pixels, **options)
    assert isinstance(answer, Segmentation)
    assert answer.mask.shape == pixels.shape[:2]
    return answer.mask


def averaged(raw: strategies.Raw, size: tuple[int, int]) -> np.ndarray:
    """The mean scores [B, H, W, L] of maps of logits that are resized to `size`."""
    found: list[np.ndarray] = []
    for maps_hwL in zip(*raw.values(), strict=True):
        seen: list[Look] = []
        for map_hwL in maps_hwL:
            h, w = map_hwL.shape[:2]
            rows, columns = (upsample.resized(n, out, align_corners=True) for n, out in zip((h, w), size, strict=True))
            seen.append(Look(map_hwL, rows, columns))
        found.append(looks.summed_scores(seen, size) / len(seen))
    return np.stack(found)


def test_one_scale_is_the_plain_network(random_segmenter: RandomModel) -> None:
    backend = ReferenceBackend(random_segmenter())
    images = photo(65, 65)[np.newaxis]
    (found,) = strategies.multi_scale(backend, images, scales=(1.0,), mirrored=False).values()
    np.testing.assert_array_equal(found, backend.run(images)["logits_map"])


@pytest.mark.parametrize("scales", [(), (0.5, 1.0, 0.5)])
def test_scales_that_would_not_count_alike_are_refused(
    scales: tuple[float, ...], random_segmenter: RandomModel
) -> None:
    with pytest.raises(UsageError, match="scales must be different numbers, at least one"):
        strategies.multi_scale(ReferenceBackend(random_segmenter()), photo(65, 65)[np.newaxis], scales=scales)


def test_scores_of_scales_and_mirror_images_are_averaged(random_segmenter: RandomModel) -> None:
    backend = ReferenceBackend(random_segmenter())
    images = np.stack([photo(65, 65), photo(65, 65)[::-1]])
    prepared = network_input(images, backend.info)
    expected: list[np.ndarray] = []
    for size in (33, 65):
        scaled = np.asarray(reference.resize(prepared, (size, size), align_corners=True), np.float32)
        for flipped in (False, True):
            logits = backend.run(np.flip(scaled, 2) if flipped else scaled)["logits_map"]
            grown = reference.resize(logits, (65, 65), align_corners=True)
            expected.append(softmax(np.flip(grown, 2) if flipped else grown))
    raw = strategies.multi_scale(backend, images, scales=(0.5, 1.0))
    assert list(raw) == [f"logits_map x {scale}{turn}" for scale in (0.5, 1.0) for turn in ("", " mirrored")]
    found = averaged(raw, (65, 65))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-5)
    one = {name: maps[1:] for name, maps in raw.items()}
    mask_HW = decode_segmentation(one, backend.info, Geometry(65, 65, (1, 1), (0, 0))).mask
    assert (mask_HW == np.mean(expected, axis=0)[1].argmax(-1)).mean() > 0.999  # but for sums in another order


@given(size=st.tuples(sides, sides), out=st.tuples(sides, sides), channels=st.integers(1, 4), batch=st.integers(1, 3))
def test_inputs_are_resized_as_the_reference_does_it(
    size: tuple[int, int], out: tuple[int, int], channels: int, batch: int
) -> None:
    images = np.random.default_rng(0).normal(0, 1, (batch, *size, channels)).astype(np.float32)
    expected = reference.resize(images, out, align_corners=True)
    found = strategies.resized(images, out)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_mirrored_photo_gets_a_mirrored_mask(random_segmenter: RandomModel) -> None:
    predictor = Predictor(ReferenceBackend(random_segmenter()))
    pixels = photo(65, 65)
    one, other = (mask(predictor, np.ascontiguousarray(p), multi_scale=True) for p in (pixels, pixels[:, ::-1]))
    assert (one == other[:, ::-1]).mean() > 0.999  # but for sums in another order


@given(length=st.integers(1, 3000), window=st.integers(1, 600))
def test_windows_cover_a_side_and_overlap(length: int, window: int) -> None:
    starts = strategies.window_starts(length, window)
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(window * 2 / 3, 1) + 1).all()


def test_windows_over_a_large_photo_are_averaged(random_segmenter: RandomModel) -> None:
    model = random_segmenter()
    backend = ReferenceBackend(model)
    pixels = photo(120, 150)
    total = np.zeros((120, 150, 5))
    for top in strategies.window_starts(120, 65):
        for left in strategies.window_starts(150, 65):
            logits = backend.run(pixels[np.newaxis, top : top + 65, left : left + 65])["logits_map"]
            total[top : top + 65, left : left + 65] += softmax(reference.resize(logits, (65, 65), align_corners=True))[
                0
            ]
    found = mask(Predictor(backend), pixels, slide=True)
    assert (found == total.argmax(-1)).mean() > 0.999  # but for sums in another order


@pytest.mark.parametrize("size", [(1, 1), (65, 65), (40, 61)])
def test_a_photo_within_one_window_needs_no_sliding(random_segmenter: RandomModel, size: tuple[int, int]) -> None:
    predictor = Predictor(ReferenceBackend(random_segmenter()))
    assert (mask(predictor, photo(*size), slide=True) == mask(predictor, photo(*size))).mean() > 0.999


@pytest.mark.slow
def test_the_engine_agrees_at_every_scale_and_keeps_what_it_made(random_segmenter: RandomModel) -> None:
    model = random_segmenter(size=33)
    engine, pixels = Engine(model), photo(40, 50)
    choices: tuple[dict[str, Any], ...] = ({"multi_scale": True}, {"slide": True}, {"slide": True, "multi_scale": True})
    for options in choices:
        found, expected = (mask(Predictor(one), pixels, **options) for one in (engine, ReferenceBackend(model)))
        assert (found == expected).mean() > 0.999
    assert engine.resized((33, 33)) is engine
    assert engine.resized((17, 17)) is engine.resized((17, 17))
    assert engine.resized((17, 17)).plan.size == (17, 17)


def test_many_photos_get_the_answers_of_each(random_segmenter: RandomModel) -> None:
    predictor = Predictor(ReferenceBackend(random_segmenter(size=33)))
    photos = [photo(20, 30), photo(50, 40), photo(33, 1)]
    choices: tuple[dict[str, Any], ...] = ({}, {"multi_scale": True}, {"slide": True})
    for options in choices:
        answers = list(predictor.many(photos, batch=2, **options))
        for one, answer in zip(photos, answers, strict=True):
            assert isinstance(answer, Segmentation)
            assert (answer.mask == mask(predictor, one, **options)).mean() > 0.99


def test_other_tasks_have_no_such_strategies(random_model: RandomModel) -> None:
    predictor = load(random_model(outputs=4, size=32), backend="reference")
    for name in ("multi_scale", "slide"):
        with pytest.raises(UsageError, match=f"{name} is for segmentation; this is a model for classification"):
            predictor(photo(9, 9), **{name: True})
        with pytest.raises(UsageError, match=name):
            list(predictor.many([photo(9, 9)], errors="raise", **{name: True}))


def test_what_is_smaller_than_a_window_is_continued_with_the_mean(random_segmenter: RandomModel) -> None:
    info = random_segmenter().info
    prepared, _ = image.prepare(photo(3, 70)[:, :65], strategies.as_it_is(info.preprocessing))
    assert (prepared[3:] == 127).all()
    np.testing.assert_array_equal(prepared[:3], photo(3, 70)[:, :65])
