# SPDX-License-Identifier: GPL-3.0-or-later
"""A document from an https URL: every hop over TLS, all of it within one deadline, of a limited size.

``urllib`` alone bounds each wait for data, not their sum, follows redirects to plain HTTP, and reads their bodies whole.
Proxies are those of the environment (``https_proxy``, ``no_proxy``); they only get to see a tunnel.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import typing as t
import urllib.parse
import urllib.request

_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 65536


def fetch(url: str, seconds: float, most_bytes: int, accept: str = "application/json") -> bytes:
    """Return the body of the response to a GET request.

    :param seconds: for everything: names, connections, handshakes, redirects and the body.
    :param most_bytes: longest body.
    :param accept: media type that is asked for.
    :raises OSError, ValueError, http.client.HTTPException: a hop is not https, cannot be reached or trusted, responds with
        another status than 200, with too much, or not in time (:class:`TimeoutError`).
    """
    transfer = _Transfer(url, time.monotonic() + seconds, most_bytes, accept)
    # A thread of its own: a name that does not resolve cannot be given up in any other way.
    thread = threading.Thread(target=transfer.run, name="fetch", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        transfer.abort()
        raise TimeoutError(f"no complete response within {seconds:g} seconds")
    if transfer.error is not None:
        raise transfer.error
    return transfer.body


def check_https(url: str) -> None:
    """Check that *url* is one that :func:`fetch` may ask.

    :raises ValueError: it is not https, or has no host.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"'{parts.scheme}://{parts.hostname or ''}' is not an https address")
    if "@" in parts.netloc:
        raise ValueError("user and password in an address are not used")


class _Transfer:
    """One fetch, and the sockets that end it.

    :ivar body: what was read; ``error``: what went wrong instead.
    """

    def __init__(self, url: str, deadline: float, most_bytes: int, accept: str) -> None:
        self.body = b""
        self.error: Exception | None = None
        self.sockets: list[socket.socket] = []
        self._url = url
        self._deadline = deadline
        self._most = most_bytes
        self._accept = accept
        self._aborted = False
        self._opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _Https(self)):
            self._opener.add_handler(handler)

    def run(self) -> None:
        """Fetch; called in a thread of its own."""
        try:
            self.body = self._follow()
        except Exception as exc:  # noqa: BLE001 - raised again in the thread that waits
            self.error = exc

    def abort(self) -> None:
        """Have reads that are under way end at once."""
        self._aborted = True
        for each in list(self.sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # not that of TLS, which is not for two threads

    def keep(self, connection: socket.socket) -> None:
        """Note a socket that :meth:`abort` has to shut down."""
        self.sockets.append(connection)
        if self._aborted:
            self.abort()

    def _follow(self) -> bytes:
        url = self._url
        for _hop in range(_MOST_REDIRECTS + 1):
            check_https(url)
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no complete response in time")
            request = urllib.request.Request(url, headers={"accept": self._accept})  # noqa: S310 - https, see above
            with t.cast(http.client.HTTPResponse, self._opener.open(request, timeout=left)) as response:
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or not location:
                    return self._read(response)
            url = urllib.parse.urljoin(url, location)
        raise ValueError(f"more than {_MOST_REDIRECTS} redirects")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status != 200:
            raise ValueError(f"status {response.status} {response.reason}")
        found = bytearray()
        while part := response.read1(_CHUNK):
            found += part
            if len(found) > self._most:
                raise ValueError(f"more than {self._most} bytes")
        return bytes(found)


class _Https(urllib.request.HTTPSHandler):
    """Opens https only, with connections that the transfer knows."""

    def __init__(self, transfer: _Transfer) -> None:
        super().__init__()
        self._transfer = transfer

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See :class:`urllib.request.HTTPSHandler`."""

        context = ssl.create_default_context()
        # On from Python 3.13: authorities of companies often miss an extension that it asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT

        def connect(host: str, **options: t.Any) -> _Connection:
            return _Connection(self._transfer, host, context=context, **options)

        return self.do_open(t.cast(t.Any, connect), req)


class _Connection(http.client.HTTPSConnection):
    def __init__(self, transfer: _Transfer, host: str, **options: t.Any) -> None:
        super().__init__(host, **options)
        self._transfer = transfer

    def connect(self) -> None:
        """Connect; through a proxy if one is set."""
        make = socket.create_connection

        def create(*given: t.Any) -> socket.socket:
            made = make(*given)
            self._transfer.keep(made)
            return made

        self._create_connection = create
        super().connect()
        self._transfer.keep(self.sock)
