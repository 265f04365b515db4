# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what is there, with as few requests as possible, several at once."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.errors import ModelshipError
from .errors import ApiError
from .objects import DEPLOYMENT, NAMESPACE, Key, Object, group_of, key_of, labels_of, owner_selector
from .record import Record

if t.TYPE_CHECKING:
    from .client import Api

#: apiVersion, kind, and the namespace; empty for a cluster-scoped kind.
Place = tuple[str, str, str]

#: What a deployment is made of unless ``extra_resources`` add to it; looked through where no record tells.
STANDARD_KINDS = (
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
)
#: From so many objects of one kind in one namespace, one list of all there costs less than asking for each.
_MANY = 8


@dataclasses.dataclass
class Observed:
    """What is there.

    :param ours: objects with the deployment's labels, by key.
    :param namespaces: those asked for: the live object, or ``None`` where there is none.
    :param warnings: what could not be looked at.
    """

    ours: dict[Key, Object]
    namespaces: dict[str, Object | None]
    warnings: list[str]


def observe(
    api: Api,
    name: str,
    namespace: str,
    declared: t.Iterable[tuple[str, Key]],
    record: Record | None,
    skip: t.Container[tuple[str, str]] = (),
) -> Observed:
    """Return what there is of the deployment *name* in *namespace*: its objects and its namespaces.

    :param declared: apiVersion and key of what is declared; its kinds and namespaces are looked through, as those of *record*.
    :param skip: kinds that are not served yet.
    :raises ModelshipError: a kind that is declared or recorded cannot be listed.
    """
    places, optional, gone, namespaces = _places(api, namespace, list(declared), record, skip)
    warnings = [
        f"{kind} of {version} is not served any more: objects of it are not looked for" for version, kind in gone
    ]
    selector = owner_selector(name, namespace)

    def look(what: str | Place) -> t.Any:
        if isinstance(what, str):
            return _namespace(api, what)
        try:
            return api.list(what[0], what[1], what[2] or None, labels=selector)[0]
        except ApiError as exc:
            if what in optional and exc.status in (403, 404):
                return []
            raise

    observed = Observed({}, {}, warnings)

    def take(order: list[str | Place]) -> None:
        for what, result in zip(order, api.each(look, order), strict=True):
            if isinstance(result, ModelshipError):
                raise result
            if isinstance(what, str):
                observed.namespaces[what] = result
            else:
                observed.ours.update({key_of(obj): obj for obj in result})

    if record is not None and record.stored:
        take([*namespaces, *places])
    else:
        take([*namespaces])
        # nothing is in a namespace that is not there
        take([place for place in places if observed.namespaces.get(place[2], True) is not None])
    return observed


def fetch(api: Api, wanted: t.Iterable[tuple[str, Key]]) -> dict[Key, Object]:
    """Return the live objects of *wanted* (apiVersion and key), as far as there are any.

    :raises ModelshipError: they cannot be read.
    """
    places: dict[Place, list[Key]] = {}
    for version, key in wanted:
        places.setdefault((version, key.kind, key.namespace), []).append(key)

    def get(item: tuple[Place, Key | None]) -> list[Object]:
        (version, kind, namespace), key = item
        if key is None:
            return api.list(version, kind, namespace or None)[0]
        obj = api.get(version, kind, namespace, key.name)
        return [] if obj is None else [obj]

    items: list[tuple[Place, Key | None]] = []
    for place, keys in places.items():
        items += [(place, None)] if len(keys) >= _MANY else [(place, key) for key in keys]
    asked = {key for keys in places.values() for key in keys}
    found: dict[Key, Object] = {}
    for result in api.each(get, items):
        if isinstance(result, ModelshipError):
            raise result
        found.update({key: obj for obj in result if (key := key_of(obj)) in asked})
    return found


def is_namespace_ours(live: Object | None, name: str, namespace: str) -> bool:
    """Tell whether the namespace *live* was made for the deployment *name* in *namespace*."""
    labels = labels_of(live) if live else {}
    return (labels.get(DEPLOYMENT), labels.get(NAMESPACE)) == (name, namespace)


def _places(
    api: Api,
    namespace: str,
    declared: list[tuple[str, Key]],
    record: Record | None,
    skip: t.Container[tuple[str, str]],
) -> tuple[list[Place], set[Place], list[tuple[str, str]], list[str]]:
    """Return where to look, which of it may fail, which kinds are gone, and the namespaces."""
    namespaces = dict.fromkeys([namespace, *(key.namespace for _version, key in declared if key.namespace)])
    kinds = dict.fromkeys((version, key.kind) for version, key in declared)
    known = {(group_of(version), kind) for version, kind in kinds}
    may_fail: set[tuple[str, str]] = set()
    gone: list[tuple[str, str]] = []
    if record is not None:
        namespaces.update(dict.fromkeys(record.namespaces))
        for version, kind in record.kinds:
            if (group_of(version), kind) not in known:
                if api.serves(version, kind):
                    kinds[version, kind] = None
                else:
                    gone.append((version, kind))
    if record is None or not record.stored:
        may_fail = {(version, kind) for version, kind in STANDARD_KINDS if (version, kind) not in kinds}
        kinds.update(dict.fromkeys(may_fail))
    places: list[Place] = []
    optional: set[Place] = set()
    for version, kind in kinds:
        if (version, kind) in skip:
            continue
        if (version, kind) == ("v1", "Namespace"):
            # the deployment's own is asked for by name; others there are only if the record says so
            if record is not None and (version, kind) in record.kinds:
                places.append((version, kind, ""))
                optional.add(places[-1])
            continue
        for where in namespaces if api.resource(version, kind).namespaced else [""]:
            places.append((version, kind, where))
            if (version, kind) in may_fail:
                optional.add(places[-1])
    return places, optional, gone, list(namespaces)


def _namespace(api: Api, name: str) -> Object | None:
    try:
        return api.get("v1", "Namespace", "", name)
    except ApiError as exc:
        if exc.status != 403:
            raise
        # who may not look at namespaces was given one to work in
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
