# SPDX-License-Identifier: GPL-3.0-or-later
"""gRPC on top of HTTP/2: metadata, message framing, deadlines, statuses; the gate, counters and logs.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
import typing as t
from collections.abc import Awaitable, Callable, Mapping

from .. import metrics
from ..context import Context
from ..errors import KeysPendingError, RequestError
from .hpack import encode, encode_indexed, literal
from .incoming import Incoming
from .outgoing import Stream

#: HTTP status of a refusal: gRPC status (https://grpc.io/docs/guides/status-codes), and the reason that it counts as (none
#: where whoever raises it counts it, knowing why).
_STATUSES: dict[int, tuple[int, str]] = {
    400: (3, "malformed"),
    401: (16, "unauthenticated"),
    403: (7, "forbidden"),
    404: (5, "not_found"),
    408: (4, "timeout"),
    413: (8, "too_large"),
    415: (12, "media_type"),
    429: (8, "rate_limited"),
    431: (8, "malformed"),
    500: (13, "internal"),
    501: (12, "not_found"),
    503: (14, ""),
    504: (4, ""),
}
_TYPE = ("content-type", "application/grpc")
_OK = encode([("grpc-status", "0")])
_REQUEST_ID = b"\x00" + literal("x-request-id")
_STATUS_200 = b"\x88"
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
#: Shortest time between two warnings of failed calls: a flood of these must not become one of logs.
_WARN_NS = 1_000_000_000


class Call:
    """What a method is told about a call besides its message.

    :ivar id: the ``x-request-id`` that was given, or one made here.
    :ivar deadline: ``time.monotonic()`` at which the client gives up.
    :ivar release: to be set to the digest of the release that answers, where it is not the default one.
    :ivar pending: what the gate has to fetch something for before it can decide.
    """

    __slots__ = ("deadline", "id", "pending", "release")

    def __init__(self, id: str) -> None:
        self.id = id
        self.deadline: float | None = None
        self.release = ""
        self.pending: KeysPendingError | None = None


class Method(t.NamedTuple):
    """One method of a service.

    :param answer: from the request's message to that of the answer.
    :param public: no credentials are asked for.
    :param quiet: does not count as traffic: probes.
    """

    answer: Callable[[bytes, Call], bytes | Awaitable[bytes]]
    public: bool = False
    quiet: bool = False


class _Head:
    """What the header fields of a call mean; equal ones share it."""

    __slots__ = ("encoding", "error", "headers", "id", "method", "path", "timeout", "trace", "wrong")

    def __init__(self, fields: list[tuple[str, str]], methods: Mapping[str, Method]) -> None:
        headers: dict[str, str] = {}
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers = headers
        self.path = headers.get(":path", "")
        self.method = methods.get(self.path)
        self.encoding = headers.get("grpc-encoding", "identity")
        #: Of the client; one that is wrong is told so with one made here.
        self.id = ""
        self.trace = [(name, headers[name]) for name in ("traceparent", "tracestate") if name in headers]
        self.timeout: float | None = None
        self.error: RequestError | None = None
        #: The HTTP status for what is no gRPC at all.
        self.wrong = ""
        if not fields:
            self.error = RequestError(431, "metadata: too large")
        elif headers.get(":method") != "POST":
            self.wrong = "405"
        elif headers.get("content-type", "").partition(";")[0].partition("+")[0].rstrip() != "application/grpc":
            self.wrong = "415"
        else:
            try:
                self._check()
            except RequestError as exc:
                self.error = exc

    def _check(self) -> None:
        if self.method is None:
            raise RequestError(501, f"method '{self.path[:120]}': not served here")
        given = self.headers.get("x-request-id", "")
        if len(given) > 128 or not given.isprintable():
            raise RequestError(400, "x-request-id: at most 128 printable characters")
        self.id = given
        timeout = self.headers.get("grpc-timeout")
        if timeout is not None:
            amount, unit = timeout[:-1], timeout[-1:]
            if unit not in _UNITS or not (amount.isascii() and amount.isdigit() and len(amount) <= 8):
                raise RequestError(400, f"grpc-timeout '{timeout[:20]}': must be up to 8 digits and a unit")
            self.timeout = int(amount) * _UNITS[unit]


class Calls:
    """Answers the calls of all connections of a worker.

    :param methods: by path.
    """

    def __init__(self, context: Context, methods: Mapping[str, Method]) -> None:
        #: ``time.monotonic()`` of the last call other than probes.
        self.last_request = 0.0
        self._context = context
        self._row = context.row
        self._log = context.log
        self._gate: t.Any = context.gate if context.gate.enabled else None
        self._limit = context.settings.max_body_bytes
        self._deadline = context.settings.deadline_ms / 1000
        self._methods = methods
        self._release = context.models.default.release.digest
        self._made = 0
        self._prefix = os.urandom(6).hex()
        self._warned = 0

    def answer_block(self) -> tuple[bytes, bytes, bytes]:
        """Return the header block of most answers, as :class:`.http2.Connections` wants it."""
        fields = [_TYPE, ("modelship-release", self._release)]
        return _STATUS_200 + encode_indexed(fields), _STATUS_200 + b"\xbf\xbe", _STATUS_200 + encode(fields)

    # --- what connections call ---

    def head(self, fields: list[tuple[str, str]]) -> _Head:
        """See :class:`.incoming.Application`."""
        return _Head(fields, self._methods)

    def begin(self, connection: Incoming, stream: Stream) -> None:
        """See :class:`.incoming.Application`: what the metadata alone decide is decided here."""
        self._row.begin()
        head: _Head = stream.head
        call_id = head.id
        if not call_id:
            self._made += 1
            call_id = f"{self._prefix}{self._made:010x}"
        call = stream.state = Call(call_id)
        if head.wrong:
            fields = [(":status", head.wrong), ("content-type", "text/plain"), *self._about(call)]
            connection.refuse(stream, encode(fields))
            self._count(connection, stream, int(head.wrong))
        elif head.error is not None:
            self._failed(connection, stream, head.error)
        elif self._gate is not None and not t.cast(Method, head.method).public:
            try:
                self._gate.admit(head.headers, connection.certificate)
                connection.admitted = True
            except KeysPendingError as exc:
                call.pending = exc
            except RequestError as exc:
                self._failed(connection, stream, exc)

    def check(self, connection: Incoming, stream: Stream) -> None:
        """See :class:`.incoming.Application`."""
        data = stream.body
        if len(data) >= 5 and (length := int.from_bytes(data[1:5], "big")) > self._limit:
            self._failed(connection, stream, self._too_large(length))

    def complete(self, connection: Incoming, stream: Stream, body: bytes) -> None:
        """See :class:`.incoming.Application`."""
        head: _Head = stream.head
        call: Call = stream.state
        try:
            self._set_deadline(stream, call)
            if call.pending is not None:
                later: Awaitable[bytes] = self._admit_later(connection, stream, body, call)
            else:
                result = t.cast(Method, head.method).answer(self._unframe(body, head), call)
                if isinstance(result, bytes):
                    self._answer(connection, stream, call, result)
                    return
                later = result
            stream.task = asyncio.get_running_loop().create_task(self._later(connection, stream, call, later))
        except Exception as exc:  # noqa: BLE001 - a client must never see a stack trace, nor a worker die of one call
            self._failed(connection, stream, exc)

    def late(self, connection: Incoming, stream: Stream) -> None:
        """See :class:`.incoming.Application`."""
        if len(stream.body) - 5 > self._limit:
            error = self._too_large(len(stream.body) - 5)
        elif time.monotonic_ns() - stream.since > self._context.settings.read_seconds * 1e9:
            error = RequestError(408, "message: did not arrive in time")
        else:
            self._row.rejected("bodies")
            message = "overloaded: too many large messages at once, try again later"
            error = RequestError(503, message, ("retry-after", "1"))
        self._failed(connection, stream, error)

    def left(self, stream: Stream) -> None:
        """See :class:`.incoming.Application`."""
        self._row.rejected("client_left")
        self._count(None, stream, 499)

    # --- steps ---

    def _about(self, call: Call) -> list[tuple[str, str]]:
        """Return the fields that every answer has."""
        return [("modelship-release", call.release or self._release), ("x-request-id", call.id)]

    def _set_deadline(self, stream: Stream, call: Call) -> None:
        head: _Head = stream.head
        seconds, timeout = self._deadline, head.timeout
        if timeout is not None and (not seconds or timeout < seconds):
            seconds = timeout
        if seconds or timeout is not None:
            call.deadline = stream.since / 1e9 + seconds
            if call.deadline <= time.monotonic():
                self._row.rejected("deadline")
                raise RequestError(504, "deadline: the request was not there in time")

    def _too_large(self, length: int) -> RequestError:
        return RequestError(
            413, f"message: {length} bytes, at most {self._limit} are accepted (MODELSHIP_MAX_BODY_BYTES)"
        )

    def _unframe(self, body: bytes, head: _Head) -> bytes:
        """Return the one message of a request."""
        if len(body) < 5:
            raise RequestError(400, "message: none was sent")
        length = int.from_bytes(body[1:5], "big")
        if length > self._limit:
            raise self._too_large(length)
        if length != len(body) - 5:
            raise RequestError(400, f"message: {length} bytes announced, {len(body) - 5} sent; one is expected")
        if body[0] == 0:
            return body[5:]
        if body[0] != 1 or head.encoding == "identity":
            raise RequestError(400, "message: compressed without saying how")
        if head.encoding not in ("gzip", "deflate"):
            name = head.encoding[:20]
            raise RequestError(501, f"grpc-encoding '{name}': must be gzip, deflate or identity", _ACCEPTED)
        return self._inflate(body)

    def _inflate(self, body: bytes) -> bytes:
        from ..compression import DamagedError, TooLargeError, decompress

        try:
            return decompress(body[5:], self._limit)
        except TooLargeError:
            raise RequestError(413, f"message: more than {self._limit} bytes when decompressed") from None
        except DamagedError as exc:
            raise RequestError(400, f"message: cannot be decompressed: {exc}") from None

    async def _admit_later(self, connection: Incoming, stream: Stream, body: bytes, call: Call) -> bytes:
        """Answer once the gate has fetched what it needs to decide; what is packed is not unpacked before."""
        head: _Head = stream.head
        await self._gate.admit_later(head.headers, connection.certificate, call.pending)
        connection.admitted = True
        result = t.cast(Method, head.method).answer(self._unframe(body, head), call)
        return result if isinstance(result, bytes) else await result

    async def _later(self, connection: Incoming, stream: Stream, call: Call, result: Awaitable[bytes]) -> None:
        timer = asyncio.timeout_at(call.deadline)
        try:
            async with timer:
                message = await result
        except Exception as exc:  # noqa: BLE001 - as in complete()
            if isinstance(exc, TimeoutError) and timer.expired():
                self._row.rejected("deadline")
                exc = RequestError(504, "deadline: the answer was not ready in time")
            self._failed(connection, stream, exc)
            return
        self._answer(connection, stream, call, message)

    def _answer(self, connection: Incoming, stream: Stream, call: Call, message: bytes) -> None:
        head: _Head = stream.head
        data = b"\x00" + len(message).to_bytes(4, "big") + message
        further = _REQUEST_ID + literal(call.id)
        if head.trace:
            further += encode(head.trace)
        if call.release:
            block = _STATUS_200 + encode([_TYPE, ("modelship-release", call.release)]) + further
            connection.answer(stream, block, data, _OK)
        else:
            connection.answer(stream, None, data, _OK, further)
        self._count(connection, stream, 200)

    def _failed(self, connection: Incoming, stream: Stream, error: Exception) -> None:
        head: _Head = stream.head
        call: Call = stream.state
        if not isinstance(error, RequestError):
            lines = "".join(traceback.format_exception(error))
            self._log.error("internal error", error=repr(error), traceback=lines, path=head.path, request_id=call.id)
            error = RequestError(500, "internal error")
        code, reason = _STATUSES.get(error.status, (2, "other"))
        if reason := error.reason or reason:
            self._row.rejected(reason)
        fields = [_TYPE, ("grpc-status", str(code)), ("grpc-message", _percent(error.message))]
        fields += [*self._about(call), *head.trace]
        if error.header is not None:
            fields.append(error.header)
            if error.header[0] == "retry-after" and error.header[1].isdigit():
                # How gRPC's clients are told (gRFC A6).
                fields.append(("grpc-retry-pushback-ms", str(int(error.header[1]) * 1000)))
        if error.status >= 500:
            self._warn(head, call, error)
        connection.refuse(stream, _STATUS_200 + encode(fields))
        self._count(connection, stream, error.status)

    def _warn(self, head: _Head, call: Call, error: RequestError) -> None:
        now = time.monotonic_ns()
        if now - self._warned >= _WARN_NS:
            self._warned = now
            self._log.warning(
                "call failed", status=error.status, error=error.message, path=head.path, request_id=call.id
            )

    def _count(self, connection: Incoming | None, stream: Stream, status: int) -> None:
        now = time.monotonic_ns()
        elapsed = now - stream.since
        self._row.end(metrics.GRPC, status, elapsed)
        head: _Head = stream.head
        if head.method is not None and not head.method.quiet:
            self.last_request = now / 1e9
        if self._log.debugging:
            client, call = connection.peer if connection else "", stream.state
            self._log.debug("call", path=head.path, status=status, client=client, request_id=call.id, ms=elapsed / 1e6)


_ACCEPTED = ("grpc-accept-encoding", "identity,deflate,gzip")


def _percent(message: str) -> str:
    """Return a status message as its header wants it: percent-encoded where it is not plain ASCII."""
    if message.isascii() and message.isprintable() and "%" not in message:
        return message
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 37 else f"%{byte:02X}" for byte in message.encode())
