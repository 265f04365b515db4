# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is no longer declared: namespaces and kinds go only where that takes nothing of others with it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.apply import Plan, carry_out, plan, prune
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object, key_of
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import Record

from .memory import Memory, config, definition, namespace, refused, widget

RECORD = Record(
    [("v1", "Namespace"), ("v1", "ConfigMap"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")],
    ["shop", "other"],
    stored="sha256:1",
)


def planned(api: Memory, *objects: Object, **options: t.Any) -> Plan:
    return plan(t.cast("t.Any", api), "digits", objects, RECORD, namespace="shop", **options)


def applied(api: Memory, *objects: Object) -> Plan:
    found = planned(api, *objects)
    carry_out(t.cast("t.Any", api), found, progress=Progress())
    return found


@pytest.fixture
def api() -> Memory:
    api = Memory()
    api.add(namespace())
    return api


def names(objects: t.Iterable[Object]) -> list[str]:
    return [str(key_of(obj)) for obj in objects]


def test_a_namespace_that_others_moved_into_after_the_plan_was_made_stays(api: Memory) -> None:
    inside = {**config("c"), "metadata": {"name": "c", "namespace": "other"}}
    applied(api, namespace("other"), inside)
    found = planned(api)
    assert names(found.prunes) == ["ConfigMap other/c", "Namespace other"]
    api.add(config("theirs"), namespace="other")
    prune(t.cast("t.Any", api), found, Progress())
    assert api.written("delete") == ["ConfigMap c"]
    assert found.warnings == ["Namespace other is no longer declared, but left because of ConfigMap other/theirs"]
    # and nothing is told of it as if it were done
    assert found.reasons == ["ConfigMap other/c is no longer declared"]
    assert found.difference.names == ["ConfigMap other/c"]
    assert names(found.stuck) == ["Namespace other"]


def test_a_kind_of_which_others_made_objects_after_the_plan_was_made_stays(api: Memory) -> None:
    applied(api, definition("size"))
    found = planned(api)
    api.add(widget(size="3"))
    prune(t.cast("t.Any", api), found, Progress())
    assert api.written("delete") == []
    assert not found.changed
    assert "left because of Widget shop/w" in found.warnings[0]


def test_what_is_vacant_goes_after_what_was_in_it(api: Memory) -> None:
    inside = {**config("c"), "metadata": {"name": "c", "namespace": "other"}}
    applied(api, namespace("other"), inside, definition("size"))
    prune(t.cast("t.Any", api), planned(api), Progress())
    assert api.written("delete") == ["ConfigMap c", "CustomResourceDefinition widgets.example.com", "Namespace other"]


def test_a_namespace_of_which_it_cannot_be_told_what_is_in_it_stops_no_run(api: Memory) -> None:
    applied(api, namespace("other"))
    api.refuse = lambda what, kind, _obj: refused(403, "pods is forbidden") if (what, kind) == ("list", "Pod") else None
    found = planned(api, config("c"))
    assert names(found.stuck) == ["Namespace other"]
    assert found.warnings == [
        "Namespace other is no longer declared, but left because what is in namespace other cannot be told: "
        "Pod (v1): pods is forbidden"
    ]


def test_a_kind_of_which_no_version_is_served_stops_no_run(api: Memory) -> None:
    applied(api, definition("size", served=False))
    found = planned(api)
    assert names(found.stuck) == ["CustomResourceDefinition widgets.example.com"]
    assert "no version of it is served" in found.warnings[0]
