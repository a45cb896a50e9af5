"""Files are read within bounds and written whole, through links and into devices, never in their place."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mobilenetv2 import files
from mobilenetv2.errors import FileError, UsageError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_link_is_written_through() -> None:
    Path("models").mkdir()
    Path("models/v3").write_text("old")
    Path("current").symlink_to("models/v3")
    Path("next").symlink_to("models/v4")  # leads to a file that is still to be made
    files.write_bytes("current", b"new")
    files.write_bytes("next", b"first")
    assert (os.readlink("current"), os.readlink("next")) == ("models/v3", "models/v4")
    assert (Path("models/v3").read_text(), Path("models/v4").read_text()) == ("new", "first")


def test_a_file_keeps_its_permissions() -> None:
    Path("secret").write_text("old")
    Path("secret").chmod(0o600)
    files.write_bytes("secret", b"new")
    assert stat.S_IMODE(Path("secret").stat().st_mode) == 0o600


def test_a_pipe_is_written_to() -> None:
    os.mkfifo("pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    reader.start()
    files.write_bytes("pipe", b"content")
    reader.join()
    assert got == [b"content"]
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_a_socket_is_written_to() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        server.listen()
        files.write_bytes("socket", b"content")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"content"


@pytest.mark.parametrize(("minor", "message"), [(3, None), (7, "No space left")], ids=["null", "full"])
def test_a_device_stays_a_device(minor: int, message: str | None) -> None:
    try:
        os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, minor))
        Path("device").write_bytes(b"")
    except OSError as error:
        pytest.skip(f"devices cannot be made here: {error.strerror}")
    if message is None:
        files.write_bytes("device", b"content")
    else:
        with pytest.raises(FileError, match=message):
            files.write_bytes("device", b"content")
    assert stat.S_ISCHR(os.stat("device").st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "link-to-stdout"])
def test_standard_output_goes_where_the_shell_sent_it(name: str) -> None:
    Path("link-to-stdout").symlink_to("/proc/self/fd/1")
    code = f"from mobilenetv2 import files; files.write_bytes({name!r}, b'one '); print('two')"
    with open("out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    with open("out", "rb+") as out:
        assert os.fstat(out.fileno()).st_size > 0
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert piped.stdout == "one two\n"


def test_nothing_is_left_of_a_failed_write() -> None:
    Path("file").write_text("old")

    def fails() -> None:
        with files.writing("file") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match="No space left"):
        fails()
    assert [path.name for path in Path().iterdir()] == ["file"]
    assert Path("file").read_text() == "old"


@pytest.mark.parametrize("name", ["loop", ".", "zero\0byte", "file/below"])
def test_what_cannot_be_written_is_one_line(name: str) -> None:
    Path("loop").symlink_to("loop")
    Path("file").write_text("")
    with pytest.raises(FileError, match=r"^cannot write .*"):
        files.write_bytes(name, b"")


def test_a_long_name_can_be_written() -> None:
    files.write_bytes("x" * 250 + ".json", b"content")
    assert Path("x" * 250 + ".json").read_bytes() == b"content"


def test_reading_an_endless_device_ends() -> None:
    Path("link").symlink_to("/dev/zero")
    with pytest.raises(FileError, match="more than 100,000 bytes"):
        files.read_bytes("link", limit=100_000)
    assert not files.is_regular("link")


def test_a_pipe_is_read_as_a_stream_with_seeking() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(b"content"))
    writer.start()
    with files.opened("pipe") as stream:
        assert stream.read(3) == b"con"
        assert stream.seek(0) == 0
        assert stream.read() == b"content"
    writer.join()


@pytest.mark.parametrize("text", ["9" * 400, "1" * 31 + "GB", "٣KB", "-1", "1e9", "", "1TB"])
def test_a_number_of_bytes_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"--budget must be a number of bytes such as 512KB or 1MiB, got "):
        files.parse_bytes(text, "--budget")
    assert files.parse_bytes("1.5MiB", "--budget") == 3 << 19
