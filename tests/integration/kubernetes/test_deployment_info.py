"""What deployment_info tells of a deployment on a real cluster, as declared and after others have changed it."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api

from .declared import NAME, Declared, versions
from .serving import Serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as made:
        yield made


@pytest.fixture(scope="module")
def digits(
    cluster: t.Any, api: Api, serving: Serving, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Declared]:
    """A deployment of its own namespace; the tests of this file follow each other."""
    namespace = f"ms-test-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("info")
    made = Declared(api, str(cluster.kubeconfig), namespace, serving.first, folder, installed)
    made.declare(kubernetes={"service": {"type": "NodePort"}, "rollout": {"pre_stop_seconds": 0}}, drain_seconds=1)
    yield made
    if (space := api.get("v1", "Namespace", "", namespace)) is not None:
        api.delete(space)


def test_what_does_not_exist_is_a_fact(digits: Declared, api: Api) -> None:
    found = digits.info(image=None, verify=None)
    assert (found["exists"], found["state"], found["health"]["state"]) == (False, "absent", "absent")
    assert (found["image"], found["replicas"], found["golden"], found["drift"]) == (None, [], None, None)
    found = digits.info()
    assert not found["golden"]["ok"]
    assert found["drift"]["drifted"]
    assert any(f"Deployment {digits.namespace}/{NAME} does not exist yet" in why for why in found["drift"]["reasons"])
    assert api.get("v1", "Namespace", "", digits.namespace) is None


def test_what_is_served_as_declared(digits: Declared, serving: Serving) -> None:
    digits.run()
    before = versions(digits.objects())
    ran = digits.play("--diff", module="deployment_info")
    assert not ran.result["failed"], ran.output
    assert not ran.result["changed"]
    found = ran.result["deployment"]
    assert (found["exists"], found["state"]) == (True, "present")
    assert found["health"]["state"] == "ready", found["health"]
    assert found["image"] == serving.first.image
    assert found["digest"] == serving.first.image.partition("@")[2]
    assert found["release"] == serving.first.release
    assert found["revision"] == 1
    assert [item["health"] for item in found["replicas"]] == ["ready", "ready"]
    assert len({item["node"] for item in found["replicas"]}) == 2
    assert f"Deployment {digits.namespace}/{NAME}" in found["objects"]
    assert found["url"].rpartition(":")[2] == str(digits.addresses()[0][1])
    assert found["golden"]["ok"], found["golden"]
    assert len(found["golden"]["verdicts"]) == 2
    assert found["drift"] == {"drifted": False, "reasons": [], "difference": found["drift"]["difference"]}
    assert versions(digits.objects()) == before


def test_another_release_is_a_verdict_and_no_failure(digits: Declared, serving: Serving) -> None:
    ran = digits.play(module="deployment_info", verify={"release": serving.second.path})
    assert not ran.result["failed"], ran.output
    golden = ran.result["deployment"]["golden"]
    assert not golden["ok"]
    assert golden["release"] == serving.second.release
    assert {item["release"] for item in golden["verdicts"]} == {serving.first.release}
    assert len(golden["failures"]) == 2


def test_another_declaration_is_drift(digits: Declared) -> None:
    drift = digits.info(environment={"GREETING": "hello"})["drift"]
    assert drift["drifted"]
    assert any(f"Deployment {digits.namespace}/{NAME} is declared otherwise" in why for why in drift["reasons"])
    assert "GREETING" in drift["difference"]["after"]
    assert "GREETING" not in drift["difference"]["before"]


def test_what_the_cluster_would_refuse_is_drift(digits: Declared) -> None:
    thing = {"apiVersion": "gone.example/v1", "kind": "Thing", "metadata": {"name": "x"}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    for changes, said in (
        ({"kubernetes": {"extra_resources": [{**config, "data": {"no key": ""}}]}}, "valid config key"),
        ({"kubernetes": {"extra_resources": [thing]}}, "does not serve Thing of gone.example/v1"),
        ({"namespace": f"{digits.namespace}-x", "kubernetes": {"create_namespace": False}}, "does not exist"),
    ):
        found = digits.info(verify=None, **changes)
        assert found["drift"]["drifted"]
        assert [why for why in found["drift"]["reasons"] if said in why], found["drift"]
        assert found["exists"] == ("namespace" not in changes)


def test_what_others_add_is_no_drift(digits: Declared) -> None:
    digits.patch("apps/v1", "Deployment", {"metadata": {"annotations": {"note": "seen"}}}, "kubectl-annotate")
    digits.patch("v1", "Service", {"metadata": {"labels": {"team": "vision"}}}, "kubectl-label")
    assert not digits.info()["drift"]["drifted"]


@pytest.mark.parametrize(
    ("version", "kind", "field", "value"),
    [
        ("apps/v1", "Deployment", "progressDeadlineSeconds", 33),
        ("v1", "Service", "selector", {"app": "other"}),
        ("v1", "Service", "sessionAffinity", "ClientIP"),
    ],
)
def test_an_edit_is_drift_where_it_is_declared(
    digits: Declared, version: str, kind: str, field: str, value: t.Any
) -> None:
    digits.patch(version, kind, {"spec": {field: value}}, "kubectl-edit")
    drift = digits.info()["drift"]
    if field == "sessionAffinity":
        assert not drift["drifted"], drift
        return
    assert drift["drifted"]
    for word in (f"{kind} {digits.namespace}/{NAME}", f"spec.{field}", "kubectl-edit"):
        assert word in drift["reasons"][0]
    assert digits.run(kubernetes={"force": True}).changed
    assert not digits.info()["drift"]["drifted"]


def test_scaling_by_hand_is_drift_with_the_hand_s_name(digits: Declared) -> None:
    digits.patch("apps/v1", "Deployment", {"spec": {"replicas": 3}}, "kubectl", sub="/scale")
    found = digits.info()
    assert found["drift"]["drifted"]
    for word in ("spec.replicas", "kubectl"):
        assert word in found["drift"]["reasons"][0]
    with pytest.raises(ModelshipError, match=r"spec\.replicas"):
        digits.run()
    assert digits.run(kubernetes={"force": True}).changed
    assert not digits.info()["drift"]["drifted"]


def test_another_image_by_hand_is_drift_and_told_as_what_is_served(digits: Declared, serving: Serving) -> None:
    body = {"spec": {"template": {"spec": {"containers": [{"name": "serving", "image": serving.second.image}]}}}}
    digits.patch("apps/v1", "Deployment", body, "kubectl-set")
    found = digits.info(verify=None)
    assert found["image"] == serving.second.image
    assert found["drift"]["drifted"]
    assert "kubectl-set" in found["drift"]["reasons"][0]
    assert "image" in found["drift"]["reasons"][0]


def test_an_image_that_no_node_can_have_is_a_fact(digits: Declared, serving: Serving) -> None:
    # no registry is asked for such a name, so the kubelet says at once that it never will
    image = serving.first.image.partition("@")[0] + "@sha256:short"
    body = {"spec": {"template": {"spec": {"containers": [{"name": "serving", "image": image}]}}}}
    digits.patch("apps/v1", "Deployment", body, "kubectl-set")
    digits.wait(lambda: digits.info(verify=None)["health"]["state"] == "failed")
    found = digits.info()
    assert "InvalidImageName" in found["health"]["reason"], found["health"]
    assert "2 of 2" in found["health"]["reason"]
    assert any(item["health"] == "failed" and item["reason"] for item in found["replicas"])
    assert digits.run(kubernetes={"force": True}).changed
    found = digits.info()
    assert found["health"]["state"] == "ready"
    assert found["golden"]["ok"]
    assert not found["drift"]["drifted"]


def test_what_is_gone_is_told_by_name(digits: Declared, api: Api) -> None:
    service = digits.get("v1", "Service")
    assert service is not None
    api.delete(service)
    found = digits.info()
    assert found["url"] is None
    assert found["drift"]["reasons"] == [f"Service {digits.namespace}/{NAME} was deleted"]
    deployment = digits.get("apps/v1", "Deployment")
    assert deployment is not None
    api.delete(deployment, propagation="Foreground")
    digits.wait(lambda: digits.get("apps/v1", "Deployment") is None)
    found = digits.info()
    assert found["exists"]
    assert found["health"]["state"] == "failed"
    assert f"Deployment {NAME} is gone" in found["health"]["reason"]
    assert not found["golden"]["ok"]
