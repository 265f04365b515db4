# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into a connection: frames, and the requests that they make up."""

from __future__ import annotations

import time
import typing as t

from .frames import (
    ACK,
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
    SET_PUSH,
    SET_TABLE,
    SET_WINDOW,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
    header,
    malformed,
    setting,
    unpad,
    word,
)
from .hpack import TABLE_SIZE, Decoder, HpackError, ListSizeError, TooMuchError
from .outgoing import Outgoing, Stream

if t.TYPE_CHECKING:
    from .http2 import Connections

#: Frames that ask for nothing (pings, settings, resets, empty data, ...) and that may come on top of those for each answer;
#: more is an attack (CVE-2019-9512 and its kin, CVE-2023-44487).
_MOST_CHATTER = 1000
#: What a call that is given up counts as, besides: few enough that a client may give up all its calls at once.
_CHATTER_RESET = 2
#: What a header list that is too large counts as: few of them, and the connection is closed.
_CHATTER_LARGE = 200
#: Bytes of header blocks that are decoded for a connection which has shown no credentials although clients need them.
_MOST_UNKNOWN = 65536
#: Calls at a time over such a connection: those that may be made without credentials, and those whose credentials are being
#: looked at.
_MOST_UNKNOWN_STREAMS = 32
#: What a call takes up besides its header fields and its message.
_STREAM_BYTES = 1024
#: Header blocks that are kept decoded, a connection, and the largest header that is.
_MOST_HEADS, _HEAD_BYTES = 16, 2048


class Application(t.Protocol):
    """What answers calls. Its methods raise nothing."""

    def head(self, fields: list[tuple[str, str]]) -> t.Any:
        """Make of header fields what the other methods need; kept for later calls with equal fields."""

    def begin(self, connection: Incoming, stream: Stream) -> None:
        """The header is there: the call counts from now on. May answer at once, by :meth:`Incoming.answer`."""

    def check(self, connection: Incoming, stream: Stream) -> None:
        """The first data is there: may answer at once."""

    def complete(self, connection: Incoming, stream: Stream, body: bytes) -> None:
        """The request is there whole: answer it, now or by a task put into the stream."""

    def late(self, connection: Incoming, stream: Stream) -> None:
        """The request did not arrive in time, or with others it takes too much memory: answer it."""

    def left(self, stream: Stream) -> None:
        """The client gave the call up, or is gone."""


