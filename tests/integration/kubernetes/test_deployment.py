"""The target kubernetes on a real cluster: one deployment from its first run to its removal, with real pods behind it."""

from __future__ import annotations

import contextlib
import functools
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._endpoint.golden import load_release
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client
from ansible_collections.modelship.core.plugins.module_utils._endpoint.verify import Request, verify
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.remove import remove
from tests.cluster.definitions import definition
from tests.cluster.engine import ClusterError, until

from ..load import Load
from .declared import NAME, Declared, Object, appears_in, versions
from .serving import SAMPLES, Serving

pytestmark = pytest.mark.integration

ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
MONITOR = ("monitoring.coreos.com/v1", "ServiceMonitor")
#: Must not be read anywhere; the second one replaces the first.
SECRETS = ("correct-horse-battery", "staple-of-another-horse")
LICENCE = "licence-7f3a-91c4"
KEY_FILE = "begin private key 5c1e end"


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as made:
        yield made


@pytest.fixture(scope="module")
def optional_kinds(api: Api) -> Iterator[None]:
    """HTTPRoute and ServiceMonitor, which a cluster serves only where somebody installed them, as they are there."""
    made = []
    for version, kind in (ROUTE, MONITOR):
        if api.serves(version, kind):
            continue
        try:
            found = definition(kind)
        except ClusterError as exc:
            pytest.skip(f"NOT TESTED: the definition of {kind} cannot be had: {exc}")
        made.append(api.apply(found, manager="test"))
        until(f"a server of {kind}", 30, functools.partial(api.serves, version, kind))
    yield
    for found in made:
        api.delete(found)
    # The tests of other files are to know them gone: discovery tells of them a moment longer.
    for version, kind in (ROUTE, MONITOR) if made else ():
        until(f"the end of {kind}", 60, lambda version=version, kind=kind: not Api(api.access).serves(version, kind))


