# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on one Docker Engine."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import locked_by_name
from .._core.runner import Context, Outcome
from .._deployment.declaration import Declaration, check_name, check_seconds, image_by_digest, limits_of
from .._deployment.info import Info, Inquiry
from . import ports
from . import proxy as proxies
from .apply import Run, remove_all
from .client import Docker
from .info import RELEASE_LABEL, look, replica_facts
from .limits import proxy_limits, replica_limits
from .observe import Observed, ask_ready, observe, replica_url
from .plan import Plan, decide, unfit
from .spec import PROXY, replica_spec

_UNIX = "unix://"


class DockerBackend:
    """The target ``docker``; it runs on the Engine's own host, whose container networks it reaches.

    :param parameters: the module's; of them the connection's and the proxy's are read here.
    :raises ModelshipError: the SDK is missing, the Engine cannot be reached, or an option of the proxy cannot be right.
    """

    def __init__(self, parameters: t.Mapping[str, t.Any]) -> None:
        self.options = proxy_options(parameters)
        self.docker = Docker(parameters)

    def apply(self, declaration: Declaration, context: Context) -> Outcome:
        """Make the deployment what is declared; see :class:`.targets.Backend`.

        :raises ModelshipError: it cannot be done; what served before still does.
        """
        declaration = self._possible(declaration)
        if self.options is not None:
            image_by_digest(self.options.image, "proxy.image")
        if context.check:
            return self._apply(declaration, context)
        with locked_by_name(self.lock_name(declaration.name)):
            return self._apply(declaration, context)

    def preflight(self, declaration: Declaration) -> None:
        """Check what can be checked before there is an image; see :func:`.targets.preflight`.

        :raises ModelshipError: what is declared cannot be had from this Engine, or a port is taken.
        """
        declaration = self._possible(declaration)
        self._check_host(declaration, observe(self.docker, declaration.name))

    def remove(self, name: str, context: Context) -> Outcome:
        """Remove the deployment *name*; see :class:`.targets.Backend`."""
        check_name(name)
        if context.check:
            return self._remove(name, context)
        with locked_by_name(self.lock_name(name)):
            return self._remove(name, context)

    def info(self, inquiry: Inquiry, context: Context) -> Info:
        """Tell what is served now; see :class:`.targets.Backend`."""
        if inquiry.declaration is not None:
            inquiry = dataclasses.replace(inquiry, declaration=self._possible(inquiry.declaration))
        observed = observe(self.docker, inquiry.name, strict=False)
        return look(inquiry, self.options, observed, context.progress)

    def _possible(self, declaration: Declaration) -> Declaration:
        """Return *declaration* with the limits in effect on this Engine.

        :raises ModelshipError: it cannot be had from a Docker Engine, or not from this one.
        """
        check_replicas(declaration, self.options)
        engine = self.docker.info()
        if self.options is not None:
            if "name=rootless" in (engine.get("SecurityOptions") or []):
                raise ModelshipError(
                    f'proxy cannot be used with the rootless Engine at {self.docker.host}: its network "host" is not the '
                    "host's own; leave out proxy, or use an Engine that root runs",
                    kind="docker",
                )
            limits = proxy_limits(self.options.limits, engine)
            self.options = dataclasses.replace(self.options, limits=limits)
        limits = replica_limits(declaration.limits, declaration.workers, engine)
        return dataclasses.replace(declaration, limits=limits)

    def _check_host(self, declaration: Declaration, observed: Observed) -> None:
        """Make sure that the host has the ports and the network that new containers need."""
        for port in declaration.published:
            own = _own_addresses(observed, port)
            if declaration.host_ip not in own:
                proxied = self.options is not None
                ports.check_free(declaration.host_ip, port, observed.others, self.docker, proxied=proxied, own=own)
        if self.options is None and observed.network is not None:
            check_unshared(observed)
        if self.options is None and self.docker.network("bridge") is None:
            raise ModelshipError(
                'the Engine has no network bridge ("bridge": "none" in its daemon.json), so that the container would '
                "have no network and its port could not be published: set proxy.image, which has a network made for the "
                "containers, or take bridge out of daemon.json; nothing was changed",
                kind="docker",
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
        if plan.changed:
            self._check_host(declaration, observed)
        if plan.changed and not context.check:
            Run(self.docker, declaration, self.options, observed, plan, context.progress).perform()
            observed = observe(self.docker, declaration.name)
        return Outcome(
            changed=plan.changed,
            result={"deployment": self._result(declaration, observed, plan, previous)},
            difference=plan.difference,
            message=_message(
                declaration, plan, context.check, seamless=self.options is not None and plan.proxy != "create"
            ),
        )

    def _remove(self, name: str, context: Context) -> Outcome:
        observed = observe(self.docker, name, strict=False)
        difference = Difference(f"deployment {name}")
        difference.add("containers", {item.name: item.status for item in observed.containers} or None, None)
        difference.add("network", observed.network and proxies.network_name(name), None)
        difference.add("unfinished network", observed.probe and observed.probe["Name"], None)
        difference.add("volume", observed.volume and proxies.volume_name(name), None)
        changed = bool(difference)
        check_unshared(observed)
        if changed and not context.check:
            remove_all(self.docker, name, observed, context.progress)
        gone: dict[str, t.Any] = {"name": name, "target": "docker", "state": "absent", "replicas": [], "previous": None}
        verb = "would be removed" if context.check else "is removed"
        message = f"{name} {verb}: {', '.join(difference.names)}" if changed else f"{name} is absent"
        return Outcome(changed=changed, result={"deployment": gone}, difference=difference, message=message)

    def lock_name(self, name: str) -> str:
        """Return the name of the lock of the deployment *name* on this Engine."""
        host = self.docker.host
        if host.startswith(_UNIX):  # /var/run is a link to /run
            host = _UNIX + os.path.realpath(host.removeprefix(_UNIX))
        engine = hashlib.sha256(host.encode()).hexdigest()[:8]
        return f"deployment-{engine}-{name}"

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
            "grpc": declaration.grpc_address,
            "strategy": "proxy" if self.options else "recreate",
            "replicas": [replica_facts(item) for item in observed.replicas],
            "proxy": {"container": proxy.ident, "name": proxy.name, "image": self.options.image}
            if proxy and self.options
            else None,
            "previous": previous,
            "reasons": plan.reasons,
        }


