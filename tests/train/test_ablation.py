"""The ablations of Figure 6: four networks that differ in one thing, trained alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn

import pytest

from mobilenetv2 import model_file, spec
from mobilenetv2.errors import TrainingError, UsageError
from mobilenetv2.paper import figure6
from mobilenetv2.train import ablation

TINY = ablation.Ablation(size=32, train=64, val=20, epochs=2, batch=32)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = (ablation.run("paper", seed, TINY) for seed in (0, 0, 1))
    assert first == again
    assert first.loss != other.loss
    assert len(first.accuracy) == len(first.loss) == 2


def test_a_variant_is_the_papers_network_but_for_one_field() -> None:
    assert set(ablation.VARIANTS) == set(figure6.NAMES)
    shapes = [spec.tensors(ablation.start(variant, outputs=10).info.spec) for variant in ablation.VARIANTS]
    assert all(found == shapes[0] for found in shapes)  # as many parameters, by the same names


def test_an_unknown_variant_and_too_few_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match="variant"):
        ablation.run("relu", 0, TINY)
    with pytest.raises(UsageError, match="at least one batch of 32"):
        ablation.run("paper", 0, ablation.Ablation(train=10, batch=32))
    with pytest.raises(UsageError, match="seeds must be at least 1"):
        ablation.runs(TINY, seeds=0)


def test_a_killed_process_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ThreadPoolExecutor):
        def __init__(self, workers: int, **_: object) -> None:
            super().__init__(workers)

    def killed(*_: object) -> NoReturn:
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(ablation, "ProcessPoolExecutor", Broken)
    monkeypatch.setattr(ablation, "run", killed)
    with pytest.raises(TrainingError, match="was killed after 0 of 4 runs"):
        ablation.runs(TINY, seeds=1)


def test_the_ablation_on_imagenet_begins_with_four_model_files(tmp_path: Path) -> None:
    commands = figure6.write_starts(tmp_path)
    assert len(commands) == 4
    shortcuts = {
        variant: model_file.read(tmp_path / f"{variant}.safetensors").info.spec.backbone.shortcut
        for variant in figure6.NAMES
    }
    assert shortcuts == {"paper": "bottleneck", "relu6": "bottleneck", "expansion": "expansion", "none": "none"}
