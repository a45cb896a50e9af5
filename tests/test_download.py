"""A download ends whole and right, or says in one line what to do; a server in this process plays the publisher."""

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mobilenetv2 import download
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
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
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
