# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/2 on asyncio (RFC 9113), as far as calls with one request and one answer need it.

A call that has arrived whole and is answered at once is answered within the callback that read it, with one write for all
that one read brought. Streams may send a whole message without asking for more window; what clients can make the server keep
is bounded all the same: by the largest message, the number of streams of a connection, and an account of what the streams of
all connections take, from their headers to answers that wait to be read.
"""

from __future__ import annotations

import asyncio
import time
import typing as t

from .. import eviction
from ..kernel import tcp
from ..settings import Settings
from .frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    MAX_BLOCK,
    MAX_STREAMS,
    MAX_WINDOW,
    NO_ERROR,
    PING,
    RST_STREAM,
    SET_LIST,
    SET_STREAMS,
    SET_WINDOW,
    SETTINGS,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
    setting,
    word,
)
from .incoming import Application, Incoming
from .outgoing import Stream

#: Time for a client to read the last words; whoever does not read would otherwise keep its connection for good.
_LINGER_NS = 2_000_000_000
#: Connections that are being closed at a time, each with a GOAWAY that says why; further ones are just cut.
_MOST_CLOSING = 256


class Connections:
    """The connections of one worker, and what they may take.

    :param opened: called with 1 and -1 as connections come and go.
    :param rejected: called with a reason of :data:`..metrics.REASONS` for a connection that is not wanted.
    :param answer_block: the header block of most answers, for a peer that lets us put it into its table: the block that
        puts it there, the one that then refers to it, and the one for a peer that keeps no table.
    """

    def __init__(
        self,
        application: Application,
        settings: Settings,
        opened: t.Callable[[int], None],
        rejected: t.Callable[[str], None],
        answer_block: tuple[bytes, bytes, bytes],
    ) -> None:
        self.application = application
        self.open: set[Connection] = set()
        #: How many of them have had their GOAWAY, and only wait for their client to read it.
        self.closing = 0
        self.draining = False
        self.max_connections = settings.max_connections
        #: Whether clients need credentials.
        self.guarded = settings.guarded
        self._eviction: eviction.Eviction[Connection] = eviction.Eviction(self.open, self.max_connections, rejected)
        self.read_ns, self.idle_ns = int(settings.read_seconds * 1e9), int(settings.idle_seconds * 1e9)
        #: Bytes that streams take up; how many messages may, and with how many there is no room for new streams either: small
        #: calls go on where there are too many large ones.
        self.held = 0
        self.most_held = settings.most_held
        self.most_open = self.most_held + self.most_held // 4
        self.opened = opened
        self.rejected = rejected
        self.answer_block = answer_block
        self.window = min(MAX_WINDOW, settings.max_body_bytes + 65536)
        own = {SET_STREAMS: MAX_STREAMS, SET_WINDOW: self.window, SET_LIST: MAX_BLOCK}
        self.greeting = frame(SETTINGS, 0, 0, b"".join(setting.pack(*pair) for pair in own.items())) + frame(
            WINDOW_UPDATE, 0, 0, word.pack(MAX_WINDOW - 65535)
        )

    def __call__(self) -> Connection:
        return Connection(self)

    def sweep(self) -> None:
        """End what takes too long; to be called about every second."""
        self._eviction.reset()
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.check_time(now)

    @property
    def served(self) -> int:
        """Open connections other than those that are being closed."""
        return len(self.open) - self.closing

    def make_room(self) -> bool:
        """Close the connection that is worth least, for one that has just come; return whether there was one."""
        return self._eviction.make_room()

    def drain(self) -> None:
        """Tell every client to make its next calls elsewhere; those that still come are answered."""
        self.draining = True
        for connection in list(self.open):
            connection.drain()

    @property
    def streams(self) -> int:
        """Calls that are not answered yet."""
        return sum(len(connection.streams) for connection in self.open)


class Connection(Incoming, asyncio.Protocol):
    """One client."""

    def __init__(self, everybody: Connections) -> None:
        super().__init__(everybody)
        self._rest = b""
        self._opened = self._since
        self._partial_since = 0  # when the frame or header that is not there whole began
        self._unread, self._moved = 0, self._since  # bytes that the client has not read, and when it read some

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
        if everybody.served > everybody.max_connections and not everybody.make_room():
            everybody.rejected("connections")
            self._end(ENHANCE_YOUR_CALM, "too many connections")

    def data_received(self, data: bytes) -> None:
        if self._goaway >= 3:
            return
        if self._rest:
            data = self._rest + data
        self._out = []
        try:
            self._rest = self._read(data)
        except ProtocolError as exc:
            self._end(exc.code, str(exc))
        if not self._rest and self._block is None:
            self._partial_since = 0
        elif not self._partial_since:
            self._partial_since = time.monotonic_ns()
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
        self._pump()
        if not self._paused:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._goaway == 3:
            self._all.closing -= 1
        self._goaway = 4
        self._all.open.discard(self)
        self._all.opened(-1)
        for stream in list(self.streams.values()):
            self._drop(stream)

    # --- ends ---

    def check_time(self, now: int) -> None:
        """End what takes too long."""
        everybody = self._all
        if self._goaway >= 3:
            if now - self._since > _LINGER_NS:
                self._transport.abort()
            return
        if not self._greeted:
            if now - self._since > everybody.read_ns:
                self._transport.abort()
            return
        unread = self._transport.get_write_buffer_size()
        if not unread or unread < self._unread:
            self._moved = now
        self._unread = unread
        if now - self._moved > everybody.idle_ns:
            self._transport.abort()
            return
        for stream in list(self.streams.values()):
            if stream.trailers is not None:
                if now - stream.since > everybody.idle_ns:
                    self.reset(stream, CANCEL)
            elif not stream.closed and now - stream.since > everybody.read_ns:
                self._application.late(self, stream)
        if not self.streams and not unread:
            # One that never asked for anything, or had no credentials, is not waited for that long where connections run short.
            hurry = (self.unknown or not self._last) and everybody.served >= everybody.max_connections
            if self._partial_since and now - max(self._since, self._partial_since) > everybody.read_ns:
                self._end(NO_ERROR, "the request did not arrive in time")
            elif now - self._since > (everybody.read_ns if hurry else everybody.idle_ns):
                self._end(NO_ERROR, "idle")

    @property
    def unknown(self) -> bool:
        """See :class:`..eviction.Evictable`."""
        return self._all.guarded and not self.admitted

    def rank(self, now: int) -> eviction.Rank | None:
        """See :class:`..eviction.Evictable`: the same order as with HTTP/1."""
        if self._goaway >= 3:
            return None
        if self.unknown:
            return (eviction.UNKNOWN, self._opened) if now - self._opened >= eviction.SETTLE_NS else None
        age = now - self._since
        if age < eviction.SETTLE_NS:
            return None
        if self._paused:
            return eviction.SLOW, self._since
        received = 0
        for stream in self.streams.values():
            if stream.trailers is not None:
                if now - stream.since <= self._all.read_ns:
                    return None  # its response is being read
            elif stream.closed:
                return None  # it is being answered
            received += len(stream.body)
        if received > age * eviction.LEAST_RATE / 1e9:
            return None
        between = self._last and not self.streams and not self._partial_since
        return eviction.IDLE if between else eviction.SLOW, self._since

    def give_way(self) -> bool:
        """See :class:`..eviction.Evictable`."""
        if not self.unknown:
            unsent = self._transport.get_write_buffer_size()
            last = self._moved if unsent else self._since
            if (unsent or tcp(self._transport).waiting) and time.monotonic_ns() - last <= self._all.read_ns:
                return False
        self._end(NO_ERROR, "other clients need the connection")
        return True

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
        if self._goaway < 3:
            self._goaway = 3
            self._all.closing += 1
            self._since = time.monotonic_ns()
            for stream in list(self.streams.values()):
                self._drop(stream)
            self._send(frame(GOAWAY, 0, 0, word.pack(self._last) + word.pack(code) + reason.encode()))
            if self._out:
                self._transport.write(b"".join(self._out))
                self._out = []
            if self._all.closing > _MOST_CLOSING:
                self._transport.abort()
            else:
                self._transport.close()

    def _drop(self, stream: Stream) -> None:
        """Forget a stream whose client is not there to read its answer."""
        del self.streams[stream.id]
        self._hold(stream, 0)
        answered = stream.trailers is not None
        if stream.task is not None:
            stream.task.cancel()
        if not answered:
            self._application.left(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once."""
        self._send(frame(RST_STREAM, 0, stream.id, word.pack(code)))
        self._drop(stream)

    # --- after an answer ---

    def _forget(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self._all.held -= stream.held
        stream.held, stream.body = 0, b""
        self._since = time.monotonic_ns()
        if self._all.draining and self._goaway == 0:
            self.drain()
        if self._goaway == 2 and not self.streams and self._out is None:
            # After what was written: closing sends that first.
            asyncio.get_running_loop().call_soon(self._transport.close)