def proxy_options(parameters: t.Mapping[str, t.Any]) -> proxies.ProxyOptions | None:
    """Return the option C(proxy); ``None`` where it is not given.

    :raises ModelshipError: a value of it cannot be right. Its image may still be missing.
    """
    given = parameters.get("proxy")
    if given is None:
        return None
    timeout = 60 if given.get("timeout") is None else given["timeout"]
    if timeout < 1:
        raise ModelshipError(f"proxy.timeout {timeout} is refused: it must be at least 1 second")
    check_seconds("proxy.timeout", timeout)
    image = image_by_digest(given["image"], "proxy.image") if given["image"] else ""
    return proxies.ProxyOptions(image=image, timeout=timeout, limits=limits_of(given.get("limits"), "proxy.limits"))


def check_replicas(declaration: Declaration, options: proxies.ProxyOptions | None) -> None:
    """Make sure that so many replicas can stand behind one port.

    :raises ModelshipError: they cannot, without a proxy.
    """
    if declaration.replicas > 1 and options is None:
        raise ModelshipError(
            f"replicas {declaration.replicas} cannot share port {declaration.port} without a proxy: "
            "set proxy.image, or use workers"
        )


def _own_addresses(observed: Observed, port: int) -> list[str]:
    """Return the addresses at which what this deployment runs already holds the port."""
    running = [item for item in observed.containers if item.status in ("running", "paused", "restarting")]
    published = [view[key] or "" for item in running if (view := item.view) for key in ("published", "published_grpc")]
    found = [host for host, _colon, held in (each.rpartition(":") for each in published) if held == str(port)]
    if any(item.role == PROXY for item in running):
        found += [host for host, held in proxies.binds_of(observed.config or "") if held == port]
    return found


def check_unshared(observed: Observed) -> None:
    """Make sure that only containers of the deployment are in its network, which is about to be removed.

    :raises ModelshipError: kind C(foreign): others have been connected to it.
    """
    network, own = observed.network or {}, {item.ident for item in observed.containers}
    others = sorted(item["Name"] for ident, item in (network.get("Containers") or {}).items() if ident not in own)
    if others:
        name = network["Name"]
        raise ModelshipError(
            f"network {name} cannot be removed, because other containers are connected to it ({', '.join(others)}): "
            f"disconnect them (docker network disconnect {name} {others[0]}); nothing was changed",
            kind="foreign",
        )


def _message(declaration: Declaration, plan: Plan, check: bool, *, seamless: bool) -> str:
    """Return what was done. C(seamless): a proxy was there before, so that the port was open all the time."""
    if not plan.changed:
        return f"{declaration.name} is as declared at {declaration.url}"
    why = "; ".join(plan.reasons) or "it does not exist yet"
    would = "would be " if check else ""
    if plan.create and plan.remove:
        how = "replaced without losing a request" if seamless else "replaced, with a gap while the new one starts"
    elif plan.create:
        how = "deployed"
    else:
        how = "repaired"
    return f"{declaration.name} {would}{how} at {declaration.url}: {why}"
