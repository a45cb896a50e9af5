"""The named tensors of a PyTorch, safetensors or NumPy (`.npz`) file, out of whatever they are wrapped in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from mobilenetv2 import files, limits
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import archives, unpickle
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.text import plain, quoted

# Where training programs keep the weights, the averaged ones (EMA), which are the ones that were scored, first:
# timm, mmengine, torchvision's references; then everybody's
_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema")
_KEYS = (*_AVERAGED, "state_dict", "model", "model_state_dict", "model_state", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning and others
_IGNORED = ("num_batches_tracked", "n_averaged")  # counters of training
_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors by name, counters of training left out, and notes about what was chosen.

    Raises `FileError` or `WeightsError`.
    """
    if is_safetensors(path):
        tensors, notes = _read_safetensors(path), []
    elif _is_npz(path):
        tensors, notes = _read_npz(path), []
    else:
        tensors, notes = _unwrap(path, unpickle.read(path))
    tensors = _without_prefixes(tensors)
    tensors = {name: value for name, value in tensors.items() if name.rsplit(".", 1)[-1] not in _IGNORED}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors")
    return tensors, notes


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as a safetensors file: the length of a JSON header, then the header."""
    with files.reading(path) as file, open(file, "rb") as stream:
        start = stream.read(9)
        return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    content = files.read_bytes(path, limit=limits.CHECKPOINT_BYTES)
    if (length := int.from_bytes(content[:8], "little")) > limits.HEADER_BYTES:
        raise WeightsError(f"{path} has a header of {length:,} bytes: the limit is {limits.HEADER_BYTES:,}")
    try:
        for name, entry in safetensors.deserialize(content):
            tensors[name] = _stored(path, name, entry)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged or cut off: {plain(error)}") from None
    return tensors


def _is_npz(path: Path) -> bool:
    """Whether the file is a zip archive of NumPy's arrays."""
    names = archives.names(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_npz(path: Path) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor(array.shape, array.dtype.name, lambda array=array: array)
        for name, array in archives.read_arrays(path).items()
    }


def _stored(path: Path, name: str, entry: Mapping[str, Any]) -> StoredTensor:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise WeightsError(f"{path}: tensor {plain(name)} is {entry['dtype']}, which is not imported")
    data, shape = entry["data"], tuple(entry["shape"])
    if dtype == "bfloat16":  # a float32's upper half
        upper = np.frombuffer(data, "<u2").reshape(shape)
        return StoredTensor(shape, dtype, lambda: (upper.astype(np.uint32) << 16).view(np.float32))
    return StoredTensor(shape, dtype, lambda: np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape))


def _unwrap(path: Path, value: Any) -> tuple[dict[str, StoredTensor], list[str]]:
    notes: list[str] = []
    while isinstance(value, dict) and not any(isinstance(member, StoredTensor) for member in value.values()):
        key = next((key for key in _KEYS if isinstance(value.get(key), dict) and value[key]), None)
        if key is None:
            break
        if key in _AVERAGED:
            notes.append(f"the averaged weights were taken ({key!r}), not those of the last step")
        value = value[key]
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds a {type(value).__name__}, not a dictionary of tensors")
    tensors = {name: tensor for name, tensor in value.items() if isinstance(tensor, StoredTensor)}
    others = [name for name, member in value.items() if not isinstance(member, StoredTensor)]
    if not tensors or any(not isinstance(name, str) for name in tensors):
        shown = ", ".join(map(_shown, list(value)[:6]))
        raise WeightsError(f"{path} holds no named tensors, only {shown or 'an empty dictionary'}")
    if others:
        raise WeightsError(f"{path}: {_shown(others[0])} stands among the tensors and is none")
    return tensors, notes


def _shown(key: object) -> str:
    """A pickle's key: a container may hold others so often that writing it would never end."""
    return quoted(key, 40) if isinstance(key, str | int | float | None) else f"a {type(key).__name__}"


def _without_prefixes(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without what training programs put before every name; a counter beside the tensors has no such prefix."""
    for _ in range(4):
        named = [name for name in tensors if name not in _IGNORED]
        prefix = next((prefix for prefix in _PREFIXES if named and all(n.startswith(prefix) for n in named)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