@pytest.fixture(scope="module")
def digits(
    cluster: t.Any,
    api: Api,
    serving: Serving,
    installed: Path,
    optional_kinds: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Declared]:
    """The deployment that the tests of this file take through its life, in their order."""
    namespace = f"ms-test-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("digits")
    made = Declared(api, str(cluster.kubeconfig), namespace, serving.first, folder, installed)
    made.declare(
        environment={"GREETING": "hello", "API_TOKEN": SECRETS[0]},
        kubernetes={
            "namespace_labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            "service": {"type": "NodePort"},
            "secrets": {"LICENCE": LICENCE},
            "config_files": {"/etc/digits/thresholds.yml": "red: 0.5\n"},
            "secret_files": {"/etc/digits/key.pem": KEY_FILE},
            "storage": [
                {"name": "cache", "size": "10m", "mount_path": "/cache", "access_modes": ["ReadWriteMany"]},
                {"name": "data", "size": "10m", "mount_path": "/data", "access_modes": ["ReadWriteMany"], "keep": True},
            ],
            # of two pods both are needed, and no more may be made
            "autoscaling": {"max": 2},
            "network_policy": {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
            "ingress": {"host": "digits.example.com", "class": "none"},
            "http_route": {"parents": [{"name": "public"}], "hostnames": ["digits.example.com"]},
            "extra_resources": [limits(), config("digits-dashboard", rows="2")],
        },
    )
    yield made
    with contextlib.suppress(ModelshipError):
        remove(api, NAME, namespace, None, Context(), deadline_s=60)
    if (space := api.get("v1", "Namespace", "", namespace)) is not None:
        api.delete(space)


def limits() -> Object:
    """By which the admission gives values to containers that declare none."""
    spec = {"limits": [{"type": "Container", "default": {"memory": "128Mi"}, "defaultRequest": {"cpu": "20m"}}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "usual"}, "spec": spec}


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def script(kind: str, image: str, text: str) -> Object:
    """A pod or Job that runs a line of Python as Pod Security restricted wants it."""
    spec: Object = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "script",
                "image": image,
                "command": ["python3", "-c", text],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "script"}, "spec": spec}
    job = {"backoffLimit": 0, "template": {"spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "script"}, "spec": job}


def test_check_mode_of_the_first_run_changes_nothing(digits: Declared, api: Api) -> None:
    ran = digits.play("--check", "--diff")
    assert not ran.result["failed"], ran.output
    assert ran.result["changed"]
    assert f"Deployment {digits.namespace}/{NAME} does not exist yet" in ran.result["deployment"]["reasons"]
    assert api.get("v1", "Namespace", "", digits.namespace) is None
    assert not any(appears_in(secret, ran.text) for secret in (*SECRETS, LICENCE, KEY_FILE))


def test_the_first_run_makes_everything_and_waits_for_it(digits: Declared, api: Api, serving: Serving) -> None:
    # values that only admission gives: the pod's service account token, tolerations, limits; the claim's storage class
    digits.declare(
        kubernetes={
            "extra_resources": [
                *digits.options["kubernetes"]["extra_resources"],
                script("Pod", serving.first.image, "print('hello')"),
            ]
        }
    )
    ran = digits.play("--diff", "-vvv")
    assert not ran.result["failed"], ran.output
    assert ran.result["changed"]
    made = digits.objects()
    for name in (
        *(f"{kind}/{NAME}" for kind in ("Deployment", "Service", "ServiceAccount", "HorizontalPodAutoscaler")),
        *(f"{kind}/{NAME}" for kind in ("PodDisruptionBudget", "NetworkPolicy", "Ingress")),
        *(f"PersistentVolumeClaim/{NAME}-cache", "ConfigMap/digits-dashboard", "LimitRange/usual", "Pod/script"),
    ):
        assert name in made, name
        assert f"{name.replace('/', f' {digits.namespace}/')}" in ran.result["deployment"]["objects"]
    assert digits.get(*ROUTE) is not None
    assert digits.get(*MONITOR) is not None
    assert [name for name in made if name.startswith(f"ConfigMap/{NAME}-config-")]
    assert [name for name in made if name.startswith(f"Secret/{NAME}-secret-")]
    assert not [name for name in made if name.startswith("Lease/")]
    space = api.get("v1", "Namespace", "", digits.namespace)
    assert space is not None
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert not any(appears_in(secret, ran.text) for secret in (*SECRETS, LICENCE, KEY_FILE))


def test_two_pods_run_on_two_nodes_restricted_and_with_a_read_only_root(digits: Declared) -> None:
    pods = digits.pods()
    assert len(pods) == 2
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    for pod in pods:
        container = pod["spec"]["containers"][0]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert [item["ready"] for item in pod["status"]["containerStatuses"]] == [True]


def test_the_service_gives_the_golden_answers_from_both_pods(digits: Declared, api: Api, serving: Serving) -> None:
    def served(pod: Object) -> float:
        path = f"/api/v1/namespaces/{digits.namespace}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        lines = [line for line in api.text(path).splitlines() if 'endpoint="infer",code="200"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("modelship_requests_total"))

    pods = digits.pods()
    before = {pod["metadata"]["name"]: served(pod) for pod in pods}
    golden = load_release(serving.first.path)
    for host, port in digits.addresses():
        # a connection for each request, so that the Service chooses a pod for each
        with contextlib.closing(Client(f"http://{host}:{port}", headers={"connection": "close"})) as client:
            verdict = verify(client, Request(golden=golden, requests=30), Progress())
        assert verdict["ok"], verdict
        assert verdict["release"] == serving.first.release
        assert verdict["samples"]["checked"] == len(golden.inputs)
    for pod in pods:
        assert served(pod) > before[pod["metadata"]["name"]]


def test_the_autoscaler_brings_back_what_was_scaled_away(digits: Declared) -> None:
    """From here on it is the one that has set the replicas, as it does on a cluster under load."""
    digits.patch("apps/v1", "Deployment", {"spec": {"replicas": 1}}, "kubectl", sub="/scale")

    def replicas() -> int:
        return int((digits.get("apps/v1", "Deployment") or {})["spec"]["replicas"])

    assert replicas() == 1
    digits.wait(lambda: replicas() == 2)
    live = digits.get("apps/v1", "Deployment")
    assert live is not None
    owners = [
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    ]
    assert owners == ["kube-controller-manager"]


def test_the_second_run_changes_nothing(digits: Declared) -> None:
    """Also against what admission, the autoscaler and the controllers have added since."""
    claim = digits.get("v1", "PersistentVolumeClaim", f"{NAME}-cache")
    pod = digits.get("v1", "Pod", "script")
    scaler = digits.get("autoscaling/v2", "HorizontalPodAutoscaler")
    assert claim is not None
    assert pod is not None
    assert scaler is not None
    assert claim["spec"]["storageClassName"], "no admission default to be proven against"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "128Mi"}
    assert pod["spec"]["volumes"][0]["name"].startswith("kube-api-access")
    before = versions(digits.objects())
    ran = digits.play("--diff")
    assert not ran.result["failed"], ran.output
    assert ran.result["changed"] is False
    assert "is as declared" in ran.result["msg"]
    assert versions(digits.objects()) == before


def test_a_route_that_a_gateway_does_not_accept_is_no_good_health(digits: Declared, api: Api) -> None:
    def say(*conditions: Object) -> None:
        parent = {"parentRef": {"name": "public"}, "controllerName": "example.com/test", "conditions": list(conditions)}
        body = {"status": {"parents": [parent] if conditions else []}}
        path = api.path(*ROUTE, digits.namespace, NAME) + "/status"
        api.request("PATCH", path, body=body, content_type="application/merge-patch+json")

    refused = {"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "not from here"}
    say({**refused, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    health = digits.info(verify=None)["health"]
    assert health["state"] == "failed"
    assert "Gateway public does not accept it: Accepted=False, NotAllowedByListeners: not from here" in health["reason"]
    say()
    assert digits.info(verify=None)["health"]["state"] == "ready"


def test_check_mode_of_a_change_changes_nothing_and_hides_secrets(digits: Declared) -> None:
    before = versions(digits.objects())
    ran = digits.play(
        "--check",
        "--diff",
        "-vvv",
        replicas=1,
        environment={"GREETING": "good-bye", "API_TOKEN": SECRETS[1]},
        kubernetes={"ingress": None, "secrets": {"MORE": LICENCE[::-1]}, "service": {"port": 8000}},
    )
    assert not ran.result["failed"], ran.output
    assert ran.result["changed"]
    assert versions(digits.objects()) == before
    assert f"Ingress {digits.namespace}/{NAME} is no longer declared" in ran.result["deployment"]["reasons"]
    assert "good-bye" in ran.output
    assert "8000" in ran.output
    assert not any(appears_in(secret, ran.text) for secret in (*SECRETS, LICENCE, LICENCE[::-1], KEY_FILE))


def test_a_field_of_another_manager_is_a_conflict_until_it_is_forced(digits: Declared) -> None:
    digits.patch("apps/v1", "Deployment", {"spec": {"revisionHistoryLimit": 9}}, "night-shift")
    before = versions(digits.objects())
    with pytest.raises(ModelshipError) as caught:
        digits.run()
    assert caught.value.kind == "conflict"
    for word in (f"Deployment {digits.namespace}/{NAME}", "spec.revisionHistoryLimit", "night-shift", "force"):
        assert word in caught.value.message
    assert versions(digits.objects()) == before
    outcome = digits.run(kubernetes={"force": True})
    assert outcome.changed
    live = digits.get("apps/v1", "Deployment")
    assert live is not None
    assert live["spec"]["revisionHistoryLimit"] == 5
    assert not digits.run().changed


def test_what_is_no_longer_declared_is_pruned_and_nothing_else(digits: Declared, api: Api) -> None:
    path = api.path("v1", "ConfigMap", digits.namespace)
    alien = {"metadata": {"name": "alien"}, "data": {"a": "1"}}
    # labels alone, which anybody can copy, make nothing ours
    ours = digits.get("v1", "Service")
    assert ours is not None
    copied = {"metadata": {"name": "copied", "labels": ours["metadata"]["labels"]}, "data": {"a": "1"}}
    for body in (alien, copied):
        api.request("POST", path, query={"fieldManager": "somebody"}, body=body)
    before = set(digits.objects())
    kubernetes = digits.options["kubernetes"]
    extra = [item for item in kubernetes["extra_resources"] if item["kind"] == "LimitRange"]
    digits.declare(kubernetes={"ingress": None, "network_policy": None, "extra_resources": extra})
    outcome = digits.run()
    assert outcome.changed
    gone = {f"Ingress/{NAME}", f"NetworkPolicy/{NAME}", "ConfigMap/digits-dashboard", "Pod/script"}
    assert set(digits.objects()) == before - gone


def test_rolling_updates_lose_no_request(digits: Declared, serving: Serving) -> None:
    """Another configuration, then another image and release, while clients ask on kept and on new connections."""
    with Load(digits.addresses(), {"image": SAMPLES[0]}, kept=4, new=4) as load:
        load.wait_for(serving.first.release, 50)
        first = digits.run(environment={"GREETING": "good morning"})
        digits.declare(environment={"GREETING": "good morning"})
        digits.declare(image=serving.second.image, verify={"release": serving.second.path})
        ran = digits.play()
        # until the last pod of the earlier revisions has drained and gone
        digits.wait(lambda: len(digits.objects((("v1", "Pod"),))) == 2)
        load.wait_for(serving.second.release, 200)
    print(f"{sum(load.answers.values())} answers, {load.connections} on new connections, {len(load.losses)} lost")
    assert load.losses == []
    assert first.changed
    assert not ran.result["failed"], ran.output
    assert ran.result["deployment"]["release"] == serving.second.release
    assert ran.result["deployment"]["previous"]["release"] == serving.first.release
    assert any("containers[serving].image" in why for why in ran.result["deployment"]["reasons"])
    assert ran.result["deployment"]["revision"] == first.result["deployment"]["revision"] + 1
    assert load.answers.keys() == {serving.first.release, serving.second.release}
    assert load.connections > 100
    assert {pod["spec"]["containers"][0]["image"] for pod in digits.pods()} == {serving.second.image}
    assert not digits.run().changed


def test_a_rollout_that_fails_puts_the_last_good_revision_back_whole(digits: Declared, serving: Serving) -> None:
    """Image, configuration and release together, without losing a request, and the task says so."""
    good = digits.objects((("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service")))
    pods = {pod["metadata"]["uid"] for pod in digits.pods()}
    with Load(digits.addresses(), {"image": SAMPLES[0]}, kept=4, new=4) as load:
        load.wait_for(serving.second.release, 20)
        ran = digits.play(
            image=serving.first.image,
            verify={"release": serving.first.path},
            environment={"GREETING": "good night", "MODELSHIP_RELEASE": "/nowhere"},
            kubernetes={"service": {"port": 8000}},
        )
    assert load.losses == []
    assert ran.result["failed"]
    assert ran.result["error_kind"] == "unhealthy"
    assert any("/nowhere" in line for line in ran.result["log"]), ran.result["log"]
    assert ran.result["restored"]["image"] == serving.second.image
    assert ran.result["restored"]["release"] == serving.second.release
    assert f"went back to revision {ran.result['restored']['revision']}" in ran.result["msg"]
    assert load.answers.keys() == {serving.second.release}
    left = digits.objects((("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service")))
    assert left.keys() == good.keys()
    assert left[f"Service/{NAME}"]["spec"]["ports"] == good[f"Service/{NAME}"]["spec"]["ports"]
    # the pods that served all the time still do
    assert {pod["metadata"]["uid"] for pod in digits.pods()} == pods
    assert not digits.run().changed


def test_wrong_golden_answers_put_the_last_good_revision_back(digits: Declared, serving: Serving) -> None:
    with pytest.raises(ModelshipError) as caught:
        digits.run(image=serving.first.image)
    assert caught.value.details["restored"]["release"] == serving.second.release
    assert serving.first.release in caught.value.message
    assert {pod["spec"]["containers"][0]["image"] for pod in digits.pods()} == {serving.second.image}
    assert not digits.run().changed


def test_a_rollout_past_its_deadline_goes_back(digits: Declared) -> None:
    """Pods that run but never get ready are told from those that crash only by time."""
    with pytest.raises(ModelshipError) as caught:
        digits.run(health={"path": "/no-such-path", "start_deadline": 4}, kubernetes={"rollout": {"deadline": 5}})
    assert caught.value.kind == "unhealthy"
    assert "restored" in caught.value.details, caught.value.message
    assert not digits.run().changed


def test_a_job_that_fails_is_a_failure_with_its_log(digits: Declared, serving: Serving) -> None:
    text = "import sys; print('no rows in the table'); sys.exit(3)"
    extra = [*digits.options["kubernetes"]["extra_resources"], script("Job", serving.first.image, text)]
    with pytest.raises(ModelshipError) as caught:
        digits.run(kubernetes={"extra_resources": extra})
    assert caught.value.kind == "unhealthy"
    assert f"Job {digits.namespace}/script" in caught.value.message
    assert "no rows in the table" in caught.value.details["log"]
    assert "restored" in caught.value.details
    assert digits.get("batch/v1", "Job", "script") is None


def test_absent_removes_everything_of_its_own_and_waits(digits: Declared, api: Api) -> None:
    # what others made keeps the namespace, and what we only changed is given back
    api.request(
        "POST",
        api.path("v1", "ConfigMap", digits.namespace),
        query={"fieldManager": "somebody"},
        body={"metadata": {"name": "shared"}, "data": {"theirs": "1"}},
    )
    kubernetes = digits.options["kubernetes"]
    digits.declare(kubernetes={"extra_resources": [*kubernetes["extra_resources"], config("shared", ours="2")]})
    assert digits.run().changed
    before = versions(digits.objects())
    would = digits.run(check=True, state="absent")
    assert would.changed
    assert versions(digits.objects()) == before
    ran = digits.play("--diff", "-vvv", state="absent")
    assert not ran.result["failed"], ran.output
    assert ran.result["changed"]
    left = digits.objects()
    data = f"PersistentVolumeClaim/{NAME}-data"
    assert left.keys() == {"ConfigMap/alien", "ConfigMap/copied", "ConfigMap/shared", data}
    assert left["ConfigMap/shared"]["data"] == {"theirs": "1"}
    assert digits.get(*ROUTE) is None
    assert digits.get(*MONITOR) is None
    kept = " ".join(ran.result["deployment"]["kept"])
    assert f"Namespace {digits.namespace} is kept because of" in kept
    assert f"{data.replace('/', f' {digits.namespace}/')} is kept as declared" in kept
    assert "existed before" in kept
    assert api.list("v1", "Pod", digits.namespace)[0] == []
    assert not any(appears_in(secret, ran.text) for secret in (*SECRETS, LICENCE, KEY_FILE))


def test_absent_removes_the_namespace_it_made_once_it_is_empty(digits: Declared, api: Api) -> None:
    for obj in digits.objects().values():
        api.delete(obj)
    digits.wait(lambda: not digits.objects())
    outcome = digits.run(state="absent")
    assert outcome.changed
    assert api.get("v1", "Namespace", "", digits.namespace) is None
    assert not digits.run(state="absent").changed
