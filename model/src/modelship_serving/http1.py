# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 with one client: its requests, their answers in order, and how long each may take.

A request that is there whole when it is read, and whose handler answers at once, is answered within the callback that read
it: no task, no copy but that of the body, one write.
"""

from __future__ import annotations

import asyncio
import time
import typing as t
from collections.abc import Awaitable

from .ends import ANSWER, AWAY, BODY, HEAD, LAST, Ends
from .errors import RequestError
from .http import Request
from .wire import CHUNKED, MAX_HEAD, Chunks, Head, check_incomplete

if t.TYPE_CHECKING:
    from .connections import Connections


#: Bytes of further requests that are read while one is worked on.
_AHEAD = 65536
#: A body up to this size is read even if the request is rejected by its headers, so that the connection goes on; it is not
#: kept, and not read where connections run short.
_SMALL_BODY = 65536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Ends, asyncio.BufferedProtocol):
    """One client."""

    __slots__ = ("_certificate", "_head", "_left", "_seen", "_task")

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self._certificate: t.Any = None
        self._head: Head = t.cast(Head, None)
        self._left = 0  # of the body, to come
        self._seen = 0  # bytes of headers that have been looked at and go on
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
        if everybody.served > everybody.max_connections and not everybody.make_room():
            self._turn_away()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        state = self._state
        if state >= LAST:
            return
        data = self._all.buffer[:nbytes].tobytes()
        if state == HEAD:
            if self._data:
                data = self._data + data
            else:
                self._since = time.monotonic_ns()
            self._read(data)
        elif state == BODY:
            self._read(data)
        else:
            # Further requests of a client that does not wait for answers.
            self._data += data
            if len(self._data) > _AHEAD:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        # Whoever sends no more may still wait for an answer that is being made; with TLS asyncio knows no such thing.
        if self._state != ANSWER or not self._transport.can_write_eof():
            return False
        if not self._ended and not self._head.old:
            # From a client that has closed altogether this brings a reset; any other passes over it (RFC 9110, 15.2).
            self._transport.write(_CONTINUE)
        self._ended = True
        return True

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._state == HEAD:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        everybody = self._all
        everybody.open.discard(self)
        everybody.opened(-1)
        if self._state == AWAY:
            everybody.turned_away -= 1
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._state in (BODY, ANSWER):
            refused = isinstance(self._route, RequestError)
            self._application.left(self._request, None if refused else self._route)
        self._let_go()
        self._state = LAST

    # --- reading ---

    def _read(self, data: bytes) -> None:
        """Answer the requests in *data* as far as possible; keep the rest."""
        application = self._application
        while True:
            if self._state == BODY:
                try:
                    rest = self._take(data)
                except RequestError as error:
                    self._stop_reading(error)
                    return
                if rest is None:
                    return
                self._state = HEAD
                request, route, data = self._request, self._route, rest
            elif not data:
                return
            else:
                raw = self._raw
                if raw is not None and data.startswith(raw):
                    head, place = self._head, len(raw)
                    self._seen = 0
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
            if route is not None and isinstance(route, RequestError):
                answer: bytes | Awaitable[bytes] = application.refuse(request, route)
            else:
                answer = application.answer(request, route)
            if request.admitted:
                self._known = True
            if not isinstance(answer, bytes):
                self._state, self._request, self._route = ANSWER, request, route
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
        whole = data
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112, section 2.2: an empty line before a request is to be ignored
        end = data.find(b"\r\n\r\n", max(0, self._seen - 3)) + 4
        if end < 4 or end > MAX_HEAD:
            self._data = whole
            check_incomplete(data[:end] if end > 3 else data, self._seen)
            self._seen = len(data)
            return None
        self._raw = None
        self._seen = 0
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
            self._stop_reading(
                RequestError(413, f"body: {head.length} bytes, at most {limit} are accepted (MODELSHIP_MAX_BODY_BYTES)")
            )
            return False
        everybody = self._all
        small = not head.expects and 0 <= head.length <= _SMALL_BODY
        if everybody.guarded or not small:
            self._route = self._application.admit(request)
            self._known |= request.admitted
            if isinstance(self._route, RequestError) and (not small or everybody.crowded):
                self._stop_reading(self._route)
                return False
        if head.expects:
            self._transport.write(_CONTINUE)
        self._state = BODY
        self._left = head.length
        self._body = Chunks(limit) if head.length == CHUNKED else bytearray()
        return True

    def _take(self, data: bytes) -> bytes | None:
        """Add *data* to the body; return what follows it once it is complete.

        :raises RequestError: 400, 413, or 503 where too much is being read.
        """
        body, everybody = self._body, self._all
        if isinstance(self._route, RequestError):
            self._left, rest = max(0, self._left - len(data)), data[self._left :]
            return None if self._left else rest
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
        self._known |= self._request.admitted
        self._let_go()
        self._task = None
        self._state = HEAD
        self._transport.write(data)
        if self._request.connection == "close":
            self._last(linger=bool(self._data))
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Look at what has been read meanwhile, and read on."""
        self._since = time.monotonic_ns()
        if self._data and not self._paused:
            data, self._data = self._data, b""
            self._read(data)
        if self._ended and self._state == HEAD and not self._paused:
            self._last(linger=False)
        elif self._paused:
            self._transport.pause_reading()
        elif self._state != ANSWER:
            self._transport.resume_reading()
