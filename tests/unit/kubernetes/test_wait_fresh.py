"""Waiting for what has no status yet, and for what is refused only until something else is there."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import judge, pods
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import wait as waiting_module

from .shapes import condition, deployment, make, pod, replica_set, waiting
from .test_wait import Streams, begin, follows

Object = dict[str, t.Any]

MISSING = 'secret "made-by-an-operator" not found'
COMMAND = 'exec: "serve": executable file not found in $PATH'


@pytest.fixture
def api() -> Streams:
    return Streams()


def applied(kind: str = "Thing", when: str = "2026-01-01T00:00:30Z", name: str = "thing", **rest: t.Any) -> Object:
    """A custom resource as the server returns it when it is applied."""
    managed = [{"manager": "modelship", "operation": "Apply", "time": when, "fieldsV1": {}}]
    version = "gateway.networking.k8s.io/v1" if kind == "HTTPRoute" else "x.test/v1"
    return make(version, kind, name, metadata={"managedFields": managed}, **rest)


def told(obj: Object, *conditions: Object) -> Object:
    return {**obj, "status": {"conditions": list(conditions)}}


def test_a_custom_resource_just_applied_is_waited_for_until_its_controller_speaks(api: Streams) -> None:
    thing = applied()
    api.there["Thing"] = [thing]
    wait = begin(api, thing)
    follows(api, "Thing")
    api.say("Thing", "MODIFIED", told(thing, condition("Issuing")))
    wait.goes_on()
    api.say("Thing", "MODIFIED", told(thing, condition("Issuing"), condition("Ready", "False", "Pending")))
    wait.goes_on()
    api.say("Thing", "MODIFIED", told(thing, condition("Ready")))
    assert wait.ended() is None
    assert wait.seconds < waiting_module.FRESH_S


def test_where_no_controller_speaks_it_is_ready_a_moment_later(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "FRESH_S", 0.5)
    api.there["Thing"] = [applied()]
    wait = begin(api, applied())
    assert wait.ended() is None
    assert 0.4 < wait.seconds < 2


def test_what_was_applied_long_before_or_has_no_status_costs_no_request(api: Streams) -> None:
    old, new = applied(when="2026-01-01T00:00:00Z"), applied("Plain", name="new")
    waiting_module.wait(t.cast("t.Any", api), [old, new], deadline_s=1, progress=Progress())
    assert not api.listed


def test_a_route_may_be_refused_until_its_gateway_is_there(api: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def parents(found: Object) -> Object:
        return {**fresh, "status": {"parents": [{"parentRef": {"name": "gateway"}, "conditions": [found]}]}}

    fresh = applied("HTTPRoute", spec={"parentRefs": [{"name": "gateway"}]})
    refused = parents(condition("Accepted", "False", "NoMatchingParent", "no Gateway gateway"))
    api.there["HTTPRoute"] = [refused]
    wait = begin(api, fresh)
    follows(api, "HTTPRoute")
    wait.goes_on()
    api.say("HTTPRoute", "MODIFIED", parents(condition("Accepted")))
    assert wait.ended() is None
    monkeypatch.setattr(judge, "ROUTE_GRACE_S", 0.3)
    error = begin(api, fresh).failed()
    assert "Gateway gateway does not accept it: Accepted=False, NoMatchingParent: no Gateway gateway" in error.message


@pytest.mark.parametrize("grace", [0.4, 20.0])
def test_a_secret_that_an_operator_is_making_is_waited_for_a_while(
    api: Streams, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    monkeypatch.setattr(pods, "CONFIGURATION_GRACE_S", grace)
    moving = deployment(total=1, updated=1, available=0, replicas=1)
    newest = replica_set(moving, "2")
    api.there = {"Deployment": [moving], "ReplicaSet": [newest]}
    api.there["Pod"] = [pod(newest, containers=[waiting("CreateContainerConfigError", MISSING)])]
    wait = begin(api, moving)
    follows(api, "Deployment", "Pod")
    if grace < 1:
        assert MISSING in wait.failed().message
        return
    wait.goes_on(0.5)
    api.say("Deployment", "MODIFIED", deployment(total=1, updated=1, available=1, replicas=1))
    assert wait.ended() is None


@pytest.mark.parametrize(
    ("reason", "message", "grace"),
    [
        ("CreateContainerConfigError", MISSING, 20.0),
        ("CreateContainerConfigError", 'configmap "c" not found', 20.0),
        ("CreateContainerConfigError", "couldn't find key LICENCE in Secret shop/digits", 20.0),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", 0.0),
        ("RunContainerError", COMMAND, 0.0),
    ],
)
def test_only_what_may_still_come_has_a_grace(reason: str, message: str, grace: float) -> None:
    found = pods.trouble(pod(containers=[waiting(reason, message)]))
    assert found is not None
    assert found.grace_s == grace
