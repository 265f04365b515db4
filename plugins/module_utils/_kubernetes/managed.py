# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a live object is what is declared: pure decisions over its fields and the server's record of who manages them.

Source of the notation: Kubernetes, "Server-Side Apply", FieldsV1 (``f:name``, ``k:{keys of an element}``, ``v:value``);
a path without children is owned whole. Whoever changes a field becomes its only manager, so a field that is still ours
still has the value that we gave it.
"""

from __future__ import annotations

import datetime
import json
import typing as t

from .objects import (
    ADOPTED,
    APPLIED,
    DEPLOYMENT,
    KEEP,
    MANAGER,
    NAMESPACE,
    SERVER_METADATA,
    Object,
    annotations_of,
    labels_of,
)

_IDENTITY = ("apiVersion", "kind")
#: What the server leaves out of an object rather than store it.
_NOTHING: tuple[t.Any, ...] = (None, "", 0, False, {}, [])


def our_fields(live: Object, api_version: str = "") -> dict[str, t.Any] | None:
    """Return the fields of *live* that we applied, in FieldsV1 notation; ``None`` where we are no manager of it.

    :param api_version: take only the fields of this version's notation; by default of any.
    """
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: dict[str, t.Any] = entry.get("fieldsV1") or {}
            return fields if api_version in ("", entry.get("apiVersion")) else None
    return None


def managers_of(live: Object, *path: str) -> list[str]:
    """Return the managers of the field *path* of *live*, by name: ``managers_of(live, "spec", "paused")``."""
    found = []
    for entry in live["metadata"].get("managedFields") or []:
        node: t.Any = entry.get("fieldsV1") or {}
        for name in path:
            node = node.get(f"f:{name}") if isinstance(node, dict) else None
        if node is not None:
            found.append(str(entry.get("manager") or "another manager"))
    return sorted(set(found))


def applied_at(live: Object) -> datetime.datetime | None:
    """Return when *live* was last changed by us, by the server's clock; ``None`` where it does not tell."""
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            try:
                return datetime.datetime.fromisoformat(entry["time"])
            except (KeyError, ValueError):
                return None
    return None


def owner_of(live: Object) -> tuple[str, str] | None:
    """Return name and namespace of the deployment that applied *live*; its marks alone can have been copied."""
    labels = labels_of(live)
    if DEPLOYMENT not in labels or our_fields(live) is None:
        return None
    return labels[DEPLOYMENT], labels.get(NAMESPACE, "")


def is_adopted(live: Object) -> bool:
    """Tell whether *live* existed before the deployment took it over."""
    return annotations_of(live).get(ADOPTED) == "true"


def is_kept(live: Object) -> bool:
    """Tell whether *live* must never be deleted, because it holds what cannot be made again."""
    return annotations_of(live).get(KEEP) == "true"


def is_provably_equal(desired: Object, live: Object) -> bool:
    """Tell whether applying *desired* (with its digest) to *live* is known to change nothing.

    It is the last thing we applied, nothing of it was taken from us since, and all its values are there. ``False`` means
    only that the server has to be asked.
    """
    if annotations_of(live).get(APPLIED) != annotations_of(desired).get(APPLIED):
        return False
    fields = our_fields(live, desired["apiVersion"])
    if fields is None:
        return False
    declared = without_identity(desired)
    return owns(fields, declared) and contains(live, declared)


def without_identity(obj: Object) -> Object:
    """Return *obj* without apiVersion, kind, name and namespace, which nobody manages."""
    rest = {name: value for name, value in obj.items() if name not in _IDENTITY}
    rest["metadata"] = {name: value for name, value in obj["metadata"].items() if name not in ("name", "namespace")}
    return rest


def owns(fields: dict[str, t.Any], declared: t.Any) -> bool:
    """Tell whether every path of *declared* is among *fields*."""
    if isinstance(declared, dict):
        for name, value in declared.items():
            node = fields.get(f"f:{name}")
            if node is None:
                if value not in (None, {}, []):  # these are no path of their own
                    return False
            elif node and not owns(node, value):
                return False
        return True
    if isinstance(declared, list):
        return all(_owns_element(fields, item) for item in declared)
    return True


def _owns_element(fields: dict[str, t.Any], item: t.Any) -> bool:
    """A list that is no leaf is a set of values, or a map whose elements are told apart by some of their fields."""
    if not isinstance(item, dict):
        return f"v:{json.dumps(item)}" in fields
    for name, node in fields.items():
        keys = json.loads(name[2:]) if name.startswith("k:") else None
        # a key that is not declared has the server's default (protocol: TCP)
        if keys is not None and all(item.get(key, value) == value for key, value in keys.items()):
            return owns(node, item)
    return False


def contains(live: t.Any, declared: t.Any) -> bool:
    """Tell whether every value of *declared* is found in *live*; lists must have the same length and order."""
    if isinstance(declared, dict):
        if not isinstance(live, dict):
            return not declared and live is None
        return all(
            contains(live[name], value) if name in live else any(value == item for item in _NOTHING)
            for name, value in declared.items()
        )
    if isinstance(declared, list):
        if not isinstance(live, list) or len(live) != len(declared):
            return not declared and live is None
        return all(contains(one, other) for one, other in zip(live, declared, strict=True))
    return type(live) is type(declared) and bool(live == declared)


def comparable(obj: Object) -> Object:
    """Return *obj* without status and what the server writes into its metadata: what a change would change."""
    rest = {name: value for name, value in obj.items() if name != "status"}
    rest["metadata"] = {name: value for name, value in obj["metadata"].items() if name not in SERVER_METADATA}
    return rest


def replicas_to_hold(desired: Object, live: Object) -> int | None:
    """Return the live number of replicas where *desired* no longer declares one that is still ours.

    Left out, the server would put it back to its default, 1, and take pods away. Declared once more as it is, an
    autoscaler takes it over with its first change.
    """
    spec = desired.get("spec")
    if not isinstance(spec, dict) or "replicas" in spec:
        return None
    ours = (our_fields(live) or {}).get("f:spec") or {}
    replicas = (live.get("spec") or {}).get("replicas")
    return replicas if "f:replicas" in ours and isinstance(replicas, int) else None
