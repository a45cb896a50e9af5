"""Timing runtimes beside each other: what is compared, what is left out and why, what is printed."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mobilenetv2 import cli, model_file
from mobilenetv2.benchmark import measure
from mobilenetv2.benchmark.measure import Setting, Worker
from mobilenetv2.benchmark.runtimes import RUNTIMES, Result
from mobilenetv2.errors import BenchmarkError, UsageError
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]


@pytest.fixture(scope="module")
def small(random_model: RandomModel) -> ModelFile:
    return random_model(size=16, outputs=4, stages=((1, 8, 1, 1),), last_channels=16)


@pytest.mark.slow
def test_every_setting_is_measured_in_every_runtime(small: ModelFile) -> None:
    steps: list[tuple[int, int]] = []
    timings = measure.benchmark(
        small, threads=[1, 2], batches=[1, 3], runtimes=["torch"], rounds=2,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    wanted = [(name, threads, batch) for batch in (1, 3) for threads in (1, 2) for name in ("engine", "torch")]
    assert [(timing.runtime, timing.threads, timing.batch) for timing in timings] == wanted
    assert steps == [(done, 8) for done in range(1, 9)]
    for timing in timings:
        middle, low, high = timing.seconds
        assert 0 < low <= middle <= high
        assert timing.first_s > 0
        assert timing.difference < 1e-5
        assert timing.problem is None
        assert len(timing.bursts) == 2
    for ours, theirs in zip(timings[::2], timings[1::2], strict=True):
        turns = [statistics.median(a) / statistics.median(b) for a, b in zip(theirs.bursts, ours.bursts, strict=True)]
        assert ours.ratio == 1
        assert min(turns) <= theirs.ratio <= max(turns)  # which is faster is the report's matter: CI machines are noisy


@pytest.mark.slow
def test_detectors_are_measured_too(random_detector: RandomModel) -> None:
    head = {"taps": ("s2.expanded", "out"), "extras": (8,), "anchors": [[(0.2, 0.3)]] * 3}
    model = random_detector(size=32, head=head, stages=((1, 8, 1, 1), (2, 8, 1, 2)), last_channels=16)
    timings = measure.benchmark(model, threads=[2], batches=[2], runtimes=["torch"], rounds=1)
    assert [timing.runtime for timing in timings] == ["engine", "torch"]
    assert all(timing.problem is None and timing.difference < 1e-5 for timing in timings)


@pytest.mark.slow
def test_what_computes_something_else_is_not_timed(small: ModelFile, tmp_path: Path) -> None:
    stem = tmp_path / "model"
    measure.prepare(small, stem, (16, 16))
    with np.load(stem.with_suffix(".npz")) as right:
        np.savez(stem.with_suffix(".npz"), logits=right["logits"] * 1.01)
    (timing,) = measure.take_turns([Worker("engine", Setting(stem, (16, 16), 3, 1, 1))], 1)
    assert timing.problem is not None
    assert "of the largest output" in timing.problem
    assert timing.bursts == []
    assert timing.to_json() == {"runtime": "engine", "threads": 1, "batch": 1, "problem": timing.problem}
    assert f"engine: not timed: {timing.problem}" in measure.text([timing])


@pytest.mark.slow
@pytest.mark.parametrize("align_corners", [True, False])
def test_masks_are_the_same_from_a_runtimes_graph_and_from_the_engines_code(
    random_segmenter: RandomModel, tmp_path: Path, align_corners: bool
) -> None:
    stem, size, stages = tmp_path / "model", (33, 33), ((1, 8, 1, 1), (2, 8, 1, 2))
    model = random_segmenter(size=33, head={"align_corners": align_corners}, stages=stages)
    picture = np.random.default_rng(5).normal(size=(1, *size, 3)).astype(np.float32)
    measure.prepare(model, stem, size, picture)
    forms: list[tuple[str, Result]] = [("engine", "mask"), ("torch", "mask"), ("torch", "mask after")]
    workers = [Worker(name, Setting(stem, size, 3, 1, 2, result)) for name, result in forms]
    timings = measure.take_turns(workers, 1)
    assert [(timing.runtime, timing.result, timing.problem) for timing in timings] == [(*form, None) for form in forms]
    with np.load(stem.with_suffix(".npz")) as right:
        assert right["mask"].shape == (1, *size)
        np.savez(stem.with_suffix(".npz"), mask=(right["mask"] + 1).astype(np.uint8))
    wrong = Worker("engine", Setting(stem, size, 3, 1, 1, "mask"))
    wrong.close()
    assert wrong.timing.problem == "differs by 1.0e+00 of the mask's pixels"


def test_a_process_that_ends_is_reported_with_its_last_words(small: ModelFile, tmp_path: Path) -> None:
    worker = Worker("engine", Setting(tmp_path / "model", (16, 16), 3, 1, 1))
    assert worker.timing.problem is not None
    assert str(tmp_path / "model.safetensors") in worker.timing.problem
    assert worker.burst(3) == []
    worker.close()


def test_an_engine_that_does_not_run_is_an_error(small: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENETV2_CPU", "abacus")
    with pytest.raises(BenchmarkError, match="unknown CPU 'abacus'"):
        measure.benchmark(small, threads=[1], runtimes=["torch"], rounds=1)


def test_runtimes_that_are_unknown_or_missing_are_refused(small: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown runtime 'tourch': did you mean 'torch'"):
        measure.benchmark(small, runtimes=["tourch"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="LiteRT needs pip install ai-edge-litert torch litert-torch"):
        measure.benchmark(small, runtimes=["LiteRT"])
    assert measure.installed() == ["engine"]


def test_only_what_has_been_converted_can_run(small: ModelFile, tmp_path: Path) -> None:
    stem = tmp_path / "model"
    measure.prepare(small, stem, (16, 16))
    assert measure.convert("torch", stem, (16, 16)) is None  # reads the model file itself
    problem = measure.convert("ExecuTorch", stem, (16, 16))
    assert RUNTIMES["ExecuTorch"].missing == () or problem is not None


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(small: ModelFile, tmp_path: Path) -> None:
    model_file.write(tmp_path / "m.safetensors", small)
    arguments = ["bench", str(tmp_path / "m.safetensors"), "--size", "24", "--threads", "1", "--rounds", "1"]
    done = CliRunner().invoke(cli.app, [*arguments, "--runtime", "torch"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert " ".join(lines[0].split()) == "runtime threads batch ms 10 to 90 % images/s time / engine's start, ms MiB"
    assert [line.split()[0] for line in lines[1:3]] == ["engine", "torch"]
    assert "run at 24x24" in done.stderr
    done = CliRunner().invoke(cli.app, [*arguments, "--runtime", "engine, uint8 pixels", "--json"])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["runtime"] for one in found] == ["engine", "engine, uint8 pixels"]
    assert "difference" not in found[1]
    assert found[0]["images_per_second"] == pytest.approx(1000 / found[0]["ms"])
