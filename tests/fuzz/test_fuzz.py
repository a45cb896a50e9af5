"""A small share of `make fuzz`, the same cases every time: no fault, and many inputs get past the front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mobilenetv2
from fuzz import values
from fuzz.archives import Member, tar_member, unzip, zipped
from fuzz.campaign import targets
from fuzz.sandbox import has_controls, wrong_message

HERE = Path(__file__).parent
CASES = 20  # of each class: all of them take about 60 s of CPU
SLOW = {"network": 8, "cli": 10, "engine": 12}  # whose cases compile, or bring torch


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the fuzzer says, in a process of its own: it forks, and a test's process has threads."""
    found: dict[str, Any] = {}
    for count, names in [(CASES, sorted(targets().keys() - SLOW)), *((count, [name]) for name, count in SLOW.items())]:
        found |= fuzz("--class", ",".join(names), "--cases", count, "--each", out=tmp_path_factory.mktemp("fuzz"))
    return found


def fuzz(*options: object, out: Path) -> dict[str, Any]:
    paths = (Path(mobilenetv2.__file__).parents[1], HERE.parent, HERE.parent / "importers")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-m", "fuzz", "--json", "--out", str(out), *map(str, options)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode in (0, 1), ended.stderr[-2000:]
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", targets())
def test_no_input_does_anything_but_be_read_or_refused(results: dict[str, Any], name: str) -> None:
    faults = results[name]["faults"].values()
    assert not faults, "; ".join(f"case {one['first']}: {one['kind']} at {one['where']}" for one in faults)


@pytest.mark.parametrize("name", targets())
def test_a_fifth_of_the_inputs_gets_past_the_first_check(results: dict[str, Any], name: str) -> None:
    assert results[name]["past"] >= results[name]["cases"] / 5


def test_a_case_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    options = ("--class", "yolo,model", "--cases", 6, "--each")
    first, second = (fuzz(*options, "--jobs", jobs, out=tmp_path / str(jobs)) for jobs in (1, 2))
    assert [(one["past"], one["accepted"]) for one in first.values()] == [
        (one["past"], one["accepted"]) for one in second.values()
    ]


def test_messages_that_a_terminal_would_obey_are_wrong() -> None:
    assert wrong_message("a.png is empty: give another, 人 é") is None
    assert wrong_message("x" * 2001) == "a message that is too long"
    assert wrong_message("a\nb") == "a message of several lines"
    assert all(map(has_controls, ("\x1b[31m", "a\tb", "\u202e", "\u2028", "\ud800", "\x7f")))


def test_archives_that_are_written_are_read() -> None:
    members = [Member.of("a/b.txt", b"hello" * 100, deflated=True), Member.of("é", b"")]
    assert unzip(zipped(members)) == members
    header = tar_member("x.png", b"12345")[:512]
    assert (header[124:135], header[257:262]) == (b"00000000005", b"ustar")


def test_trees_keep_what_json_has_no_room_for() -> None:
    assert values.dumps({"a": [float("nan"), values.Raw("[[1]]"), 10**5000]}).startswith('{"a": [NaN, [[1]], 1000')
