"""What an HDF5 file holds, taken only from the file itself and bounded by what it stores.

HDF5 knows links to places in other files, datasets whose values lie in other files, and values that are stored nowhere
(a fill value); opening a name follows them all, so that names are looked at before they are opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import limits
from mobilenetv2.errors import WeightsError
from mobilenetv2.text import quoted

MAX_VALUES = 50_000_000  # in one weight; the largest of width 1.4 has 1.8 million
_MOST_SHARED_TEXTS = 500  # that may stand in one place of the file; Keras writes texts of fixed length
_FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # HDF5's own and h5py's LZF: another one would be loaded as a plug-in


def has(group: Any, name: str) -> bool:
    """Whether there is a member of that name, which may be a link."""
    return group.id.links.exists(name.encode())


def member(group: Any, path: str) -> Any:
    """What lies at `path` in `group`. Raises `WeightsError` where nothing does, or what it is lies elsewhere."""
    import h5py
    from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue] - made by Cython, without types

    found = group
    for name in filter(None, path.split("/")):
        if not isinstance(found, h5py.Group) or not has(found, name):
            raise WeightsError(f"{quoted(path)} is missing: the file names it and does not hold it")
        if found.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
            raise WeightsError(f"{quoted(path)} is a link to another place or file, which Keras does not write")
        found = found[name]
    return found


def datasets(group: Any) -> dict[str, Any]:
    """All datasets in `group` and the groups in it by their paths, each once."""
    import h5py
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue] - made by Cython, without types

    found: dict[str, Any] = {}
    waiting, seen = [("", group, 0)], set[Any]()
    while waiting:
        path, parent, depth = waiting.pop()
        if depth > limits.GROUPS or len(seen) > limits.TENSORS:
            raise WeightsError(
                f"the file's groups are more than {limits.GROUPS} deep or {limits.TENSORS:,} in number: it is damaged"
            )
        for name in parent:
            child = member(parent, name)
            key = h5o.get_info(child.id).addr
            if key not in seen:
                seen.add(key)
                if isinstance(child, h5py.Group):
                    waiting.append((f"{path}{name}/", child, depth + 1))
                elif isinstance(child, h5py.Dataset):
                    found[path + name] = child
    return found


def names(group: Any, name: str) -> list[str]:
    """The attribute `name`, a list of names. Raises `WeightsError` where it is none."""
    attribute = group.attrs.get_id(name)
    count = math.prod(attribute.shape)
    shared = attribute.dtype.kind == "O"
    if count > (_MOST_SHARED_TEXTS if shared else limits.TENSORS) or _bytes(attribute) > limits.HEADER_BYTES:
        raise WeightsError(f"the attribute {quoted(name)} of {quoted(group.name)} has {count:,} entries: it is damaged")
    values = group.attrs[name]
    values = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else [values]
    if not all(isinstance(value, bytes | str) for value in values):
        raise WeightsError(f"the attribute {quoted(name)} of {quoted(group.name)} holds no names: the file is damaged")
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def text(group: Any, name: str) -> str:
    """The attribute `name`, a text; nothing where there is none."""
    if name not in group.attrs:
        return ""
    attribute = group.attrs.get_id(name)
    if math.prod(attribute.shape) != 1 or _bytes(attribute) > limits.HEADER_BYTES:
        raise WeightsError(f"the attribute {quoted(name)} of {quoted(group.name)} is no text: the file is damaged")
    value = group.attrs[name]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _bytes(attribute: Any) -> int:
    return math.prod(attribute.shape) * attribute.dtype.itemsize


def check_sizes(found: Sequence[tuple[str, Any]], stored: int) -> None:
    """Raise `WeightsError` unless the datasets, by name, are numbers that a file of `stored` bytes can hold."""
    total = 0
    for name, data in found:
        plist = data.id.get_create_plist()
        if data.is_virtual or plist.get_external_count():
            raise WeightsError(f"the values of weight {quoted(name)} lie in another file")
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if not filters <= set(_FILTERS):
            raise WeightsError(f"weight {quoted(name)} is packed in a way that is not known: save it without")
        if data.size is None or data.size > MAX_VALUES or data.dtype.kind not in "fiu":
            raise WeightsError(
                f"weight {quoted(name)} is {quoted(data.shape)} of {quoted(data.dtype)}: "
                f"expected at most {MAX_VALUES:,} numbers"
            )
        # a piece is unpacked as a whole, and may be larger than what is used of it
        total += max(data.size, math.prod(data.chunks or ())) * data.dtype.itemsize
    most = min(limits.UNPACKED_SPARE + limits.UNPACKED_RATIO * stored, limits.UNPACKED_BYTES)
    if total > most:
        raise WeightsError(f"its weights have {total:,} bytes, of which a file of {stored:,} bytes cannot be full")


def values(name: str, data: Any) -> npt.NDArray[np.float32]:
    """A dataset's values, which `check_sizes` has seen. Raises `WeightsError` where they are not finite."""
    found = np.asarray(data[()])
    if found.dtype != np.float32:
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes of it is looked at below
            found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise WeightsError(f"weight {quoted(name)} has values that are not finite")
    return found
