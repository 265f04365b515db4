# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 connections with the collection's proxy and TLS policies; standard library only."""

from __future__ import annotations

import dataclasses
import http.client
import os
import socket
import ssl
import typing as t
import urllib.parse

from .errors import is_permanent
from .origin import Origin
from .proxy import Proxy
from .tls import client_context

#: Seconds to wait for a response that the server may have sent before it closed the connection.
_EARLY_S = 2.0


class _Response(http.client.HTTPResponse):
    """A response after all interim ones (1xx), of which the standard library skips 100 (Continue) alone."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status in (100, 101) or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


class Connection(http.client.HTTPConnection):
    """A connection to *origin*, opened with the first request.

    :param timeout: seconds for connecting and for each read.
    :param context: TLS settings for an HTTPS origin; by default those that trust the system's authorities.
    :param proxy: through which to connect; ``None``: directly.
    :param unix: path of a Unix socket to connect to in place of the host.
    """

    response_class = _Response

    def __init__(
        self,
        origin: Origin,
        *,
        timeout: float,
        context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        unix: str | None = None,
    ) -> None:
        super().__init__(origin.host, origin.port, timeout=timeout)
        # so that the header Host leaves the port out
        self.default_port = 443 if origin.scheme == "https" else 80
        self.origin = origin
        self.proxy = proxy
        self._seconds = timeout
        self._context = (context or client_context()) if origin.scheme == "https" else None
        self._unix = unix

    @property
    def forwards(self) -> bool:
        """The proxy is sent whole requests (plain HTTP) rather than asked for a tunnel."""
        return self.proxy is not None and not self.proxy.socks and self.origin.scheme == "http"

    def connect(self) -> None:
        """Connect, through the proxy, with TLS for an HTTPS origin.

        :raises OSError: as the socket, the resolver and TLS do.
        :raises ProxyRefusedError: the proxy does not connect it.
        """
        sock = self._dial()
        try:
            if self.proxy is not None and not self.forwards:
                self.proxy.connect(sock, self.origin.host, self.origin.port)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname=self.origin.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def ask(
        self, method: str, target: str, body: t.Any = None, headers: t.Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request and return its response, of which the body has still to be read.

        A server that rejects a large body responds, and closes the connection, while the body is still being sent: that
        response is returned, not the error that sending ended with.

        :param target: path and query.
        :raises OSError, http.client.HTTPException: no response came.
        :raises ProxyRefusedError: the proxy requires credentials, or does not connect.
        """
        sent = dict(headers or {})
        if self.forwards:
            target = f"{self.origin}{target}"
            if self.proxy is not None and self.proxy.authorization:
                sent["Proxy-Authorization"] = self.proxy.authorization
        try:
            self.request(method, target, body=body, headers=sent)
        except OSError:
            response = self._early_response()
            if response is None:
                raise
        else:
            response = self.getresponse()
        if response.status == 407 and self.forwards and self.proxy is not None:
            self.close()
            raise self.proxy.unauthorized()
        return response

    def _early_response(self) -> http.client.HTTPResponse | None:
        """Return what a server sent before it stopped reading the request, or ``None``."""
        if self.sock is None:
            return None
        try:
            self.sock.settimeout(_EARLY_S)
            response = self.getresponse()
        except ssl.SSLError as exc:
            if is_permanent(exc):
                raise  # an alert, which says why the connection was closed
            return None
        except (OSError, http.client.HTTPException):
            return None
        response.will_close = True
        return response

    def _dial(self) -> socket.socket:
        if self._unix is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._seconds)
                sock.connect(os.fspath(self._unix))
            except BaseException:
                sock.close()
                raise
            return sock
        host, port = (self.proxy.host, self.proxy.port) if self.proxy else (self.origin.host, self.origin.port)
        sock = socket.create_connection((host, port), self._seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


@dataclasses.dataclass(frozen=True)
class Response:
    """A response whose body has been read.

    :param url: absolute URL that responded: that of the request, or the one it was redirected to.
    """

    url: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class ConnectionFailedError(Exception):
    """No response came from *origin* because of *cause*; *proxy* is the one it was reached through, or ``None``."""

    def __init__(self, cause: Exception, origin: Origin, proxy: Proxy | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.origin = origin
        self.proxy = proxy


def target_of(url: str) -> str:
    """Return path and query of *url*, as a request line has them."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
