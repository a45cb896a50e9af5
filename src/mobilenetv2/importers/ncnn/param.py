"""What an ncnn `.param` file holds, as plain data: layers, the blobs between them, and their parameters.

Format: the number 7767517, a line with the counts of layers and blobs, then one line a layer: its kind, its name, the
counts of blobs it reads and writes, their names, and parameters `id=value`, or `-23300 - id=count,value,...` for lists
(ncnn's documentation, "param and model file structure").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mobilenetv2 import files, limits
from mobilenetv2.errors import WeightsError
from mobilenetv2.text import quoted

MAGIC = "7767517"
_LONGEST_WORD = 200  # characters of a name; converters write up to 60
_MOST_BLOBS = 1_000  # that one layer reads or makes; an SSDLite's Concat reads 6
_LISTS = -23300  # ids from here down are those of lists


class Pair(NamedTuple):
    """The two files of one network."""

    param: Path
    bin: Path


@dataclass(frozen=True, slots=True)
class Operation:
    """One layer of the graph; `params` has the parameters that the file gives it, by their ids."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, float] = field(default_factory=dict[int, float])
    lists: dict[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])

    def integer(self, id: int, default: int) -> int:
        """Parameter `id` as a whole number. Raises `WeightsError` where it is none."""
        value = self.params.get(id, default)
        if value != int(value):
            raise WeightsError(f"{self.kind} {self.name!r}: parameter {id} must be a whole number, got {value:g}")
        return int(value)


def pair(path: Path) -> Pair | None:
    """The network that `path` is one of the two files of; None where it is another kind of file.

    A `.bin` is ncnn's where a `.param` of the same name lies beside it. Raises `WeightsError` where the `.bin` of a
    `.param` is missing.
    """
    param = path if path.suffix.lower() == ".param" else path.with_suffix(".param")
    if path.suffix.lower() not in (".param", ".bin") or not _begins_as_param(param):
        return None
    found = Pair(param, path if path.suffix.lower() == ".bin" else path.with_suffix(".bin"))
    if not found.bin.exists():
        raise WeightsError(f"{param} is the graph of an ncnn network: its weights {found.bin.name} must lie beside it")
    return found


def read(path: Path) -> tuple[Operation, ...]:
    """The layers in the file's order, which is one in which they can run. Raises `FileError` or `WeightsError`."""
    try:
        lines = files.read_bytes(path, limit=limits.GRAPH_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise WeightsError(f"{path} is not a text file: the binary form of ncnn's graphs is not read") from None
    if not lines or lines[0].strip() != MAGIC:
        raise WeightsError(f"{path} is not an ncnn graph: it does not begin with {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not 0 <= _count(counts[0]) <= limits.OPERATORS:
        raise WeightsError(f"{path}: line 2 must be the counts of layers and blobs, got {quoted(' '.join(counts), 40)}")
    if len(lines) > 2 * limits.OPERATORS:
        raise WeightsError(f"{path} has {len(lines):,} lines: the limit is {limits.OPERATORS:,} layers")
    layers = tuple(
        _operation(path, number, line) for number, line in enumerate(lines[2:], 3) if line.strip()
    )  # fmt: skip
    if len(layers) != int(counts[0]):
        raise WeightsError(f"{path} has {len(layers)} layers, but says that they are {counts[0]}: it is cut off")
    _check_order(path, layers)
    return layers


def _begins_as_param(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC.encode()
    except OSError:
        return False


def _operation(path: Path, number: int, line: str) -> Operation:
    words = line.split()
    inputs, outputs = (_count(words[2]), _count(words[3])) if len(words) >= 4 else (-1, -1)
    if not (0 <= inputs <= _MOST_BLOBS and 0 <= outputs <= _MOST_BLOBS):
        raise WeightsError(f"{path}: line {number} is not a layer: {quoted(line.strip()[:200], 60)}")
    kind, name = words[:2]
    blobs, pairs = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if max(map(len, (kind, name, *blobs))) > _LONGEST_WORD:
        raise WeightsError(f"{path}: line {number} has a name of more than {_LONGEST_WORD} characters: it is damaged")
    if len(blobs) != inputs + outputs:
        raise WeightsError(f"{path}: line {number} is cut off: {kind} {name!r} lacks blobs")
    params: dict[int, float] = {}
    lists: dict[int, tuple[float, ...]] = {}
    for text in pairs:
        try:
            key, value = text.split("=")
            if int(key) <= _LISTS:
                count, *values = value.split(",")
                lists[_LISTS - int(key)] = tuple(map(_number, values))
                if int(count) != len(values):
                    raise ValueError
            else:
                params[int(key)] = _number(value)
        except ValueError:
            raise WeightsError(
                f"{path}: line {number} has a parameter {quoted(text, 40)} that cannot be read"
            ) from None
    return Operation(kind, name, tuple(blobs[:inputs]), tuple(blobs[inputs:]), params, lists)


def _count(text: str) -> int:
    """A count in digits; -1 where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else -1


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _check_order(path: Path, layers: tuple[Operation, ...]) -> None:
    """Each blob is made once, before it is read: then no walk along the data can go in a circle."""
    made: set[str] = set()
    for layer in layers:
        for blob in layer.inputs:
            if blob not in made:
                raise WeightsError(
                    f"{path}: {layer.kind} {layer.name!r} reads {blob!r}, which no layer before it makes"
                )
        for blob in layer.outputs:
            if blob in made:
                raise WeightsError(f"{path}: {layer.kind} {layer.name!r} makes {blob!r}, which is there already")
            made.add(blob)
