"""Other libraries' checkpoints of named tensors: torch's zip and stream, safetensors, NumPy's npz, Hugging Face's
folders and Keras' files."""

from __future__ import annotations

import io
import json
import os
import pickletools
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import values
from fuzz.archives import Member, unzip, zip_changed, zipped
from fuzz.models import joined, split
from fuzz.sandbox import Case
from fuzz.targets import Maker, Target, imported
from mobilenetv2 import model_file
from mobilenetv2.importers import import_file

Change = Callable[[random.Random, str, bytes], bytes]

HINTS = (
    "mobilenet_v2", "MobileNetV2ForImageClassification", "relu6", "relu", "tf", 8, 16, 32, 224, [224, 224], {"height": 96, "width": 96},
    {"shortest_edge": 256}, {"0": "cat", "1": "dog"}, 2, 3, 0.001, 1 / 255, [0.5, 0.5, 0.5], "F32", "F16", "BF16", "F64", "I64", [0, 8],
)  # fmt: skip


def imports(path: Path) -> Callable[[], None]:
    """Import the file, and check what came of it as if it were to be written."""

    def run() -> None:
        model = import_file(path)
        model_file.check(model, name=str(path))
        json.dumps(model.info.provenance)

    return run


def warm(path: Path) -> None:
    """Import a good file in the parent, so that no child has to import modules: 0.1 s each."""
    import_file(path)


# -- torch


def _prepare_torch(folder: Path) -> Maker:
    if (writer := os.fork()) == 0:  # torch stays in a process of its own: each fork of this one would cost 30 ms more
        try:
            _write_torch(folder)
        finally:
            os._exit(0)
    os.waitpid(writer, 0)
    for name in ("zip", "stream"):
        warm(folder / f"{name}.pth")
    archives = [unzip((folder / f"{name}.pth").read_bytes()) for name in ("zip", "half")]
    stream = (folder / "stream.pth").read_bytes()

    def make(rng: random.Random, here: Path) -> Case:
        path, roll = here / "weights.pth", rng.random()
        if roll < 0.55:
            path.write_bytes(zipped(_of_pickle(rng, rng.choice(archives))))
        elif roll < 0.7:
            path.write_bytes(zipped(zip_changed(rng, rng.choice(archives))))
        elif roll < 0.85:
            path.write_bytes(_pickle_changed(rng, stream))
        else:
            data = rng.choice((stream, zipped(archives[0])))
            path.write_bytes(values.bytes_changed(rng, data))
        return Case(imports(path), lambda: _is_pickle(path))

    return make


def _write_torch(folder: Path) -> None:
    import torch

    plain = {name: torch.from_numpy(value) for name, value in imported().tensors.items()}
    half = {name: value.bfloat16() for name, value in plain.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in half.items()}, "best": 0.5}
    for name, content, new in (("zip", plain, True), ("half", wrapped, True), ("stream", plain, False)):
        torch.save(content, folder / f"{name}.pth", _use_new_zipfile_serialization=new)


def _of_pickle(rng: random.Random, members: list[Member]) -> list[Member]:
    return [
        Member.of(one.name, _pickle_changed(rng, one.content)) if one.name.endswith(b"data.pkl") else one
        for one in members
    ]


