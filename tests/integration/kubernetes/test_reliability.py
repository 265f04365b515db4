"""What goes wrong around a deployment: each failure is one clear error, leaves what served, and a repeated run repairs."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import itertools
import random
import signal
import string
import threading
import time
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes import transport
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import load_record
from tests.cluster.fixture import RunningCluster

from .declared import KINDS, NAME, Declared, Object, versions
from .deployer import config
from .light import (
    after_apply,
    applied,
    ended,
    eventually,
    expired_token,
    failure,
    kubeconfig_of,
    light,
    login_program,
    started,
    webhook,
)

pytestmark = pytest.mark.integration

LEASE = ("coordination.k8s.io/v1", "Lease")
MIB = 2**20
#: What a run writes itself.
OWN = [pair for pair in KINDS if pair[1] not in ("Pod", "ReplicaSet")]


@pytest.fixture(scope="module")
def api(cluster: RunningCluster) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": cluster.kubeconfig})) as made:
        yield made


@pytest.fixture(scope="module")
def deployed(
    cluster: RunningCluster, api: Api, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Declared]:
    """The deployment that the tests of this file disturb."""
    with cluster.namespace() as namespace:
        yield light(api, cluster, namespace, tmp_path_factory.mktemp("light"), installed)


@pytest.fixture
def digits(deployed: Declared) -> Declared:
    """It serves as declared when a test begins."""
    deployed.run()
    return deployed


def greeting() -> dict[str, t.Any]:
    """A change of the declaration that needs new pods."""
    return {"environment": {"GREETING": uuid.uuid4().hex}}


def test_a_wrong_image(digits: Declared) -> None:
    """As a first deployment and as a new revision, with an object that cannot be put back as it was."""
    settings = {"kubernetes": {"extra_resources": [config("settings", a="1")]}}
    final = {"kubernetes": {"extra_resources": [{**config("settings", a="2"), "immutable": True}]}}
    assert digits.run(**settings).changed
    name, _colon, digest = digits.options["image"].rpartition("@sha256:")
    wrong = f"{name}@sha256:{digest[:-6]}000000"
    first = copy.copy(digits).declare(name="first")
    before = {pod["metadata"]["uid"] for pod in digits.pods()}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        new = pool.submit(failure, first, image=wrong)
        ran = digits.play(image=wrong, **final)
        error = new.result()
    assert ran.result["failed"]
    assert ran.result["error_kind"] == error.kind == "unhealthy"
    for message in (ran.result["msg"], error.message):
        assert f"cannot get the image {wrong}" in message
        assert f"What to do: registry {wrong.partition('/')[0]} does not have the image: push it there first" in message
    assert any(event["reason"] == "Failed" and wrong in event["message"] for event in ran.result["events"])
    assert any(pod["image"] == wrong and not pod["ready"] for pod in ran.result["pods"])
    # the new revision is taken back, and what served does so without a pause …
    assert "went back to revision 2" in ran.result["msg"]
    assert ran.result["restored"]["image"] == digits.options["image"]
    assert {pod["metadata"]["uid"] for pod in digits.pods()} == before
    left = f"what of it cannot be put back stays as it was applied: ConfigMap {digits.namespace}/settings is refused: "
    assert left in ran.result["msg"]
    assert (digits.get("v1", "ConfigMap", "settings") or {})["data"] == {"a": "2"}
    reasons = digits.run().result["deployment"]["reasons"]
    assert reasons == [f"ConfigMap {digits.namespace}/settings is no longer declared"]
    assert not digits.run().changed
    # … where there is none, that is told, at once when it is tried again, and the right image repairs
    eventually("check mode sees the pods to be made anew", lambda: first.run(check=True, image=wrong).changed)
    assert "there is no earlier good revision to go back to" in error.message
    assert "restored" not in error.details
    assert first.run().changed
    assert not first.run().changed


def test_without_waiting_what_pods_of_the_revision_before_use_stays(digits: Declared) -> None:
    def configured() -> int:
        return len([name for name in digits.objects(OWN) if name.startswith(f"ConfigMap/{NAME}-")])

    change = greeting()
    hasty = {**change, "kubernetes": {"wait": False}}
    assert digits.run(**hasty).changed
    assert configured() == 2
    assert not digits.run(**hasty).changed
    assert digits.declare(**change).run().changed
    assert configured() == 1
    assert not digits.run().changed


def test_an_exceeded_quota(digits: Declared, api: Api) -> None:
    change = greeting()
    pods, _version = api.list("v1", "Pod", digits.namespace)
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    quota: Object = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": digits.namespace},
        "spec": {"hard": {"pods": str(len(staying))}},
    }
    with applied(api, quota):
        eventually(
            "the quota counts", lambda: (api.get("v1", "ResourceQuota", *_name(quota)) or {})["status"].get("used")
        )
        error = failure(digits, **change)
        assert error.kind == "unhealthy"
        assert "its pods are refused" in error.message
        assert "exceeded quota: small" in error.message
        assert "What to do: raise the quota, or ask for less" in error.message
        assert "went back to revision" in error.message
        assert not digits.run().changed
    assert digits.declare(**change).run().changed


def _name(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def test_an_admission_webhook_that_refuses(digits: Declared, cluster: RunningCluster, api: Api, tmp_path: Path) -> None:
    if cluster.facts is None:
        pytest.skip("NOT TESTED: whether the API server of KUBECONFIG reaches this machine is not known")
    before, change = versions(digits.objects(OWN)), greeting()
    with webhook(cluster.facts.gateway, tmp_path, "only images of the house") as (client, asked):
        hook = {
            "name": "guard.example.com",
            "clientConfig": client,
            "rules": [_deployments()],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": digits.namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }
        configuration: Object = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": digits.namespace},
            "webhooks": [hook],
        }
        with applied(api, configuration):
            eventually("the webhook is asked", lambda: _is_refused(api, digits))
            asked.clear()
            error = failure(digits, **change)
        eventually("the webhook is forgotten", lambda: not _is_refused(api, digits))
    assert asked[0] == NAME
    assert 'admission webhook "guard.example.com" denied the request: only images of the house' in error.message
    assert "restored" not in error.details, "it is known before anything is written"
    assert versions(digits.objects(OWN)) == before
    assert digits.declare(**change).run().changed


def _deployments() -> Object:
    return {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }


def _is_refused(api: Api, digits: Declared) -> bool:
    """Whether a change of any Deployment in the namespace is refused by now."""
    live = digits.get("apps/v1", "Deployment")
    assert live is not None
    body = {"metadata": {"annotations": {"test": "yes"}}}
    path = api.path("apps/v1", "Deployment", *_name(live)) + "?dryRun=All"
    headers = {"content-type": "application/merge-patch+json"}
    return api.raw("PATCH", path, body=str(body).replace("'", '"').encode(), headers=headers)[0] >= 400


def test_an_admission_policy_that_refuses_the_first_deployment(digits: Declared, api: Api) -> None:
    policy: Object = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": digits.namespace},
        "spec": {
            "matchConstraints": {
                "resourceRules": [_deployments()],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": digits.namespace}},
            },
            "validations": [{"expression": "false", "message": "nothing new before Monday"}],
        },
    }
    binding: Object = {
        **policy,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": digits.namespace, "validationActions": ["Deny"]},
    }
    other = copy.copy(digits).declare(name="other")
    with applied(api, policy, binding):
        eventually("the policy holds", lambda: _is_refused(api, digits))
        error = failure(other)
        assert "nothing new before Monday" in error.message
        assert error.message.endswith("nothing was changed")
        assert not other.info()["exists"]
    eventually("the policy is forgotten", lambda: not _is_refused(api, digits))
    assert other.run().changed


def test_a_run_at_work_and_its_death(digits: Declared, api: Api) -> None:
    """A second run says who is at work; after a ``kill -9`` in mid-rollout the next one repairs."""
    change = greeting()
    stuck = {
        **greeting(),
        "health": {"path": "/never", "start_deadline": 60},
        "kubernetes": {"rollout": {"deadline": 120}},
    }
    good = {pod["metadata"]["uid"] for pod in digits.pods()}
    first = started(digits, **stuck)
    try:
        eventually("the first run rolls out", lambda: {pod["metadata"]["uid"] for pod in digits.pods()} - good)
        second = ended(started(digits, **change))
        assert second["failed"]
        assert second["error_kind"] == "locked"
        assert f"another run is working on {NAME} in namespace {digits.namespace}: " in second["msg"]
        assert f"(process {first.pid}, " in second["msg"]
        assert first.poll() is None, "the one at work goes on"
    finally:
        first.kill()
    assert first.wait() == -signal.SIGKILL
    assert digits.get(*LEASE, f"{NAME}-modelship") is not None
    began = time.monotonic()
    assert digits.declare(**change).run().changed
    assert time.monotonic() - began < 30
    assert digits.get(*LEASE, f"{NAME}-modelship") is None
    assert len([name for name in digits.objects() if name.startswith(f"ConfigMap/{NAME}-")]) == 1
    assert not digits.run().changed


def test_manifests_of_a_mebibyte(digits: Declared, api: Api) -> None:
    big = [_config(f"big-{number}", MIB) for number in range(2)]
    with_big = {"kubernetes": {"extra_resources": big}}
    assert digits.run(**with_big).changed
    assert not digits.run(**with_big).changed
    assert len((digits.get("v1", "ConfigMap", "big-1") or {})["data"]["text"]) == MIB
    good = load_record(api, digits.namespace, NAME).good
    assert good is not None
    assert [obj["data"] for obj in good.objects if obj["metadata"]["name"].startswith("big-")] == [
        obj["data"] for obj in big
    ]
    before = versions(digits.objects(OWN))
    error = failure(digits, kubernetes={"extra_resources": [*big, _config("bigger", MIB + 1)]})
    assert (
        f"ConfigMap {digits.namespace}/bigger is refused: Too long: may not be more than {MIB} bytes" in error.message
    )
    # the server's limit for a request
    error = failure(digits, kubernetes={"extra_resources": [*big, _config("huge", 4 * MIB)]})
    assert "configmaps/huge" in error.message
    assert "Request entity too large" in error.message
    assert versions(digits.objects(OWN)) == before


def _config(name: str, size: int) -> Object:
    """Text that cannot be packed to much less."""
    return config(name, text="".join(random.Random(name).choices(string.ascii_letters + string.digits, k=size)))  # noqa: S311 - no secret


def test_an_expired_token(digits: Declared, cluster: RunningCluster, api: Api, tmp_path: Path) -> None:
    """It is told as such; a login program is asked for another one."""
    if cluster.own is None:
        pytest.skip("NOT TESTED: an expired token is made with the key of the test cluster")
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "ci", "namespace": digits.namespace},
    }
    binding: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "ci", "namespace": digits.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": digits.namespace}],
    }
    before, change = versions(digits.objects(OWN)), greeting()
    with applied(api, account, binding):
        expired = expired_token(cluster, digits.namespace, "ci", tmp_path)
        fresh = cluster.kubectl("create", "token", "ci", f"--namespace={digits.namespace}").strip()
        plain = kubeconfig_of(cluster, {"token": expired}, tmp_path / "plain")
        error = failure(digits, kubeconfig=plain, **change)
        assert "does not accept the credentials" in error.message
        assert "expired; log in again" in error.message
        assert expired not in error.message
        login = kubeconfig_of(cluster, login_program(tmp_path, expired), tmp_path / "login")
        error = failure(digits, kubeconfig=login, **change)
        assert "log in again" in error.message
        unchanged = {name: version for name, version in versions(digits.objects(OWN)).items() if name in before}
        assert unchanged == before
        login = kubeconfig_of(cluster, login_program(tmp_path, expired, fresh), tmp_path / "login")
        # with no rights outside of the namespace
        assert digits.declare(**change).run(kubeconfig=login).changed
        assert (tmp_path / "calls").read_text() == "2"


def parts(number: int) -> list[Object]:
    return [config(f"part-{each:02}", a="1") for each in range(number)]


def test_an_api_server_that_stops_in_mid_apply_and_in_mid_wait(
    digits: Declared, cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run has written a part and cannot wait for the server any longer, another one waits for its pods."""
    faults = cluster.faults
    # longer than controllers need to be back: those that lost their leadership meanwhile are started anew
    patient = {"rollout": {"deadline": 180}}
    other, change = copy.copy(digits).declare(name="other", kubernetes=patient, **greeting()), greeting()
    many = {**change, "kubernetes": {**patient, "extra_resources": parts(40)}}
    waits, written = threading.Event(), itertools.count(1)
    with concurrent.futures.ThreadPoolExecutor() as pool, contextlib.ExitStack() as stopped:

        def stop(obj: Object) -> None:
            if (obj["kind"], obj["metadata"]["name"]) == ("Deployment", "other"):
                waits.set()
            if obj["metadata"]["name"].startswith("part-") and next(written) == 15:
                stopped.enter_context(faults.api_server_stopped())

        with monkeypatch.context() as patch:
            patch.setattr(transport, "PATIENCE_S", 2.0)
            after_apply(patch, stop)
            survivor = pool.submit(other.run)
            assert waits.wait(60)
            error = failure(digits, **many)
        assert not survivor.done()
        assert "cannot apply " in error.message
        assert str(cluster.kubeconfig) in error.message
        assert "connection" in error.message  # refused, or closed
        assert "what was applied so far stays: run again" in error.message
        stopped.close()
        assert survivor.result().changed
    assert not other.run().changed
    assert digits.run(**many).changed
    assert len([name for name in digits.objects() if name.startswith("ConfigMap/part-")]) == 40
    assert not digits.run(**many).changed
    digits.declare(**change)


