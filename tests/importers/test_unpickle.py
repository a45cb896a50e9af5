"""The reader of torch's files gives what torch gives, and runs nothing."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mobilenetv2.errors import FileError, WeightsError
from mobilenetv2.importers import unpickle
from mobilenetv2.importers.unpickle import StoredTensor

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


def save(path: Path, value: object, *, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def plain(value: Any) -> Any:
    """`value` with tensors as (type, values), to compare what we and torch read."""
    if isinstance(value, StoredTensor):
        return value.dtype, value.shape, value.values().tolist()
    if isinstance(value, torch.Tensor):
        values = value.float() if value.dtype == torch.bfloat16 else value
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), values.tolist()
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    return value


# -- the same as torch


@FORMATS
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_every_type(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    value = {"a": (torch.arange(12).reshape(3, 4) - 3).to(dtype)}
    assert plain(unpickle.read(save(tmp_path / "a.pth", value, zipped=zipped))) == plain(value)


@FORMATS
def test_views_of_one_storage(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    value = {
        "whole": base, "transposed": base.T, "column": base[:, 2], "steps": base[1::2, ::3], "row": base[3],
        "element": base[1, 1], "empty": base[2:2],
    }  # fmt: skip
    assert plain(unpickle.read(save(tmp_path / "a.pth", value, zipped=zipped))) == plain(value)


@FORMATS
def test_a_real_checkpoint_s_surroundings(tmp_path: Path, zipped: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(2, 2)).sum().backward()
    optimiser.step()
    value = {
        "state_dict": network.state_dict(),  # an OrderedDict with an attribute, _metadata
        "parameter": network[0].weight,
        "optimizer": optimiser.state_dict(),
        "epoch": 3, "arch": "mobilenet_v2", "best": 0.71, "done": True, "nothing": None,
        "size": torch.Size([1, 2]), "list": [1, (2, 3)], "text": "größer",
    }  # fmt: skip
    assert plain(unpickle.read(save(tmp_path / "a.pth", value, zipped=zipped))) == plain(value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
            max_leaves=8,
        ),
    ),
    zipped=st.booleans(),
)
def test_plain_values_round_trip(tmp_path: Path, value: dict[str, Any], zipped: bool) -> None:
    assert unpickle.read(save(tmp_path / "a.pth", value, zipped=zipped)) == value


# -- nothing runs


class Runs:
    """Unpickled by `pickle`, this calls a function with arguments."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@FORMATS
