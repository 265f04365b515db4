# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: what a request must bring to be answered, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
import typing as t
from collections.abc import Mapping

from ..errors import KeysPendingError, RequestError, StartError
from ..logs import Log
from ..metrics import SharedCells
from ..settings import Settings
from .keys import Keys
from .limit import Limiter
from .watch import stamp

if t.TYPE_CHECKING:
    from .jwt import Tokens

#: Why requests are refused: labels of ``modelship_refused_total``.
REASONS = (
    "no_certificate",
    "no_credentials",
    "unknown_key",
    "bad_token",
    "expired_token",
    "keys_pending",
    "rate_limit",
)
NO_CERTIFICATE, NO_CREDENTIALS, UNKNOWN_KEY, BAD_TOKEN, EXPIRED_TOKEN, KEYS_PENDING, RATE_LIMIT = range(len(REASONS))

_MOST_CACHED = 4096
#: Longest wait for keys that a token needs and that are just being fetched.
_PATIENCE_SECONDS = 3.0
_CHALLENGE = ("www-authenticate", 'Bearer realm="modelship"')
_BAD_TOKEN = ("www-authenticate", 'Bearer realm="modelship", error="invalid_token"')
_NOTHING: tuple[str, float] = ("", 0.0)


class Gate:
    """Lets a request pass, or says why not. Made before the workers are forked; :meth:`start` begins a worker's life.

    A client certificate, where a client CA is set, is asked for on top of a key or token; of these any one will do.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        self._log = log
        self._path = settings.api_keys
        self._stamp = stamp(self._path)
        self._keys = Keys(self._path) if self._path else None
        self._tokens: Tokens | None = None
        if settings.jwt_jwks:
            from .jwt import Tokens

            self._tokens = Tokens(settings)
        self._certificate = bool(settings.tls_client_ca)
        self._limiter: Limiter | None = None
        if settings.rate_limit:
            self._limiter = Limiter(settings.rate_limit, settings.rate_burst or 2 * settings.rate_limit)
        self._credentials = self._keys is not None or self._tokens is not None
        #: Whether :meth:`admit` has anything to check.
        self.enabled = self._credentials or self._certificate or self._limiter is not None
        self._cells = SharedCells(settings.workers if self.enabled else 1, len(REASONS))
        self._row = self._cells.row(0)
        #: What was verified, by credential: principal, and ``time.time()`` until which that holds. Time spent in it tells
        #: nothing: Python compares two texts only where their keyed hashes are the same.
        self._known: dict[str, tuple[str, float]] = {}
        self._generation = 0

    def start(self, worker: int) -> None:
        """Begin the life of a worker: where keys come from a URL, the first fetch begins."""
        self._row = self._cells.row(worker)
        self.tick()

    def tick(self) -> None:
        """Take changed files and keys that are due anew; called every few seconds, and on SIGHUP. Never waits."""
        if self._tokens is not None:
            self._tokens.tick(self._log)
        if self._keys is None or (seen := stamp(self._path)) == self._stamp:
            return
        self._stamp = seen
        try:
            self._keys = Keys(self._path)
        except StartError as exc:
            self._log.warning("new API keys are not used, the old ones stay", error=str(exc))
            return
        self._known.clear()
        self._log.info("API keys loaded anew", keys=len(self._keys))

    def admit(self, headers: Mapping[str, str], certificate: Mapping[str, t.Any] | None) -> str:
        """Return who asks, empty where nobody needs to say.

        :param headers: by lower-case name; ``authorization: Bearer …`` or ``x-api-key`` are looked at.
        :param certificate: the client's, as ``ssl.SSLObject.getpeercert`` gives it.
        :raises RequestError: 401 no or wrong credentials; 403 no client certificate; 429 too many requests.
        :raises KeysPendingError: 503, see there.
        """
        principal = ""
        if self._certificate:
            if not certificate:
                raise self._refused(NO_CERTIFICATE, 403, "client certificate: none was shown, and this path needs one")
            principal = subject(certificate)
        if self._credentials:
            principal = self._identify(headers)
        if self._limiter is not None and (seconds := self._limiter.take(principal)):
            message = (
                f"rate limit: too many requests by '{principal}'" if principal else "rate limit: too many requests"
            )
            raise self._refused(RATE_LIMIT, 429, message, ("retry-after", str(math.ceil(seconds))))
        return principal

    async def admit_later(
        self, headers: Mapping[str, str], certificate: Mapping[str, t.Any] | None, pending: KeysPendingError
    ) -> str:
        """Wait for the fetch that *pending* tells of, then decide; as :meth:`admit` otherwise."""
        await asyncio.wait([asyncio.wrap_future(pending.fetch)], timeout=_PATIENCE_SECONDS)
        return self.admit(headers, certificate)

    def lines(self) -> list[str]:
        """Return the refusals of all workers in Prometheus' text format; none where the gate is open."""
        if not self.enabled:
            return []
        return [
            "# HELP modelship_refused_total Requests that were not let in, by reason.",
            "# TYPE modelship_refused_total counter",
            *(
                f'modelship_refused_total{{reason="{name}"}} {value}'
                for name, value in zip(REASONS, self._cells.total(), strict=True)
            ),
        ]

    def _identify(self, headers: Mapping[str, str]) -> str:
        credential = headers.get("authorization")
        if credential is not None:
            scheme, _space, credential = credential.partition(" ")
            if scheme.lower() != "bearer":
                raise self._refused(NO_CREDENTIALS, 401, "authorization: expected 'Bearer <key or token>'", _CHALLENGE)
            credential = credential.strip()
        else:
            credential = headers.get("x-api-key")
        if not credential:
            message = "credentials: none given, send 'authorization: Bearer …' or 'x-api-key: …'"
            raise self._refused(NO_CREDENTIALS, 401, message, _CHALLENGE)
        if self._tokens is not None and self._tokens.generation != self._generation:
            self._generation = self._tokens.generation
            self._known.clear()
        principal, until = self._known.get(credential, _NOTHING)
        if until > time.time():
            return principal
        principal, until = self._verify(credential)
        if len(self._known) >= _MOST_CACHED:
            del self._known[next(iter(self._known))]
        self._known[credential] = principal, until
        return principal

    def _verify(self, credential: str) -> tuple[str, float]:
        if self._keys is not None:
            name = self._keys.find(hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest())
            if name is not None:
                return name, math.inf
        if self._tokens is None or (self._keys is not None and credential.count(".") != 2):
            raise self._refused(UNKNOWN_KEY, 401, "credentials: not known", _BAD_TOKEN)
        from .jwt import BadTokenError, UnknownKeyError

        try:
            return self._tokens.verify(credential, self._log)
        except BadTokenError as exc:
            raise self._refused(EXPIRED_TOKEN if exc.expired else BAD_TOKEN, 401, f"token: {exc}", _BAD_TOKEN) from None
        except UnknownKeyError as exc:
            self._row[KEYS_PENDING] += 1
            raise KeysPendingError(exc.fetch) from None

    def _refused(self, reason: int, status: int, message: str, header: tuple[str, str] | None = None) -> RequestError:
        self._row[reason] += 1
        return RequestError(status, message, header)


def subject(certificate: Mapping[str, t.Any]) -> str:
    """Return whose a client certificate is: its first URI (SPIFFE), else its common name, else its first DNS name."""
    names = certificate.get("subjectAltName", ())
    for kind, value in names:
        if kind == "URI":
            return str(value)
    for part in certificate.get("subject", ()):
        for kind, value in part:
            if kind == "commonName":
                return str(value)
    return next((str(value) for kind, value in names if kind == "DNS"), "unnamed")


def load_gate(settings: Settings, log: Log) -> Gate:
    """Return the gate that *settings* ask for.

    :raises StartError: a setting or a file cannot be used.
    """
    return Gate(settings, log)
