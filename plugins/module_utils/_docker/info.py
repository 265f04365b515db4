# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Docker Engine serves of a deployment now; it only reads."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from .._core.progress import Progress
from .._deployment.declaration import Declaration, Health
from .._deployment.info import Condition, Drift, Endpoint, Info, Inquiry, golden_verdict, worst
from . import proxy as proxies
from .health import asking, ended
from .observe import Container, Observed, age, ask_ready, replica_url
from .plan import decide

#: Label by which an image tells the digest of the release in it.
RELEASE_LABEL = "io.modelship.release"


def look(inquiry: Inquiry, options: proxies.ProxyOptions | None, observed: Observed, progress: Progress) -> Info:
    """Return what is served, after asking each replica whether it is ready.

    :param options: the declared proxy's, ``None`` where none is declared.
    :raises ModelshipError: the release whose golden answers are asked for cannot be read.
    """
    health = inquiry.health or _health_of(observed)
    urls = {item.name: url for item in observed.replicas if (url := _ask(item, inquiry.name, health))}
    conditions = {item.name: condition_of(item, health) for item in observed.replicas}
    serving = serving_replicas(observed)
    image = serving[-1].info["Config"]["Image"] if serving else None
    golden = None
    if inquiry.verification is not None:
        endpoints = [_endpoint(item, urls.get(item.name), conditions[item.name], inquiry, health) for item in serving]
        golden = golden_verdict(inquiry.verification, endpoints, health.path, progress)
    proxied = observed.proxy is not None or any(item.view and item.view["network"] for item in serving)
    return Info(
        name=inquiry.name,
        target="docker",
        exists=bool(observed.containers or observed.network or observed.probe or observed.volume),
        health=_overall(observed, [conditions[item.name] for item in serving], proxied),
        image=image,
        release=release_of(serving[-1]) if serving else None,
        url=_public_url(inquiry.name, observed, serving),
        replicas=[
            {
                **replica_facts(item),
                "health": conditions[item.name].state,
                "reason": conditions[item.name].reason,
                "image": item.info["Config"]["Image"],
                "serving": item in serving,
            }
            for item in observed.replicas
        ],
        golden=golden,
        drift=_drift(inquiry.declaration, options, observed, conditions) if inquiry.declaration else None,
        details={
            "strategy": ("proxy" if proxied else "recreate") if serving else None,
            "proxy": proxy_facts(observed.proxy),
            "grpc": _grpc_address(observed, serving),
        },
    )


def replica_facts(container: Container) -> dict[str, t.Any]:
    """Return a replica as modules return it."""
    health = "ready" if container.not_ready is None else "not ready"
    return {
        "container": container.ident,
        "name": container.name,
        "address": container.address,
        "state": container.status,
        "health": health if container.running else container.status,
    }


def proxy_facts(proxy: Container | None) -> dict[str, t.Any] | None:
    """Return the proxy as modules return it; ``None`` where there is none."""
    if proxy is None:
        return None
    return {"container": proxy.ident, "name": proxy.name, "image": proxy.info["Config"]["Image"]}


def release_of(container: Container) -> str | None:
    """Return the digest of the release in a container's image; the Engine gives containers their images' labels."""
    return (container.info["Config"].get("Labels") or {}).get(RELEASE_LABEL)


def serving_replicas(observed: Observed) -> list[Container]:
    """Return the replicas that requests go to: those that the proxy's configuration names, else all there are."""
    servers = proxies.servers_of(observed.config or "")
    return [item for item in observed.replicas if item.name in servers] or observed.replicas


def condition_of(replica: Container, health: Health) -> Condition:
    """Judge a replica that has been asked whether it is ready; a young one may still become so."""
    if replica.status == "created":
        return Condition("progressing", f"{replica.name} is not started yet")
    if not replica.running:
        return Condition("failed", f"{replica.name} {ended(replica.info) or f'is {replica.status}'}")
    if replica.not_ready is None:
        return Condition("ready", "")
    young = age(replica.info) < health.start_deadline and not replica.info.get("RestartCount")
    return Condition("progressing" if young else "failed", f"{replica.name} is not ready: {replica.not_ready}")


