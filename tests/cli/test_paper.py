"""`mobilenetv2 paper`: tables as text, Markdown and JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobilenetv2 import cli_paper_tables, paper
from mobilenetv2.paper import accuracies, measure, trained

Run = Callable[..., Any]


def test_a_table_is_printed_as_text_as_markdown_and_as_json(run: Run) -> None:
    assert "582.2M [" in run("paper", "table4").out
    assert "| MobileNetV2 (1.4) | 74.7† |" in run("paper", "table4", "--markdown").out
    (found,) = run("paper", "table4", "--json").objects
    cell = next(c for c in found["cells"] if (c["row"], c["column"]) == ("MobileNetV2", "MAdds"))
    assert (cell["printed"], cell["exact"], cell["agrees"]) == ("300M", 300_774_272, True)


def test_a_table_is_written_to_a_file(run: Run, tmp_path: Path) -> None:
    run("paper", "table5", "--json", "--out", tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["table"] == "table5"


def test_options_that_exclude_or_need_each_other_are_said_before_long_work(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **settings: object) -> None:
        raise AssertionError("nothing is to be measured")

    both = run("paper", "table2", "--json", "--markdown")
    assert (both.code, both.err) == (2, "error: --json and --markdown exclude each other: give one of them\n")
    monkeypatch.setattr(measure, "milliseconds", never)
    monkeypatch.setattr(accuracies, "load_model", never)
    monkeypatch.setattr(trained, "table", never)
    for long in (
        ("table6", "--measure"), ("table4", "--imagenet", "x", "--model", "x"),
        ("table7", "--voc", "x", "--model", "x"), ("appendix", "--model", model),
    ):  # fmt: skip
        assert run("paper", *long, "--json", "--markdown").err == both.err
    alone = run("paper", "grid", "--imagenet", "somewhere")
    assert (alone.code, alone.err) == (2, "error: --imagenet and --model belong together: give both\n")


def test_the_verbs_that_measure_are_those_of_the_tables_that_can_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(measure.MEASURED) <= set(cli_paper_tables.VERBS) <= paper.TABLES.keys()
    monkeypatch.setattr(measure, "milliseconds", lambda spec, size: 19.5)
    assert "19.5°" in run("paper", "table6", "--measure").out
    assert run("paper", "table5", "--measure").code == 2


def test_each_table_is_measured_on_its_own_kind_of_pictures(run: Run) -> None:
    for table, option in (("table4", "--imagenet"), ("table6", "--coco"), ("table7", "--voc")):
        alone = run("paper", table, option, "somewhere")
        assert (alone.code, alone.err) == (2, f"error: {option} and --model belong together: give both\n")
    scales = run("paper", "table7", "--multi-scale")
    assert (scales.code, scales.err) == (2, "error: --multi-scale is for measuring: give --voc and --model too\n")


def test_lemma_2_is_checked_on_a_model_of_ones_own(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "PLACES", 2)
    assert "Theorem 1" in run("paper", "appendix").out
    (found,) = run("paper", "appendix", "--model", model, "--json").objects
    assert {cell["column"] for cell in found["cells"]} >= {"invertible by Lemma 2", "largest error of x"}
    alone = run("paper", "appendix", "--photo", "x.jpg")
    assert (alone.code, alone.err) == (2, "error: photos are for trained weights: give --model too\n")
