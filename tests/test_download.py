"""A download ends whole and right, or says in one line what to do; a server in this process plays the publisher."""

import contextlib
import hashlib
import http.server
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mobilenetv2 import download, http_requests, zoo
from mobilenetv2.download import Download, Version, ask, fetch
from mobilenetv2.errors import DownloadError, FileError

DATA = bytes(range(256)) * 2000  # half a megabyte
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Site:
    """What the server does, changed by the tests, and what it was asked."""

    data: bytes = DATA
    knows_ranges: bool = True
    announces_length: bool = True
    version: str = '"one"'
    cuts_after: list[int] = field(default_factory=list)  # bytes sent before each of the next connections is cut
    status: int = 200
    content_type: str = "application/octet-stream"
    pause_s: float = 0.0
    range_offset: int = 0  # a server that answers with another range than the one asked for
    answers_head: bool = True
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("Range") for request in self.requests]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def site():
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, site)

        def do_HEAD(self):
            if site.answers_head:
                answer(self, site)
            else:
                self.send_response(405)
                self.end_headers()

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/models/net.pth"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def answer(handler: http.server.BaseHTTPRequestHandler, site: Site) -> None:
    site.requests.append(dict(handler.headers))
    if site.status != 200:
        handler.send_response(site.status)
        if site.status in (301, 302):
            handler.send_header("Location", "http://example.com/net.pth")
        handler.end_headers()
        return
    start, asked = 0, None
    same = handler.headers.get("If-Range", site.version) == site.version
    if site.knows_ranges and same and (asked := re.fullmatch(r"bytes=(\d+)-(0?)", handler.headers.get("Range", ""))):
        start = int(asked[1]) + site.range_offset
        if start >= len(site.data):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(site.data)}")
            handler.end_headers()
            return
        handler.send_response(206)
        last = 0 if asked[2] else len(site.data) - 1
        handler.send_header("Content-Range", f"bytes {start}-{last}/{len(site.data)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Type", site.content_type)
    if site.announces_length:
        handler.send_header("Content-Length", str(1 if asked and asked[2] else len(site.data) - start))
    if site.version:
        handler.send_header("ETag", site.version)
    handler.end_headers()
    if handler.command == "HEAD":
        return
    body = site.data[start : 1 if asked and asked[2] else None]
    if site.cuts_after:
        body = body[: site.cuts_after.pop(0)]
    time.sleep(site.pause_s)
    handler.wfile.write(body)


@pytest.fixture
def wanted(site, tmp_path):
    return Download(url=site.url, path=tmp_path / "cache" / "net.pth", sha256=SHA256, label="net")


def without_hash(wanted: Download) -> Download:
    return Download(wanted.url, wanted.path, "", wanted.label)


def lying_beside(wanted: Download) -> set[str]:
    return {file.name for file in wanted.path.parent.iterdir()}


def leave_part(wanted: Download, data: bytes, version: str = "") -> None:
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    wanted.beside(".part").write_bytes(data)
    if version:
        wanted.beside(".part.version").write_text(version)


def test_a_file_is_downloaded_once_and_then_found(site, wanted):
    assert fetch(wanted) == wanted.path
    assert fetch(wanted) == wanted.path
    assert wanted.path.read_bytes() == DATA
    assert site.ranges == [None]
    assert lying_beside(wanted) == {"net.pth", "net.pth.lock"}


def test_the_first_eight_digits_of_the_hash_are_enough(wanted):
    assert fetch(Download(wanted.url, wanted.path, SHA256[:8], "net")).read_bytes() == DATA


def test_a_cut_connection_is_taken_up_where_it_broke(site, wanted):
    site.cuts_after = [100_000, 70_000]
    fetch(wanted)
    assert wanted.path.read_bytes() == DATA
    assert site.ranges == [None, "bytes=100000-", "bytes=170000-"]
    assert [request.get("If-Range") for request in site.requests] == [None, '"one"', '"one"']


def test_a_connection_that_brings_nothing_more_ends_in_an_error_and_the_next_call_goes_on(site, wanted):
    site.cuts_after = [100_000, 0]
    with pytest.raises(DownloadError, match=r"broke off after 100000 bytes .*run it again to go on"):
        fetch(wanted)
    assert not wanted.path.exists()
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges[-1] == "bytes=100000-"


