# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kind's definition and the objects that need it as it becomes, in one run."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import apply
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.apply import Plan, carry_out, plan
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object

from .memory import Memory, definition, namespace, refused, widget


class Strict(Memory):
    """Takes of a Widget only the fields that its definition has; goes by a new definition *late* writes of it later."""

    def __init__(self, late: int = 0) -> None:
        super().__init__(self._held_against_the_definition)
        self.late = late
        self.add(namespace())

    def _held_against_the_definition(self, what: str, kind: str, obj: Object) -> ApiError | None:
        if kind != "Widget" or what not in ("try", "apply"):
            return None
        known = json.dumps([each for each in self.objects.values() if each["kind"] == "CustomResourceDefinition"])
        unknown = [name for name in obj["spec"] if f'"{name}"' not in known]
        if what == "apply" and self.late and not unknown:
            self.late -= 1
            unknown = ["colour"]
        if unknown:
            return refused(
                500, f"failed to create typed patch object: .spec.{unknown[0]}: field not declared in schema"
            )
        return None


def planned(api: Memory, *objects: Object, check: bool = False) -> Plan:
    return plan(t.cast("t.Any", api), "digits", objects, None, namespace="shop", check=check)


def applied(api: Memory, *objects: Object) -> Plan:
    found = planned(api, *objects)
    carry_out(t.cast("t.Any", api), found, progress=Progress())
    return found


OLD = [definition("size"), widget(size="3")]
NEW = [definition("size", "colour"), widget(size="3", colour="red")]
WARNING = (
    "Widget shop/w could not be tried before its kind is changed: failed to create typed patch object: "
    ".spec.colour: field not declared in schema"
)


@pytest.mark.parametrize("late", [0, 2])
def test_a_new_field_and_the_object_that_uses_it_are_applied_in_one_run(late: int) -> None:
    api = Strict(late)
    api.late = 0
    applied(api, *OLD)
    assert not planned(api, *OLD).changed
    api.late = late
    found = applied(api, *NEW)
    assert found.warnings == [WARNING]
    assert found.reasons == [
        "CustomResourceDefinition widgets.example.com is declared otherwise (spec.versions[v1].schema.openAPIV3Schema."
        "properties.colour)",
        "Widget shop/w is declared otherwise (spec.colour)",
    ]
    assert not planned(api, *NEW).changed


def test_check_mode_tells_the_same_of_new_and_of_existing_objects() -> None:
    api = Strict()
    applied(api, *OLD)
    found = planned(api, *NEW, check=True)
    assert [change.key.kind for change in found.updates] == ["CustomResourceDefinition", "Widget"]
    assert found.warnings == [WARNING]
    assert '"colour": "red"' in found.difference.as_result()["after"]
    api = Strict()
    applied(api, OLD[0])
    found = planned(api, *NEW, check=True)
    assert [change.key.kind for change in found.creates] == ["Widget"]
    assert found.warnings == [WARNING]


def test_what_the_new_definition_does_not_allow_either_is_told_by_the_real_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apply, "_SETTLE_S", 0.2)
    api = Strict()
    applied(api, *OLD)
    with pytest.raises(ModelshipError, match=r"\.spec\.shape: field not declared in schema"):
        applied(api, NEW[0], widget(size="3", shape="round"))


def test_what_a_definition_that_stays_does_not_allow_is_told_before_anything_is_written() -> None:
    api = Strict()
    applied(api, *OLD)
    written = api.written()
    with pytest.raises(ModelshipError, match=r"\.spec\.shape: field not declared in schema"):
        applied(api, OLD[0], widget(size="3", shape="round"))
    assert api.written() == written
