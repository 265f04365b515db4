"""Applying to a real API server: what is there afterwards, what a second run does, and what belongs to others."""

from __future__ import annotations

import copy
import json
import random
import threading
import typing as t
import uuid
from collections.abc import Iterator

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import load_record

from .deployer import KINDS, CountingApi, Deployer, Object, config, secret, service, workload

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[CountingApi]:
    with CountingApi(cluster.kubeconfig) as found:
        yield found


@pytest.fixture
def digits(cluster: t.Any, api: CountingApi) -> Iterator[Deployer]:
    with cluster.namespace() as name:
        yield Deployer(api, name)


def patch(api: CountingApi, obj: Object, body: t.Any, manager: str = "kubectl-edit", sub: str = "") -> None:
    """Change *obj* as another program would."""
    path = api.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
    content_type = "application/json-patch+json" if isinstance(body, list) else "application/merge-patch+json"
    api.request("PATCH", f"{path}{sub}", query={"fieldManager": manager}, body=body, content_type=content_type)


def create(digits: Deployer, obj: Object, manager: str = "kubectl-create") -> Object:
    path = digits.api.path(obj["apiVersion"], obj["kind"], digits.namespace)
    return t.cast(Object, digits.api.request("POST", path, query={"fieldManager": manager}, body=obj))


def everything() -> list[Object]:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "digits"}}
    return [workload("digits"), config("c", a="1"), secret("s", p="hunter22"), service("digits"), account]


def test_a_second_run_changes_nothing_and_asks_only_what_it_has_to(digits: Deployer, api: CountingApi) -> None:
    first = digits.deploy(everything())
    assert [len(first.creates), len(first.updates)] == [5, 0]
    state, writes = digits.state(*KINDS), api.writes
    second = digits.deploy(everything())
    assert not second.changed
    assert not second.difference
    assert second.reasons == []
    assert api.writes == writes
    assert digits.state(*KINDS) == state
    assert not any(key.startswith("Lease/") for key in state)


def test_a_second_run_costs_no_more_requests_for_more_objects(digits: Deployer, api: CountingApi) -> None:
    def asked(count: int) -> int:
        objects = [config(f"c{number}", a="1") for number in range(count)]
        digits.deploy(objects)
        before = api.requests
        assert not digits.deploy(objects).changed
        return api.requests - before

    assert asked(40) == asked(2)


