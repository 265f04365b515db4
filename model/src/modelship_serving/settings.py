# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings from environment variables; each has a default that suits a container."""

from __future__ import annotations

import dataclasses
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
    """

    release: str = "/opt/modelship/release"
    host: str = "0.0.0.0"
    port: int = 8080
    workers: int = 1
    log_level: str = "info"
    drain_seconds: float = 10.0
    max_body_bytes: int = 8388608


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from *environment*; an empty variable counts as unset.

    :raises StartError: a value is not of its type or out of range.
    """

    def text(name: str, default: str) -> str:
        return environment.get(name) or default

    def number(name: str, default: float, low: float, high: float, whole: bool = True) -> float:
        raw = text(name, str(default))
        try:
            value = int(raw) if whole else float(raw)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise StartError(f"{name}='{raw}' must be {kind} from {low:g} to {high:g}")
        return value

    level = text("MODELSHIP_LOG_LEVEL", Settings.log_level).lower()
    if level not in LEVELS:
        raise StartError(f"MODELSHIP_LOG_LEVEL='{level}' must be one of {', '.join(LEVELS)}")
    return Settings(
        release=text("MODELSHIP_RELEASE", Settings.release),
        host=text("MODELSHIP_HOST", Settings.host),
        port=int(number("MODELSHIP_PORT", Settings.port, 1, 65535)),
        workers=int(number("MODELSHIP_WORKERS", Settings.workers, 1, 256)),
        log_level=level,
        drain_seconds=number("MODELSHIP_DRAIN_SECONDS", Settings.drain_seconds, 0, 3600, whole=False),
        max_body_bytes=int(number("MODELSHIP_MAX_BODY_BYTES", Settings.max_body_bytes, 1, 2**31)),
    )