def test_a_server_without_ranges_sends_everything_again(site, wanted):
    site.knows_ranges = False
    leave_part(wanted, DATA[:1000])
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges == ["bytes=1000-"]


def test_a_file_that_changed_on_the_server_is_not_put_together_from_two(site, wanted):
    leave_part(wanted, b"x" * 1000, version='"zero"')
    assert fetch(without_hash(wanted)).read_bytes() == DATA


def test_a_part_that_nothing_vouches_for_is_not_continued(site, wanted):
    leave_part(wanted, b"x" * 1000)
    site.version = 'W/"weak"'  # no use in If-Range
    assert fetch(without_hash(wanted)).read_bytes() == DATA
    assert site.ranges == [None]


def test_a_wrong_part_is_thrown_away_and_the_download_starts_over(site, wanted):
    leave_part(wanted, b"x" * 1000)
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges == ["bytes=1000-", None]


def test_a_part_that_is_complete_needs_no_more_bytes(site, wanted):
    leave_part(wanted, DATA)
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges == [f"bytes={len(DATA)}-"]


def test_a_part_that_is_too_long_is_thrown_away(site, wanted):
    leave_part(wanted, DATA + b"more")
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges[-1] is None


def test_an_answer_with_another_range_is_not_appended(site, wanted):
    leave_part(wanted, DATA[:1000])
    site.range_offset = 5
    assert fetch(wanted).read_bytes() == DATA
    assert site.ranges == ["bytes=1000-", None]


def test_a_file_of_unknown_length_is_taken_to_its_end(site, wanted):
    site.announces_length = False
    assert fetch(wanted).read_bytes() == DATA


def test_a_file_that_is_not_the_published_one_is_removed_and_both_hashes_are_named(site, wanted):
    site.data = b"something else"
    with pytest.raises(DownloadError) as raised:
        fetch(wanted)
    assert SHA256 in str(raised.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(raised.value)
    assert "\n" not in str(raised.value)
    assert lying_beside(wanted) == {"net.pth.lock"}
    assert len(site.requests) == 1


def test_without_a_published_hash_the_first_download_is_noted_and_said(site, wanted, capsys):
    unhashed = without_hash(wanted)
    fetch(unhashed)
    note = wanted.beside(".sha256")
    assert note.read_text() == f"{SHA256}  net.pth\n"
    assert f"no sha256 is published; that of this file is now noted in {note}" in capsys.readouterr().err
    fetch(unhashed)
    assert capsys.readouterr().err == ""


def test_a_noted_hash_is_compared_ever_after(site, wanted):
    unhashed = without_hash(wanted)
    fetch(unhashed).write_bytes(b"altered")
    with pytest.raises(DownloadError, match=rf"the one noted in .*net\.pth\.sha256 is {SHA256}; delete"):
        fetch(unhashed)
    wanted.path.unlink()
    site.data = b"another file under the same name"
    with pytest.raises(DownloadError, match=f"noted in .* is {SHA256}; it was removed"):
        fetch(unhashed)
    assert not wanted.path.exists()


def test_an_empty_note_vouches_for_nothing(wanted):
    wanted.path.parent.mkdir()
    wanted.beside(".sha256").write_text("")
    with pytest.raises(DownloadError):
        fetch(without_hash(wanted))


def test_a_file_put_there_by_hand_is_taken_when_its_hash_is_right(site, wanted):
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(DATA)
    assert fetch(wanted) == wanted.path
    assert site.requests == []


def test_a_wrong_file_put_there_by_hand_is_refused_and_left_alone(site, wanted):
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=f"the published one is {SHA256}; delete .* to download it again"):
        fetch(wanted)
    assert wanted.path.read_bytes() == b"mine"
    assert site.requests == []


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_port}/net.pth"
    offline = Download(url, tmp_path / "net.pth", "", "net")
    with pytest.raises(DownloadError) as raised:
        fetch(offline)
    assert str(raised.value) == (
        f"cannot fetch {url} (Connection refused): download it by other means and put it at {tmp_path / 'net.pth'}"
    )


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_refusal_names_the_status(site, wanted, status, reason):
    site.status = status
    with pytest.raises(DownloadError, match=f"the server answers {reason}.*put it at"):
        fetch(wanted)
    assert lying_beside(wanted) == {"net.pth.lock"}


