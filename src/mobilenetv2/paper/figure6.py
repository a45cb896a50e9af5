"""Figure 6: what non-linear bottlenecks cost, and where shortcuts belong: trained for real, with seeds and spread.

The curves come from `figure6.json`, which holds a run of `train`; the paper's own ablation is on ImageNet.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files
from mobilenetv2.charts import new_figure, png
from mobilenetv2.errors import UsageError

STORED = "figure6.json"
NAMES = {
    "paper": "linear bottleneck, shortcuts between bottlenecks",
    "relu6": "ReLU6 in the bottleneck",
    "expansion": "shortcuts between expansions",
    "none": "no shortcuts",
}
PANELS = (("a: the bottleneck", ("paper", "relu6")), ("b: shortcuts", ("paper", "expansion", "none")))
_COLOURS = {"paper": "#4a90c2", "relu6": "#e03131", "expansion": "#f08c00", "none": "#868e96"}


@dataclass(frozen=True, slots=True)
class Curve:
    """One variant over its seeds: validation accuracy in per cent after each epoch, [E].

    `spread` is the sample standard deviation over the seeds; `finals` are the last epoch's accuracies, seed by seed.
    """

    variant: str
    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    finals: tuple[float, ...]


def stored() -> dict[str, Any]:
    """The run that is kept with the package: "recipe", "runs", and where and when it was made."""
    return json.loads(resources.files("mobilenetv2.paper").joinpath(STORED).read_text("utf-8"))


def train(
    *,
    seeds: int = 3,
    processes: int = 2,
    done: Callable[[str, int, float], None] = lambda variant, seed, accuracy: None,
) -> dict[str, Any]:
    """The same, trained now: about 1.5 minutes of one core per run, 4 variants x `seeds`. Needs torch.

    `done` is called after each run with its variant, seed and last accuracy.
    """
    from importlib.metadata import version

    from mobilenetv2.engine import cpu
    from mobilenetv2.train import ablation

    recipe = ablation.Ablation()
    runs = ablation.runs(
        recipe, seeds=seeds, processes=processes, done=lambda run: done(run.variant, run.seed, run.accuracy[-1])
    )
    return {
        "command": f"mobilenetv2 paper figure6 --train --seeds {seeds}",
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu.model_name(),
        "versions": {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")},
        "data": "generated shapes (mobilenetv2.data.shapes), 10 classes; series 0 to train, series 1 to validate",
        "recipe": asdict(recipe),
        "runs": [asdict(run) for run in runs],
    }


def curves(result: Mapping[str, Any]) -> list[Curve]:
    """The variants' curves, best last accuracy first. Raises `UsageError` where there are no runs."""
    if not result["runs"]:
        raise UsageError("Figure 6 needs at least one run, got none")
    found: list[Curve] = []
    for variant in NAMES:
        all_SE = np.array([run["accuracy"] for run in result["runs"] if run["variant"] == variant])
        if len(all_SE):
            spread = all_SE.std(axis=0, ddof=1) if len(all_SE) > 1 else np.zeros(all_SE.shape[1])
            found.append(Curve(variant, all_SE.mean(axis=0), spread, tuple(all_SE[:, -1].tolist())))
    return sorted(found, key=lambda curve: -curve.mean[-1])


def rows(result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """A line per variant, best first: its name, last accuracy, spread over seeds, the seeds' own."""
    return [
        (
            NAMES[curve.variant], f"{curve.mean[-1]:.1f}", f"{curve.spread[-1]:.1f}",
            ", ".join(f"{final:.1f}" for final in curve.finals),
        )
        for curve in curves(result)
    ]  # fmt: skip


def draw(result: Mapping[str, Any]) -> bytes:
    """A PNG: the paper's two panels, mean over the seeds with a band of one standard deviation."""
    found = {curve.variant: curve for curve in curves(result)}
    figure = new_figure(figsize=(10.4, 4.2))
    for axes, (title, variants) in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
        for variant in variants:
            curve, colour = found[variant], _COLOURS[variant]
            epochs = np.arange(1, len(curve.mean) + 1)
            axes.fill_between(
                epochs, curve.mean - curve.spread, curve.mean + curve.spread, color=colour, alpha=0.2, lw=0
            )
            spread = f" ± {curve.spread[-1]:.1f}" if len(curve.finals) > 1 else ", one seed"
            name = f"{NAMES[variant]}: {curve.mean[-1]:.1f}{spread}"
            axes.plot(epochs, curve.mean, color=colour, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(color="#f1f3f5")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 100)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper left", fontsize=8, frameon=False)
        axes.set_ylabel("validation accuracy, %")
    return png(figure)


def write(path: str | PathLike[str], *, result: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Draw `result` (None: what is stored) to `path`; its curves' ends, best first, and how they were made."""
    result = stored() if result is None else result
    files.write_bytes(path, draw(result))
    ends = [
        {
            "variant": curve.variant,
            "name": NAMES[curve.variant],
            "accuracy": round(float(curve.mean[-1]), 2),
            "spread": round(float(curve.spread[-1]), 2),
            "seeds": list(curve.finals),
        }
        for curve in curves(result)
    ]
    return {"curves": ends, **{name: value for name, value in result.items() if name != "runs"}}


def write_starts(folder: str | PathLike[str], *, seed: int = 0) -> list[str]:
    """The ablation on ImageNet: writes each variant's first weights to `folder` (needs torch).

    Returns the four commands that train from them with the paper's recipe. Raises `FileError`.
    """
    from mobilenetv2 import model_file
    from mobilenetv2.train import ablation

    commands: list[str] = []
    for variant in NAMES:
        path = Path(folder) / f"{variant}.safetensors"
        model_file.write(path, ablation.start(variant, seed=seed))
        commands.append(f"mobilenetv2 train IMAGENET --recipe paper --init {path} -o figure6-{variant}")
    return commands
