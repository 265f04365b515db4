# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON Web Tokens signed by one of the keys of a JWKS, from a file or an https URL (RFC 7519, RFC 7517, RFC 8725).

PyJWT and cryptography are imported only where a JWKS is set. The algorithm is that of the key, never what the token says,
and only public-key algorithms are known at all, so neither ``none`` nor a public key taken for an HMAC secret gets in.
Keys are fetched by a thread: the event loop never waits for another server.
"""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
import typing as t

from ..errors import StartError
from ..logs import Log
from ..settings import Settings
from .watch import reason, stamp

#: A token may be this much too old or too new: clocks differ.
LEEWAY_SECONDS = 30
_REFRESH_SECONDS = 300
#: A token with an unknown key makes the keys be fetched anew, but no sooner than this after the last time.
_RETRY_SECONDS = 10
#: For all of a fetch, redirects and body included.
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1 << 20
_LONGEST_TOKEN = 16384
#: Algorithms by type of key (``kty``, and ``crv`` where it has one).
_ALGORITHMS: dict[tuple[t.Any, t.Any], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_LEAST_RSA_BITS = 2048


class BadTokenError(Exception):
    """A token that lets nobody in; the message says why, without anything of the token."""

    def __init__(self, message: str, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class UnknownKeyError(Exception):
    """A token whose key may be among those that are being fetched."""

    def __init__(self, fetch: concurrent.futures.Future[None]) -> None:
        super().__init__("the keys are being fetched")
        self.fetch = fetch


class _Key(t.NamedTuple):
    algorithms: tuple[str, ...]
    key: t.Any


class Tokens:
    """Verifies tokens.

    :raises StartError: a setting is missing, the file cannot be used, or the libraries are not there.
    """

    def __init__(self, settings: Settings) -> None:
        self._source = settings.jwt_jwks
        self._remote = "://" in self._source
        if self._remote:
            from .fetch import check_https  # here, so that no request waits for the import

            try:
                check_https(self._source)
            except ValueError as exc:
                raise StartError(
                    f"MODELSHIP_JWT_JWKS must be a file or an https URL, as keys must not be forged: {exc}"
                ) from None
        for name, value in (("ISSUER", settings.jwt_issuer), ("AUDIENCE", settings.jwt_audience)):
            if not value:
                raise StartError(
                    f"MODELSHIP_JWT_JWKS needs MODELSHIP_JWT_{name}: without it a token made for somebody else gets in"
                )
        try:
            import jwt
        except ImportError as exc:
            raise StartError(f"MODELSHIP_JWT_JWKS needs the packages pyjwt and cryptography ({exc})") from exc
        self._jwt = jwt
        self._issuer, self._audience = settings.jwt_issuer, settings.jwt_audience
        self._keys: dict[str, _Key] = {}
        #: Grows with each change of the keys: what was verified by others is to be verified again.
        self.generation = 0
        self._fetched = float("-inf")
        self._fetch: concurrent.futures.Future[None] | None = None
        self._stamp = stamp(self._source)
        if not self._remote:
            self._keys = self._read()

    def tick(self, log: Log) -> None:
        """Take keys anew where they changed or are due; called every few seconds, and once when a worker starts."""
        if self._remote:
            wait = _REFRESH_SECONDS if self._keys else _RETRY_SECONDS
            if time.monotonic() - self._fetched > wait:
                self._start_fetch(log)
            return
        seen = stamp(self._source)
        if seen == self._stamp:
            return
        self._stamp = seen
        try:
            self._take(self._read(), log)
        except StartError as exc:
            log.warning("new JWKS is not used, the old keys stay", error=str(exc))

    def verify(self, token: str, log: Log) -> tuple[str, float]:
        """Return the principal and the ``time.time()`` until which the token is good.

        :raises BadTokenError: it is not.
        :raises UnknownKeyError: its key is not known yet; worth another look when the fetch is over.
        """
        jwt = self._jwt
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise BadTokenError("malformed")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise BadTokenError("malformed") from None
        if "crit" in header:
            raise BadTokenError("it demands extensions (crit) that are not known here")
        key = self._key(header, log)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise BadTokenError("expired", expired=True) from None
        except jwt.PyJWTError as exc:
            raise BadTokenError(_why(jwt, exc)) from None
        for name in ("sub", "client_id", "azp"):
            if isinstance(claims.get(name), str) and claims[name]:
                return claims[name][:256], float(claims["exp"]) + LEEWAY_SECONDS
        raise BadTokenError("it does not say whose it is (sub, client_id or azp)")

    def _key(self, header: dict[str, t.Any], log: Log) -> _Key:
        kid = header.get("kid")
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is not None:
            return key
        if self._remote and (kid is not None or not self._keys):
            if time.monotonic() - self._fetched > _RETRY_SECONDS:
                self._start_fetch(log)
            fetch = self._fetch  # the thread sets it to None
            if fetch is not None:
                raise UnknownKeyError(fetch)
        raise BadTokenError("its key (kid) is not known")

    # -- getting the keys ---------------------------------------------------------------------------------------------

    def _start_fetch(self, log: Log) -> None:
        if self._fetch is not None:
            return
        self._fetched = time.monotonic()
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._fetch = future
        threading.Thread(target=self._run_fetch, args=(future, log), name="jwks", daemon=True).start()

    def _run_fetch(self, future: concurrent.futures.Future[None], log: Log) -> None:
        try:
            from .fetch import fetch

            self._take(self._parsed(fetch(self._source, _FETCH_SECONDS, _MOST_BYTES)), log)
        except Exception as exc:  # noqa: BLE001 - whatever the other server responds, it is logged, and the keys stay
            log.warning(
                "JWKS cannot be fetched", url=self._source, error=str(exc) or repr(exc), keys_kept=len(self._keys)
            )
        finally:
            self._fetch = None
            future.set_result(None)

    def _read(self) -> dict[str, _Key]:
        try:
            with open(self._source, "rb") as stream:
                raw = stream.read(_MOST_BYTES)
        except OSError as exc:
            raise StartError(f"MODELSHIP_JWT_JWKS='{self._source}' cannot be read: {reason(exc)}") from exc
        return self._parsed(raw)

    def _parsed(self, raw: bytes) -> dict[str, _Key]:
        try:
            items = json.loads(raw)["keys"]
            found = {str(item.get("kid", "")): key for item in items if (key := self._usable(item))}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise StartError(
                f"MODELSHIP_JWT_JWKS='{self._source}' is no JWKS ({type(exc).__name__}): expected a list 'keys'"
            ) from exc
        if not found:
            raise StartError(
                f"MODELSHIP_JWT_JWKS='{self._source}' has no key that can be used: "
                "RSA of at least 2048 bits (RS256, PS256), EC P-256 (ES256) and Ed25519 (EdDSA) can"
            )
        return found

    def _usable(self, item: dict[str, t.Any]) -> _Key | None:
        """Return a public key for signatures; ``None`` for all else that providers put beside them."""
        kind = item.get("kty"), item.get("crv")
        algorithms = _ALGORITHMS.get(kind, ())
        if item.get("alg") is not None:
            algorithms = tuple(name for name in algorithms if name == item["alg"])
        if not algorithms or item.get("use", "sig") != "sig":
            return None
        # Of a private key only its public part is wanted.
        public = {name: value for name, value in item.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
        try:
            key = self._jwt.PyJWK(public, algorithm=algorithms[0]).key
        except self._jwt.PyJWTError:
            return None
        if kind[0] == "RSA" and key.key_size < _LEAST_RSA_BITS:
            return None
        return _Key(algorithms, key)

    def _take(self, keys: dict[str, _Key], log: Log) -> None:
        if keys != self._keys:  # cryptography's public keys compare by value
            self._keys = keys
            self.generation += 1
            log.info("JWKS loaded", source=self._source, keys=sorted(keys))


def _why(jwt: t.Any, exc: Exception) -> str:
    reasons = {
        jwt.InvalidAudienceError: "made for another audience (aud)",
        jwt.InvalidIssuerError: "made by another issuer (iss)",
        jwt.ImmatureSignatureError: "not valid yet (nbf or iat)",
        jwt.InvalidAlgorithmError: "its algorithm does not fit its key",
        jwt.InvalidSignatureError: "wrong signature",
    }
    for kind, text in reasons.items():
        if isinstance(exc, kind):
            return text
    if isinstance(exc, jwt.MissingRequiredClaimError):
        return f"the claim {exc.claim} is missing"
    return "not valid"
