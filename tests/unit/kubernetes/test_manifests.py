"""What the objects of a deployment say: how it is replaced, reached, scaled, configured and kept."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import DEPLOYMENT, key_of

from .manifest_cases import (
    COMMON,
    EACH,
    NAMESPACE,
    Given,
    container,
    deployment,
    maximal,
    of_kind,
    only,
    parameters,
    pod,
    refusal,
    rendered,
)

# --- the whole ----------------------------------------------------------------------------------------------------


def test_the_least_declaration_makes_the_least() -> None:
    kinds = [obj["kind"] for obj in rendered(parameters(), served=False)]
    assert kinds == ["Namespace", "ServiceAccount", "ConfigMap", "Service", "Deployment"]


def test_everything_that_can_be_declared_is_rendered() -> None:
    assert {obj["kind"] for obj in rendered(maximal())} == {
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
        "PersistentVolumeClaim",
        "Service",
        "NetworkPolicy",
        "Ingress",
        "HTTPRoute",
        "ServiceMonitor",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "ClusterRole",
    }


def test_every_object_has_its_name_namespace_and_label_and_is_there_once() -> None:
    objects = rendered(maximal())
    assert len({key_of(obj) for obj in objects}) == len(objects)
    for obj in objects:
        metadata = obj["metadata"]
        assert metadata["labels"][DEPLOYMENT] == "digits"
        if obj["kind"] in ("Namespace", "ClusterRole"):
            assert "namespace" not in metadata
        else:
            assert metadata["namespace"] == NAMESPACE


def test_own_labels_and_annotations_are_on_objects_and_pods() -> None:
    for obj in rendered(parameters(COMMON, annotations=EACH["annotations"], pod_annotations=EACH["pod_annotations"])):
        if obj["kind"] != "Namespace":
            assert obj["metadata"]["labels"].items() >= COMMON["labels"].items()
            assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelship"
            assert obj["metadata"]["annotations"] == EACH["annotations"]
        if obj["kind"] == "Deployment":
            template = obj["spec"]["template"]["metadata"]
            assert template["labels"].items() >= COMMON["labels"].items()
            assert template["annotations"] == {"example.com/scrape": "true"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"app.kubernetes.io/name": "x"}, "labels: 'app.kubernetes.io/name' is set by the module itself"),
        ({"modelship.io/deployment": "x"}, "labels: 'modelship.io/deployment' is set by the module itself"),
        ({"team": "computer vision"}, "labels: 'computer vision' can be no value of label team"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: dict[str, str], message: str) -> None:
    assert refusal(parameters({"labels": labels})).message.startswith(message)


def test_rendering_is_repeatable_and_leaves_the_declaration_alone() -> None:
    given = maximal()
    before = copy.deepcopy(given)
    assert rendered(given) == rendered(given)
    assert given == before


# --- namespace ----------------------------------------------------------------------------------------------------


def test_the_namespace_comes_first_with_its_own_labels() -> None:
    namespace = rendered(parameters(namespace_labels=EACH["namespace_labels"]))[0]
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("given", [parameters(create_namespace=False), parameters({"namespace": "default"})])
def test_a_namespace_that_is_there_anyway_is_not_declared(given: Given) -> None:
    assert of_kind(rendered(given), "Namespace") == []


# --- replacing without losing a request ---------------------------------------------------------------------------


def test_a_rollout_takes_no_replica_away_before_the_new_one_is_ready() -> None:
    spec = deployment(parameters())["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (spec["progressDeadlineSeconds"], spec["revisionHistoryLimit"]) == (300, 5)
    changed = deployment(parameters(rollout=EACH["rollout"]))["spec"]
    assert changed["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 1}
    assert (changed["progressDeadlineSeconds"], changed["revisionHistoryLimit"]) == (600, 3)


def test_a_pod_still_answers_while_others_learn_that_it_goes_and_then_drains() -> None:
    assert container(parameters())["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert pod(parameters())["terminationGracePeriodSeconds"] == 5 + 10 + 5
    given = parameters({"drain_seconds": 30}, rollout={"pre_stop_seconds": 0})
    assert "lifecycle" not in container(given)
    assert pod(given)["terminationGracePeriodSeconds"] == 0 + 30 + 5


def test_the_pods_are_found_by_labels_that_never_change() -> None:
    small, large = rendered(parameters()), rendered(maximal())
    selector = only(small, "Deployment")["spec"]["selector"]
    assert selector == only(large, "Deployment")["spec"]["selector"]
    for objects in (small, large):
        labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= selector["matchLabels"].items()
        assert only(objects, "Service")["spec"]["selector"] == selector["matchLabels"]


def test_a_deadline_shorter_than_the_start_is_refused() -> None:
    error = refusal(parameters({"health": {"start_deadline": 300.0}}))
    assert error.message.startswith("kubernetes.rollout.deadline 300 must be more than health.start_deadline 300")


# --- probes -------------------------------------------------------------------------------------------------------


def test_the_probes_follow_the_serving_api() -> None:
    found = container(parameters())
    ready = {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "timeoutSeconds": 2, "periodSeconds": 1}
    assert found["startupProbe"] == {**ready, "failureThreshold": 60}
    assert found["readinessProbe"] == {**ready, "failureThreshold": 3}
    assert found["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}


def test_the_probes_of_another_server() -> None:
    found = container(parameters({"health": COMMON["health"]}))
    assert found["startupProbe"]["httpGet"]["path"] == "/healthz"
    # 40 s in steps of 2 s, because the kubelet knows no 1.5 s
    assert (found["startupProbe"]["periodSeconds"], found["startupProbe"]["failureThreshold"]) == (2, 20)
    assert found["startupProbe"]["timeoutSeconds"] == 1
    assert found["livenessProbe"]["tcpSocket"] == {"port": "http"}
    named = container(parameters({"health": COMMON["health"]}, liveness_path="/live"))
    assert named["livenessProbe"]["httpGet"]["path"] == "/live"


# --- resources, places --------------------------------------------------------------------------------------------


def test_resources_are_canonical_quantities() -> None:
    given = parameters({"limits": COMMON["limits"]}, requests=EACH["requests"], gpus={"count": 2})
    assert container(given)["resources"] == {
        "limits": {"memory": "1Gi", "cpu": "1500m", "nvidia.com/gpu": "2"},
        "requests": {"memory": "256Mi", "cpu": "250m"},
    }
    assert "resources" not in container(parameters())
    assert "resources" not in container(parameters({"limits": {"memory": "0", "cpus": 0, "pids": 0}}))


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ({"memory": "2g"}, "kubernetes.requests.memory is more than"),
        ({"cpus": 2}, "kubernetes.requests.cpus is more than"),
    ],
)
def test_more_requests_than_limits_are_refused(requests: Given, message: str) -> None:
    given = parameters({"limits": COMMON["limits"]}, requests=requests)
    assert refusal(given).message.startswith(message)


def test_pods_leave_a_lost_node_soon_and_may_go_where_accelerators_are() -> None:
    lost = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    usual = [{"key": f"node.kubernetes.io/{what}", **lost} for what in ("not-ready", "unreachable")]
    assert pod(parameters())["tolerations"] == usual
    accelerators = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert pod(parameters(gpus={"count": 1}))["tolerations"] == [accelerators, *usual]
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}
    assert pod(parameters(tolerations=[own]))["tolerations"] == [own, usual[0]]


def test_pods_are_spread_over_nodes_revision_by_revision() -> None:
    selector = deployment(parameters())["spec"]["selector"]
    common = {"labelSelector": selector, "matchLabelKeys": ["pod-template-hash"]}
    hosts = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    assert pod(parameters())["topologySpreadConstraints"] == [{**common, **hosts}]
    [zones] = EACH["topology_spread"]
    whole = {**zones, "labelSelector": {"matchLabels": {"a": "b"}}}
    assert pod(parameters(topology_spread=[zones, whole]))["topologySpreadConstraints"] == [{**common, **zones}, whole]
    assert "topologySpreadConstraints" not in pod(parameters(topology_spread=[]))


def test_where_and_as_what_pods_run_is_as_declared() -> None:
    found = pod(maximal())
    assert found["nodeSelector"] == {"disk": "ssd", "fast": "true"}
    assert found["affinity"] == EACH["affinity"]
    assert (found["priorityClassName"], found["runtimeClassName"]) == ("high", "gvisor")
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert (found["securityContext"]["runAsUser"], found["securityContext"]["runAsGroup"]) == (1000, 2000)


@pytest.mark.parametrize("user", ["www-data", "0", "0:0", "1000:www"])
def test_users_that_a_restricted_pod_cannot_have_are_refused(user: str) -> None:
    assert refusal(parameters({"user": user})).message.startswith(f"user '{user}' is refused")


def test_the_account_is_the_deployments_own_without_a_token() -> None:
    objects = rendered(parameters())
    assert only(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    found = pod(parameters())
    assert (found["serviceAccountName"], found["automountServiceAccountToken"]) == ("digits", False)
    other = parameters(service_account={"name": "trainer", "automount": True})
    assert of_kind(rendered(other), "ServiceAccount") == []
    assert (pod(other)["serviceAccountName"], pod(other)["automountServiceAccountToken"]) == ("trainer", True)


# --- scaling and disruptions --------------------------------------------------------------------------------------


def test_an_autoscaler_alone_decides_the_number_of_replicas() -> None:
    given = parameters({"limits": COMMON["limits"], "replicas": 2}, autoscaling={"max": 5})
    assert deployment(parameters({"replicas": 2}))["spec"]["replicas"] == 2
    assert "replicas" not in deployment(given)["spec"]
    spec = only(rendered(given), "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "digits"}
    [metric] = spec["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}


def test_an_autoscaler_of_others_has_the_number_of_replicas_for_itself() -> None:
    given = parameters({"replicas": 2}, autoscaling={"external": True})
    assert "replicas" not in deployment(given)["spec"]
    assert of_kind(rendered(given), "HorizontalPodAutoscaler") == []
    assert only(rendered(given), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_an_autoscaler_follows_what_is_declared() -> None:
    given = parameters({"limits": COMMON["limits"]}, autoscaling=EACH["autoscaling"])
    cpu, memory, own = only(rendered(given), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (cpu["resource"]["name"], memory["resource"]["name"]) == ("cpu", "memory")
    assert own == EACH["autoscaling"]["metrics"][0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            parameters(autoscaling={"max": 3}),
            "kubernetes.autoscaling.cpu_percent 80 is a share of what a replica requests",
        ),
        (
            parameters(requests={"cpus": 1}, autoscaling={"max": 3, "memory_percent": 70}),
            "kubernetes.autoscaling.memory_percent 70 is a share",
        ),
        (parameters(autoscaling={"min": 4, "max": 3}), "kubernetes.autoscaling.min 4 is more than max 3"),
        (
            parameters({"replicas": 4}, autoscaling={"max": 3}),
            "kubernetes.autoscaling.min, by default replicas 4, is more",
        ),
    ],
)
def test_an_autoscaler_that_could_not_work_is_refused(given: Given, message: str) -> None:
    assert refusal(given).message.startswith(message)


def test_a_drain_of_nodes_takes_one_replica_at_a_time() -> None:
    assert of_kind(rendered(parameters()), "PodDisruptionBudget") == []
    scaled = parameters({"limits": COMMON["limits"]}, autoscaling={"max": 2})
    for given in (parameters({"replicas": 2}), scaled):
        spec = only(rendered(given), "PodDisruptionBudget")["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["selector"] == deployment(given)["spec"]["selector"]
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    declared = only(rendered(parameters(disruption_budget={"min_available": "50%"})), "PodDisruptionBudget")["spec"]
    assert declared["minAvailable"] == "50%"
    assert "maxUnavailable" not in declared
