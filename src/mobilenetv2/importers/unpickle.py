"""Reads what `torch.save` wrote, without torch and without running anything that the file says.

A pickle is a small program that may call any function of any module. This reader knows a handful of names (the
table `_ALLOWED`, all of them functions of this file or plain containers) and refuses a file that asks for another.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, limits, signatures
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import archives, pickle_scan
from mobilenetv2.text import plain, quoted

ByteOrder = Literal["<", ">"]
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number 0x1950a86a20f9469cfc6c
_LEGACY_PROTOCOL = 1001

_STORAGES = {  # torch's storage class: (NumPy's type of the bytes, torch's name of the type)
    "DoubleStorage": ("f8", "float64"),
    "FloatStorage": ("f4", "float32"),
    "HalfStorage": ("f2", "float16"),
    "BFloat16Storage": ("u2", "bfloat16"),
    "LongStorage": ("i8", "int64"),
    "IntStorage": ("i4", "int32"),
    "ShortStorage": ("i2", "int16"),
    "CharStorage": ("i1", "int8"),
    "ByteStorage": ("u1", "uint8"),
    "BoolStorage": ("?", "bool"),
}
# Everything that `pickle` can raise on bytes that are not one of torch's files, and what follows from wrong arguments.
_BROKEN = (
    pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, MemoryError, OverflowError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


def _byte_order(*, big: bool) -> ByteOrder:
    return ">" if big else "<"


class _Sealed:
    """What a pickle may hold but not alter: its BUILD instruction would otherwise set any attribute."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError(f"a {type(self).__name__} with state of its own")


class StoredTensor(_Sealed):
    """A tensor of a file: its shape and type are known, its values are read when asked for."""

    __slots__ = ("_values", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str, values: Callable[[], npt.NDArray[Any]]) -> None:
        self.shape = shape
        self.dtype = dtype  # "float32", "bfloat16", ...
        self._values = values

    def values(self) -> npt.NDArray[Any]:
        """The values, not to be written to; bfloat16 as float32."""
        return self._values()


def read(path: Path) -> Any:
    """The object that `torch.save` wrote, with `StoredTensor` in the place of tensors and dictionaries as `dict`.

    Both of torch's formats: the zip archive (since 1.6) and the stream before it. Raises `FileError` where the file
    cannot be read, and `WeightsError` where it is damaged, is something else, or holds more than tensors, plain
    containers, strings and numbers; the message names what it asked for. Nothing in the file is executed.
    """
    content = files.read_bytes(path, limit=limits.CHECKPOINT_BYTES)
    if content.startswith(_ZIP_MAGIC):
        return _read_zip(path, content)
    if content.startswith(_LEGACY_MAGIC):
        return _read_stream(path, content)
    if not content:
        raise WeightsError(f"{path} is empty")
    if content[257:262] == b"ustar":
        raise WeightsError(
            f"{path} is a tar archive, as PyTorch 0.1 wrote: load and save it with a newer PyTorch first"
        )
    kind = signatures.kind(content[: signatures.LONGEST])
    raise WeightsError(
        f"{path} is not a PyTorch checkpoint: it {f'is {kind}' if kind else f'begins with {content[:8]!r}'}"
    )


# -- the two formats


def _read_zip(path: Path, content: bytes) -> Any:
    try:
        with archives.directory(io.BytesIO(content)) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise WeightsError(f"{path} is a zip archive, but not one of PyTorch's: it has no data.pkl")
            root = pickles[0].removesuffix("data.pkl")
            # torch stores without compression (but the code in TorchScript), so no entry is larger than the file
            own = [info for name, info in entries.items() if name.startswith((f"{root}data/", *pickles))]
            if any(info.compress_type != zipfile.ZIP_STORED for info in own):
                raise WeightsError(
                    f"{path} is compressed, which PyTorch's files are not: save it again with torch.save"
                )
            if sum(info.file_size for info in own) > len(content):
                raise WeightsError(f"{path} is damaged: its archive announces more bytes than the file has")
            order = f"{root}byteorder"
            byte_order = _byte_order(big=order in entries and entries[order].file_size == len(b"big"))
            blobs: dict[str, bytes] = {}

            def storage(key: str, kind: str, count: int) -> _Storage:
                if key not in blobs:
                    blobs[key] = archive.read(f"{root}data/{key}")
                if count * _item_size(kind) > len(blobs[key]):
                    raise pickle.UnpicklingError(f"storage {key} has {len(blobs[key])} bytes for {count} elements")
                return _Storage(kind, count, lambda: _elements(blobs[key], kind, count, byte_order))

            return _Unpickler(io.BytesIO(archive.read(pickles[0])), path, storage).load_checked()
    except (*archives.DAMAGE, *_BROKEN) as error:
        raise WeightsError(f"{path} is damaged or cut off: {_one_line(error)}") from None


