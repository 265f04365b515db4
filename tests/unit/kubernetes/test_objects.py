# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects: identity, marks, order."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import (
    ADOPTED,
    APPLIED,
    DEPLOYMENT,
    NAMESPACE,
    Key,
    cleaned,
    custom_kinds,
    key_of,
    prepared,
    waves,
)


def config(name: str = "c", **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def is_namespaced(_version: str, kind: str) -> bool:
    return kind not in ("Namespace", "ClusterRole")


def test_a_key_reads_as_kind_namespace_and_name() -> None:
    assert str(Key("apps", "Deployment", "shop", "digits")) == "Deployment shop/digits"
    assert str(Key("", "Namespace", "", "shop")) == "Namespace shop"


def test_objects_get_namespace_labels_and_digest() -> None:
    (obj,) = prepared([config(a="1")], "digits", "shop", is_namespaced)
    assert key_of(obj) == Key("", "ConfigMap", "shop", "c")
    assert obj["metadata"]["labels"] == {DEPLOYMENT: "digits", NAMESPACE: "shop"}
    assert obj["metadata"]["annotations"][APPLIED].startswith("sha256:")


def test_a_namespace_of_its_own_is_kept_and_dropped_where_the_kind_has_none() -> None:
    elsewhere = {**config(), "metadata": {"name": "c", "namespace": "other"}}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r", "namespace": "x"},
    }
    one, two = prepared([elsewhere, role], "digits", "shop", is_namespaced)
    assert one["metadata"]["namespace"] == "other"
    assert "namespace" not in two["metadata"]


def test_the_digest_is_that_of_the_declaration_not_of_its_spelling() -> None:
    first = prepared([{**config(a="1", b="2")}], "digits", "shop", is_namespaced)
    swapped = {"data": {"b": "2", "a": "1"}, "metadata": {"name": "c"}, "kind": "ConfigMap", "apiVersion": "v1"}
    assert prepared([swapped], "digits", "shop", is_namespaced) == first
    other = prepared([config(a="1", b="3")], "digits", "shop", is_namespaced)
    assert other[0]["metadata"]["annotations"] != first[0]["metadata"]["annotations"]


def test_preparing_what_was_prepared_changes_nothing() -> None:
    once = prepared([config(a="1")], "digits", "shop", is_namespaced)
    once[0]["metadata"]["annotations"][ADOPTED] = "true"
    assert prepared(once, "digits", "shop", is_namespaced) == prepared([config(a="1")], "digits", "shop", is_namespaced)


def test_the_given_object_is_left_as_it_is() -> None:
    given = config(a="1")
    prepared([given], "digits", "shop", is_namespaced)
    assert given == config(a="1")


def test_what_the_server_wrote_is_dropped_from_a_copied_object() -> None:
    copied = {
        **config(a="1"),
        "metadata": {
            "name": "c",
            "uid": "1",
            "resourceVersion": "2",
            "managedFields": [],
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "status": {},
    }
    assert cleaned(copied) == config(a="1")


def test_string_data_becomes_data_so_that_a_key_can_be_taken_out_again() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": "MQ=="},
        "stringData": {"b": "é"},
    }
    result = cleaned(secret)
    assert "stringData" not in result
    assert {name: base64.b64decode(value).decode() for name, value in result["data"].items()} == {"a": "1", "b": "é"}


def test_data_that_is_no_base64_is_named_but_not_shown() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"pin": "hunter22!"}}
    with pytest.raises(ModelshipError, match=r"data\.pin is not base64") as caught:
        cleaned(secret)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kind": "ConfigMap"},
        {**config(), "metadata": None},
        {**config(), "metadata": {"generateName": "c-"}},
        "text",
    ],
)
def test_what_is_no_object_is_refused_with_its_place(given: object) -> None:
    with pytest.raises(ModelshipError, match=r"object 2 .* must have apiVersion, kind and metadata\.name"):
        prepared([config(), given], "digits", "shop", is_namespaced)


def test_an_object_declared_twice_is_refused() -> None:
    with pytest.raises(ModelshipError, match="ConfigMap shop/c is declared twice"):
        prepared([config(a="1"), config(a="2")], "digits", "shop", is_namespaced)


def test_only_served_versions_of_a_definition_are_new_kinds() -> None:
    definition = {
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"kind": "Widget"},
            "versions": [{"name": "v1", "served": True}, {"name": "v1alpha1", "served": False}],
        },
    }
    assert custom_kinds([definition, config()]) == {("example.com/v1", "Widget"): False}


def test_objects_are_written_after_what_they_need_and_deleted_before_it() -> None:
    kinds = [
        "Widget",
        "Deployment",
        "RoleBinding",
        "ClusterRoleBinding",
        "Namespace",
        "ValidatingWebhookConfiguration",
        "Secret",
        "Role",
        "CustomResourceDefinition",
    ]
    order = [[obj["kind"] for obj in wave] for wave in waves([{"kind": kind} for kind in kinds])]
    assert order == [
        ["Namespace"],
        ["CustomResourceDefinition"],
        ["Secret", "Role"],
        ["RoleBinding", "ClusterRoleBinding"],
        ["Deployment"],
        ["Widget"],
        ["ValidatingWebhookConfiguration"],
    ]
    backwards = [[obj["kind"] for obj in wave] for wave in waves([{"kind": kind} for kind in kinds], backwards=True)]
    assert backwards == order[::-1]
