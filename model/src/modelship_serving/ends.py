# SPDX-License-Identifier: GPL-3.0-or-later
"""How the connection of an HTTP client ends: after its last response, by time, or for another connection."""

from __future__ import annotations

import asyncio
import time
import typing as t

from . import eviction
from .errors import RequestError
from .http import Request
from .kernel import tcp
from .wire import Chunks

if t.TYPE_CHECKING:
    from .connections import Connections

#: What a connection does: reads a head, reads a body, waits for its answer, lets the client read the last answer, tells it
#: that there are too many.
HEAD, BODY, ANSWER, LAST, AWAY = range(5)
#: Time for a client that has its last answer to close, as it may still be sending: closing at once would make its kernel
#: throw the answer away (RFC 9112, section 9.6).
_LINGER = 2.0
#: Connections over the limit that are told so at a time; further ones are just cut.
_TOLD = 256


class Ends:
    """What :class:`.http1.Connection` knows of one client, and all that closes it."""

    __slots__ = (
        "_all",
        "_application",
        "_body",
        "_data",
        "_ended",
        "_held",
        "_known",
        "_opened",
        "_paused",
        "_peer",
        "_raw",
        "_read_at",
        "_request",
        "_route",
        "_since",
        "_state",
        "_taken",
        "_transport",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._application = connections.application
        self._transport: asyncio.Transport
        self._peer = ""
        self._state = HEAD
        self._opened = time.monotonic_ns()
        self._known = False  # whether it has shown credentials, where clients need them
        self._since = self._opened  # when it came, or the first bytes of a request, or the last answer went
        self._data = b""  # read, not looked at yet
        self._raw: bytes | None = None  # the head before, as sent: clients repeat themselves
        self._request: Request = t.cast(Request, None)
        self._route: t.Any = None
        self._body: bytearray | Chunks = bytearray()
        self._held = 0
        self._paused = False
        self._ended = False  # the client sends no more, and waits for answers
        # What it has read of its answers (see _reads), and when that was last seen to grow.
        self._taken = 0
        self._read_at = 0

    # --- after the last answer ---

    def _let_go(self) -> None:
        """The body is not needed any more."""
        self._all.held -= self._held
        self._held = 0

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
        self._state = LAST
        self._let_go()
        self._data = b""
        self._body = bytearray()
        self._close(linger)

    def _close(self, linger: bool) -> None:
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
        state, everybody, transport = self._state, self._all, self._transport
        unsent = transport.get_write_buffer_size()
        if state == AWAY:
            if age > _LINGER:
                transport.abort()
        elif (unsent or state == LAST) and not self._reads(now, unsent):
            transport.abort()
        elif state == BODY:
            if age > everybody.read_seconds:
                self._stop_reading(_late(everybody.read_seconds))
        elif state == HEAD:
            if self._data:
                if age > everybody.read_seconds and not self._paused:
                    self._broken(_late(everybody.read_seconds))
            elif not unsent and age > self._patience():
                self._last(linger=False)
        elif state == ANSWER and self._ended and tcp(transport).reset:
            transport.abort()  # nothing else tells of it: asyncio has stopped to read

    def _reads(self, now: int, unsent: int) -> bool:
        """Return whether the client goes on reading what it was answered, or has read it a short while ago."""
        known = tcp(self._transport)
        limit = self._all.idle_seconds if unsent or known.waiting else _LINGER
        return now - self._last_read(now, known.acknowledged - unsent) <= limit * 1e9

    def _last_read(self, now: int, taken: int) -> int:
        """Return when the client was last seen to read.

        :param taken: what grows as it does.
        """
        if taken > self._taken:
            self._read_at = now
        self._taken = taken
        return max(self._since, self._read_at)

    def _patience(self) -> float:
        """Return how many seconds the connection may wait for a request: the first one must come soon."""
        everybody = self._all
        return everybody.idle_seconds if self._raw else min(everybody.read_seconds, everybody.idle_seconds)

    def close_if_idle(self, before: int) -> None:
        """Close the connection if its client has asked nothing since *before* (``time.monotonic_ns()``)."""
        if self._state == HEAD and not self._data and self._since <= before:
            self._last(linger=False)

    # --- eviction ---

    def rank(self, now: int) -> eviction.Rank | None:
        """See :class:`.eviction.Evictable`: first those without credentials where clients need them, then those that keep a
        request back, their first one or one that has hardly begun, then those between two requests.
        """
        state = self._state
        if self.unknown:
            settled = state != AWAY and now - self._opened >= eviction.SETTLE_NS
            return (eviction.UNKNOWN, self._opened) if settled else None
        age = now - self._since
        if age < eviction.SETTLE_NS or state > BODY:
            return None
        if self._paused:
            return eviction.SLOW, self._since
        received = len(self._data) + self._held
        if received > age * eviction.LEAST_RATE / 1e9:
            return None
        between = bool(self._raw) and not received and state == HEAD
        return eviction.IDLE if between else eviction.SLOW, self._since

    @property
    def unknown(self) -> bool:
        """See :class:`.eviction.Evictable`."""
        return self._all.guarded and not self._known

    def give_way(self) -> bool:
        """See :class:`.eviction.Evictable`."""
        if not self.unknown:
            unsent, known, now = self._transport.get_write_buffer_size(), tcp(self._transport), time.monotonic_ns()
            if unsent or known.waiting:
                last = self._last_read(now, known.acknowledged - unsent)
                if now - last <= self._all.read_seconds * 1e9:
                    return False
        self._all.open.discard(self)  # it is lost in the next turn of the event loop only
        self._transport.abort()
        return True

    def _turn_away(self) -> None:
        """Say that there are too many connections, before anything is asked: the client reads it as the answer to that."""
        everybody = self._all
        everybody.rejected("connections")
        everybody.turned_away += 1
        self._state = AWAY
        if everybody.turned_away > _TOLD:
            self._transport.abort()
            return
        self._transport.write(_TOO_MANY)
        self._close(linger=True)


def _late(seconds: float) -> RequestError:
    return RequestError(408, f"the request did not arrive within {seconds:g} seconds")


_TOO_MANY_BODY = b'{"error":"too many connections"}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)
