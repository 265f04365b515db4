# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of other managers that make a declared object invalid; causes and managers as a 1.34 API server reports them.

The integration tests adopt such objects on a real server.
"""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.blocking_fields import (
    blocking_fields,
    take_over,
    tried_without,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.refusal import (
    Conflict,
    conflict_error,
    explained,
    short_reason,
)

Object = dict[str, t.Any]
PORT = 'k:{"port":8080,"protocol":"TCP"}'
SPEC = {
    "f:spec": {
        "f:ports": {".": {}, PORT: {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
        "f:selector": {},
        "f:sessionAffinity": {},
        "f:type": {},
    }
}
SERVICE = {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": 80}]}
OURS = {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}


def obj(kind: str, version: str, spec: Object, *entries: Object) -> Object:
    metadata: Object = {"name": "digits", "namespace": "shop"}
    if entries:
        metadata |= {"uid": "u", "resourceVersion": "7", "managedFields": list(entries)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": copy.deepcopy(spec)}


def entry(manager: str, fields: Object, operation: str = "Update") -> Object:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": copy.deepcopy(fields)}


def refusal(*causes: tuple[str, str]) -> ApiError:
    found = [
        {
            "reason": "FieldValueDuplicate" if message.startswith("Duplicate") else "FieldValueInvalid",
            "field": field,
            "message": message,
        }
        for field, message in causes
    ]
    return ApiError("invalid", status=422, reason="Invalid", causes=found)


def found(error: ApiError, ours: Object, live: Object) -> list[str]:
    return [item.field for item in blocking_fields(error, ours, live)[0]]


def test_a_port_of_the_same_name_is_blamed_on_its_manager_and_told_with_the_field() -> None:
    live = obj("Service", "v1", SERVICE, entry("kubectl-client-side-apply", SPEC))
    ours = obj("Service", "v1", OURS)
    blocking, rest = blocking_fields(refusal(("spec.ports[1].name", 'Duplicate value: "http"')), ours, live)
    assert rest is None
    (item,) = blocking
    conflict = Conflict(t.cast(t.Any, "Service shop/digits"), item.field, ", ".join(item.managers), "", item.why)
    assert conflict_error([conflict]).message == (
        'Service shop/digits: spec.ports[port=8080,protocol="TCP"] is managed by kubectl-client-side-apply and cannot stand '
        'beside what is declared (spec.ports[1].name: Duplicate value: "http"): give them up there, leave them out here, or '
        "take them over with kubernetes.force"
    )


def test_a_port_of_another_name_is_left_to_its_manager() -> None:
    both = copy.deepcopy(SERVICE)
    both["ports"].append({"name": "admin", "port": 9, "protocol": "TCP"})
    fields = copy.deepcopy(SPEC)
    fields["f:spec"]["f:ports"]['k:{"port":9,"protocol":"TCP"}'] = {".": {}, "f:name": {}}
    live = obj("Service", "v1", both, entry("kubectl", fields))
    error = refusal(("spec.ports[2].name", 'Duplicate value: "http"'))
    assert found(error, obj("Service", "v1", OURS), live) == ['spec.ports[port=8080,protocol="TCP"]']


POD = {
    "f:spec": {
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"serving"}': {
                        ".": {},
                        "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
                        "f:image": {},
                        "f:ports": {'k:{"containerPort":9000,"protocol":"TCP"}': {".": {}, "f:name": {}}},
                        "f:readinessProbe": {"f:periodSeconds": {}, "f:tcpSocket": {"f:port": {}}},
                        "f:volumeMounts": {
                            'k:{"mountPath":"/v"}': {".": {}, "f:name": {}},
                            'k:{"mountPath":"/w"}': {".": {}, "f:name": {}},
                        },
                    },
                    'k:{"name":"sidecar"}': {".": {}, "f:image": {}},
                },
                "f:volumes": {'k:{"name":"v"}': {".": {}, "f:emptyDir": {}, "f:name": {}}},
            }
        }
    }
}
CONTAINER = {
    "name": "serving",
    "env": [{"name": "A", "value": "b"}],
    "ports": [{"name": "http", "containerPort": 9000, "protocol": "TCP"}],
    "readinessProbe": {"periodSeconds": 5, "tcpSocket": {"port": 9000}},
    "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}],
}
LIVE_POD = {
    "template": {"spec": {"containers": [{"name": "sidecar"}, CONTAINER], "volumes": [{"name": "v", "emptyDir": {}}]}}
}
OUR_CONTAINER = {
    "name": "serving",
    "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "A"}}}],
    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    "readinessProbe": {"httpGet": {"port": "http"}},
}
OUR_POD = {
    "template": {"spec": {"containers": [OUR_CONTAINER], "volumes": [{"name": "v", "configMap": {"name": "c"}}]}}
}
TEMPLATE = "spec.template.spec"


@pytest.mark.parametrize(
    ("field", "message", "expected"),
    [
        (
            "containers[0].ports[1].name",
            'Duplicate value: "http"',
            'containers[name="serving"].ports[containerPort=9000,protocol="TCP"]',
        ),
        (
            "containers[0].env[0].valueFrom",
            'Invalid value: "": may not be specified when `value` is not empty',
            'containers[name="serving"].env[name="A"].value',
        ),
        (
            "containers[0].readinessProbe.tcpSocket",
            "Forbidden: may not specify more than 1 handler type",
            'containers[name="serving"].readinessProbe.tcpSocket',
        ),
        (
            "volumes[0].configMap",
            "Forbidden: may not specify more than 1 volume type",
            'volumes[name="v"].emptyDir',
        ),
        (
            "containers[0].volumeMounts[0].name",
            'Not found: "v"',
            'containers[name="serving"].volumeMounts[mountPath="/v"]',
        ),
    ],
)
def test_two_forms_of_one_thing_are_blamed_on_the_one_that_is_not_declared(
    field: str, message: str, expected: str
) -> None:
    live = obj("Deployment", "apps/v1", LIVE_POD, entry("kubectl", POD))
    error = refusal((f"{TEMPLATE}.{field}", message))
    assert found(error, obj("Deployment", "apps/v1", OUR_POD), live) == [f"{TEMPLATE}.{expected}"]


def test_exclusive_fields_that_the_server_names_only_in_words_are_found() -> None:
    fields = {"f:spec": {"f:minAvailable": {}, "f:selector": {}, "f:unhealthyPodEvictionPolicy": {}}}
    spec = {"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    live = obj("PodDisruptionBudget", "policy/v1", spec, entry("kubectl", fields))
    dump = 'Invalid value: {"MinAvailable":1,"MaxUnavailable":1}: minAvailable and maxUnavailable cannot be both set'
    ours = obj("PodDisruptionBudget", "policy/v1", {"maxUnavailable": 1})
    assert found(refusal(("spec", dump)), ours, live) == ["spec.minAvailable"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("spec.selector", "Invalid value: {}: field is immutable"),
        ("spec.ports[0].port", "Invalid value: 70000: must be between 1 and 65535, inclusive"),
        ("spec.type", 'Unsupported value: "X": supported values: "ClusterIP", "NodePort"'),
    ],
)
def test_what_is_wrong_with_the_declaration_itself_is_blamed_on_nobody(field: str, message: str) -> None:
    live = obj("Service", "v1", SERVICE, entry("kubectl", SPEC))
    error = refusal((field, message))
    assert blocking_fields(error, obj("Service", "v1", {**OURS, "type": "X"}), live) == ([], error)
    assert blocking_fields(error, obj("Service", "v1", OURS), None) == ([], error)


def test_what_else_is_wrong_is_still_told() -> None:
    live = obj("Service", "v1", SERVICE, entry("kubectl", SPEC))
    error = refusal(("spec.ports[1].name", 'Duplicate value: "http"'), ("spec.selector", "field is immutable"))
    _blocking, rest = blocking_fields(error, obj("Service", "v1", OURS), live)
    assert isinstance(rest, ApiError)
    assert [cause["field"] for cause in rest.causes] == ["spec.selector"]


class _Server:
    """Takes patches."""

    def __init__(self) -> None:
        self.patches: list[tuple[Object, Object]] = []

    def path(self, *where: t.Any) -> str:
        return "/".join(where)

    def request(self, _method: str, path: str, **how: t.Any) -> Object:
        assert path == "v1/Service/shop/digits"
        assert how["content_type"] == "application/merge-patch+json"
        self.patches.append((how["query"], how["body"]))
        return {}


def test_taking_over_moves_only_the_entry_and_only_if_nobody_wrote_meanwhile() -> None:
    server = _Server()
    ours_before = entry("modelship", {"f:metadata": {"f:labels": {"f:x": {}}}}, "Apply")
    status = {**entry("controller", {"f:status": {}}), "subresource": "status"}
    live = obj("Service", "v1", SERVICE, entry("kubectl", SPEC), entry("helm", SPEC), ours_before, status)
    error = refusal(("spec.ports[1].name", 'Duplicate value: "http"'))
    blocking, _rest = blocking_fields(error, obj("Service", "v1", OURS), live)
    assert blocking[0].managers == ("helm", "kubectl")
    take_over(t.cast(t.Any, server), live, blocking)
    ((_query, body),) = server.patches
    assert body["metadata"]["resourceVersion"] == "7"
    entries = {item["manager"]: item["fieldsV1"] for item in body["metadata"]["managedFields"]}
    left = {"f:spec": {"f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}}
    assert entries["kubectl"] == entries["helm"] == left
    assert entries["modelship"]["f:metadata"] == {"f:labels": {"f:x": {}}}
    assert entries["modelship"]["f:spec"] == {"f:ports": {PORT: SPEC["f:spec"]["f:ports"][PORT]}}
    assert entries["controller"] == {"f:status": {}}


def test_what_becomes_of_it_is_tried_without_the_entry() -> None:
    server = _Server()
    live = obj("Service", "v1", {**SERVICE, "type": "NodePort"}, entry("kubectl", SPEC))
    error = refusal(("spec.ports[1].name", 'Duplicate value: "http"'))
    ours = obj("Service", "v1", OURS)
    tried_without(t.cast(t.Any, server), ours, live, blocking_fields(error, ours, live)[0])
    ((query, body),) = server.patches
    assert query["dryRun"] == "All"
    assert body["spec"] == {"selector": {"a": "b"}, "type": "NodePort", "ports": OURS["ports"]}


@pytest.mark.parametrize(
    ("message", "shown", "of_a_secret"),
    [
        ('Duplicate value: "http"', 'Duplicate value: "http"', "Duplicate value"),
        ('Not found: "v"', 'Not found: "v"', "Not found"),
        ("Required value", "Required value", "Required value"),
        (
            'Unsupported value: "x": supported values: "A", "B"',
            '"x": supported values: "A", "B"',
            'supported values: "A", "B"',
        ),
        ('Invalid value: {"a":"b: c"}: must not: be so', "must not: be so", "must not: be so"),
        ('Invalid value: v1.T{A:"x: y"}: no', "no", "no"),
        ("Invalid value: null", "Invalid value: null", "Invalid value"),
    ],
)
def test_a_reason_is_never_shortened_until_it_says_nothing(message: str, shown: str, of_a_secret: str) -> None:
    assert short_reason(message, False) == shown
    assert short_reason(message, True) == of_a_secret
    told = explained(refusal(("spec.a", message)), obj("Service", "v1", {})).message
    assert told == f"Service shop/digits is refused: spec.a: {shown}"


def spec_fields(**fields: t.Any) -> Object:
    return {"f:spec": {f"f:{name}": inner for name, inner in fields.items()}}


@pytest.mark.parametrize(
    ("field", "message", "theirs", "ours", "expected"),
    [
        (
            "spec.maxReplicas",
            "Invalid value: 3: must be greater than or equal to `minReplicas`",
            {"minReplicas": 5, "maxReplicas": 9},
            {"maxReplicas": 3},
            ["spec.minReplicas"],
        ),
        (
            "spec.context",
            'Invalid value: {"privileged":true}: cannot set `escalation` to false and `privileged` to true',
            {"context": {"privileged": True, "user": 5}},
            {"context": {"escalation": False}},
            ["spec.context.privileged"],
        ),
        (
            "spec.ports.hostPort",
            "Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            {"hostNetwork": True, "ports": {"hostPort": 80, "containerPort": 80}, "x": 1},
            {"ports": {"hostPort": 81, "containerPort": 80}},
            ["spec.hostNetwork"],
        ),
        (
            "spec.resources.requests",
            'Invalid value: "128Mi": must be less than or equal to memory limit of 64Mi',
            {"resources": {"limits": {"memory": "64Mi"}}},
            {"resources": {"requests": {"memory": "128Mi"}}},
            ["spec.resources.limits"],
        ),
        (
            "spec.backend",
            'Invalid value: "": cannot set both resource and service backends',
            {"backend": {"resource": {"name": "r"}, "other": 1}},
            {"backend": {"service": {"name": "s"}}},
            ["spec.backend.resource"],
        ),
        (
            "spec.probe.httpGet",
            "Forbidden: may not specify more than 1 handler type",
            {"probe": {"exec": {"command": ["x"]}, "periodSeconds": 7}},
            {"probe": {"httpGet": {"port": 80}}},
            ["spec.probe.exec"],
        ),
        ("spec.a", "Invalid value: 1: must be less than `b`", {"b": 0}, {"a": 1, "b": 0}, []),
    ],
)
def test_a_field_of_others_that_the_message_names_is_blamed_wherever_it_is(
    field: str, message: str, theirs: Object, ours: Object, expected: list[str]
) -> None:
    def fields(value: t.Any) -> Object:
        return {f"f:{name}": fields(inner) for name, inner in value.items()} if isinstance(value, dict) else {}

    live = obj("Thing", "v1", theirs, entry("helm", {"f:spec": fields(theirs)}))
    assert found(refusal((field, message)), obj("Thing", "v1", ours), live) == expected


def test_an_unnamed_port_that_needs_a_name_beside_ours_is_blamed() -> None:
    theirs = {"selector": {"a": "b"}, "ports": [{"port": 8080, "protocol": "TCP", "targetPort": 80}]}
    live = obj("Service", "v1", theirs, entry("kubectl", SPEC))
    assert found(refusal(("spec.ports[0].name", "Required value")), obj("Service", "v1", OURS), live) == [
        'spec.ports[port=8080,protocol="TCP"]'
    ]


def test_an_init_container_of_others_with_the_name_of_our_container_is_blamed() -> None:
    theirs = {"initContainers": [{"name": "web", "image": "a"}, {"name": "other", "image": "a"}]}
    names = {f'k:{{"name":"{name}"}}': {".": {}, "f:image": {}} for name in ("web", "other")}
    live = obj("Pod", "v1", theirs, entry("kubectl", spec_fields(initContainers=names)))
    ours = obj("Pod", "v1", {"containers": [{"name": "web", "image": "b"}]})
    assert found(refusal(("spec.initContainers[0].name", 'Duplicate value: "web"')), ours, live) == [
        'spec.initContainers[name="web"]'
    ]


def test_of_binary_data_only_the_entry_of_the_same_name_is_blamed() -> None:
    live = obj("ConfigMap", "v1", {}, entry("kubectl", {"f:binaryData": {"f:a": {}, "f:b": {}}}))
    live["binaryData"] = {"a": "AAAA", "b": "AAAA"}
    ours = {**obj("ConfigMap", "v1", {}), "data": {"a": "1"}}
    error = refusal(("data[a]", 'Invalid value: "a": duplicate of key present in binaryData'))
    assert found(error, ours, live) == ["binaryData.a"]