@pytest.mark.parametrize("name", ["system", "eval", "exec", "open", "check_call"])
def test_a_pickle_that_runs_code_is_refused_and_leaves_no_trace(tmp_path: Path, name: str, zipped: bool) -> None:
    trace = tmp_path / "trace"
    attack = {
        "system": Runs(os.system, f"touch {trace}"),
        "eval": Runs(eval, f"open({str(trace)!r}, 'w')"),
        "exec": Runs(exec, f"open({str(trace)!r}, 'w')"),
        "open": Runs(open, str(trace), "w"),
        "check_call": Runs(subprocess.check_call, ["touch", str(trace)]),
    }[name]
    file = save(tmp_path / "bad.pth", {"state_dict": {"w": torch.ones(2)}, "z": attack}, zipped=zipped)
    # the module is the one that a pickle of protocol 2 names: posix, __builtin__, io, commands
    with pytest.raises(WeightsError, match=rf"bad\.pth was not read: it wants to run \w+\.{name}, ") as caught:
        unpickle.read(file)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cos\nsystem\n(S'touch trace'\ntR.",  # protocol 0
        b"(S'touch trace'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch trace'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch trace\x85R.",  # STACK_GLOBAL
        b"\x80\x02ccollections\nOrderedDict.fromkeys\n.",  # a name inside an allowed one
        b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_numpy\n.",
        b"\x80\x02cmobilenetv2.importers.unpickle\nread\n.",
    ],
)
def test_every_way_to_name_a_function_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (zip_with(tmp_path / "bad.pth", body), stream_with(tmp_path / "bad.tar", body)):
        with pytest.raises(WeightsError, match="wants to run"):
            unpickle.read(file)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "body",
    [
        # BUILD sets attributes: of our functions, of the dictionary class, of a tensor's description
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x05\x00\x00\x00_callK\x01sb.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x03\x00\x00\x00getK\x01sb.",
        b"\x80\x02ctorch\nFloatStorage\n}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb.",
    ],
)
def test_what_is_allowed_cannot_be_altered(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(WeightsError):
        unpickle.read(zip_with(tmp_path / "bad.pth", body))
    value = {"a": collections.OrderedDict(b=torch.nn.Parameter(torch.ones(2)))}
    assert plain(unpickle.read(save(tmp_path / "good.pth", value))) == plain(value)


# -- damaged, cut off, of another kind


def zip_with(path: Path, body: bytes, *, data: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/data/0", data)
    return path


def stream_with(path: Path, body: bytes) -> Path:
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, protocol=2)
    path.write_bytes(stream.getvalue() + body + pickle.dumps([], protocol=2))
    return path


class WithId(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.id if isinstance(obj, Storage) else None


class Storage:
    def __init__(self, count: Any, key: Any = "0", kind: Any = torch.FloatStorage) -> None:
        self.id = ("storage", kind, key, "cpu", count)


def tensor(count: Any, offset: Any, shape: Any, strides: Any, **storage: Any) -> bytes:
    from torch._utils import _rebuild_tensor_v2

    stream = io.BytesIO()
    call = Runs(_rebuild_tensor_v2, Storage(count, **storage), offset, shape, strides, False, {})
    WithId(stream, protocol=2).dump({"w": call})
    return stream.getvalue()


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    file = zip_with(tmp_path / "a.pth", tensor(4, 1, (3,), (1,)), data=np.arange(4, dtype="<f4").tobytes())
    assert unpickle.read(file)["w"].values().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (4, 2, (3,), (1,)),  # one element beyond the end
        (4, 0, (3, 2), (2, 1)),
        (4, -1, (3,), (1,)),
        (4, 0, (3,), (-1,)),
        (4, 0, (3, 1), (1,)),
        (4, 0, (10**12,), (0,)),  # a terabyte out of one element
        (4, 0, (2**40, 2**40), (0, 0)),
        (5, 0, (3,), (1,)),  # more elements than the archive holds
        (10**15, 0, (3,), (1,)),
        (-4, 0, (0,), (1,)),
        (4, 0, "3", (1,)),
        (4, None, (3,), (1,)),
        (4, 0, (1.0,), (1,)),
        ("4", 0, (3,), (1,)),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(
    tmp_path: Path, count: Any, offset: Any, shape: Any, strides: Any
) -> None:
    file = zip_with(tmp_path / "bad.pth", tensor(count, offset, shape, strides), data=bytes(16))
    with pytest.raises(WeightsError, match=r"bad\.pth is damaged"):
        unpickle.read(file)


@pytest.mark.parametrize("storage", [{"key": "1"}, {"key": "../0"}, {"key": 0}, {"kind": "FloatStorage"}])
def test_an_unknown_storage_is_refused(tmp_path: Path, storage: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        unpickle.read(zip_with(tmp_path / "bad.pth", tensor(4, 0, (3,), (1,), **storage), data=bytes(16)))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    body = tensor(2**24, 0, (3,), (1,))
    file = zip_with(tmp_path / "bomb.pth", body, data=bytes(2**26), compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**20
    with pytest.raises(WeightsError, match="compressed"):
        unpickle.read(file)


def test_a_memo_index_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    body = b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b"."
    with pytest.raises(WeightsError, match="memo of 4294967295 entries"):
        unpickle.read(zip_with(tmp_path / "bad.pth", body))


@FORMATS
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    whole = save(tmp_path / "a.pth", {"w": torch.arange(50.0), "v": torch.ones(3)}, zipped=zipped).read_bytes()
    file = tmp_path / "cut.pth"
    for length in (*range(1, 60), *range(60, len(whole), 37), len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.pth"):
            unpickle.read(file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zipped=st.booleans(), place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
@example(zipped=False, place=0.75, byte=92)  # makes a backslash of a letter in a name
def test_any_changed_byte_gives_an_answer_or_a_refusal(tmp_path: Path, zipped: bool, place: float, byte: int) -> None:
    """Never another kind of exception: a flipped byte in the values cannot be noticed here, one elsewhere is."""
    content = bytearray(save(tmp_path / "a.pth", {"w": torch.arange(6.0).reshape(2, 3)}, zipped=zipped).read_bytes())
    content[int(place * len(content))] = byte
    (tmp_path / "b.pth").write_bytes(content)
    with contextlib.suppress(WeightsError):
        plain(unpickle.read(tmp_path / "b.pth"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60), zipped=st.booleans())
def test_garbage_in_the_place_of_the_pickle(tmp_path: Path, body: bytes, zipped: bool) -> None:
    file = zip_with(tmp_path / "a.pth", body) if zipped else stream_with(tmp_path / "a.pth", body)
    with contextlib.suppress(WeightsError):
        unpickle.read(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"these are no weights\n", "is not a PyTorch checkpoint"),
        (pickle.dumps({"a": 1}), "is not a PyTorch checkpoint"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        unpickle.read(tmp_path / "a.pth")


def test_another_zip_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"no data\.pkl"):
        unpickle.read(tmp_path / "a.zip")


def test_a_folder_and_a_missing_file_are_file_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(FileError):
            unpickle.read(path)
