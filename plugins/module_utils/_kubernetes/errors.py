# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between this process and a Kubernetes API server, told so that a user can act on it."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .._http import errors

#: Cause of a 409 that tells that another field manager owns a declared field.
FIELD_CONFLICT = "FieldManagerConflict"
_ADVICE = errors.Advice(
    certificate="give the right certificate authority (ca_path, or certificate-authority in the kubeconfig), or "
    "tls_server_name if it is known by another name",
    plain="is the port right, or should the URL begin with http://?",
    refused="is the API server running, and are address and port right?",
)


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


def explain(exc: BaseException, host: str, timeout: float) -> str:
    """Say in a few words why *host* could not be reached."""
    return errors.explain(exc, host, timeout, _ADVICE)
