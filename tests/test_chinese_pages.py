"""Every Chinese page says what the English one says: piece for piece the same code, links, numbers and names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUFFIX = ".zh-CN.md"
PAGES = sorted([*ROOT.glob(f"*{SUFFIX}"), *ROOT.glob(f"docs/**/*{SUFFIX}")])

FENCE = re.compile(r"```")
GENERATED = re.compile(r"<!-- (?!end)\w+ -->")  # a table as a verb prints it, down to <!-- end -->
ROW, ITEM, HEADING = re.compile(r"\|"), re.compile(r"- |\d+\. "), re.compile(r"(#+) (.+)")
LINK = re.compile(r"\]\(([^)]+)\)")
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"(\d+(?:[.,]\d+)*(?:e-?\d+)?)(?: (million|万))?")
UNITS = {"": 1, "million": 10**6, "万": 10**4}


@dataclass(frozen=True, slots=True)
class Piece:
    """A heading, paragraph, row of a table, item of a list, block of code or generated table, from `line` on."""

    line: int
    kind: str
    text: str

    @property
    def verbatim(self) -> bool:
        return self.kind in ("code block", "generated table")

    @property
    def names(self) -> list[str]:
        """What stands between backquotes. Word order is the language's, so that all facts are sorted."""
        return sorted(" ".join(name.split()) for name in CODE.findall(self.text))

    @property
    def links(self) -> list[str]:
        return LINK.findall(CODE.sub("", self.text))

    @property
    def numbers(self) -> list[str]:
        found = NUMBER.findall(LINK.sub("]", CODE.sub("", self.text)))
        return sorted(f"{float(number) * UNITS[unit]:,.0f}" if unit else number for number, unit in found)


def english_of(page: Path) -> Path:
    return page.with_name(page.name.removesuffix(SUFFIX) + ".md")


def chinese_of(page: Path) -> Path:
    return page.with_suffix(SUFFIX)


def switch(page: Path) -> str:
    """The line below a page's title that leads to the same page in the other language."""
    if page.name.endswith(SUFFIX):
        return f"[English]({english_of(page).name}) | 简体中文"
    return f"English | [简体中文]({chinese_of(page).name})"


def pieces(page: Path) -> list[Piece]:
    """A page in its order, without the line that leads to the other language."""
    found: list[Piece] = []
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        start, (kind, until) = at, _kind(lines[at])
        at += 1
        while at < len(lines) and not until(lines[at]):
            at += 1
        if kind in ("code block", "generated table"):
            at += 1  # with the line that ends it
        text = "\n".join(lines[start:at])
        if text != switch(page):
            found.append(Piece(start + 1, kind, text))
    return found


def _kind(line: str) -> tuple[str, Callable[[str], object]]:
    """What a line begins, and what ends that."""
    if FENCE.match(line):
        return "code block", lambda end: end == "```"
    if GENERATED.match(line):
        return "generated table", lambda end: end == "<!-- end -->"
    if heading := HEADING.match(line):
        return f"heading of level {len(heading[1])}", lambda _: True
    if ROW.match(line):
        return f"table row of {line.count('|') - 1} cells", lambda _: True
    kind = "list item" if ITEM.match(line) else "picture" if line.startswith("![") else "paragraph"
    return kind, lambda end: not end or FENCE.match(end) or ROW.match(end) or ITEM.match(end) or HEADING.match(end)


def anchors(page: Path) -> list[str]:
    """What a link to each heading ends with, as GitHub makes it."""
    headings = [HEADING.match(piece.text) for piece in pieces(page) if piece.kind.startswith("heading")]
    return [re.sub(r"[^\w\- ]", "", heading[2].lower()).replace(" ", "-") for heading in headings if heading]


def translated(link: str, page: Path) -> str:
    """Where the Chinese page leads if the English `page` has `link`: to Chinese pages and headings where there are."""
    path, mark, anchor = link.partition("#")
    target = page.parent / path if path else page
    if "://" in link or target.suffix != ".md" or not chinese_of(target).exists():
        return link
    path = path and path.removesuffix(".md") + SUFFIX
    if not mark:
        return path
    assert anchor in anchors(target), f"{page.name}: {target.name} has no heading #{anchor}"
    places = dict(zip(anchors(target), anchors(chinese_of(target)), strict=False))
    return f"{path}#{places.get(anchor, anchor)}"


