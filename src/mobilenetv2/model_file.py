"""The model file: one safetensors file that holds a network's tensors and all that running it needs.

The tensors carry torchvision's names (`spec.tensors`); batch norm is kept, not folded. The file's metadata
holds one string, "mobilenetv2": a JSON header with format version, task, spec, labels, preprocessing, provenance,
a digest of the tensors, and a digest of all this. Nothing in the file can execute.
`docs/model-file.md` describes the format for other readers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from mobilenetv2 import files, spec, spec_fields
from mobilenetv2.errors import ModelFileError, UsageError
from mobilenetv2.preprocessing import Preprocessing, normalise, preprocessing_from_json
from mobilenetv2.spec import Spec

FORMAT_VERSION = 1
BatchNorm = Literal["live", "folded"]
Tensors = Mapping[str, npt.NDArray[np.float32]]

_FOREIGN = {".pth", ".pt", ".tar", ".h5", ".hdf5", ".keras", ".tflite", ".bin", ".param", ".onnx"}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model file says beside its tensors.

    `labels` and `label_ids` name the real classes in order (background is not among them) and are empty where
    unknown. `batch_norm` is "folded" where the source had folded it: the file's batch norm is then the
    identity, and training must not put it in training mode. `provenance` is free JSON: source, licence, scores.
    """

    spec: Spec
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    label_ids: tuple[str, ...] = ()
    batch_norm: BatchNorm = "live"
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def task(self) -> str:
        return self.spec.task

    @property
    def classes(self) -> int:
        return self.spec.head.classes

    def label(self, index: int) -> str:
        """The name of real class `index`, or "class 17" where names are unknown."""
        return self.labels[index] if self.labels else f"class {index}"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model in memory: its description and its float32 tensors under `spec.tensors`' names."""

    info: ModelInfo
    tensors: Tensors


