# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connection is closed for a new one where a worker has as many as it may (HTTP/1 and HTTP/2 alike).

Where clients need credentials, connections that have not shown any are closed first, a moment after they came, whatever they
send: a client with credentials would be turned away in their favour. And as new connections have not shown any either, those of
clients that have are closed only for a share of them: a flood of new connections does not take the place of known clients.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable, Iterable
from operator import itemgetter

#: A connection is left alone for so long after it came or sent something, and as long as what it sends of a request amounts
#: to so many bytes a second.
SETTLE_NS = 1_000_000_000
LEAST_RATE = 1000
#: Looking for connections to close takes one part in so many of a worker's time, however many new ones there are.
_LOOKING_SHARE = 20
#: First part of a :data:`Rank`: without credentials where they are needed; keeps a request back; is between two requests.
UNKNOWN, SLOW, IDLE = range(3)

#: The least is closed first: kind of connection, and ``time.monotonic_ns()`` since when.
Rank = tuple[int, int]


#: Share of the connections that may be open which those without credentials can take from idle clients that have shown some.
_NEW_SHARE = 0.25


class Evictable(t.Protocol):
    """A connection that may be closed for another one."""

    @property
    def unknown(self) -> bool:
        """Whether it has not shown credentials although clients need them."""

    def rank(self, now: int) -> Rank | None:
        """Return when its turn is to be closed, or ``None`` to keep it.

        :param now: ``time.monotonic_ns()``.
        """

    def give_way(self) -> bool:
        """Close the connection and return whether it is closed.

        Not if there is something that its client has not read yet, unless that client has no credentials, or has read nothing
        for as long as a request may take.
        """


Kind = t.TypeVar("Kind", bound=Evictable)


class Eviction(t.Generic[Kind]):
    """Chooses among the connections of one listener and worker.

    :param connections: the open ones.
    :param most: how many may be open.
    :param rejected: called with a reason of :data:`.metrics.REASONS` for each that is closed.
    """

    def __init__(self, connections: Iterable[Kind], most: int, rejected: Callable[[str], None]) -> None:
        self._connections = connections
        self._rejected = rejected
        self._most_new = max(1, int(_NEW_SHARE * most))
        #: Connections without credentials when all were looked at, and those for which a client with some was closed since.
        self._new = 0
        #: Candidates, the first one to close last, each with its rank.
        self._candidates: list[tuple[Rank, Kind]] = []
        self._look_again = 0

    def make_room(self) -> bool:
        """Close the connection that is worth least, for one that has just come; return whether there was one.

        All are looked at together, and then closed one by one: a flood of new ones costs no more than it must.
        """
        now = time.monotonic_ns()
        if not self._candidates and now >= self._look_again:
            began = time.thread_time_ns()
            found = [(rank, each) for each in self._connections if (rank := each.rank(now))]
            self._new = sum(each.unknown for each in self._connections)
            self._candidates = sorted(found, key=itemgetter(0), reverse=True)
            self._look_again = now + _LOOKING_SHARE * (time.thread_time_ns() - began)
        while self._candidates:
            rank, connection = self._candidates.pop()
            if rank[0] != UNKNOWN and self._new > self._most_new:
                return False
            if connection.rank(now) == rank and connection.give_way():
                self._rejected("connections")
                # Where no credentials are needed nobody is unknown, and nothing is to be counted.
                self._new += bool(self._new) and rank[0] != UNKNOWN
                return True
        return False

    def reset(self) -> None:
        """Forget the candidates; to be called about every second."""
        self._candidates = []
        self._look_again = 0
