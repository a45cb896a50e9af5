"""The paper's tables: every cell that arithmetic can give is what is printed, or is listed here."""

import functools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenetv2 import paper
from mobilenetv2.complexity import chain, complexity
from mobilenetv2.paper import compared, equations, schematics
from mobilenetv2.paper.cells import Table, count, matches
from mobilenetv2.spec import Backbone, Spec, block, blocks, deeplab

DIFFER = {  # (table, row, column) -> ours; the table gives the reason
    ("table3", "112x112", "ShuffleNet 2x, g=3, own channels"): "48/1204.2",
    ("table3", "56x56", "MobileNetV2, own channels"): "24/150.5",
    ("table3", "28x28", "MobileNetV2, own channels"): "32/50.2",
    ("table3", "28x28", "ShuffleNet 2x, g=3, own channels"): "480/752.6",
    ("table3", "14x14", "MobileNetV2, own channels"): "96/37.6",
    ("table3", "14x14", "ShuffleNet 2x, g=3, own channels"): "960/376.3",
    ("table3", "7x7", "MobileNetV1, as printed"): "1024/100.4",
    ("table3", "7x7", "MobileNetV1, own channels"): "1024/100.4",
    ("table3", "7x7", "MobileNetV2, as printed"): "320/31.4",
    ("table3", "7x7", "MobileNetV2, own channels"): "320/31.4",
    ("table3", "7x7", "ShuffleNet 2x, g=3, own channels"): "1920/188.2",
    ("table3", "1x1", "ShuffleNet 2x, g=3, own channels"): "1920/3.8",
    ("table3", "max, first version", "ShuffleNet 2x, g=3, as printed"): "802.8",
    ("table3", "max, first version", "ShuffleNet 2x, g=3, own channels"): "1204.2",
    ("table3", "max, second version", "MobileNetV2, own channels"): "150.5",
    ("table3", "max, second version", "ShuffleNet 2x, g=3, own channels"): "752.6",
    ("table4", "MobileNetV1", "MAdds"): "568.7M",
    ("table4", "MobileNetV2 (1.4)", "params"): "6.11M",
    ("table4", "MobileNetV2 (1.4)", "MAdds"): "582.2M",
    ("table5", "SSDLite", "MAdds"): "0.178B",
    ("table7", "MobileNetV1, OS 16, ASPP", "MAdds"): "12.761B",
    ("table7", "MobileNetV1, OS 8, ASPP, MF", "MAdds"): "800.75B",
    ("table7", "MobileNetV2*, OS 16", "MAdds"): "2.741B",
    ("table7", "MobileNetV2*, OS 8, MF", "MAdds"): "152.33B",
}


@functools.cache  # the appendix counts for a second or two
def table(name: str) -> Table:
    return paper.table(name)


@pytest.mark.parametrize("name", paper.TABLES)
def test_every_computed_cell_is_what_is_printed_or_is_listed_with_a_reason(name: str) -> None:
    cells = table(name).cells()
    differ = {
        (name, row, column): cell
        for row, column, cell in cells
        if cell.mark == "computed" and cell.printed and not cell.agrees
    }
    assert {place: cell.ours for place, cell in differ.items()} == {k: v for k, v in DIFFER.items() if k[0] == name}
    assert all(cell.reason for cell in differ.values())


def test_what_cannot_be_computed_is_marked() -> None:
    marks = {(row, column): cell.mark for row, column, cell in paper.table("table4").cells()}
    assert marks["NasNet-A", "MAdds"] == "quoted as printed"
    assert marks["MobileNetV2", "top-1"] == "quoted as printed"
    assert marks["MobileNetV2", "MAdds"] == "computed"


@pytest.mark.parametrize("name", paper.TABLES)
def test_text_markdown_and_json_hold_the_same_cells(name: str) -> None:
    found = table(name)
    lines = [line for line in found.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == len(found.rows) + 2
    assert {line.count("|") for line in lines} == {len(found.columns) + 2}
    assert len(found.to_json()["cells"]) == len(found.rows) * len(found.columns)
    assert all(row in found.text() for row, _ in found.rows)


def test_a_count_agrees_rounded_or_cut_and_needs_a_reason_otherwise() -> None:
    assert matches("3.4M", 3_449_999)
    assert matches("3.4M", 3_499_999)
    assert matches("3.5M", 3_499_999)
    assert not matches("3.4M", 3_500_000)
    with pytest.raises(AssertionError, match="no reason"):
        count("3.4M", 3_500_000)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 16), st.integers(1, 16), st.integers(1, 6),
       st.sampled_from((1, 2)))  # fmt: skip
