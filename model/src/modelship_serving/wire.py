# SPDX-License-Identifier: GPL-3.0-or-later
"""The syntax of HTTP/1.1 requests (RFC 9112, RFC 9110), strictly: what two readers could understand in two ways is refused.

Nothing here does input or output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import RequestError

MAX_HEAD = 32768
MAX_TARGET = 8192
MAX_HEADERS = 100
#: A chunk's length and extensions, or the trailer section.
_MAX_LINE = 4096

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_request_line = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/(\d)\.(\d)\r\n" % _TOKEN).match
# No bare CR or LF, no NUL, no folded line, no space before the colon: any of these lets two readers disagree.
_fields = re.compile(rb"(?:%s:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n" % _TOKEN).fullmatch
_escapes = re.compile(rb"%([0-9A-Fa-f]{2})?")
_absolute = re.compile(r"https?://[^/?#]+", re.IGNORECASE).match
_request_id = re.compile(r"[\x21-\x7e]{1,128}").fullmatch
_traceparent = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]*)?").fullmatch
_chunk_size = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

#: :attr:`Head.length` of a body that comes in chunks.
CHUNKED = -1


class Head:
    """Request line and headers.

    :ivar length: of the body in bytes, or :data:`CHUNKED`.
    :ivar connection: ``close``, ``keep-alive`` (asked for with HTTP/1.0), or "" (stays open).
    :ivar expects: the client waits for ``100 Continue``.
    :ivar old: the client speaks HTTP/1.0.
    :ivar id: the request id that was given, or "".
    :ivar trace: trace context headers to pass on (https://www.w3.org/TR/trace-context/).
    :ivar trace_id: out of these, for logs.
    :ivar timeout_ms: of ``modelship-timeout-ms``, or ``None``.
    """

    __slots__ = (
        "connection",
        "expects",
        "headers",
        "id",
        "length",
        "method",
        "old",
        "path",
        "query",
        "timeout_ms",
        "trace",
        "trace_id",
    )

    def __init__(self, data: bytes) -> None:
        """Parse *data*, which ends with the empty line.

        :raises RequestError: 400, 414, 417, 431, 501 or 505.
        """
        line = _request_line(data)
        if line is None:
            raise _bad_request_line(data)
        method, target, major, minor = line.groups()
        self.method = method.decode()
        if len(target) > MAX_TARGET:
            raise RequestError(414, f"request target: more than {MAX_TARGET} bytes")
        if major != b"1":
            raise RequestError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if self.method not in _METHODS:
            raise RequestError(501, f"method '{self.method[:40]}': unknown")
        self.path, self.query = _split(target.decode())
        self.headers = headers = _headers(data[line.end() :])
        self.old = old = minor == b"0"
        if not old and "host" not in headers:
            raise RequestError(400, "header host: missing")
        self.length = _length(headers, old)
        options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
        self.connection = ""
        if "close" in options or (old and "keep-alive" not in options):
            self.connection = "close"
        elif old:
            self.connection = "keep-alive"
        expect = headers.get("expect")
        self.expects = expect is not None and not old
        if self.expects and str(expect).lower() != "100-continue":
            raise RequestError(417, f"header expect: '{str(expect)[:40]}' is not known")
        given = headers.get("x-request-id", "")
        self.id = given if _request_id(given) else ""
        self.trace: tuple[tuple[str, str], ...] = ()
        self.trace_id = ""
        if parent := _traceparent(headers.get("traceparent", "")):
            self.trace_id = parent[1]
            self.trace = tuple((name, headers[name]) for name in ("traceparent", "tracestate") if name in headers)
        self.timeout_ms = _timeout(headers)


def _bare_newline(data: bytes, start: int = 0) -> bool:
    """Return whether there is a line feed without a carriage return in front of it.

    By counting, which takes a hundredth of a regular expression's time: clients may send byte after byte.
    """
    return data.count(b"\n", start) != data.count(b"\r\n", max(0, start - 1))


def check_incomplete(data: bytes, seen: int = 0) -> None:
    """Reject the beginning of a request that cannot become a valid one.

    :param seen: bytes that were checked before.
    :raises RequestError: 400, 414 or 431.
    """
    if _bare_newline(data, seen):
        raise RequestError(400, "a line of the request's head ends without a carriage return")
    first = data.find(b"\r\n")
    if first < 0 and len(data) > MAX_TARGET + 64:
        raise RequestError(414, f"request target: more than {MAX_TARGET} bytes")
    if len(data) > MAX_HEAD:
        raise RequestError(431, f"headers: more than {MAX_HEAD} bytes")


def _bad_request_line(data: bytes) -> RequestError:
    line = data[: data.find(b"\r\n")]
    version = re.search(rb" HTTP/(\d)\.\d$", line)
    if version and version[1] != b"1":
        return RequestError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return RequestError(400, "request line: expected METHOD TARGET HTTP/1.1")


def _split(target: str) -> tuple[str, str]:
    if found := _absolute(target):
        target = target[found.end() :]
        target = target if target.startswith("/") else "/" + target
    path, _unused, query = target.partition("?")
    if not path.startswith("/") and path != "*":
        raise RequestError(400, "request target: must begin with /")
    if "#" in target:
        raise RequestError(400, "request target: holds a fragment")
    if "%" in path:
        try:
            path = _escapes.sub(lambda found: bytes.fromhex(found[1].decode()), path.encode()).decode()
        except (AttributeError, UnicodeDecodeError):
            raise RequestError(400, "request target: a percent escape is broken") from None
        if not path.isprintable():
            raise RequestError(400, "request target: holds a control character")
    return path, query


def _headers(data: bytes) -> Mapping[str, str]:
    if not _fields(data):
        raise RequestError(400, "headers: malformed (expected lines of NAME: VALUE)")
    headers: dict[str, str] = {}
    lines = data.decode("latin-1").split("\r\n")
    if len(lines) - 2 > MAX_HEADERS:
        raise RequestError(431, f"headers: more than {MAX_HEADERS}")
    for line in lines[:-2]:
        name, _unused, value = line.partition(":")
        name = name.lower()
        if name in headers:
            if name == "host":
                raise RequestError(400, "header host: given twice")
            headers[name] += ", " + value.strip(" \t")
        else:
            headers[name] = value.strip(" \t")
    return headers


def _length(headers: Mapping[str, str], old: bool) -> int:
    """Find out how long the body is (RFC 9112, section 6.3)."""
    declared = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if declared is not None:
            raise RequestError(400, "headers: content-length and transfer-encoding together")
        if old:
            raise RequestError(400, "header transfer-encoding: not known to HTTP/1.0")
        if coding.lower() != "chunked":
            codings = [part.strip() for part in coding.lower().split(",")]
            # Another coding within chunks has an end, if one that is not known here; anything else may have none.
            status = 501 if codings[-1] == "chunked" and codings.count("chunked") == 1 else 400
            raise RequestError(status, f"header transfer-encoding: '{coding[:40]}' is not known, use chunked")
        return CHUNKED
    if declared is None:
        return 0
    # str.isdigit() would take digits of other scripts; latin-1 has superscripts.
    if not (declared.isascii() and declared.isdigit() and len(declared) < 19):
        raise RequestError(400, f"header content-length: '{declared[:40]}' is not one whole number")
    return int(declared)


def _timeout(headers: Mapping[str, str]) -> int | None:
    value = headers.get("modelship-timeout-ms")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and int(value[:10]) > 0 and len(value) < 10):
        raise RequestError(400, f"header modelship-timeout-ms: '{value[:20]}' is not a whole number of milliseconds")
    return int(value)


class Chunks:
    """Puts a body of chunks together (RFC 9112, section 7.1).

    :param limit: bytes of content that are accepted.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        #: What was sent after the last chunk.
        self.rest = b""
        self._limit = limit
        self._left = 0  # bytes of this chunk that are still to come, with the line end after it
        self._tail = b""
        self._trailers = False
        self._overhead = 0

    def feed(self, data: bytes) -> bool:
        """Take in the next bytes; return whether the body is complete.

        :raises RequestError: 400 for broken framing, 413 for more than the limit.
        """
        if self._tail:
            data, self._tail = self._tail + data, b""
        place = 0
        while True:
            if self._left:
                place = self._content(data, place)
                if self._left:
                    return False
            end = data.find(b"\r\n", place)
            if end < 0 or end - place > _MAX_LINE:
                if len(data) - place > _MAX_LINE or _bare_newline(data, place):
                    raise RequestError(400, "body: a chunk's first line is malformed or too long")
                self._tail = data[place:]
                return False
            line = data[place:end]
            self._overhead += end + 4 - place
            if self._overhead > 65536 + 4 * len(self.body):
                raise RequestError(400, "body: its chunks are too small")
            place = end + 2
            if self._trailers:
                if not line:
                    self.rest = data[place:]
                    return True
                if not _fields(line + b"\r\n\r\n"):
                    raise RequestError(400, "body: its trailers are malformed")
                continue
            size = _chunk_size(line)
            if size is None:
                raise RequestError(400, "body: a chunk's size is malformed")
            length = int(size[1], 16)
            if length + len(self.body) > self._limit:
                raise RequestError(413, f"body: more than {self._limit} bytes (MODELSHIP_MAX_BODY_BYTES)")
            if length == 0:
                self._trailers = True
            else:
                self._left = length + 2

    def _content(self, data: bytes, place: int) -> int:
        """Take content and the line end after it from *place* on; return the place behind."""
        if self._left > 2:
            part = data[place : place + self._left - 2]
            self.body += part
            self._left -= len(part)
            place += len(part)
        if self._left <= 2:
            part = data[place : place + self._left]
            if part != b"\r\n"[2 - self._left : 2 - self._left + len(part)]:
                raise RequestError(400, "body: a chunk is longer than its size says")
            self._left -= len(part)
            place += len(part)
        return place
