# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a live object is known to be what is declared without asking the server."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.managed import (
    comparable,
    contains,
    is_provably_equal,
    owner_of,
    owns,
    replicas_to_hold,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import APPLIED, prepared

DECLARED = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "n"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]},
}


def _pair() -> tuple[dict, dict]:
    """What is declared, and the live object as a 1.34 API server returns it after the declaration was applied."""
    (desired,) = prepared([DECLARED], "x", "shop", lambda *_kind: True)
    live = copy.deepcopy(desired)
    live["spec"]["ingress"][0]["ports"][0]["protocol"] = "TCP"
    live["metadata"] |= {
        "uid": "1",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
    }
    live["metadata"]["managedFields"] = [
        {
            "manager": "modelship",
            "operation": "Apply",
            "apiVersion": "networking.k8s.io/v1",
            "fieldsV1": {
                "f:metadata": {
                    "f:annotations": {f"f:{APPLIED}": {}},
                    "f:labels": {"f:modelship.io/deployment": {}, "f:modelship.io/namespace": {}},
                },
                "f:spec": {"f:ingress": {}, "f:podSelector": {}, "f:policyTypes": {}},
            },
        }
    ]
    return desired, live


def test_what_was_applied_and_not_touched_since_is_equal() -> None:
    assert is_provably_equal(*_pair())


def test_another_declaration_is_not_equal() -> None:
    desired, live = _pair()
    desired["metadata"]["annotations"][APPLIED] = "sha256:other"
    assert not is_provably_equal(desired, live)


def test_a_field_that_another_manager_took_is_not_equal_even_where_all_declared_values_are_there() -> None:
    desired, live = _pair()
    # kubectl edit added a peer to the first rule: the whole list is kubectl's now
    live["spec"]["ingress"][0]["from"] = [{"namespaceSelector": {}}]
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ingress"]
    assert contains(live["spec"], desired["spec"])
    assert not is_provably_equal(desired, live)


def test_a_changed_value_is_not_equal_whoever_is_said_to_own_it() -> None:
    desired, live = _pair()
    live["spec"]["ingress"][0]["ports"][0]["port"] = 81
    assert not is_provably_equal(desired, live)


@pytest.mark.parametrize(
    "change",
    [
        {"manager": "kubectl"},
        {"operation": "Update"},
        {"apiVersion": "networking.k8s.io/v2"},
        {"subresource": "status"},
    ],
)
def test_only_our_own_apply_in_the_same_version_is_a_proof(change: dict) -> None:
    desired, live = _pair()
    live["metadata"]["managedFields"][0].update(change)
    assert not is_provably_equal(desired, live)


def test_an_object_without_managers_is_nobodys() -> None:
    _desired, live = _pair()
    assert owner_of(live) == ("x", "shop")
    live["metadata"]["managedFields"] = []
    assert owner_of(live) is None


# As a 1.34 API server wrote it for the pod template below.
FIELDS = {
    "f:containers": {
        'k:{"name":"c"}': {
            ".": {},
            "f:args": {},
            "f:name": {},
            "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
        }
    },
    "f:nodeSelector": {},
    "f:tolerations": {},
    "f:finalizers": {'v:"modelship.io/x"': {}},
}


@pytest.mark.parametrize(
    ("declared", "owned"),
    [
        ({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}, True),
        ({"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "UDP"}]}]}, False),
        ({"containers": [{"name": "c", "image": "i"}]}, False),
        ({"containers": [{"name": "other"}]}, False),
        ({"finalizers": ["modelship.io/x"]}, True),
        ({"finalizers": ["modelship.io/y"]}, False),
        ({"tolerations": [{"key": "gpu"}]}, True),  # a list without children is owned whole
        ({"imagePullSecrets": [], "affinity": None, "volumes": {}}, True),  # these are no paths
        ({"serviceAccountName": "x"}, False),
    ],
)
def test_ownership_is_read_from_the_servers_notation(declared: dict, owned: bool) -> None:
    assert owns(FIELDS, declared) is owned


@pytest.mark.parametrize(
    ("live", "declared", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "A", "value": ""}]}, True),  # the server stores no empty text
        ({"args": ["a", "b"]}, {"args": ["a"]}, False),
        ({"args": ["b", "a"]}, {"args": ["a", "b"]}, False),
        ({}, {"args": []}, True),
        ({"args": ["a"]}, {"args": []}, False),
        ({"cpu": "1"}, {"cpu": "1000m"}, False),  # the server is asked: it knows quantities
        ({"a": {}}, {"a": {"b": 1}}, False),
    ],
)
def test_declared_values_are_looked_for(live: dict, declared: dict, found: bool) -> None:
    assert contains(live, declared) is found


def test_what_the_server_counts_is_no_difference() -> None:
    _desired, live = _pair()
    later = copy.deepcopy(live)
    later["status"] = {"observedGeneration": 2}
    later["metadata"] |= {"resourceVersion": "9", "generation": 2, "managedFields": []}
    assert comparable(later) == comparable(live)
    later["metadata"]["labels"]["a"] = "b"
    assert comparable(later) != comparable(live)


@pytest.mark.parametrize(
    ("spec", "ours", "held"),
    [
        ({}, {"f:spec": {"f:replicas": {}}}, 5),
        ({}, {"f:spec": {}}, None),  # an autoscaler has it already
        ({"replicas": 2}, {"f:spec": {"f:replicas": {}}}, None),
    ],
)
def test_replicas_are_handed_over_rather_than_put_back_to_one(spec: dict, ours: dict, held: int | None) -> None:
    entry = {"manager": "modelship", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": ours}
    live = {"metadata": {"managedFields": [entry]}, "spec": {"replicas": 5}}
    assert replicas_to_hold({"spec": spec}, live) == held
