# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker's parts share, and what a feature hands to the application: its routes."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from .errors import KeysPendingError
from .logs import Log
from .metrics import Counters, Row
from .settings import Settings

if t.TYPE_CHECKING:
    from .drift import Drift
    from .versions import Models


class Gate(t.Protocol):
    """Who may ask."""

    enabled: bool

    def admit(self, headers: Mapping[str, str], certificate: Mapping[str, t.Any] | None) -> str:
        """Return who asks ("" where nobody has to say).

        :raises RequestError: 401 (``www-authenticate``), 403, 429 (``retry-after``).
        :raises KeysPendingError: it has to be asked again with :meth:`admit_later`.
        """

    async def admit_later(
        self, headers: Mapping[str, str], certificate: Mapping[str, t.Any] | None, pending: KeysPendingError
    ) -> str:
        """Wait for what *pending* tells of, then decide as :meth:`admit`."""


class OpenGate:
    """Lets everybody in."""

    enabled = False

    def admit(self, headers: Mapping[str, str], certificate: Mapping[str, t.Any] | None) -> str:  # noqa: ARG002
        """Return that nobody has to say who asks."""
        return ""

    async def admit_later(
        self,
        headers: Mapping[str, str],
        certificate: Mapping[str, t.Any] | None,
        pending: KeysPendingError,  # noqa: ARG002
    ) -> str:
        """As :meth:`admit`: there is nothing to wait for."""
        return self.admit(headers, certificate)


@dataclasses.dataclass
class Context:
    """One worker's parts."""

    settings: Settings
    models: Models
    counters: Counters
    row: Row
    log: Log
    gate: Gate = dataclasses.field(default_factory=OpenGate)
    drift: Drift | None = None
    #: The server is going: ready says no, and clients are told to ask elsewhere.
    draining: bool = False