def _health_of(observed: Observed) -> Health:
    path = proxies.check_path_of(observed.config or "")
    return Health(path=path) if path else Health()


def _ask(replica: Container, name: str, health: Health) -> str | None:
    """Ask one running replica whether it is ready; return the URL at which it was asked."""
    if not replica.running:
        return None
    found = _as_found(replica, name, health)
    url = replica_url(replica, found) if found else None
    if found is None:
        replica.not_ready = "its labels are unreadable"
    elif url is None:
        replica.not_ready = "it is in no network"
    else:
        # facts are about now: nothing is waited for
        ask_ready(replica, dataclasses.replace(found, health=dataclasses.replace(health, start_deadline=0)), url)
    return url


def _as_found(replica: Container, name: str, health: Health) -> Declaration | None:
    """Return what would have to be declared for the replica to be addressed as it is."""
    if replica.view is None:
        return None
    found = Declaration(
        name=name,
        image=replica.view["image"],
        container_port=replica.view["port"],
        environment=replica.view["environment"],
        health=health,
    )
    host_ip, _colon, port = (replica.view["published"] or "").rpartition(":")
    return dataclasses.replace(found, host_ip=host_ip, port=int(port)) if port.isdigit() else found


def _endpoint(replica: Container, url: str | None, condition: Condition, inquiry: Inquiry, health: Health) -> Endpoint:
    if url is None:
        return Endpoint(replica.name, None, condition.reason)
    return Endpoint(replica.name, asking(url, inquiry.verification, timeout=max(health.timeout, 10.0)))


def _public_url(name: str, observed: Observed, serving: list[Container]) -> str | None:
    bind = proxies.bind_of(observed.config or "")
    if bind is not None:
        return Declaration(name=name, image="", host_ip=bind[0], port=bind[1]).url
    for replica in serving:
        found = _as_found(replica, name, Health())
        if found is not None and replica.view and replica.view["published"]:
            return found.url
    return None


def _grpc_address(observed: Observed, serving: list[Container]) -> str | None:
    """Return host and port at which gRPC is served on the host; ``None`` where it is not."""
    binds = [f"{host}:{port}" for host, port in proxies.binds_of(observed.config or "")[1:]]
    published = [item.view["published_grpc"] for item in serving if item.view and item.view["published_grpc"]]
    for each in [*binds, *published]:
        host, _colon, port = each.rpartition(":")
        return f"{Declaration(name='', image='', host_ip=host).address}:{port}"
    return None


def _overall(observed: Observed, replicas: list[Condition], proxied: bool) -> Condition:
    if not (observed.containers or observed.network or observed.probe or observed.volume):
        return Condition("absent", "nothing of it was found")
    if not replicas:
        return Condition("failed", "there is no replica")
    parts = list(replicas)
    if proxied:
        parts.append(_proxy_condition(observed))
    found = worst(parts)
    if found.state == "ready":
        return Condition("ready", f"{len(replicas)} of {len(replicas)} replicas are ready")
    ready = sum(item.state == "ready" for item in replicas)
    return Condition(found.state, f"{ready} of {len(replicas)} replicas are ready; {found.reason}")


def _proxy_condition(observed: Observed) -> Condition:
    if observed.proxy is None:
        return Condition("failed", "the proxy is gone")
    if not observed.proxy.running:
        return Condition("failed", f"{observed.proxy.name} is {observed.proxy.status}")
    if observed.running_config is None:
        return Condition("failed", f"{observed.proxy.name} does not answer")
    return Condition("ready", "")


def _drift(
    declaration: Declaration,
    options: proxies.ProxyOptions | None,
    observed: Observed,
    conditions: dict[str, Condition],
) -> Drift:
    judged = copy.copy(observed)
    # one that may still become ready is what was declared, so far
    judged.replicas = [
        dataclasses.replace(item, not_ready=None) if conditions[item.name].state == "progressing" else item
        for item in observed.replicas
    ]
    plan = decide(declaration, options, judged)
    return Drift(plan.changed, plan.reasons, plan.difference)