class Incoming(Outgoing):
    """What a connection receives.

    :param everybody: all connections of the worker.
    :ivar peer: ``address:port`` of the client; ``certificate``: its own, as ``ssl.SSLSocket.getpeercert`` gives it.
    :ivar admitted: whether credentials that a call needs were shown.
    """

    def __init__(self, everybody: Connections) -> None:
        super().__init__(everybody.answer_block)
        self._all = everybody
        self._application = everybody.application
        self.peer = ""
        self.certificate: t.Any = None
        self.admitted = False
        self._greeted = False
        self._goaway = 0  # 1: said that the end is near, 2: said which call is the last, 3: being closed, 4: closed
        self._decoder = Decoder()
        #: By block: what the application made of it (``None``: it is malformed), and the bytes of its fields.
        self._heads: dict[bytes, tuple[t.Any, int]] = {}
        self._generation = 0
        self._block: tuple[int, int, bytes] | None = None  # a header whose continuation is to come: id, flags, so far
        self._last = 0
        self._large = 0
        self._unknown_bytes = 0
        self._received = 0
        self._since = time.monotonic_ns()

    def _drop(self, stream: Stream) -> None:
        """Forget a stream whose client is not there to read its answer."""
        raise NotImplementedError

    def finish(self) -> None:
        """Take no more calls, and close when those that were taken are answered."""
        raise NotImplementedError

    def _hold(self, stream: Stream, size: int) -> bool:
        everybody = self._all
        everybody.held += size - stream.held
        stream.held = size
        return everybody.held <= everybody.most_held

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
                self._count_chatter(1)
                if kind in _HANDLERS:
                    _HANDLERS[kind](self, number & MAX_WINDOW, flags, payload)
            if self._goaway >= 3:
                return b""
        return data[place:]

    def _count_chatter(self, count: int) -> None:
        self._chatter += count
        if self._chatter > _MOST_CHATTER:
            raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def _count_large(self) -> None:
        """Count a header list that is too large, for good: the response to it takes nothing off."""
        self._large += _CHATTER_LARGE
        if self._large > _MOST_CHATTER:
            raise ProtocolError(ENHANCE_YOUR_CALM, "too many header lists that are too large")

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
        stream = self.streams.get(number)
        if stream is not None:
            self._trailers(stream, flags, block)
            return
        head, size = self._heads.get(block) or self._decode(block)
        if number % 2 == 0:
            raise ProtocolError(PROTOCOL_ERROR, "not a stream that a client may open")
        if number <= self._last:
            if flags & END_STREAM:
                self._count_chatter(1)
                return  # trailers that crossed our answer
            raise ProtocolError(STREAM_CLOSED, "a stream that is closed")
        if self._goaway >= 2:
            return  # the client was told that this one is not answered here
        self._last = number
        everybody = self._all
        if head is None:
            self._chatter += _CHATTER_RESET
            self._send(frame(RST_STREAM, 0, number, word.pack(PROTOCOL_ERROR)))
            return
        most = _MOST_UNKNOWN_STREAMS if everybody.guarded and not self.admitted else MAX_STREAMS
        if len(self.streams) >= most or everybody.held > everybody.most_open:
            self._chatter += 1
            self._send(frame(RST_STREAM, 0, number, word.pack(REFUSED_STREAM)))
            return
        self._since = now = time.monotonic_ns()
        stream = Stream(number, head, self._initial, now)
        stream.closed = bool(flags & END_STREAM)
        self.streams[number] = stream
        stream.held = size = size + _STREAM_BYTES
        everybody.held += size
        self._application.begin(self, stream)
        if stream.closed and number in self.streams and stream.trailers is None:
            self._complete(stream)

    def _decode(self, block: bytes) -> tuple[t.Any, int]:
        """Return what the fields of a block mean to the application, ``None`` where they are malformed, and their bytes."""
        before = self._generation
        try:
            fields = self._fields(block)
        except ListSizeError:
            self._count_large()
            return self._application.head([]), 0
        size = sum(len(name) + len(value) for name, value in fields)
        found = None if malformed(fields) else self._application.head(fields), size
        if self._generation == before and size <= _HEAD_BYTES:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[block] = found
        return found

    def _fields(self, block: bytes) -> list[tuple[str, str]]:
        if self._all.guarded and not self.admitted:
            self._unknown_bytes += len(block)
            if self._unknown_bytes > _MOST_UNKNOWN:
                raise ProtocolError(ENHANCE_YOUR_CALM, "too many headers without credentials")
        decoder = self._decoder
        try:
            return decoder.decode(block)
        except HpackError as exc:
            raise ProtocolError(COMPRESSION_ERROR, str(exc)) from None
        except TooMuchError as exc:
            raise ProtocolError(ENHANCE_YOUR_CALM, str(exc)) from None
        finally:
            if self._generation != decoder.generation:
                # Equal blocks do not mean the same any more.
                self._generation = decoder.generation
                self._heads.clear()

    def _trailers(self, stream: Stream, flags: int, block: bytes) -> None:
        """A second header within a stream ends the request: gRPC's clients send none, but may."""
        try:
            wrong = malformed(self._fields(block), trailers=True)
        except ListSizeError:
            self._count_large()
            wrong = True
        if not flags & END_STREAM or stream.closed:
            raise ProtocolError(PROTOCOL_ERROR, "a second header within a stream")
        stream.closed = True
        if wrong:
            self._chatter += _CHATTER_RESET
            self.reset(stream, PROTOCOL_ERROR)
        elif stream.trailers is None:
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
            if not payload:
                self._count_chatter(1)
            return  # it crossed our response
        if stream.closed:
            raise ProtocolError(STREAM_CLOSED, "data after a stream's end")
        size = len(payload)
        if flags & END_STREAM:
            stream.closed = True
            if not stream.body:
                if self._hold_first(stream, size):
                    self._complete(stream, payload)
                return
        if not size:
            self._count_chatter(1)
        else:
            if not stream.body:
                if self._hold_first(stream, size):
                    stream.body = bytearray(payload)
                    self._application.check(self, stream)
            else:
                stream.body += payload
                if not self._hold(stream, stream.held + size) or len(stream.body) > self._all.window:
                    self._application.late(self, stream)
        if flags & END_STREAM and number in self.streams and stream.trailers is None:
            self._complete(stream)

    def _hold_first(self, stream: Stream, size: int) -> bool:
        """Note the first data of a stream, for which there is as much room as for a new stream; return whether there is."""
        everybody = self._all
        stream.held += size
        everybody.held += size
        if everybody.held <= everybody.most_open:
            return True
        self._application.late(self, stream)
        return False

    def _complete(self, stream: Stream, body: bytes | None = None) -> None:
        if body is None:
            # Held until the call is answered: numbers in it are not copied, and the gate may not know yet.
            body, stream.body = bytes(stream.body), b""
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
        # Of several values of one setting the last one counts: all streams take part in some.
        for key, value in dict(setting.iter_unpack(payload)).items():
            if key == SET_WINDOW:
                self._move_windows(value)
            elif key == SET_FRAME:
                if not MAX_FRAME <= value < 1 << 24:
                    raise ProtocolError(PROTOCOL_ERROR, "a frame size that is not allowed")
                self._frame = min(value, 1 << 20)
            elif key == SET_PUSH and value > 1:
                raise ProtocolError(PROTOCOL_ERROR, "a setting that is neither on nor off")
            elif key == SET_TABLE and value < TABLE_SIZE and self._indexing is not None:
                self._indexing = None
                self._resize = b"\x20"  # section 4.2 of RFC 7541: the next block must say so
        self._send(frame(SETTINGS, ACK, 0))
        self._pump()

    def _move_windows(self, initial: int) -> None:
        """The peer has another window for new streams, and moves those of open ones with it (RFC 9113, section 6.9.2)."""
        for stream in self.streams.values():
            stream.window += initial - self._initial
        self._initial = initial
        if (
            max((stream.window for stream in self.streams.values()), default=initial) > MAX_WINDOW
            or initial > MAX_WINDOW
        ):
            raise ProtocolError(FLOW_CONTROL_ERROR, "a window too large")

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


_HANDLERS: dict[int, t.Callable[[Incoming, int, int, bytes], None]] = {
    PRIORITY: Incoming._priority,
    RST_STREAM: Incoming._reset,
    SETTINGS: Incoming._settings,
    PUSH_PROMISE: Incoming._push,
    PING: Incoming._ping,
    GOAWAY: Incoming._goes_away,
    WINDOW_UPDATE: Incoming._widen,
    CONTINUATION: Incoming._continuation,
}
