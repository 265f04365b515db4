# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out of a connection: answers, as fast as the client's windows let them go."""

from __future__ import annotations

import asyncio
import time
import typing as t

from .frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    MAX_FRAME,
    NO_ERROR,
    RST_STREAM,
    frame,
    word,
)

#: Frames that ask for nothing and that may come for each answer.
CHATTER_EACH = 16


class Stream:
    """One call.

    :ivar head: what :meth:`Application.head` made of the header fields.
    :ivar body: the request's data so far; ``since``: ``time.monotonic_ns()`` at which its header came.
    :ivar held: bytes that the call takes up, in the worker's account.
    :ivar closed: the client has sent all that it sends.
    :ivar state: for the application's use.
    :ivar task: what answers it, where that takes a while.
    """

    __slots__ = ("body", "closed", "head", "held", "id", "pending", "since", "state", "task", "trailers", "window")

    def __init__(self, number: int, head: t.Any, window: int, since: int) -> None:
        self.id = number
        self.head = head
        self.window = window
        self.since = since
        self.body: bytes | bytearray = b""
        self.held = 0
        self.closed = False
        self.state: t.Any = None
        self.task: asyncio.Task[None] | None = None
        self.pending: bytes = b""
        self.trailers: bytes | None = None


class Outgoing:
    """What a connection sends.

    :param answer_block: the header block of most answers, for a peer that lets us put it into its table: the block that
        puts it there, the one that then refers to it, and the one for a peer that keeps no table.
    """

    def __init__(self, answer_block: tuple[bytes, bytes, bytes]) -> None:
        self.streams: dict[int, Stream] = {}
        self._answer_block = answer_block
        self._transport = t.cast(asyncio.Transport, None)
        #: The peer's window for all streams, its window for a new one, and its largest frame.
        self._window, self._initial, self._frame = 65535, 65535, MAX_FRAME
        self._indexing: bool | None = False  # whether the peer has our header in its table; None: it keeps none
        self._resize = b""
        self._out: list[bytes] | None = None  # what is to be sent when all that was read has been handled
        self._chatter = 0
        self._paused = False

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
            self._chatter = max(0, self._chatter - CHATTER_EACH)
        if head is None:
            first, later, plain = self._answer_block
            head = plain if self._indexing is None else later if self._indexing else first
            if self._indexing is False:
                self._indexing = True
            head += further
        if self._resize:
            head, trailers = (self._resize + head, trailers) if head else (head, self._resize + trailers)
            self._resize = b""
        length = len(message)
        begin = frame(HEADERS, END_HEADERS, number, head) if head else b""
        fits = length <= self._window and length <= stream.window and length <= self._frame
        if fits and not (length and self._paused):
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
        if stream.pending and not self._hold(stream, len(stream.pending) + MAX_FRAME):
            self.reset(stream, ENHANCE_YOUR_CALM)  # its client does not take it, and others want the memory

    def refuse(self, stream: Stream, trailers: bytes) -> None:
        """Answer a call with a status alone, whether or not its request is there whole; the rest of that is not read."""
        self.answer(stream, b"", b"", trailers)
        if not stream.closed:
            # Section 8.1: so that the client need not send what nobody reads.
            self._send(frame(RST_STREAM, 0, stream.id, word.pack(NO_ERROR)))

    def _pump(self) -> None:
        """Send what waits, as far as the peer's windows allow and as it is read."""
        for stream in [stream for stream in self.streams.values() if stream.trailers is not None]:
            if self._paused:
                return
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

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once."""
        raise NotImplementedError

    def _forget(self, stream: Stream) -> None:
        """The stream is answered."""
        raise NotImplementedError

    def _hold(self, stream: Stream, size: int) -> bool:
        """Note that a stream takes *size* bytes now; return whether all streams of all connections may take what they do."""
        raise NotImplementedError

    def _send(self, data: bytes) -> None:
        if self._out is not None:
            self._out.append(data)
        else:
            self._transport.write(data)
