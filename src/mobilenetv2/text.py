"""Text for people: what came from outside made safe to show, on one line and of bounded length."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_VALUE = 80  # characters of one value quoted in a message, of a cell of a table
LONGEST_MESSAGE = 600  # characters of a message: a path of 300, a value, and the way out
LONGEST_LABEL = 160  # of a class's name in an answer; the longest list of synonyms among ImageNet's has 126
LONGEST_LINE = 1_000  # of a line on the terminal, such as the name of a photo or a note

_JOINERS = "\u200c\u200d"  # scripts and emoji are written with these
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: object, limit: int | None = LONGEST_VALUE) -> str:
    """`text` on one line, safe for a terminal, at most `limit` characters long (None: whole).

    Control characters (ESC, newlines), bidirectional and other invisible marks, line separators and lone surrogates are
    shown as Python's escapes. Of what is too long the middle is left out, since a message ends with the way out.
    """
    characters = str(text)
    if limit is not None and len(characters) > limit:  # before the work on each character
        characters = _shortened(characters, limit)
    if not characters.isascii() or not characters.isprintable():
        characters = "".join(map(_escaped, characters))
        if limit is not None and len(characters) > limit:
            characters = _shortened(characters, limit)
    return characters


def quoted(value: object, limit: int = LONGEST_VALUE) -> str:
    """`value` as Python writes it, safe and short: texts in quotes, numbers as digits.

    A text is cut before it is quoted, and a number of thousands of digits, which Python refuses to write, is described.
    """
    if isinstance(value, str):
        return plain(repr(_shortened(value, limit)), limit + 2)
    try:
        return plain(repr(value), limit)
    except ValueError:
        return "a number of thousands of digits"
    except RecursionError:
        return "a value nested too deep to show"


def joined(texts: Iterable[object], limit: int = LONGEST_LINE) -> str:
    """One safe line for each of `texts`, whatever names they contain."""
    return "\n".join(plain(text, limit) for text in texts)


def json_line(value: object) -> str:
    """Plain JSON values whole, on one line, in letters that people read: what `plain` escapes, JSON escapes here."""
    import json  # with the next import 2 ms of every start, and most starts need neither

    written = json.dumps(value, ensure_ascii=False)
    if written.isascii() and written.isprintable():
        return written
    # only texts can have such characters, and there JSON's escape stands for the character
    return written.translate({ord(c): _json_escape(c) for c in set(written) if _escaped(c) != c})


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """ "1 picture", "2,000 pictures"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 3
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    import unicodedata

    kind = unicodedata.category(character)
    if kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in _JOINERS):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
