"""Objects with the status that controllers and kubelets write, cut down to what is judged."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]
NAMESPACE = "shop"


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def make(api_version: str, kind: str, name: str, *, generation: int = 1, **rest: t.Any) -> Object:
    metadata: Object = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{kind}-{name}".lower(),
        "generation": generation,
    }
    metadata.update(rest.pop("metadata", {}))
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def owned(by: Object) -> list[Object]:
    return [
        {
            "apiVersion": by["apiVersion"],
            "kind": by["kind"],
            "name": by["metadata"]["name"],
            "uid": by["metadata"]["uid"],
            "controller": True,
        }
    ]


def deployment(
    *,
    replicas: int = 2,
    generation: int = 2,
    observed: int | None = 2,
    revision: str = "2",
    total: int = 0,
    updated: int = 0,
    available: int = 0,
    conditions: t.Sequence[Object] = (),
    **spec: t.Any,
) -> Object:
    """A Deployment ``digits``; counters that are 0 are left out, as the server does."""
    counts = {"replicas": total, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available}
    status: Object = {name: count for name, count in counts.items() if count}
    if observed is not None:
        status["observedGeneration"] = observed
    if conditions:
        status["conditions"] = list(conditions)
    return make(
        "apps/v1",
        "Deployment",
        "digits",
        generation=generation,
        metadata={"annotations": {"deployment.kubernetes.io/revision": revision}},
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "digits"}},
            "progressDeadlineSeconds": 60,
            **spec,
        },
        status=status,
    )


def replica_set(of: Object, revision: str, *conditions: Object) -> Object:
    return make(
        "apps/v1",
        "ReplicaSet",
        f"digits-r{revision}",
        metadata={"annotations": {"deployment.kubernetes.io/revision": revision}, "ownerReferences": owned(of)},
        spec={"replicas": 2},
        status={"observedGeneration": 1, "conditions": list(conditions)},
    )


def waiting(reason: str, message: str = "", *, restarts: int = 0, last: Object | None = None) -> Object:
    """The status of a container ``serve`` that waits; *last* is how its run before ended."""
    return {
        "name": "serve",
        "image": "registry.test/digits@sha256:abc",
        "ready": False,
        "started": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": last} if last else {},
    }


def running(*, ready: bool = True, started: bool = True, restarts: int = 0, last: Object | None = None) -> Object:
    return {
        "name": "serve",
        "image": "registry.test/digits@sha256:abc",
        "imageID": "registry.test/digits@sha256:abc",
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "lastState": {"terminated": last} if last else {},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"exitCode": code, "reason": reason, "message": message}


def pod(of: Object | None = None, name: str = "p1", *, node: str = "node-1", **rest: t.Any) -> Object:
    """A pod that is ready, unless ``containers``, ``init``, ``phase``, ``conditions``, ``metadata`` … say otherwise."""
    containers = rest.pop("containers", [running()])
    ready = all(each["ready"] for each in containers)
    conditions = rest.pop(
        "conditions",
        [
            condition("PodReadyToStartContainers"),
            condition("ContainersReady", str(ready)),
            condition("Ready", str(ready)),
            condition("PodScheduled"),
        ],
    )
    status: Object = {
        "phase": rest.pop("phase", "Running"),
        "conditions": conditions,
        "containerStatuses": containers,
        "podIP": "10.244.1.7",
    }
    if "init" in rest:
        status["initContainerStatuses"] = rest.pop("init")
    status.update(rest.pop("status", {}))
    metadata = {"ownerReferences": owned(of) if of else [], **rest.pop("metadata", {})}
    spec: Object = {
        "containers": [{"name": "serve", "image": "registry.test/digits@sha256:abc"}],
        **rest.pop("spec", {}),
    }
    if node:
        spec["nodeName"] = node
    return make("v1", "Pod", name, metadata=metadata, spec=spec, status=status)