def read(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file.

    Raises `FileError` where there is no such file, and `ModelFileError` that says what was expected and what
    was found where it is another kind of file, of another version, altered, or not the network it says it is.
    """
    with files.reading(path) as file:
        try:
            with safetensors.safe_open(os.fspath(file), framework="numpy") as reader:
                metadata = reader.metadata() or {}
                header = _header(file, metadata)
                info = _info(file, header)
                names = list(reader.keys())
                dtypes = {name: reader.get_slice(name).get_dtype() for name in names}
                for name, dtype in dtypes.items():
                    if dtype != "F32":
                        raise ModelFileError(f"{file}: tensor {name} is {dtype}, expected F32 (float32)")
                tensors = {name: cast("npt.NDArray[np.float32]", reader.get_tensor(name)) for name in names}
        except safetensors.SafetensorError as error:
            raise _not_a_model_file(file, str(error)) from None
    model = ModelFile(info, tensors)
    check(model, name=os.fspath(file))
    if header.get("tensors_sha256") != _digest(tensors):
        raise ModelFileError(f"{file}: a tensor was altered after the file was written: make or fetch it again")
    return model


def write(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Check `model` and write it, atomically. Raises `ModelFileError` or `FileError`; then nothing is written."""
    check(model, name=os.fspath(path))
    info = model.info
    order = spec.tensors(info.spec)
    tensors = {name: np.ascontiguousarray(model.tensors[name]) for name in order}
    header = {
        "format_version": FORMAT_VERSION,
        "task": info.task,
        "spec": spec_fields.to_json(info.spec),
        "labels": list(info.labels),
        "label_ids": list(info.label_ids),
        "preprocessing": info.preprocessing.to_json(),
        "batch_norm": info.batch_norm,
        "provenance": dict(info.provenance),
        "tensors_sha256": _digest(tensors),
    }
    header["sha256"] = _header_digest(header)
    metadata = {"mobilenetv2": _dumps(header)}
    files.write_bytes(Path(path), safetensors.numpy.save(tensors, metadata))


def check(model: ModelFile, *, name: str) -> None:
    """Raise `ModelFileError` unless every tensor of the spec is there, no other, float32, of its shape and finite."""
    info = model.info
    expected = spec.tensors(info.spec)
    epsilons = {f"{conv.norm}.running_var": spec.norm_eps(info.spec, conv) for conv in spec.all_convolutions(info.spec)}
    for kind, names in (
        ("missing", expected.keys() - model.tensors.keys()),
        ("not part of the network", model.tensors.keys() - expected.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelFileError(f"{name}: tensor {min(names)}{more} {'are' if more else 'is'} {kind}")
    for tensor, shape in expected.items():
        found = model.tensors[tensor]
        if found.shape != shape:
            raise ModelFileError(f"{name}: tensor {tensor} is {list(found.shape)}, expected {list(shape)}")
        if found.dtype != np.float32:
            raise ModelFileError(f"{name}: tensor {tensor} is {found.dtype}, expected float32")
        if not np.isfinite(found).all():
            bad = int(found.size - np.isfinite(found).sum())
            raise ModelFileError(f"{name}: tensor {tensor} has {bad} values that are not finite")
        if tensor in epsilons and found.min() + epsilons[tensor] <= 0:
            raise ModelFileError(f"{name}: tensor {tensor} has a negative variance, {found.min():g}")
    for what, values in (("labels", info.labels), ("label ids", info.label_ids)):
        if not all(isinstance(value, str) for value in values):
            raise ModelFileError(f"{name}: {what} must be texts")
        if values and len(values) != info.classes:
            raise ModelFileError(f"{name}: {len(values)} {what} for {info.classes} classes")
    channels = info.spec.backbone.in_channels
    if len(info.preprocessing.mean) != channels:
        raise ModelFileError(
            f"{name}: the preprocessing has {len(info.preprocessing.mean)} means for {channels} input channels"
        )


def network_input(
    images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32], info: ModelInfo
) -> npt.NDArray[np.float32]:
    """What every backend does first: uint8 pixels are normalised, float32 is taken as normalised already.

    Raises `UsageError` unless the images are [B, H, W, C], of either type, with the network's channels, not empty.
    """
    channels = info.spec.backbone.in_channels
    if not isinstance(images_BHWC, np.ndarray):
        raise UsageError(
            f"images must be a NumPy array [batch, height, width, {channels}], got {type(images_BHWC).__name__}"
        )
    shape, dtype = images_BHWC.shape, images_BHWC.dtype
    if len(shape) != 4 or shape[3] != channels or 0 in shape:
        raise UsageError(f"images must be [batch, height, width, {channels}], got {list(shape)}")
    if dtype not in (np.uint8, np.float32):
        raise UsageError(f"images must be uint8 pixels or normalised float32, got {dtype}")
    if dtype == np.uint8:
        return normalise(cast("npt.NDArray[np.uint8]", images_BHWC), info.preprocessing)
    return cast("npt.NDArray[np.float32]", images_BHWC)


def _header(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("mobilenetv2")
    if text is None:
        raise _not_a_model_file(file, "a safetensors file without this project's header")
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("sha256") != _header_digest(header):
        raise ModelFileError(f"{file}: the header was altered after the file was written: make or fetch it again")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{file}: format version {version}, this release reads version {FORMAT_VERSION}: "
            "import the weights again with this release, or upgrade it"
        )
    return header


def _info(file: Path, header: Mapping[str, Any]) -> ModelInfo:
    try:
        batch_norm = header["batch_norm"]
        if batch_norm not in get_args(BatchNorm):
            raise ModelFileError(f"{file}: batch_norm must be live or folded, got {batch_norm!r}")
        return ModelInfo(
            spec=spec_fields.from_json(header["spec"]),
            preprocessing=preprocessing_from_json(header["preprocessing"]),
            labels=tuple(header["labels"]),
            label_ids=tuple(header["label_ids"]),
            batch_norm=batch_norm,
            provenance=header["provenance"],
        )
    except UsageError as error:
        raise ModelFileError(f"{file}: {error}") from None
    except KeyError as error:
        raise ModelFileError(f"{file}: the header has no {error}") from None
    except TypeError as error:
        raise ModelFileError(f"{file}: a field of the header is of the wrong kind ({error})") from None


def _not_a_model_file(file: Path, why: str) -> ModelFileError:
    if file.stat().st_size == 0:
        why = "the file is empty"
    way_out = ""
    if file.suffix.lower() in _FOREIGN or "without this project's header" in why:
        way_out = f": mobilenetv2 import {file} -o model.safetensors makes one of it"
    return ModelFileError(f"{file} is not a model file ({why}){way_out}")


def _digest(tensors: Tensors) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(tensors[name]).data)
    return sha.hexdigest()


def _header_digest(header: Mapping[str, Any]) -> str:
    """sha256 of the header's canonical JSON (`_dumps`) without its own "sha256"."""
    rest = {name: value for name, value in header.items() if name != "sha256"}
    return hashlib.sha256(_dumps(rest).encode()).hexdigest()


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
