"""What others do in a cluster while a deployment is there: sidecars, pauses, evictions, policies, invalid resources."""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.masking import encodings
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from tests.cluster.fixture import RunningCluster

from .declared import NAME, Declared, Object, versions
from .light import after_apply, applied, eventually, failure, light, webhook

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(cluster: RunningCluster) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": cluster.kubeconfig})) as made:
        yield made


@pytest.fixture
def digits(cluster: RunningCluster, api: Api, tmp_path: Path) -> Iterator[Declared]:
    """A small deployment of its own for each test, not deployed yet."""
    with cluster.namespace() as namespace:
        yield light(api, cluster, namespace, tmp_path, tmp_path)


@pytest.fixture
def homeless(cluster: RunningCluster, api: Api, tmp_path: Path) -> Iterator[Declared]:
    """The same in a namespace that does not exist."""
    namespace = f"ms-test-{uuid.uuid4().hex[:8]}"
    yield light(api, cluster, namespace, tmp_path, tmp_path)
    if api.get("v1", "Namespace", "", namespace) is not None:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def greeting() -> dict[str, t.Any]:
    return {"environment": {"GREETING": uuid.uuid4().hex}}


@contextlib.contextmanager
def injected(
    api: Api, cluster: RunningCluster, namespace: str, folder: Path, image: str, resource: tuple[str, str]
) -> Iterator[None]:
    """Have a webhook put its own container before all others of what *resource* (group and plural) is made."""
    address = cluster.facts.gateway if cluster.facts else os.environ.get("MODELSHIP_CLUSTER_GATEWAY")
    if not address:
        pytest.skip("NOT TESTED: whether the API server of KUBECONFIG reaches this machine is not known")
    sidecar = {"name": "mesh", "image": image, "ports": [{"containerPort": 5399}]}

    def patch(obj: Object) -> list[Object]:
        in_template = resource[1] == "deployments"
        spec = obj["spec"]["template"]["spec"] if in_template else obj["spec"]
        if any(container["name"] == "mesh" for container in spec["containers"]):
            return []
        where = "/spec/template/spec/containers/0" if in_template else "/spec/containers/0"
        return [{"op": "add", "path": where, "value": sidecar}]

    group, plural = resource
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [plural]}
    with webhook(address, folder, patch=patch) as (client, _asked):
        hook = {
            "name": "mesh.example.com",
            "clientConfig": client,
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "failurePolicy": "Fail",
        }
        configuration: Object = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": namespace},
            "webhooks": [hook],
        }
        with applied(api, configuration):
            probe: Object = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "probe", "namespace": namespace},
                "spec": {"containers": [{"name": "a", "image": "a"}]},
            }
            if plural == "deployments":
                template = {"metadata": {"labels": {"a": "b"}}, "spec": probe["spec"]}
                spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
                probe = {**probe, "apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}
            eventually("the webhook is asked", lambda: "mesh" in json.dumps(api.apply(probe, dry_run=True)["spec"]))
            yield


@pytest.mark.parametrize("resource", [("", "pods"), ("apps", "deployments")])
def test_a_sidecar_that_a_webhook_puts_first_is_not_taken_for_the_serving_container(
    resource: tuple[str, str], digits: Declared, cluster: RunningCluster, api: Api, tmp_path: Path
) -> None:
    image = digits.options["image"]
    other = next(
        name
        for node in api.list("v1", "Node", None)[0]
        for found in node["status"]["images"]
        for name in found["names"]
        if "pause" in name
    )
    with injected(api, cluster, digits.namespace, tmp_path, other, resource):
        done = digits.run()
        assert not digits.run().changed
        told = digits.info()
        assert digits.run(**greeting()).changed
    (first, *_rest) = digits.pods()
    assert [container["name"] for container in first["spec"]["containers"]] == ["mesh", "serving"]
    assert {item["image"] for item in done.result["deployment"]["replicas"]} == {image}
    assert told["image"] == image
    assert {item["image"] for item in told["replicas"]} == {image}
    assert told["health"]["state"] == "ready"


def test_a_pod_that_has_ended_beside_its_replacement_is_no_replica(digits: Declared, api: Api) -> None:
    digits.run()
    ended = digits.pods()[0]["metadata"]["name"]
    # the kubelet ends it, as it evicts pods, and leaves it there
    digits.patch("v1", "Pod", {"spec": {"activeDeadlineSeconds": 1}}, "test", name=ended)
    eventually("it has ended", lambda: (digits.get("v1", "Pod", ended) or {})["status"]["phase"] == "Failed")
    eventually("it is replaced", lambda: digits.info()["health"]["state"] == "ready")
    told = digits.info()
    assert len(told["replicas"]) == 2
    assert {item["health"] for item in told["replicas"]} == {"ready"}
    again = digits.run().result["deployment"]
    assert sorted(item["name"] for item in again["replicas"]) == sorted(item["name"] for item in told["replicas"])
    assert ended not in json.dumps([told, again])


def pause(digits: Declared, paused: bool = True) -> None:
    digits.patch("apps/v1", "Deployment", {"spec": {"paused": paused or None}}, "kubectl-rollout")


def test_a_paused_rollout_is_told_at_once_and_nothing_is_written(digits: Declared) -> None:
    digits.run()
    pause(digits)
    before, begun = versions(digits.objects()), time.monotonic()
    error = failure(digits, **greeting())
    assert time.monotonic() - begun < 10
    assert error.kind == "paused"
    assert "its rollout is paused by kubectl-rollout" in error.message
    assert f"kubectl --namespace {digits.namespace} rollout resume deployment {NAME}" in error.message
    assert versions(digits.objects()) == before
    assert digits.run(replicas=1).changed, "it is only scaled"
    pause(digits, paused=False)
    assert digits.run(**greeting()).changed


def test_a_pause_in_the_middle_of_a_rollout_is_told_at_once(digits: Declared, monkeypatch: pytest.MonkeyPatch) -> None:
    digits.run()

    def act(obj: Object) -> None:
        if obj["kind"] == "Deployment" and not done:
            done.append(True)
            pause(digits)

    done: list[bool] = []
    after_apply(monkeypatch, act)
    begun = time.monotonic()
    error = failure(digits, **greeting())
    assert time.monotonic() - begun < 30, "the deadline is 40 s"
    assert "its rollout is paused by kubectl-rollout" in error.message
    pause(digits, paused=False)
    assert digits.run(**greeting()).changed


def service(**port: t.Any) -> Object:
    spec = {"selector": {"a": "b"}, "ports": [{"name": "web", "port": 80, **port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extra"}, "spec": spec}


@pytest.mark.parametrize(
    ("wrong", "said"), [(service(port=70000), "must be between 1 and 65535"), (service(portt=5), "portt")]
)
@pytest.mark.parametrize("check", [True, False])
def test_an_invalid_extra_resource_stops_a_first_deployment_before_anything_is_written(
    wrong: Object, said: str, check: bool, homeless: Declared, digits: Declared, api: Api
) -> None:
    for declared in (homeless, digits):
        with pytest.raises(Exception, match=said) as caught:
            declared.run(check=check, kubernetes={"extra_resources": [wrong]})
        assert declared.namespace in str(caught.value)
        assert "default" not in str(caught.value)
    assert api.get("v1", "Namespace", "", homeless.namespace) is None
    assert digits.objects() == {}


def test_what_a_policy_of_a_new_namespace_refuses_leaves_no_namespace_behind(homeless: Declared, api: Api) -> None:
    policy: Object = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": homeless.namespace},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": homeless.namespace}},
            },
            "validations": [{"expression": "false", "message": "nothing new before Monday"}],
        },
    }
    binding = {**policy, "kind": "ValidatingAdmissionPolicyBinding"}
    binding["spec"] = {"policyName": homeless.namespace, "validationActions": ["Deny"]}
    with applied(api, policy, binding):
        time.sleep(2)  # until every API server has read it
        error = failure(homeless)
    assert "nothing new before Monday" in error.message
    assert error.message.endswith("was deleted again; nothing is left of it")
    assert api.get("v1", "Namespace", "", homeless.namespace) is None


