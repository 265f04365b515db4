# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a service whether it is ready: a TCP port, an HTTP URL, or HTTP over a Unix socket."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import ssl
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .._core.values import texts
from .._http import tls
from .._http.connection import Connection, target_of
from .._http.origin import parse_origin
from . import proc

#: How much of an answer's body is kept, in bytes.
_BODY_LIMIT = 1 << 16
#: How long one question may take, in seconds.
_QUESTION_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Ready:
    """What a ready service answers.

    :param tcp: ``host:port`` that accepts connections.
    :param url: http or https URL that answers with one of *status*; its certificate is not judged.
    :param unix: socket over which *url* is asked.
    :param status: HTTP codes of a ready service.
    :param headers: header names and the values they must have (compared without regard to case).
    :param timeout: seconds after which a service that is started counts as failed.
    """

    tcp: str | None = None
    url: str | None = None
    unix: str | None = None
    status: tuple[int, ...] = (200,)
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    timeout: float = 30.0

    @classmethod
    def parse(cls, options: dict[str, t.Any] | None) -> Ready | None:
        """Build it from the module's option ``ready``.

        :raises ModelshipError: an address that cannot be asked.
        """
        if not options:
            return None
        ready = cls(
            tcp=options.get("tcp"),
            url=options.get("url"),
            unix=options.get("unix"),
            status=tuple(options.get("status") or (200,)),
            headers=texts(options.get("headers"), "ready.headers"),
            timeout=float(options.get("timeout") or 30.0),
        )
        if ready.unix and not ready.url:
            raise ModelshipError("ready.unix says over which socket, ready.url must say what to ask: give both")
        ready.address()
        return ready

    def address(self) -> tuple[str, int] | None:
        """Return host and TCP port, or ``None`` for a Unix socket.

        :raises ModelshipError: neither ``host:port`` nor an http URL.
        """
        if self.unix:
            try:
                parse_origin(str(self.url))
            except ValueError as exc:
                raise ModelshipError(f"ready.url: '{self.url}' is not an HTTP URL: {exc}") from exc
            return None
        parts = urllib.parse.urlsplit(f"tcp://{self.tcp}" if self.tcp else self.url or "")
        with contextlib.suppress(ValueError):
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
            if parts.hostname and port and (self.tcp or parts.scheme in ("http", "https")):
                return parts.hostname, port
        raise ModelshipError(
            f"'{self.tcp or self.url}' cannot be asked: ready.tcp is host:port, ready.url an http or https URL"
        )

    @property
    def place(self) -> str:
        """Where the service answers, for messages."""
        return self.unix or self.tcp or str(self.url)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was answered.

    :param ready: it is what a ready service answers.
    :param occupied: something took the connection, whatever it said.
    :param status: HTTP code, 0 where there was none.
    :param body: text of the answer, at most 64 KiB.
    """

    ready: bool
    occupied: bool
    status: int = 0
    body: str = ""


def ask(ready: Ready) -> Answer:
    """Ask once."""
    where = ready.address()
    if ready.tcp and where:
        open_ = proc.connects(*where)
        return Answer(ready=open_, occupied=open_)
    connection = _connection(ready)
    try:
        try:
            connection.connect()
        except ssl.SSLError:
            return Answer(ready=False, occupied=True)
        except PermissionError as exc:
            raise ModelshipError(
                f"permission denied on {ready.place}: needs root (become: true), or a user who may use it; "
                "nothing was changed",
                kind="permission",
            ) from exc
        except OSError:
            return Answer(ready=False, occupied=False)
        try:
            response = connection.ask("GET", target_of(ready.url or ""))
            body = response.read(_BODY_LIMIT).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return Answer(ready=False, occupied=True)
    finally:
        connection.close()
    fits = response.status in ready.status and all(
        response.getheader(name, "").lower() == value.lower() for name, value in ready.headers.items()
    )
    return Answer(ready=fits, occupied=True, status=response.status, body=body)


def occupant(ready: Ready) -> str:
    """Say who takes the connections there, as far as it can be seen."""
    where = ready.address()
    pid = proc.listener(where[1]) if where else None
    return proc.describe(pid) if pid else "another process"


def how_to_stop(ready: Ready) -> str:
    """Say how to end who takes the connections there; a service of systemd would be back after the next boot."""
    where = ready.address()
    pid = proc.listener(where[1]) if where else None
    unit = proc.unit(pid) if pid else None
    return f"stop and disable it (systemctl disable --now {unit})" if unit else "stop it"


def _connection(ready: Ready) -> Connection:
    """Return a connection to the service: a process of this host, so that proxies have no part in it."""
    origin = parse_origin(str(ready.url))
    # Whether the process is up does not depend on its certificate, which its clients verify.
    context = tls.client_context(verify=False) if origin.scheme == "https" else None
    return Connection(origin, timeout=_QUESTION_SECONDS, context=context, unix=ready.unix)
