"""Accuracy columns: models measured on pictures at hand, in the rows that describe them, with the conditions said."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detection_sets import drawn, write_coco
from mobilenetv2 import evaluate_segmentation, model_file, paper
from mobilenetv2.data.shape_sets import write_image_folder, write_segmentation_folder
from mobilenetv2.data.shapes import CLASSES
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.paper import accuracies, tables_tasks
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.predictor import Predictor, load

Random = Callable[..., ModelFile]


def filled(table: Table) -> dict[str, Cell]:
    """The cells of the last column that have a value, by row."""
    assert all(len(cells) == len(table.columns) for _, cells in table.rows)
    return {row: cells[-1] for row, cells in table.rows if cells[-1].ours}


def never(*args: object, **settings: object) -> accuracies.Measured:
    raise AssertionError("nothing is to be evaluated")


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., str]:
    def write(model: ModelFile, name: str = "m.safetensors") -> str:
        model_file.write(tmp_path / name, model)
        return str(tmp_path / name)

    return write


def test_a_classifiers_accuracy_stands_in_the_row_of_its_width_and_resolution(
    random_model: Random, stored: Callable[..., str], tmp_path: Path
) -> None:
    write_image_folder(tmp_path / "pictures", train=10, val=10, size=32)
    model = stored(random_model(width_mult=0.35, size=96, outputs=len(CLASSES), labels=tuple(CLASSES)))
    table = accuracies.on_imagenet(paper.table("grid"), str(tmp_path / "pictures"), [model])
    found = filled(table)
    assert found.keys() == {"0.35 at 96"}
    assert found["0.35 at 96"].mark == "measured here"
    assert found["0.35 at 96"].reason == (
        f"{model} on 10 pictures of {tmp_path / 'pictures'}, val; {len(CLASSES)} classes, the paper's are 1,000"
    )
    assert "°" in table.markdown()


def test_a_model_of_no_row_is_refused_with_the_rows(
    random_model: Random, stored: Callable[..., str], tmp_path: Path
) -> None:
    file = stored(random_model(width_mult=0.35, size=64))
    with pytest.raises(UsageError, match=r"width 0.35 at 64x64, which is no row of table4: they are MobileNetV2"):
        accuracies.on_imagenet(paper.table("table4"), str(tmp_path), [file])
    with pytest.raises(UsageError, match=r"no row of table6: they are MobileNetV2 \+ SSDLite"):
        accuracies.on_coco(paper.table("table6"), str(tmp_path), [file])
    with pytest.raises(UsageError, match=r"no row of table7: they are MobileNetV2\*, OS 16, ASPP"):
        accuracies.on_voc(paper.table("table7"), str(tmp_path), [file])


def test_the_rows_of_detectors_and_segmenters_are_rows_of_their_tables() -> None:
    segmenters = {row for rows in accuracies.SEGMENTER_ROWS.values() for row in rows}
    assert segmenters <= {row for row, _ in paper.table("table7").rows}
    assert accuracies.DETECTOR_ROW in {row for row, _ in paper.table("table6").rows}
    assert accuracies.DETECTOR_SIZE == (tables_tasks.SIZE,) * 2
    assert accuracies.SEGMENTER_SIZE == (tables_tasks.CROP,) * 2


@pytest.mark.slow
@pytest.mark.parametrize("aspp", [False, True])
def test_a_segmenter_is_measured_at_both_output_strides(
    random_segmenter: Random, stored: Callable[..., str], tmp_path: Path, aspp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segmentation_folder(tmp_path / "pictures", train=10, val=10, size=48)
    model = random_segmenter(size=33, head={"classes": len(CLASSES), "aspp": aspp}, labels=tuple(CLASSES), width_mult=1)
    file = stored(model)
    table = accuracies.on_voc(paper.table("table7"), str(tmp_path / "pictures"), [file], multi_scale=True)
    found = filled(table)
    assert set(found) == set(accuracies.SEGMENTER_ROWS[aspp])
    differs = f"{len(CLASSES)} classes, the paper's are 20; at 33 x 33 pixels, the paper's are 513 x 513"
    assert all(cell.reason.endswith(differs) for cell in found.values())
    scores = {(16, False): 0.25, (8, True): 0.75}  # by output stride and multi_scale

    def evaluate(predictor: Predictor, data: object, *, multi_scale: bool, progress: object) -> SimpleNamespace:
        score = scores[predictor.info.spec.backbone.output_stride, multi_scale]
        return SimpleNamespace(scores=SimpleNamespace(miou=score), n=10)

    monkeypatch.setattr(evaluate_segmentation, "evaluate", evaluate)
    for many, values in ((True, ("25.0", "75.0")), (False, ("25.0",))):
        table = accuracies.on_voc(paper.table("table7"), str(tmp_path / "pictures"), [file], multi_scale=many)
        expected = dict(zip(accuracies.SEGMENTER_ROWS[aspp], values, strict=False))
        assert {row: cell.ours for row, cell in filled(table).items()} == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stages": [[1, 16, 1, 1], [6, 24, 2, 2], [6, 320, 1, 2]]}, "stages"),
        ({"bottleneck": "relu6"}, "bottleneck"),
        ({"shortcut": "none"}, "shortcut"),
        ({"activation": "relu", "stem_channels": 16}, "stem_channels, activation"),
    ],
)
def test_another_backbone_than_the_papers_is_refused(
    random_model: Random, random_segmenter: Random, stored: Callable[..., str], fields: dict[str, Any], said: str
) -> None:
    expected = f"not the paper's network of width 1, as the row of .* is: its backbone differs in {said}$"
    with pytest.raises(UsageError, match=expected):
        accuracies.on_imagenet(paper.table("table4"), "", [stored(random_model(width_mult=1, size=224, **fields))])
    with pytest.raises(UsageError, match=expected):
        accuracies.on_voc(paper.table("table7"), "", [stored(random_segmenter(width_mult=1, **fields))])


def test_padding_and_the_epsilon_of_batch_norm_are_those_of_any_port(
    random_model: Random, stored: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracies, "_top1", lambda *args: (0.5, 3, None))
    file = stored(random_model(width_mult=0.35, size=96, padding="same", bn_eps=1e-3))
    (cell,) = filled(accuracies.on_imagenet(paper.table("grid"), "here", [file])).values()
    assert (cell.ours, cell.reason) == ("50.0", f"{file} on 3 pictures of here")


def test_two_models_for_a_row_and_one_without_are_refused_before_any_is_evaluated(
    random_model: Random, random_segmenter: Random, stored: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracies, "_top1", never)
    monkeypatch.setattr(accuracies, "_miou", never)
    first, second = (stored(random_model(width_mult=0.35, size=96, seed=i), f"{i}.safetensors") for i in range(2))
    with pytest.raises(UsageError, match=r"0\.safetensors and .*1\.safetensors are both for the row 0\.35 at 96"):
        accuracies.on_imagenet(paper.table("grid"), "", [first, second])
    other = stored(random_model(width_mult=0.35, size=64), "other.safetensors")
    with pytest.raises(UsageError, match="no row of grid"):
        accuracies.on_imagenet(paper.table("grid"), "", [first, other])
    file = stored(random_segmenter(width_mult=1))
    with pytest.raises(UsageError, match=r"are both for the row MobileNetV2\*, OS 16: give one of them"):
        accuracies.on_voc(paper.table("table7"), "", [file, file], multi_scale=True)


def test_with_another_output_stride_the_same_weights_give_a_denser_map(random_segmenter: Random) -> None:
    model = random_segmenter(size=33)
    picture = np.random.default_rng(0).integers(0, 256, (1, 33, 33, 3), np.uint8)
    sizes = {}
    for stride in (16, 8):
        changed = accuracies.at_stride(model, stride)
        raw = load(changed, backend="reference").backend.run(picture)
        sizes[stride] = raw["logits_map"].shape[1:3]
        assert changed.tensors is model.tensors
    assert sizes == {16: (3, 3), 8: (5, 5)}


def test_a_detector_says_what_differs_from_the_papers(
    random_detector: Random, stored: Callable[..., str], tmp_path: Path
) -> None:
    write_coco(tmp_path / "coco", drawn(0, 3), CLASSES, "val")
    model = random_detector(size=96, head={"classes": len(CLASSES)}, labels=tuple(CLASSES), width_mult=1)
    table = accuracies.on_coco(paper.table("table6"), str(tmp_path / "coco"), [stored(model)])
    (cell,) = filled(table).values()
    assert "on 3 pictures of" in cell.reason
    assert f"{len(CLASSES)} classes, the paper's are 80; at 96 x 96 pixels, the paper's are 320 x 320" in cell.reason


def test_a_plain_ssd_is_no_ssdlite(random_detector: Random, stored: Callable[..., str], tmp_path: Path) -> None:
    file = stored(random_detector(head={"separable": False}, width_mult=1))
    with pytest.raises(UsageError, match="no row of table6"):
        accuracies.on_coco(paper.table("table6"), str(tmp_path), [file])
