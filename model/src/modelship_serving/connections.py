# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP connections of a worker: how many there are, what they may take together, and who goes where all places are taken."""

from __future__ import annotations

import os
import time
import typing as t
from collections.abc import Awaitable, Callable
from operator import itemgetter

from .errors import RequestError
from .http import Request
from .http1 import Connection
from .settings import Settings

_BUFFER = 65536
#: Looking for connections that can go takes one part in so many of a worker's time, however many newcomers there are.
_LOOKING_SHARE = 20


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
        #: How many of them are only told that there are too many.
        self.turned_away = 0
        self.buffer = memoryview(bytearray(_BUFFER))
        self.max_body = settings.max_body_bytes
        self.max_connections = settings.max_connections
        self.read_seconds = settings.read_seconds
        self.idle_seconds = settings.idle_seconds
        self.deadline = settings.deadline_ms / 1000
        #: Bytes of bodies that are being read or worked on, other than those that came in one piece; and how many may be.
        self.held = 0
        self.most_held = settings.most_held
        self.opened = opened
        self.rejected = rejected
        self._made = 0
        self._prefix = os.urandom(6).hex()
        #: Those that can go, the first one last, each with what it said of itself.
        self._yielding: list[tuple[tuple[bool, int], Connection]] = []
        self._look_again = 0

    def __call__(self) -> Connection:
        return Connection(self)

    def make_id(self) -> str:
        """Return a request id that no other request has."""
        self._made += 1
        return f"{self._prefix}{self._made:010x}"

    def make_room(self) -> bool:
        """Close the connection that is worth least, for one that has just come; return whether there was one.

        All are looked at together, and then closed one by one: a flood of newcomers costs no more than it must.
        """
        now = time.monotonic_ns()
        if not self._yielding and now >= self._look_again:
            began = time.thread_time_ns()
            found = [(place, connection) for connection in self.open if (place := connection.place(now))]
            self._yielding = sorted(found, key=itemgetter(0), reverse=True)
            self._look_again = now + _LOOKING_SHARE * (time.thread_time_ns() - began)
        while self._yielding:
            place, connection = self._yielding.pop()
            if connection.place(now) == place and connection.give_way():
                self.rejected("connections")
                return True
        return False

    def sweep(self) -> None:
        """Close the connections whose time is over; to be called about every second."""
        self._yielding = []
        self._look_again = 0
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.check_time(now)

    def close_idle(self, seconds: float) -> None:
        """Close those that have not been asked anything for this long."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.close_if_idle(now - int(seconds * 1e9))
