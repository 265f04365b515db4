# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/2 on asyncio (RFC 9113), as far as calls with one request and one answer need it.

A call that has arrived whole and is answered at once is answered within the callback that read it, with one write for all
that one read brought. Streams may send a whole message without asking for more window; what one connection can make the
server keep is bounded all the same: by the largest message, the number of streams, and a budget for all of them together.
"""

from __future__ import annotations

import asyncio
import struct
import time
import typing as t

from .hpack import TABLE_SIZE, Decoder, HpackError, ListSizeError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11
_TABLE, _PUSH, _STREAMS, _WINDOW, _FRAME, _LIST = range(1, 7)  # SETTINGS_…

MAX_FRAME = 16384
MAX_STREAMS = 256
_MAX_WINDOW = 2**31 - 1
_MAX_BLOCK = 16384
#: So many of the largest messages may be on their way in over one connection.
_MESSAGES_AT_ONCE = 8
#: Frames that ask for nothing (pings, settings, resets, empty data, ...) and that may come for each answer, and on top of
#: those; more is an attack (CVE-2019-9512 and its kin, CVE-2023-44487).
_CHATTER_EACH, _MOST_CHATTER = 16, 1000
#: What a call that is given up counts as, besides: few enough that a client may give up all its calls at once.
_CHATTER_RESET = 2

_frame = struct.Struct(">HBBBI")
_setting = struct.Struct(">HI")
_word = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame as it goes over the wire."""
    length = len(payload)
    return _frame.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


