"""A hint to install something names the place that this installation came from, never a stranger's package."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from mobilenetv2.errors import MissingExtraError
from mobilenetv2.installation import command_for

Installed = Callable[[object], None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """`installed(record)`: what pip noted as direct_url.json, an object or the file's text; None: no such file."""

    def install(record: object) -> None:
        text = record if record is None or isinstance(record, str) else json.dumps(record)

        class Distribution:
            def read_text(self, name: str) -> object:
                assert name == "direct_url.json"
                return text

        monkeypatch.setattr(metadata, "distribution", lambda name: Distribution())

    return install


def test_what_came_from_an_index_comes_from_there_again(installed: Installed) -> None:
    installed(None)
    assert command_for("train") == "pip install 'mobilenetv2[train]'"


@pytest.mark.parametrize("editable", [False, True])
def test_what_came_from_a_clone_comes_from_there_again(editable: bool, installed: Installed, tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    installed({"url": clone.as_uri(), "dir_info": {"editable": True} if editable else {}})
    words = shlex.split(command_for("train"))
    assert words == ["pip", "install", *(["--editable"] if editable else []), f"{clone}[train]"]


def test_what_came_from_a_repository_comes_from_there_again(installed: Installed) -> None:
    installed({"url": "https://example.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}})
    assert command_for("train") == "pip install 'mobilenetv2[train] @ git+https://example.org/m.git'"


@pytest.mark.parametrize(
    "record",
    ["", "[]", "{}", "null", '{"url": 1}', {"url": "file:///is/not/there"}, {"url": "file:///", "dir_info": 3}],
    ids=str,
)
def test_a_record_that_says_nothing_leads_to_a_clone(record: object, installed: Installed) -> None:
    installed(record)
    assert command_for("train") == "pip install '.[train]' in a clone of mobilenetv2"


def test_so_does_no_record_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    error = MissingExtraError("torch", extra="train", needed_for="training")
    assert str(error) == "training needs torch: pip install '.[train]' in a clone of mobilenetv2"
