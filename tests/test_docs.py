"""The documentation is true: every `sh` block runs, every `python` block runs, every link leads somewhere."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer

from mobilenetv2 import cli
from mobilenetv2.data.shape_sets import write_image_folder
from mobilenetv2.data.shapes import CLASSES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WITH_COMMANDS = [
    page
    for page in PAGES
    if re.search(r"^```(sh|python)$", page.read_text(), re.MULTILINE)
    and not page.name.endswith(".zh-CN.md")  # tests/test_chinese_pages.py: they have the English pages' blocks
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, pack: Callable[..., Path]) -> Path:
    """A folder with what the pages name: weights.pth, photo.jpg, pictures/, shards/, labelled.csv."""
    import matplotlib

    from mobilenetv2.nn import mobilenet_v2

    folder = tmp_path_factory.mktemp("docs")
    torch.manual_seed(0)
    torch.save(mobilenet_v2().state_dict(), folder / "weights.pth")
    shutil.copy(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg", folder / "photo.jpg")
    write_image_folder(folder / "pictures", train=20, val=10, size=64)
    pack(folder / "pictures", folder / "shards")
    first = sorted((folder / "pictures" / "val" / CLASSES[0]).iterdir())[0]
    (folder / "labelled.csv").write_text(f"path,label\n{first.relative_to(folder)},{CLASSES[0]}\n")
    return folder


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_their_order(
    page: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for name in ("runs", "drawn", "report", "mistakes"):
        shutil.rmtree(name, ignore_errors=True)
    if not Path("model.safetensors").exists():
        run_command("mobilenetv2 import weights.pth -o model.safetensors", monkeypatch)
    commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line]
    snippets = blocks(page, "python")
    assert commands or snippets
    for command in commands:
        if not command.startswith("make "):
            run_command(command, monkeypatch)
    for snippet in snippets:
        exec(compile(snippet, str(page), "exec"), {})
    capsys.readouterr()


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "mobilenetv2", command
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code, command


def test_make_targets_named_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert {"demo", "test", "test-all"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_command_reference_has_every_verb_and_option() -> None:
    """Not compared letter by letter: the generator's wording changes with Typer's version."""
    reference = (ROOT / "docs" / "cli.md").read_text()
    group = typer.main.get_command(cli.app)
    for verb, command in group.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        _, found, section = reference.partition(f"## `mobilenetv2 {verb}`\n")
        assert found, f"{verb}: run `make docs`"
        section = section.partition("\n## ")[0]
        for option in (name for parameter in command.params for name in parameter.opts if name.startswith("--")):
            assert f"`{option}" in section or f", {option}" in section, f"{verb} {option}: run `make docs`"
