"""Model files: bytes, headers that are changed and signed again, and networks whose tensors fit, run by the engine and
by its reference."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import values
from fuzz.sandbox import Case, WrongAnswerError
from fuzz.targets import Maker, Target, models, tensors
from mobilenetv2 import model_file, spec, spec_fields
from mobilenetv2.model_file import ModelFile, ModelInfo

# What means something in a header: choices, names of maps, sizes at the edges
HINTS = (
    "symmetric", "same", "relu6", "relu", "linear", "bottleneck", "expansion", "none", "first", "last", "sigmoid",
    "softmax", "s2", "s4", "s8", "s8.expanded", "out", "short", "stretch", "fit", "pil-bicubic", "tf1-bilinear",
    "tf2-bilinear", "floor", "live", "folded", "classifier", "ssdlite", "deeplab", 8, 16, 32, 8.0, 1e-5, 0.35,
    [1, 8, 1, 1], [6, 24, 2, 2], [2, 8, 1000, 1], [[0.5, 0.5]], [1, 2, 3], [36], None,
)  # fmt: skip
_TOLERANCE = 1e-4  # of the largest output: the same float32 sums in another order
_PIXELS = 64 * 64  # of an input that is run: the reference takes 50 ms


def _prepare_files(folder: Path) -> Maker:
    from mobilenetv2 import summary

    good: dict[str, bytes] = {}
    for task, model in models().items():
        path = folder / f"{task}.safetensors"
        model_file.write(path, model)
        good[task] = path.read_bytes()

    def make(rng: random.Random, here: Path) -> Case:
        data = good[rng.choice(list(good))]
        roll = rng.random()
        if roll < 0.2:
            changed, note = values.bytes_changed(rng, data), "bytes"
        elif roll < 0.35:
            changed, note = _outer_changed(rng, data), "the container's header"
        else:
            changed, note = _signed_again(rng, data), "the header, signed again"
        path = here / "model.safetensors"
        path.write_bytes(changed)

        def run() -> None:
            model = model_file.read(path)
            summary.text(summary.summarise(model.info))

        return Case(run, lambda: _is_signed(path.read_bytes()), note)

    return make


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the numbers behind it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: object, numbers: bytes) -> bytes:
    text = values.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + numbers


def _outer_changed(rng: random.Random, data: bytes) -> bytes:
    header, numbers = split(data)
    kept = header.pop("__metadata__")
    changed = values.changed(rng, header)
    if isinstance(changed, dict):
        changed["__metadata__"] = kept if rng.random() < 0.8 else values.changed(rng, kept)
    return joined(changed, numbers)


def _signed_again(rng: random.Random, data: bytes) -> bytes:
    header, numbers = split(data)
    ours = json.loads(header["__metadata__"]["mobilenetv2"])
    del ours["sha256"]
    roll = rng.random()
    if roll < 0.6:
        part = rng.choice(("spec", "spec", "spec", "preprocessing", "labels", "provenance"))
        ours[part] = values.changed(rng, ours[part], hints=HINTS, gentle=0.9)
    else:
        ours = values.changed(rng, ours, hints=HINTS)
    header["__metadata__"]["mobilenetv2"] = signed(ours)
    return joined(header, numbers)


def signed(ours: Any) -> str:
    """Our header with the digest that it needs, as `model_file` writes it; nesting that Python cannot sort is digested
    as the text that stands in the file."""
    if not isinstance(ours, dict):
        return values.dumps(ours)
    try:
        ours = json.loads(values.dumps(ours))  # what a reader will have
        canonical = json.dumps(ours, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        ours["sha256"] = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    except (RecursionError, ValueError):
        ours["sha256"] = "0" * 64
    return values.dumps(ours)


def _is_signed(data: bytes) -> bool:
    header, _ = split(data)
    ours = json.loads(header["__metadata__"]["mobilenetv2"])
    told = ours.pop("sha256")
    canonical = json.dumps(ours, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return told == hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


# -- networks whose tensors fit


def _prepare_networks(folder: Path) -> Maker:
    from mobilenetv2.engine import Engine
    from mobilenetv2.engine.reference import ReferenceBackend

    good = {task: (spec_fields.to_json(model.info.spec), model) for task, model in models().items()}
    for _, model in good.values():
        Engine(model)  # what they need is imported now

    def make(rng: random.Random, here: Path) -> Case:
        fields, model = good[rng.choice(list(good))]
        if rng.random() < 0.85:
            fields = values.changed(rng, fields, hints=HINTS, gentle=1.0)
        asked = rng.choice(((32, 32), (1, 1), (33, 17), (7, 64), (rng.randint(1, 64), rng.randint(1, 64))))
        seed = rng.randrange(1 << 30)
        text = values.dumps(fields)
        (here / "spec.json").write_text(text, "utf-8", "surrogatepass")
        with contextlib.suppress(RecursionError, ValueError):  # else it stays a tree, without what was too deep
            fields = json.loads(text)
        extreme = rng.random() < 0.2
        threads, images_at_once = rng.choice((1, 1, 2, 3)), rng.choice((1, 2, 5))

        def run() -> None:
            described = spec_fields.from_json(fields)
            if sum(np.prod(shape, dtype=float) for shape in _shapes(described)) > 3e6:
                model_file.check(ModelFile(ModelInfo(described, model.info.preprocessing), {}), name="spec")
            fitting = tensors(described, seed)
            if extreme:
                _make_extreme(rng, fitting)
            info = ModelInfo(described, model.info.preprocessing)
            channels = described.backbone.in_channels
            size, batch = (asked, images_at_once) if channels <= 16 else ((3, 3), 1)
            images = np.random.default_rng(seed).normal(size=(batch, *size, channels)).astype(np.float32)
            both = ModelFile(info, fitting)
            compare(
                Engine(both, size=size, threads=threads, batch=batch).run(images), ReferenceBackend(both).run(images)
            )

        return Case(run, lambda: isinstance(spec_fields.from_json(fields), spec.Spec))

    return make


def _shapes(described: spec.Spec) -> Any:
    return spec.tensors(described).values()


def _make_extreme(rng: random.Random, fitting: dict[str, np.ndarray]) -> None:
    """Numbers at the ends of what a float32 can be, in a few tensors; variances stay positive."""
    for name in rng.sample(sorted(fitting), min(3, len(fitting))):
        scale = np.float32(rng.choice((0.0, 1e-30, 1e-10, 1e10, 1e20)))
        fitting[name] = fitting[name] * scale


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises `WrongAnswerError` where the outputs differ by more than rounding does."""
    if found.keys() != expected.keys():
        raise WrongAnswerError(f"outputs {sorted(found)}, expected {sorted(expected)}")
    for name, right in expected.items():
        if found[name].shape != right.shape:
            raise WrongAnswerError(f"{name} is {found[name].shape}, expected {right.shape}")
        finite = np.isfinite(right)
        if not finite.all():  # numbers beyond float32 on the way: where each side leaves it is not promised
            continue
        largest = float(np.abs(right).max(initial=0))
        worst = float(np.abs(found[name] - right).max(initial=0))
        if not worst <= _TOLERANCE * largest + 1e-30:
            raise WrongAnswerError(f"{name} differs by {worst:.3g}, its largest number is {largest:.3g}")


TARGETS = (Target("model", _prepare_files, 2.0), Target("network", _prepare_networks, 0.5))
