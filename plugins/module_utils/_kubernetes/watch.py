# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching a kind: one stream of events that goes on over ended connections."""

from __future__ import annotations

import json
import threading
import time
import typing as t

from .._http.errors import ProxyRefusedError, is_permanent
from .errors import ApiError, BrokenAnswerError
from .transport import BUSY, Answer, Request, Transport
from .wire import Connection

Object = dict[str, t.Any]

#: The server ends a watch after this long; asking anew is cheap and finds connections that nobody closed but are dead.
_WATCH_S = 60
_SILENCE_S = _WATCH_S + 15.0
#: How soon a set ``stop`` is seen.
_LOOK_S = 0.1
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 2.0
#: How long the server may be away before a watch gives up.
_PATIENCE_S = 60.0


class _StoppedError(Exception):
    """The consumer has had enough."""


class _GoneError(Exception):
    """The server does not remember the resourceVersion any more (410): list anew."""


class Watch:
    """The events of what *path* lists, from *version* on.

    :param path: returns path and query of a watch that begins at a resourceVersion and lasts some seconds.
    :param relist: lists anew; returns the list object.
    """

    def __init__(
        self,
        transport: Transport,
        path: t.Callable[[str, int], str],
        relist: t.Callable[[], Object],
        version: str,
        stop: threading.Event,
    ) -> None:
        self._transport = transport
        self._path = path
        self._relist = relist
        self._version = version
        self._stop = stop
        self._vain = 0  # streams since the last event
        self._renewed = False
        self._away_since: float | None = None

    def events(self) -> t.Iterator[tuple[str, Object]]:
        """Yield (``ADDED`` | ``MODIFIED`` | ``DELETED``, object), and (``SYNC``, list) after a gap; see ``Api.watch``."""
        while not self._stop.is_set():
            delay = min(_FIRST_DELAY_S * 2**self._vain, _LONGEST_DELAY_S)
            self._vain = min(self._vain + 1, 10)
            try:
                yield from self._stream()
            except _StoppedError:
                return
            except _GoneError:
                listed = self._relist()
                self._version = listed["metadata"]["resourceVersion"]
                yield "SYNC", listed
            except ApiError as exc:
                if exc.status not in BUSY or self._given_up():
                    raise
            except (OSError, BrokenAnswerError, ProxyRefusedError, ValueError) as exc:
                if is_permanent(exc) or self._given_up():
                    raise self._transport.lost(self._request(), exc) from exc
            self._stop.wait(delay)

    def _given_up(self) -> bool:
        if self._away_since is None:
            self._away_since = time.monotonic()
        return time.monotonic() - self._away_since > _PATIENCE_S

    def _request(self) -> Request:
        accept = (("Accept", "application/json"),)
        return Request("GET", self._path(self._version, _WATCH_S), headers=accept, repeatable=True, verb="watch")

    def _stream(self) -> t.Iterator[tuple[str, Object]]:
        """Yield the events of one answer, until the server ends it."""
        request = self._request()
        generation = self._transport.access.generation()
        head, connection = self._transport.stream(request)
        try:
            if head.status != 200:
                answer = Answer(head.status, head.headers, b"".join(connection.body(head)))
                self._refused(request, answer, generation)
                return
            self._away_since, self._renewed = None, False
            connection.before_read = self._patience(connection)
            rest = b""
            for piece in connection.body(head):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = self._event(json.loads(line)) if line.strip() else None
                    if event is not None:
                        self._vain = 0
                        yield event
            self._transport.keep(connection)
        except BaseException:
            connection.close()
            raise

    def _patience(self, connection: Connection) -> t.Callable[[], None]:
        """Return what waits until there is something to read, the consumer stops, or the server is silent for too long."""

        def wait() -> None:
            until = time.monotonic() + _SILENCE_S
            while not connection.readable(_LOOK_S):
                if self._stop.is_set():
                    raise _StoppedError
                if time.monotonic() > until:
                    raise TimeoutError

        return wait

    def _refused(self, request: Request, answer: Answer, generation: int) -> None:
        if answer.status == 410:
            raise _GoneError
        if answer.status == 401 and not self._renewed and self._transport.access.credentials.renew(generation):
            self._renewed = True
            return
        if self._transport.is_starting(answer):
            return
        raise self._transport.refusal(request, answer)

    def _event(self, event: Object) -> tuple[str, Object] | None:
        kind, obj = str(event["type"]), event["object"]
        if kind == "ERROR":
            status = int(obj.get("code") or 500)
            if status == 410:
                raise _GoneError
            raise self._transport.refusal(self._request(), Answer(status, {}, json.dumps(obj).encode()))
        self._version = obj["metadata"]["resourceVersion"]
        return None if kind == "BOOKMARK" else (kind, obj)