def test_admission_that_adds_to_an_object_is_no_change(digits: Deployer) -> None:
    limits = {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}, "default": {"memory": "64Mi"}}]}
    limit_range = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": limits}
    digits.deploy([limit_range])
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeSelector": {"nowhere": "at-all"}, "containers": [{"name": "a", "image": "example.invalid/a:1"}]},
    }
    digits.deploy([limit_range, pod])
    live = digits.get("Pod", "p") or {}
    assert live["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"
    assert not digits.deploy([limit_range, pod]).changed
    assert not digits.plan([limit_range, pod], check=True).changed


def test_check_mode_writes_nothing_and_tells_the_same(digits: Deployer, api: CountingApi) -> None:
    writes = api.writes
    found = digits.plan(everything(), check=True)
    assert found.changed
    assert all(change.result for change in found.creates)
    assert api.writes == writes
    assert digits.state(*KINDS) == {}
    digits.deploy(everything())
    state, writes = digits.state(*KINDS), api.writes
    changed = [
        workload("digits", image="example.invalid/a:2"),
        config("c", a="2"),
        config("new", a="1"),
        service("digits"),
    ]
    checked = digits.plan(changed, check=True)
    assert (digits.state(*KINDS), api.writes) == (state, writes)
    assert digits.remove(check=True).changed
    assert (digits.state(*KINDS), api.writes) == (state, writes)
    done = digits.deploy(changed)
    assert checked.difference.as_result() == done.difference.as_result()
    assert checked.reasons == done.reasons
    assert len(done.prunes) == 2


def test_check_mode_of_a_namespace_that_is_to_be_made(api: CountingApi) -> None:
    name = f"ms-test-{uuid.uuid4().hex[:8]}"
    deployer = Deployer(api, name)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    found = deployer.plan([space, config("c", a="1")], check=True)
    assert [str(change.key) for change in found.creates] == [f"Namespace {name}", f"ConfigMap {name}/c"]
    assert f"ConfigMap {name}/c could only be validated in namespace default" in found.warnings[0]
    assert api.get("v1", "Namespace", "", name) is None
    with pytest.raises(ModelshipError, match=f"namespace {name} does not exist"):
        deployer.plan([config("c", a="1")], check=True)


def test_a_change_touches_only_what_changed(digits: Deployer) -> None:
    digits.deploy(everything())
    objects = everything()
    objects[1] = config("c", a="1", b="2")
    found = digits.deploy(objects)
    assert [str(change.key) for change in found.updates] == [f"ConfigMap {digits.namespace}/c"]
    assert len(found.unchanged) == 4
    assert found.reasons == [f"ConfigMap {digits.namespace}/c is declared otherwise (data.b)"]
    objects[1] = config("c", b="2")
    assert digits.deploy(objects).reasons == [f"ConfigMap {digits.namespace}/c is declared otherwise (data.a)"]
    assert (digits.get("ConfigMap", "c") or {})["data"] == {"b": "2"}


def test_a_key_taken_out_of_a_secret_goes(digits: Deployer) -> None:
    digits.deploy([secret("s", p="1", q="2")])
    digits.deploy([secret("s", q="2")])
    assert (digits.get("Secret", "s") or {})["data"] == {"q": "Mg=="}


def test_drift_of_several_objects_is_one_error_with_the_managers_and_force_repairs_it(digits: Deployer) -> None:
    objects = everything()
    digits.deploy(objects)
    deployment, settings = digits.get("Deployment", "digits", "apps/v1") or {}, digits.get("ConfigMap", "c") or {}
    patch(digits.api, deployment, {"spec": {"replicas": 1}}, "kubectl", "/scale")
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.invalid/b:1"}]
    patch(digits.api, deployment, image, "kubectl-set")
    patch(digits.api, settings, {"data": {"a": "9"}}, "kubectl-edit")
    for check in (False, True):
        with pytest.raises(ModelshipError) as caught:
            digits.plan(objects, check=check)
        assert caught.value.kind == "conflict"
        told = caught.value.message
        assert "spec.replicas is managed by kubectl (scale)" in told
        assert 'spec.template.spec.containers[name="serve"].image is managed by kubectl-set' in told
        assert f"ConfigMap {digits.namespace}/c: data.a is managed by kubectl-edit" in told
        assert {item["manager"] for item in caught.value.details["conflicts"]} == {
            "kubectl",
            "kubectl-set",
            "kubectl-edit",
        }
    found = digits.deploy(objects, force=True)
    assert len(found.updates) == 2
    assert all("was changed by others" in reason for reason in found.reasons)
    assert not digits.deploy(objects).changed
    assert (digits.get("ConfigMap", "c") or {})["data"] == {"a": "1"}


def test_drift_inside_a_list_that_is_owned_whole_is_noticed(digits: Deployer) -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 80}]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "n"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]},
    }
    digits.deploy([policy])
    assert not digits.deploy([policy]).changed
    live = digits.get("NetworkPolicy", "n", "networking.k8s.io/v1") or {}
    patch(digits.api, live, [{"op": "add", "path": "/spec/ingress/0/from/0/namespaceSelector", "value": {}}])
    with pytest.raises(ModelshipError, match=r"spec\.ingress is managed by kubectl-edit"):
        digits.deploy([policy])


def test_what_others_add_stays(digits: Deployer) -> None:
    digits.deploy([config("c", a="1")])
    patch(digits.api, digits.get("ConfigMap", "c") or {}, {"data": {"theirs": "x"}})
    assert not digits.deploy([config("c", a="1")]).changed
    digits.deploy([config("c", a="2")])
    assert (digits.get("ConfigMap", "c") or {})["data"] == {"a": "2", "theirs": "x"}


