# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on one Docker Engine."""

from __future__ import annotations

import hashlib
import os
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import locked
from .._core.runner import Context, Outcome
from .._deployment.declaration import Declaration, check_name, image_by_digest
from .._deployment.info import Info, Inquiry
from . import ports
from . import proxy as proxies
from .apply import Run, remove_all
from .client import Docker
from .info import RELEASE_LABEL, look, replica_facts
from .observe import Observed, ask_ready, observe, replica_url
from .plan import Plan, decide, unfit
from .spec import PROXY, replica_spec


class DockerBackend:
    """The target ``docker``; it runs on the Engine's own host, whose container networks it reaches.

    :param parameters: the module's; of them the connection's and the proxy's are read here.
    :raises ModelshipError: the SDK is missing, the Engine cannot be reached, or the proxy's image has no digest.
    """

    def __init__(self, parameters: t.Mapping[str, t.Any]) -> None:
        self.options: proxies.ProxyOptions | None = None
        given = parameters.get("proxy")
        if given is not None:
            image = image_by_digest(given["image"], "proxy.image")
            self.options = proxies.ProxyOptions(image=image, timeout=given.get("timeout") or 60)
        self.docker = Docker(parameters)

    def apply(self, declaration: Declaration, context: Context) -> Outcome:
        """Make the deployment what is declared; see :class:`.targets.Backend`.

        :raises ModelshipError: it cannot be done; what served before still does.
        """
        self._possible(declaration)
        if context.check:
            return self._apply(declaration, context)
        with locked(self._lock(declaration.name)):
            return self._apply(declaration, context)

    def remove(self, name: str, context: Context) -> Outcome:
        """Remove the deployment *name*; see :class:`.targets.Backend`."""
        check_name(name)
        if context.check:
            return self._remove(name, context)
        with locked(self._lock(name)):
            return self._remove(name, context)

    def info(self, inquiry: Inquiry, context: Context) -> Info:
        """Tell what is served now; see :class:`.targets.Backend`."""
        if inquiry.declaration is not None:
            self._possible(inquiry.declaration)
        observed = observe(self.docker, inquiry.name, strict=False)
        return look(inquiry, self.options, observed, context.progress)

    def _possible(self, declaration: Declaration) -> None:
        if declaration.replicas > 1 and self.options is None:
            raise ModelshipError(
                f"replicas {declaration.replicas} cannot share port {declaration.port} without a proxy: "
                "set proxy.image, or use workers"
            )

    def _apply(self, declaration: Declaration, context: Context) -> Outcome:
        observed = observe(self.docker, declaration.name)
        spec = replica_spec(declaration, proxies.network_name(declaration.name) if self.options else None)
        for replica in observed.replicas:
            url = replica_url(replica, declaration)
            if url and not unfit(replica, spec):
                ask_ready(replica, declaration, url)
        plan = decide(declaration, self.options, observed)
        before = observed.replicas[-1].view if observed.replicas else None
        previous = {"image": before["image"]} if before and plan.create else None
        if plan.changed and not _listens_already(observed, declaration):
            ports.check_free(declaration.host_ip, declaration.port, observed.others)
        if plan.changed and not context.check:
            Run(self.docker, declaration, self.options, observed, plan, context.progress).perform()
            observed = observe(self.docker, declaration.name)
        return Outcome(
            changed=plan.changed,
            result={"deployment": self._result(declaration, observed, plan, previous)},
            difference=plan.difference,
            message=_message(declaration, plan, self.options is not None, context.check),
        )

    def _remove(self, name: str, context: Context) -> Outcome:
        observed = observe(self.docker, name, strict=False)
        difference = Difference(f"deployment {name}")
        difference.add("containers", {item.name: item.status for item in observed.containers} or None, None)
        difference.add("network", observed.network and proxies.network_name(name), None)
        difference.add("volume", observed.volume and proxies.volume_name(name), None)
        changed = bool(difference)
        if changed and not context.check:
            remove_all(self.docker, name, observed, context.progress)
        gone: dict[str, t.Any] = {"name": name, "target": "docker", "state": "absent", "replicas": [], "previous": None}
        verb = "would be removed" if context.check else "is removed"
        message = f"{name} {verb}: {', '.join(difference.names)}" if changed else f"{name} is absent"
        return Outcome(changed=changed, result={"deployment": gone}, difference=difference, message=message)

    def _lock(self, name: str) -> str:
        folder = "/run/lock" if os.access("/run/lock", os.W_OK) else "/tmp"  # noqa: S108 - shared on purpose
        engine = hashlib.sha256(self.docker.host.encode()).hexdigest()[:8]
        return f"{folder}/modelship-deployment-{os.getuid()}-{engine}-{name}.lock"

    def _result(
        self, declaration: Declaration, observed: Observed, plan: Plan, previous: dict[str, str] | None
    ) -> dict[str, t.Any]:
        image = self.docker.image(declaration.image)
        labels = ((image or {}).get("Config") or {}).get("Labels") or {}
        proxy = observed.proxy
        return {
            "name": declaration.name,
            "target": "docker",
            "state": "present",
            "image": declaration.image,
            "digest": declaration.digest,
            "release": labels.get(RELEASE_LABEL),
            "url": declaration.url,
            "strategy": "proxy" if self.options else "recreate",
            "replicas": [replica_facts(item) for item in observed.replicas],
            "proxy": {"container": proxy.ident, "name": proxy.name, "image": self.options.image}
            if proxy and self.options
            else None,
            "previous": previous,
            "reasons": plan.reasons,
        }


def _listens_already(observed: Observed, declaration: Declaration) -> bool:
    """Whether the port is held by what this deployment runs already."""
    running = [item for item in observed.containers if item.status in ("running", "paused", "restarting")]
    wanted = f"{declaration.host_ip}:{declaration.port}"
    if any(item.view and item.view["published"] == wanted for item in running):
        return True
    bind = proxies.bind_of(observed.config or "")
    return bind == (declaration.host_ip, declaration.port) and any(item.role == PROXY for item in running)


def _message(declaration: Declaration, plan: Plan, proxied: bool, check: bool) -> str:
    if not plan.changed:
        return f"{declaration.name} is as declared at {declaration.url}"
    why = "; ".join(plan.reasons) or "it does not exist yet"
    would = "would be " if check else ""
    if plan.create and plan.remove:
        how = "replaced without losing a request" if proxied else "replaced, with a gap while the new one starts"
    elif plan.create:
        how = "deployed"
    else:
        how = "repaired"
    return f"{declaration.name} {would}{how} at {declaration.url}: {why}"
