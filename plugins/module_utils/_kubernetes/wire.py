# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP/1.1 connection to an API server, kept open.

``http.client`` is not used because its import and its header parsing cost more than everything else here together, and
because a watch must be able to stop between two reads. Source: RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import typing as t

from .errors import BrokenAnswerError

_READ = 1 << 18
_MAX_HEAD = 1 << 18


class Head(t.NamedTuple):
    """Status line and headers (lower-case names) of an answer."""

    status: int
    headers: dict[str, str]


class Connection:
    """A connected socket with the HTTP/1.1 answers that come over it; one exchange at a time."""

    def __init__(self, sock: socket.socket, generation: int = 0) -> None:
        self.sock = sock
        #: The credentials' generation that it was opened with: it carries their client certificate.
        self.generation = generation
        #: Called before each wait for data; it may raise to give up waiting.
        self.before_read: t.Callable[[], None] | None = None
        #: Whole answers read over this connection so far.
        self.answers = 0
        self.reusable = True
        self._buffer = bytearray()

    def close(self) -> None:
        """Close the socket."""
        self.reusable = False
        with contextlib.suppress(OSError):
            self.sock.close()

    def is_stale(self) -> bool:
        """Tell whether the server has closed this idle connection (or sent what nobody asked for)."""
        try:
            return bool(self._buffer) or self.readable(0)
        except (OSError, ValueError):
            return True

    def readable(self, seconds: float) -> bool:
        """Wait up to *seconds* until there is something to read, or the end."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def send(self, data: bytes) -> Head:
        """Send the whole request *data* and return the head of its answer.

        :raises BrokenAnswerError: the connection ended before a head came.
        :raises OSError: as the socket does.
        """
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # a server that refuses a large body answers while it is still being sent
            with contextlib.suppress(OSError, BrokenAnswerError):
                return self._head()
            raise
        return self._head()

    def body(self, head: Head) -> t.Iterator[bytes]:
        """Yield the pieces of the body that follows *head*; the connection can be reused when all are taken."""
        headers = head.headers
        if head.status in (204, 304):
            pass
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in headers:
            yield self._exactly(int(headers["content-length"]))
        else:
            self.reusable = False
            while self._buffer or self._more():
                yield bytes(self._buffer)
                self._buffer.clear()
        self.answers += 1
        if "close" in headers.get("connection", "").lower():
            self.reusable = False

    def _head(self) -> Head:
        while True:
            lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            version, _space, rest = lines[0].partition(" ")
            if not version.startswith("HTTP/") or not rest[:3].isdigit():
                raise BrokenAnswerError("what it answers is not HTTP")
            status = int(rest[:3])
            if status >= 200 or status == 101:
                break  # the others are interim answers (100 Continue, 103 Early Hints)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _colon, value = line.partition(":")
            name = name.lower()
            value = value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if version == "HTTP/1.0" and headers.get("connection", "").lower() != "keep-alive":
            headers["connection"] = "close"
        return Head(status, headers)

    def _chunks(self) -> t.Iterator[bytes]:
        while True:
            size_line = self._until(b"\r\n")
            try:
                size = int(size_line.split(b";", 1)[0], 16)
            except ValueError:
                raise BrokenAnswerError("what it answers is not HTTP (a chunk without a size)") from None
            if not size:
                break
            yield self._exactly(size)
            self._until(b"\r\n")
        while self._until(b"\r\n"):  # trailers
            pass

    def _more(self) -> bool:
        if self.before_read is not None:
            self.before_read()
        data = self.sock.recv(_READ)
        self._buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        buffer, start = self._buffer, 0
        while (end := buffer.find(mark, start)) < 0:
            start = max(0, len(buffer) - len(mark) + 1)
            if start > _MAX_HEAD:
                raise BrokenAnswerError("what it answers is not HTTP (an endless line)")
            if not self._more():
                raise BrokenAnswerError(
                    "the answer broke off" if buffer else "it closed the connection without an answer"
                )
        found = bytes(buffer[:end])
        del buffer[: end + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < size:
            if not self._more():
                raise BrokenAnswerError(f"the answer broke off after {len(buffer)} of {size} bytes")
        found = bytes(buffer[:size])
        del buffer[:size]
        return found


def dial(host: str, port: int, timeout: float) -> socket.socket:
    """Return a TCP connection that sends at once, and notices within half a minute that its peer is gone."""
    sock = socket.create_connection((host, port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not everywhere, and keep-alive works without them, only later
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock
