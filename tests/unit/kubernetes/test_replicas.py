# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods are replicas, in every result alike, and which of their containers serves."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare
from ansible_collections.modelship.core.plugins.module_utils._deployment.info import Info, Inquiry
from ansible_collections.modelship.core.plugins.module_utils._endpoint.credentials import Credentials
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import info
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.backend import KubernetesBackend
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.endpoint import inside, reachable
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.golden import PodClient
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.plan import Plan
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.pods import row
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import load_record
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.rollout import Rollout, Settings
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.serving import replicas_of

from .manifest_cases import IMAGE, deployment, parameters
from .memory import NAMESPACE, Memory, namespace
from .shapes import Object, pod, replica_set, waiting

SIDECAR: Object = {
    "name": "proxy",
    "image": "mesh.test/proxy:1",
    "ports": [{"name": "admin", "containerPort": 15000}],
    "readinessProbe": {"httpGet": {"path": "/mesh", "port": 15021}},
}


class Cluster(Memory):
    """A server on which a Deployment's pods are what the test says, and each pod answers with a release."""

    def __init__(self, *, injected: bool = False) -> None:
        super().__init__()
        self.add(namespace())
        obj = deployment(parameters({"replicas": 2}))
        obj["metadata"] |= {"namespace": NAMESPACE, "annotations": {"deployment.kubernetes.io/revision": "2"}}
        obj["metadata"]["labels"] = {"modelship.io/deployment": "digits", "modelship.io/namespace": NAMESPACE}
        obj["metadata"]["managedFields"] = [{"manager": "modelship", "operation": "Apply", "fieldsV1": {}}]
        if injected:
            obj["spec"]["template"]["spec"]["containers"].insert(0, SIDECAR)
        self.workload = self.add(obj)
        labels = obj["spec"]["selector"]["matchLabels"]
        self.old_set, self.set = (
            self.add(replica_set(self.workload, revision), labels=labels) for revision in ("1", "2")
        )
        self.asked_paths: list[str] = []

    def pod(self, name: str, *, of: Object | None = None, **how: t.Any) -> Object:
        made = pod(of or self.set, name, **how)
        made["metadata"]["labels"] = self.workload["spec"]["selector"]["matchLabels"]
        made["spec"]["containers"] = copy.deepcopy(self.workload["spec"]["template"]["spec"]["containers"])
        return self.add(made)

    def raw(self, _method: str, path: str, **_how: t.Any) -> tuple[int, dict[str, str], bytes]:
        self.asked_paths.append(path)
        good = path.startswith(f"/api/v1/namespaces/{NAMESPACE}/pods/") and ":8080/proxy/v2" in path
        return (200, {"modelship-release": "sha256:1"}, b"{}") if good else (404, {}, b"")


def informed(api: Memory) -> Info:
    return info.look(t.cast(t.Any, api), NAMESPACE, Inquiry("digits"), None, Progress())


def deployed(api: Cluster) -> dict[str, t.Any]:
    """The result of the module deployment."""
    given = parameters({"replicas": 2})
    backend = KubernetesBackend.__new__(KubernetesBackend)
    backend.options = KubernetesOptions.from_parameters(given)
    backend.namespace, backend.api = NAMESPACE, t.cast(t.Any, api)
    declaration = declare(given)
    rollout = Rollout(backend.api, NAMESPACE, declaration, [], Settings(1, False, True), Progress())
    found = Plan("digits", NAMESPACE, [], t.cast(t.Any, None))
    load_record(backend.api, NAMESPACE, "digits")
    return backend._result(declaration, found, [api.workload], rollout)


ENDED = {"phase": "Failed", "conditions": [], "containers": [], "status": {"reason": "Evicted"}}


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("evicted", ENDED),
        ("completed", {"phase": "Succeeded", "conditions": [], "containers": []}),
        ("on a lost node", {"phase": "Unknown", "conditions": []}),
        ("being deleted", {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ],
)
def test_a_pod_that_has_ended_is_no_replica_in_any_result(what: str, more: dict[str, t.Any]) -> None:
    api = Cluster()
    api.pod("digits-1")
    api.pod("digits-2")
    api.pod("digits-0", **copy.deepcopy(more))
    told = informed(api)
    assert told.health.state == "ready", what
    assert [(item["name"], item["health"]) for item in told.replicas] == [("digits-1", "ready"), ("digits-2", "ready")]
    assert [item["name"] for item in deployed(api)["replicas"]] == ["digits-1", "digits-2"]


