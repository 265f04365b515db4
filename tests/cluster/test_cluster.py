"""The test cluster is a real one: pods on two nodes, Services, names, volumes, metrics, images of its registry."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._oci.builders import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image
from tests.cluster import settings
from tests.cluster.containers import containers
from tests.cluster.engine import ClusterError, docker
from tests.cluster.fixture import RunningCluster

pytestmark = pytest.mark.integration

NAMESPACE = "harness"
PROGRAM = """
import http.server, os, socket

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(f"/data/{socket.gethostname()}", "w").close()
        answer = " ".join([os.environ["NODE"], socket.gethostbyname("web"), *sorted(os.listdir("/data"))])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def eventually(what: str, ready: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


@pytest.fixture(scope="module")
def image(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python image in the cluster's registry, by digest."""
    registry = cluster.require_registry()
    layout = str(tmp_path_factory.mktemp("image") / "layout")
    options = {
        "name": "python",
        "builder": "oci",
        "dest": layout,
        "cache": str(settings.cache() / "oci"),
        "base": {"bootstrap": {}},
    }
    built = build_image(options, Context()).result["image"]
    wanted = {
        "layout": layout,
        "digest": built["digest"],
        "repository": f"{registry}/harness/python",
        "plain_http": True,
    }
    reference: str = push_image(wanted, Context()).result["push"]["reference"]
    assert reference == f"{registry}/harness/python@{built['digest']}"
    return reference


@pytest.fixture(scope="module")
def web(cluster: RunningCluster, image: str) -> Iterator[dict[str, Any]]:
    """Two pods under the restricted Pod Security standard, one a node, with a volume in common, behind a Service."""
    labels = {"app": "web"}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    container = {
        "name": "web",
        "image": image,
        "command": ["/usr/bin/python3", "-c", PROGRAM],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "topologySpreadConstraints": [spread],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "terminationGracePeriodSeconds": 1,
    }
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": NAMESPACE},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    try:
        cluster.kubectl("apply", "--server-side", "-f", "-", data=document)
        cluster.kubectl(
            "rollout", "status", "deployment/web", f"--namespace={NAMESPACE}", "--timeout=120s", timeout=150
        )
        yield cluster.get("service", "web", f"--namespace={NAMESPACE}")
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=150)


def test_a_service_answers_from_two_pods_on_two_nodes(cluster: RunningCluster, web: dict[str, Any]) -> None:
    nodes = cluster.get("nodes")["items"]
    addresses = [
        each["address"] for node in nodes for each in node["status"]["addresses"] if each["type"] == "InternalIP"
    ]
    port = web["spec"]["ports"][0]["nodePort"]
    answers: list[list[str]] = []

    def both_have_answered_by_each_node() -> bool:
        for address in addresses:
            try:
                with urllib.request.urlopen(f"http://{address}:{port}/", timeout=10) as answer:
                    answers.append(answer.read().decode().split())
            except OSError:  # its kube-proxy does not know the Service yet
                return False
        return len({answer[0] for answer in answers}) == 2

    # Which pod answers is drawn by lot.
    eventually("answers from two nodes", both_have_answered_by_each_node)
    assert {answer[1] for answer in answers} == {web["spec"]["clusterIP"]}
    # Each pod, without root, sees in the volume what the other one wrote.
    assert len(answers[-1][2:]) == 2


def test_metrics_are_served(cluster: RunningCluster, web: dict[str, Any]) -> None:
    def measured() -> bool:
        # in a cluster that has just come up, metrics-server may not serve yet
        with contextlib.suppress(ClusterError):
            path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
            return len(json.loads(cluster.kubectl("get", "--raw", path))["items"]) == 2
        return False

    eventually("metrics of both pods", measured)


def test_up_finds_what_is_up(cluster: RunningCluster) -> None:
    if cluster.own is None:
        pytest.skip("NOT TESTED: KUBECONFIG names a cluster that is not the harness's")
    before = docker("ps", "--no-trunc", "--format={{.ID}}", *_filters())
    eventually("a cluster that is well", lambda: cluster.own is not None and not cluster.own.problems())
    assert cluster.own.up() is False
    assert docker("ps", "--no-trunc", "--format={{.ID}}", *_filters()) == before
    facts = json.loads((settings.state() / "facts.json").read_text())
    assert facts["registry"] == cluster.registry
    assert {node["container"] for node in facts["nodes"]} < set(containers())
    assert Path(facts["kubeconfig"]).stat().st_mode & 0o077 == 0


def _filters() -> list[str]:
    return [f"--filter=name=^{settings.NAME}-"]


def test_a_stopped_api_server_refuses_and_comes_back(cluster: RunningCluster) -> None:
    with cluster.faults.api_server_stopped():
        with pytest.raises(ClusterError, match="refused"):
            cluster.kubectl("get", "--raw=/readyz", "--request-timeout=5s")
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"


def test_etcd_that_hangs_holds_writes_up(cluster: RunningCluster) -> None:
    create = ("create", "configmap", "held-up", "--namespace=default", "--request-timeout=2s")
    with cluster.faults.etcd_hanging():
        with pytest.raises(ClusterError, match=r"(?i)timeout|deadline"):
            cluster.kubectl(*create)
    cluster.kubectl("delete", "configmap", "held-up", "--namespace=default", "--ignore-not-found")
