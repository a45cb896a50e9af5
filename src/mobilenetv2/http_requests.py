"""One HTTP request that ends, whatever the server does: no redirect that was not asked about, no endless answer."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import Any

from mobilenetv2.text import plain

TIMEOUT_S = 30.0  # without a byte
# A server that sends a byte every 29 s is not waited for: in every window of a minute, at least 60 KB (1 KB/s, a
# quarter of what a phone of 2G gets) must come. Checked when a byte comes, so the last wait is 90 s.
WINDOW_S = 60.0
LEAST_BYTES = 60_000
HEADER_BYTES = 1 << 20  # of status lines and headers of one answer; http.client bounds each line and the lines' number
MARK = 200  # characters of a server's mark of a version; S3's tags have 36
# What a server, or the way to it, can make http.client and urllib raise: ValueError for addresses and numbers that are
# none (UnicodeError among them), OverflowError for a port beyond 65535
BROKEN = (OSError, http.client.HTTPException, ValueError, OverflowError)


def request(url: str, headers: dict[str, str], *, method: str, allow: Callable[[str], None]) -> Response:
    """The server's answer, a refusal too (404, 416), after redirects. `allow` raises for an address that is not to be
    asked; it sees `url` and every redirect's. Raises one of `BROKEN` where there is no answer."""
    allow(url)
    asked = urllib.request.Request(url, headers={"User-Agent": "mobilenetv2"} | headers, method=method)
    handlers = (_Redirects(allow), _RefusalsAreAnswers(), _Plain(), _Secure())
    return urllib.request.build_opener(*handlers).open(asked, timeout=TIMEOUT_S)


def version(sent: Message) -> str:
    """What If-Range may carry: a strong entity tag, else a date, else nothing (RFC 9110, section 13.1.5)."""
    tag = sent.get("ETag", "")
    return mark(tag if tag.startswith('"') else sent.get("Last-Modified", ""))


def mark(text: str) -> str:
    """`text` where it can stand in a header: on one line, in ASCII; else ""."""
    return text if len(text) <= MARK and text.isascii() and text.isprintable() else ""


def reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return plain(re.sub(r"\s+", " ", text), 200)


class Response(http.client.HTTPResponse):
    """An answer that is read with patience, but not without end."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._patient = _Patient(self.fp.detach())  # pyright: ignore[reportAttributeAccessIssue] - a BufferedReader
        self.fp = io.BufferedReader(self._patient)

    def expect(self, most: int) -> None:
        """Allow a body of `most` bytes: eight times that on the line, as chunks have headers of their own."""
        self._patient.left = 8 * most + HEADER_BYTES


class _Patient(io.RawIOBase):
    """The bytes of one connection. Raises `TimeoutError` where they come too slowly, `OSError` for too many."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.left = HEADER_BYTES
        self._began, self._came = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        now = time.monotonic()
        if now - self._began > WINDOW_S:
            if self._came < LEAST_BYTES:
                raise TimeoutError(f"only {self._came:,} bytes came in {now - self._began:.0f} s")
            self._began, self._came = now, 0
        if self.left <= 0:
            raise OSError("the answer does not end")
        count = self._raw.readinto(memoryview(buffer)[: max(min(len(buffer), self.left), 1)]) or 0
        self.left -= count
        self._came += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PlainConnection(http.client.HTTPConnection):
    response_class = Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = Response


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_PlainConnection, req)


class _Secure(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        return self.do_open(_SecureConnection, req, context=getattr(self, "_context", None))


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allow: Callable[[str], None]) -> None:
        self._allow = allow

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        fp.close()  # urllib would read what comes with a redirect to its end
        self._allow(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req, fp, code, msg, headers):
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except BaseException:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _RefusalsAreAnswers(urllib.request.HTTPErrorProcessor):
    """404, 416 and the like come back as responses and are not raised."""

    def http_response(self, request, response):
        return super().http_response(request, response) if 300 <= response.status < 400 else response

    https_response = http_response
