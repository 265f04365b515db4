# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths the kinds of objects have: the built-in ones from a table, all others as the API server tells."""

from __future__ import annotations

import typing as t

#: api_version: {kind: plural}; an exclamation mark in front: cluster-scoped. Kubernetes 1.31 and later.
_BUILT_IN: dict[str, dict[str, str]] = {
    "v1": {
        "ConfigMap": "configmaps",
        "Endpoints": "endpoints",
        "Event": "events",
        "LimitRange": "limitranges",
        "Namespace": "!namespaces",
        "Node": "!nodes",
        "PersistentVolume": "!persistentvolumes",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "Pod": "pods",
        "PodTemplate": "podtemplates",
        "ReplicationController": "replicationcontrollers",
        "ResourceQuota": "resourcequotas",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "admissionregistration.k8s.io/v1": {
        "MutatingWebhookConfiguration": "!mutatingwebhookconfigurations",
        "ValidatingAdmissionPolicy": "!validatingadmissionpolicies",
        "ValidatingAdmissionPolicyBinding": "!validatingadmissionpolicybindings",
        "ValidatingWebhookConfiguration": "!validatingwebhookconfigurations",
    },
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": "!customresourcedefinitions"},
    "apiregistration.k8s.io/v1": {"APIService": "!apiservices"},
    "apps/v1": {
        "ControllerRevision": "controllerrevisions",
        "DaemonSet": "daemonsets",
        "Deployment": "deployments",
        "ReplicaSet": "replicasets",
        "StatefulSet": "statefulsets",
    },
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"CronJob": "cronjobs", "Job": "jobs"},
    "coordination.k8s.io/v1": {"Lease": "leases"},
    "discovery.k8s.io/v1": {"EndpointSlice": "endpointslices"},
    "events.k8s.io/v1": {"Event": "events"},
    "networking.k8s.io/v1": {
        "Ingress": "ingresses",
        "IngressClass": "!ingressclasses",
        "NetworkPolicy": "networkpolicies",
    },
    "node.k8s.io/v1": {"RuntimeClass": "!runtimeclasses"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "rbac.authorization.k8s.io/v1": {
        "ClusterRole": "!clusterroles",
        "ClusterRoleBinding": "!clusterrolebindings",
        "Role": "roles",
        "RoleBinding": "rolebindings",
    },
    "scheduling.k8s.io/v1": {"PriorityClass": "!priorityclasses"},
    "storage.k8s.io/v1": {"CSIDriver": "!csidrivers", "StorageClass": "!storageclasses"},
}


class Resource(t.NamedTuple):
    """A kind as the API server serves it: *plural* is its name in paths.

    :param has_status: a controller may tell of its objects in a status of their own; not told of kinds that are built in.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    has_status: bool = False


def built_in(api_version: str, kind: str) -> Resource | None:
    """Return the resource of a kind that every maintained release of Kubernetes serves, else ``None``."""
    plural = _BUILT_IN.get(api_version, {}).get(kind)
    return None if plural is None else Resource(api_version, kind, plural.lstrip("!"), not plural.startswith("!"))


def group_path(api_version: str) -> str:
    """Return the path under which the API server serves *api_version*."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def found(api_version: str, kind: str, resources: t.Iterable[dict[str, t.Any]]) -> Resource | None:
    """Return *kind* out of the *resources* of an ``APIResourceList``, in which subresources are entries of their own."""
    listed = {str(resource.get("name")): resource for resource in resources}
    for name, resource in listed.items():
        if resource.get("kind") == kind and "/" not in name:
            return Resource(api_version, kind, name, bool(resource.get("namespaced")), f"{name}/status" in listed)
    return None