def _read_stream(path: Path, content: bytes) -> Any:
    """Pickles one after the other (magic number, protocol, system, object, storage keys), then the storages."""
    stream = io.BytesIO(content)
    stored: dict[str, tuple[str, int]] = {}
    blobs: dict[str, bytes] = {}
    byte_order: ByteOrder = "<"

    def storage(key: str, kind: str, count: int) -> _Storage:
        stored[key] = (kind, count)
        return _Storage(kind, count, lambda: _elements(blobs[key], kind, count, byte_order))

    def no_storage(key: str, kind: str, count: int) -> NoReturn:
        raise pickle.UnpicklingError("a tensor in the file's own header")

    try:
        _Unpickler(stream, path, no_storage).load_checked()
        protocol = _Unpickler(stream, path, no_storage).load_checked()
        if protocol != _LEGACY_PROTOCOL:
            raise WeightsError(f"{path} has PyTorch's stream format {_shown(protocol)}: {_LEGACY_PROTOCOL} is known")
        system = _Unpickler(stream, path, no_storage).load_checked()
        byte_order = _byte_order(big=not system["little_endian"])
        value = _Unpickler(stream, path, storage).load_checked()
        for key in _Unpickler(stream, path, no_storage).load_checked():
            kind, count = stored[key]
            announced = int.from_bytes(stream.read(8), "little")
            size = announced * _item_size(kind)
            blobs[key] = stream.read(size) if size <= len(content) else b""
            if announced != count or len(blobs[key]) != size:
                raise WeightsError(
                    f"{path} is cut off: storage {key} has {announced} of {count} elements or ends early"
                )
        if missing := stored.keys() - blobs.keys():
            raise WeightsError(f"{path} is damaged: storage {min(missing)} is missing")
        return value
    except _BROKEN as error:
        raise WeightsError(f"{path} is damaged or cut off: {_one_line(error)}") from None


# -- what a pickle may ask for


class _Storage(_Sealed):
    """The elements that one or more tensors are views of."""

    __slots__ = ("count", "elements", "kind")

    def __init__(self, kind: str, count: int, elements: Callable[[], npt.NDArray[Any]]) -> None:
        self.kind, self.count, self.elements = kind, count, elements


class _Function(_Sealed):
    """A function of this file in the place of one of torch's."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)


class _Dict(dict[Any, Any]):
    """An OrderedDict's place; the attributes that torch hangs on it (`_metadata`) are left out."""

    def __setstate__(self, state: object) -> None:
        pass


