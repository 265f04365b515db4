# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod: restricted after Pod Security, read-only, probed by the serving API, going without losing a request."""

from __future__ import annotations

import math
import re
import typing as t

from .._core.errors import ModelshipError
from .._deployment.declaration import TLS_FOLDER, parse_size
from . import checks, quantities
from .configuration import Configuration
from .objects import Object
from .scope import CONTAINER, GRPC, PORT, Scope, given

#: Seconds that a container has to end after its drain, before it is killed.
_LEAVE_SECONDS = 5
#: Group of the volumes' files where no other is declared: that of the images that image_build makes.
_GROUP = 65532
_V2_READY, _V2_LIVE = "/v2/health/ready", "/v2/health/live"
_USER = re.compile(r"(\d+)(?::(\d+))?")


def pod_template(scope: Scope, configuration: Configuration) -> Object:
    """Return the Deployment's pod template.

    :param configuration: the pod's environment and files.
    :raises ModelshipError: the declaration has something that a pod cannot have; the message names the option.
    """
    declaration, options = scope.declaration, scope.options
    volumes, mounts = _volumes(scope, configuration)
    rollout = options.rollout
    account = options.service_account
    spec: Object = {
        "serviceAccountName": account.name or scope.name,
        "automountServiceAccountToken": account.automount,
        # a Service called modelship would put a URL into MODELSHIP_PORT of every pod
        "enableServiceLinks": False,
        "securityContext": _pod_security(scope),
        "terminationGracePeriodSeconds": rollout.pre_stop_seconds + declaration.drain_seconds + _LEAVE_SECONDS,
        "nodeSelector": options.node_selector or None,
        "tolerations": _tolerations(scope) or None,
        "affinity": options.affinity or _same_node(scope),
        "topologySpreadConstraints": _spread(scope) or None,
        "priorityClassName": options.priority_class,
        "runtimeClassName": options.runtime_class,
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets] or None,
        "containers": [_container(scope, configuration, mounts)],
        "volumes": volumes or None,
    }
    metadata: Object = {"labels": scope.labels}
    if options.pod_annotations:
        metadata["annotations"] = options.pod_annotations
    return {"metadata": metadata, "spec": given(spec)}


def _container(scope: Scope, configuration: Configuration, mounts: list[Object]) -> Object:
    declaration = scope.declaration
    pre_stop = scope.options.rollout.pre_stop_seconds
    container: Object = {
        "name": CONTAINER,
        "image": declaration.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [
            {"name": name, "containerPort": number, "protocol": "TCP"}
            for name, number in ((PORT, declaration.container_port), (GRPC, declaration.grpc_port))
            if number
        ],
        "env": configuration.environment,
        "resources": _resources(scope) or None,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": declaration.read_only,
        },
        **_probes(scope),
        # requests still come for as long as proxies need to learn that the pod is going; SIGTERM follows the sleep
        "lifecycle": {"preStop": {"sleep": {"seconds": pre_stop}}} if pre_stop else None,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts or None,
    }
    return given(container)


def _probes(scope: Scope) -> Object:
    """Return the three probes; the kubelet counts in whole seconds, at least one."""
    health = scope.declaration.health
    period, patience = max(1, math.ceil(health.interval)), max(1, math.ceil(health.timeout))
    scheme = {"scheme": "HTTPS"} if scope.declaration.scheme == "https" else {}
    ready = {
        "httpGet": {"path": health.path, "port": PORT, **scheme},
        "timeoutSeconds": patience,
        "periodSeconds": period,
    }
    live_path = scope.options.liveness_path or (_V2_LIVE if health.path == _V2_READY else None)
    # readiness may fail for reasons that a restart does not mend, so an unknown server is only asked for a connection
    live: Object = {"tcpSocket": {"port": PORT}}
    if live_path:
        live = {"httpGet": {"path": live_path, "port": PORT, **scheme}}
    return {
        "startupProbe": {**ready, "failureThreshold": max(1, math.ceil(health.start_deadline / period))},
        "readinessProbe": {**ready, "failureThreshold": 3},
        "livenessProbe": {**live, "timeoutSeconds": max(5, patience), "periodSeconds": 10, "failureThreshold": 3},
    }


def _resources(scope: Scope) -> Object:
    limits, requests, gpus = scope.declaration.limits, scope.options.requests, scope.options.gpus
    if requests.memory and limits.memory and requests.memory > limits.memory:
        raise ModelshipError("kubernetes.requests.memory is more than limits.memory: a replica could never have it")
    if requests.cpus and limits.cpus and requests.cpus > limits.cpus:
        raise ModelshipError("kubernetes.requests.cpus is more than limits.cpus: a replica could never have it")
    upper = _quantities(limits.memory or None, checks.cores(limits.cpus or None, "limits.cpus"))
    if gpus:
        upper[gpus.resource] = quantities.count(gpus.number)
    lower = _quantities(requests.memory, requests.cpus)
    return given({"limits": upper or None, "requests": lower or None})


