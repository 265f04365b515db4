# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding what is to be done: pure, so that check mode and a real run cannot differ."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.diff import Difference
from .._core.secret_values import secret_values
from .._deployment.declaration import Declaration
from . import proxy as proxies
from .observe import Container, Observed, proxy_name
from .spec import Spec, environment_of, replica_spec, shown, spec_digest


@dataclasses.dataclass
class Plan:
    """What is to be done.

    :param keep: replicas that stay as they are.
    :param create: names of the replicas to make.
    :param remove: containers to take away, in the end.
    :param network: make (or make again) the network.
    :param proxy: ``""`` nothing, ``create``, ``replace``, ``remove``, ``rename`` (it is left from a run broken off).
    :param reload: the proxy is to take over another configuration.
    :param reasons: why, one clause each; empty where there is nothing to do.
    """

    spec: Spec
    generation: int
    keep: list[Container] = dataclasses.field(default_factory=list)
    create: list[str] = dataclasses.field(default_factory=list)
    remove: list[Container] = dataclasses.field(default_factory=list)
    network: bool = False
    proxy: str = ""
    proxy_spec: Spec | None = None
    reload: bool = False
    reasons: list[str] = dataclasses.field(default_factory=list)
    difference: Difference = dataclasses.field(default_factory=lambda: Difference("deployment"))

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.create or self.remove or self.network or self.proxy or self.reload)


def unfit(container: Container, spec: Spec) -> list[str]:
    """Return why a container is not (any more) what *spec* declares; empty where it is."""
    if container.view is None:
        return [f"{container.name} has no readable labels"]
    wanted = shown(spec)
    view = container.view
    reasons = [f"{key}: {_change(view.get(key), wanted[key])}" for key in wanted if view.get(key) != wanted[key]]
    if not reasons and container.digest != spec_digest(spec):
        reasons = ["its specification changed"]
    if reasons:
        return [f"{container.name} differs ({'; '.join(reasons)})"]
    if not container.running:
        return [f"{container.name} is {container.status}"]
    if container.not_ready is not None:
        return [f"{container.name} is not ready: {container.not_ready}"]
    return []


def decide(declaration: Declaration, options: proxies.ProxyOptions | None, observed: Observed) -> Plan:
    """Compare what is declared with what was observed."""
    network = proxies.network_name(declaration.name) if options else None
    plan = Plan(spec=replica_spec(declaration, network), generation=observed.generation + 1)
    plan.difference = Difference(f"deployment {declaration.name}")
    plan.network = options is not None and observed.network is None
    if plan.network and _was_proxied(observed):
        plan.reasons.append(f"network {network} is gone")
    serving = proxies.servers_of(observed.config or "")
    # Of several that fit, those that already serve are kept: nothing has to be switched then.
    for replica in sorted(observed.replicas, key=lambda item: item.name not in serving):
        why = unfit(replica, plan.spec)
        if plan.network or (options and replica.address is None):
            why = why or [f"{replica.name} is in no network"]
        if not why and len(plan.keep) < declaration.replicas:
            plan.keep.append(replica)
        else:
            plan.remove.append(replica)
            plan.reasons += why or [f"{replica.name} is one more than declared"]
    missing = declaration.replicas - len(plan.keep)
    plan.create = [f"{declaration.name}-g{plan.generation}-{index + 1}" for index in range(missing)]
    if missing and not plan.remove:
        plan.reasons.append(f"{len(observed.replicas)} of {declaration.replicas} replicas exist")
    plan.remove += observed.leftovers
    plan.reasons += [f"{item.name} is left over from a run that was broken off" for item in observed.leftovers]
    _decide_proxy(plan, declaration, options, observed)
    _describe(plan, declaration, observed)
    return plan


def _decide_proxy(
    plan: Plan, declaration: Declaration, options: proxies.ProxyOptions | None, observed: Observed
) -> None:
    proxy = observed.proxy
    if options is None:
        if proxy is not None:
            plan.proxy = "remove"
            plan.reasons.append("no proxy is declared any more")
        return
    plan.proxy_spec = proxies.proxy_spec(options, declaration)
    if proxy is None:
        plan.proxy = "create"
        if observed.replicas:
            plan.reasons.append("the proxy is gone" if _was_proxied(observed) else "a proxy is declared now")
        return
    why = unfit(proxy, plan.proxy_spec)
    if not why and observed.running_config is None:
        why = [f"{proxy.name} does not answer"]
    if why:
        plan.proxy = "replace"
        plan.reasons += why
        return
    if proxy.name != proxy_name(declaration.name):
        plan.proxy = "rename"
        plan.reasons.append(f"{proxy.name} is left over from a run that was broken off")
    servers = {item.name: item.address or "" for item in plan.keep}
    config = proxies.render(declaration, options, servers)
    if plan.create or observed.config != config.text or observed.running_config != config.digest:
        plan.reload = True
        if not plan.create and not plan.remove:
            plan.reasons.append("the proxy's configuration differs")


def _was_proxied(observed: Observed) -> bool:
    """Return whether there are replicas that were created for a proxy."""
    return any(item.view and item.view["network"] for item in observed.replicas)


def _describe(plan: Plan, declaration: Declaration, observed: Observed) -> None:
    """Record before and after, as far as they differ."""
    plan.difference.conceal(lambda: _secrets(plan.spec, observed), [declaration.name])
    latest = observed.replicas[-1] if observed.replicas else None
    before = (latest.view or {}) if latest else {}
    for key, value in shown(plan.spec).items():
        plan.difference.add(key, before.get(key), value)
    plan.difference.add(
        "containers",
        {item.name: _state(item) for item in [*observed.replicas, *observed.leftovers]} or None,
        {**{item.name: "ready" for item in plan.keep}, **dict.fromkeys(plan.create, "ready")},
    )
    old_proxy = _seen(observed.proxy.view) if observed.proxy else None
    if old_proxy is not None and observed.proxy is not None:
        old_proxy["state"] = observed.proxy.status if observed.running_config else "does not answer"
        old_proxy["listens"] = ":".join(map(str, proxies.bind_of(observed.config or "") or ["nowhere"]))
    new_proxy = _seen(plan.proxy_spec)
    if new_proxy is not None:
        new_proxy["state"] = "running"
        new_proxy["listens"] = f"{declaration.host_ip}:{declaration.port}"
    plan.difference.add("proxy", old_proxy, new_proxy)
    if plan.network and _was_proxied(observed):
        plan.difference.add("network_state", "gone", "made again")


def _secrets(spec: Spec, observed: Observed) -> set[str]:
    """Return the secrets that are declared, and those that the containers have."""
    environments = [spec["environment"], *(environment_of(container.info) for container in observed.containers)]
    return {secret for values in environments for secret in secret_values(values)}


def _seen(spec: Spec | None) -> dict[str, t.Any] | None:
    return None if spec is None else {key: spec[key] for key in ("image", "user", "restart_policy", "volumes")}


def _state(container: Container) -> str:
    if not container.running:
        return container.status
    return "ready" if container.not_ready is None else "not ready"


def _change(before: t.Any, after: t.Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        return ", ".join(sorted(key for key in {*before, *after} if before.get(key) != after.get(key)))
    return f"{_word(before)} -> {_word(after)}"


def _word(value: t.Any) -> str:
    if isinstance(value, str) and "@sha256:" in value:
        return value.rpartition("@")[2][:19]
    return "none" if value is None else str(value)
