"""Who has rights in one namespace only deploys there, with exactly the Role that is documented."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from tests.cluster.engine import ClusterError
from tests.cluster.fixture import RunningCluster

from .declared import NAME, Declared, Object
from .light import eventually, failure, kubeconfig_of
from .serving import ROOT, Serving

pytestmark = pytest.mark.integration

RBAC = "rbac.authorization.k8s.io"
USER = {"kind": "ServiceAccount", "name": "ci"}


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[str]:
    """One with the user, who has no rights yet."""
    with cluster.namespace() as name:
        cluster.kubectl("create", "serviceaccount", USER["name"], f"--namespace={name}")
        yield name


@pytest.fixture
def admin(cluster: RunningCluster) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": cluster.kubeconfig})) as made:
        yield made


def documented() -> list[Object]:
    return t.cast("list[Object]", yaml.safe_load((ROOT / "docs" / "kubernetes-role.yml").read_text())["rules"])


def allow(admin: Api, namespace: str, rules: list[Object]) -> None:
    metadata = {"name": "ci", "namespace": namespace}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    of = {"apiGroup": RBAC, "kind": "Role", "name": "ci"}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": of,
        "subjects": [USER],
    }
    for obj in (role, binding):
        admin.apply(obj, manager="test")


def may(cluster: RunningCluster, namespace: str, *what: str) -> bool:
    user = f"--as=system:serviceaccount:{namespace}:{USER['name']}"
    try:
        cluster.kubectl("auth", "can-i", *what, user, f"--namespace={namespace}")
    except ClusterError:
        return False
    return True


def bound(namespace: str) -> list[Object]:
    """A role of the pods' own, and its binding, which the user may make because it has these rights itself."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    metadata = {"name": "reader"}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    of = {"apiGroup": RBAC, "kind": "Role", "name": "reader"}
    pods = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": of,
        "subjects": [pods],
    }
    return [binding, role]


def test_the_documented_rights_in_one_namespace_are_enough(
    cluster: RunningCluster, admin: Api, namespace: str, serving: Serving, installed: Path, tmp_path: Path
) -> None:
    allow(admin, namespace, documented())
    eventually("the rights count", lambda: may(cluster, namespace, "list", "secrets"))
    assert not may(cluster, namespace, "get", f"namespaces/{namespace}")
    token = cluster.kubectl("create", "token", USER["name"], f"--namespace={namespace}").strip()
    kubeconfig = kubeconfig_of(cluster, {"token": token}, tmp_path / "kubeconfig")
    digits = Declared(admin, kubeconfig, namespace, serving.first, tmp_path, installed)
    digits.declare(
        replicas=1,
        drain_seconds=0,
        kubernetes={
            "config_files": {"/etc/digits/thresholds.yml": "red: 0.5\n"},
            "secrets": {"LICENCE": "licence-7f3a"},
            "storage": [{"name": "cache", "size": "10m", "mount_path": "/cache", "access_modes": ["ReadWriteMany"]}],
            "autoscaling": {"max": 2},
            "network_policy": {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
            "ingress": {"host": "digits.example.com", "class": "none"},
            "service_monitor": {"enabled": "false"},
            "rollout": {"pre_stop_seconds": 0},
        },
    )
    assert digits.run(check=True).changed
    first = digits.run()
    assert first.changed
    assert first.warnings == []
    assert first.result["deployment"]["release"] == serving.first.release
    assert not digits.run().changed
    found = digits.info()
    assert (found["health"]["state"], found["golden"]["ok"], found["drift"]["drifted"]) == ("ready", True, False)
    # a failure is told with the log, and taken back
    error = failure(digits, environment={"MODELSHIP_RELEASE": "/nowhere"})
    assert error.details["restored"]["revision"] == 1
    assert any("/nowhere" in line for line in error.details["log"])
    # to see one's own namespace, but not to list it, and to make roles without being allowed to bind any
    seen = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    roles = {"apiGroups": [RBAC], "resources": ["roles", "rolebindings"]}
    roles["verbs"] = ["get", "list", "watch", "create", "patch", "delete"]
    allow(admin, namespace, [*documented(), seen, roles])
    eventually("the rights count", lambda: may(cluster, namespace, "list", "rolebindings"))
    digits.declare(kubernetes={"extra_resources": bound(namespace)})
    assert digits.run().changed
    assert not digits.run().changed
    assert digits.run(state="absent").changed
    assert digits.objects().keys() == {f"ServiceAccount/{USER['name']}"}
