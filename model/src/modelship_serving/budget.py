# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests that wait may take of a worker's memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .errors import RequestError


class Budget:
    """Bytes of the arrays that wait for a worker's models, whichever of them, and of the pictures that wait to be decoded.

    A number of requests alone bounds nothing: one may be thousands of times as large as another, and larger by far than
    what came over the wire.

    :param most: how many may be held.
    :param rejected: called with a reason of :data:`.metrics.REASONS` for each refusal.
    """

    def __init__(self, most: int, rejected: Callable[[str], None]) -> None:
        self.held = 0
        self._most = most
        self._rejected = rejected

    def has_room(self, size: int) -> bool:
        """Return whether *size* more bytes may be held; for what would be alone there always is room."""
        return not self.held or self.held + size <= self._most

    def refusal(self, seconds: int = 1) -> RequestError:
        """Count a refusal, and return it.

        :param seconds: after which it is worth asking again.
        """
        self._rejected("queue_full")
        return RequestError(
            503,
            f"overloaded: what waits takes {self.held >> 20} MB of memory, about the most that it may; try again later",
            ("retry-after", str(seconds)),
        )

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold *size* bytes within a ``with`` block.

        :raises RequestError: 503, there is no room.
        """
        if not self.has_room(size):
            raise self.refusal()
        self.held += size
        try:
            yield
        finally:
            self.held -= size
