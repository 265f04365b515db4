# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods that serve, and what they say of themselves."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .objects import DEPLOYMENT, Object
from .pods import is_alive, is_ready, observed_pods, row, serving_container, trouble
from .scope import PORT

if t.TYPE_CHECKING:
    from .client import Api

#: Header of every answer of the serving runtime (docs/formats.md).
_RELEASE_HEADER = "modelship-release"


class Replicas(t.NamedTuple):
    """The pods of a deployment, by name.

    :param pods: its replicas: pods of the Deployment that have not ended and are not being deleted. What has ended (an
        evicted pod, a completed one) is replaced by its controller and is not a replica, whatever is reported.
    :param serving: those of the current revision that are ready.
    :param spec: pod spec of the Deployment's template, which webhooks that change pods have not seen; ``None`` without one.
    """

    pods: list[Object]
    serving: list[Object]
    spec: Object | None


def replicas_of(api: Api, namespace: str, name: str) -> Replicas:
    """Return the replicas of the deployment *name*; without its Deployment the pods with its label.

    :raises ApiError: the server cannot be asked.
    """
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name}}
    observed = observed_pods(api, workload)
    if observed is None:
        orphans = api.list("v1", "Pod", namespace, labels=f"{DEPLOYMENT}={name}")[0]
        return Replicas(_sorted(pod for pod in orphans if is_alive(pod)), [], None)
    return Replicas(
        _sorted(pod for pod in observed.pods if is_alive(pod)),
        _sorted(pod for pod in observed.current if is_ready(pod) and is_alive(pod)),
        observed.live["spec"]["template"]["spec"],
    )


def replica_facts(pod: Object) -> dict[str, t.Any]:
    """Return a pod as modules return a replica."""
    facts = row(pod)
    wrong = trouble(pod)
    health = "ready" if facts["ready"] else "failed" if wrong else "progressing"
    return {
        **{key: facts[key] for key in ("name", "node", "address", "image", "restarts")},
        "state": str((pod.get("status") or {}).get("phase") or "Unknown").lower(),
        "health": health,
        "reason": "" if health == "ready" else facts["state"],
    }


def served_release(api: Api, replicas: Replicas) -> str | None:
    """Return the digest of the release that the first serving pod reports; ``None`` where it does not."""
    for pod in replicas.serving[:1]:
        spec = replicas.spec or pod["spec"]
        try:
            status, headers, _body = api.raw("GET", proxy_path(pod, spec) + (ready_path_of(spec) or "/"))
        except ModelshipError:  # what serves is known without it
            return None
        return headers.get(_RELEASE_HEADER) if status < 400 else None
    return None


def proxy_path(pod: Object, spec: Object | None = None) -> str:
    """Return the path under which the API server passes requests on to the serving port of *pod*.

    A pod that is probed by https is asked by https; the API server does not check a pod's certificate.

    :param spec: pod spec with the port and the probe as declared, by default the pod's own. Webhooks change that:
        service meshes send probes to a port of their own.
    """
    spec = spec or pod["spec"]
    ports = serving_container(spec).get("ports") or [{"containerPort": 80}]
    port = next((item for item in ports if item.get("name") == PORT), ports[0])["containerPort"]
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    scheme = "https:" if _ready_probe(spec).get("scheme") == "HTTPS" else ""
    return f"/api/v1/namespaces/{namespace}/pods/{scheme}{name}:{port}/proxy"


def ready_path_of(spec: Object) -> str:
    """Return the path of the readiness probe of a pod with *spec*; empty where it has none by HTTP."""
    return str(_ready_probe(spec).get("path") or "")


def _ready_probe(spec: Object) -> Object:
    probe = serving_container(spec).get("readinessProbe") or {}
    return probe.get("httpGet") or {}


def _sorted(pods: t.Iterable[Object]) -> list[Object]:
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
