# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers, as the handlers see them."""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable, Callable, Mapping, Sequence


class Request:
    """A request that has arrived whole.

    :ivar method: upper case.
    :ivar path: without the query, percent-decoded once.
    :ivar query: as sent, without ``?``.
    :ivar headers: by lower-case name; the values of repeated ones are joined by ``", "``.
    :ivar body: the content, of at most ``max_body_bytes``.
    :ivar peer: ``address:port`` of the client.
    :ivar certificate: the client's certificate as ``ssl.SSLSocket.getpeercert`` gives it.
    :ivar id: the ``x-request-id`` that was given, or one made here.
    :ivar deadline: ``time.monotonic()`` at which the client gives up.
    :ivar started: ``time.monotonic_ns()`` at which its first bytes were read.
    :ivar trace: headers to pass on; ``trace_id``: out of these, for logs.
    :ivar connection: the ``connection`` header of the answer, or "".
    :ivar admitted: whether credentials that the path needs were shown.
    """

    __slots__ = (
        "admitted",
        "body",
        "certificate",
        "connection",
        "deadline",
        "headers",
        "id",
        "method",
        "path",
        "peer",
        "query",
        "started",
        "trace",
        "trace_id",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        peer: str = "",
        certificate: Mapping[str, t.Any] | None = None,
        id: str = "",
        deadline: float | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers if headers is not None else {}
        self.body = body
        self.peer = peer
        self.certificate = certificate
        self.id = id
        self.deadline = deadline
        self.started = 0
        self.trace: tuple[tuple[str, str], ...] = ()
        self.trace_id = ""
        self.connection = ""
        self.admitted = False


class Response:
    """An answer.

    :param headers: further ones, names in lower case; ``modelship-release`` here replaces that of the default version.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers


#: A plain function answers at once, without a task; one that has to wait returns an awaitable.
Handler = Callable[[Request], Response | Awaitable[Response]]
