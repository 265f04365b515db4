# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between this process and a Kubernetes API server, told so that a user can act on it."""

from __future__ import annotations

import socket
import ssl
import typing as t

from .._core.errors import ModelshipError

#: Cause of a 409 that tells that another field manager owns a declared field.
FIELD_CONFLICT = "FieldManagerConflict"


class ApiError(ModelshipError):
    """The API server refused a request, or could not be reached (``status`` 0).

    :param status: HTTP status; 0 where no answer came.
    :param reason: machine-readable reason of the server's ``Status`` object (``Forbidden``, ``AlreadyExists`` …).
    :param causes: ``details.causes`` of the ``Status``: dicts with ``reason``, ``message``, ``field``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: list[dict[str, t.Any]] | None = None,
        kind: str = "kubernetes",
    ) -> None:
        super().__init__(message, kind=kind)
        self.status = status
        self.reason = reason
        self.causes = causes or []

    @property
    def unreachable(self) -> bool:
        """No answer came at all."""
        return self.status == 0

    @property
    def field_conflict(self) -> bool:
        """Another field manager owns a declared field."""
        return self.status == 409 and any(cause.get("reason") == FIELD_CONFLICT for cause in self.causes)


class BrokenAnswerError(Exception):
    """The connection ended before, or within, an answer, or what came is no HTTP."""


class ProxyRefusedError(Exception):
    """A proxy did not connect us to the server, but answered *status*."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def is_permanent(exc: BaseException) -> bool:
    """Tell whether trying again cannot help: a certificate, a name or a proxy's password is wrong."""
    if isinstance(exc, ssl.SSLError):  # all but a connection that was cut, as by a server that is starting
        return not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    if isinstance(exc, ProxyRefusedError):
        return exc.status < 500
    return isinstance(exc, socket.gaierror) and exc.errno != socket.EAI_AGAIN


def explain(exc: BaseException, host: str, timeout: float) -> str:
    """Say in a few words why *host* could not be reached."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({exc.verify_message}): give the right certificate authority (ca_path, or "
            "certificate-authority in the kubeconfig), or tls_server_name if it is known by another name"
        )
    if isinstance(exc, ssl.SSLError) and is_permanent(exc):
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        if "wrong version number" in reason or "record layer failure" in reason:
            return "it does not speak TLS there: is the port right, or should the URL begin with http://?"
        if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
            return f"it does not accept the client certificate ({reason})"
        return f"TLS failed ({reason})"
    if isinstance(exc, socket.gaierror):
        return f"the name '{host}' cannot be resolved ({(exc.strerror or str(exc)).lower()})"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused: is the API server running, and are address and port right?"
    if isinstance(exc, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(exc, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it closed the connection"
    return (getattr(exc, "strerror", None) or str(exc) or type(exc).__name__).lower()
