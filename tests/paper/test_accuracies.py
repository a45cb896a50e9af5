"""Accuracy columns: models measured on pictures at hand, in the rows that describe them, with the conditions said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detection_sets import drawn, write_coco
from mobilenetv2 import model_file, paper
from mobilenetv2.data.shape_sets import write_image_folder, write_segmentation_folder
from mobilenetv2.data.shapes import CLASSES
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.paper import accuracies, tables_tasks
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.predictor import load

Random = Callable[..., ModelFile]


def filled(table: Table) -> dict[str, Cell]:
    """The cells of the last column that have a value, by row."""
    assert all(len(cells) == len(table.columns) for _, cells in table.rows)
    return {row: cells[-1] for row, cells in table.rows if cells[-1].ours}


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[ModelFile], str]:
    def write(model: ModelFile) -> str:
        model_file.write(tmp_path / "m.safetensors", model)
        return str(tmp_path / "m.safetensors")

    return write


def test_a_classifiers_accuracy_stands_in_the_row_of_its_width_and_resolution(
    random_model: Random, stored: Callable[[ModelFile], str], tmp_path: Path
) -> None:
    write_image_folder(tmp_path / "pictures", train=10, val=10, size=32)
    model = stored(random_model(width_mult=0.35, size=96, outputs=len(CLASSES), labels=tuple(CLASSES)))
    table = accuracies.on_imagenet(paper.table("grid"), str(tmp_path / "pictures"), [model])
    found = filled(table)
    assert found.keys() == {"0.35 at 96"}
    assert found["0.35 at 96"].mark == "measured here"
    assert found["0.35 at 96"].reason == f"{model} on 10 pictures of {tmp_path / 'pictures'}, val"
    assert "°" in table.markdown()


def test_a_model_of_no_row_is_refused_with_the_rows(
    random_model: Random, stored: Callable[[ModelFile], str], tmp_path: Path
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


@pytest.mark.parametrize("aspp", [False, True])
def test_a_segmenter_is_measured_at_both_output_strides(
    random_segmenter: Random, stored: Callable[[ModelFile], str], tmp_path: Path, aspp: bool
) -> None:
    write_segmentation_folder(tmp_path / "pictures", train=10, val=10, size=48)
    model = random_segmenter(size=33, head={"classes": len(CLASSES), "aspp": aspp}, labels=tuple(CLASSES), width_mult=1)
    file = stored(model)
    table = accuracies.on_voc(paper.table("table7"), str(tmp_path / "pictures"), [file], multi_scale=True)
    found = filled(table)
    assert set(found) == set(accuracies.SEGMENTER_ROWS[aspp])
    assert all("at 33 x 33 pixels, the paper's are 513 x 513" in cell.reason for cell in found.values())
    alone = accuracies.on_voc(paper.table("table7"), str(tmp_path / "pictures"), [file])
    assert set(filled(alone)) == {accuracies.SEGMENTER_ROWS[aspp][0]}


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
    random_detector: Random, stored: Callable[[ModelFile], str], tmp_path: Path
) -> None:
    write_coco(tmp_path / "coco", drawn(0, 3), CLASSES, "val")
    model = random_detector(size=96, head={"classes": len(CLASSES)}, labels=tuple(CLASSES), width_mult=1)
    table = accuracies.on_coco(paper.table("table6"), str(tmp_path / "coco"), [stored(model)])
    (cell,) = filled(table).values()
    assert "on 3 pictures of" in cell.reason
    assert f"{len(CLASSES)} classes, the paper's are 80; at 96 x 96 pixels, the paper's are 320 x 320" in cell.reason


def test_a_plain_ssd_is_no_ssdlite(random_detector: Random, stored: Callable[[ModelFile], str], tmp_path: Path) -> None:
    file = stored(random_detector(head={"separable": False}, width_mult=1))
    with pytest.raises(UsageError, match="no row of table6"):
        accuracies.on_coco(paper.table("table6"), str(tmp_path), [file])