def _pickle_changed(rng: random.Random, data: bytes) -> bytes:
    """Numbers and texts of the pickle's own operations, which stay operations; then, at times, bytes."""
    found = [(code, argument, at) for code, argument, at in _operations(data) if at is not None]
    changed = bytearray(data)
    for _ in range(1 + int(rng.expovariate(1.0))):
        code, argument, at = rng.choice(found)
        if code.name in ("BININT1", "BININT2", "BININT") and isinstance(argument, int):
            size = {"BININT1": 1, "BININT2": 2, "BININT": 4}[code.name]
            number = rng.choice((0, 1, argument + 1, argument - 1, argument * 2, 255, 65_535, (1 << 31) - 1, -1))
            changed[at + 1 : at + 1 + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        elif code.name == "BINUNICODE" and isinstance(argument, str) and argument:
            length = len(argument.encode())
            text = rng.choice(("\x1b[31m", "weight", "0", "é", argument[::-1], "cpu")).encode() * length
            changed[at + 5 : at + 5 + length] = text[:length]
        elif code.name == "GLOBAL" or rng.random() < 0.1:
            where = at + rng.randrange(30)
            changed[where : where + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


def _operations(data: bytes) -> list[tuple[Any, Any, int | None]]:
    """Those of all pickles that follow each other in the data."""
    stream, found, start = io.BytesIO(data), list[tuple[Any, Any, int | None]](), 0
    try:
        while start < len(data):
            found += [(code, argument, at) for code, argument, at in pickletools.genops(stream)]
            start = stream.tell()
    except ValueError:
        pass  # the numbers behind the last one
    return found


def _is_pickle(path: Path) -> bool:
    data = path.read_bytes()
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    return sum(1 for _ in pickletools.genops(data)) > 0


# -- safetensors, npz, Hugging Face


def _prepare_safetensors(folder: Path) -> Maker:
    import safetensors
    import safetensors.numpy

    model = imported()
    data = safetensors.numpy.save(dict(model.tensors), {"format": "pt"})
    (folder / "good.safetensors").write_bytes(data)
    warm(folder / "good.safetensors")

    def make(rng: random.Random, here: Path) -> Case:
        path = here / "weights.safetensors"
        path.write_bytes(_safetensors_changed(rng, data))
        return Case(imports(path), lambda: bool(safetensors.safe_open(path, "numpy").keys()))

    return make


def _safetensors_changed(rng: random.Random, data: bytes) -> bytes:
    """Its header as a tree, where tensors keep their places; two tensors exchanged or renamed; bytes."""
    header, numbers = split(data)
    roll = rng.random()
    if roll < 0.35:
        return joined(values.changed(rng, header, hints=HINTS, times=1), numbers)
    if roll < 0.75:
        names = [name for name in header if name != "__metadata__"]
        a, b = rng.sample(names, 2)
        what = rng.random()
        if what < 0.3:
            header[a], header[b] = header[b], header[a]
        elif what < 0.6:
            header[rng.choice((rng.choice(values.TEXTS), a + ".x", "module." + a))] = header.pop(a)
        elif what < 0.8:
            header[a]["shape"] = rng.choice(
                ([*header[a]["shape"], 1], header[a]["shape"][::-1], [int(np.prod(header[a]["shape"]))])
            )
        else:
            header["__metadata__"] = {rng.choice(values.TEXTS): rng.choice(values.TEXTS) for _ in range(3)}
        return joined(header, numbers)
    if roll < 0.85:
        return joined(header, values.bytes_changed(rng, numbers, times=20)[: len(numbers)].ljust(len(numbers), b"\0"))
    return values.bytes_changed(rng, data)


def _prepare_npz(folder: Path) -> Maker:
    np.savez(folder / "good.npz", **imported().tensors)  # pyright: ignore[reportArgumentType] - names with dots
    warm(folder / "good.npz")
    members = unzip((folder / "good.npz").read_bytes())

    def make(rng: random.Random, here: Path) -> Case:
        path = here / "weights.npz"
        data = zipped(zip_changed(rng, members, _npy_changed))
        path.write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.1 else data)
        return Case(imports(path), lambda: _is_zip(path))

    return make


def _npy_changed(rng: random.Random, name: str, content: bytes) -> bytes:
    """The header as the text that it is, with its length right; or the numbers."""
    length = int.from_bytes(content[8:10], "little")
    text, numbers = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    roll = rng.random()
    if roll < 0.25:
        text = values.text_changed(rng, text, separators=r"[\s,:(){}']+")
    elif roll < 0.5:
        shape = rng.choice(
            ("(10000000000,)", "(1000000, 1000000)", "(-1,)", "()", "(0,)", "(3, 3", "(1e9,)", "(True,)", "('a',)")
        )
        text = text[: text.find("'shape'")] + f"'shape': {shape}, }}\n"
    elif roll < 0.6:
        text = text.replace(
            "<f4", rng.choice(("<f8", "|O", ">f4", "<U5", "<M8[s]", "<c8", "|S4", "<f2", "V4", "|b1", "<i8"))
        )
    elif roll < 0.7:
        text += " " * rng.choice((100, 20_000, 60_000))
    elif roll < 0.85:
        numbers = values.bytes_changed(rng, numbers)
    else:
        return values.bytes_changed(rng, content)
    raw = text.encode("latin-1", "replace")[:65_535]
    return content[:8] + len(raw).to_bytes(2, "little") + raw + numbers


def _is_zip(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return all(info.file_size < 1 << 24 for info in archive.infolist()) and archive.testzip() is None


def _prepare_huggingface(folder: Path) -> Maker:
    import safetensors.numpy

    from mobilenetv2.importers import names

    model = imported(padding="same", bn_eps=1e-3)
    theirs = names.of("huggingface", model.info.spec.backbone)
    weights = safetensors.numpy.save({theirs[name]: value for name, value in model.tensors.items()}, {"format": "pt"})
    config = {
        "model_type": "mobilenet_v2", "architectures": ["MobileNetV2ForImageClassification"], "depth_multiplier": 0.1,
        "hidden_act": "relu6", "output_stride": 32, "layer_norm_eps": 0.001, "tf_padding": True, "num_channels": 3,
        "first_layer_is_expansion": True, "finegrained_output": True, "image_size": 96,
        "id2label": {"0": "background", "1": "cat", "2": "dog", "3": "owl"}, "label2id": {"background": 0, "cat": 1},
    }  # fmt: skip
    processor = {
        "do_resize": True, "size": {"shortest_edge": 128}, "resample": 2, "do_center_crop": True, "do_rescale": True,
        "crop_size": {"height": 96, "width": 96}, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_processor_type": "MobileNetV2ImageProcessor",
    }  # fmt: skip
    for name, content in (("config.json", json.dumps(config).encode()), ("model.safetensors", weights)):
        (folder / name).write_bytes(content)
    warm(folder)

    def make(rng: random.Random, here: Path) -> Case:
        texts = {"config.json": config, "preprocessor_config.json": processor}
        for name, tree in texts.items():
            text = values.dumps(values.changed(rng, tree, hints=HINTS, gentle=0.9) if rng.random() < 0.7 else tree)
            data = text.encode("utf-8", "surrogatepass")
            (here / name).write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.1 else data)
        changed = _safetensors_changed(rng, weights) if rng.random() < 0.2 else weights
        (here / "model.safetensors").write_bytes(changed)
        return Case(imports(here), lambda: all(isinstance(json.loads((here / n).read_bytes()), dict) for n in texts))

    return make


# -- Keras


def _prepare_keras(folder: Path) -> Maker:
    import h5py

    layers = _keras_layers()
    config = {
        "class_name": "Functional", "config": {
            "name": "mobilenetv2_0.10_96", "layers": [{"class_name": "InputLayer", "config": {"batch_shape": [None, 96, 96, 3]}}],
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


Layers = list[tuple[str, list[tuple[str, np.ndarray]]]]


def _keras_layers() -> Layers:
    """The network's tensors as Keras orders and names them: [rows, columns, in, out], norms as gamma, beta, mean, variance."""
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
    """Keras' file of weights. With `rng` it may be stored in other ways: shapes without numbers, which HDF5 fills in when
    they are read, chunks, filters, links, and attributes of other kinds."""
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


TARGETS = (
    Target("torch", _prepare_torch, 1.0),
    Target("safetensors", _prepare_safetensors, 0.7),
    Target("npz", _prepare_npz, 0.7),
    Target("huggingface", _prepare_huggingface, 1.0),
    Target("keras", _prepare_keras, 0.8),
)
