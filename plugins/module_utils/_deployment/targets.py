# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets a deployment can run on; each lives in a package of its own, imported only when used."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .._core.runner import Context, Outcome
from .declaration import Declaration

if t.TYPE_CHECKING:
    from .info import Info, Inquiry


class Backend(t.Protocol):
    """What a target does with a declaration."""

    def apply(self, declaration: Declaration, context: Context) -> Outcome:
        """Make it so; in check mode only tell what would be done."""

    def remove(self, name: str, context: Context) -> Outcome:
        """Remove all that belongs to the deployment *name*, and wait until it is gone."""

    def info(self, inquiry: Inquiry, context: Context) -> Info:
        """Tell what is served now; it only reads, and what is wrong with the deployment is told, not raised."""


def backend(parameters: t.Mapping[str, t.Any]) -> Backend:
    """Return the backend of ``parameters["target"]``.

    :raises ModelshipError: there is no such target, or its client library or daemon cannot be used.
    """
    if parameters["target"] == "docker":
        from .._docker.backend import DockerBackend

        return DockerBackend(parameters)
    if parameters["target"] == "kubernetes":
        from .._kubernetes.backend import KubernetesBackend

        return KubernetesBackend(parameters)
    raise ModelshipError(f"target '{parameters['target']}' is not known: use docker or kubernetes")
