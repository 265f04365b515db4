# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of connections, classified for retries and translated for messages."""

from __future__ import annotations

import os
import socket
import ssl
import typing as t

#: A peer that closed a TLS connection without a close_notify alert; all other TLS errors are failed handshakes.
_TLS_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
#: What OpenSSL says of a peer that speaks something else.
_NOT_TLS = (
    "wrong version number",
    "record layer failure",
    "packet length too long",
    "http request",
    "unknown protocol",
)


class ProxyRefusedError(Exception):
    """A proxy did not connect us to the server, but responded with *status*."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Advice(t.NamedTuple):
    """What a client's messages say to do; empty where there is nothing to say.

    :param certificate: the server's certificate is not trusted.
    :param client_certificate: the server rejects the client's.
    :param plain: the server does not speak TLS.
    :param refused: nothing listens.
    """

    certificate: str = ""
    client_certificate: str = ""
    plain: str = ""
    refused: str = ""


_NONE = Advice()


def is_closed(exc: BaseException) -> bool:
    """Return whether the peer closed the connection before it responded: the request may succeed over a new one."""
    # http.client.RemoteDisconnected is a ConnectionResetError
    return isinstance(exc, (ConnectionResetError, BrokenPipeError, *_TLS_CLOSED))


def is_permanent(exc: BaseException) -> bool:
    """Return whether a retry cannot help: a certificate, a name or a proxy's password is wrong."""
    if isinstance(exc, ssl.SSLError):
        return not isinstance(exc, _TLS_CLOSED)
    if isinstance(exc, ProxyRefusedError):
        return exc.status < 500
    return isinstance(exc, socket.gaierror) and exc.errno != socket.EAI_AGAIN


def explain(exc: BaseException, host: str, timeout: float, advice: Advice = _NONE) -> str:
    """Return in a few words why *host* could not be reached, or did not respond completely.

    :param timeout: seconds that were waited.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        # OpenSSL's own words for a wrong host name end with a dot
        reason = exc.verify_message.rstrip(".")
        return _with(f"its certificate is not trusted ({reason})", advice.certificate)
    if isinstance(exc, ssl.SSLError) and is_permanent(exc):
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        if any(text in reason for text in _NOT_TLS):
            return _with("it does not speak TLS there", advice.plain)
        if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
            return _with(f"it does not accept the client certificate ({reason})", advice.client_certificate)
        return f"TLS failed ({reason})"
    if isinstance(exc, socket.gaierror):
        return f"the name '{host}' cannot be resolved ({(exc.strerror or str(exc)).lower()})"
    if isinstance(exc, ConnectionRefusedError):
        return _with("connection refused", advice.refused)
    if isinstance(exc, TimeoutError):
        return f"no response within {timeout:g} s"
    if is_closed(exc):
        return "it closed the connection"
    if isinstance(exc, OSError) and exc.errno:
        return (exc.strerror or os.strerror(exc.errno)).lower()
    partial = getattr(exc, "partial", None)  # http.client.IncompleteRead
    if isinstance(partial, bytes):
        expected = getattr(exc, "expected", None)
        return f"the response ended after {len(partial)} bytes" + (f", {expected} are missing" if expected else "")
    return (str(exc) or type(exc).__name__).lower()


def _with(text: str, advice: str) -> str:
    return f"{text}: {advice}" if advice else text
