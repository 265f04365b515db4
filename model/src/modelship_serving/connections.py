# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 on asyncio: connections, their limits in time and size, and the order of answers.

A request that is there whole when it is read, and whose handler answers at once, is answered within the callback that read
it: no task, no copy but that of the body, one write.
"""

from __future__ import annotations

import asyncio
import os
import time
import typing as t
from collections.abc import Awaitable, Callable

from .errors import RequestError
from .http import Request
from .settings import Settings
from .wire import CHUNKED, MAX_HEAD, Chunks, Head, check_incomplete


class Application(t.Protocol):
    """What answers the requests of a worker's connections. Its methods raise nothing."""

    def begin(self) -> None:
        """Count a request in, once its head is there."""

    def admit(self, request: Request) -> t.Any:
        """Decide by the head alone whether the body is to be read; return the route, or the error to answer with."""

    def answer(self, request: Request, route: t.Any = None) -> bytes | Awaitable[bytes]:
        """Answer a complete request that :meth:`begin` counted."""

    def refuse(self, request: Request, error: RequestError) -> bytes:
        """Answer a request that :meth:`begin` counted with an error."""

    def left(self, request: Request, route: t.Any = None) -> None:
        """Count a request out whose client went away."""


#: What a connection does: reads a head, reads a body, waits for its answer, lets the client read the last answer.
_HEAD, _BODY, _ANSWER, _LAST = range(4)
_BUFFER = 65536
#: A body up to this size is read even if the request is refused by its head: the connection goes on.
_SMALL_BODY = 65536
#: Memory of a worker for bodies that take more than one read; with more, clients are asked to come again.
_MOST_HELD = 64 << 20
#: Time for a client to read its last answer while it may still be sending: closing at once would make its kernel throw
#: the answer away (RFC 9112, section 9.6).
_LINGER = 2.0
#: Connections over the limit that are told so at a time; further ones are just cut.
_TOLD = 256
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connections:
    """The connections of one worker.

    :param opened: called with 1 and -1 as connections come and go.
    :param rejected: called with a reason of :data:`.metrics.REASONS` for what never became a request.
    """

    def __init__(
        self,
        application: Application,
        settings: Settings,
        opened: Callable[[int], None],
        rejected: Callable[[str], None],
    ) -> None:
        self.application = application
        self.open: set[Connection] = set()
        self.buffer = memoryview(bytearray(_BUFFER))
        self.max_body = settings.max_body_bytes
        self.max_connections = settings.max_connections
        self.read_seconds = settings.read_seconds
        self.idle_seconds = settings.idle_seconds
        self.deadline = settings.deadline_ms / 1000
        #: Bytes of bodies that are being read or worked on, other than those that came in one piece; and how many may be.
        self.held = 0
        self.most_held = max(_MOST_HELD, 4 * settings.max_body_bytes)
        self.opened = opened
        self.rejected = rejected
        self._made = 0
        self._prefix = os.urandom(6).hex()

    def __call__(self) -> Connection:
        return Connection(self)

    def make_id(self) -> str:
        """Return a request id that no other request has."""
        self._made += 1
        return f"{self._prefix}{self._made:010x}"

    def sweep(self) -> None:
        """Close the connections whose time is over; to be called about every second."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.check_time(now)

    def close_idle(self, seconds: float) -> None:
        """Close those that have not been asked anything for this long."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.close_if_idle(now - int(seconds * 1e9))