def test_the_bottlenecks_formula_counts_the_layers_term_by_term(
    h: int, w: int, d: int, made: int, t: int, s: int
) -> None:
    found = block(in_channels=d, out_channels=made, expansion=t, stride=s, net=Backbone())
    size = h * s
    costs = {cost.name: cost.multiply_adds for cost in chain(found.convolutions, size)}
    terms = equations.bottleneck(size, size, d, made, t=t, s=s)
    assert (costs[found.expand.name] if found.expand else 0) == terms.expand
    assert (costs[found.depthwise.name], costs[found.project.name]) == (terms.depthwise, terms.project)
    if s == 1 and t != 1:
        assert terms.total == size * size * d * t * (d + 9 + made)
    assert w > 0


def test_full_over_separable_is_not_upside_down() -> None:
    # the note under equation (1) has the ratio the other way round, and 9 for 100 channels
    assert equations.full(7, 7, 5, 100) / equations.separable(7, 7, 5, 100) == pytest.approx(equations.saved(100))
    assert equations.saved(100) == pytest.approx(8.26, abs=0.005)
    assert equations.saved(10**9) == pytest.approx(9)


def test_the_first_block_has_depthwise_and_project_though_it_does_not_expand() -> None:
    first = blocks(Backbone())[0]
    assert first.expand is None
    assert len(first.convolutions) == 2


def test_equal_channels_are_no_shortcut_where_the_stride_is_2() -> None:
    narrow = blocks(Backbone(width_mult=0.35))[1]
    assert (narrow.in_channels, narrow.out_channels, narrow.stride, narrow.shortcut) == (8, 8, 2, "none")


def test_padded_maps_explain_the_atrous_rows_of_table_7() -> None:
    plain, padded = (compared.multiply_adds(compared.v2_segmenter(513, 16, aspp=True, padded=p)) for p in (False, True))
    # rates 6, 12 and 18 pad 33 x 33 to 36 x 36, and rate 2 of the last three depthwise ones to 34 x 34
    assert padded - plain == 3 * (36**2 - 33**2) * 320 * 256 * 9 + 3 * (34**2 - 33**2) * 960 * 9


def test_the_head_on_mobilenet_v1_is_that_of_mobilenet_v2_on_more_channels() -> None:
    spec = Spec(Backbone(output_stride=16), deeplab.DeepLab(aspp=True))
    reads = (1 + 1 + 3 * 9) * 256 * (1024 - 320)
    head = sum(c.parameters for c in complexity(spec, 513).layers if not c.name.startswith("features."))
    backbone = compared.parameters(compared.mobilenet_v1(16).features(513))
    assert compared.parameters(compared.v1_segmenter(513, 16, aspp=True)) == backbone + head + reads


def test_shufflenets_first_grouped_unit_keeps_its_first_convolution_whole() -> None:
    body = compared.shufflenet(2, stem=48).body
    assert (body[0].groups, body[3].groups) == (1, 3)
    assert body[-1].out_channels == 1920


@pytest.mark.parametrize("name", ["figure2", "figure3", "figure4"])
def test_a_schematic_is_drawn_from_its_convolutions(name: str, tmp_path: Path) -> None:
    facts = paper.figure(name)(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert all(len(shown["channels"]) == len(shown["linear"]) + 1 for shown in facts["blocks"])


def test_figure_3_joins_wide_tensors_in_one_block_and_narrow_ones_in_the_other(tmp_path: Path) -> None:
    residual, inverted = schematics.figure3(tmp_path / "x.png")["blocks"]
    assert residual["channels"] == [144, 24, 24, 144]
    assert inverted["channels"] == [24, 144, 144, 24]
    assert inverted["linear"] == [False, False, True]
    assert residual["joined"] == inverted["joined"] == "add"


PAGE = Path(__file__).resolve().parents[1] / "docs" / "paper.md"


@pytest.mark.parametrize("name", paper.TABLES)
def test_the_tables_of_the_page_are_those_that_the_verb_prints(name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert found, f"{name} is not in {PAGE.name}"
    assert found[1] == table(name).markdown(), f"stale: mobilenetv2 paper {name} --markdown"
