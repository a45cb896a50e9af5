"""docs/paper.md: what it names is there, its commands are accepted, its pictures are those that are drawn now."""

import importlib
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from mobilenetv2 import cli, paper
from mobilenetv2.train import recipe_fields, recipes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "paper.md"
TEXT = PAGE.read_text()
SECTIONS = (
    "Abstract", "1 Introduction", "2 Related work", "3 Preliminaries, discussion and intuition",
    "3.1 Depthwise separable convolutions", "3.2 Linear bottlenecks", "3.3 Inverted residuals",
    "3.4 Information flow interpretation", "4 Model architecture", "5 Implementation notes",
    "5.1 Memory efficient inference", "6 Experiments", "6.1 ImageNet classification", "6.2 Object detection",
    "6.3 Semantic segmentation", "6.4 Ablation study", "7 Conclusions and future work",
    "Appendix A: bottleneck transformation", "Appendix B: semantic segmentation results",
)  # fmt: skip
FILES = sorted(set(re.findall(r"`([\w/]+\.py|paper/\w+\.json)(?::[\w.]+)?`", TEXT)))
NAMES = sorted(set(re.findall(r"`([\w/]+)\.py:([\w.]+)`", TEXT)))
COUNTS = ("least", "most")  # of figure7.Pattern
COMMANDS = [
    line
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", "").splitlines()
    if not language and line.startswith("mobilenetv2 ")
]


def test_the_page_has_every_section_of_the_paper_in_its_order() -> None:
    headings = re.findall(r"^#{2,3} (.+)$", TEXT, re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_is_named_exists(file: str) -> None:
    assert (ROOT / file).exists() or (ROOT / "src" / "mobilenetv2" / file).exists()


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda part: part)
def test_every_function_that_is_named_exists(module: str, name: str) -> None:
    found = importlib.import_module(f"mobilenetv2.{module.replace('/', '.')}")
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_the_page_names_many_functions_and_commands() -> None:
    assert len(NAMES) > 40
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_command_line_accepts(command: str) -> None:
    """Its verbs and options; nothing is run."""
    verb = typer.main.get_command(cli.app)
    words = shlex.split(command, comments=True)[1:]
    while hasattr(verb, "commands"):
        verb = verb.commands[words.pop(0)]  # pyright: ignore[reportAttributeAccessIssue]
    verb.make_context(verb.name, list(words))
    if "--recipe" in words:
        task = words[words.index("--task") + 1] if "--task" in words else "classification"
        recipe = recipes.find(words[words.index("--recipe") + 1], task)
        recipe_fields.with_settings(recipe, [value for option, value in pairwise(words) if option == "--set"])


def test_the_links_within_the_page_lead_to_its_headings() -> None:
    headings = re.findall(r"^#{2,3} (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


@pytest.mark.parametrize("picture", re.findall(r"!\[[^]]+\]\((paper/[\w-]+\.png)\)", TEXT))
def test_every_picture_is_there_and_small(picture: str) -> None:
    content = (PAGE.parent / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000


@pytest.mark.slow
def test_the_pictures_show_what_would_be_drawn_now(tmp_path: Path) -> None:
    """By the facts that each picture shows, which are kept beside them."""
    kept = json.loads((PAGE.parent / "paper" / "figures.json").read_text())
    for name in paper.FIGURES:
        facts = json.loads(json.dumps(paper.figure(name)(tmp_path / "x.png")))
        assert same(facts, kept[name], counts=name == "figure7"), f"{name} is stale: make docs"


def same(one: Any, other: Any, *, counts: bool = False) -> bool:
    """Equal, floats to a thousandth and, where they are `counts` of positive channels, least and most to one: NumPy's
    last digits are the machine's."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            abs(one[key] - other[key]) <= 1 if counts and key in COUNTS else same(one[key], other[key], counts=counts)
            for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b, counts=counts) for a, b in zip(one, other, strict=True))
    return other == pytest.approx(one, rel=1e-3, abs=1e-6) if isinstance(one, float) else one == other


def test_only_counts_of_positive_channels_may_differ_by_one() -> None:
    assert same({"least": 3, "mean": 2.0}, {"least": 4, "mean": 2.001}, counts=True)
    for one, other in (({"least": 3}, {"least": 5}), ({"channels": 3}, {"channels": 4}), ({"mean": 2.0}, {"mean": 3})):
        assert not same(one, other, counts=True)
    assert not same({"least": 3}, {"least": 4})


@pytest.mark.parametrize("number", range(1, 8))
def test_every_figure_is_set_beside_the_papers_own(number: int) -> None:
    (paragraph,) = re.findall(rf"^\*\*Figure {number}\*\* .*?(?=\n\n!|\n\n#|\n\n\*\*)", TEXT, re.DOTALL | re.MULTILINE)
    assert "*Same message*" in paragraph