def test_a_slow_etcd(digits: Declared, cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = cluster.faults
    with faults.etcd_slow():
        slow = {"rollout": {"deadline": 120}, "extra_resources": parts(15)}
        assert digits.run(**greeting(), kubernetes=slow).changed
    hanging = threading.Thread(target=_hang, args=(faults, 4.0))

    def hang(obj: Object) -> None:
        if obj["kind"] == "ConfigMap":
            hanging.start()
            time.sleep(0.3)

    after_apply(monkeypatch, hang)
    assert digits.declare(**greeting()).run().changed
    hanging.join()
    assert not digits.run().changed


def _hang(faults: t.Any, seconds: float) -> None:
    with faults.etcd_hanging():
        time.sleep(seconds)


def test_a_node_that_is_lost_during_a_rollout(digits: Declared, cluster: RunningCluster) -> None:
    """Its pods move; that they do not answer is nobody's failure."""
    faults = cluster.faults
    change = {**greeting(), "kubernetes": {"node_lost_seconds": 1, "rollout": {"deadline": 180}}}
    before = {pod["metadata"]["uid"] for pod in digits.pods()}

    def node_of_a_new_pod() -> str:
        new = [pod for pod in digits.pods() if pod["metadata"]["uid"] not in before]
        return next((pod["spec"]["nodeName"] for pod in new if pod["spec"].get("nodeName")), "")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        run = pool.submit(digits.run, **change)
        lost = eventually("a new pod has a node", node_of_a_new_pod)
        with faults.node_lost(lost):
            outcome = run.result(timeout=200)
            rows = outcome.result["deployment"]["replicas"]
            assert {row["health"] for row in rows} == {"ready"}
            assert len(rows) == 2
            assert lost not in {row["node"] for row in rows}
            assert not digits.run(**change).changed
    assert not digits.run(**change).changed