def test_what_was_deleted_is_made_again(digits: Deployer) -> None:
    digits.deploy(everything())
    digits.api.delete(digits.get("ConfigMap", "c") or {})
    found = digits.deploy(everything())
    assert found.reasons == [f"ConfigMap {digits.namespace}/c was deleted"]
    assert not digits.deploy(everything()).changed


def test_what_is_being_deleted_is_awaited_and_made_again(digits: Deployer) -> None:
    digits.deploy([config("c", a="1")])
    live = digits.get("ConfigMap", "c") or {}
    patch(digits.api, live, {"metadata": {"finalizers": ["example.com/held"]}})
    digits.api.delete(live)
    checked = digits.plan([config("c", a="1")], check=True)
    assert [str(change.key) for change in checked.creates] == [f"ConfigMap {digits.namespace}/c"]
    free = threading.Timer(1.0, patch, (digits.api, live, {"metadata": {"finalizers": None}}))
    free.start()
    digits.deploy([config("c", a="1")])
    free.join()
    assert (digits.get("ConfigMap", "c") or {})["metadata"]["uid"] != live["metadata"]["uid"]


def test_only_what_is_ours_is_pruned(digits: Deployer) -> None:
    digits.deploy([*everything(), config("old", a="1")])
    ours = digits.get("ConfigMap", "old") or {}
    copied = {"labels": ours["metadata"]["labels"], "annotations": ours["metadata"]["annotations"], "name": "copy"}
    create(digits, {**config("copy", a="1"), "metadata": copied})
    other = Deployer(digits.api, digits.namespace, "shop")
    other.deploy([config("shop", a="1")])
    kept = {**config("kept"), "metadata": {"name": "kept", "annotations": {"modelship.io/keep": "true"}}}
    digits.deploy([*everything(), config("old", a="1"), kept])
    found = digits.deploy(everything())
    assert [obj["metadata"]["name"] for obj in found.prunes] == ["old"]
    names = {key for key in digits.state(*KINDS) if key.startswith("ConfigMap/")}
    assert names == {"ConfigMap/c", "ConfigMap/copy", "ConfigMap/shop", "ConfigMap/kept"}
    assert not other.deploy([config("shop", a="1")]).changed


def test_a_kind_that_is_no_longer_declared_is_still_pruned(digits: Deployer) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "j"},
        "spec": {
            "schedule": "0 0 1 1 *",
            "jobTemplate": {
                "spec": {
                    "template": {
                        "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "example.invalid/a"}]}
                    }
                }
            },
        },
    }
    digits.deploy([config("c"), job])
    assert len(digits.deploy([config("c")]).prunes) == 1
    assert digits.get("CronJob", "j", "batch/v1") is None
    assert not digits.deploy([config("c")]).changed


def test_what_existed_is_adopted_and_given_up_not_deleted(digits: Deployer) -> None:
    create(digits, config("theirs", a="1", b="2"))
    uid = (digits.get("ConfigMap", "theirs") or {})["metadata"]["uid"]
    objects = [config("c"), config("theirs", a="1", mine="3")]
    found = digits.deploy(objects)
    assert any("exists and is taken over" in reason for reason in found.reasons)
    assert not digits.deploy(objects).changed
    objects[1] = config("theirs", a="1", mine="4")
    digits.deploy(objects)
    given_up = digits.deploy([config("c")])
    assert [str(key) for key in given_up.left] == [f"ConfigMap {digits.namespace}/theirs"]
    assert not digits.deploy([config("c")]).changed
    live = digits.get("ConfigMap", "theirs") or {}
    assert live["metadata"]["uid"] == uid
    assert live["data"] == {"a": "1", "b": "2"}
    assert "labels" not in live["metadata"]
    assert "annotations" not in live["metadata"]
    digits.deploy(objects)
    assert any("existed before" in clause for clause in digits.remove().kept)
    assert (digits.get("ConfigMap", "theirs") or {})["metadata"]["uid"] == uid