class Connection(asyncio.BufferedProtocol):
    """One client."""

    __slots__ = (
        "_all",
        "_application",
        "_body",
        "_certificate",
        "_data",
        "_head",
        "_held",
        "_left",
        "_paused",
        "_peer",
        "_raw",
        "_request",
        "_route",
        "_since",
        "_state",
        "_task",
        "_transport",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._application = connections.application
        self._state = _HEAD
        self._data = b""  # read, not looked at yet
        self._raw: bytes | None = None  # the head before, as sent: clients repeat themselves
        self._head: Head = t.cast(Head, None)
        self._request: Request = t.cast(Request, None)
        self._route: t.Any = None
        self._body: bytearray | Chunks = bytearray()
        self._left = 0
        self._held = 0
        self._since = time.monotonic_ns()
        self._paused = False
        self._task: asyncio.Task[None] | None = None

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = t.cast(asyncio.Transport, transport)
        everybody = self._all
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self._certificate = transport.get_extra_info("peercert")
        self._since = time.monotonic_ns()
        everybody.open.add(self)
        everybody.opened(1)
        if len(everybody.open) > everybody.max_connections:
            everybody.rejected("connections")
            if len(everybody.open) > everybody.max_connections + _TOLD:
                self._transport.abort()
                return
            # Said before anything is asked; a client reads it as the answer to what it sends.
            self._transport.write(_TOO_MANY)
            self._last(linger=True)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        state = self._state
        if state == _LAST:
            return
        data = self._all.buffer[:nbytes].tobytes()
        if state == _HEAD:
            if self._data:
                data = self._data + data
            else:
                self._since = time.monotonic_ns()
            self._read(data)
        elif state == _BODY:
            self._read(data)
        else:
            # Further requests of a client that does not wait for answers.
            self._data += data
            if len(self._data) > _BUFFER:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False  # closes: whoever ends the connection does not wait for the answer

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._state == _HEAD:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._all.open.discard(self)
        self._all.opened(-1)
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._state in (_BODY, _ANSWER):
            self._application.left(self._request, self._route)
        self._let_go()
        self._state = _LAST

    # --- reading ---

    def _read(self, data: bytes) -> None:
        """Answer the requests in *data* as far as possible; keep the rest."""
        application = self._application
        while True:
            if self._state == _BODY:
                try:
                    rest = self._take(data)
                except RequestError as error:
                    self._stop_reading(error)
                    return
                if rest is None:
                    return
                self._state = _HEAD
                request, route, data = self._request, self._route, rest
            elif not data:
                return
            else:
                raw = self._raw
                if raw is not None and data.startswith(raw):
                    head, place = self._head, len(raw)
                else:
                    try:
                        found = self._parse(data)
                    except RequestError as error:
                        self._broken(error)
                        return
                    if found is None:
                        return
                    head, place, data = found
                request, route = self._make(head), None
                application.begin()
                end = place + head.length
                if head.length < 0 or end > len(data) or head.length > self._all.max_body:
                    if not self._await_body(head, request):
                        return
                    data = data[place:]
                    continue
                if head.length:
                    request.body = data[place:end]
                data = data[end:]
            self._data = data
            answer = application.answer(request, route)
            if not isinstance(answer, bytes):
                self._state, self._request, self._route = _ANSWER, request, route
                self._task = asyncio.get_running_loop().create_task(self._answer_later(answer))
                return
            if self._held:
                self._let_go()
            self._transport.write(answer)
            if request.connection == "close":
                self._last(linger=bool(data))
                return
            if self._paused:
                # The client does not read its answers: no more of them until it does.
                self._transport.pause_reading()
                return
            if data:
                self._since = time.monotonic_ns()

    def _parse(self, data: bytes) -> tuple[Head, int, bytes] | None:
        """Find and parse the head that *data* begins with; ``None`` keeps the data until there is more of it."""
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112, section 2.2: an empty line before a request is to be ignored
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > MAX_HEAD:
            self._data = data
            check_incomplete(data[:end] if end > 3 else data)
            return None
        self._raw = None
        raw = data[:end]
        self._head = Head(raw)
        self._raw = raw
        return self._head, end, data

    def _make(self, head: Head) -> Request:
        everybody = self._all
        request = Request(
            head.method,
            head.path,
            head.query,
            head.headers,
            b"",
            self._peer,
            self._certificate,
            head.id or everybody.make_id(),
        )
        request.started = self._since
        seconds = everybody.deadline
        if head.timeout_ms is not None and (not seconds or head.timeout_ms < seconds * 1000):
            seconds = head.timeout_ms / 1000
        if seconds:
            request.deadline = self._since / 1e9 + seconds
        request.trace = head.trace
        request.trace_id = head.trace_id
        request.connection = head.connection
        return request

    def _await_body(self, head: Head, request: Request) -> bool:
        """Begin to read a body that is not there whole; return ``False`` if the head alone says that it is no use."""
        limit = self._all.max_body
        self._request, self._route = request, None
        if head.length > limit:
            self._stop_reading(RequestError(413, f"body: {head.length} bytes, at most {limit} are accepted"))
            return False
        if head.expects or head.length == CHUNKED or head.length > _SMALL_BODY:
            self._route = self._application.admit(request)
            if isinstance(self._route, RequestError):
                self._stop_reading(self._route)
                return False
        if head.expects:
            self._transport.write(_CONTINUE)
        self._state = _BODY
        self._left = head.length
        self._body = Chunks(limit) if head.length == CHUNKED else bytearray()
        return True

    def _take(self, data: bytes) -> bytes | None:
        """Add *data* to the body; return what follows it once it is complete.

        :raises RequestError: 400, 413, or 503 where too much is being read.
        """
        body, everybody = self._body, self._all
        self._held += len(data)
        everybody.held += len(data)
        if everybody.held > everybody.most_held:
            everybody.rejected("bodies")
            raise RequestError(503, "overloaded: too many large bodies at once, try again later", ("retry-after", "1"))
        if isinstance(body, Chunks):
            if not body.feed(data):
                return None
            self._request.body, rest = bytes(body.body), body.rest
        else:
            part = data[: self._left]
            body += part
            self._left -= len(part)
            if self._left:
                return None
            self._request.body, rest = bytes(body), data[len(part) :]
        self._body = bytearray()
        return rest

    # --- answering ---

    async def _answer_later(self, answer: Awaitable[bytes]) -> None:
        data = await answer
        self._let_go()
        self._task = None
        self._state = _HEAD
        self._transport.write(data)
        if self._request.connection == "close":
            self._last(linger=bool(self._data))
        else:
            self._go_on()

    def _let_go(self) -> None:
        """The body is not needed any more."""
        self._all.held -= self._held
        self._held = 0

    def _go_on(self) -> None:
        """Look at what has been read meanwhile, and read on."""
        self._since = time.monotonic_ns()
        if self._data and not self._paused:
            data, self._data = self._data, b""
            self._read(data)
        if self._paused:
            self._transport.pause_reading()
        elif self._state != _ANSWER:
            self._transport.resume_reading()

    def _broken(self, error: RequestError) -> None:
        """Answer what is no request; nothing that follows can be understood."""
        self._request = request = Request("", "", peer=self._peer, id=self._all.make_id())
        request.started = self._since
        self._application.begin()
        self._stop_reading(error)

    def _stop_reading(self, error: RequestError) -> None:
        """Answer a request that is not read to its end."""
        self._request.connection = "close"
        self._transport.write(self._application.refuse(self._request, error))
        self._last(linger=True)

    def _last(self, linger: bool) -> None:
        """Close; if more may still come in, only once the client has read its last answer."""
        self._state = _LAST
        self._let_go()
        self._data = b""
        self._body = bytearray()
        self._since = time.monotonic_ns()
        transport = self._transport
        if linger and transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()

    # --- time ---

    def check_time(self, now: int) -> None:
        """Close the connection if it waits for its client for too long."""
        age = (now - self._since) / 1e9
        state, everybody = self._state, self._all
        if state == _LAST:
            if age > _LINGER:
                self._transport.abort()
        elif self._transport.get_write_buffer_size():
            if age > everybody.idle_seconds:
                self._transport.abort()
        elif state == _BODY:
            if age > everybody.read_seconds:
                self._stop_reading(_late(everybody.read_seconds))
        elif state == _HEAD:
            if self._data:
                if age > everybody.read_seconds:
                    self._broken(_late(everybody.read_seconds))
            elif age > everybody.idle_seconds:
                self._transport.close()

    def close_if_idle(self, before: int) -> None:
        """Close the connection if its client has asked nothing since *before* (``time.monotonic_ns()``)."""
        if self._state == _HEAD and not self._data and self._since <= before:
            self._transport.close()


def _late(seconds: float) -> RequestError:
    return RequestError(408, f"the request did not arrive within {seconds:g} seconds")


_TOO_MANY_BODY = b'{"error":"too many connections"}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)
