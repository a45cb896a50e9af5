"""Detection metrics: the published fixture to six decimals, cases worked by hand, and pycocotools as it is meant."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2.data.annotation import DetectionSample, make_sample
from mobilenetv2.data.detection import Places, open_detection
from mobilenetv2.detection_matching import BACKGROUND, NONE, DetectionConfusion, match
from mobilenetv2.detection_metrics import CocoAP, VocAP, overlaps
from mobilenetv2.errors import UsageError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections:
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def truth_of(
    *rows: tuple[int, Box], difficult: Sequence[bool] | None = None, crowd: Sequence[bool] | None = None
) -> Any:
    boxes, labels = [box for _, box in rows], [label for label, _ in rows]
    return make_sample(Path("x"), boxes, labels, difficult=difficult, crowd=crowd)


def found_of(*rows: tuple[int, float, Box]) -> Detections:
    return Detections(
        np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        np.array([label for label, _, _ in rows], np.int64),
        np.array([score for _, score, _ in rows], np.float64),
    )


# ---- COCO

# As the file's own project publishes them, computed with the official kit.
PUBLISHED = {
    "ap": 0.503647, "ap50": 0.696973, "ap75": 0.571667,
    "ap_small": 0.593252, "ap_medium": 0.557991, "ap_large": 0.489363,
    "ar1": 0.386813, "ar10": 0.593680, "ar100": 0.595353,
    "ar_small": 0.654764, "ar_medium": 0.603130, "ar_large": 0.553744,
}  # fmt: skip


def test_the_twelve_numbers_of_the_official_fixture(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "detection" / "coco_metric_fixture"
    file = folder / "gts" / "sampled_gts_bbox_area.json"
    content = json.loads(file.read_text())
    id_of = {one["file_name"]: one["id"] for one in content["images"]}
    for name in id_of:
        (tmp_path / name).touch()
    label_of = {one: i for i, one in enumerate(sorted(one["id"] for one in content["categories"]))}
    by_image: dict[int, list[tuple[int, float, Box]]] = {}
    for one in json.loads((folder / "cocoapi_results.json").read_text()):
        x, y, w, h = one["bbox"]
        row = label_of[one["category_id"]], one["score"], (x, y, x + w, y + h)
        by_image.setdefault(one["image_id"], []).append(row)

    data = open_detection(file, places=Places(images=tmp_path))
    metric = CocoAP(len(data.names))
    for sample in data.samples:
        metric.add(sample, found_of(*by_image.get(id_of[sample.path.name], [])))
    scores = metric.compute()
    assert {name: round(value or 0, 6) for name, value in scores.to_json().items()} == PUBLISHED
    known = [ap for ap in scores.per_class if not math.isnan(ap)]
    assert np.mean(known) == pytest.approx(scores.ap)
    assert len(known) < len(scores.per_class) == 80
    assert metric.compute() == scores or math.isnan(scores.per_class[0])


@st.composite
def pictures(draw: st.DrawFn) -> list[tuple[DetectionSample, Detections]]:
    """A few pictures: true boxes, some of them crowds, and found ones near them or anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made: list[tuple[DetectionSample, Detections]] = []
    for _ in range(draw(st.integers(1, 4))):
        n, extra = draw(st.integers(0, 6)), draw(st.integers(0, 4))
        corners = rng.uniform(0, 150, (n + extra, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(2, 120, (n + extra, 2))], axis=1)
        labels = rng.integers(0, 3, n + extra)
        truth = make_sample(Path("x"), boxes[:n], labels[:n], crowd=rng.random(n) < 0.2)
        near = boxes + rng.normal(0, 6, boxes.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found_labels = np.where(rng.random(n + extra) < 0.8, labels, rng.integers(0, 3, n + extra))
        made.append((truth, Detections(near, found_labels, rng.random(n + extra).round(2))))
    return made


def official(made: list[tuple[DetectionSample, Detections]]) -> list[float]:
    """pycocotools as its demonstration uses it, from dictionaries in COCO's form."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    xywh = lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]]  # noqa: E731
    annotations = [
        {"image_id": i + 1, "category_id": int(label) + 1, "bbox": xywh(box), "area": area, "iscrowd": int(crowd)}
        for i, (truth, _) in enumerate(made)
        for box, label, area, crowd in zip(
            truth.boxes_xyxy.tolist(), truth.labels, truth.areas.tolist(), truth.crowd, strict=True
        )
    ]  # fmt: skip
    results = [
        {"image_id": i + 1, "category_id": int(label) + 1, "bbox": xywh(box), "score": float(score)}
        for i, (_, found) in enumerate(made)
        for box, label, score in zip(found.boxes_xyxy.tolist(), found.labels, found.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(made))],
            "categories": [{"id": i + 1} for i in range(3)],
            "annotations": [one | {"id": i + 1} for i, one in enumerate(annotations)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


@settings(max_examples=20, deadline=None)
@given(made=pictures())
def test_the_twelve_numbers_are_pycocotools_own(made: list[tuple[DetectionSample, Detections]]) -> None:
    if not any(len(truth.labels) for truth, _ in made) or not any(len(found.labels) for _, found in made):
        return  # it cannot do without
    metric = CocoAP(3)
    for truth, found in made:
        metric.add(truth, found)
    expected = [None if value == -1 else pytest.approx(value) for value in official(made)]
    assert list(metric.compute().to_json().values()) == expected


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    metric = CocoAP(1)
    metric.add(truth_of((0, (0, 0, 9, 9))), found_of((0, 1, (0, 0, 9, 9))))
    assert metric.compute().ap == pytest.approx(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("metric_of", [CocoAP, VocAP])
def test_difficult_objects_are_neither_right_nor_wrong_unless_they_count(metric_of: Any) -> None:
    truth = truth_of((0, (0, 0, 20, 20)), (0, (50, 50, 90, 90)), difficult=[False, True])
    found = found_of((0, 0.9, (50, 50, 90, 90)), (0, 0.8, (0, 0, 20, 20)))
    ap50 = {}
    for count in (False, True):
        metric = metric_of(1, count_difficult=count)
        metric.add(truth, found)
        ap50[count] = metric.compute().ap50
    assert ap50 == {False: pytest.approx(1), True: pytest.approx(1)}
    missed = metric_of(1), metric_of(1, count_difficult=True)
    for metric in missed:
        metric.add(truth, found_of((0, 0.8, (0, 0, 20, 20))))
    assert missed[0].compute().ap50 == pytest.approx(1)
    assert missed[1].compute().ap50 == pytest.approx(0.5, abs=0.01)  # COCO takes 101 recalls


@pytest.mark.parametrize("metric_of", [CocoAP, VocAP])
def test_what_lies_in_a_crowd_is_no_mistake(metric_of: Any) -> None:
    truth = truth_of((0, (0, 0, 100, 100)), (0, (200, 200, 220, 220)), crowd=[True, False])
    inside = [(0, 0.9, (10.0 * i, 10.0 * i, 10.0 * i + 9, 10.0 * i + 9)) for i in range(5)]
    metric = metric_of(1, count_difficult=True)
    metric.add(truth, found_of(*inside, (0, 0.5, (200, 200, 220, 220))))
    assert metric.compute().ap50 == pytest.approx(1)


# ---- VOC


def test_voc_s_average_precision_worked_by_hand() -> None:
    a, b, c, far = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (90, 90, 99, 99)
    truth = truth_of((0, a), (0, b), (0, c))
    # right, wrong, right, the same again (wrong); c is not found
    found = found_of((0, 0.9, a), (0, 0.8, far), (0, 0.7, b), (0, 0.6, b))
    area, eleven = VocAP(1), VocAP(1, points="11")
    for metric in (area, eleven):
        metric.add(truth, found)
    scores = area.compute()
    assert scores.ap50 == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    curve = scores.curves[0]
    assert curve.true == 3
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.envelope().tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1 / 2])
    assert eleven.compute().ap50 == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # recalls 0 to 0.3, 0.4 to 0.6


def test_an_overlap_of_a_half_is_enough_and_the_best_box_decides() -> None:
    metric = VocAP(1)
    metric.add(truth_of((0, (0, 0, 20, 10))), found_of((0, 1, (0, 0, 10, 10))))
    assert metric.compute().ap50 == 1
    # both overlap the first true box most: the second found box is wrong, though it overlaps the other one too
    metric = VocAP(1)
    truth = truth_of((0, (0, 0, 10, 10)), (0, (3, 0, 13, 10)))
    metric.add(truth, found_of((0, 0.9, (0, 0, 10, 10)), (0, 0.8, (1, 0, 11, 10))))
    assert metric.compute().ap50 == pytest.approx(0.5)


def test_the_order_in_which_boxes_or_pictures_come_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (30, 2))], axis=1)
    labels, scores = rng.integers(0, 2, 30), rng.permutation(30) / 30
    results = []
    for order in (np.arange(30), rng.permutation(30)):
        metrics = VocAP(2), CocoAP(2)
        for part in np.array_split(np.arange(20), 4)[:: 1 if order[0] == 0 else -1]:
            mine = order[np.isin(order, part)]
            truth = make_sample(Path("x"), boxes[part], labels[part])
            found = Detections(boxes[mine] + 1, labels[mine], scores[mine])
            for metric in metrics:
                metric.add(truth, found)
        results.append([metric.compute().ap50 for metric in metrics])
    assert results[0] == pytest.approx(results[1])


REFERENCE = {"pascalvoc_format": (71.5, 67.7), "coco_format_v1": (67.7, 67.7), "yolo_format": (67.7, 67.7)}


@pytest.mark.parametrize("form", REFERENCE)
def test_the_stored_detections_of_voc100_score_what_they_should(form: str, real_data: Path) -> None:
    folder = real_data / "detection" / "voc100"
    data = open_detection(folder / "gts" / form, places=Places(images=folder / "images"))
    stored = json.loads((folder / "reference_ssdlite_detections.json").read_text())["detections"]
    ignored, counted = VocAP(20), VocAP(20, count_difficult=True)
    for sample in data.samples:
        rows = [(data.names.index(label), score, tuple(box)) for label, score, *box in stored[sample.path.stem]]
        for metric in (ignored, counted):
            metric.add(sample, found_of(*rows))  # pyright: ignore[reportArgumentType]
    ap50 = [100 * metric.compute().ap50 for metric in (ignored, counted)]
    assert ap50 == pytest.approx(REFERENCE[form], abs=0.05)
    assert ap50[1] == pytest.approx(67.709, abs=0.0006)  # the same in every form


# ---- confusion


def test_confusion_knows_background() -> None:
    a, b, c, d = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)
    metric = DetectionConfusion(3)
    truth = truth_of((0, a), (1, b), (2, c), (1, d), difficult=[False, False, False, True])
    metric.add(
        truth,
        found_of(
            (0, 0.9, a),  # right
            (2, 0.99, (0, 0, 10, 9.9)),  # another class in the same place: a is matched with its own
            (2, 0.8, b),  # confused
            (2, 0.2, c),  # not sure enough: c is missed
            (1, 0.9, d),  # difficult: left out
            (0, 0.9, (90, 90, 99, 99)),  # nothing there
        ),
    )
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[1, 2] = expected[2, BACKGROUND] = expected[BACKGROUND, 2] = expected[BACKGROUND, 0] = 1
    assert metric.compute().tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(made=pictures())
def test_confusion_counts_every_true_and_every_sure_box_once(made: list[tuple[DetectionSample, Detections]]) -> None:
    metric = DetectionConfusion(3)
    true = np.zeros(3, int)
    found_count = 0
    for truth, found in made:
        truth = make_sample(truth.path, truth.boxes_xyxy, truth.labels)
        metric.add(truth, found)
        true += np.bincount(truth.labels, minlength=3)
        found_count += int((found.scores >= 0.25).sum())
    counts = metric.compute()
    assert counts[:-1].sum(axis=1).tolist() == true.tolist()
    assert counts[:, :-1].sum() == found_count
    assert counts[-1, -1] == 0


@settings(max_examples=40, deadline=None)
@given(made=pictures())
def test_a_match_pairs_each_box_at_most_once_and_says_what_became_of_the_others(
    made: list[tuple[DetectionSample, Detections]],
) -> None:
    for truth, found in made:
        matches = match(truth, found, score=0.3)
        of, n = matches.true_of, np.flatnonzero(matches.found_of != NONE)
        assert (of[matches.found_of[n]] == n).all()
        assert (of != NONE).sum() == len(n)
        d = np.flatnonzero(of != NONE)
        right = d[truth.labels[of[d]] == found.labels[d]]
        assert np.flatnonzero(matches.right).tolist() == right.tolist()
        assert not (matches.false & ((of != NONE) | (found.scores < 0.3))).any()
        assert (matches.missed == (matches.found_of == NONE) & ~(truth.crowd | truth.difficult)).all()
        if truth.crowd.any() or truth.difficult.any():
            continue
        assert len(n) + matches.false.sum() == (found.scores >= 0.3).sum()


# ---- all of them


def test_overlaps_are_those_of_areas() -> None:
    found = np.array([[0, 0, 10, 10], [5, 5, 15, 15.0]])
    true = np.array([[0, 0, 10, 10], [0, 0, 100, 100.0]])
    assert overlaps(found, true, np.array([False, False])) == pytest.approx(
        np.array([[1, 100 / 10_000], [25 / 175, 0.01]])
    )
    assert overlaps(found, true, np.array([False, True])) == pytest.approx(np.array([[1, 1], [25 / 175, 1]]))
    assert overlaps(found[:0], true, np.array([False, True])).shape == (0, 2)


def test_nothing_found_or_nothing_to_find() -> None:
    nothing, box = truth_of(), truth_of((1, (0, 0, 5, 5)))
    for metric_of in (CocoAP, VocAP):
        assert math.isnan(metric_of(2).compute().ap50)
        missed = metric_of(2)
        missed.add(box, found_of())
        missed.add(nothing, found_of())
        assert missed.compute().ap50 == 0
        assert [math.isnan(ap) for ap in missed.compute().per_class] == [True, False]
        invented = metric_of(2)
        invented.add(nothing, found_of((0, 0.5, (0, 0, 5, 5))))
        assert math.isnan(invented.compute().ap50)
    assert set(CocoAP(1).compute().to_json().values()) == {None}
    assert DetectionConfusion(2).compute().sum() == 0


@pytest.mark.parametrize("metric_of", [CocoAP, VocAP, DetectionConfusion])
def test_what_does_not_fit_is_refused_by_name(metric_of: Any) -> None:
    truth, found = truth_of((0, (0, 0, 5, 5))), found_of((0, 0.5, (0, 0, 5, 5)))
    metric = metric_of(1)
    wrongs = (
        (truth, found_of((1, 0.5, (0, 0, 5, 5))), "labels of found boxes must be 0 to 0, got 1 to 1"),
        (truth_of((-1, (0, 0, 5, 5))), found, "labels of true boxes must be 0 to 0"),
        (truth, Detections(found.boxes_xyxy, found.labels, np.zeros(2)), "found boxes must be"),
        (truth, found_of((0, math.nan, (0, 0, 5, 5))), "found boxes and their scores must be finite"),
    )
    for one, two, words in wrongs:
        with pytest.raises(UsageError, match=words):
            metric.add(one, two)
    with pytest.raises(UsageError, match="at least one class, got 0"):
        metric_of(0)


def test_points_are_area_or_11() -> None:
    with pytest.raises(UsageError, match="points must be 'area' or '11', got '101'"):
        VocAP(1, points="101")  # pyright: ignore[reportArgumentType]
