"""What a server may answer: statuses, lengths, ranges, redirects and marks that do not fit; and what lies there."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from pathlib import Path

from fuzz import values
from fuzz.sandbox import Case, WrongAnswerError
from fuzz.targets import Maker, Target
from mobilenetv2 import download
from mobilenetv2.download import Download, Version

_CONTENT = b"the published file, of a few bytes" * 4
_DIGEST = hashlib.sha256(_CONTENT).hexdigest()
_ANSWERED = 12  # requests; then the server has gone
_STATUSES = (200, 200, 200, 206, 206, 301, 302, 308, 400, 403, 404, 410, 416, 429, 500, 503, 100, 204, 304, 999)
_PLACES = (
    "/x",
    "http://[::1",
    "http://",
    "//",
    "file:///etc/passwd",
    "ftp://x/y",
    "\x1b[31m",
    "http://127.0.0.1:1/",
    "é",
    "",
)


def _prepare(folder: Path) -> Maker:
    def make(rng: random.Random, here: Path) -> Case:
        server = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        answers = [_answer(rng, url) for _ in range(_ANSWERED)]
        thread = threading.Thread(target=_serve, args=(server, answers), daemon=True)
        version = Version(len(_CONTENT), '"v1"') if rng.random() < 0.5 else None
        wanted = Download(url, here / "file", rng.choice((_DIGEST, _DIGEST[:8])), "file", version)
        for suffix in (".part", ".part.version", ".sha256"):
            if rng.random() < 0.25:
                wanted.beside(suffix).write_bytes(_left(rng, suffix))

        def run() -> None:
            thread.start()
            if rng.random() < 0.4:
                download.ask(url)
            fetched = download.fetch(wanted, progress=False).read_bytes()
            if fetched != _CONTENT and version is None:
                raise WrongAnswerError(f"a file that is not the published one was taken: {fetched[:40]!r}")

        return Case(run, lambda: answers[0].startswith((b"HTTP/1.1 2", b"HTTP/1.1 3")), threads=4)

    return make


def _left(rng: random.Random, suffix: str) -> bytes:
    """What an earlier call, or an accident, left beside the file."""
    if suffix == ".part":
        return rng.choice((_CONTENT[:20], _CONTENT, b"", b"other bytes", _CONTENT * 2))
    return rng.choice((b'"v1"', b'"v0"', b"", b"\xff\xfe", b"a\nb", b"x" * 70_000, rng.randbytes(20)))


def _serve(server: socket.socket, answers: list[bytes]) -> None:
    """Give each connection the next answer and close it; a server that waits is another test's."""
    for answer in answers:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            try:
                request = b""
                while b"\r\n\r\n" not in request and (more := connection.recv(1 << 16)):
                    request += more
                connection.sendall(answer)
            except OSError:
                continue
    server.close()


def _answer(rng: random.Random, url: str) -> bytes:
    """The whole file as a good server sends it, mostly with something that does not fit."""
    at = rng.choice((0, 20, len(_CONTENT)))
    status = 200 if rng.random() < 0.5 else rng.choice(_STATUSES)
    body = _CONTENT[at:] if status == 206 else _CONTENT
    headers = {"Content-Length": str(len(body)), "ETag": '"v1"', "Content-Type": "application/octet-stream"}
    if status == 206:
        headers["Content-Range"] = f"bytes {at}-{len(_CONTENT) - 1}/{len(_CONTENT)}"
    if 300 <= status < 400:
        headers["Location"] = rng.choice((*_PLACES, url, url + "?" + "a" * 5_000))
    reason = rng.choice(("OK", "OK", "Not \x1b[31mFound", "x" * 5_000, ""))
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(("Content-Length", "Content-Range", "ETag", "Content-Type", "Transfer-Encoding", "Location"))
        headers[name] = rng.choice(
            (
                "0",
                "5",
                "-1",
                "9" * 20,
                "9" * 5_000,
                "bytes 0-0/" + "9" * 5_000,
                "bytes */9",
                "chunked",
                "text/html",
                '"v2"',
            )
            + tuple(text.replace("\n", "").replace("\r", "") for text in values.TEXTS)
        )
    head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    data = head.encode("utf-8", "surrogatepass") + b"\r\n" + rng.choice((body, body, body, body[:10], body * 3, b""))
    return values.bytes_changed(rng, data) if rng.random() < 0.15 else data


TARGETS = (Target("download", _prepare, 0.5),)
