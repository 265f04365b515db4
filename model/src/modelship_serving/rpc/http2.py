# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/2 on asyncio (RFC 9113), as far as calls with one request and one answer need it.

A call that has arrived whole and is answered at once is answered within the callback that read it, with one write for all
that one read brought. Streams may send a whole message without asking for more window; what one connection can make the
server keep is bounded all the same: by the largest message, the number of streams, and a budget for all of them together.
"""

from __future__ import annotations

import asyncio
import time
import typing as t

from .frames import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    MAX_BLOCK,
    MAX_FRAME,
    MAX_STREAMS,
    MAX_WINDOW,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SET_FRAME,
    SET_LIST,
    SET_STREAMS,
    SET_TABLE,
    SET_WINDOW,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
    header,
    setting,
    unpad,
    word,
)
from .hpack import TABLE_SIZE, Decoder, HpackError, ListSizeError
from .outgoing import Outgoing, Stream

#: So many of the largest messages may be on their way in over one connection.
_MESSAGES_AT_ONCE = 8
#: Frames that ask for nothing (pings, settings, resets, empty data, ...) and that may come on top of those for each answer;
#: more is an attack (CVE-2019-9512 and its kin, CVE-2023-44487).
_MOST_CHATTER = 1000
#: What a call that is given up counts as, besides: few enough that a client may give up all its calls at once.
_CHATTER_RESET = 2


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
        self.window = min(MAX_WINDOW, max_message + 65536)
        self.budget = _MESSAGES_AT_ONCE * self.window
        settings = {SET_STREAMS: MAX_STREAMS, SET_WINDOW: self.window, SET_LIST: MAX_BLOCK}
        self.greeting = frame(SETTINGS, 0, 0, b"".join(setting.pack(*pair) for pair in settings.items())) + frame(
            WINDOW_UPDATE, 0, 0, word.pack(MAX_WINDOW - 65535)
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


class Connection(Outgoing, asyncio.Protocol):
    """One client."""

    def __init__(self, everybody: Connections) -> None:
        super().__init__(everybody.answer_block)
        self._all = everybody
        self._application = everybody.application
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
                frame(GOAWAY, 0, 0, word.pack(MAX_WINDOW) + word.pack(NO_ERROR)) + frame(PING, 0, 0, b"draining")
            )

    def finish(self) -> None:
        """Take no more calls, and close when those that were taken are answered."""
        if self._goaway < 2:
            self._goaway = 2
            self._send(frame(GOAWAY, 0, 0, word.pack(self._last) + word.pack(NO_ERROR)))
        if not self.streams and self._out is None:
            self._transport.close()

    def _end(self, code: int, reason: str) -> None:
        if self._goaway != 3:
            self._goaway = 3
            for stream in list(self.streams.values()):
                self._drop(stream)
            self._send(frame(GOAWAY, 0, 0, word.pack(self._last) + word.pack(code) + reason.encode()))
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
        self._send(frame(RST_STREAM, 0, stream.id, word.pack(code)))
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
            high, low, kind, flags, number = header.unpack_from(data, place)
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
                self._data(number & MAX_WINDOW, flags, payload)
            elif kind == HEADERS:
                self._headers(number & MAX_WINDOW, flags, payload)
            else:
                self._chatter += 1
                if self._chatter > _MOST_CHATTER:
                    raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
                if kind in _HANDLERS:
                    _HANDLERS[kind](self, number & MAX_WINDOW, flags, payload)
            if self._goaway == 3:
                return b""
        return data[place:]

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITIZED):
            payload = unpad(payload, flags)
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
        if len(block) > MAX_BLOCK:
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
            self._send(frame(RST_STREAM, 0, number, word.pack(REFUSED_STREAM)))
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
            self._send(frame(WINDOW_UPDATE, 0, 0, word.pack(self._received)))
            self._received = 0
        if flags & PADDED:
            payload = unpad(payload, flags)
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
        for key, value in setting.iter_unpack(payload):
            if key == SET_WINDOW:
                if value > MAX_WINDOW:
                    raise ProtocolError(FLOW_CONTROL_ERROR, "a window too large")
                for stream in self.streams.values():
                    stream.window += value - self._initial
                self._initial = value
            elif key == SET_FRAME:
                if not MAX_FRAME <= value < 1 << 24:
                    raise ProtocolError(PROTOCOL_ERROR, "a frame size that is not allowed")
                self._frame = min(value, 1 << 20)
            elif key == SET_TABLE and value < TABLE_SIZE and self._indexing is not None:
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
        more = word.unpack(payload)[0] & MAX_WINDOW
        if number == 0:
            self._window += more
            if not more or self._window > MAX_WINDOW:
                raise ProtocolError(FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR, "a window that cannot be")
        elif number > self._last:
            raise ProtocolError(PROTOCOL_ERROR, "a window for a stream that is not open")
        elif (stream := self.streams.get(number)) is not None:
            stream.window += more
            if not more or stream.window > MAX_WINDOW:
                self.reset(stream, FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR)
                return
        self._pump()

    # --- after an answer ---

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
