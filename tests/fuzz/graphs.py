"""Graphs as other runtimes store them: TFLite's flatbuffers, written anew of changed records, and ncnn's two files."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import values
from fuzz.checkpoints import imports, warm
from fuzz.sandbox import Case
from fuzz.targets import Maker, Target, imported, tensors
from importers.tflite_files import Author, write_network
from mobilenetv2 import image
from mobilenetv2.model_file import ModelFile, ModelInfo

_KINDS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "ADD",
    "MEAN",
    "FULLY_CONNECTED",
    "SOFTMAX",
    "PAD",
    "RESHAPE",
    "LOGISTIC",
    "CONCATENATION",
)
_SMALL_INTS = (0, 1, 2, 3, -1, 5, 8, 255, 1_000, 65_536, (1 << 31) - 1, -(1 << 31))


def _prepare_tflite(folder: Path) -> Maker:
    import tflite

    model = imported(padding="same", bn_eps=1e-3)
    good = [write_network(model, size=32, storage=storage) for storage in ("float32", "float16", "int8", "uint8")]
    good.append(write_network(model, size=32, explicit_padding=True, pool="AVERAGE_POOL_2D", fully_connected=False))
    files = [one.to_bytes() for one in good]
    (folder / "good.tflite").write_bytes(files[0])
    warm(folder / "good.tflite")

    def make(rng: random.Random, here: Path) -> Case:
        path, roll = here / "model.tflite", rng.random()
        i = rng.randrange(len(good))
        if roll < 0.6:
            path.write_bytes(_graph_changed(rng, good[i]))
        elif roll < 0.85:
            path.write_bytes(_field_changed(rng, files[i]))
        else:
            path.write_bytes(values.bytes_changed(rng, files[i]))

        def sound() -> bool:
            read: Any = tflite.Model.GetRootAs(path.read_bytes(), 0)
            return (
                tflite.Model.ModelBufferHasIdentifier(path.read_bytes(), 0) and read.Subgraphs(0).OperatorsLength() > 0
            )

        return Case(imports(path), sound)

    return make


def _graph_changed(rng: random.Random, good: Author) -> bytes:
    """The records with a few changed. Numbers of tensors are shared, so that only what is changed is copied."""
    a = copy.copy(good)
    a.tensors, a.operators = [copy.copy(one) for one in good.tensors], [copy.copy(one) for one in good.operators]
    for _ in range(1 + int(rng.expovariate(1.0))):
        if rng.random() < 0.5:
            _tensor_changed(rng, a)
        else:
            _operator_changed(rng, a)
    try:
        return a.to_bytes()
    except (OverflowError, ValueError, TypeError, KeyError):
        return good.to_bytes()  # a number that the format has no room for


def _tensor_changed(rng: random.Random, a: Author) -> None:
    one, roll = rng.choice(a.tensors), rng.random()
    if roll < 0.3:
        one.shape = rng.choice(
            ((), (0,), one.shape[::-1], (*one.shape, 1), one.shape[:-1], (-1,), (1 << 30, 1 << 30), (3,) * 30)
        )
    elif roll < 0.45:
        one.dtype = rng.choice(("float32", "float16", "int32", "uint8", "int64", "int8"))
    elif roll < 0.6 and one.values is not None:
        one.values = rng.choice(
            (one.values[:0], one.values[:-1], np.zeros_like(one.values), np.repeat(one.values, 2, 0))
        )
    elif roll < 0.7 and one.values is not None and one.values.dtype.kind == "f":
        one.values = one.values * np.float32(rng.choice((np.nan, np.inf, 1e30, 0)))
    elif roll < 0.85:
        one.scales = np.array(rng.choice(([], [0.0], [np.nan], [np.inf], [-1.0], [1e-30], [1e30] * 3)))
        one.zero_points = np.array(rng.choice(([], [0], [-1], [255], [1 << 40], [0, 1])))
    elif roll < 0.95:
        one.name = rng.choice(values.TEXTS).encode("utf-8", "replace").decode()[:2_000]
    else:
        one.axis = rng.choice(_SMALL_INTS[:8])


def _operator_changed(rng: random.Random, a: Author) -> None:
    i = rng.randrange(len(a.operators))
    one, roll = a.operators[i], rng.random()
    any_tensor = rng.choice((*range(len(a.tensors)), -1, len(a.tensors), 1 << 30))
    if roll < 0.3:
        ends = list(one.inputs if rng.random() < 0.7 else one.outputs)
        if ends and rng.random() < 0.7:
            ends[rng.randrange(len(ends))] = any_tensor
        else:
            ends = rng.choice(([], [*ends, any_tensor], ends[:-1], ends * 100))
        one.inputs, one.outputs = (ends, one.outputs) if rng.random() < 0.7 else (one.inputs, ends)
    elif roll < 0.6 and one.options:
        option = rng.choice(list(one.options))
        one.options = {**one.options, option: rng.choice(_SMALL_INTS)}
        if option in ("Padding", "FusedActivationFunction"):
            one.options[option] = rng.choice((0, 1, 2, 3, 4, 5, 127))
    elif roll < 0.75:
        one.kind = rng.choice(_KINDS)
        one.options = {}
    elif roll < 0.85:
        del a.operators[i]
    elif roll < 0.95:
        a.operators.insert(rng.randrange(len(a.operators) + 1), one)
    else:
        a.inputs, a.outputs = rng.choice(
            (([], a.outputs), (a.outputs, a.inputs), ([any_tensor], a.outputs), (a.inputs, [any_tensor]))
        )


def _field_changed(rng: random.Random, data: bytes) -> bytes:
    """A number of 32 bits at a place where the file has a small one: lengths, places and fields of its tables."""
    changed = bytearray(data)
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    small = np.flatnonzero((words > 0) & (words < 4_096))
    for _ in range(1 + int(rng.expovariate(1.0))):
        at = 4 * int(rng.choice(small))
        number = int.from_bytes(changed[at : at + 4], "little")
        other = rng.choice(
            (0, 1, number + 1, number - 1, number + 4, number * 2, 255, 65_535, (1 << 31) - 1, (1 << 32) - 1)
        )
        changed[at : at + 4] = (other % (1 << 32)).to_bytes(4, "little")
    return bytes(changed)


def _prepare_ncnn(folder: Path) -> Maker:
    from importers.ncnn_files import CAFFE_ANCHORS, write_detector
    from mobilenetv2.spec_fields import backbone, network, ssdlite

    head = ssdlite(classes=3, anchors=CAFFE_ANCHORS, extras=(16, 8, 8, 8))
    described = network(backbone(width_mult=0.1, last_channels=16, padding="same", bn_eps=1e-3), head)
    folded = {"running_mean": 0.0, "running_var": 1 - 1e-3, "weight": 1.0}  # the norm is the identity, but for its bias
    made = {
        name: np.full_like(value, folded[part])
        if value.ndim == 1 and (part := name.rpartition(".")[2]) in folded
        else value
        for name, value in tensors(described, 0).items()
    }
    model = ModelFile(ModelInfo(described, image.recipe("ssd", 96)), made)
    warm(write_detector(model).write(folder / "good"))
    text, numbers = (folder / "good.param").read_text(), (folder / "good.bin").read_bytes()

    def make(rng: random.Random, here: Path) -> Case:
        roll = rng.random()
        changed: Any = text if roll < 0.2 else values.text_changed(rng, text)
        data = changed.encode("utf-8", "surrogatepass")
        path = here / "model.param"
        path.write_bytes(values.bytes_changed(rng, data) if roll > 0.9 else data)
        path.with_suffix(".bin").write_bytes(values.bytes_changed(rng, numbers) if rng.random() < 0.4 else numbers)
        return Case(imports(path), lambda: path.read_text().splitlines()[0].strip() == "7767517")

    return make


TARGETS = (Target("tflite", _prepare_tflite, 0.8), Target("ncnn", _prepare_ncnn, 0.8))
