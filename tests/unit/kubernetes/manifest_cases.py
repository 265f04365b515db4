"""Declarations that the tests of the rendering share: as small as can be, with everything, and each option alone."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.manifests import render
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object

NAMESPACE = "shop"
IMAGE = "registry.example/digits@sha256:" + "0123456789abcdef" * 4

Given = dict[str, t.Any]

#: One value of each suboption of ``kubernetes``, other than its default.
EACH: dict[str, t.Any] = {
    "create_namespace": False,
    "namespace_labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    "service": {"type": "NodePort", "port": 8000, "node_port": 30080, "annotations": {"example.com/team": "vision"}},
    "service_account": {"annotations": {"example.com/role": "reader"}, "automount": True},
    "secrets": {"API_KEY": "k-1234", "LICENCE": "l-5678"},
    "config_files": {"/etc/app/app.yml": "a: 1\n", "/etc/app.yml": "b: 2\n"},
    "secret_files": {"/etc/app/key.pem": "-----BEGIN…\n"},
    "storage": [
        {"name": "cache", "size": "1536m", "mount_path": "/cache", "keep": True},
        {
            "name": "shared",
            "size": "10Gi",
            "mount_path": "/shared",
            "storage_class": "nfs",
            "access_modes": ["ReadWriteMany"],
        },
    ],
    "requests": {"memory": "256m", "cpus": 0.25},
    "gpus": {"count": 2},
    "node_selector": {"disk": "ssd", "fast": True},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "serving", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
            }
        }
    },
    "priority_class": "high",
    "topology_spread": [
        {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "runtime_class": "gvisor",
    "image_pull_secrets": ["registry"],
    "node_lost_seconds": 60,
    "liveness_path": "/live",
    "autoscaling": {
        "min": 2,
        "max": 7,
        "cpu_percent": 70,
        "memory_percent": 80,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "modelship_in_flight"},
                    "target": {"type": "AverageValue", "averageValue": "20"},
                },
            }
        ],
    },
    "disruption_budget": {"min_available": "50%"},
    "network_policy": {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "front"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "ingress": {
        "host": "digits.example.com",
        "path": "/digits",
        "class": "nginx",
        "tls_secret": "digits-tls",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "8m"},
    },
    "http_route": {
        "parents": [{"name": "public", "namespace": "gateways", "section": "https", "port": 443}],
        "hostnames": ["digits.example.com"],
        "path": "/digits",
    },
    "service_monitor": {"enabled": "true", "interval": "15s", "path": "/metrics", "labels": {"release": "prometheus"}},
    "rollout": {"deadline": 600, "max_surge": "25%", "max_unavailable": "1", "pre_stop_seconds": 8, "history": 3},
    "pod_annotations": {"example.com/scrape": True},
    "annotations": {"example.com/owner": "vision"},
    "extra_resources": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"a": "1"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "extra"},
            "rules": [],
        },
    ],
    "force": True,
    "wait": False,
}

#: Values other than their defaults of the options that both targets know.
COMMON: dict[str, t.Any] = {
    "replicas": 3,
    "workers": 2,
    "container_port": 9000,
    "environment": {"LOG_LEVEL": "debug", "DEBUG": True, "MODELSHIP_GRPC_PORT": 8081, "DATABASE_PASSWORD": "p-9012"},
    "limits": {"memory": "1g", "cpus": 1.5},
    "health": {"path": "/healthz", "interval": 1.5, "start_deadline": 40.0, "timeout": 0.5},
    "read_only": False,
    "user": "1000:2000",
    "tmpfs": ["/tmp:size=64m", "/run"],  # noqa: S108 - a path inside the container
    "https": {"secret": "digits-tls", "client_ca": True},
    "drain_seconds": 20,
    "labels": {"team": "vision", "example.com/stage": "production"},
}

_CLUSTER_SCOPED = frozenset(("Namespace", "ClusterRole", "CustomResourceDefinition", "PriorityClass"))


def parameters(common: t.Mapping[str, t.Any] | None = None, **kubernetes: t.Any) -> dict[str, t.Any]:
    """Return the module's parameters as AnsibleModule gives them: the argument spec's defaults, then *common*."""
    found = {name: copy.deepcopy(spec.get("default")) for name, spec in OPTIONS.items()}
    found.update(name="digits", target="kubernetes", image=IMAGE, namespace=NAMESPACE)
    found.update(copy.deepcopy(dict(common or {})))
    found["kubernetes"] = copy.deepcopy(kubernetes) or None
    return found


def maximal() -> dict[str, t.Any]:
    """Return parameters with everything that can be declared together."""
    return parameters(COMMON, **{**EACH, "create_namespace": True})


def rendered(given: t.Mapping[str, t.Any], *, served: bool = True) -> list[Object]:
    """Return the objects of the parameters *given*; custom kinds are *served* or not."""
    return render(
        declare(given),
        KubernetesOptions.from_parameters(given),
        given["namespace"],
        kinds=lambda _api_version, _kind: served,
        namespaced=lambda _api_version, kind: kind not in _CLUSTER_SCOPED,
    )


def only(objects: list[Object], kind: str) -> Object:
    """Return the one object of *kind*."""
    [found] = [obj for obj in objects if obj["kind"] == kind]
    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of *kind*."""
    return [obj for obj in objects if obj["kind"] == kind]


def deployment(given: Given) -> Object:
    """Return the Deployment of the parameters *given*."""
    return only(rendered(given), "Deployment")


def pod(given: Given) -> Object:
    """Return its pod spec."""
    found: Object = deployment(given)["spec"]["template"]["spec"]
    return found


def container(given: Given) -> Object:
    """Return its container."""
    [found] = pod(given)["containers"]
    return t.cast(Object, found)


def refusal(given: Given, **how: t.Any) -> ModelshipError:
    """Return the error that the parameters *given* are refused with."""
    with pytest.raises(ModelshipError) as caught:
        rendered(given, **how)
    assert "\n" not in caught.value.message
    return caught.value
