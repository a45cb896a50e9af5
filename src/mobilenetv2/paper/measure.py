"""What a table gets where it is asked to measure: columns with the engine's time, and with accuracy on ImageNet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.paper import grid
from mobilenetv2.paper.cells import Cell, Table
from mobilenetv2.preprocessing import recipe
from mobilenetv2.spec import Spec, SSDLite, tensors

RUNS, LEAST_S = 20, 0.5  # at least so many calls, and so long
Networks = Mapping[str, tuple[Spec, int]]  # by the name of the row: what it describes, at which size in pixels


def networks(table: str) -> Networks:
    """The rows of a table that describe a network of ours; none where nothing can be measured."""
    return _NETWORKS[table]() if table in _NETWORKS else {}


def with_times(table: Table, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Table:
    """The table with a column of the engine's times on one thread of this machine, in milliseconds."""
    rows = networks(table.name)
    times: dict[str, str] = {}
    for done, (row, (spec, size)) in enumerate(rows.items(), start=1):
        times[row] = f"{milliseconds(spec, size):.1f}"
        progress(done, len(rows))
    return _with_column(table, "engine ms, 1 thread", times)


def with_accuracies(table: Table, imagenet: str, models: Sequence[str]) -> Table:
    """The table with a column of the top-1 in per cent that `models` (files or zoo names) have on `imagenet`, a folder.

    Each stands in the row of its width and resolution. Raises `UsageError` for a model that no row describes, and what
    loading and evaluating do.
    """
    from mobilenetv2.data.classification import open_classification
    from mobilenetv2.evaluate import evaluate
    from mobilenetv2.predictor import load

    rows = {(spec.task, spec.backbone.width_mult, size): row for row, (spec, size) in networks(table.name).items()}
    found: dict[str, str] = {}
    for name in models:
        predictor = load(name)
        info = predictor.info
        row = rows.get((info.task, info.spec.backbone.width_mult, info.preprocessing.size[0]))
        if row is None or info.task != "classification":
            size = "x".join(map(str, info.preprocessing.size))
            what = f"{info.task} of width {info.spec.backbone.width_mult:g} at {size}"
            known = ", ".join(rows.values())
            raise UsageError(f"{name} is for {what}, which is no row of {table.name}: they are {known}")
        evaluation = evaluate(predictor, open_classification(imagenet, classes=info))
        found[row] = f"{100 * evaluation.top1:.1f} ({evaluation.n} pictures)"
    return _with_column(table, "top-1 here", found)


def milliseconds(spec: Spec, size: int) -> float:
    """The engine's median time for one picture of `size` x `size` pixels on one thread; the weights are random."""
    from mobilenetv2.engine import Engine

    engine = Engine(random_model(spec, size), threads=1)
    images_BHWC = np.zeros((1, size, size, spec.backbone.in_channels), np.float32)
    engine.run(images_BHWC)
    times: list[float] = []
    while len(times) < RUNS or sum(times) < LEAST_S:
        began = time.perf_counter()
        engine.run(images_BHWC)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def random_model(spec: Spec, size: int, *, seed: int = 0) -> ModelFile:
    """A model of this network with random weights under which activations neither explode nor die."""
    rng = np.random.default_rng(seed)
    values: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in tensors(spec).items():
        if len(shape) > 1:
            values[name] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        else:  # batch norm's four, and biases
            values[name] = np.full(shape, name.endswith((".weight", "running_var")), np.float32)
    kind = "torchvision-v1" if spec.task == "classification" else "ssd"
    return ModelFile(ModelInfo(spec, recipe(kind, size)), values)


def _with_column(table: Table, title: str, by_row: Mapping[str, str]) -> Table:
    rows = tuple((row, (*cells, _measured(by_row.get(row)))) for row, cells in table.rows)
    return replace(table, columns=(*table.columns, title), rows=rows)


def _measured(text: str | None) -> Cell:
    return Cell("", "") if text is None else Cell("", text, "measured here")


_NETWORKS: dict[str, Callable[[], Networks]] = {
    "table4": lambda: {
        "MobileNetV2": (grid.classifier(1.0), 224),
        "MobileNetV2 (1.4)": (grid.classifier(1.4), 224),
    },
    "grid": lambda: {grid.point(width, size): (grid.classifier(width), size) for width, size in grid.points()},
    "table6": lambda: {"MobileNetV2 + SSDLite": (Spec(head=SSDLite()), 320)},
}
MEASURED = tuple(_NETWORKS)
