# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout from plan to record, and back, on a server in memory; see also the integration tests."""

from __future__ import annotations

import base64
import json
import types
import typing as t
import urllib.parse
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.masking import encodings
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare
from ansible_collections.modelship.core.plugins.module_utils._endpoint import golden as releases
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import golden, lease, remove, rollout, serving
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import wait as waiting
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.backend import KubernetesBackend
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.plan import Plan
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import load_record
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.rollout import Rollout, Settings

from .manifest_cases import parameters
from .memory import Memory, config, namespace, refused, workload
from .shapes import pod, replica_set
from .shapes import waiting as stuck


class NoLease:
    """Stands for the Lease of a run that is alone."""

    def __init__(self, *_whose: t.Any) -> None:
        """Hold nothing."""

    def __enter__(self) -> NoLease:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing to release."""

    def check(self) -> None:
        """Nobody takes it."""

    def exists(self) -> bool:
        """No other run is at work."""
        return False


LEASE: t.Any = NoLease()
VERIFICATION = types.SimpleNamespace(release="/a-release")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lease, remove, rollout):
        monkeypatch.setattr(module, "Lease", NoLease)


def made(
    api: Memory, *objects: Object, image: str = "digits:1", waits: bool = True, verification: t.Any = None
) -> Rollout:
    declaration = types.SimpleNamespace(name="digits", image=image, digest="sha256:0", verification=verification)
    settings = Settings(deadline_s=5, force=False, waits=waits)
    return Rollout(t.cast("t.Any", api), "shop", t.cast("t.Any", declaration), [*objects], settings, Progress())


def run(api: Memory, *objects: Object, **options: t.Any) -> Plan:
    """Do what the module does; return the plan that was carried out."""
    doing = made(api, *objects, **options)
    record = load_record(doing.api, "shop", "digits")
    found = doing.plan(record)
    if found.changed:
        return doing.perform(found, record, LEASE)[0]
    doing.settle(found, record)
    return found


def claim(size: int) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{size}Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


@pytest.fixture
def api() -> Memory:
    api = Memory()
    api.add(namespace())
    return api


def live(api: Memory, kind: str, name: str) -> Object:
    (found,) = [obj for key, obj in api.objects.items() if (key.kind, key.name) == (kind, name)]
    return found


def test_one_object_that_cannot_be_as_it_was_does_not_block_the_way_back(api: Memory) -> None:
    """A claim that has grown; the server says so in the dry run, and of another object only when it is applied."""
    run(api, config("c", a="1"), claim(10), workload(), config("late", a="1"))

    def refuse(what: str, kind: str, obj: Object) -> ApiError | None:
        if kind == "PersistentVolumeClaim" and what == "try" and "10Gi" in str(obj):
            return refused(
                422, "Forbidden: field can not be less than status.capacity", "spec.resources.requests.storage"
            )
        if what == "apply" and obj.get("data") == {"a": "1"} and obj["metadata"]["name"] == "late":
            return refused(403, "no more of that")
        return refused(403, "only images of the house") if what == "apply" and "digits:2" in str(obj) else None

    api.refuse = refuse
    new = [config("c", a="2"), config("more"), claim(20), config("late", a="2"), workload("digits:2")]
    with pytest.raises(ModelshipError) as caught:
        run(api, *new, image="digits:2")
    assert live(api, "ConfigMap", "c")["data"] == {"a": "1"}
    assert "digits:1" in str(live(api, "Deployment", "digits"))
    assert "20Gi" in str(live(api, "PersistentVolumeClaim", "data"))
    assert live(api, "ConfigMap", "late")["data"] == {"a": "2"}
    assert not [key for key in api.objects if key.name == "more"]
    assert caught.value.message == (
        "only images of the house; went back to revision 1 (digits:1), which is ready again; what of it cannot be put back "
        "stays as it was applied: PersistentVolumeClaim shop/data is refused: spec.resources.requests.storage: field can not "
        "be less than status.capacity. Of a claim only the size can change, and only grow, once it is bound and if its "
        "storage class allows it. Declare it as it is, or under another name, or delete it and what it holds "
        "(kubectl --namespace shop delete persistentvolumeclaim data) and run again; no more of that"
    )
    assert caught.value.details["restored"]["revision"] == 1


def test_a_golden_set_that_cannot_be_read_is_reported_before_anything_is_written(api: Memory, tmp_path: Path) -> None:
    before = dict(api.objects)
    wanted = types.SimpleNamespace(release=str(tmp_path / "no-release"))
    with pytest.raises(ModelshipError, match=r"no-release/release\.json: No such file"):
        run(api, config("c", a="1"), workload(), verification=wanted)
    assert api.objects == before


def test_it_is_not_said_to_be_back_where_what_serves_cannot_be(api: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    run(api, config("c", a="1"), workload())

    def fail(*_given: t.Any, **_options: t.Any) -> None:
        raise ModelshipError("pods do not get ready", kind="unhealthy")

    monkeypatch.setattr(waiting, "wait", fail)
    api.refuse = lambda _what, _kind, obj: refused(403, "closed today") if "digits:1" in str(obj) else None
    with pytest.raises(ModelshipError) as caught:
        run(api, config("c", a="2"), workload("digits:2"), image="digits:2")
    assert caught.value.message == (
        "pods do not get ready; and going back to revision 1 (digits:1) failed too: closed today; run again"
    )
    assert "restored" not in caught.value.details
    assert live(api, "ConfigMap", "c")["data"] == {"a": "1"}


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_server_that_refuses_all_is_not_taken_for_one_object_s_fault(api: Memory, status: int) -> None:
    run(api, config("c", a="1"), workload())

    def refuse(what: str, _kind: str, obj: Object) -> ApiError | None:
        if what == "apply" and "digits:2" in str(obj):
            return refused(403, "only images of the house")
        return refused(status, "not now") if what == "try" and obj.get("data") == {"a": "1"} else None

    api.refuse = refuse
    with pytest.raises(ModelshipError, match=r"going back to revision 1 .* failed too: not now; run again"):
        run(api, config("c", a="2"), workload("digits:2"), image="digits:2")


def module(api: Memory, *, check: bool = False, **kubernetes: t.Any) -> Outcome:
    """Run the module for a small declaration."""
    given = parameters({"replicas": 1}, **kubernetes)
    target = KubernetesBackend.__new__(KubernetesBackend)
    target.options, target.namespace = KubernetesOptions.from_parameters(given), "shop"
    target.api = t.cast("t.Any", api)
    return target.apply(declare(given), Context(check=check))


def break_pods(api: Memory) -> None:
    """Have the image of the pods be away, as the kubelet found it."""
    deployed = live(api, "Deployment", "digits")
    deployed["metadata"].setdefault("annotations", {})["deployment.kubernetes.io/revision"] = "1"
    deployed["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    newest = replica_set(deployed, "1")
    labels = deployed["spec"]["template"]["metadata"]["labels"]
    api.add(newest, labels=labels)
    api.add(pod(newest, containers=[stuck("ImagePullBackOff")], metadata={"labels": labels}))


@pytest.mark.parametrize("verbs", [("get", "list"), ("list",)])
def test_who_may_not_see_namespaces_deploys_into_one_that_exists(api: Memory, verbs: tuple[str, ...]) -> None:
    def refuse(what: str, kind: str, _obj: Object) -> ApiError | None:
        return refused(403, "namespaces is forbidden") if kind == "Namespace" and what in verbs else None

    api.refuse = refuse
    assert module(api).changed
    assert not module(api).changed
    # also where something is not ready
    break_pods(api)
    assert module(api, check=True).changed


def test_check_mode_tells_what_a_run_would_have_the_cluster_try_again(api: Memory) -> None:
    module(api)
    assert not module(api, check=True).changed
    break_pods(api)
    before = api.written()
    would = module(api, check=True)
    assert would.changed
    assert would.message.endswith("would be changed: pod p1 (ImagePullBackOff) is made anew")
    assert api.written() == before


def test_without_waiting_what_pods_of_the_revision_before_use_is_left_to_a_run_that_waits(api: Memory) -> None:
    module(api, config_files={"/etc/a": "1"}, secrets={"A": "1"}, ingress={"host": "digits.example.com"})
    changed = {"config_files": {"/etc/a": "2"}, "secrets": {"A": "2"}}
    assert module(api, **changed, wait=False).changed
    assert [deed.partition(" ")[0] for deed in api.written("delete")] == ["Ingress"]
    for check in (True, False):
        assert not module(api, **changed, wait=False, check=check).changed
    found = module(api, **changed)
    assert found.changed
    assert all("is no longer declared" in reason for reason in found.result["deployment"]["reasons"])
    assert sorted(deed.partition(" ")[0] for deed in api.written("delete")) == ["ConfigMap", "Ingress", "Secret"]
    assert not module(api, **changed).changed


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The pods of each demand for golden answers; all give them."""
    demands: list[list[str]] = []
    monkeypatch.setattr(
        golden, "demand", lambda _api, found, *_how: demands.append([each["name"] for each in found.serving])
    )
    monkeypatch.setattr(rollout, "_ASK_S", 0.5)
    monkeypatch.setattr(rollout, "_PAUSE_S", 0.01)
    return demands


