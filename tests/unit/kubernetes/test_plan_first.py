# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a plan is known to hold for as long as no other run writes a record; what is shown only where it is asked for."""

from __future__ import annotations

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object, key_of
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.plan import Change, Plan


def change(kind: str, name: str) -> Change:
    obj: Object = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    return Change(key_of(obj), obj)


def plan() -> Plan:
    new = Plan("digits", "shop", [], Difference("deployment digits"))
    new.creates.append(change("ConfigMap", "digits-config"))
    return new


def test_a_plan_that_found_only_namespaces_is_the_first() -> None:
    first = plan()
    assert first.is_first
    first.unchanged.append(change("Namespace", "shop"))
    assert first.is_first


@pytest.mark.parametrize("part", ["updates", "unchanged"])
def test_a_plan_that_found_something_declared_is_not_the_first(part: str) -> None:
    later = plan()
    getattr(later, part).append(change("Service", "digits"))
    assert not later.is_first


@pytest.mark.parametrize("part", ["prunes", "releases", "stuck", "going"])
def test_a_plan_that_found_what_is_to_go_is_not_the_first(part: str) -> None:
    later = plan()
    getattr(later, part).append(change("Service", "digits").desired)
    assert not later.is_first


@pytest.mark.parametrize(("kind", "name"), [("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")])
def test_what_a_new_namespace_gets_by_itself_is_looked_for_again(kind: str, name: str) -> None:
    later = plan()
    later.creates.append(change(kind, name))
    assert not later.is_first


def test_what_is_new_is_made_for_a_diff_only_when_that_is_asked_for() -> None:
    asked = []

    def after() -> dict[str, int]:
        asked.append(True)
        return {"replicas": 2}

    difference = Difference("deployment digits")
    difference.add("b", 1, 2)
    difference.add_new("a", after)
    assert difference
    assert difference.names == ["a", "b"]
    assert not asked
    shown = difference.as_result()
    assert shown["before"] == '{\n  "b": 1\n}\n'
    assert shown["after"] == '{\n  "a": {\n    "replicas": 2\n  },\n  "b": 2\n}\n'
