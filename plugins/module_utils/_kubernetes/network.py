# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the pods are reached: Service, NetworkPolicy, Ingress, HTTPRoute, and how Prometheus finds them."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .objects import Object
from .scope import GRPC, PORT, Scope, given

#: Kinds that a cluster serves only where somebody installed them.
ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
MONITOR = ("monitoring.coreos.com/v1", "ServiceMonitor")

Served = t.Callable[[str, str], bool]


def network(scope: Scope, served: Served) -> list[Object]:
    """Return everything by which the pods of *scope* are reached.

    :param served: tells whether the cluster serves an apiVersion and kind; asked only about what may be needed.
    :raises ModelshipError: a declared kind is not served.
    """
    parts = [_service(scope), _policy(scope), _ingress(scope), _route(scope, served), _monitor(scope, served)]
    return [part for part in parts if part is not None]


def _service(scope: Scope) -> Object:
    service = scope.options.service
    port = {
        "name": PORT,
        "port": service.port,
        "protocol": "TCP",
        "targetPort": PORT,
        "appProtocol": scope.declaration.scheme,
        "nodePort": service.node_port,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": scope.metadata(annotations=service.annotations),
        "spec": {"type": service.type, "selector": scope.selector, "ports": [given(port), *_grpc(scope)]},
    }


def _grpc(scope: Scope) -> list[Object]:
    number = scope.declaration.grpc_port
    if number is None:
        return []
    # HTTP/2 without TLS has a name of its own (KEP-3726)
    protocol = "https" if scope.declaration.scheme == "https" else "kubernetes.io/h2c"
    return [{"name": GRPC, "port": number, "protocol": "TCP", "targetPort": GRPC, "appProtocol": protocol}]


def _policy(scope: Scope) -> Object | None:
    peers = scope.options.network_policy
    if peers is None:
        return None
    numbers = [number for number in (scope.declaration.container_port, scope.declaration.grpc_port) if number]
    ports = [{"port": number, "protocol": "TCP"} for number in numbers]
    spec: Object = {
        "podSelector": {"matchLabels": scope.selector},
        "policyTypes": ["Ingress"] if peers.egress is None else ["Ingress", "Egress"],
        # a rule without "from" would let everybody in
        "ingress": [{"from": peers.sources, "ports": ports}] if peers.sources else None,
        "egress": peers.egress or None,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": scope.metadata(),
        "spec": given(spec),
    }


def _ingress(scope: Scope) -> Object | None:
    ingress = scope.options.ingress
    if ingress is None:
        return None
    backend = {"service": {"name": scope.name, "port": {"name": PORT}}}
    path = {"path": ingress.path, "pathType": "Prefix", "backend": backend}
    spec: Object = {
        "ingressClassName": ingress.class_name,
        "rules": [{"host": ingress.host, "http": {"paths": [path]}}],
        "tls": [{"hosts": [ingress.host], "secretName": ingress.tls_secret}] if ingress.tls_secret else None,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": scope.metadata(annotations=ingress.annotations),
        "spec": given(spec),
    }


def _route(scope: Scope, served: Served) -> Object | None:
    route = scope.options.http_route
    if route is None:
        return None
    _must_be_served(ROUTE, served, "kubernetes.http_route", "install the Gateway API, or use kubernetes.ingress")
    parents = [
        given(
            {
                "name": parent["name"],
                "namespace": parent["namespace"],
                "sectionName": parent["section"],
                "port": parent["port"],
            }
        )
        for parent in route.parents
    ]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": route.path}}],
        "backendRefs": [{"name": scope.name, "port": scope.options.service.port}],
    }
    spec: Object = {"parentRefs": parents, "hostnames": route.hostnames or None, "rules": [rule]}
    return {"apiVersion": ROUTE[0], "kind": ROUTE[1], "metadata": scope.metadata(), "spec": given(spec)}


def _monitor(scope: Scope, served: Served) -> Object | None:
    monitor = scope.options.service_monitor
    if monitor.enabled is False:
        return None
    if monitor.enabled:
        _must_be_served(
            MONITOR, served, "kubernetes.service_monitor", "install the Prometheus Operator, or leave it out"
        )
    elif not served(*MONITOR):
        return None
    endpoint = given({"port": PORT, "path": monitor.path, "interval": monitor.interval})
    if scope.declaration.scheme == "https":
        # pods are asked by their addresses, which are in no certificate
        endpoint |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    return {
        "apiVersion": MONITOR[0],
        "kind": MONITOR[1],
        "metadata": scope.metadata(labels=monitor.labels),
        "spec": {"selector": {"matchLabels": scope.selector}, "endpoints": [endpoint]},
    }


def _must_be_served(kind: tuple[str, str], served: Served, option: str, instead: str) -> None:
    if not served(*kind):
        raise ModelshipError(
            f"{option} is declared, but the cluster does not serve {kind[1]} of {kind[0]}: {instead}", kind="kubernetes"
        )
