# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address under which a deployment is reached from outside of its cluster."""

from __future__ import annotations

import typing as t

from .client import Api, ApiError
from .objects import Object
from .pods import is_lost
from .scope import PORT


def reachable(api: Api, live: t.Sequence[Object], name: str) -> str | None:
    """Return the base URL of the deployment *name*, or ``None`` where it can be reached from inside the cluster only.

    An Ingress or HTTPRoute with a host comes first, then a load balancer's address, then a node's with the node port.

    :param live: the deployment's objects as the server has them.
    """
    own = {item["kind"]: item for item in live if item["metadata"]["name"] == name}
    return _ingress(own.get("Ingress")) or _route(own.get("HTTPRoute")) or _service(api, own.get("Service"))


def inside(live: t.Sequence[Object], name: str) -> dict[str, t.Any] | None:
    """Return the Service's ``name``, ``type``, ``cluster_ip``, ``port``, ``node_port`` and its ``url`` in the cluster."""
    for item in live:
        if item["kind"] == "Service" and item["metadata"]["name"] == name:
            spec, meta = item["spec"], item["metadata"]
            port = _port(item)
            return {
                "name": name,
                "type": spec.get("type", "ClusterIP"),
                "cluster_ip": spec.get("clusterIP"),
                "port": port["port"],
                "node_port": port.get("nodePort"),
                "url": f"{_scheme(port)}://{name}.{meta['namespace']}.svc:{port['port']}",
            }
    return None


def _ingress(ingress: Object | None) -> str | None:
    if ingress is None:
        return None
    rule = (ingress["spec"].get("rules") or [{}])[0]
    if not rule.get("host"):
        return None
    scheme = "https" if ingress["spec"].get("tls") else "http"
    paths = (rule.get("http") or {}).get("paths") or [{}]
    return f"{scheme}://{rule['host']}{(paths[0].get('path') or '').rstrip('/')}"


def _route(route: Object | None) -> str | None:
    hosts = (route or {}).get("spec", {}).get("hostnames") or []
    # which scheme the Gateway's listener speaks is the Gateway's secret: plain HTTP is only a beginning
    return f"http://{hosts[0]}" if hosts and "*" not in hosts[0] else None


def _service(api: Api, service: Object | None) -> str | None:
    if service is None:
        return None
    port = _port(service)
    for entry in (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []:
        if address := entry.get("ip") or entry.get("hostname"):
            return _url(_scheme(port), address, port["port"])
    if port.get("nodePort") and (node := _node_address(api)):
        return _url(_scheme(port), node, port["nodePort"])
    return None


def _port(service: Object) -> Object:
    """Return the serving port, the one so named: an adopted Service may have others before it."""
    ports = service["spec"]["ports"]
    return dict(next((port for port in ports if port.get("name") == PORT), ports[0]))


def _node_address(api: Api) -> str | None:
    """Return the address of a ready node; ``None`` where nodes cannot be listed with these rights."""
    try:
        nodes, _version = api.list("v1", "Node", None)
    except ApiError as exc:
        if exc.status == 403:
            return None
        raise
    nodes.sort(key=lambda node: (is_lost(node), node["metadata"]["name"]))
    for node in nodes:
        addresses = {item["type"]: item["address"] for item in (node.get("status") or {}).get("addresses") or []}
        if address := addresses.get("ExternalIP") or addresses.get("InternalIP"):
            return str(address)
    return None


def _scheme(port: Object) -> str:
    return "https" if port.get("appProtocol") == "https" else "http"


def _url(scheme: str, address: str, port: int) -> str:
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
