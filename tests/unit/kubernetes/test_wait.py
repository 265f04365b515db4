"""Waiting, with streams that say what a real server cannot be made to say in time; see also the integration tests."""
# ruff: noqa: ARG002 - the streams have the parameters of Api, used or not

from __future__ import annotations

import queue
import threading
import time
import types
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import state, workloads
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import wait as waiting_module
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.failure import warnings_of
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.nudge import nudge
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.watching import (
    Source,
    pod_sources_of,
    selector_text,
    sources_of,
)

from .shapes import condition, deployment, make, owned, pod, replica_set, running, waiting

Object = dict[str, t.Any]

REFUSED = condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: small")
LATE = condition("Progressing", "False", "ProgressDeadlineExceeded")


def node(ready: str, name: str = "node-2") -> Object:
    return make("v1", "Node", name, metadata={"namespace": ""}, status={"conditions": [condition("Ready", ready)]})


class Streams:  # with Api's parameters, used or not
    """What ``Api`` offers to who waits: lists of what is there, and events as the test sends them."""

    access = types.SimpleNamespace(server="https://api.test")

    def __init__(self) -> None:
        self.there: dict[str, list[Object]] = {}
        self.nodes = [node("True", "node-1")]
        self.events: dict[str, queue.SimpleQueue[t.Any]] = {}
        self.refused: dict[str, ApiError] = {}
        self.listed: list[str] = []
        self.watched: list[tuple[str, str, str]] = []
        self.logs: dict[str, str] = {}
        self.deleted: list[str] = []
        self.with_status = {"Thing", "HTTPRoute"}

    def resource(self, api_version: str, kind: str) -> t.Any:
        return types.SimpleNamespace(has_status=kind in self.with_status)

    def list(
        self, api_version: str, kind: str, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        self.listed.append(kind)
        if kind in self.refused:
            raise self.refused[kind]
        found = self.nodes if kind == "Node" else self.there.get(kind, [])
        if fields.startswith("metadata.name="):
            found = [obj for obj in found if obj["metadata"]["name"] == fields.partition("=")[2]]
        if kind == "Event" and "involvedObject.uid=" in fields:
            uid = fields.partition("involvedObject.uid=")[2].partition(",")[0]
            found = [event for event in found if event["involvedObject"]["uid"] == uid]
        return list(found), "1"

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str,
        stop: threading.Event,
    ) -> t.Iterator[tuple[str, Object]]:
        self.watched.append((kind, labels, fields))
        stream = self.events.setdefault(kind, queue.SimpleQueue())
        while not stop.is_set():
            try:
                event = stream.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(event, Exception):
                raise event
            yield event

    def say(self, kind: str, what: str, obj: Object) -> None:
        self.events.setdefault(kind, queue.SimpleQueue()).put((what, obj))

    def break_off(self, kind: str, error: Exception) -> None:
        self.events.setdefault(kind, queue.SimpleQueue()).put(error)

    def each(self, function: t.Callable[[t.Any], t.Any], items: t.Sequence[t.Any]) -> list[t.Any]:
        def one(item: t.Any) -> t.Any:
            try:
                return function(item)
            except ModelshipError as exc:
                return exc

        return [one(item) for item in items]

    def delete(self, obj: Object) -> bool:
        self.deleted.append(obj["metadata"]["name"])
        return True

    def path(self, api_version: str, kind: str, namespace: str, name: str) -> str:
        return f"/{kind}/{name}"

    def text(self, path: str, *, query: Object) -> str:
        key = f"{path}?previous={query.get('previous', 'false')}"
        if key not in self.logs:
            raise ApiError("no such log", status=400)
        return self.logs[key]