class _StorageType(_Sealed):
    """The name of a storage class: never called, only named in a storage's identity."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> StoredTensor:
    """A tensor as torch describes it: elements from `offset` on, `strides` apart. The further arguments are autograd's.

    Raises `UnpicklingError` unless everything it reaches lies inside the storage and it is no larger than that.
    """
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    shape, strides = _sizes(shape), _sizes(strides)
    if not isinstance(offset, int) or offset < 0 or len(shape) != len(strides) or len(shape) > 16:
        raise pickle.UnpicklingError(
            f"a tensor of shape {quoted(shape)}, strides {quoted(strides)}, offset {_shown(offset)}"
        )
    count = math.prod(shape)
    reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if count else 0
    # an expanded tensor (stride 0) may claim any size at no cost in the file
    if reach > storage.count or count > storage.count:
        raise pickle.UnpicklingError(
            f"a tensor of shape {quoted(list(shape))} does not fit into its {storage.count} elements"
        )

    def values() -> npt.NDArray[Any]:
        elements = storage.elements()
        steps = tuple(step * elements.itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(elements[offset:], shape, steps, writeable=False)
        if storage.kind == "BFloat16Storage":
            return (view.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is a float32's upper half
        return view

    return StoredTensor(shape, _STORAGES[storage.kind][1], values)


def _rebuild_parameter(tensor: object, *_: object) -> object:
    return tensor


class _Flat(tuple[Any, ...]):
    """A tuple that `_Function`s give; hashing it, as a key, looks at none of its members."""

    __slots__ = ()
    __hash__ = object.__hash__


def _size(sizes: object = ()) -> tuple[int, ...]:
    return _Flat(_sizes(sizes))


def _set(members: object = ()) -> tuple[object, ...]:
    return _Flat(members) if isinstance(members, list | tuple) else ()


_ALLOWED: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),  # before 0.4
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_rebuild_parameter),
    ("torch", "Size"): _Function(_size),
    ("builtins", "set"): _Function(_set),
    ("__builtin__", "set"): _Function(_set),
    **{("torch", name): _StorageType(name) for name in _STORAGES},
}


class _Unpickler(pickle.Unpickler):
    """`pickle.Unpickler` that finds nothing but `_ALLOWED`. `storage(key, kind, count)` gives a tensor's elements."""

    def __init__(self, stream: io.BytesIO, path: Path, storage: Callable[[str, str, int], _Storage]) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self._stream, self._path, self._storage = stream, path, storage

    def load_checked(self) -> Any:
        pickle_scan.check(self._stream)
        return self.load()

    def find_class(self, module: str, name: str, /) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise WeightsError(f"{self._path} {_refusal(module, name)}")
        return found

    def persistent_load(self, pid: Any, /) -> _Storage:
        match pid:
            case ("storage", _StorageType() as kind, str() as key, _, int() as count, *view) if count >= 0:
                if any(view):
                    raise pickle.UnpicklingError("a storage that is a view of another, as PyTorch before 0.4 wrote")
                return self._storage(key, kind.name, count)
        raise pickle.UnpicklingError(f"an unknown kind of storage, {_shown(pid)}")


def _refusal(module: str, name: str) -> str:
    what = plain(f"{module}.{name}")
    if module.startswith("__torch__"):
        return f"is a TorchScript program ({what}): save the state_dict() of the model that it was made from"
    if name == "_rebuild_qtensor" or what.startswith(("torch.q", "torch.ao.", "torch.nn.quantized")):
        return f"is a quantised PyTorch checkpoint ({what}): import the float checkpoint that it was made from"
    return (
        f"was not read: it wants to run {what}, which is not a tensor or a plain container. "
        "If you trust it, load it with PyTorch and save model.state_dict() alone"
    )


# -- small checks


def _item_size(kind: str) -> int:
    return np.dtype(_STORAGES[kind][0]).itemsize


def _elements(blob: bytes, kind: str, count: int, byte_order: ByteOrder) -> npt.NDArray[Any]:
    return np.frombuffer(blob, np.dtype(_STORAGES[kind][0]).newbyteorder(byte_order), count)


def _sizes(value: object) -> tuple[int, ...]:
    """`value` as a shape or strides. Raises `UnpicklingError` for anything else."""
    if isinstance(value, tuple | list) and all(type(n) is int and 0 <= n < 2**48 for n in value):
        return tuple(value)
    raise pickle.UnpicklingError(f"{_shown(value)} is not a shape")


def _shown(value: object) -> str:
    """For messages. A container may hold others so often that writing it would never end."""
    plain_values = isinstance(value, tuple | list) and all(isinstance(m, str | int | float | None) for m in value)
    scalar = isinstance(value, str | bytes | int | float | None)
    return quoted(value, 60) if plain_values or scalar else f"a {type(value).__name__}"


def _one_line(error: BaseException) -> str:
    return plain(" ".join(str(error).split()), 200) or type(error).__name__
