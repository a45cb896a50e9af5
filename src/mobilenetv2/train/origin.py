"""Where a run comes from: the command that repeats it, the pictures, the machine, the date."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mobilenetv2.data.shard_files import absolute
from mobilenetv2.engine import cpu
from mobilenetv2.train import recipes
from mobilenetv2.train.hardware import on_apple, on_cuda
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.task import Data


def of_run(
    dataset: str, data: Data, *, command: str, machine: Mapping[str, Any], places: Mapping[str, Path | int]
) -> dict[str, Any]:
    """Plain JSON values for `run.json`, the folder in which `command` was given among them."""
    return {
        "dataset": absolute(dataset),
        "places": {
            name: place if isinstance(place, int) else os.path.abspath(place)
            for name, place in places.items()
            if place is not None
        },
        "pictures": {"train": data.train.per_class(len(data.names)), "val": data.val.per_class(len(data.names))},
        "command": command,
        "directory": os.getcwd(),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": dict(machine),
    }


def command(
    dataset: str, out: Path, recipe: Recipe, *, init: bool, teacher: bool, options: Mapping[str, object]
) -> str:
    """The shell command of a run that was not started by one.

    `options` are those of the command line that are not as they would be anyway, True for one without a value. Weights
    in memory have no name: STARTING_WEIGHTS and TEACHER stand for them.
    """
    of_task = recipes.of_task(recipe.task)
    named = of_task.get(recipe.name) or recipes.default(recipe.task, init=False)
    words = ["mobilenetv2", "train", dataset, "--out", str(out), "--recipe", named.name]
    for name in recipes.differences(named, recipe):
        value = getattr(recipe, name)
        # true, false, none
        words += ["--set", f"{name}={str(value).lower() if value is None or isinstance(value, bool) else value}"]
    words += ["--init", "STARTING_WEIGHTS"] if init else []
    words += ["--teacher", "TEACHER"] if teacher else []
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def machine(*, accelerator: str, processes: int, precision: str) -> dict[str, Any]:
    """What a run's speed depends on. `threads` are torch's, of each process."""
    return {
        "cpu": cpu.model_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device(accelerator),
        "processes": processes,
        "precision": precision,
        "system": platform.platform(),
    }


def _device(accelerator: str) -> str:
    if on_cuda(accelerator):
        return torch.cuda.get_device_name()
    return "Apple GPU" if on_apple(accelerator) else "CPU"
