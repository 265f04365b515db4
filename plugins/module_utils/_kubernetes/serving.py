# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods that serve, and what they say of themselves."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .objects import Object
from .pods import current_pods, is_alive, row, trouble

if t.TYPE_CHECKING:
    from .client import Api

#: Header of every answer of the serving runtime (docs/formats.md).
_RELEASE_HEADER = "modelship-release"


def serving_pods(api: Api, namespace: str, name: str) -> list[Object]:
    """Return the ready pods of the current revision of the deployment *name*, by name."""
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name}}
    pods = [pod for pod in current_pods(api, workload) if is_alive(pod)]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


def replica_facts(pod: Object) -> dict[str, t.Any]:
    """Return a pod as modules return a replica."""
    facts = row(pod)
    wrong = trouble(pod)
    health = "ready" if facts["ready"] else "failed" if wrong or not is_alive(pod) else "progressing"
    return {
        **{key: facts[key] for key in ("name", "node", "address", "image", "restarts")},
        "state": str((pod.get("status") or {}).get("phase") or "Unknown").lower(),
        "health": health,
        "reason": "" if health == "ready" else facts["state"],
    }


def served_release(api: Api, pods: t.Sequence[Object]) -> str | None:
    """Return the digest of the release that the first of *pods* says it serves; ``None`` where it does not say."""
    for pod in pods[:1]:
        try:
            status, headers, _body = api.raw("GET", proxy_path(pod) + (ready_path_of(pod) or "/"))
        except ModelshipError:  # what serves is known without it
            return None
        return headers.get(_RELEASE_HEADER) if status < 400 else None
    return None


def proxy_path(pod: Object) -> str:
    """Return the path under which the API server passes requests on to *pod*'s serving port, the first of its first container.

    A pod that is probed by https is asked by https; the API server does not check a pod's certificate.
    """
    ports = pod["spec"]["containers"][0].get("ports") or [{"containerPort": 80}]
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    scheme = "https:" if _ready_probe(pod).get("scheme") == "HTTPS" else ""
    return f"/api/v1/namespaces/{namespace}/pods/{scheme}{name}:{ports[0]['containerPort']}/proxy"


def ready_path_of(pod: Object) -> str:
    """Return the path of the readiness probe of *pod*; empty where it has none by HTTP."""
    return str(_ready_probe(pod).get("path") or "")


def _ready_probe(pod: Object) -> Object:
    probe = pod["spec"]["containers"][0].get("readinessProbe") or {}
    return probe.get("httpGet") or {}