class Told(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.lives: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def live(self, text: str, *, at_most_every: float = 0.0) -> None:
        self.lives.append(text)


@pytest.fixture
def api() -> Streams:
    return Streams()


class Waiting(threading.Thread):
    """A wait in a thread of its own, so that the test can send events meanwhile."""

    def __init__(self, api: Streams, objects: list[Object], deadline: float, progress: Progress) -> None:
        super().__init__(daemon=True)
        self.call = lambda: waiting_module.wait(t.cast(t.Any, api), objects, deadline_s=deadline, progress=progress)
        self.error: ModelshipError | None = None
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.call()
        except ModelshipError as exc:
            self.error = exc
        self.seconds = time.monotonic() - begun

    def ended(self) -> ModelshipError | None:
        self.join(20)
        assert not self.is_alive()
        return self.error

    def failed(self) -> ModelshipError:
        error = self.ended()
        assert error is not None, "the wait ended well"
        return error

    def goes_on(self, seconds: float = 0.3) -> None:
        self.join(seconds)
        assert self.is_alive(), self.error


def begin(api: Streams, *objects: Object, deadline: float = 10.0, progress: Progress | None = None) -> Waiting:
    return Waiting(api, list(objects), deadline, progress or Told())


def until(true: t.Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def follows(api: Streams, *kinds: str) -> None:
    until(lambda: set(kinds) <= {kind for kind, _labels, _fields in api.watched})


READY = deployment(total=2, updated=2, available=2)
STARTED = deployment(total=3, updated=1, available=2)
APPLIED = deployment(total=2, updated=2, available=2, observed=1)


def test_what_was_ready_when_it_was_applied_costs_no_request(api: Streams) -> None:
    waiting_module.wait(t.cast(t.Any, api), [READY, make("v1", "ConfigMap", "c")], deadline_s=1, progress=Progress())
    assert not api.listed


def test_what_is_ready_when_it_is_listed_is_not_watched(api: Streams) -> None:
    api.there["Deployment"] = [READY]
    assert begin(api, APPLIED).ended() is None
    assert api.listed == ["Deployment"]
    time.sleep(0.1)
    assert not api.watched


def test_a_deployment_that_becomes_ready(api: Streams) -> None:
    api.there["Deployment"] = [STARTED]
    told = Told()
    wait = begin(api, APPLIED, progress=told)
    follows(api, "Deployment", "Pod", "ReplicaSet")
    wait.goes_on(1.3)
    api.say("Deployment", "MODIFIED", READY)
    assert wait.ended() is None
    assert any("Deployment shop/digits is ready" in text for text in told.steps)
    assert any("0 of 2 new pods ready" in text for text in told.lives)


def test_a_hundred_deployments_are_followed_by_one_stream(api: Streams) -> None:
    def one(number: int, *, available: int) -> Object:
        obj = deployment(replicas=0, observed=available + 1)
        metadata = {
            **obj["metadata"],
            "name": f"d{number}",
            "uid": f"u{number}",
            "labels": {"modelship.io/deployment": "many"},
        }
        return {**obj, "metadata": metadata}

    api.there["Deployment"] = [one(number, available=0) for number in range(100)]
    wait = begin(api, *api.there["Deployment"])
    follows(api, "Deployment")
    wait.goes_on(0.1)
    for number in range(100):
        api.say("Deployment", "MODIFIED", one(number, available=1))
    assert wait.ended() is None
    assert api.watched == [("Deployment", "modelship.io/deployment=many", "")]


def test_a_pod_that_cannot_start_ends_the_wait_with_log_and_events(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    crashing = pod(newest, containers=[waiting("CrashLoopBackOff", restarts=2)])
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [pod(newest, "fine")]}
    api.there["Event"] = [event(crashing, "BackOff", "Back-off restarting failed container")]
    api.logs["/Pod/p1/log?previous=true"] = "loading\nno such model\n"
    wait = begin(api, APPLIED)
    follows(api, "Pod")
    wait.goes_on(0.1)
    api.say("Pod", "ADDED", crashing)
    error = wait.failed()
    assert wait.seconds < 2
    assert error.kind == "unhealthy"
    assert error.message.startswith(
        "Deployment shop/digits failed: pod p1 on node-1 container serve ends again and again"
    )
    assert "the log of serve ends: loading | no such model" in error.message
    assert error.details["log"] == ["loading", "no such model"]
    assert [each["reason"] for each in error.details["events"]] == ["BackOff"]
    assert {row["name"] for row in error.details["pods"]} == {"p1", "fine"}


def test_a_replica_set_that_is_heard_of_late_gives_no_wrong_verdict(api: Streams) -> None:
    """The Deployment's event may come before its ReplicaSet's; until then all pods known are of earlier revisions."""
    before = deployment(total=2, updated=2, available=0, revision="1", observed=1)
    old, new = replica_set(before, "1"), replica_set(before, "2")
    crashing = pod(old, containers=[waiting("CrashLoopBackOff")])
    api.there = {"Deployment": [before], "ReplicaSet": [old], "Pod": [crashing]}
    wait = begin(api, before)
    follows(api, "Deployment", "Pod", "ReplicaSet")
    api.say("Deployment", "MODIFIED", deployment(total=3, updated=1, revision="2"))
    wait.goes_on()
    api.say("Pod", "ADDED", pod(new, "p2", containers=[waiting("ImagePullBackOff")]))
    wait.goes_on()
    api.say("ReplicaSet", "ADDED", new)
    assert "pod p2" in wait.failed().message
    assert wait.seconds < 5


def test_the_deadline_is_kept_to_the_tenth_of_a_second_and_says_how_far_it_came(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    slow = pod(newest, containers=[running(ready=False)])
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [slow]}
    api.there["Event"] = [event(slow, "Unhealthy", "Readiness probe failed: 503")]
    api.logs["/Pod/p1/log?previous=false"] = "warming up\n"
    wait = begin(api, APPLIED, deadline=1.0)
    error = wait.failed()
    assert 1.0 <= wait.seconds < 1.1
    assert "Deployment shop/digits is not ready after 1 s: 0 of 2 new pods ready" in error.message
    assert "pod p1 on node-1: runs, not ready yet" in error.message
    assert "Readiness probe failed: 503" in error.message
    assert error.details["log"] == ["warming up"]


def test_after_a_gap_what_the_new_list_says_counts(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    api.there = {
        "Deployment": [STARTED],
        "ReplicaSet": [newest],
        "Pod": [pod(newest, containers=[running(ready=False)])],
    }
    wait = begin(api, APPLIED)
    follows(api, "Deployment", "Pod")
    api.say("Pod", "SYNC", {"items": [pod(newest, "p2", containers=[running(ready=False)])], "metadata": {}})
    wait.goes_on()
    api.say("Deployment", "SYNC", {"items": [READY], "metadata": {}})
    assert wait.ended() is None


def test_pods_that_a_gap_swallowed_are_forgotten(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    api.there = {
        "Deployment": [STARTED],
        "ReplicaSet": [newest],
        "Pod": [pod(newest, containers=[running(ready=False)])],
    }
    wait = begin(api, APPLIED, deadline=1.5)
    follows(api, "Pod")
    api.say("Pod", "SYNC", {"items": [], "metadata": {}})
    assert "p1" not in wait.failed().message


def test_a_stream_that_is_lost_is_taken_up_again(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    api.there["Deployment"] = [STARTED]
    wait = begin(api, APPLIED)
    follows(api, "Deployment")
    api.break_off("Deployment", ApiError("https://api.test is away", status=0))
    api.there["Deployment"] = [READY]
    assert wait.ended() is None


def test_a_server_that_stays_away_is_told_at_the_deadline(api: Streams) -> None:
    api.there["Deployment"] = [STARTED]
    wait = begin(api, APPLIED, deadline=1.0)
    follows(api, "Deployment")
    api.refused["Deployment"] = ApiError("https://api.test is away", status=0)
    api.break_off("Deployment", api.refused["Deployment"])
    error = wait.failed()
    assert 1.0 <= wait.seconds < 1.1
    assert "the state is not known for sure, because https://api.test is away" in error.message


def test_not_to_be_allowed_to_see_the_objects_is_an_error_at_once(api: Streams) -> None:
    api.refused["Deployment"] = ApiError("deployments is forbidden", status=403)
    wait = begin(api, APPLIED)
    assert wait.failed() is api.refused["Deployment"]


def test_not_to_be_allowed_to_see_pods_leaves_the_verdict(api: Streams) -> None:
    api.refused = {kind: ApiError("forbidden", status=403) for kind in ("Pod", "ReplicaSet", "Event", "Node")}
    api.there["Deployment"] = [STARTED]
    wait = begin(api, APPLIED)
    follows(api, "Deployment")
    wait.goes_on()
    api.say("Deployment", "MODIFIED", deployment(total=3, updated=1, available=2, conditions=[LATE]))
    assert "ProgressDeadlineExceeded" in wait.failed().message


def test_a_failure_on_a_node_that_does_not_answer_counts_only_when_it_is_back(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    crashing = pod(newest, node="node-2", containers=[waiting("CrashLoopBackOff")])
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [crashing]}
    api.nodes.append(node("Unknown"))
    wait = begin(api, APPLIED)
    follows(api, "Node")
    assert ("Node", "", "metadata.name=node-2") in api.watched
    wait.goes_on()
    api.say("Node", "MODIFIED", node("True"))
    assert "ends again and again" in wait.failed().message


def test_a_node_that_is_lost_in_mid_rollout_gives_no_wrong_verdict(api: Streams) -> None:
    """Its pods are marked, the deadline passes, they are moved, and all becomes ready."""
    newest = replica_set(STARTED, "2")
    fine = pod(newest, "p1")
    there = pod(newest, "p2", node="node-2", containers=[running(ready=False)])
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [fine, there]}
    api.nodes.append(node("Unknown"))
    wait = begin(api, APPLIED)
    follows(api, "Deployment", "Pod")
    api.say("Deployment", "MODIFIED", deployment(total=2, updated=2, available=1, conditions=[LATE]))
    wait.goes_on()
    moved = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    taint = [condition("DisruptionTarget", "True", "DeletionByTaintManager")]
    api.say("Pod", "MODIFIED", pod(newest, "p2", node="node-2", metadata=moved, conditions=taint))
    api.say("Pod", "ADDED", pod(newest, "p3", containers=[waiting("ContainerCreating")]))
    api.say("Node", "DELETED", node("Unknown"))
    wait.goes_on()
    api.say("Deployment", "MODIFIED", READY)
    assert wait.ended() is None


def test_a_refusal_that_passes_is_forgiven(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "REFUSAL_GRACE_S", 0.6)
    refused, newest = replica_set(STARTED, "2", REFUSED), replica_set(STARTED, "2")
    api.there = {"Deployment": [STARTED], "ReplicaSet": [refused], "Pod": []}
    wait = begin(api, APPLIED)
    follows(api, "ReplicaSet")
    wait.goes_on(0.3)
    api.say("ReplicaSet", "MODIFIED", newest)
    wait.goes_on(0.6)
    api.say("ReplicaSet", "MODIFIED", refused)
    wait.goes_on(0.3)
    error = wait.failed()
    assert "its pods are refused: exceeded quota: small" in error.message
    assert "raise the quota" in error.message


def test_refused_pods_of_a_stateful_set_end_the_wait(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "REFUSAL_GRACE_S", 0.2)
    obj = make("apps/v1", "StatefulSet", "cache", spec={"replicas": 1}, status={"observedGeneration": 1})
    api.there = {"StatefulSet": [obj], "Event": [event(obj, "FailedCreate", "of an earlier day")]}
    wait = begin(api, obj)
    follows(api, "Event")
    wait.goes_on()
    api.say("Event", "MODIFIED", event(obj, "FailedCreate", "exceeded quota: small"))
    assert "exceeded quota: small" in wait.failed().message


def test_a_deadline_exceeded_before_is_given_time_to_pass(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "STALE_GRACE_S", 0.5)
    late = deployment(total=2, updated=2, available=1, conditions=[LATE])
    api.there["Deployment"] = [late]
    wait = begin(api, late)
    follows(api, "Deployment")
    wait.goes_on(0.2)
    assert "ProgressDeadlineExceeded" in wait.failed().message
    assert 0.5 <= wait.seconds < 2


def test_a_deadline_exceeded_anew_is_final(api: Streams) -> None:
    late = deployment(total=2, updated=2, available=1, conditions=[LATE])
    api.there["Deployment"] = [late]
    wait = begin(api, late)
    follows(api, "Deployment")
    wait.goes_on(0.2)
    api.say("Deployment", "MODIFIED", deployment(total=2, updated=2, available=1))
    wait.goes_on(0.2)
    api.say("Deployment", "MODIFIED", late)
    assert "ProgressDeadlineExceeded" in wait.failed().message
    assert wait.seconds < 2


def test_an_object_made_anew_under_its_name_is_waited_for_and_a_deleted_one_is_not(
    api: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MISSING_GRACE_S", 0.5)
    api.there["Deployment"] = [STARTED]
    wait = begin(api, APPLIED)
    follows(api, "Deployment")
    api.say("Deployment", "DELETED", STARTED)
    wait.goes_on(0.2)
    api.say("Deployment", "ADDED", {**STARTED, "metadata": {**STARTED["metadata"], "uid": "another"}})
    wait.goes_on(0.8)
    api.say("Deployment", "DELETED", STARTED)
    assert "it is not there any more" in wait.failed().message


def test_a_finished_job_may_be_cleaned_away_while_others_go_on(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MISSING_GRACE_S", 0.1)

    def job(*conditions: Object) -> Object:
        return make(
            "batch/v1", "Job", "train", spec={"ttlSecondsAfterFinished": 0}, status={"conditions": list(conditions)}
        )

    api.there = {"Deployment": [STARTED], "Job": [job()]}
    wait = begin(api, APPLIED, job())
    follows(api, "Deployment", "Job")
    api.say("Job", "MODIFIED", job(condition("Complete")))
    api.say("Job", "DELETED", job(condition("Complete")))
    wait.goes_on(0.5)
    api.say("Deployment", "MODIFIED", READY)
    assert wait.ended() is None


def test_a_claim_whose_class_binds_late_is_not_waited_for(api: Streams) -> None:
    claim = make(
        "v1", "PersistentVolumeClaim", "models", spec={"storageClassName": "late"}, status={"phase": "Pending"}
    )
    storage = make("storage.k8s.io/v1", "StorageClass", "late", volumeBindingMode="WaitForFirstConsumer")
    api.there = {"PersistentVolumeClaim": [claim], "StorageClass": [storage]}
    assert begin(api, claim).ended() is None


def test_health_looks_once(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    lost = pod(newest, "p2", node="node-2", conditions=[condition("ContainersReady"), condition("Ready", "False")])
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [pod(newest), lost]}
    api.nodes.append(node("Unknown"))
    gone = make("apps/v1", "Deployment", "gone", spec={"replicas": 1})
    found = waiting_module.health(t.cast(t.Any, api), [APPLIED, gone, make("v1", "ConfigMap", "c")])
    assert [entry["state"] for entry in found] == ["progressing", "absent", "absent"]
    assert {row["name"]: row["state"] for row in found[0]["pods"]} == {"p1": "ready", "p2": "its node does not answer"}
    assert not api.watched


def test_a_nudge_makes_anew_what_the_kubelet_has_given_up_and_nothing_else(api: Streams) -> None:
    old, newest = replica_set(STARTED, "1"), replica_set(STARTED, "2")
    broken = [waiting("ImagePullBackOff")]
    api.there = {"Deployment": [STARTED], "ReplicaSet": [old, newest]}
    api.there["Pod"] = [
        pod(newest, "given-up", containers=broken),
        pod(newest, "ready"),
        pod(newest, "on-its-way", containers=[waiting("ContainerCreating")]),
        pod(newest, "ending", containers=broken, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        pod(old, "of-before", containers=broken),
        pod(replica_set(make("apps/v1", "Deployment", "other"), "9"), "of-others", containers=broken),
    ]
    deeds = ["pod given-up (ImagePullBackOff) is made anew"]
    assert nudge(t.cast(t.Any, api), [APPLIED], check=True) == deeds
    assert api.deleted == []
    assert nudge(t.cast(t.Any, api), [APPLIED]) == deeds
    assert api.deleted == ["given-up"]
    api.there["Deployment"] = [READY]
    assert nudge(t.cast(t.Any, api), [APPLIED]) == []


def event(about: Object, reason: str, message: str, *, count: int = 1, last: str = "2026-01-01T00:00:00Z") -> Object:
    return make(
        "v1",
        "Event",
        f"{about['metadata']['name']}.{reason}.{last}",
        involvedObject={"kind": about["kind"], "name": about["metadata"]["name"], "uid": about["metadata"]["uid"]},
        reason=reason,
        message=message,
        count=count,
        lastTimestamp=last,
        type="Warning",
    )


def test_events_are_told_once_with_the_newest_last(api: Streams) -> None:
    one, two = pod(name="a"), pod(name="b")
    api.there["Event"] = [
        event(one, "BackOff", "again", count=3, last="2026-01-01T00:03:00Z"),
        event(two, "Failed", "no", last="2026-01-01T00:02:00Z"),
        event(one, "BackOff", "again", count=2, last="2026-01-01T00:01:00Z"),
        {
            **event(two, "New", "series"),
            "lastTimestamp": None,
            "count": None,
            "eventTime": "2026-01-01T00:04:00.000000Z",
        },
    ]
    found = warnings_of(t.cast(t.Any, api), [one, two])
    assert [(each["object"], each["reason"], each["count"]) for each in found] == [
        ("Pod/b", "Failed", 1),
        ("Pod/a", "BackOff", 5),
        ("Pod/b", "New", 1),
    ]


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        (
            {
                "matchLabels": {"a": "1"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["x", "y"]},
                    {"key": "old", "operator": "NotIn", "values": ["z"]},
                    {"key": "here", "operator": "Exists"},
                    {"key": "gone", "operator": "DoesNotExist"},
                ],
            },
            "a=1,tier in (x,y),old notin (z),here,!gone",
        ),
        ({"app": "legacy"}, "app=legacy"),
    ],
)
def test_selectors_as_text(selector: Object, text: str) -> None:
    assert selector_text(selector) == text


def named(name: str, label: str | None = None, selector: str | None = None) -> Object:
    labels = {"modelship.io/deployment": label} if label else {}
    spec = {"selector": {"matchLabels": {"app": selector or name}}, "template": {"metadata": {"labels": labels}}}
    return make("apps/v1", "Deployment", name, metadata={"labels": labels}, spec=spec)


def test_streams_are_shared_where_one_tells_of_all() -> None:
    assert set(sources_of([named("a")])) == {Source("apps/v1", "Deployment", "shop", fields="metadata.name=a")}
    ours = [named("a", "digits"), named("b", "digits")]
    assert set(sources_of(ours)) == {Source("apps/v1", "Deployment", "shop", labels="modelship.io/deployment=digits")}
    assert set(sources_of([*ours, named("c")])) == {Source("apps/v1", "Deployment", "shop")}
    assert pod_sources_of(ours) == {
        Source("v1", "Pod", "shop", labels="modelship.io/deployment=digits"),
        Source("apps/v1", "ReplicaSet", "shop", labels="modelship.io/deployment=digits"),
    }
    assert {source.labels for source in pod_sources_of([named("a"), named("b")])} == {"app=a", "app=b"}
    assert {source.labels for source in pod_sources_of([named(name) for name in "abcdef"])} == {""}


def test_pods_of_others_are_told_apart_by_their_owner(api: Streams) -> None:
    newest = replica_set(STARTED, "2")
    foreign = pod(name="foreign", containers=[waiting("CrashLoopBackOff")])
    foreign["metadata"]["ownerReferences"] = owned(make("apps/v1", "ReplicaSet", "other"))
    api.there = {"Deployment": [STARTED], "ReplicaSet": [newest], "Pod": [foreign]}
    wait = begin(api, APPLIED)
    follows(api, "Pod")
    wait.goes_on()
    api.say("Deployment", "MODIFIED", READY)
    assert wait.ended() is None
