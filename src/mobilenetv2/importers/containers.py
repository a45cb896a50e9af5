"""The named tensors of a PyTorch, safetensors or NumPy (`.npz`) file, out of whatever they are wrapped in."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from mobilenetv2 import files
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import unpickle
from mobilenetv2.importers.unpickle import StoredTensor

# Where training programs keep the weights, the averaged ones (EMA), which are the ones that were scored, first:
# timm, mmengine, torchvision's references; then everybody's
_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema")
_KEYS = (*_AVERAGED, "state_dict", "model", "model_state_dict", "model_state", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning and others
_IGNORED = ("num_batches_tracked", "n_averaged")  # counters of training
MAX_NPZ_BYTES = 1_000_000_000  # unpacked: a detector has 20 MB
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
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    try:
        for name, entry in safetensors.deserialize(path.read_bytes()):
            tensors[name] = _stored(path, name, entry)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged or cut off: {error}") from None
    return tensors


def _is_npz(path: Path) -> bool:
    """Whether the file is a zip archive of NumPy's arrays."""
    with files.reading(path) as file:
        if not zipfile.is_zipfile(file):
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_npz(path: Path) -> dict[str, StoredTensor]:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_NPZ_BYTES:
            raise WeightsError(f"{path} holds more than {MAX_NPZ_BYTES:,} bytes of arrays")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, npt.NDArray[Any]] = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{path} is damaged or cut off: {str(error)[:120]}") from None
    return {
        name: StoredTensor(array.shape, array.dtype.name, lambda array=array: array) for name, array in arrays.items()
    }


def _stored(path: Path, name: str, entry: Mapping[str, Any]) -> StoredTensor:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise WeightsError(f"{path}: tensor {name} is {entry['dtype']}, which is not imported")
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
        shown = ", ".join(f"{key!r:.40}" for key in list(value)[:6])
        raise WeightsError(f"{path} holds no named tensors, only {shown or 'an empty dictionary'}")
    if others:
        raise WeightsError(f"{path}: {others[0]!r:.80} stands among the tensors and is none")
    return tensors, notes


def _without_prefixes(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without what training programs put before every name; a counter beside the tensors has no such prefix."""
    for _ in range(4):
        named = [name for name in tensors if name not in _IGNORED]
        prefix = next((prefix for prefix in _PREFIXES if named and all(n.startswith(prefix) for n in named)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
