# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one declaration to all of its Kubernetes objects; pure, nothing is asked but which kinds there are.

Values are written in the API server's own canonical form, and what has no value is left out, so that an unchanged
declaration equals what is read back.
"""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .._deployment.declaration import Declaration
from . import checks, quantities
from .configuration import configuration
from .declared import Autoscaling, KubernetesOptions, Storage
from .extras import extra_resources
from .network import network
from .objects import DEPLOYMENT, KEEP, Object, custom_kinds, key_of
from .pod import claim_name, pod_template
from .scope import Scope, given

#: Namespaces that every cluster has.
_ALWAYS_THERE = frozenset(("default", "kube-system", "kube-public", "kube-node-lease"))


def render(
    declaration: Declaration,
    options: KubernetesOptions,
    namespace: str,
    *,
    kinds: t.Callable[[str, str], bool],
    namespaced: t.Callable[[str, str], bool],
) -> list[Object]:
    """Return the objects of *declaration* in *namespace*, the Namespace first and the extra resources last.

    :param kinds: tells whether the cluster serves an apiVersion and kind; asked about HTTPRoute and ServiceMonitor,
        where they may be needed.
    :param namespaced: tells whether objects of an apiVersion and kind live in namespaces; asked about extra resources.
    :raises ModelshipError: the declaration cannot be rendered; the message names the option.
    """
    _check(declaration, options)
    scope = Scope(declaration, options, namespace)
    customs = custom_kinds(item for item in options.extra_resources if isinstance(item, dict))

    def served(api_version: str, kind: str) -> bool:
        return (api_version, kind) in customs or kinds(api_version, kind)

    config = configuration(scope)
    own = [
        *_namespace(scope),
        *_service_account(scope),
        *config.objects,
        *(_claim(scope, item) for item in options.storage),
        *network(scope, served),
        _deployment(scope, pod_template(scope, config)),
        *_autoscaler(scope),
        *_budget(scope),
    ]
    taken = [key_of(obj) for obj in own]
    return [*own, *extra_resources(scope.name, options.extra_resources, namespace, taken, namespaced)]


def _check(declaration: Declaration, options: KubernetesOptions) -> None:
    """Judge what only the declaration and its options together tell."""
    checks.label_texts(declaration.labels, "labels", own=True)
    rollout, health = options.rollout, declaration.health
    if rollout.deadline <= health.start_deadline:
        raise ModelshipError(
            f"kubernetes.rollout.deadline {rollout.deadline} must be more than health.start_deadline "
            f"{health.start_deadline:g}: a rollout would fail while its pods may still start"
        )
    scaling, limits = options.autoscaling, declaration.limits
    if scaling is None or scaling.max is None:
        return
    if (scaling.min or declaration.replicas) > scaling.max:
        least = f"min {scaling.min}" if scaling.min else f"min, by default replicas {declaration.replicas},"
        raise ModelshipError(f"kubernetes.autoscaling.{least} is more than max {scaling.max}")
    for resource, percent, request, limit in (
        ("cpus", scaling.cpu_percent, options.requests.cpus, limits.cpus),
        ("memory", scaling.memory_percent, options.requests.memory, limits.memory),
    ):
        if percent is not None and not request and not limit:
            name = "cpu_percent" if resource == "cpus" else "memory_percent"
            raise ModelshipError(
                f"kubernetes.autoscaling.{name} {percent} is a share of what a replica requests: "
                f"give kubernetes.requests.{resource} or limits.{resource}"
            )


def _namespace(scope: Scope) -> list[Object]:
    if not scope.options.create_namespace or scope.namespace in _ALWAYS_THERE:
        return []
    labels = {**scope.options.namespace_labels, DEPLOYMENT: scope.name, "app.kubernetes.io/managed-by": "modelship"}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scope.namespace, "labels": labels}}]


def _service_account(scope: Scope) -> list[Object]:
    account = scope.options.service_account
    if account.name:
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": scope.metadata(annotations=account.annotations),
            "automountServiceAccountToken": account.automount,
        }
    ]


def _claim(scope: Scope, storage: Storage) -> Object:
    spec: Object = {
        "accessModes": list(storage.access_modes),
        "resources": {"requests": {"storage": quantities.memory(storage.size)}},
        "storageClassName": storage.storage_class,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": scope.metadata(
            claim_name(scope, storage.name), annotations={KEEP: "true"} if storage.keep else None
        ),
        "spec": given(spec),
    }


def _deployment(scope: Scope, template: Object) -> Object:
    rollout = scope.options.rollout
    strategy = {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable}
    spec: Object = {
        # an autoscaler and a declared number would undo each other
        "replicas": None if scope.options.autoscaling else scope.declaration.replicas,
        "revisionHistoryLimit": rollout.history,
        "progressDeadlineSeconds": rollout.deadline,
        "selector": {"matchLabels": scope.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": strategy},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": scope.metadata(), "spec": given(spec)}


def _autoscaler(scope: Scope) -> list[Object]:
    scaling = scope.options.autoscaling
    if scaling is None or scaling.max is None:
        return []
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": scope.name},
        "minReplicas": scaling.min or scope.declaration.replicas,
        "maxReplicas": scaling.max,
        "metrics": _metrics(scaling),
    }
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": scope.metadata(),
            "spec": spec,
        }
    ]


def _metrics(scaling: Autoscaling) -> list[Object]:
    shares = {"cpu": scaling.cpu_percent, "memory": scaling.memory_percent}
    found: list[Object] = []
    for resource, percent in shares.items():
        if percent is not None:
            target = {"type": "Utilization", "averageUtilization": percent}
            found.append({"type": "Resource", "resource": {"name": resource, "target": target}})
    return [*found, *scaling.metrics]


def _budget(scope: Scope) -> list[Object]:
    scaling, budget = scope.options.autoscaling, scope.options.disruption_budget
    most = scaling.max if scaling else scope.declaration.replicas
    if budget is None and most is not None and most <= 1:
        return []
    spec: Object = {
        "selector": {"matchLabels": scope.selector},
        "minAvailable": budget.min_available if budget else None,
        "maxUnavailable": budget.max_unavailable if budget else 1,
        # a replica that does not work anyway must not keep a node from being drained
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return [
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": scope.metadata(), "spec": given(spec)}
    ]
