# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a protected endpoint is to be shown: an API key or a token, a client certificate."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.errors import ModelshipError

#: Argument spec of :func:`credentials_of`.
OPTIONS: dict[str, t.Any] = {
    "api_key": {"type": "str", "no_log": True},
    "bearer": {"type": "str", "no_log": True},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
}


@dataclasses.dataclass(frozen=True)
class Credentials:
    """See the module C(endpoint_verify) for their meanings; ``None`` shows nothing."""

    api_key: str | None = dataclasses.field(default=None, repr=False)
    bearer: str | None = dataclasses.field(default=None, repr=False)
    client_cert: str | None = None
    client_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Request headers, for an endpoint that is asked directly."""
        if self.api_key:
            return {"x-api-key": self.api_key}
        return {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}

    @property
    def forwarded_headers(self) -> dict[str, str]:
        """Request headers that a proxy passes on which takes C(authorization) for itself; the runtime reads either."""
        secret = self.api_key or self.bearer
        return {"x-api-key": secret} if secret else {}


def credentials_of(parameters: t.Mapping[str, t.Any]) -> Credentials:
    """Make credentials of a module's parameters; options that are missing count as not given.

    :raises ModelshipError: two that exclude each other, or half a client certificate.
    """
    found = Credentials(**{name: parameters.get(name) or None for name in OPTIONS})
    if found.api_key and found.bearer:
        raise ModelshipError("api_key and bearer are both given: keep the one that the endpoint asks for")
    if found.client_key and not found.client_cert:
        raise ModelshipError("client_key is given without client_cert: give the certificate that it belongs to")
    for name in ("api_key", "bearer"):
        value = getattr(found, name)
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise ModelshipError(f"{name} cannot be sent: it must be ASCII letters without blanks or line ends")
    return found
