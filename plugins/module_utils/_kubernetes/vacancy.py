# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else lives in a namespace, or is of a kind: they are deleted only where that takes nothing with it that is not ours."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .discovery import group_path
from .objects import Key, Object, custom_kinds, group_of, is_going, key_of, labels_of
from .record import PART_OF
from .refusal import some

if t.TYPE_CHECKING:
    from .client import Api

#: Every namespace gets these by itself, or they only mirror what is there.
_OWN_KINDS = frozenset(("Endpoints", "EndpointSlice", "Event", "Lease"))
_OWN_OBJECTS = frozenset(
    (
        ("ServiceAccount", "default"),
        ("ConfigMap", "kube-root-ca.crt"),
        ("ConfigMap", "openshift-service-ca.crt"),
        ("ConfigMap", "istio-ca-root-cert"),
    )
)
#: Served by others than the API server, computed from what is there.
_COMPUTED = (".metrics.k8s.io", "metrics.k8s.io")


def is_container(obj: Object) -> bool:
    """Tell whether deleting *obj* deletes others with it: a namespace, or the definition of a kind."""
    return obj["kind"] in ("Namespace", "CustomResourceDefinition")


def is_made_by_server(obj: Object) -> bool:
    """Tell whether every namespace gets *obj* by itself."""
    return obj["kind"] in _OWN_KINDS or (obj["kind"], obj["metadata"]["name"]) in _OWN_OBJECTS


def why_left(api: Api, obj: Object, name: str, ours: t.Iterable[Object] = ()) -> str:
    """Return why *obj* (see :func:`is_container`) cannot be deleted, to follow its name; empty where it can.

    :param ours: live objects of the deployment *name* that go too.
    """
    try:
        others = occupants(api, obj, name, ours)
    except ModelshipError as exc:
        return f"because {exc.message}"
    return f"because of {some(others)}" if others else ""


def occupants(api: Api, obj: Object, name: str, ours: t.Iterable[Object] = ()) -> list[Key]:
    """Return what would be lost with *obj* (see :func:`is_container`) and is not of the deployment *name*.

    :param ours: live objects that go too.
    :raises ModelshipError: it cannot be told.
    """
    if obj["kind"] == "Namespace":
        return others_in(api, obj["metadata"]["name"], name, ours)
    known = {one["metadata"]["uid"] for one in ours}
    kinds = custom_kinds([obj])
    if not kinds:
        raise ModelshipError("what there is of it cannot be told: no version of it is served", kind="kubernetes")
    version, kind = next(iter(kinds))
    if not api.serves(version, kind):
        return []
    instances = api.list(version, kind, None)[0]
    return [key_of(one) for one in instances if one["metadata"]["uid"] not in known and not is_going(one)]


def others_in(api: Api, namespace: str, name: str, ours: t.Iterable[Object] = ()) -> list[Key]:
    """Return what is in *namespace* beside *ours* and what they own, what every namespace has, and what is being deleted.

    :param name: the deployment, whose record does not count either.
    :raises ModelshipError: it cannot be told, because something that is served there cannot be listed.
    """
    kinds = _namespaced_kinds(api)

    found: list[Object] = []
    unknown = []
    looked = api.each(lambda kind: api.list(*kind, namespace)[0], kinds)
    for (version, kind), result in zip(kinds, looked, strict=True):
        if isinstance(result, ModelshipError):
            unknown.append(f"{kind} ({version}): {result.message}")
        else:
            found += result
    if unknown:
        raise ModelshipError(f"what is in namespace {namespace} cannot be told: {some(unknown, 2)}", kind="kubernetes")
    return strangers(found, name, [obj["metadata"]["uid"] for obj in ours])


def strangers(found: t.Sequence[Object], name: str, ours: t.Iterable[str]) -> list[Key]:
    """Return what of *found* does not belong to the deployment *name*, whose objects have the uids *ours*."""
    known = set(ours)
    rest = [obj for obj in found if not is_going(obj) and not _comes_by_itself(obj, name)]
    while True:  # pods are owned by what a Deployment owns
        left = [obj for obj in rest if not known & {obj["metadata"].get("uid"), *_owners(obj)}]
        if len(left) == len(rest):
            return [key_of(obj) for obj in left if not _owners(obj)] or [key_of(obj) for obj in left]
        known |= {obj["metadata"].get("uid") for obj in rest} - {obj["metadata"].get("uid") for obj in left}
        rest = left


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []}


def _comes_by_itself(obj: Object, name: str) -> bool:
    return is_made_by_server(obj) or labels_of(obj).get(PART_OF) == name


def _namespaced_kinds(api: Api) -> list[tuple[str, str]]:
    """Return apiVersion and kind of all that can be listed in a namespace, each group in one version."""
    groups = api.request("GET", "/apis").get("groups") or []
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    versions = [version for version in versions if not group_of(version).endswith(_COMPUTED)]

    def resources(version: str) -> list[tuple[str, str]]:
        return [
            (version, item["kind"])
            for item in api.request("GET", group_path(version)).get("resources") or []
            if item.get("namespaced") and "list" in item.get("verbs", ()) and item["kind"] not in _OWN_KINDS
        ]

    kinds: list[tuple[str, str]] = []
    for version, result in zip(versions, api.each(resources, versions), strict=True):
        if isinstance(result, ModelshipError):
            raise ModelshipError(f"what {version} serves cannot be told: {result.message}", kind="kubernetes")
        kinds += result
    return kinds
