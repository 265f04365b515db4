# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS: certificate, key and client authorities from files, taken anew when these change.

A changed file makes a whole new context, which new connections get through OpenSSL's server name callback; it is asked at
every handshake, with a name or without. Connections that are open keep what they have. So a file that is broken, or a
certificate whose key is still on its way, changes nothing: the old context stays until both fit.
"""

from __future__ import annotations

import ssl
import typing as t
from collections.abc import Sequence

from ..errors import StartError
from ..logs import Log
from ..settings import Settings
from .watch import reason, stamp

#: For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2). TLS 1.3 has no other.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class ServerContext(ssl.SSLContext):
    """A server's context that gives each new connection the newest usable files; made by :func:`server_context`."""

    def __new__(cls, _settings: Settings, _alpn: Sequence[str]) -> t.Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, settings: Settings, alpn: Sequence[str]) -> None:
        """Load the files.

        :raises StartError: one cannot be used; the message names the setting.
        """
        self._alpn = list(alpn)
        self._paths = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._stamp = stamp(*self._paths)
        _fill(self, self._paths, self._alpn)
        self._current: ssl.SSLContext = self
        self.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._current is not self:
            connection.context = self._current

    def reload(self, log: Log) -> bool:
        """Take changed files; return whether there were any that can be used. Broken ones are logged once."""
        seen = stamp(*self._paths)
        if seen == self._stamp:
            return False
        self._stamp = seen
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            _fill(fresh, self._paths, self._alpn)
        except StartError as exc:
            log.warning("new TLS files are not used, the old ones stay", error=str(exc))
            return False
        self._current = fresh
        log.info("TLS files loaded anew", certificate=self._paths[0])
        return True


def server_context(settings: Settings, alpn: Sequence[str] = ("http/1.1",)) -> ServerContext | None:
    """Return the context of a listener, or ``None`` where no certificate is set.

    :param alpn: protocols offered, the preferred one first (``h2`` for gRPC).
    :raises StartError: a file cannot be used.
    """
    return ServerContext(settings, alpn) if settings.tls_cert else None


def _fill(context: ssl.SSLContext, paths: tuple[str, str, str], alpn: list[str]) -> None:
    certificate, key, authority = paths
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(alpn)
    _readable("MODELSHIP_TLS_CERT", certificate)
    _readable("MODELSHIP_TLS_KEY", key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        raise StartError(
            f"MODELSHIP_TLS_KEY='{key}' is encrypted: there is nobody to ask for its password; "
            "write it without one (openssl pkey)"
        ) from None
    except (OSError, ValueError) as exc:
        raise StartError(_refused(certificate, key, exc)) from exc
    if authority:
        _readable("MODELSHIP_TLS_CLIENT_CA", authority)
        try:
            context.load_verify_locations(authority)
        except (OSError, ValueError) as exc:
            raise StartError(f"MODELSHIP_TLS_CLIENT_CA='{authority}' holds no certificates in PEM") from exc
        # Not CERT_REQUIRED: probes have no certificate, and ask public paths only. Without one the gate refuses all
        # others (403); one that these authorities have not signed ends the handshake.
        context.verify_mode = ssl.CERT_OPTIONAL
        # A resumed session would bring back a client whose authority has been taken out.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedError


def _readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except OSError as exc:
        raise StartError(f"{name}='{path}' cannot be read: {reason(exc)}") from exc


def _refused(certificate: str, key: str, exc: Exception) -> str:
    """Return which of the two files OpenSSL does not like, and why."""
    if getattr(exc, "reason", None) in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return f"MODELSHIP_TLS_KEY='{key}' does not belong to MODELSHIP_TLS_CERT='{certificate}': give the pair"
    if not _holds(certificate, b"CERTIFICATE-----"):
        return f"MODELSHIP_TLS_CERT='{certificate}' holds no certificate in PEM"
    if not _holds(key, b"PRIVATE KEY-----"):
        return f"MODELSHIP_TLS_KEY='{key}' holds no private key in PEM"
    return f"MODELSHIP_TLS_CERT='{certificate}' with MODELSHIP_TLS_KEY='{key}' cannot be used: {exc}"


def _holds(path: str, mark: bytes) -> bool:
    with open(path, "rb") as stream:
        return mark in stream.read(1 << 20)
