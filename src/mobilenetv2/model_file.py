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

from mobilenetv2 import checks, files, json_text, limits, signatures, spec, spec_fields
from mobilenetv2.errors import ModelFileError, UsageError
from mobilenetv2.preprocessing import Preprocessing, normalise, preprocessing_from_json, validate
from mobilenetv2.spec import Spec
from mobilenetv2.text import plain, quoted

FORMAT_VERSION = 1
BatchNorm = Literal["live", "folded"]
Tensors = Mapping[str, npt.NDArray[np.float32]]

_FOREIGN_HEADER = "a safetensors file without this project's header"
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
    """Read and check a model file; a pipe (/dev/stdin) is read to its end first.

    Raises `FileError` where there is no such file, and `ModelFileError` that says what was expected and what
    was found where it is another kind of file, of another version, altered, or not the network it says it is.
    """
    name = os.fspath(path)
    with files.on_disk(path) as file:
        _check_start(file, name)
        try:
            with safetensors.safe_open(os.fspath(file), framework="numpy") as reader:
                names = list(reader.keys())
                header = _header(name, reader.metadata() or {})
                info = _info(name, header, tensors=len(names))
                parts = {tensor: reader.get_slice(tensor) for tensor in names}
                _check_rest(name, info)
                expected = spec.tensors(info.spec)
                _check_names(name, expected, parts)
                for tensor, shape in expected.items():
                    if (dtype := parts[tensor].get_dtype()) != "F32":
                        raise ModelFileError(f"{name}: tensor {tensor} is {dtype}, expected F32 (float32)")
                    _check_shape(name, tensor, tuple(parts[tensor].get_shape()), shape)
                # nothing of them is read before they are known to be the network's
                tensors = {tensor: cast("npt.NDArray[np.float32]", reader.get_tensor(tensor)) for tensor in names}
        except safetensors.SafetensorError as error:
            raise _not_a_model_file(file, name, plain(error)) from None
    _check_values(name, info, tensors)
    if header.get("tensors_sha256") != _digest(tensors):
        raise ModelFileError(f"{name}: a tensor was altered after the file was written: make or fetch it again")
    return ModelFile(info, tensors)