def test_a_web_page_is_not_taken_for_a_file(site, wanted):
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="a web page"):
        fetch(without_hash(wanted))


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large_is_refused(site, wanted, monkeypatch, announced):
    site.announces_length = announced
    monkeypatch.setattr(download, "LARGEST", 200_000)
    with pytest.raises(DownloadError, match="200000"):
        fetch(wanted)


def test_a_silent_server_is_given_up(site, wanted, monkeypatch):
    site.pause_s = 1.0
    monkeypatch.setattr(http_requests, "TIMEOUT_S", 0.1)
    with pytest.raises(DownloadError, match=r"broke off after 0 bytes \(timed out\)"):
        fetch(wanted)


@pytest.mark.parametrize("url", ["http://example.com/net.pth", "ftp://example.com/net.pth", "file:///etc/passwd"])
def test_only_https_is_trusted(tmp_path, url):
    with pytest.raises(DownloadError, match="only https"):
        fetch(Download(url, tmp_path / "net.pth", "", "net"))


def test_a_redirection_to_plain_http_is_not_followed(site, wanted):
    site.status = 302
    with pytest.raises(DownloadError, match=r"will not fetch http://example.com/net.pth"):
        fetch(wanted)


def test_a_place_that_cannot_be_written_is_named(site, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileError, match="file"):
        fetch(Download(site.url, tmp_path / "file" / "net.pth", "", "net"))


def test_threads_that_ask_at_once_share_one_download(site, wanted, capsys):
    site.pause_s = 0.3
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(wanted), range(4)))
    assert paths == [wanted.path] * 4
    assert wanted.path.read_bytes() == DATA
    assert len(site.requests) == 1
    assert capsys.readouterr().err.count("another process is downloading it") == 3


def test_processes_that_ask_at_once_share_one_download(site, wanted):
    site.pause_s = 1.0
    code = (
        "import sys; from pathlib import Path; from mobilenetv2.download import Download, Version, ask, fetch; "
        "fetch(Download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], 'net'))"
    )
    source = str(Path(download.__file__).parents[1])
    command = [sys.executable, "-c", code, wanted.url, str(wanted.path), wanted.sha256]
    both = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": source}) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert wanted.path.read_bytes() == DATA
    assert len(site.requests) == 1


def test_the_bar_is_shown_on_stderr_when_asked_for_and_not_into_a_file(wanted, capsys):
    fetch(wanted, progress=True)
    shown = capsys.readouterr()
    assert "net" in shown.err
    assert "512.0/512.0 kB" in shown.err
    assert shown.out == ""
    wanted.path.unlink()
    fetch(wanted)
    assert capsys.readouterr().err == ""


# ---- files that nobody published: a version stands in for the hash


@pytest.mark.parametrize("answers_head", [True, False])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_server_is_asked_for_size_and_version_and_sends_nothing(site, answers_head, knows_ranges):
    site.answers_head, site.knows_ranges = answers_head, knows_ranges
    assert ask(site.url) == Version(len(DATA), '"one"')
    site.version = ""
    assert ask(site.url) == Version(len(DATA), "")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_a_server_has_not_or_gives_to_nobody_is_none(site, status):
    site.status = status
    assert ask(site.url) is None


def test_a_server_that_tells_no_size_or_fails_is_one_line(site):
    site.announces_length = site.knows_ranges = False
    with pytest.raises(DownloadError, match=r"the server answers 200, and no size\): try again later$"):
        ask(site.url)
    site.status = 503
    with pytest.raises(DownloadError, match="503"):
        ask(site.url)


def of_version(wanted: Download, version: Version | None = None) -> Download:
    return Download(wanted.url, wanted.path, "", wanted.label, version or ask(wanted.url))


