"""The words that a page is written in: escaped text, elements, pictures that lie inside the page, its style."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from mobilenetv2 import plots
from mobilenetv2.plots import Tile


class Html(str):
    """Markup. Any other text is escaped on its way into a page."""

    __slots__ = ()


def tag(name: str, *inside: object, **attributes: object) -> Html:
    """The element `name`; what is `inside` is escaped unless it is `Html`. `class_` stands for class."""
    return Html(f"{_start(name, attributes)}{joined(inside)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """The parts one after the other, escaped unless they are `Html`."""
    return Html("".join(part if isinstance(part, Html) else html.escape(str(part)) for part in parts))


def table(
    rows: Iterable[Sequence[object]], *, header: Sequence[object] = (), right: Sequence[int] = (), class_: str = ""
) -> Html:
    """Rows of cells; the columns listed in `right` are aligned right. A long table scrolls in its own frame."""

    def row(cells: Sequence[object], kind: str) -> Html:
        return tag("tr", *(tag(kind, cell, class_="r" if i in right else "") for i, cell in enumerate(cells)))

    head = tag("thead", row(header, "th")) if header else ""
    body = tag("tbody", *(row(cells, "td") for cells in rows))
    return tag("div", tag("table", head, body, class_=class_), class_="frame")


def chart(png: bytes, text: str) -> Html:
    """A chart, and what it shows for those who cannot see it."""
    return tag("figure", _image(png, "png", text), class_="chart")


def photos(tiles: Iterable[Tile], *, wide: bool = False) -> Html:
    """The tiles in rows, as many as fit, `wide` ones larger; their texts are text, to be searched and copied."""
    return tag("div", *map(_photo, tiles), class_="photos wide" if wide else "photos")


def key(colours: Iterable[tuple[plots.Colour, str]]) -> Html:
    """What colours stand for: a patch of each and its text."""
    return tag(
        "p",
        *(
            tag("span", tag("i", style=f"background:rgb({red},{green},{blue})"), text)
            for (red, green, blue), text in colours
        ),
        class_="key",
    )


def sentences(title: str, lines: Sequence[str]) -> list[Html]:
    """A list below a line."""
    listed = tag("ul", *(tag("li", line) for line in lines), class_="frame")
    return [tag("p", title), *([listed] if lines else [])]


def bar(share: float) -> Html:
    """A bar that is filled to a share 0..1."""
    return tag("span", tag("span", style=f"width:{100 * share:.1f}%"), class_="bar")


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def command(text: str) -> Html:
    """A shell command, selected as a whole by a click."""
    return tag("pre", tag("code", text))


def document(title: str, *body: object) -> Html:
    """The whole page. Its policy forbids browsers to load anything from anywhere."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    head = (
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(style)),
    )
    return Html(f'<!doctype html>\n<html lang="en">{tag("head", *head)}{tag("body", tag("main", *body))}</html>\n')


def _photo(tile: Tile) -> Html:
    first, *rest = tile.lines
    caption = tag("figcaption", tag("b", first), *(tag("span", line) for line in rest))
    return tag("figure", _image(plots.jpeg(tile.rgb), "jpeg", ", ".join(tile.lines)), caption,
               class_="wrong" if tile.right is False else "")  # fmt: skip


def _image(data: bytes, kind: str, text: str) -> Html:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Html(_start("img", {"src": source, "alt": text}))


def _start(name: str, attributes: dict[str, object]) -> str:
    shown = (
        f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items() if value or key == "alt"
    )
    return f"<{name}{''.join(shown)}>"
