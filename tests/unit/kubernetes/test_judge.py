"""Verdicts on objects, from the statuses that a cluster writes."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.judge import judge
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.verdict import Related, Verdict

from .shapes import condition, deployment, ended, make, owned, pod, replica_set, running, waiting

Object = dict[str, t.Any]

LATE = condition(
    "Progressing", "False", "ProgressDeadlineExceeded", 'ReplicaSet "digits-r2" has timed out progressing.'
)
QUOTA = 'pods "digits-r2-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def look(obj: Object, *new: Object, old: t.Sequence[Object] = (), **related: t.Any) -> Verdict:
    """Judge a Deployment whose newest ReplicaSet has the pods *new*, and the one before the pods *old*."""
    sets = [replica_set(obj, "1"), replica_set(obj, "2", *related.pop("conditions", ()))]
    pods = [{**each, "metadata": {**each["metadata"], "ownerReferences": owned(sets[0])}} for each in old]
    pods += [{**each, "metadata": {**each["metadata"], "ownerReferences": owned(sets[1])}} for each in new]
    return judge(obj, Related(sets, pods, **related))


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (deployment(total=2, updated=2, available=2), "ready"),
        (deployment(replicas=0), "ready"),
        (deployment(replicas=0, observed=1), "progressing"),
        (deployment(replicas=0, observed=None), "progressing"),
        # the status is the one of the revision before
        (deployment(total=2, updated=2, available=2, observed=1), "progressing"),
        # kubernetes.core takes this for ready: nothing new runs yet, but enough of the old
        (deployment(total=2, updated=0, available=2), "progressing"),
        (deployment(total=3, updated=1, available=2), "progressing"),
        (deployment(total=3, updated=2, available=3), "progressing"),
        (deployment(total=3, updated=2, available=2), "progressing"),
        (deployment(total=2, updated=2, available=1), "progressing"),
        (deployment(replicas=3, total=2, updated=2, available=2), "progressing"),
        (deployment(replicas=0, total=1, updated=1), "progressing"),
    ],
)
def test_a_deployment_is_ready_when_all_wanted_pods_are_new_and_available_and_no_old_one_is_left(
    obj: Object, state: str
) -> None:
    assert look(obj).state == state


@pytest.mark.parametrize(
    "reason",
    [
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    ],
)
@pytest.mark.parametrize("where", ["containers", "init"])
def test_a_new_pod_that_can_never_start_ends_the_wait_at_once(reason: str, where: str) -> None:
    broken = pod(phase="Pending", **{"containers": [running(ready=False)], where: [waiting(reason, "because of this")]})
    found = look(deployment(total=3, updated=1, available=2), pod(name="fine"), broken)
    assert (found.state, found.grace_s) == ("failed", 0)
    assert reason in found.reason or reason == "CrashLoopBackOff"
    assert "pod p1 on node-1" in found.reason
    assert found.hint
    assert found.pod is not None
    assert found.pod["metadata"]["name"] == "p1"
    assert found.container == "serve"
    assert found.previous == (reason == "CrashLoopBackOff")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (pod(containers=[waiting("ErrImagePull", "connection reset")]), "is tried again: connection reset"),
        (pod(containers=[waiting("ContainerCreating")]), "pulling image"),
        (
            pod(
                containers=[waiting("ContainerCreating")], conditions=[condition("PodReadyToStartContainers", "False")]
            ),
            "preparing volumes and network",
        ),
        (
            pod(containers=[waiting("PodInitializing")], init=[running(ready=False, started=False)]),
            "init container serve runs",
        ),
        (pod(containers=[waiting("CreateContainerError", "context deadline exceeded")]), "context deadline exceeded"),
        (
            pod(
                containers=[waiting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting")]
            ),
            "failed to sync",
        ),
        (pod(containers=[running(ready=False, started=False)]), "starting"),
        (pod(containers=[running(ready=False)]), "runs, not ready yet"),
        (
            pod(containers=[running(ready=False, restarts=1, last=ended(3))]),
            "was started again after exit code 3",
        ),
        (
            pod(
                node="",
                phase="Pending",
                containers=[],
                conditions=[
                    condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
                ],
            ),
            "no node takes it: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (pod(node="", phase="Pending", containers=[], conditions=[]), "waits for a node"),
        (pod(containers=[waiting("CrashLoopBackOff")], metadata=GOING), "ending"),
        (pod(containers=[waiting("CrashLoopBackOff")], status={"reason": "NodeLost"}), "CrashLoopBackOff"),
        (pod(containers=[waiting("CrashLoopBackOff")], phase="Unknown"), "CrashLoopBackOff"),
        (pod(phase="Failed", containers=[], status={"reason": "Evicted"}, conditions=[]), "has failed"),
    ],
)
def test_what_may_still_turn_out_well_is_told_and_waited_for(broken: Object, said: str) -> None:
    found = look(deployment(total=3, updated=1, available=2), broken)
    assert found.state == "progressing"
    assert said in found.reason
    assert "1 of the earlier revision" not in found.reason
    assert "2 of the earlier revision still run" in found.reason


def test_pods_of_earlier_revisions_decide_nothing() -> None:
    crashing = pod(name="old", containers=[waiting("CrashLoopBackOff")])
    assert look(
        deployment(total=3, updated=1, available=1), pod(containers=[running(ready=False)]), old=[crashing]
    ).state == ("progressing")


def test_while_the_newest_replica_set_is_not_known_no_pod_decides() -> None:
    obj = deployment(revision="3", total=2, updated=0, available=2)
    assert look(obj, pod(containers=[waiting("CrashLoopBackOff")])).state == "progressing"


def test_a_crash_says_how_the_container_ended() -> None:
    oom = pod(containers=[waiting("CrashLoopBackOff", restarts=2, last=ended(137, "OOMKilled"))])
    found = look(deployment(total=1, updated=1), oom)
    assert "memory limit" in found.reason
    assert "limits.memory" in found.hint
    plain = pod(containers=[waiting("CrashLoopBackOff", restarts=2, last=ended(2, message="no such model\n"))])
    assert "exit code 2 (no such model)" in look(deployment(total=1, updated=1), plain).reason


def crashed(code: int, restarts: int, *, finished: str = "00:00:02") -> Object:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": f"2026-01-01T{finished}Z"}
    return {**running(ready=False, restarts=restarts), "state": {"terminated": {**ended(code), **times}}}


def test_a_container_that_has_ended_twice_crashes_also_before_the_kubelet_says_so() -> None:
    obj = deployment(total=1, updated=1)
    found = look(obj, pod(containers=[crashed(3, 1)]))
    assert found.state == "failed"
    assert "ends again and again: exit code 3" in found.reason
    assert not found.previous  # the last run is the one that has just ended
    assert look(obj, pod(containers=[crashed(0, 1)])).state == "failed"
    assert look(obj, pod(containers=[crashed(3, 0)])).state == "progressing"
    assert look(obj, pod(containers=[crashed(3, 1, finished="00:11:00")])).state == "progressing"
    assert look(obj, pod(containers=[running(ready=False)], init=[crashed(3, 1)])).state == "failed"
    assert look(obj, pod(containers=[running(ready=False)], init=[crashed(0, 1)])).state == "progressing"


def test_an_exceeded_deadline_is_final_and_names_the_pods() -> None:
    obj = deployment(total=3, updated=1, available=2, conditions=[LATE])
    found = look(obj, pod(containers=[running(ready=False)]))
    assert (found.state, found.grace_s) == ("failed", 0)
    assert "no progress for 60 s (ProgressDeadlineExceeded)" in found.reason
    assert "pod p1 on node-1: runs, not ready yet" in found.reason


def test_an_exceeded_deadline_of_before_may_pass() -> None:
    obj = deployment(total=3, updated=1, available=2, conditions=[LATE])
    assert look(obj, pod(containers=[running(ready=False)]), stale=True).grace_s > 0
    assert look(deployment(total=2, updated=1, observed=1, conditions=[LATE])).state == "progressing"


@pytest.mark.parametrize(
    "lost",
    [
        pod(containers=[waiting("CrashLoopBackOff")], node="node-2"),
        pod(node="node-2", conditions=[condition("ContainersReady"), condition("Ready", "False")]),
        pod(node="node-2", metadata=GOING, conditions=[condition("Ready", "False")]),
    ],
)
def test_the_pods_of_a_lost_node_are_no_failure(lost: Object) -> None:
    obj = deployment(total=2, updated=2, available=1, conditions=[LATE])
    found = look(obj, pod(name="fine"), lost, lost={"node-2"})
    assert found.state == "progressing"
    assert "1 of 2 new pods ready" in found.reason
    assert look(obj, pod(name="fine"), lost).state == "failed"


def test_a_deadline_that_passes_while_pods_are_moved_off_a_lost_node_is_no_failure() -> None:
    moved = pod(
        node="node-2", metadata=GOING, conditions=[condition("DisruptionTarget", "True", "DeletionByTaintManager")]
    )
    fresh = pod(name="p2", containers=[waiting("ContainerCreating")])
    assert look(deployment(total=2, updated=2, available=1, conditions=[LATE]), moved, fresh).state == "progressing"


def test_a_deadline_that_passes_while_a_kubelet_is_silent_is_not_final_at_once() -> None:
    """Its node may have been lost a moment ago, and nobody has noticed yet."""
    obj = deployment(total=2, updated=2, available=1, conditions=[LATE])
    silent = pod(name="p2", node="node-2", phase="Pending", containers=[], conditions=[condition("PodScheduled")])
    found = look(obj, pod(), silent)
    assert found.grace_s > 50
    assert "pod p2 on node-2: waits for the kubelet of node-2" in found.reason


def test_refused_pods_are_a_failure_after_a_moment() -> None:
    refused = condition("ReplicaFailure", "True", "FailedCreate", QUOTA)
    found = look(deployment(total=2, updated=0, available=2), conditions=[refused])
    assert found.state == "failed"
    assert found.grace_s > 0
    assert "exceeded quota: small" in found.reason
    assert "quota" in found.hint
    webhook = 'admission webhook "images.test" denied the request: unsigned'
    found = look(deployment(), conditions=[condition("ReplicaFailure", "True", "FailedCreate", webhook)])
    assert "unsigned" in found.reason
    assert "policy" in found.hint


def test_refused_pods_are_waited_for_while_others_end_and_make_room() -> None:
    refused = condition("ReplicaFailure", "True", "FailedCreate", QUOTA)
    obj = deployment(total=2, updated=1, available=2)
    assert look(obj, old=[pod(name="old", metadata=GOING)], conditions=[refused]).state == "progressing"


def test_refusals_of_an_earlier_revision_decide_nothing() -> None:
    obj = deployment(
        total=2, updated=1, available=2, conditions=[condition("ReplicaFailure", "True", "FailedCreate", QUOTA)]
    )
    assert look(obj, pod()).state == "progressing"


def stateful_set(**status: t.Any) -> Object:
    return make(
        "apps/v1",
        "StatefulSet",
        "cache",
        spec={"replicas": 2, **status.pop("spec", {})},
        status={"observedGeneration": 1, "currentRevision": "a", "updateRevision": "b", **status},
    )


def revised(revision: str, **rest: t.Any) -> Object:
    return pod(metadata={"labels": {"controller-revision-hash": revision}}, **rest)


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (stateful_set(replicas=2, updatedReplicas=2, availableReplicas=2), "ready"),
        (stateful_set(replicas=2, availableReplicas=2, currentRevision="b"), "ready"),
        (stateful_set(replicas=2, updatedReplicas=1, availableReplicas=2), "progressing"),
        (stateful_set(replicas=2, updatedReplicas=2, availableReplicas=1), "progressing"),
        (stateful_set(replicas=2, updatedReplicas=2, availableReplicas=2, observedGeneration=0), "progressing"),
        (
            stateful_set(
                replicas=2,
                updatedReplicas=1,
                availableReplicas=2,
                spec={"updateStrategy": {"rollingUpdate": {"partition": 1}}},
            ),
            "ready",
        ),
        (stateful_set(replicas=2, availableReplicas=2, spec={"updateStrategy": {"type": "OnDelete"}}), "ready"),
    ],
)
def test_stateful_sets(obj: Object, state: str) -> None:
    assert judge(obj, Related()).state == state


def test_the_pods_of_a_stateful_set() -> None:
    obj = stateful_set(replicas=2, updatedReplicas=1, availableReplicas=1)
    crash = [waiting("CrashLoopBackOff")]
    assert judge(obj, Related(pods=[revised("b", containers=crash)])).state == "failed"
    stuck = judge(obj, Related(pods=[revised("a", containers=crash)]))
    assert stuck.state == "progressing"
    assert "kubectl delete pod p1" in stuck.reason
    lost = judge(obj, Related(pods=[revised("b", node="node-2")], lost={"node-2"}))
    assert "replaces no pod before its node is back" in lost.reason


def test_refused_pods_of_a_stateful_set_are_known_from_events() -> None:
    event = {"message": f"create Pod cache-1 in StatefulSet cache failed error: {QUOTA}"}
    found = judge(stateful_set(replicas=1, updatedReplicas=1, availableReplicas=1), Related(refusals=[event]))
    assert (found.state, found.grace_s > 0) == ("failed", True)
    assert judge(stateful_set(replicas=2, updatedReplicas=1), Related(refusals=[event])).state == "progressing"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}, "ready"),
        ({"desiredNumberScheduled": 0}, "ready"),
        ({"desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 3}, "progressing"),
        ({"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}, "progressing"),
        ({"desiredNumberScheduled": 0, "observedGeneration": 0}, "progressing"),
    ],
)
def test_daemon_sets(status: Object, state: str) -> None:
    obj = make("apps/v1", "DaemonSet", "agent", spec={}, status={"observedGeneration": 1, **status})
    assert judge(obj, Related()).state == state


def test_only_the_newest_pods_of_a_daemon_set_count() -> None:
    status = {"observedGeneration": 1, "desiredNumberScheduled": 1, "currentNumberScheduled": 1}
    marks = {"annotations": {"deprecated.daemonset.template.generation": "4"}}
    obj = make("apps/v1", "DaemonSet", "agent", metadata=marks, spec={}, status=status)
    broken = [waiting("ImagePullBackOff")]
    new, old = ({"labels": {"pod-template-generation": number}} for number in ("4", "3"))
    assert judge(obj, Related(pods=[pod(metadata=new, containers=broken)])).state == "failed"
    assert judge(obj, Related(pods=[pod(metadata=old, containers=broken)])).state == "progressing"


def job(*conditions: Object, **status: t.Any) -> Object:
    spec = {"backoffLimit": 1, **status.pop("spec", {})}
    return make("batch/v1", "Job", "train", spec=spec, status={"conditions": list(conditions), **status})


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (job(condition("Complete"), succeeded=1), "ready"),
        (job(condition("SuccessCriteriaMet"), succeeded=1), "progressing"),
        (job(active=1), "progressing"),
        (job(failed=1, active=1), "progressing"),
        (job(condition("Failed", reason="BackoffLimitExceeded")), "failed"),
        (job(condition("FailureTarget", reason="DeadlineExceeded"), active=1), "failed"),
        (job(condition("Suspended"), spec={"suspend": True}), "ready"),
    ],
)
def test_jobs(obj: Object, state: str) -> None:
    assert judge(obj, Related()).state == state


def test_a_failed_job_names_the_pod_that_failed_last() -> None:
    def failed(name: str, code: int, minute: int) -> Object:
        status = {**running(ready=False), "state": {"terminated": ended(code)}}
        created = {"creationTimestamp": f"2026-01-01T00:0{minute}:00Z"}
        return pod(name=name, phase="Failed", containers=[status], metadata=created)

    found = judge(
        job(condition("Failed", reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit")),
        Related(pods=[failed("train-1", 1, 1), failed("train-2", 7, 2)]),
    )
    assert "BackoffLimitExceeded: Job has reached the specified backoff limit" in found.reason
    assert "pod train-2 on node-1, container serve: exit code 7" in found.reason
    assert (found.container, found.previous) == ("serve", False)


def test_a_job_decides_itself_about_crashes_but_not_about_images() -> None:
    assert judge(job(active=1), Related(pods=[pod(containers=[waiting("CrashLoopBackOff")])])).state == "progressing"
    assert judge(job(active=1), Related(pods=[pod(containers=[waiting("ImagePullBackOff")])])).state == "failed"


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (pod(), "ready"),
        (pod(phase="Succeeded", containers=[], conditions=[]), "ready"),
        (
            pod(phase="Failed", containers=[], conditions=[], status={"reason": "Evicted", "message": "low on memory"}),
            "failed",
        ),
        (pod(containers=[waiting("ImagePullBackOff")]), "failed"),
        (pod(containers=[running(ready=False)]), "progressing"),
        (pod(phase="Unknown", containers=[running(ready=False)]), "progressing"),
        (pod(metadata=GOING), "progressing"),
    ],
)
def test_bare_pods(obj: Object, state: str) -> None:
    assert judge(obj, Related()).state == state


def claim(phase: str) -> Object:
    return make("v1", "PersistentVolumeClaim", "models", spec={"storageClassName": "fast"}, status={"phase": phase})


def simple(api_version: str, kind: str, *conditions: Object, observed: int | None = None, **rest: t.Any) -> Object:
    status: Object = {"conditions": list(conditions), **rest.pop("status", {})}
    if observed is not None:
        status["observedGeneration"] = observed
    return make(api_version, kind, "thing", generation=2, status=status, **rest)


@pytest.mark.parametrize(
    ("obj", "related", "state"),
    [
        (claim("Bound"), Related(), "ready"),
        (claim("Pending"), Related(), "progressing"),
        (claim("Pending"), Related(late_binding=True), "ready"),
        (claim("Lost"), Related(late_binding=True), "failed"),
        (simple("v1", "Namespace", status={"phase": "Active"}), Related(), "ready"),
        (simple("v1", "Namespace", status={"phase": "Terminating"}), Related(), "progressing"),
        (simple("v1", "ConfigMap"), Related(), "ready"),
        (simple("v1", "Service", spec={"type": "LoadBalancer"}), Related(), "ready"),
        (
            simple("policy/v1", "PodDisruptionBudget", condition("DisruptionAllowed", "False"), observed=1),
            Related(),
            "ready",
        ),
        (simple("apiextensions.k8s.io/v1", "CustomResourceDefinition", condition("Established")), Related(), "ready"),
        (simple("apiextensions.k8s.io/v1", "CustomResourceDefinition"), Related(), "progressing"),
        (
            simple("apiextensions.k8s.io/v1", "CustomResourceDefinition", condition("NamesAccepted", "False")),
            Related(),
            "failed",
        ),
        (
            simple(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                condition("ScalingActive", "False", "FailedGetResourceMetric"),
            ),
            Related(),
            "ready",
        ),
        (simple("x.test/v1", "Thing", condition("Ready"), observed=2), Related(), "ready"),
        (simple("x.test/v1", "Thing", condition("Ready"), observed=1), Related(), "progressing"),
        (simple("x.test/v1", "Thing", {**condition("Ready"), "observedGeneration": 1}), Related(), "progressing"),
        (simple("x.test/v1", "Thing", condition("Ready", "False", "Starting")), Related(), "progressing"),
        (simple("x.test/v1", "Thing", condition("Ready", "Unknown")), Related(), "progressing"),
        (simple("x.test/v1", "Thing", condition("Stalled", "True", "NoSuchModel")), Related(), "failed"),
        (simple("x.test/v1", "Thing", condition("Stalled", "True"), observed=1), Related(), "progressing"),
        (simple("x.test/v1", "Thing", condition("Reconciling")), Related(), "progressing"),
        (make("x.test/v1", "Thing", "thing"), Related(), "ready"),
        (make("x.test/v1", "Thing", "thing"), Related(fresh=True), "progressing"),
        (simple("x.test/v1", "Thing", condition("Issuing")), Related(fresh=True), "progressing"),
        (simple("x.test/v1", "Thing", condition("Issuing")), Related(), "ready"),
        (simple("x.test/v1", "Thing", condition("Ready")), Related(fresh=True), "ready"),
        (make("monitoring.coreos.com/v1", "ServiceMonitor", "thing"), Related(fresh=True), "ready"),
        (make("v1", "Secret", "thing", metadata=GOING), Related(), "progressing"),
    ],
)
def test_other_kinds(obj: Object, related: Related, state: str) -> None:
    assert judge(obj, related).state == state


def route(*parents: tuple[str, Object], fresh: bool = False) -> tuple[Object, Related]:
    """A route of the Gateways a and b, and what was said for which."""
    said = [{"parentRef": {"name": name}, "conditions": [found]} for name, found in parents]
    spec = {"parentRefs": [{"name": "a"}, {"name": "b"}]}
    status = {"status": {"parents": said}} if said else {}
    obj = make("gateway.networking.k8s.io/v1", "HTTPRoute", "digits", generation=2, spec=spec, **status)
    return obj, Related(fresh=fresh)


ACCEPTED = {**condition("Accepted"), "observedGeneration": 2}
REFUSED_ROUTE = condition("Accepted", "False", "NotAllowedByListeners", "namespace shop is not allowed")


@pytest.mark.parametrize(
    ("judged", "state", "reason"),
    [
        (route(), "ready", "no Gateway"),
        (route(fresh=True), "progressing", "not said anything"),
        (route(("a", ACCEPTED), fresh=True), "progressing", "not said anything"),
        (route(("a", ACCEPTED)), "ready", "is accepted"),
        (route(("a", ACCEPTED), ("b", ACCEPTED), fresh=True), "ready", "is accepted"),
        (route(("a", {**ACCEPTED, "observedGeneration": 1})), "progressing", "not looked"),
        (
            route(("a", condition("Accepted", "Unknown", "Pending"))),
            "progressing",
            "Gateway a: Accepted=Unknown, Pending",
        ),
        (route(("a", ACCEPTED), ("b", REFUSED_ROUTE)), "failed", "Gateway b does not accept it"),
        (route(("left-over", REFUSED_ROUTE), ("a", ACCEPTED)), "ready", "is accepted"),
    ],
)
def test_routes(judged: tuple[Object, Related], state: str, reason: str) -> None:
    verdict = judge(*judged)
    assert verdict.state == state
    assert reason in verdict.reason
    if state == "failed":
        assert "NotAllowedByListeners: namespace shop is not allowed" in verdict.reason
        assert verdict.grace_s == 5.0


@pytest.mark.parametrize(
    ("wish", "conditions", "state"),
    [
        ("Loaded", [condition("Loaded")], "ready"),
        ("Loaded", [condition("Ready")], "progressing"),
        ("Loaded", [condition("Loaded", "False", "Downloading")], "progressing"),
        ("Degraded=False", [condition("Degraded", "False")], "ready"),
        ("Degraded=False", [condition("Degraded", "True")], "progressing"),
    ],
)
def test_an_annotation_says_what_to_wait_for(wish: str, conditions: list[Object], state: str) -> None:
    obj = simple("x.test/v1", "Thing", *conditions, metadata={"annotations": {"modelship.io/wait-for": wish}})
    assert judge(obj, Related()).state == state


def paused_by(manager: str, field: str = "paused") -> list[Object]:
    return [{"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {f"f:{field}": {}}}}]


@pytest.mark.parametrize("counts", [{"total": 2, "available": 2}, {"total": 3, "updated": 1, "available": 2}, {}])
def test_a_rollout_that_somebody_has_paused_is_told_at_once(counts: dict[str, int]) -> None:
    obj = deployment(paused=True, **counts)
    obj["metadata"]["managedFields"] = paused_by("kubectl-rollout")
    found = judge(obj, Related())
    assert (found.state, found.grace_s) == ("failed", 0.0)
    assert found.reason == "its rollout is paused by kubectl-rollout (spec.paused), so its pods are not replaced"
    assert found.hint == "kubectl --namespace shop rollout resume deployment digits, then run again"


def test_a_paused_deployment_that_only_scales_is_waited_for() -> None:
    assert judge(deployment(paused=True, replicas=3, total=3, updated=3, available=2), Related()).state == "progressing"
    assert judge(deployment(paused=True, total=2, updated=2, available=2), Related()).state == "ready"


def test_a_pause_that_is_declared_is_waited_for_no_longer() -> None:
    obj = deployment(paused=True)
    obj["metadata"]["managedFields"] = paused_by("modelship")
    assert judge(obj, Related()).reason == "is paused, as declared"


@pytest.mark.parametrize(
    ("manager", "state", "said"),
    [
        ("modelship", "ready", "as declared"),
        ("kubectl-patch", "failed", "is suspended by kubectl-patch (spec.suspend)"),
        ("kueue", "progressing", "is suspended by kueue (spec.suspend)"),
    ],
)
def test_a_job_that_another_has_suspended_is_not_as_declared(manager: str, state: str, said: str) -> None:
    obj = job(condition("Suspended"), spec={"suspend": True})
    obj["metadata"]["managedFields"] = paused_by(manager, "suspend")
    found = judge(obj, Related())
    assert found.state == state
    assert said in found.reason
