"""What the library itself has to say to people: a line on stderr, once a process."""

from __future__ import annotations

import contextlib
import sys

from mobilenetv2.text import LONGEST_MESSAGE, plain

_said: set[str] = set()


def once(about: str, text: str) -> None:
    """Say `text` on stderr, unless something was said `about` the same before."""
    if about in _said or sys.stderr is None:
        return
    _said.add(about)
    with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream: no reason to fail
        print(f"note: {plain(text, LONGEST_MESSAGE)}", file=sys.stderr)