def test_a_custom_resource_that_cannot_be_tried_leaves_nothing_of_a_first_deployment(
    digits: Declared, api: Api
) -> None:
    group = f"{digits.namespace}.example.com"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition: Object = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": "large"}}
    error = failure(digits, kubernetes={"extra_resources": [definition, widget]})
    assert "size" in error.message
    assert error.message.endswith("what had been applied of it before is removed again")
    assert {name for name in digits.objects() if not name.startswith("Pod/")} == set()
    assert api.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", f"widgets.{group}") is None


def test_the_old_and_the_new_value_of_a_rotated_secret_are_in_no_diff(digits: Declared) -> None:
    old, new = "0ld-p@ss/word", "n3w-p@ss/word"

    def declared(secret: str) -> dict[str, t.Any]:
        return {
            "environment": {"GREETING": f"hello {secret}"},
            "kubernetes": {"secrets": {"LICENCE": secret}, "config_files": {"/etc/db": f"postgres://a:{secret}@db"}},
        }

    digits.run(**declared(old))
    for check in (True, False):
        outcome = digits.run(check=check, **declared(new))
        assert outcome.difference is not None
        shown = json.dumps([outcome.difference.as_result(), outcome.message, outcome.result])
        assert [form for secret in (old, new) for form in encodings(secret) if form in shown] == []
        assert "postgres://a:<redacted " in shown
        told = digits.info(**declared(old if not check else new))
        assert [form for secret in (old, new) for form in encodings(secret) if form in json.dumps(told)] == []
