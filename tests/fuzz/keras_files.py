"""Keras' files of weights and its archives: HDF5 written anew of changed layers, in ways that Keras does not."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import values
from fuzz.archives import Member, zip_changed, zipped
from fuzz.checkpoints import imports, warm
from fuzz.sandbox import Case
from fuzz.targets import Maker, Target, imported


def _prepare_keras(folder: Path) -> Maker:
    import h5py

    layers = _keras_layers()
    config = {
        "class_name": "Functional", "config": {
            "name": "mobilenetv2_0.10_96", "layers": [_INPUT],
        },
    }  # fmt: skip
    metadata = {"keras_version": "3.7.0", "date_saved": "2026-11-01@10:00:00"}
    good = _h5(h5py, layers)
    (folder / "good.h5").write_bytes(good)
    warm(folder / "good.h5")

    def make(rng: random.Random, here: Path) -> Case:
        changed = good if rng.random() < 0.25 else _h5(h5py, _layers_changed(rng, layers), rng)
        if rng.random() < 0.15:
            changed = values.bytes_changed(rng, changed)
        if rng.random() < 0.5:
            path = here / "weights.h5"
            path.write_bytes(changed)
        else:
            path = here / "model.keras"
            files = {"metadata.json": metadata, "config.json": config}
            members = [
                Member.of(name, values.dumps(_maybe(rng, tree)).encode(errors="surrogatepass"))
                for name, tree in files.items()
            ]
            members.append(Member.of("model.weights.h5", changed))
            path.write_bytes(zipped(zip_changed(rng, members) if rng.random() < 0.5 else members))
        return Case(imports(path), lambda: _is_h5(h5py, path))

    return make


def _maybe(rng: random.Random, tree: Any) -> Any:
    return values.changed(rng, tree) if rng.random() < 0.4 else tree


_INPUT = {"class_name": "InputLayer", "config": {"batch_shape": [None, 96, 96, 3]}}
Layers = list[tuple[str, list[tuple[str, np.ndarray]]]]


def _keras_layers() -> Layers:
    """The network's tensors as Keras orders and names them: kernels are [rows, columns, in, out]."""
    from mobilenetv2 import spec

    model = imported(padding="same", bn_eps=1e-3)
    made: Layers = []
    for conv in spec.convolutions(model.info.spec.backbone):
        kernel = model.tensors[f"{conv.name}.weight"].transpose((2, 3, 0, 1) if conv.groups > 1 else (2, 3, 1, 0))
        kind = "depthwise_kernel:0" if conv.groups > 1 else "kernel:0"
        made.append((conv.name, [(f"{conv.name}/{kind}", kernel)]))
        parts = zip(("gamma", "beta", "moving_mean", "moving_variance"), spec.NORM_PARTS, strict=True)
        norm = str(conv.norm)
        made.append((norm, [(f"{norm}/{theirs}:0", model.tensors[f"{norm}.{ours}"]) for theirs, ours in parts]))
    weight, bias = (model.tensors[f"classifier.1.{part}"] for part in ("weight", "bias"))
    return [*made, ("predictions", [("predictions/kernel:0", weight.T), ("predictions/bias:0", bias)])]


def _layers_changed(rng: random.Random, layers: Layers) -> Layers:
    layers = [(name, list(weights)) for name, weights in layers]
    for _ in range(int(rng.expovariate(0.8))):
        i, j = rng.randrange(len(layers)), rng.randrange(len(layers))
        name, weights = layers[i]
        k, roll = rng.randrange(max(len(weights), 1)), rng.random()
        if roll < 0.2 and weights:
            values_ = weights[k][1]
            other = rng.choice(
                (
                    values_.T,
                    values_[..., :-1],
                    values_ * np.float32(1e30),
                    values_.reshape(-1),
                    values_ * np.float32(np.nan),
                )
            )
            weights[k] = (weights[k][0], other)
        elif roll < 0.4 and weights:
            dtype = rng.choice(("f8", "f2", "i4", "u1", "S3", "c8"))
            weights[k] = (weights[k][0], np.zeros(weights[k][1].shape, dtype))
        elif roll < 0.6:
            layers[i], layers[j] = layers[j], layers[i]
        elif roll < 0.75:
            del layers[i]
        elif roll < 0.9:
            layers.insert(i, (name + "x", list(weights)))
        else:
            layers[i] = (rng.choice(("x\x1b[31m", "é", "y" * 300, "seed_generator")), weights)
    return layers


def _h5(h5py: Any, layers: Layers, rng: random.Random | None = None) -> bytes:
    """Keras' file of weights. With `rng` it may be stored in other ways: shapes without numbers, which HDF5 fills in
    when they are read, chunks, filters, links, and attributes of other kinds."""
    sparse = rng is not None and rng.random() < 0.25
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, weights in layers:
            group = file.require_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
            for weight, data in weights:
                if weight in group:
                    continue
                if rng is None or rng.random() < 0.9:
                    shape = (
                        rng.choice((data.shape, (50_000_000,), (7_000, 7_000), (3, 3, 2_000, 2_000)))
                        if sparse and rng
                        else None
                    )
                    if shape is None:
                        group.create_dataset(weight, data=data)
                    else:
                        group.create_dataset(weight, shape=shape, dtype=data.dtype if data.dtype.kind == "f" else "f4")
                elif data.dtype.kind == "f" and data.ndim:
                    ways: tuple[dict[str, Any], ...] = (
                        {"chunks": True, "compression": "gzip"},
                        {"chunks": True, "shuffle": True},
                        {"maxshape": (None,) * data.ndim},
                    )
                    group.create_dataset(weight, data=data, **rng.choice(ways))
        if rng is not None and rng.random() < 0.15:
            file.attrs[rng.choice(("layer_names", "model_config", "backend"))] = rng.choice(
                (b"x", 1, [1, 2], "\x1b[31m", [b"\xff"], [])
            )
        if rng is not None and rng.random() < 0.05:
            file["again"] = h5py.SoftLink(rng.choice(("/", "/again", "/nothing")))
    return stored.getvalue()


def _is_h5(h5py: Any, path: Path) -> bool:
    source: Any = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(source, "r") as file:
        return len(file) > 0


TARGETS = (Target("keras", _prepare_keras, 0.8),)