def test_a_version_is_fetched_without_a_word_and_resumed(site, wanted, capsys, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1000)
    site.cuts_after = [100_000, 70_000]
    assert fetch(of_version(wanted)).read_bytes() == DATA
    assert site.ranges[1:] == [None, "bytes=100000-", "bytes=170000-"]
    assert lying_beside(wanted) == {"net.pth", "net.pth.lock"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("changed", [Version(len(DATA), '"two"'), Version(len(DATA) - 1, '"one"')])
def test_another_version_than_the_one_asked_about_is_refused(site, wanted, changed):
    with pytest.raises(DownloadError, match=r"\(it has changed there since this run began\): try again later$"):
        fetch(of_version(wanted, changed))
    assert not wanted.path.exists()


def test_a_file_of_another_size_that_lies_there_is_refused(site, wanted):
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(b"short")
    with pytest.raises(DownloadError, match="has not the 512000 bytes"):
        fetch(of_version(wanted))


def test_plain_http_is_followed_where_a_person_wrote_it_and_a_version_is_known(site, wanted):
    plain = Download(site.url.replace("127.0.0.1", "localhost"), wanted.path, SHA256, "net")
    with pytest.raises(DownloadError, match="only https"):
        fetch(plain)
    assert fetch(of_version(plain)).read_bytes() == DATA


def test_a_name_with_spaces_and_other_letters_is_asked_for_as_it_is_meant(site):
    site.url = site.url.replace("net.pth", "ein Schöner?x=1")
    assert ask(site.url) == Version(len(DATA), '"one"')


# ---- a server that does what none should


@pytest.fixture
def says():
    """`says(*pieces)`: the address of a server that sends these bytes to whoever asks, and closes the connection; of
    a piece that is a number it takes a rest of so many seconds."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(*pieces: bytes | float) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError):
                    self.request.recv(1 << 16)
                    for piece in pieces:
                        if isinstance(piece, bytes):
                            self.request.sendall(piece)
                        else:
                            time.sleep(piece)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/net.pth"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answered(*headers: str, status: str = "200 OK", body: bytes = b"") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode("latin-1") + body


STRANGE = {
    "redirect to no address": answered("Location: http://[::1", status="302 Found"),
    "redirect to a port that is none": answered("Location: http://127.0.0.1:99999/x", status="302 Found"),
    "redirect to a host that is none": answered(f"Location: https://{'a' * 70}.example/x", status="302 Found"),
    "redirect to control characters": answered("Location: http://127.0.0.1:1/\x1b[31m", status="302 Found"),
    "no status": b"garbage\r\n\r\n",
    "status of 5,000 digits": answered(status="9" * 5000),
    "status that is none": answered(status="abc OK"),
    "length of 5,000 digits": answered("Content-Length: " + "9" * 5000),
    "length beyond what there is": answered("Content-Length: " + "9" * 19),
    "chunk that is none": answered("Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
    "reason with an escape": answered(status="404 Not \x1b[31mFound"),
    "reason without end": answered(status="500 " + "x" * 60_000),
    "header without end": answered("X: " + "x" * 70_000),
    "headers without end": answered(*["X: y"] * 200),
    "nothing": b"",
    "empty file": answered("Content-Length: 0"),
    "a part that nobody asked for": answered(
        "Content-Range: bytes 0-1/9", "Content-Length: 2", status="206 P", body=b"ab"
    ),
    "always more to come": answered(status="100 Continue") * 50_000,
}


@pytest.mark.parametrize("answer", list(STRANGE.values()), ids=list(STRANGE))
def test_a_strange_answer_is_one_line_and_leaves_no_file(says, tmp_path, answer):
    url = says(answer)
    for sha256 in ("", SHA256):
        with pytest.raises(DownloadError) as raised:
            fetch(Download(url, tmp_path / "net.pth", sha256, "net"))
        assert "\x1b" not in str(raised.value)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 700
        assert "put it at" in str(raised.value)
        assert not (tmp_path / "net.pth").exists()
    with contextlib.suppress(DownloadError):
        assert ask(url) in (None, Version(0, ""), Version(2, ""), Version(9, ""))


def test_what_comes_with_a_redirect_is_not_read(site, says, wanted):
    there = says(answered(f"Location: {site.url}", status="302 Found"), *[b"x" * (1 << 20)] * 1000)
    assert fetch(Download(there, wanted.path, SHA256, "net")).read_bytes() == DATA


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", answered("Content-Length: 512000")])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(says, tmp_path, monkeypatch, begin):
    monkeypatch.setattr(http_requests, "WINDOW_S", 0.3)
    monkeypatch.setattr(http_requests, "LEAST_BYTES", 1000)
    url = says(begin, *(piece for _ in range(100) for piece in (0.1, b"X")))
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=r"bytes came in \d s"):
        fetch(Download(url, tmp_path / "net.pth", SHA256, "net"))
    assert time.monotonic() - begun < 5


def test_a_slow_server_that_goes_on_is_waited_for(says, tmp_path, monkeypatch):
    monkeypatch.setattr(http_requests, "WINDOW_S", 0.05)
    monkeypatch.setattr(http_requests, "LEAST_BYTES", 1000)
    url = says(
        answered(f"Content-Length: {len(DATA)}"), *(p for i in range(20) for p in (DATA[i * 25600 :][:25600], 0.02))
    )
    assert fetch(Download(url, tmp_path / "net.pth", SHA256, "net")).read_bytes() == DATA


def test_a_connection_that_always_breaks_is_given_up(site, wanted, monkeypatch):
    monkeypatch.setattr(download, "CUTS", 3)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    site.cuts_after = [10] * 50
    with pytest.raises(DownloadError, match="broke off after 40 bytes"):
        fetch(wanted)


@pytest.mark.parametrize("note", [b"\xff\xfe", b'"one"\r\nX: y', b"\0", b'"' + b"x" * 500, "„eins“".encode()])
def test_a_damaged_note_of_the_version_begins_anew(site, wanted, note):
    leave_part(wanted, DATA[:1000])
    wanted.beside(".part.version").write_bytes(note)
    assert fetch(without_hash(wanted)).read_bytes() == DATA
    assert site.ranges == [None]


@pytest.mark.parametrize("mark", ['"two"\r\n more', '"' + "x" * 500 + '"', '"\xe9"'])
def test_a_mark_that_no_header_may_carry_is_none(site, says, wanted, mark):
    url = says(answered(f"ETag: {mark}", "Content-Length: 5", body=b"12345"))
    assert ask(url) == Version(5, "")
    assert fetch(Download(url, wanted.path, "", "net")).read_bytes() == b"12345"


@pytest.mark.parametrize("suffix", [".part", ".part.version", ".lock"])
def test_pipes_and_links_in_the_place_of_its_own_files_are_no_trap(site, wanted, tmp_path, suffix):
    wanted.path.parent.mkdir()
    os.mkfifo(wanted.beside(suffix))
    assert fetch(wanted).read_bytes() == DATA
    wanted.path.unlink()
    wanted.beside(suffix).unlink(missing_ok=True)
    if suffix != ".lock":
        (tmp_path / "other").write_bytes(b"not to be written to")
        wanted.beside(suffix).symlink_to(tmp_path / "other")
        assert fetch(wanted).read_bytes() == DATA
        assert (tmp_path / "other").read_bytes() == b"not to be written to"


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_a_pipe_in_the_place_of_the_file_or_its_note_is_named(wanted, suffix):
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(DATA)
    wanted.beside(suffix).unlink(missing_ok=True)
    os.mkfifo(wanted.beside(suffix))
    with pytest.raises(FileError, match="is no file: remove it"):
        fetch(without_hash(wanted))


def test_a_folder_in_the_place_of_a_part_is_named(wanted):
    wanted.beside(".part").mkdir(parents=True)
    with pytest.raises(FileError, match=r"net\.pth\.part"):
        fetch(wanted)


def test_a_file_that_is_larger_than_anything_is_refused(says):
    with pytest.raises(DownloadError, match=f"has {'9' * 15} bytes"):
        ask(says(answered(f"Content-Length: {'9' * 15}")))


def test_without_a_home_directory_the_error_says_what_to_set(monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MOBILENETV2_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(FileError, match="no home directory: set XDG_CACHE_HOME"):
        zoo.path_of(zoo.entries()[0])
