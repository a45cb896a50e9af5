"""Columns that the paper's tables get where they are asked to measure."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mobilenetv2 import model_file, paper
from mobilenetv2.data.shape_sets import write_image_folder
from mobilenetv2.data.shapes import CLASSES
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.paper import grid, measure
from mobilenetv2.spec import Backbone, Classifier, Spec


@pytest.mark.parametrize("name", measure.MEASURED)
def test_every_network_that_can_be_measured_is_a_row_of_its_table(name: str) -> None:
    assert measure.networks(name).keys() <= {row for row, _ in paper.table(name).rows}


def test_the_grid_has_the_22_published_points() -> None:
    assert len(grid.points()) == len(paper.table("grid").rows) == 22


def test_nothing_is_measured_in_a_table_without_networks_of_ours() -> None:
    assert measure.networks("table2") == {}


def test_times_stand_in_a_column_of_their_own_marked_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "milliseconds", lambda spec, size: 12.34)
    plain = paper.table("table4")
    table = measure.with_times(plain)
    assert table.columns == (*plain.columns, "engine ms, 1 thread")
    assert [cells[:-1] for _, cells in table.rows] == [cells for _, cells in plain.rows]
    added = {row: cells[-1] for row, cells in table.rows}
    assert (added["MobileNetV2"].ours, added["MobileNetV2"].mark) == ("12.3", "measured here")
    assert added["NasNet-A"].ours == ""


def test_the_engine_is_timed_on_random_weights() -> None:
    assert 0 < measure.milliseconds(Spec(Backbone(0.35), Classifier(outputs=10)), 32) < 1000


def test_a_models_accuracy_stands_in_the_row_of_its_width_and_resolution(
    random_model: Callable[..., ModelFile], tmp_path: Path
) -> None:
    write_image_folder(tmp_path / "pictures", train=10, val=10, size=32)
    model = random_model(width_mult=0.35, size=96, outputs=len(CLASSES), labels=tuple(CLASSES))
    model_file.write(tmp_path / "m.safetensors", model)
    table = measure.with_accuracies(paper.table("grid"), str(tmp_path / "pictures"), [str(tmp_path / "m.safetensors")])
    found = {row: cells[-1].ours for row, cells in table.rows if cells[-1].ours}
    assert found.keys() == {"0.35 at 96"}
    assert found["0.35 at 96"].endswith("pictures)")


def test_a_model_of_no_row_is_refused_with_the_rows(random_model: Callable[..., ModelFile], tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    model_file.write(file, random_model(width_mult=0.35, size=64))
    with pytest.raises(UsageError, match=r"width 0.35 at 64x64, which is no row of table4: they are MobileNetV2"):
        measure.with_accuracies(paper.table("table4"), str(tmp_path), [str(file)])


def test_every_counted_cell_has_ours_in_full() -> None:
    cells = {(row, column): cell for row, column, cell in paper.table("table4").cells()}
    assert cells["MobileNetV2", "MAdds"].exact == 300_774_272
    assert cells["MobileNetV2 (1.4)", "MAdds"].exact == 582_195_824
