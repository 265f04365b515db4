# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings from environment variables; each has a default that suits a container."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from .errors import StartError

LEVELS = ("debug", "info", "warning", "error")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to serve.

    :param release: folder of the release (``MODELSHIP_RELEASE``).
    :param host: address to listen on (``MODELSHIP_HOST``).
    :param port: TCP port (``MODELSHIP_PORT``).
    :param workers: processes that share the port (``MODELSHIP_WORKERS``).
    :param log_level: one of :data:`LEVELS`; ``debug`` adds one line a request (``MODELSHIP_LOG_LEVEL``).
    :param drain_seconds: after SIGTERM the process is gone within this time (``MODELSHIP_DRAIN_SECONDS``).
    :param max_body_bytes: a larger request body is refused with 413 (``MODELSHIP_MAX_BODY_BYTES``).
    :param versions: folder whose release folders are further versions of the model (``MODELSHIP_VERSIONS``; "": none).
    :param shadow: a version that gets a copy of the default version's requests (``MODELSHIP_SHADOW``; "": none).
    :param shadow_percent: share of the requests that is copied, in percent (``MODELSHIP_SHADOW_PERCENT``).
    :param grpc_port: TCP port of the gRPC protocol (``MODELSHIP_GRPC_PORT``; 0: off).
    :param max_queue: requests that may wait for the model, a worker; more get 503 (``MODELSHIP_MAX_QUEUE``).
    :param max_connections: open connections a worker; more get 503 (``MODELSHIP_MAX_CONNECTIONS``).
    :param deadline_ms: milliseconds until a request is given up with 504 (``MODELSHIP_DEADLINE_MS``; 0: never).
    :param max_batch: samples of different requests run together (``MODELSHIP_MAX_BATCH``; 0: measured, 1: off).
    :param batch_delay_ms: milliseconds to wait for a batch to fill (``MODELSHIP_BATCH_DELAY_MS``; 0: none).
    :param read_seconds: a request must have arrived within this time (``MODELSHIP_READ_SECONDS``).
    :param idle_seconds: a connection without a request is closed after this time (``MODELSHIP_IDLE_SECONDS``).
    :param tls_cert: certificate chain, PEM (``MODELSHIP_TLS_CERT``; "": plain HTTP).
    :param tls_key: its key, PEM (``MODELSHIP_TLS_KEY``).
    :param tls_client_ca: authorities of client certificates, PEM (``MODELSHIP_TLS_CLIENT_CA``; "": none asked).
    :param api_keys: file of hashed API keys (``MODELSHIP_API_KEYS``).
    :param jwt_jwks: file or https address of the keys that sign tokens (``MODELSHIP_JWT_JWKS``).
    :param jwt_issuer: required ``iss`` of a token (``MODELSHIP_JWT_ISSUER``; "": any).
    :param jwt_audience: required ``aud`` of a token (``MODELSHIP_JWT_AUDIENCE``; "": any).
    :param rate_limit: requests a second and principal; more get 429 (``MODELSHIP_RATE_LIMIT``; 0: no limit).
    :param rate_burst: requests that may come at once (``MODELSHIP_RATE_BURST``; 0: twice the rate).
    :param page: serve the page at ``/`` and the documentation (``MODELSHIP_PAGE``).
    :param explain: answer ``explain`` calls of image models (``MODELSHIP_EXPLAIN``).
    """

    release: str = "/opt/modelship/release"
    host: str = "0.0.0.0"
    port: int = 8080
    workers: int = 1
    log_level: str = "info"
    drain_seconds: float = 10.0
    max_body_bytes: int = 8388608
    versions: str = ""
    shadow: str = ""
    shadow_percent: float = 100.0
    grpc_port: int = 0
    max_queue: int = 256
    max_connections: int = 1024
    deadline_ms: int = 30000
    max_batch: int = 0
    batch_delay_ms: float = 0.0
    read_seconds: float = 10.0
    idle_seconds: float = 75.0
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    api_keys: str = ""
    jwt_jwks: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    rate_limit: float = 0.0
    rate_burst: int = 0
    page: bool = True
    explain: bool = True

    @property
    def keyed(self) -> bool:
        """Whether callers must show a key or a token."""
        return bool(self.api_keys or self.jwt_jwks)

    @property
    def guarded(self) -> bool:
        """Whether callers must say who they are."""
        return self.keyed or bool(self.tls_client_ca)

    @property
    def most_held(self) -> int:
        """Bytes that requests may take of a worker's memory while they come in (by HTTP, by gRPC), and while they wait."""
        return max(64 << 20, 4 * self.max_body_bytes)


#: Setting: least and greatest value. Its type is that of the default; the variable is ``MODELSHIP_`` and the name.
_LIMITS: dict[str, tuple[float, float]] = {
    "port": (1, 65535),
    "workers": (1, 256),
    "drain_seconds": (0, 3600),
    "max_body_bytes": (1, 2**31),
    "shadow_percent": (0, 100),
    "grpc_port": (0, 65535),
    "max_queue": (1, 1_000_000),
    "max_connections": (1, 1_000_000),
    "deadline_ms": (0, 86_400_000),
    "max_batch": (0, 4096),
    "batch_delay_ms": (0, 1000),
    "read_seconds": (0.1, 3600),
    "idle_seconds": (0.1, 86400),
    "rate_limit": (0, 1_000_000),
    "rate_burst": (0, 10_000_000),
}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from *environment*; an empty variable counts as unset.

    :raises StartError: a value is not of its type or out of range, or two settings do not go together.
    """
    values: dict[str, t.Any] = {}
    for field in dataclasses.fields(Settings):
        variable = f"MODELSHIP_{field.name.upper()}"
        if raw := environment.get(variable):
            values[field.name] = _value(variable, raw, field.default, _LIMITS.get(field.name))
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _value(variable: str, raw: str, default: t.Any, limits: tuple[float, float] | None) -> t.Any:
    if isinstance(default, bool):
        if raw.lower() not in _TRUTH:
            raise StartError(f"{variable}='{raw}' must be true or false")
        return _TRUTH[raw.lower()]
    if limits is not None:
        try:
            value = type(default)(raw)
        except ValueError:
            value = None
        if value is None or not limits[0] <= value <= limits[1]:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise StartError(f"{variable}='{raw}' must be {kind} from {limits[0]:.10g} to {limits[1]:.10g}")
        return value
    if variable == "MODELSHIP_LOG_LEVEL":
        if raw.lower() not in LEVELS:
            raise StartError(f"{variable}='{raw.lower()}' must be one of {', '.join(LEVELS)}")
        return raw.lower()
    return raw


def _check_together(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise StartError("MODELSHIP_TLS_CERT and MODELSHIP_TLS_KEY must be set together")
    if settings.tls_client_ca and not settings.tls_cert:
        raise StartError("MODELSHIP_TLS_CLIENT_CA needs MODELSHIP_TLS_CERT and MODELSHIP_TLS_KEY")
    if settings.shadow and not settings.versions:
        raise StartError("MODELSHIP_SHADOW names a version in MODELSHIP_VERSIONS, which must be set too")
    if settings.grpc_port == settings.port:
        raise StartError(f"MODELSHIP_GRPC_PORT='{settings.grpc_port}' must differ from MODELSHIP_PORT")
    if (settings.jwt_issuer or settings.jwt_audience) and not settings.jwt_jwks:
        raise StartError("MODELSHIP_JWT_ISSUER and MODELSHIP_JWT_AUDIENCE need MODELSHIP_JWT_JWKS")