def difference(page: Path) -> str:
    """The first thing in which a Chinese page is not its English one, in words; "" if there is none."""
    english = english_of(page)
    ours, theirs = pieces(page), pieces(english)
    for one, other in zip(ours, theirs, strict=False):
        where = f"{page.name}:{one.line} is not {english.name}:{other.line}"
        if one.kind != other.kind:
            return f"{where}: a {one.kind} for a {other.kind}: {other.text}"
        if one.verbatim:
            if one.text != other.text:
                return f"{where}: another {one.kind}:\n{one.text}\nfor\n{other.text}"
            continue
        for what, has, wants in (
            ("links", sorted(one.links), sorted(translated(link, english) for link in other.links)),
            ("names", one.names, other.names),
            ("numbers", one.numbers, other.numbers),
        ):
            if has != wants:
                return f"{where}: {what} {has} for {wants}: {other.text}"
    if len(ours) != len(theirs):
        longer, rest = (page, ours[len(theirs) :]) if len(ours) > len(theirs) else (english, theirs[len(ours) :])
        return f"only {longer.name}:{rest[0].line} has this {rest[0].kind}: {rest[0].text}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_chinese_page_says_what_the_english_one_says(page: Path) -> None:
    found = difference(page)
    assert not found, found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_both_pages_lead_to_each_other_below_their_titles(page: Path) -> None:
    for one in (page, english_of(page)):
        assert one.read_text().splitlines()[2] == switch(one)


def test_the_readme_and_the_walk_through_the_paper_are_there_in_chinese() -> None:
    assert {ROOT / f"README{SUFFIX}", ROOT / f"docs/paper{SUFFIX}"} <= set(PAGES)


ENGLISH = """# Title

English | [简体中文](page.zh-CN.md)

It takes 5.6 ms on `engine`, see [below](#the-table).

```
make demo
```

## The table

| width | ms |
|---|---|
| 0.35 | 1,024 |

- one
- two of 5 million
"""
CHINESE = """# 标题

[English](page.md) | 简体中文

在 `engine` 上耗时 5.6 毫秒，见[下文](#表)。

```
make demo
```

## 表

| 宽度 | 毫秒 |
|---|---|
| 0.35 | 1,024 |

- 一
- 500 万个中的两个
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("5.6 ms", "5.7 ms", r"page.zh-CN.md:5 is not page.md:5: numbers \['5.6'\] for \['5.7'\]: It takes 5.7"),
        ("5 million", "6 million", r"numbers \['5,000,000'\] for \['6,000,000'\]"),
        ("`engine`", "`torch`", r"names \['engine'\] for \['torch'\]"),
        ("(#the-table)", "(other.md)", r"links \['#表'\] for \['other.md'\]"),
        ("make demo", "make test", "another code block:\n```\nmake demo"),
        ("## The table", "### The table", "a heading of level 2 for a heading of level 3: ### The table"),
        ("| 0.35 | 1,024 |", "| 0.35 | 1,025 |", r"numbers \['0.35', '1,024'\] for \['0.35', '1,025'\]"),
        ("| 0.35 | 1,024 |", "| 0.35 | 1,024 | - |", "a table row of 2 cells for a table row of 3 cells"),
        ("million\n", "million\n- three\n", "only page.md:19 has this list item: - three"),
        ("- two of 5 million\n", "", "only page.zh-CN.md:18 has this list item: - 500 万个中的两个"),
        ("- one\n", "A paragraph.\n\n- one\n", "a list item for a paragraph: A paragraph."),
    ],
    ids=["number", "million", "name", "link", "code", "heading", "cell", "cells", "longer", "shorter", "paragraph"],
)
def test_a_change_of_the_english_page_alone_is_named(before: str, after: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / f"page{SUFFIX}"
    page.write_text(CHINESE)
    english_of(page).write_text(ENGLISH)
    assert difference(page) == ""
    english_of(page).write_text(ENGLISH.replace(before, after))
    assert re.search(said, difference(page)), difference(page)


def test_a_link_to_a_page_that_is_there_in_chinese_leads_to_the_chinese_one(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text("# Page\n")
    other.write_text("# Other\n\n## 6.1: ImageNet\n")
    assert translated("other.md#61-imagenet", page) == "other.md#61-imagenet"
    chinese_of(other).write_text("# 另一页\n\n## 6.1：ImageNet 实验\n")
    assert translated("other.md#61-imagenet", page) == "other.zh-CN.md#61imagenet-实验"
    assert translated("https://example.org/other.md", page) == "https://example.org/other.md"