def test_adopting_what_another_manager_owns_otherwise_is_a_conflict(digits: Deployer) -> None:
    create(digits, workload("digits", image="example.invalid/theirs:1"))
    with pytest.raises(ModelshipError, match=r"image is managed by kubectl-create"):
        digits.deploy([workload("digits")])
    digits.deploy([workload("digits")], force=True)
    assert not digits.deploy([workload("digits")]).changed
    # without what we declare it could not be, so it stays as it is, and nobody's
    assert len(digits.deploy([config("c")]).releases) == 1
    live = digits.get("Deployment", "digits", "apps/v1") or {}
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "example.invalid/a:1"
    assert "modelship" not in json.dumps(live["metadata"])


def theirs_in_another_form(image: str) -> list[Object]:
    """A Service, a Deployment and a budget as kubectl apply made them: all that ours declares, in another form."""
    web = {"name": "web", "port": 8080, "targetPort": 80}
    admin = {"name": "admin", "port": 9, "targetPort": 9}
    container = {
        "name": "serve",
        "image": image,
        "env": [{"name": "A", "value": "b"}],
        "ports": [{"name": "http", "containerPort": 9000}],
        "readinessProbe": {"tcpSocket": {"port": 9000}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    deployed = workload("digits", replicas=0)
    deployed["spec"]["template"]["spec"] = {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}
    budget = {"selector": {"matchLabels": {"app": "digits"}}, "minAvailable": 1}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "digits"},
            "spec": {"selector": {"app": "digits"}, "ports": [web, admin]},
        },
        deployed,
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "digits"}, "spec": budget},
    ]


def ours_in_another_form() -> list[Object]:
    found = theirs_in_another_form("example.invalid/a:1")
    service_, deployed, budget = found
    service_["spec"]["ports"] = [{"name": "web", "port": 80, "targetPort": "http"}]
    reference = {"configMapKeyRef": {"name": "c", "key": "a"}}
    deployed["spec"]["template"]["spec"] = {
        "containers": [
            {
                "name": "serve",
                "image": "example.invalid/a:1",
                "env": [{"name": "A", "valueFrom": reference}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"port": "http", "path": "/"}},
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "c"}}],
    }
    budget["spec"] = {"selector": {"matchLabels": {"app": "digits"}}, "maxUnavailable": 1}
    return found


