"""The column of times that the paper's tables get where they are asked to measure."""

import pytest

from mobilenetv2 import paper
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
    assert "one thread" in added["MobileNetV2"].reason
    assert added["NasNet-A"].ours == ""


def test_the_engine_is_timed_on_random_weights() -> None:
    assert 0 < measure.milliseconds(Spec(Backbone(0.35), Classifier(outputs=10)), 32) < 1000


def test_every_counted_cell_has_ours_in_full() -> None:
    cells = {(row, column): cell for row, column, cell in paper.table("table4").cells()}
    assert cells["MobileNetV2", "MAdds"].exact == 300_774_272
    assert cells["MobileNetV2 (1.4)", "MAdds"].exact == 582_195_824
