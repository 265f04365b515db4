# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP connections of a worker: how many there are, and what they may take together."""

from __future__ import annotations

import os
import time
import typing as t
from collections.abc import Awaitable, Callable

from .errors import RequestError
from .eviction import Eviction
from .http import Request
from .http1 import Connection
from .settings import Settings

_BUFFER = 65536
#: With this share of the connections open that may be, credentials are asked for before a body is read, however short it is.
_CROWDED = 0.75


class Application(t.Protocol):
    """What answers the requests of a worker's connections. Its methods raise nothing."""

    def begin(self) -> None:
        """Count a request in, once its head is there."""

    def admit(self, request: Request) -> t.Any:
        """Decide by the headers alone whether the body is to be read; return the route, or the error to respond with."""

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
        #: How many of them only receive a 503: there are too many.
        self.turned_away = 0
        self.buffer = memoryview(bytearray(_BUFFER))
        self.max_body = settings.max_body_bytes
        self.max_connections = settings.max_connections
        #: Whether clients need credentials.
        self.guarded = settings.guarded
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
        self._eviction: Eviction[Connection] = Eviction(self.open, self.max_connections, rejected)

    def __call__(self) -> Connection:
        return Connection(self)

    def make_id(self) -> str:
        """Return a request id that no other request has."""
        self._made += 1
        return f"{self._prefix}{self._made:010x}"

    @property
    def served(self) -> int:
        """Open connections other than those that only receive a 503."""
        return len(self.open) - self.turned_away

    @property
    def crowded(self) -> bool:
        """Whether connections run short."""
        return self.served >= _CROWDED * self.max_connections

    def make_room(self) -> bool:
        """Close the connection that is worth least, for one that has just come; return whether there was one."""
        return self._eviction.make_room()

    def sweep(self) -> None:
        """Close the connections whose time is over; to be called about every second."""
        self._eviction.reset()
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.check_time(now)

    def close_idle(self, seconds: float) -> None:
        """Close those that have not been asked anything for this long."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.close_if_idle(now - int(seconds * 1e9))