class ProtocolError(Exception):
    """What the peer did ends the connection (GOAWAY with this code)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Stream:
    """One call.

    :ivar head: what :meth:`Application.head` made of the header fields.
    :ivar body: the request's data so far; ``since``: ``time.monotonic_ns()`` at which its header came.
    :ivar closed: the client has sent all that it sends.
    :ivar state: for the application's use.
    :ivar task: what answers it, where that takes a while.
    """

    __slots__ = ("body", "closed", "head", "id", "pending", "since", "size", "state", "task", "trailers", "window")

    def __init__(self, number: int, head: t.Any, window: int, since: int) -> None:
        self.id = number
        self.head = head
        self.window = window
        self.since = since
        self.body: list[bytes] = []
        self.size = 0
        self.closed = False
        self.state: t.Any = None
        self.task: asyncio.Task[None] | None = None
        self.pending: bytes = b""
        self.trailers: bytes | None = None


class Application(t.Protocol):
    """What answers calls. Its methods raise nothing."""

    def head(self, fields: list[tuple[str, str]]) -> t.Any:
        """Make of header fields what the other methods need; kept for later calls with equal fields."""

    def begin(self, connection: Connection, stream: Stream) -> None:
        """The header is there: the call counts from now on. May answer at once, by :meth:`Connection.answer`."""

    def check(self, connection: Connection, stream: Stream) -> None:
        """The first data is there: may answer at once."""

    def complete(self, connection: Connection, stream: Stream, body: bytes) -> None:
        """The request is there whole: answer it, now or by a task put into the stream."""

    def late(self, connection: Connection, stream: Stream) -> None:
        """The request did not arrive in time, or with others it takes too much memory: answer it."""

    def left(self, stream: Stream) -> None:
        """The client gave the call up, or is gone."""


class Connections:
    """The connections of one worker, and what they may take.

    :param max_message: largest message, in bytes.
    :param opened: called with 1 and -1 as connections come and go.
    :param rejected: called with a reason of :data:`..metrics.REASONS` for a connection that is not wanted.
    :param answer_block: the header block of most answers, for a peer that lets us put it into its table: the block that
        puts it there, the one that then refers to it, and the one for a peer that keeps no table.
    """

    def __init__(
        self,
        application: Application,
        max_message: int,
        max_connections: int,
        read_seconds: float,
        idle_seconds: float,
        opened: t.Callable[[int], None],
        rejected: t.Callable[[str], None],
        answer_block: tuple[bytes, bytes, bytes],
    ) -> None:
        self.application = application
        self.open: set[Connection] = set()
        self.draining = False
        self.max_connections = max_connections
        self.read_ns, self.idle_ns = int(read_seconds * 1e9), int(idle_seconds * 1e9)
        self.opened = opened
        self.rejected = rejected
        self.answer_block = answer_block
        self.window = min(_MAX_WINDOW, max_message + 65536)
        self.budget = _MESSAGES_AT_ONCE * self.window
        settings = {_STREAMS: MAX_STREAMS, _WINDOW: self.window, _LIST: _MAX_BLOCK}
        self.greeting = frame(SETTINGS, 0, 0, b"".join(_setting.pack(*pair) for pair in settings.items())) + frame(
            WINDOW_UPDATE, 0, 0, _word.pack(_MAX_WINDOW - 65535)
        )

    def __call__(self) -> Connection:
        return Connection(self)

    def sweep(self) -> None:
        """End what takes too long; to be called about every second."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.check_time(now)

    def drain(self) -> None:
        """Tell every client to make its next calls elsewhere; those that still come are answered."""
        self.draining = True
        for connection in list(self.open):
            connection.drain()

    @property
    def streams(self) -> int:
        """Calls that are not answered yet."""
        return sum(len(connection.streams) for connection in self.open)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, everybody: Connections) -> None:
        self._all = everybody
        self._application = everybody.application
        self.streams: dict[int, Stream] = {}
        self.peer = ""
        self.certificate: t.Any = None
        self._rest = b""
        self._greeted = False
        self._decoder = Decoder()
        self._heads: dict[bytes, t.Any] = {}
        self._generation = 0
        self._block: tuple[int, int, bytes] | None = None  # a header whose continuation is to come: id, flags, so far
        self._last = 0
        self._buffered = 0
        self._received = 0
        self._window, self._initial, self._frame = 65535, 65535, MAX_FRAME
        self._indexing: bool | None = False  # whether the peer has our header in its table; None: it keeps none
        self._resize = b""
        self._out: list[bytes] | None = None
        self._chatter = 0
        self._since = time.monotonic_ns()
        self._goaway = 0  # 1: said that the end is near, 2: said which call is the last
        self._paused = False

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = t.cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self.certificate = transport.get_extra_info("peercert")
        everybody = self._all
        everybody.open.add(self)
        everybody.opened(1)
        self._transport.write(everybody.greeting)
        if len(everybody.open) > everybody.max_connections:
            everybody.rejected("connections")
            self._end(ENHANCE_YOUR_CALM, "too many connections")

    def data_received(self, data: bytes) -> None:
        if self._goaway == 3:
            return
        if self._rest:
            data = self._rest + data
        self._out = []
        try:
            self._rest = self._read(data)
        except ProtocolError as exc:
            self._end(exc.code, str(exc))
        out, self._out = self._out, None
        if out:
            self._transport.write(b"".join(out))
        if self._goaway == 2 and not self.streams:
            self._transport.close()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        # A client that does not read its answers is not asked for more.
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._goaway = 3
        self._all.open.discard(self)
        self._all.opened(-1)
        for stream in list(self.streams.values()):
            self._drop(stream)

    # --- ends ---

    def check_time(self, now: int) -> None:
        """End what takes too long."""
        if not self._greeted:
            if now - self._since > self._all.read_ns:
                self._transport.abort()
            return
        for stream in list(self.streams.values()):
            if stream.trailers is not None:
                if now - stream.since > self._all.idle_ns:
                    self.reset(stream, CANCEL)
            elif not stream.closed and now - stream.since > self._all.read_ns:
                self._application.late(self, stream)
        if not self.streams and now - self._since > self._all.idle_ns:
            self._end(NO_ERROR, "idle")

    def drain(self) -> None:
        """Say that no further calls are wanted; those that are under way to here are answered (RFC 9113, section 6.8)."""
        if self._goaway == 0:
            self._goaway = 1
            # The answer to the ping comes after all that the client sent before it read this.
            self._send(
                frame(GOAWAY, 0, 0, _word.pack(_MAX_WINDOW) + _word.pack(NO_ERROR)) + frame(PING, 0, 0, b"draining")
            )

    def finish(self) -> None:
        """Take no more calls, and close when those that were taken are answered."""
        if self._goaway < 2:
            self._goaway = 2
            self._send(frame(GOAWAY, 0, 0, _word.pack(self._last) + _word.pack(NO_ERROR)))
        if not self.streams and self._out is None:
            self._transport.close()

    def _end(self, code: int, reason: str) -> None:
        if self._goaway != 3:
            self._goaway = 3
            for stream in list(self.streams.values()):
                self._drop(stream)
            self._send(frame(GOAWAY, 0, 0, _word.pack(self._last) + _word.pack(code) + reason.encode()))
            if self._out:
                self._transport.write(b"".join(self._out))
                self._out = []
            self._transport.close()

    def _drop(self, stream: Stream) -> None:
        """Forget a stream whose client is not there to read its answer."""
        del self.streams[stream.id]
        self._buffered -= stream.size
        answered = stream.trailers is not None
        if stream.task is not None:
            stream.task.cancel()
        if not answered:
            self._application.left(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once."""
        self._send(frame(RST_STREAM, 0, stream.id, _word.pack(code)))
        self._drop(stream)

    # --- reading ---

    def _read(self, data: bytes) -> bytes:
        """Handle the frames in *data*; return what is left over."""
        place, end = 0, len(data)
        if not self._greeted:
            if end < 24 and PREFACE.startswith(data):
                return data
            if not data.startswith(PREFACE):
                raise ProtocolError(PROTOCOL_ERROR, "this port speaks gRPC (HTTP/2) only")
            self._greeted, place = True, 24
        while end - place >= 9:
            high, low, kind, flags, number = _frame.unpack_from(data, place)
            length = high << 8 | low
            if length > MAX_FRAME:
                raise ProtocolError(FRAME_SIZE_ERROR, "a frame larger than agreed")
            stop = place + 9 + length
            if stop > end:
                break
            payload = data[place + 9 : stop]
            place = stop
            if self._block is not None and kind != CONTINUATION:
                raise ProtocolError(PROTOCOL_ERROR, "a header was cut off")
            if kind == DATA:
                self._data(number & _MAX_WINDOW, flags, payload)
            elif kind == HEADERS:
                self._headers(number & _MAX_WINDOW, flags, payload)
            else:
                self._chatter += 1
                if self._chatter > _MOST_CHATTER:
                    raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
                if kind in _HANDLERS:
                    _HANDLERS[kind](self, number & _MAX_WINDOW, flags, payload)
            if self._goaway == 3:
                return b""
        return data[place:]

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITIZED):
            payload = _unpad(payload, flags)
            if flags & PRIORITIZED:
                if len(payload) < 5:
                    raise ProtocolError(FRAME_SIZE_ERROR, "a header without its priority")
                payload = payload[5:]
        if flags & END_HEADERS:
            self._header(number, flags, payload)
        else:
            self._block = (number, flags, payload)

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ProtocolError(PROTOCOL_ERROR, "a continuation of nothing")
        block = self._block[2] + payload
        if len(block) > _MAX_BLOCK:
            raise ProtocolError(ENHANCE_YOUR_CALM, "a header too large")
        if flags & END_HEADERS:
            first, self._block = self._block[1], None
            self._header(number, first, block)
        else:
            self._block = (number, self._block[1], block)

    def _header(self, number: int, flags: int, block: bytes) -> None:
        """A header block is there whole."""
        head = self._heads.get(block)
        if head is None:
            decoder = self._decoder
            try:
                head = self._application.head(decoder.decode(block))
            except HpackError as exc:
                raise ProtocolError(COMPRESSION_ERROR, str(exc)) from None
            except ListSizeError:
                head = self._application.head([])
            if self._generation != decoder.generation:
                self._generation = decoder.generation
                self._heads.clear()
            elif len(self._heads) < 64:
                self._heads[block] = head
        stream = self.streams.get(number)
        if stream is not None:
            # Trailers of a request: gRPC's clients send none, but may.
            if not flags & END_STREAM or stream.closed:
                raise ProtocolError(PROTOCOL_ERROR, "a second header within a stream")
            stream.closed = True
            if stream.trailers is None:
                self._complete(stream)
            return
        if number % 2 == 0:
            raise ProtocolError(PROTOCOL_ERROR, "not a stream that a client may open")
        if number <= self._last:
            if flags & END_STREAM:
                return  # trailers that crossed our answer
            raise ProtocolError(STREAM_CLOSED, "a stream that is closed")
        if self._goaway >= 2:
            return  # the client was told that this one is not answered here
        self._last = number
        if len(self.streams) >= MAX_STREAMS:
            self._chatter += 1
            self._send(frame(RST_STREAM, 0, number, _word.pack(REFUSED_STREAM)))
            return
        self._since = now = time.monotonic_ns()
        stream = Stream(number, head, self._initial, now)
        stream.closed = bool(flags & END_STREAM)
        self.streams[number] = stream
        self._application.begin(self, stream)
        if stream.closed and number in self.streams and stream.trailers is None:
            self._complete(stream)

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        length = len(payload)
        self._received += length
        if self._received > 1 << 30:
            self._send(frame(WINDOW_UPDATE, 0, 0, _word.pack(self._received)))
            self._received = 0
        if flags & PADDED:
            payload = _unpad(payload, flags)
        stream = self.streams.get(number)
        if stream is None or stream.trailers is not None:
            if number > self._last or number == 0:
                raise ProtocolError(PROTOCOL_ERROR, "data of a stream that is not open")
            return  # it crossed our answer
        if stream.closed:
            raise ProtocolError(STREAM_CLOSED, "data after a stream's end")
        size = len(payload)
        if flags & END_STREAM:
            stream.closed = True
            if not stream.body:
                self._complete(stream, payload)
                return
        if not size:
            self._chatter += 1
            if self._chatter > _MOST_CHATTER:
                raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
        else:
            stream.body.append(payload)
            stream.size += size
            self._buffered += size
            if stream.size == size:
                self._application.check(self, stream)
            elif stream.size > self._all.window or self._buffered > self._all.budget:
                self._application.late(self, stream)
        if flags & END_STREAM and number in self.streams and stream.trailers is None:
            self._complete(stream)

    def _complete(self, stream: Stream, body: bytes | None = None) -> None:
        if body is None:
            body = b"".join(stream.body)
            self._buffered -= stream.size
            stream.body, stream.size = [], 0
        self._application.complete(self, stream, body)

    def _priority(self, _number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise ProtocolError(FRAME_SIZE_ERROR, "a priority of a wrong size")

    def _reset(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(FRAME_SIZE_ERROR, "a reset of a wrong size")
        if number > self._last or number == 0:
            raise ProtocolError(PROTOCOL_ERROR, "a reset of a stream that is not open")
        stream = self.streams.get(number)
        if stream is not None:
            self._chatter += _CHATTER_RESET
            self._drop(stream)

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise ProtocolError(FRAME_SIZE_ERROR if not number else PROTOCOL_ERROR, "settings of a wrong form")
        if flags & ACK:
            return
        for key, value in _setting.iter_unpack(payload):
            if key == _WINDOW:
                if value > _MAX_WINDOW:
                    raise ProtocolError(FLOW_CONTROL_ERROR, "a window too large")
                for stream in self.streams.values():
                    stream.window += value - self._initial
                self._initial = value
            elif key == _FRAME:
                if not MAX_FRAME <= value < 1 << 24:
                    raise ProtocolError(PROTOCOL_ERROR, "a frame size that is not allowed")
                self._frame = min(value, 1 << 20)
            elif key == _TABLE and value < TABLE_SIZE and self._indexing is not None:
                self._indexing = None
                self._resize = b"\x20"  # section 4.2 of RFC 7541: the next block must say so
        self._send(frame(SETTINGS, ACK, 0))
        self._pump()

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise ProtocolError(FRAME_SIZE_ERROR if not number else PROTOCOL_ERROR, "a ping of a wrong form")
        if not flags & ACK:
            self._send(frame(PING, ACK, 0, payload))
        elif self._goaway == 1 and payload == b"draining":
            self.finish()

    def _goes_away(self, number: int, _flags: int, payload: bytes) -> None:
        if number or len(payload) < 8:
            raise ProtocolError(FRAME_SIZE_ERROR if not number else PROTOCOL_ERROR, "a farewell of a wrong form")

    def _push(self, _number: int, _flags: int, _payload: bytes) -> None:
        raise ProtocolError(PROTOCOL_ERROR, "a client cannot push")

    def _widen(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(FRAME_SIZE_ERROR, "a window update of a wrong size")
        more = _word.unpack(payload)[0] & _MAX_WINDOW
        if number == 0:
            self._window += more
            if not more or self._window > _MAX_WINDOW:
                raise ProtocolError(FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR, "a window that cannot be")
        elif number > self._last:
            raise ProtocolError(PROTOCOL_ERROR, "a window for a stream that is not open")
        elif (stream := self.streams.get(number)) is not None:
            stream.window += more
            if not more or stream.window > _MAX_WINDOW:
                self.reset(stream, FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR)
                return
        self._pump()

    # --- answering ---

    def answer(self, stream: Stream, head: bytes | None, message: bytes, trailers: bytes, further: bytes = b"") -> None:
        """Answer a call.

        :param head: a header block that needs no table; ``None``: the usual one, and *further* fields of the same kind.
        :param message: the data; empty: only the header and the trailers.
        :param trailers: the block that ends the stream; with an empty *head* it is the only one.
        """
        number = stream.id
        if self.streams.get(number) is not stream:
            return  # the client gave it up
        if self._chatter:
            self._chatter = max(0, self._chatter - _CHATTER_EACH)
        if head is None:
            first, later, plain = self._all.answer_block
            head = plain if self._indexing is None else later if self._indexing else first
            if self._indexing is False:
                self._indexing = True
            head += further
        if self._resize:
            head, trailers = (self._resize + head, trailers) if head else (head, self._resize + trailers)
            self._resize = b""
        length = len(message)
        begin = frame(HEADERS, END_HEADERS, number, head) if head else b""
        if length <= self._window and length <= stream.window and length <= self._frame:
            self._window -= length
            middle = frame(DATA, 0, number, message) if message else b""
            self._send(begin + middle + frame(HEADERS, END_HEADERS | END_STREAM, number, trailers))
            stream.trailers = trailers
            self._forget(stream)
            return
        if begin:
            self._send(begin)
        stream.pending, stream.trailers = message, trailers
        stream.task = None
        stream.since = time.monotonic_ns()
        self._pump()

    def refuse(self, stream: Stream, trailers: bytes) -> None:
        """Answer a call with a status alone, whether or not its request is there whole; the rest of that is not read."""
        self.answer(stream, b"", b"", trailers)
        if not stream.closed:
            # Section 8.1: so that the client need not send what nobody reads.
            self._send(frame(RST_STREAM, 0, stream.id, _word.pack(NO_ERROR)))

    def _pump(self) -> None:
        """Send what waits, as far as the peer's windows allow."""
        for stream in [stream for stream in self.streams.values() if stream.trailers is not None]:
            pending, place = stream.pending, 0
            parts = []
            while place < len(pending):
                size = min(len(pending) - place, self._frame, self._window, stream.window)
                if size <= 0:
                    break
                parts.append(frame(DATA, 0, stream.id, pending[place : place + size]))
                self._window -= size
                stream.window -= size
                place += size
            if place:
                stream.since = time.monotonic_ns()
                stream.pending = pending[place:]
            if not stream.pending:
                parts.append(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, t.cast(bytes, stream.trailers)))
                self._forget(stream)
            if parts:
                self._send(b"".join(parts))

    def _forget(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self._buffered -= stream.size
        stream.size = 0
        stream.body = []
        self._since = time.monotonic_ns()
        if self._all.draining and self._goaway == 0:
            self.drain()
        if self._goaway == 2 and not self.streams and self._out is None:
            # After what was written: closing sends that first.
            asyncio.get_running_loop().call_soon(self._transport.close)

    def _send(self, data: bytes) -> None:
        if self._out is not None:
            self._out.append(data)
        else:
            self._transport.write(data)


def _unpad(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


_HANDLERS: dict[int, t.Callable[[Connection, int, int, bytes], None]] = {
    PRIORITY: Connection._priority,
    RST_STREAM: Connection._reset,
    SETTINGS: Connection._settings,
    PUSH_PROMISE: Connection._push,
    PING: Connection._ping,
    GOAWAY: Connection._goes_away,
    WINDOW_UPDATE: Connection._widen,
    CONTINUATION: Connection._continuation,
}
