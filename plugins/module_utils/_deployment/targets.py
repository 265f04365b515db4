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


def preflight(parameters: t.Mapping[str, t.Any], declaration: Declaration) -> str | None:
    """Check what can be checked of a deployment before there is an image; nothing is changed.

    Target docker: the Engine's limits and networks, and that the ports are free. Where no Engine answers yet, only the
    host's own ports are checked. Target kubernetes: the options alone.

    :returns: why the target could not be asked; ``None`` where it was, or need not be.
    :raises ModelshipError: the deployment could not be made.
    """
    if parameters["target"] == "kubernetes":
        from .._kubernetes.declared import KubernetesOptions

        KubernetesOptions.from_parameters(parameters)
        return None
    from .._docker import ports
    from .._docker.backend import DockerBackend, check_replicas, proxy_options

    check_replicas(declaration, proxy_options(parameters))
    try:
        target = DockerBackend(parameters)
    except ModelshipError as exc:
        if exc.kind not in ("environment", "unreachable"):
            raise
        for port in declaration.published:
            ports.check_free(declaration.host_ip, port, (), proxied=parameters.get("proxy") is not None)
        return exc.message
    target.preflight(declaration)
    return None


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