@pytest.fixture
def _readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden set of VERIFICATION can be read."""
    monkeypatch.setattr(releases, "load_release", lambda _path: None)


@pytest.mark.usefixtures("_readable")
def test_golden_answers_wait_for_a_pod_to_ask(
    api: Memory, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([[], [], [{"name": "late"}], []])
    monkeypatch.setattr(serving, "replicas_of", lambda *_whose: serving.Replicas([], next(looks), {}))
    run(api, workload(), verification=VERIFICATION)
    assert asked == [["late"]]


@pytest.mark.usefixtures("_readable")
def test_a_revision_of_which_no_pod_can_be_asked_is_not_good(api: Memory, asked: list[list[str]]) -> None:
    with pytest.raises(
        ModelshipError, match="Deployment shop/digits has no ready pod to ask for golden answers"
    ) as caught:
        run(api, workload(), verification=VERIFICATION)
    assert caught.value.kind == "unhealthy"
    assert asked == []
    assert load_record(t.cast("t.Any", api), "shop", "digits").good is None


@pytest.mark.usefixtures("_readable")
def test_of_no_replicas_nothing_is_asked(api: Memory, asked: list[list[str]]) -> None:
    run(api, workload(replicas=0), verification=VERIFICATION)
    assert asked == [[]]
    assert load_record(t.cast("t.Any", api), "shop", "digits").good is not None


def paused(api: Memory) -> None:
    """What ``kubectl rollout pause`` does."""
    found = live(api, "Deployment", "digits")
    found["spec"]["paused"] = True
    found["metadata"]["managedFields"].append(
        {"manager": "kubectl-rollout", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    )


def test_a_new_image_for_a_deployment_that_somebody_has_paused_is_refused_before_the_first_write(api: Memory) -> None:
    run(api, config("c", a="1"), workload())
    paused(api)
    before = api.written()
    for check in (True, False):
        with pytest.raises(ModelshipError) as caught:
            made(api, config("c", a="2"), workload("digits:2")).plan(
                load_record(t.cast("t.Any", api), "shop", "digits"), check=check
            )
        assert caught.value.kind == "paused"
        assert caught.value.message == (
            "Deployment shop/digits: its rollout is paused by kubectl-rollout (spec.paused), so its pods are not replaced. "
            "What to do: kubectl --namespace shop rollout resume deployment digits, then run again; nothing was changed"
        )
    assert api.written() == before


def test_a_paused_deployment_whose_pods_stay_the_same_is_changed_as_declared(api: Memory) -> None:
    run(api, config("c", a="1"), workload())
    paused(api)
    run(api, config("c", a="2"), workload(replicas=2))
    assert live(api, "Deployment", "digits")["spec"]["replicas"] == 2


def spelled(secret: str) -> dict[str, str]:
    """*secret* as it stands in files and variables: in a URL, percent-encoded, in base64."""
    quoted = urllib.parse.quote(secret, safe="")
    encoded = base64.b64encode(f"app:{secret}".encode()).decode()
    return {
        "/etc/db.ini": f"url = postgres://app:{secret}@db\nbare {secret}\nquoted ?x={quoted}\n",
        "/etc/auth": f"authorization: Basic {encoded}\nquoted {quoted.lower()}\n",
    }


def leaks(text: str, secret: str) -> list[str]:
    return [form for form in encodings(secret) if form in text or form in urllib.parse.unquote(text)]


@pytest.mark.parametrize("check", [True, False])
def test_a_diff_shows_neither_the_old_nor_the_new_value_of_a_rotated_secret(api: Memory, check: bool) -> None:
    old, new = "0ld-p@ss/word", "n3w-p@ss/word"
    for secret in (old, new):
        common = {
            "replicas": 1,
            "environment": {"DATABASE_URL": f"postgres://app:{secret}@db", "GREETING": f"hello {secret}"},
            "labels": {"note": "seen"},
        }
        given = parameters(common, secrets={"LICENCE": secret}, config_files=spelled(secret))
        target = KubernetesBackend.__new__(KubernetesBackend)
        target.options, target.namespace = KubernetesOptions.from_parameters(given), "shop"
        target.api = t.cast("t.Any", api)
        outcome = target.apply(declare(given), Context(check=check and secret == new))
    assert outcome.difference is not None
    shown = outcome.difference.as_result()
    told = json.dumps([shown, outcome.message, outcome.result, outcome.warnings])
    assert [*leaks(told, old), *leaks(told, new)] == []
    for side in ("before", "after"):
        assert "url = postgres://app:<redacted " in shown[side]
        assert '"GREETING": "hello <redacted ' in shown[side]
        assert "DATABASE_URL" in shown[side]


def test_a_secret_that_only_the_last_good_revision_had_is_masked_too(api: Memory) -> None:
    module(api, secrets={"LICENCE": "0ld-licence"}, config_files={"/etc/a": "0ld-licence in a file"})
    api.objects = {key: obj for key, obj in api.objects.items() if "-secret-" not in key.name}  # somebody deleted it
    outcome = module(api, check=True, config_files={"/etc/a": "none"})
    assert outcome.difference is not None
    shown = outcome.difference.as_result()
    assert "<redacted 1> in a file" in shown["before"]
    assert "0ld-licence" not in json.dumps(shown)


def test_removing_a_deployment_shows_no_secret(api: Memory) -> None:
    module(api, secrets={"LICENCE": "0ld-licence"}, config_files={"/etc/a": "0ld-licence in a file"})
    target = KubernetesBackend.__new__(KubernetesBackend)
    target.options, target.namespace = KubernetesOptions.from_parameters(parameters()), "shop"
    target.api = t.cast("t.Any", api)
    outcome = target.remove("digits", Context(check=True))
    assert outcome.difference is not None
    assert "<redacted " in str(outcome.difference.as_result())
    assert "0ld-licence" not in str(outcome.difference.as_result())
