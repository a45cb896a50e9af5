"""Foreign files that declare more than they store, nest without end, or lead elsewhere: one line each, and cheap."""

from __future__ import annotations

import io
import os
import pickle
import struct
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mobilenetv2 import limits, model_file
from mobilenetv2.errors import Error, FileError, UsageError, WeightsError
from mobilenetv2.importers import archives, complete, hdf5, import_file, pickle_scan
from mobilenetv2.importers.tflite import graph

RandomModel = Callable[..., Any]


def refused(path: Path, named: Path | None = None) -> str:
    """The one line with which `path` is refused; it is about `named`, in little time and memory."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(Error) as caught:
            import_file(path)
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(named or path))
    assert message.isprintable()
    assert seconds < 3  # traced, with the imports of the first of them, on a busy machine
    assert peak < 60e6
    return message


# -- zip archives


def stored(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_member_whose_name_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    content = stored(tmp_path / "a.pth", {"añ": b""}).read_bytes()
    (tmp_path / "a.pth").write_bytes(content.replace("añ".encode(), b"a\xff\xfe"))
    assert "is damaged or cut off" in refused(tmp_path / "a.pth")


def test_an_archive_of_another_version_is_one_line(tmp_path: Path) -> None:
    content = bytearray(stored(tmp_path / "a.pth", {"a.npy": b""}).read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99
    (tmp_path / "a.pth").write_bytes(content)
    assert "is damaged or cut off" in refused(tmp_path / "a.pth")


def test_a_directory_longer_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.npz", {"a.npy": b""})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", limits.DIRECTORY_BYTES + 1)
    with open(path, "wb") as file:
        file.truncate(limits.DIRECTORY_BYTES + 100)
        file.seek(0, os.SEEK_END)
        file.write(content)
    with pytest.raises(WeightsError, match="a directory of 4,194,305 bytes: the limit is 4,194,304"):
        archives.read_arrays(path)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no array", "magic"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, }"), "damaged"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': ((("), "damaged"),
        (npy("(" * 9_000), "damaged"),
        (npy("{" + " " * 60_000 + "}"), "Header info length"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"), "stores 0 bytes"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }", b"1234"), "shape \\(-1, -1\\)"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"12345678"), "of object"),
        (npy("{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,), }"), "damaged"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", b"1234"), "shape \\(True,\\)"),
    ],
)
def test_an_array_that_is_none_or_claims_more_than_it_has_is_one_line(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / "a.npz", {"a.npy": content})
    assert "is damaged or cut off" in refused(path)
    with pytest.raises(WeightsError, match=words):
        archives.read_arrays(path)


def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b/c": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "d": np.array(3),
        "e": np.zeros((0, 4), np.int8),
        "f": np.array(["x", "yz"]),
        "zeros": np.zeros(1_000_000, np.float32),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = archives.read_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, expected in arrays.items():
            assert found[name].dtype == expected.dtype
            np.testing.assert_array_equal(found[name], expected)


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_refused_unpacked(tmp_path: Path) -> None:
    zeros = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6000000,), }", bytes(24_000_000))
    path = stored(tmp_path / "a.npz", {"a.npy": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert "unpacks to 24,000,0" in refused(path)


# -- pickles


def tuples(count: int) -> bytes:
    """Instructions that leave a tuple of tuples on the stack, each of which holds the one before twice."""
    return b")q\x00" + b"".join(bytes((104, i, 104, i, 0x86, 113, i + 1)) for i in range(count))


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02}" + tuples(40) + b"Ns.",
        b"\x80\x02}(" + tuples(40) + b"Nu.",
        b"\x80\x02(" + tuples(40) + b"Nd.",
        b"\x80\x04\x8f(" + tuples(40) + b"\x90.",
        b"\x80\x04(" + tuples(40) + b"\x91.",
        b"\x80\x02}" + tuples(39) + b"02sN.",
    ],
)
def test_tuples_that_hold_each_other_are_never_hashed(body: bytes, tmp_path: Path) -> None:
    path = stored(tmp_path / "a.pth", {"a/data.pkl": body})
    assert "is damaged or cut off" in refused(path)


def test_a_set_of_lists_of_tuples_is_no_key_that_holds_them(tmp_path: Path) -> None:
    body = b"\x80\x02}cbuiltins\nset\n(" + tuples(40) + b"l\x85RNs."
    with pytest.raises(WeightsError, match="holds no named tensors"):
        import_file(stored(tmp_path / "a.pth", {"a/data.pkl": body}))


@pytest.mark.parametrize("protocol", range(5))
def test_any_plain_pickle_passes(protocol: int) -> None:
    value = {("a", i): {"b": [1.5, (i, None)], "set": {1, 2}, "names": tuple("abc")} for i in range(500)}
    stream = io.BytesIO(pickle.dumps(value, protocol))
    pickle_scan.check(stream)
    assert pickle.load(stream) == value  # it stands where it stood


@pytest.mark.parametrize(
    "body", [b"0.", b"1.", b"2.", b"u.", b"s.", b"t.", b"\x86.", b"\x90.", b"\x94.", b"q\x00.", b"h\x05."]
)
def test_a_pickle_that_takes_what_is_not_there_is_one_line(body: bytes, tmp_path: Path) -> None:
    assert refused(stored(tmp_path / "a.pth", {"a/data.pkl": b"\x80\x02" + body}))


# -- HDF5


def test_values_that_are_stored_nowhere_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"conv"])
        names = [f"conv/w{i}".encode() for i in range(60)]
        file.create_group("conv").attrs["weight_names"] = np.array(names)
        for name in names:
            file.create_dataset(f"conv/{name.decode()}", (50_000_000,), "f4", fillvalue=1.0)  # takes no room
    assert "its weights have 12,000,000,000 bytes" in refused(path)


def linked(path: Path, make: Callable[[Any], Any]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"conv"])
        file.create_group("conv").attrs["weight_names"] = np.array([b"kernel"])
        make(file["conv"])
    return path


def test_a_link_to_another_file_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.zeros(3, np.float32)
    for link in (h5py.ExternalLink("secret.h5", "kernel"), h5py.SoftLink("/elsewhere")):

        def make(group: Any, link: Any = link) -> None:
            group["kernel"] = link

        assert "kernel' is a link to another place or file" in refused(linked(tmp_path / "a.h5", make))


def test_values_in_another_file_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = np.zeros(3, np.float32)

    def outside(group: Any) -> None:
        group.create_dataset("kernel", (3,), "f4", external=[(str(tmp_path / "secret"), 0, 12)])

    def virtual(group: Any) -> None:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (3,))
        group.create_virtual_dataset("kernel", layout)

    for make in (outside, virtual):
        assert "'kernel' lie in another file" in refused(linked(tmp_path / "a.h5", make)).replace("conv/", "")


def test_groups_that_hold_themselves_or_nest_without_end_are_walked_once(tmp_path: Path) -> None:
    def ring(group: Any) -> None:
        group["kernel"] = np.zeros(3, np.float32)
        group["again"] = group.file["/"]

    with h5py.File(linked(tmp_path / "a.h5", ring)) as file:
        assert list(hdf5.datasets(file)) == ["conv/kernel"]

    def deep(group: Any) -> None:
        group["kernel"] = np.zeros(3, np.float32)
        group.create_group("a/" * (limits.GROUPS + 1) + "b")

    assert "groups are more than 64 deep" in refused(linked(tmp_path / "b.h5", deep))


def test_the_members_of_groups_are_found_as_h5py_finds_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("a/b/c", "a/d", "e", "f/g/h/i"):
            file[name] = np.zeros(2)
        file.create_group("empty")
        found: list[str] = []
        file.visititems(lambda name, member: found.append(name) if isinstance(member, h5py.Dataset) else None)
        assert sorted(hdf5.datasets(file)) == sorted(found)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_member_of_a_keras_archive_that_unpacks_to_too_much_is_refused_unpacked(name: str, tmp_path: Path) -> None:
    members = {"model.weights.h5": b"", "config.json": b"{}", name: bytes(30_000_000)}
    path = stored(tmp_path / "a.keras", members, compression=zipfile.ZIP_DEFLATED)
    assert f"{name} unpacks to 30,000,000 bytes" in refused(path)


# -- graphs


def test_a_tflite_graph_whose_lists_lie_on_each_other_is_refused() -> None:
    budget, shared = graph._Budget(1000), np.zeros(250, np.int32)
    assert graph._indices(shared, budget) == (0,) * 250
    assert graph._indices(shared, budget) == (0,) * 250
    with pytest.raises(WeightsError, match="its lists have more in all than the file"):
        graph._indices(shared, budget)


def test_options_that_hold_each_other_are_left_out() -> None:
    from flatbuffers import flexbuffers

    builder: Any = flexbuffers.Builder()
    with builder.Map():
        builder.Float("y_scale", 10.0)
        builder.Bool("use_regular_nms", False)
        builder.Key("nested")
        builder.VectorFromElements([1, 2])
    content = bytes(builder.Finish())

    class Told:
        def CustomOptionsLength(self) -> int:
            return len(content)

        def CustomOptionsAsNumpy(self) -> Any:
            return np.frombuffer(content, np.uint8)

    assert graph._custom_options("X", Told(), graph._Budget(1000)) == {"y_scale": 10.0, "use_regular_nms": False}


@pytest.mark.parametrize(
    "text",
    [
        "7767517\n" + "9" * 5000 + " 1\n",
        "7767517\n1 1\nInput data " + "9" * 5000 + " 1 data\n",
        "7767517\n1 1\nInput data 0 999999999 data\n",
        "7767517\n1 1\nInput " + "n" * 5000 + " 0 1 data\n",
        "7767517\n1 1\n" + "\x1b[31m" * 900 + "\n",
        "7767517\n1 1\n" + "\n" * 50_000,
        "7767517\n1 1\nInput data 0 1 data " + "9" * 5000 + "=1\n",
    ],
)
def test_an_ncnn_graph_of_large_words_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.param").write_text(text)
    (tmp_path / "a.bin").write_bytes(b"1234")
    assert len(refused(tmp_path / "a.param")) < 400 + len(str(tmp_path))


# -- what is no regular file, and labels


def test_a_pipe_in_a_folder_is_refused_and_an_endless_device_ends(tmp_path: Path, monkeypatch: Any) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert "is a pipe: write what comes out of it to a file" in refused(tmp_path / "a.pth")
    (tmp_path / "b.pth").symlink_to("/dev/zero")
    monkeypatch.setattr("mobilenetv2.files.on_disk.__wrapped__.__kwdefaults__", {"limit": 1000})
    assert "has more than 1,000 bytes" in refused(tmp_path / "b.pth")


def test_a_checkpoint_is_imported_from_an_open_pipe(tmp_path: Path, random_model: RandomModel) -> None:
    import safetensors.numpy

    model = random_model(width_mult=0.35, outputs=3)
    content = safetensors.numpy.save(dict(model.tensors))
    source, sink = os.pipe()

    def feed() -> None:
        with open(sink, "wb") as stream:
            stream.write(content)

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        found = import_file(f"/dev/fd/{source}", source="torchvision")
    finally:
        writer.join()
        os.close(source)
    assert found.info.provenance["file"] == str(source)
    assert all(np.array_equal(found.tensors[name], value) for name, value in model.tensors.items())


def test_a_pointer_of_git_lfs_and_a_picture_are_called_what_they_are(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("a.pth", "a.safetensors", "a.h5", "a.keras", "a.tflite", "a.npz", "a.bin"):
        (tmp_path / name).write_bytes(pointer)
        assert "is a Git LFS pointer: fetch" in refused(tmp_path / name)
    (tmp_path / "b.param").write_text("7767517\n")
    (tmp_path / "b.bin").write_bytes(pointer)
    assert "is a Git LFS pointer" in refused(tmp_path / "b.param", tmp_path / "b.bin")
    (tmp_path / "photo.pth").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    assert "is a JPEG picture, no file of weights" in refused(tmp_path / "photo.pth")


def test_half_of_a_surrogate_pair_in_a_configuration_is_one_line(tmp_path: Path) -> None:
    from mobilenetv2.importers import huggingface

    (tmp_path / "config.json").write_text('{"model_type": "mobilenet_v2", "id2label": {"0": "\\ud800"}}')
    with pytest.raises(WeightsError, match=r"config\.json holds text that UTF-8 cannot write"):
        huggingface.config_beside(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match=r"config\.json is a Git LFS pointer"):
        huggingface.config_beside(tmp_path / "model.safetensors")


def test_a_safetensors_header_longer_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", limits.HEADER_BYTES + 1) + b"{")
        file.truncate(limits.HEADER_BYTES + 100)
    with pytest.raises(WeightsError, match="a header of 16,777,217 bytes"):
        import_file(path)


def test_labels_are_read_in_bounded_time(tmp_path: Path, random_model: RandomModel, monkeypatch: Any) -> None:
    network = random_model(width_mult=0.35, outputs=3).info.spec
    for text in ("\n" * 200_000, "item {" * 40_000, "item" + " " * 200_000, "item { " + "a" * 200_000 + "}"):
        (tmp_path / "labels.txt").write_text(text)
        start = time.process_time()
        with pytest.raises(UsageError, match=r"labels\.txt"):
            complete.read_labels(tmp_path / "labels.txt", network)
        assert time.process_time() - start < 2
    (tmp_path / "labels.pbtxt").write_text("item { id: " + "9" * 5000 + " name: 'a' }")
    with pytest.raises(UsageError, match="an item lacks its number"):
        complete.read_labels(tmp_path / "labels.pbtxt", network)
    (tmp_path / "endless").symlink_to("/dev/zero")
    monkeypatch.setattr(limits, "GRAPH_BYTES", 1000)
    with pytest.raises(FileError, match="more than 1,000 bytes"):
        complete.read_labels(tmp_path / "endless", network)


@pytest.mark.parametrize(
    "arguments",
    [{"size": 0}, {"size": 224.0}, {"size": "224"}, {"size": True}, {"size": 10**9}, {"output_stride": 8.0},
     {"background": "middle"}, {"source": "x"}, {"source": 3}],
)  # fmt: skip
def test_odd_arguments_are_usage_errors(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        import_file(tmp_path / "a.pth", **arguments)


def test_an_imported_model_is_one_that_can_be_read_again(tmp_path: Path, random_model: RandomModel) -> None:
    import safetensors.numpy

    model = random_model(width_mult=0.35, outputs=3)
    (tmp_path / "a.safetensors").write_bytes(safetensors.numpy.save(dict(model.tensors)))
    model_file.write(tmp_path / "m", import_file(tmp_path / "a.safetensors", source="torchvision"))
    assert model_file.read(tmp_path / "m").info.classes == 3