def write(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Check `model` and write it, atomically. Raises `ModelFileError` or `FileError`; then nothing is written."""
    name = os.fspath(path)
    check(model, name=name)
    info = model.info
    order = spec.tensors(info.spec)
    tensors = {tensor: np.ascontiguousarray(model.tensors[tensor]) for tensor in order}
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
    try:
        header["sha256"] = _header_digest(header)
        text = _dumps(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{name}: the provenance cannot be written as JSON: {plain(error)}") from None
    # what could not be read again is not written
    json_text.parse(text, name=f"{name}: the header", error=ModelFileError, limit=limits.HEADER_BYTES)
    files.write_bytes(Path(path), safetensors.numpy.save(tensors, {"mobilenetv2": text}))


def check(model: ModelFile, *, name: str) -> None:
    """Raise `ModelFileError` unless every tensor of the spec is there, no other, float32, of its shape and finite,
    and everything said beside them is possible and fits."""
    try:
        spec_fields.check(model.info.spec)
        validate(model.info.preprocessing)
    except UsageError as error:
        raise ModelFileError(f"{name}: {error}") from None
    _check_rest(name, model.info)
    expected = spec.tensors(model.info.spec)
    _check_names(name, expected, model.tensors)
    for tensor, shape in expected.items():
        found = model.tensors[tensor]
        _check_shape(name, tensor, found.shape, shape)
        if found.dtype != np.float32:
            raise ModelFileError(f"{name}: tensor {tensor} is {found.dtype}, expected float32")
    _check_values(name, model.info, model.tensors)


def _check_rest(name: str, info: ModelInfo) -> None:
    """Of what is said, all but the spec and the preprocessing by themselves."""
    try:
        checks.choice("batch_norm", info.batch_norm, get_args(BatchNorm))
        for what, values in (("labels", info.labels), ("label ids", info.label_ids)):
            _check_texts(what, values)
            if values and len(values) != info.classes:
                raise UsageError(f"{len(values)} {what} for {info.classes} classes")
        if not isinstance(info.provenance, Mapping):
            raise UsageError(f"provenance must be an object, got {quoted(info.provenance)}")
    except UsageError as error:
        raise ModelFileError(f"{name}: {error}") from None
    channels = info.spec.backbone.in_channels
    if len(info.preprocessing.mean) != channels:
        raise ModelFileError(
            f"{name}: the preprocessing has {len(info.preprocessing.mean)} means for {channels} input channels"
        )


def _check_texts(what: str, values: Any) -> None:
    """Each is looked at only where one of them is too long or cannot be written."""
    texts = checks.items(what, values, most=limits.CLASSES)
    if all(type(text) is str for text in texts) and max(map(len, texts), default=0) <= limits.STATED_TEXT:
        try:
            "".join(texts).encode()
            return
        except UnicodeEncodeError:
            pass
    for i, text in enumerate(texts):
        checks.text(f"number {i} of the {what}", text, limits.STATED_TEXT, least=0)


def _check_names(name: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for kind, names in (
        ("missing", expected.keys() - found.keys()),
        ("not part of the network", found.keys() - expected.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelFileError(f"{name}: tensor {plain(min(names))}{more} {'are' if more else 'is'} {kind}")


def _check_shape(name: str, tensor: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ModelFileError(f"{name}: tensor {tensor} is {quoted(list(found))}, expected {list(expected)}")


def _check_values(name: str, info: ModelInfo, tensors: Tensors) -> None:
    epsilons = {f"{conv.norm}.running_var": spec.norm_eps(info.spec, conv) for conv in spec.all_convolutions(info.spec)}
    for tensor, found in tensors.items():
        if not np.isfinite(found).all():
            bad = int(found.size - np.isfinite(found).sum())
            raise ModelFileError(f"{name}: tensor {tensor} has {bad} values that are not finite")
        if tensor in epsilons and found.min() + epsilons[tensor] <= 0:
            raise ModelFileError(f"{name}: tensor {tensor} has a negative variance, {found.min():g}")


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


def _check_start(file: Path, name: str) -> None:
    """Raise `ModelFileError` unless the file begins as a safetensors file, with a header of at most the limit."""
    with open(file, "rb") as stream:
        start = stream.read(signatures.LONGEST)
    length = int.from_bytes(start[:8], "little")
    if not start:
        raise _not_a_model_file(file, name, "the file is empty")
    if len(start) <= 8 or start[8:9] != b"{" or length > file.stat().st_size - 8:
        raise _not_a_model_file(file, name, signatures.kind(start) or "it does not begin as a safetensors file does")
    if length > limits.HEADER_BYTES:
        raise ModelFileError(f"{name} has a header of {length:,} bytes: the limit is {limits.HEADER_BYTES:,}")


def _header(name: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("mobilenetv2")
    if text is None:
        raise _not_a_model_file(Path(name), name, _FOREIGN_HEADER)
    header = json_text.parse(text, name=f"{name}: the header", error=ModelFileError, limit=limits.HEADER_BYTES)
    if not isinstance(header, dict) or header.get("sha256") != _header_digest(header):
        raise ModelFileError(f"{name}: the header was altered after the file was written: make or fetch it again")
    version = header.get("format_version")
    if version != FORMAT_VERSION or not checks.is_whole(version):
        raise ModelFileError(
            f"{name}: format version {quoted(version)}, this release reads version {FORMAT_VERSION}: "
            "import the weights again with this release, or upgrade it"
        )
    return header


def _info(name: str, header: Mapping[str, Any], *, tensors: int) -> ModelInfo:
    """What the header of a file with so many tensors says."""
    for key in ("spec", "preprocessing", "labels", "label_ids", "batch_norm", "provenance"):
        if key not in header:
            raise ModelFileError(f"{name}: the header has no {key!r}")
    try:
        return ModelInfo(
            spec=spec_fields.from_json(header["spec"], tensors=tensors),
            preprocessing=preprocessing_from_json(header["preprocessing"]),
            labels=checks.items("labels", header["labels"], most=limits.CLASSES),
            label_ids=checks.items("label_ids", header["label_ids"], most=limits.CLASSES),
            batch_norm=header["batch_norm"],
            provenance=header["provenance"],
        )
    except UsageError as error:
        raise ModelFileError(f"{name}: {error}") from None


def _not_a_model_file(file: Path, name: str, why: str) -> ModelFileError:
    kind = signatures.kind_of(file)
    if signatures.is_lfs_pointer(kind):
        return ModelFileError(f"{name} is a Git LFS pointer: fetch the file that it stands for with git lfs pull")
    if signatures.is_picture(kind):
        return ModelFileError(f"{name} is {kind}, not a model file: are the model and the photo swapped?")
    way_out = ""
    if file.suffix.lower() in _FOREIGN or why == _FOREIGN_HEADER:
        way_out = f": mobilenetv2 import {name} -o model.safetensors makes one of it"
    return ModelFileError(f"{name} is not a model file ({why}){way_out}")


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
