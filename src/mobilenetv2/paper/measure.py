"""What a table gets where it is asked to measure time: which networks its rows are, and a column of the engine's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.paper import grid
from mobilenetv2.paper.cells import Cell, Table, with_column
from mobilenetv2.preprocessing import recipe
from mobilenetv2.spec import Spec, SSDLite, tensors

RUNS, LEAST_S = 20, 0.5  # at least so many calls, and so long
Networks = Mapping[str, tuple[Spec, int]]  # by the name of the row: what it describes, at which size in pixels


def networks(table: str) -> Networks:
    """The rows of a table that describe a network of ours; none where nothing can be measured."""
    return _NETWORKS[table]() if table in _NETWORKS else {}


def with_times(table: Table, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Table:
    """The table with a column of the engine's times on one thread of this machine, in milliseconds, beside the phone's
    that are printed."""
    from mobilenetv2.engine import cpu

    rows = networks(table.name)
    times: dict[str, Cell] = {}
    how = f"{cpu.model_name()}, one thread, float32, random weights; median of at least {RUNS} runs"
    for done, (row, (spec, size)) in enumerate(rows.items(), start=1):
        times[row] = Cell("", f"{milliseconds(spec, size):.1f}", "measured here", how)
        progress(done, len(rows))
    return with_column(table, "engine ms, 1 thread", times)


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


_NETWORKS: dict[str, Callable[[], Networks]] = {
    "table4": lambda: {
        "MobileNetV2": (grid.classifier(1.0), 224),
        "MobileNetV2 (1.4)": (grid.classifier(1.4), 224),
    },
    "grid": lambda: {grid.point(width, size): (grid.classifier(width), size) for width, size in grid.points()},
    "table6": lambda: {"MobileNetV2 + SSDLite": (Spec(head=SSDLite()), 320)},
}
MEASURED = tuple(_NETWORKS)
