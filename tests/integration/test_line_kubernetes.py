"""The whole line with Kubernetes as its target: the installed collection, a real cluster, a real endpoint."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._endpoint.golden import load_release
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client
from ansible_collections.modelship.core.plugins.module_utils._endpoint.verify import Request, verify
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError
from tests.certificates import Authority

from .conftest import Playbooks

NAME = "line-test"
NAMESPACE = "modelship-line-test"
LABEL = f"modelship.io/deployment={NAME}"
PORT = 8080
# what is tested is the line, not how well three epochs learn or how fast a busy machine answers
GATES = {"accuracy": 0.8, "accuracy_drop": 0.1, "latency_p99_ms": 10000}

pytestmark = [pytest.mark.integration, pytest.mark.line]


@pytest.fixture(scope="module")
def line(installed: Path, cluster: t.Any, trainer_python: str) -> Iterator[Playbooks]:
    """The line in a home and a namespace of its own; the trainer's virtual environment is shared with the other tests."""
    folder = Path(tempfile.mkdtemp(prefix="modelship-line-"))
    folder.chmod(0o755)
    books = Playbooks(
        installed,
        {
            "modelship_home": str(folder / "home"),
            "modelship_name": NAME,
            "modelship_namespace": NAMESPACE,
            "modelship_kubeconfig": str(cluster.kubeconfig),
            "modelship_registry": cluster.require_registry(),
            "trainer_home": str(Path(trainer_python).parents[2]),
            "modelship_trainer_python": trainer_python,
            # small enough to train in seconds; what is tested is the line
            "modelship_parameters": {"epochs": 3},
            "modelship_gates": GATES,
        },
        inventory="cluster",
    )
    yield books
    # the shared trainer stays
    books.run("destroy", "--skip-tags", "trainer", modelship_deployments=[NAME])
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[Api]:
    """The cluster's API server."""
    with Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as made:
        yield made