def _quantities(memory: int | None, cpus: float | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if memory is not None:
        found["memory"] = quantities.memory(memory)
    if cpus is not None:
        found["cpu"] = quantities.cores(cpus)
    return found


def _pod_security(scope: Scope) -> Object:
    user, group = _user(scope.declaration.user)
    shared = (group or _GROUP) if scope.options.storage else None
    return given(
        {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            # what is on a claim must be writable for whatever user the image has
            "fsGroup": shared,
            "fsGroupChangePolicy": "OnRootMismatch" if shared else None,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    )


def _user(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    match = _USER.fullmatch(text)
    if not match:
        raise ModelshipError(f"user '{text}' is refused: Kubernetes knows users by number, write uid or uid:gid")
    if int(match[1]) == 0:
        raise ModelshipError(f"user '{text}' is refused: pods never run as root (Pod Security restricted)")
    return int(match[1]), None if match[2] is None else int(match[2])


def _volumes(scope: Scope, configuration: Configuration) -> tuple[list[Object], list[Object]]:
    """Return the pod's volumes and the container's mounts."""
    volumes, mounts = list(configuration.volumes), list(configuration.mounts)
    if https := scope.declaration.https:
        # the whole folder: a file alone (subPath) would never change in the pod
        volumes.append({"name": "tls", "secret": {"secretName": https.secret}})
        mounts.append({"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True})
    for index, text in enumerate(scope.declaration.tmpfs):
        path, size = _tmpfs(text)
        name = f"tmpfs-{index}"
        volumes.append({"name": name, "emptyDir": given({"medium": "Memory", "sizeLimit": size})})
        mounts.append({"name": name, "mountPath": path})
    for item in scope.options.storage:
        name = f"storage-{item.name}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim_name(scope, item.name)}})
        mounts.append({"name": name, "mountPath": item.mount_path})
    paths = [mount["mountPath"] for mount in mounts]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise ModelshipError(
            f"'{twice[0]}' is mounted twice: name it once in tmpfs, kubernetes.storage, config_files and secret_files"
        )
    return volumes, mounts


def claim_name(scope: Scope, storage: str) -> str:
    """Return the name of the PersistentVolumeClaim of a declared storage."""
    return f"{scope.name}-{storage}"


def _tmpfs(text: str) -> tuple[str, str | None]:
    """Return path and size limit of ``path[:size=64m]``."""
    path, _colon, options = text.partition(":")
    size = None
    for option in filter(None, options.split(",")):
        name, _equals, value = option.partition("=")
        if name == "size":
            size = quantities.memory(checks.within(parse_size(value, "tmpfs size"), "tmpfs size", 1))
        elif option != "rw":
            raise ModelshipError(f"tmpfs '{text}' is refused: of its options Kubernetes knows only size, not {option}")
    return checks.mount_path(path, "tmpfs"), size


def _tolerations(scope: Scope) -> list[Object]:
    options = scope.options
    found = list(options.tolerations)
    keys = {item.get("key") for item in found}
    # nodes with accelerators are often kept free for those who ask for one
    if options.gpus and options.gpus.resource not in keys:
        found.append({"key": options.gpus.resource, "operator": "Exists", "effect": "NoSchedule"})
    # the server's own default is 300 s, for which a lost node's replicas are missing
    for condition in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{condition}"
        if key not in keys:
            lost = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            found.append({**lost, "tolerationSeconds": options.node_lost_seconds})
    return found


def _same_node(scope: Scope) -> Object | None:
    """Return what a claim needs that only one node can mount: a new replica goes where the old one is."""
    if all(any("Many" in mode for mode in item.access_modes) for item in scope.options.storage):
        return None
    term = {"labelSelector": {"matchLabels": scope.selector}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _spread(scope: Scope) -> list[Object]:
    """Return the spread over nodes; a declared constraint without a selector gets that of the pods of one revision.

    Not over zones too: where nodes have no zone, the scheduler would spread over nothing at all.
    """
    constraints = scope.options.topology_spread
    if constraints is None:
        constraints = [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},
        ]
    selector: dict[str, t.Any] = {
        "labelSelector": {"matchLabels": scope.selector},
        "matchLabelKeys": ["pod-template-hash"],
    }
    return [item if "labelSelector" in item else {**selector, **item} for item in constraints]