def test_replicas_that_are_not_ready_yet_are_replicas_in_all_results() -> None:
    api = Cluster()
    api.pod("digits-old", of=api.old_set)
    api.pod("digits-new")
    api.pod("digits-crashing", containers=[waiting("CrashLoopBackOff", restarts=3)])
    expected = [("digits-crashing", "failed"), ("digits-new", "ready"), ("digits-old", "ready")]
    assert [(item["name"], item["health"]) for item in informed(api).replicas] == expected
    assert [(item["name"], item["health"]) for item in deployed(api)["replicas"]] == expected
    served = replicas_of(t.cast(t.Any, api), NAMESPACE, "digits").serving
    assert [each["metadata"]["name"] for each in served] == ["digits-new"]


def test_pods_whose_deployment_is_gone_are_still_told() -> None:
    api = Cluster()
    api.pod("digits-1")
    api.pod("digits-0", **copy.deepcopy(ENDED))
    api.objects = {key: obj for key, obj in api.objects.items() if key.kind != "Deployment"}
    found = replicas_of(t.cast(t.Any, api), NAMESPACE, "digits")
    assert [each["metadata"]["name"] for each in found.pods] == ["digits-1"]
    assert found.serving == []


def test_our_container_is_found_by_name_where_a_webhook_put_another_first() -> None:
    api = Cluster(injected=True)
    api.pod("digits-1")
    api.pod("digits-2")
    told = informed(api)
    assert told.image == IMAGE
    assert {item["image"] for item in told.replicas} == {IMAGE}
    assert told.release == "sha256:1"
    assert deployed(api)["release"] == "sha256:1"
    assert {item["image"] for item in deployed(api)["replicas"]} == {IMAGE}
    assert set(api.asked_paths) == {f"/api/v1/namespaces/{NAMESPACE}/pods/digits-1:8080/proxy/v2/health/ready"}


def test_the_probe_is_the_declared_one_where_a_service_mesh_rewrote_the_pods() -> None:
    api = Cluster()
    made = api.pod("digits-1")
    made["spec"]["containers"].insert(0, SIDECAR)
    ours = made["spec"]["containers"][1]
    ours["readinessProbe"]["httpGet"] = {"path": "/app-health/serving/readyz", "port": 15020}
    found = replicas_of(t.cast(t.Any, api), NAMESPACE, "digits")
    assert informed(api).release == "sha256:1"
    PodClient(t.cast(t.Any, api), made, Credentials(), found.spec).request("GET", "/v2")
    assert api.asked_paths[-1] == f"/api/v1/namespaces/{NAMESPACE}/pods/digits-1:8080/proxy/v2"


@pytest.mark.parametrize(
    ("annotations", "expected"), [({}, "first:1"), ({"kubectl.kubernetes.io/default-container": "main"}, "main:1")]
)
def test_a_row_of_another_workloads_pod_names_its_main_container(annotations: dict[str, str], expected: str) -> None:
    made = pod(metadata={"annotations": annotations})
    made["spec"]["containers"] = [{"name": "first", "image": "first:1"}, {"name": "main", "image": "main:1"}]
    assert row(made)["image"] == expected


def test_our_port_is_found_by_name_where_an_adopted_service_has_others_before_it() -> None:
    ports = [
        {"name": "admin", "port": 9, "nodePort": 30009},
        {"name": "http", "port": 80, "nodePort": 30080, "appProtocol": "https"},
    ]
    service: Object = {"apiVersion": "v1", "kind": "Service", "spec": {"type": "NodePort", "ports": ports}}
    service["metadata"] = {"name": "digits", "namespace": NAMESPACE}
    api = Memory()
    api.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {}})
    address = {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    next(obj for key, obj in api.objects.items() if key.kind == "Node")["status"] = address
    told = inside([service], "digits")
    assert told is not None
    assert (told["port"], told["node_port"], told["url"]) == (80, 30080, f"https://digits.{NAMESPACE}.svc:80")
    assert reachable(t.cast(t.Any, api), [service], "digits") == "https://10.0.0.1:30080"
