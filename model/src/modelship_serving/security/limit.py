# SPDX-License-Identifier: GPL-3.0-or-later
"""A rate limit per principal, in memory shared by all workers.

Shared, not split evenly: the kernel gives a connection to one worker for its whole life, so a client with one connection
would get only that worker's part. The token bucket is kept as one number, the time at which it is full again (the generic
cell rate algorithm, ITU-T I.371), so one 64-bit cell holds a whole bucket and needs no lock, which a killed worker could
take along. What other workers take between one's reading and writing (a microsecond) is not counted: a few requests more
than the limit may pass, and never one less.
"""

from __future__ import annotations

import mmap
import time

_TICKS = 1_000_000  # a second
_TIME_BITS = 48  # of microseconds: the machine may be up for eight years
_TIME_MASK = (1 << _TIME_BITS) - 1
_PROBES = 8


class Limiter:
    """Buckets of principals; made before the workers are forked.

    :param rate: requests a second and principal that go on for ever.
    :param burst: requests that may come at once after a pause, at least 1.
    :param slots: how many principals can have less than a full bucket at one time; with more, those that have waited
        longest get a full one.
    """

    def __init__(self, rate: float, burst: float, slots: int = 4096) -> None:
        self._cells = memoryview(mmap.mmap(-1, slots * 8)).cast("Q")
        self._slots = slots
        self._interval = _TICKS / rate
        self._depth = int((max(burst, 1.0) - 1.0) * self._interval)

    def take(self, principal: str) -> float:
        """Take one request from *principal*'s bucket; return 0, or the seconds until there is one again.

        The hash is Python's own: keyed at random when the server starts, and the same in all workers forked from it.
        """
        now = time.monotonic_ns() // 1000
        number = hash(principal) & 0xFFFFFFFFFFFFFFFF
        tag = ((number >> _TIME_BITS) or 1) << _TIME_BITS
        index = number % self._slots
        full = self._cells[index] ^ tag
        if full > _TIME_MASK:  # another's cell, or nobody's yet
            index, full = self._find(number, tag, now)
        if full < now:
            full = now
        elif full - now > self._depth:
            return (full - now - self._depth) / _TICKS
        self._cells[index] = tag | (int(full + self._interval) & _TIME_MASK)
        return 0.0

    def _find(self, number: int, tag: int, now: int) -> tuple[int, int]:
        """Return the principal's cell and the time when its bucket is full; a cell whose bucket is full is as good as empty."""
        cells, free, soonest = self._cells, -1, 0
        for step in range(_PROBES):
            index = (number + step) % self._slots
            cell = cells[index]
            full = cell & _TIME_MASK
            if cell & ~_TIME_MASK == tag:
                return index, full
            if free < 0 or full < soonest:
                free, soonest = index, full
        return free, now