def test_adopting_what_others_declared_in_another_form_names_field_and_manager_and_force_takes_it_over(
    digits: Deployer,
) -> None:
    for obj in theirs_in_another_form("example.invalid/a:1"):
        create(digits, obj, manager="kubectl-client-side-apply")
    before = digits.state(*KINDS)
    objects = [config("c", a="1"), *ours_in_another_form()]
    with pytest.raises(ModelshipError) as caught:
        digits.deploy(objects)
    assert caught.value.kind == "conflict"
    assert digits.state(*KINDS) == before
    template = 'spec.template.spec.containers[name="serve"]'
    assert {item["field"] for item in caught.value.details["conflicts"]} == {
        'spec.ports[port=8080,protocol="TCP"]',
        f'{template}.ports[containerPort=9000,protocol="TCP"]',
        f'{template}.env[name="A"].value',
        f"{template}.readinessProbe.tcpSocket",
        f'{template}.volumeMounts[mountPath="/v"]',
        'spec.template.spec.volumes[name="v"].emptyDir',
        "spec.minAvailable",
    }
    assert {item["manager"] for item in caught.value.details["conflicts"]} == {"kubectl-client-side-apply"}
    assert 'spec.ports[2].name: Duplicate value: "web"' in caught.value.message
    planned = digits.plan(objects, force=True, check=True)
    assert digits.state(*KINDS) == before
    assert '"port": 8080' in planned.difference.as_result()["before"]
    assert '"port": 8080' not in planned.difference.as_result()["after"]
    found = digits.deploy(objects, force=True)
    assert all(change.live is None or change.result is not None for change in found.updates)
    assert not digits.deploy(objects).changed
    ports = (digits.get("Service", "digits") or {})["spec"]["ports"]
    assert sorted((port["name"], port["port"]) for port in ports) == [("admin", 9), ("web", 80)]
    live = (digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["template"]["spec"]
    assert [list(volume) for volume in live["volumes"]] in ([["configMap", "name"]], [["name", "configMap"]])
    container = live["containers"][0]
    assert "tcpSocket" not in container["readinessProbe"]
    assert [port["containerPort"] for port in container["ports"]] == [8080]
    assert "volumeMounts" not in container
    assert (digits.get("PodDisruptionBudget", "digits", "policy/v1") or {})["spec"].get("minAvailable") is None
    # it is theirs again afterwards, not deleted
    assert any("existed before" in clause for clause in digits.remove().kept)
    assert digits.get("Service", "digits") is not None


def _adopted_service(*ports: Object) -> Object:
    spec = {"selector": {"app": "digits"}, "ports": list(ports)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits"}, "spec": spec}


def _adopted_workload(container: Object) -> Object:
    found = workload("digits", replicas=0)
    found["spec"]["template"]["spec"]["containers"][0].update({"resources": {}, **container})
    return found


@pytest.mark.parametrize(
    ("theirs", "ours", "field"),
    [
        (
            _adopted_service({"port": 8080}),
            _adopted_service({"name": "http", "port": 80}),
            'spec.ports[port=8080,protocol="TCP"]',
        ),
        (
            _adopted_workload({"securityContext": {"privileged": True}}),
            _adopted_workload({"securityContext": {"allowPrivilegeEscalation": False}}),
            ".securityContext.privileged",
        ),
        (
            _adopted_workload({"resources": {"limits": {"memory": "64Mi"}}}),
            _adopted_workload({"resources": {"requests": {"memory": "128Mi"}}}),
            ".resources.limits",
        ),
    ],
)
def test_what_cannot_stand_beside_the_declaration_is_named_and_taken_over_with_force(
    digits: Deployer, theirs: Object, ours: Object, field: str
) -> None:
    create(digits, theirs, manager="helm")
    with pytest.raises(ModelshipError) as caught:
        digits.deploy([ours])
    (conflict,) = caught.value.details["conflicts"]
    assert conflict["field"].endswith(field)
    assert conflict["manager"] == "helm"
    digits.deploy([ours], force=True)
    assert not digits.deploy([ours]).changed


def test_force_is_not_advised_where_a_field_can_never_change(digits: Deployer) -> None:
    create(digits, workload("digits"), manager="helm")
    other = workload("digits")
    other["spec"]["selector"]["matchLabels"]["color"] = "blue"
    other["spec"]["template"]["metadata"]["labels"]["color"] = "blue"
    with pytest.raises(ModelshipError) as caught:
        digits.deploy([other])
    assert "field is immutable" in caught.value.message
    assert "delete deployment.apps digits" in caught.value.message
    assert "force" not in caught.value.message


def test_two_deployments_do_not_share_an_object(digits: Deployer) -> None:
    digits.deploy([config("c", a="1")])
    with pytest.raises(
        ModelshipError, match=f"belongs to the deployment digits in namespace {digits.namespace}"
    ) as caught:
        Deployer(digits.api, digits.namespace, "shop").deploy([config("c", a="1")])
    assert caught.value.kind == "foreign"


def test_deployments_of_one_name_in_two_namespaces_keep_apart(cluster: t.Any, digits: Deployer) -> None:
    def role(suffix: str) -> Object:
        metadata = {"name": f"{digits.namespace}-{suffix}"}
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": []}

    with cluster.namespace() as elsewhere:
        other = Deployer(digits.api, elsewhere)
        digits.deploy([config("c", a="1"), role("one")])
        other.deploy([config("c", a="2"), role("two")])
        assert not digits.deploy([config("c", a="1"), role("one")]).changed
        assert [str(key) for key in other.remove().removed] == [
            f"ClusterRole {digits.namespace}-two",
            f"ConfigMap {elsewhere}/c",
        ]
        assert not digits.deploy([config("c", a="1"), role("one")]).changed
        digits.remove()


@pytest.mark.parametrize("check", [False, True])
def test_fields_that_cannot_change_are_named_with_what_to_do(digits: Deployer, check: bool) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "example.invalid/a"}]}
    pod["containers"][0]["env"] = [{"name": "PASSWORD", "value": "hunter22"}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "p"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "none",
        },
    }
    objects = [workload("digits"), job, claim]
    digits.deploy(objects)
    state = digits.state(*KINDS)
    changed = copy.deepcopy(objects)
    changed[0]["spec"]["selector"]["matchLabels"] = changed[0]["spec"]["template"]["metadata"]["labels"] = {
        "app": "other"
    }
    changed[1]["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/b"
    changed[2]["spec"]["accessModes"] = ["ReadWriteMany"]
    with pytest.raises(ModelshipError) as caught:
        digits.plan(changed, check=check)
    told = caught.value.message
    assert f"Deployment {digits.namespace}/digits is refused: spec.selector: field is immutable" in told
    assert f"Job {digits.namespace}/j is refused: spec.template: field is immutable" in told
    assert f"PersistentVolumeClaim {digits.namespace}/p is refused: spec: spec is immutable after creation" in told
    assert f"kubectl --namespace {digits.namespace} delete job.batch j" in told
    assert "hunter22" not in told
    assert digits.state(*KINDS) == state


def test_replicas_are_handed_to_an_autoscaler_and_taken_back(digits: Deployer) -> None:
    digits.deploy([workload("digits", replicas=2)])
    free = workload("digits", replicas=None)
    digits.deploy([free])
    assert (digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["replicas"] == 2
    assert not digits.deploy([free]).changed
    # what a HorizontalPodAutoscaler does
    live = digits.get("Deployment", "digits", "apps/v1") or {}
    patch(digits.api, live, {"spec": {"replicas": 4}}, "kube-controller-manager", "/scale")
    assert not digits.deploy([free]).changed
    labelled = copy.deepcopy(free)
    labelled["metadata"]["labels"] = {"a": "b"}
    digits.deploy([labelled])
    assert (digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["replicas"] == 4
    digits.deploy([workload("digits", replicas=1)])
    assert (digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["replicas"] == 1
    assert not digits.deploy([workload("digits", replicas=1)]).changed


def hpa(least: int, most: int) -> Object:
    spec = {"minReplicas": least, "maxReplicas": most}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "digits"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "digits"},
        "spec": {**spec, "scaleTargetRef": target},
    }


def test_an_autoscaled_workload_begins_within_the_autoscaler_s_bounds(digits: Deployer) -> None:
    def replicas() -> int:
        return int((digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["replicas"])

    free = workload("digits", replicas=None, image="example.invalid/other:1")
    digits.deploy([free, hpa(3, 4)])
    assert replicas() == 3
    assert not digits.deploy([free, hpa(3, 4)]).changed
    digits.deploy([workload("digits", replicas=1)])
    digits.deploy([free, hpa(2, 4)])
    assert replicas() == 2


def test_an_autoscaler_that_goes_does_not_fight_the_declared_replicas(digits: Deployer) -> None:
    autoscaler = hpa(3, 4)
    digits.deploy([workload("digits", replicas=2)])
    digits.deploy([workload("digits", replicas=None), autoscaler])
    live = digits.get("Deployment", "digits", "apps/v1") or {}
    patch(digits.api, live, {"spec": {"replicas": 4}}, "kube-controller-manager", "/scale")
    with pytest.raises(ModelshipError, match=r"kube-controller-manager \(scale\)"):
        digits.deploy([workload("digits", replicas=1), autoscaler])
    digits.deploy([workload("digits", replicas=1)])
    assert digits.get("HorizontalPodAutoscaler", "digits", "autoscaling/v2") is None
    assert (digits.get("Deployment", "digits", "apps/v1") or {})["spec"]["replicas"] == 1


def test_a_kind_and_its_objects_are_made_in_one_run(digits: Deployer) -> None:
    group = f"{digits.namespace}.example.com"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition = {
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
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}}
    checked = digits.plan([config("c"), widget, definition], check=True)
    assert "could not be tried" in checked.warnings[0]
    digits.deploy([config("c"), widget, definition])
    assert not digits.deploy([config("c"), widget, definition]).changed
    # a new field, and the object that has it, which the definition as it is now does not allow
    definition = copy.deepcopy(definition)
    fields = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields["colour"] = {"type": "string"}
    widget = {**widget, "spec": {"size": 3, "colour": "red"}}
    new = {**widget, "metadata": {"name": "v"}}
    checked = digits.plan([config("c"), widget, new, definition], check=True)
    assert [(len(checked.creates), len(checked.updates), len(checked.warnings))] == [(1, 2, 2)]
    found = digits.deploy([config("c"), widget, new, definition])
    assert f"Widget {digits.namespace}/w could not be tried before its kind is changed" in found.warnings[0]
    assert (digits.get("Widget", "w", f"{group}/v1") or {})["spec"] == {"size": 3, "colour": "red"}
    assert not digits.deploy([config("c"), widget, new, definition]).changed
    digits.deploy([config("c"), widget, definition])
    # deleting the kind would delete what others have of it
    theirs = {**widget, "metadata": {"name": "theirs"}}
    create(digits, theirs)
    found = digits.deploy([config("c")])
    assert [str(obj["kind"]) for obj in found.prunes] == ["Widget"]
    assert f"left because of Widget {digits.namespace}/theirs" in found.warnings[0]
    digits.api.delete({**theirs, "metadata": {"name": "theirs", "namespace": digits.namespace}})
    assert [str(obj["kind"]) for obj in digits.deploy([config("c")]).prunes] == ["CustomResourceDefinition"]


def test_large_manifests_are_applied_and_remembered(digits: Deployer) -> None:
    noise = random.Random(1)  # noqa: S311 - not compressible, nothing secret
    large = [config(f"large{number}", a=noise.randbytes(500_000).hex()) for number in range(3)]
    digits.deploy(large)
    assert not digits.deploy(large).changed
    record = load_record(digits.api, digits.namespace, digits.name)
    assert record.good is not None
    assert [obj["data"] for obj in record.good.objects] == [obj["data"] for obj in large]
    parts = [key for key in digits.state(("v1", "Secret")) if "digits-modelship-" in key]
    assert len(parts) > 1
    digits.deploy([config("c")])
    assert list(digits.state(("v1", "Secret"))) == ["Secret/digits-modelship"]
    with pytest.raises(ModelshipError, match="1048576 bytes"):
        digits.deploy([config("c", a="x" * 1_100_000)])


def test_secrets_appear_nowhere(digits: Deployer) -> None:
    hidden = ["hunter22", "aHVudGVyMjI=", "correct horse", "Y29ycmVjdCBob3JzZQ=="]
    env = [{"name": "API_TOKEN", "value": "hunter22"}]
    told = []

    def tell(objects: list[Object], **options: t.Any) -> None:
        try:
            found = digits.deploy(objects, **options)
        except ModelshipError as exc:
            told.append([exc.message, exc.details])
        else:
            told.append([found.difference.as_result(), found.reasons, found.warnings])

    # as kubectl apply leaves it: with a copy of all in an annotation
    copied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(secret("old", p="hunter22"))}
    create(digits, {**secret("old", p="hunter22"), "metadata": {"name": "old", "annotations": copied}})
    tell([secret("s", p="hunter22"), workload("digits", env=env)])
    tell([secret("s", p="correct horse"), secret("old", p="correct horse"), workload("digits", env=env)])
    tell([secret("s", p="correct horse"), secret("old", p="correct horse"), workload("digits", env=env)], force=True)
    tell([{**secret("s"), "data": {"p": "hunter22!"}}])
    tell([{**secret("s", p="hunter22"), "hunter": 1}])
    tell([{**secret("s", p="hunter22"), "metadata": {"name": "s", "labels": {"x": "?"}}}])
    tell([workload("digits", env=[{"name": "API_TOKEN", "value": 12345678}])])
    tell([config("c")])
    removal = digits.remove()
    told.append([removal.difference.as_result(), removal.message, removal.kept])
    text = json.dumps(told)
    assert len(told) == 9
    assert "<redacted 1>" in text
    assert [value for value in [*hidden, "12345678"] if value in text] == []