def pods(api: Api) -> list[dict[str, t.Any]]:
    """The deployment's pods that are not on their way out."""
    found, _version = api.list("v1", "Pod", NAMESPACE, labels=LABEL)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def served(api: Api, pod: dict[str, t.Any]) -> float:
    """How many predictions a pod has made, by its own metrics."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:{PORT}/proxy/metrics"
    found = re.search(r'^modelship_requests_total\{endpoint="infer",code="200"\} (\S+)$', api.text(path), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_check_mode_before_anything_exists_changes_nothing(line: Playbooks, api: Api) -> None:
    play = line.run("site", "--check", "--diff")
    assert play.rc == 0, play.output
    assert play.recap["changed"] > 0
    assert not Path(str(line.variables["modelship_home"])).exists()
    assert api.get("v1", "Namespace", "", NAMESPACE) is None


def test_the_line_ends_in_an_endpoint_that_two_pods_on_two_nodes_serve(line: Playbooks, api: Api) -> None:
    play = line.run("site")
    assert play.rc == 0, play.output
    for promised in ("sha256:", "accuracy", "golden answers", "report.html", "destroy"):
        assert promised in play.output
    url = re.search(r"endpoint +(http://\S+)", play.output)
    assert url, play.output
    found = pods(api)
    assert len({pod["spec"]["nodeName"] for pod in found}) == len(found) == 2
    release = re.search(r"release +sha256:(\w{64})", play.output)
    assert release, play.output
    golden = load_release(str(next(Path(str(line.variables["modelship_home"])).glob(f"releases/*/{release[1]}"))))
    before = {pod["metadata"]["name"]: served(api, pod) for pod in found}
    # a connection for each request, so that the Service chooses a pod for each
    with contextlib.closing(Client(url[1], headers={"connection": "close"})) as client:
        verdict = verify(client, Request(golden=golden, requests=100), Progress())
    assert verdict["ok"], verdict
    assert verdict["samples"]["checked"] == len(golden.inputs)
    for pod in found:
        assert served(api, pod) > before[pod["metadata"]["name"]], pod["metadata"]["name"]


def test_the_second_run_changes_nothing(line: Playbooks) -> None:
    play = line.run("site")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
    assert play.recap["failed"] == 0


def test_check_mode_in_the_steady_state_reports_nothing_to_do(line: Playbooks) -> None:
    play = line.run("site", "--check", "--diff")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output


def test_deploy_alone_finds_the_release_of_the_image(line: Playbooks) -> None:
    play = line.run("deploy")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
    assert "golden answers; latency" in play.output


def test_check_mode_tells_what_would_change_and_leaves_the_pods_alone(line: Playbooks, api: Api) -> None:
    before = sorted(pod["metadata"]["uid"] for pod in pods(api))
    play = line.run("deploy", "--check", "--diff", modelship_workers=2)
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 1, play.output
    assert "MODELSHIP_WORKERS" in play.output
    assert sorted(pod["metadata"]["uid"] for pod in pods(api)) == before
    assert line.run("deploy", "--check").recap["changed"] == 0


def test_what_only_the_cluster_reaches_is_verified_through_the_api_server(line: Playbooks) -> None:
    play = line.run("deploy", modelship_kubernetes={"service": {"type": "ClusterIP"}})
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 1, play.output
    assert "inside the cluster only" in play.output
    assert "the golden answers of 2 replica(s)" in play.output


def test_staging_asks_its_callers_who_they_are(line: Playbooks, cluster: t.Any, api: Api, tmp_path: Path) -> None:
    """The same release by the inventory `staging`: TLS in the pods, API keys, and golden answers asked with one."""
    certificate, key = Authority(tmp_path).issue("server")
    secret = {"verify": "a-key-for-verifying", "shop": "a-key-of-the-shop"}
    with cluster.namespace() as namespace:
        cluster.kubectl(
            "create", "secret", "tls", "modelship-tls", f"--cert={certificate}", f"--key={key}", "-n", namespace
        )
        staging = Playbooks(
            line.collections,
            {
                **line.variables,
                "modelship_namespace": namespace,
                "modelship_context": "",
                "modelship_registry_plain_http": True,
                "vault_modelship_keys": "".join(
                    f"{name} sha256:{hashlib.sha256(value.encode()).hexdigest()}\n" for name, value in secret.items()
                ),
                "vault_modelship_verify_key": secret["verify"],
            },
            inventory="staging",
        )
        play = staging.run("deploy", modelship_container_environment={})
        assert play.rc != 0
        assert "'staging' must ask callers who they are: set MODELSHIP_API_KEYS" in play.output
        play = staging.run("deploy", modelship_https={})
        assert play.rc != 0
        assert "'staging' must not take keys and tokens in the clear: set modelship_https" in play.output
        assert api.get("apps/v1", "Deployment", namespace, NAME) is None

        play = staging.run("deploy", "--diff")
        assert play.rc == 0, play.output
        assert "the golden answers of 2 replica(s)" in play.output
        assert secret["verify"] not in play.output
        found, _version = api.list("v1", "Pod", namespace, labels=LABEL)
        name = found[0]["metadata"]["name"]
        with pytest.raises(ApiError) as refused:
            api.text(f"/api/v1/namespaces/{namespace}/pods/https:{name}:{PORT}/proxy/v2")
        assert refused.value.status == 401
        assert staging.run("deploy").recap["changed"] == 0
        play = staging.run("destroy", "--tags", "deployments", modelship_deployments=[NAME])
        assert play.rc == 0, play.output


def test_destroy_removes_what_was_made_and_only_that(line: Playbooks, api: Api) -> None:
    play = line.run("destroy", "--skip-tags", "trainer")
    assert play.rc == 0, play.output
    assert not Path(str(line.variables["modelship_home"])).exists()
    assert api.get("v1", "Namespace", "", NAMESPACE) is None
    assert api.get("v1", "Namespace", "", "default") is not None
    play = line.run("destroy", "--skip-tags", "trainer")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output


def test_a_cluster_that_does_not_answer_is_told_before_anything_is_trained(line: Playbooks, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        '{"clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [],'
        ' "contexts": [{"name": "gone", "context": {"cluster": "gone"}}], "current-context": "gone"}'
    )
    play = line.run("site", modelship_kubeconfig=str(kubeconfig))
    assert play.rc != 0
    assert "127.0.0.1:1" in play.output
    assert not Path(str(line.variables["modelship_home"])).exists()
