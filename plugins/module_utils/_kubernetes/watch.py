# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching a kind: one stream of events that goes on over ended connections."""

from __future__ import annotations

import json
import threading
import time
import typing as t

from .errors import ApiError, BrokenAnswerError, is_permanent
from .transport import Answer, Request, Transport

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

    :param path: returns path and query of a watch that begins at the resourceVersion it is given.
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

    def events(self) -> t.Iterator[tuple[str, Object]]:
        """Yield (``ADDED`` | ``MODIFIED`` | ``DELETED``, object), and (``SYNC``, list) after a gap; see ``Api.watch``."""
        delay, away_since = _FIRST_DELAY_S, None
        while not self._stop.is_set():
            heard = False
            try:
                for event in self._once():
                    heard = True
                    yield event
            except _StoppedError:
                return
            except _GoneError:
                listed = self._relist()
                self._version = listed["metadata"]["resourceVersion"]
                yield "SYNC", listed
                continue
            except ApiError as exc:
                if exc.status not in (429, 500, 502, 503, 504):
                    raise
                problem: Exception = exc
            except (OSError, BrokenAnswerError, ValueError) as exc:
                if is_permanent(exc):
                    raise self._transport.lost(self._request(), exc) from exc
                problem = exc
            else:
                heard, problem = True, TimeoutError()  # the server ended it, as it does from time to time
                delay = 0.0
            if heard:
                away_since = None
                delay = min(delay, _FIRST_DELAY_S)
            elif away_since is None:
                away_since = time.monotonic()
            elif time.monotonic() - away_since > _PATIENCE_S:
                raise problem if isinstance(problem, ApiError) else self._transport.lost(self._request(), problem)
            self._stop.wait(delay)
            delay = min(max(delay, _FIRST_DELAY_S) * 2, _LONGEST_DELAY_S)

    def _request(self) -> Request:
        return Request("GET", self._path(self._version, _WATCH_S), repeatable=True)

    def _once(self) -> t.Iterator[tuple[str, Object]]:
        request, transport = self._request(), self._transport
        generation = transport.access.credentials.generation
        head, connection = transport.stream(request)
        try:
            if head.status != 200:
                answer = Answer(head.status, head.headers, b"".join(connection.body(head)))
                if head.status == 410:
                    raise _GoneError
                if head.status == 401 and transport.access.credentials.renew(generation):
                    return
                raise transport.refusal(request, answer)
            heard_at = [time.monotonic()]

            def look() -> None:
                while not connection.readable(_LOOK_S):
                    if self._stop.is_set():
                        raise _StoppedError
                    if time.monotonic() - heard_at[0] > _SILENCE_S:
                        raise TimeoutError
                heard_at[0] = time.monotonic()

            connection.before_read = look
            rest = b""
            for piece in connection.body(head):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        event = self._event(json.loads(line))
                        if event is not None:
                            yield event
            transport.keep(connection)
        except BaseException:
            connection.close()
            raise

    def _event(self, event: Object) -> tuple[str, Object] | None:
        kind, obj = str(event["type"]), event["object"]
        if kind == "ERROR":
            code = int(obj.get("code") or 500)
            if code == 410:
                raise _GoneError
            raise ApiError(f"the watch ended: {obj.get('message')}", status=code, reason=str(obj.get("reason") or ""))
        self._version = obj["metadata"]["resourceVersion"]
        return None if kind == "BOOKMARK" else (kind, obj)
