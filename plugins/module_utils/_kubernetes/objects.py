# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects as they are declared: their identity, their marks, and the order they are written in."""

from __future__ import annotations

import base64
import copy
import json
import typing as t

from .._core.content import sha256_bytes
from .._core.errors import ModelshipError

#: An object as JSON: ``apiVersion``, ``kind``, ``metadata``, …
Object = dict[str, t.Any]

#: Field manager of all that is applied.
MANAGER = "modelship"
#: Label of every object: the deployment's name.
DEPLOYMENT = "modelship.io/deployment"
#: Label of every object: the deployment's namespace, which tells apart deployments of one name in two namespaces.
NAMESPACE = "modelship.io/namespace"
#: Annotation: digest of the object as declared.
APPLIED = "modelship.io/applied"
#: Annotation of an object that existed before the deployment: it is given up, never deleted.
ADOPTED = "modelship.io/adopted"
#: Annotation, set by the user or for ``storage.keep``: never pruned, never removed.
KEEP = "modelship.io/keep"

#: What the server writes into ``metadata``; of no use in a declaration, and often there by copying.
SERVER_METADATA = frozenset(
    (
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    )
)

#: Written by tools; in a declaration only where a live object was copied.
_OUR_MARKS = frozenset((APPLIED, ADOPTED, "kubectl.kubernetes.io/last-applied-configuration"))

_CONFIG = frozenset(
    (
        "ClusterRole",
        "ConfigMap",
        "LimitRange",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PriorityClass",
        "ResourceQuota",
        "Role",
        "RuntimeClass",
        "Secret",
        "Service",
        "ServiceAccount",
        "StorageClass",
    )
)
_BINDINGS = frozenset(("ClusterRoleBinding", "RoleBinding"))
_WORKLOADS = frozenset(("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet"))


class Key(t.NamedTuple):
    """What tells one object from all others; *namespace* is empty for what is cluster-scoped."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def group_of(api_version: str) -> str:
    """Return the API group of *api_version*; empty for the core group."""
    return api_version.rpartition("/")[0]


def key_of(obj: Object) -> Key:
    """Return the identity of *obj*."""
    metadata = obj["metadata"]
    return Key(group_of(obj["apiVersion"]), obj["kind"], metadata.get("namespace") or "", metadata["name"])


def version_of(obj: Object) -> tuple[str, str]:
    """Return uid and resourceVersion of the live *obj*, which change whenever it is made anew or written to."""
    return obj["metadata"].get("uid", ""), obj["metadata"].get("resourceVersion", "")


def labels_of(obj: Object) -> dict[str, str]:
    """Return the labels of *obj*; an empty dict where it has none."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """Return the annotations of *obj*; an empty dict where it has none."""
    return obj["metadata"].get("annotations") or {}


def is_going(obj: Object) -> bool:
    """Tell whether *obj* is being deleted already."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def owner_selector(name: str, namespace: str) -> str:
    """Return the label selector of all objects of the deployment *name* in *namespace*."""
    return f"{DEPLOYMENT}={name},{NAMESPACE}={namespace}"


def prepared(
    objects: t.Sequence[Object], name: str, namespace: str, namespaced: t.Callable[[str, str], bool]
) -> list[Object]:
    """Return what is to be applied for *objects*: cleaned, each in its namespace, with the marks of the deployment.

    :param namespaced: tells whether objects of an apiVersion and kind live in namespaces.
    :raises ModelshipError: an object has no apiVersion, kind or name, or is declared twice.
    """
    result: list[Object] = []
    seen: set[Key] = set()
    for position, given in enumerate(objects):
        obj = cleaned(given, position)
        metadata = obj["metadata"]
        place(obj, namespace if namespaced(obj["apiVersion"], obj["kind"]) else None)
        key = key_of(obj)
        if key in seen:
            raise ModelshipError(f"{key} is declared twice: remove one of them from kubernetes.extra_resources")
        seen.add(key)
        metadata["labels"] = {**labels_of(obj), DEPLOYMENT: name, NAMESPACE: namespace}
        metadata["annotations"] = {**annotations_of(obj), APPLIED: digest_of(obj)}
        result.append(obj)
    return result


def place(obj: Object, namespace: str | None) -> None:
    """Put *obj* into *namespace* unless it names one itself; ``None``: its kind lives in none."""
    metadata = obj["metadata"]
    if namespace is None:
        metadata.pop("namespace", None)
    elif not metadata.get("namespace"):
        metadata["namespace"] = namespace


def cleaned(given: Object, position: int = 0) -> Object:
    """Return a copy of *given* without what only the server writes, and with ``stringData`` as ``data``.

    Server-side apply keeps ``stringData`` apart from ``data``, so that a key taken out of it would never go away.

    :raises ModelshipError: *given*, the object at *position* of its list, is no Kubernetes object.
    """
    metadata = given.get("metadata") if isinstance(given, dict) else None
    identity = [given.get("apiVersion"), given.get("kind")] if isinstance(given, dict) else []
    identity.append(metadata.get("name") if isinstance(metadata, dict) else None)
    if not all(isinstance(item, str) and item for item in identity):
        where = " ".join(str(item) for item in identity if item) or "it"
        raise ModelshipError(
            f"object {position + 1} of the declared Kubernetes objects is refused ({where}): it must have apiVersion, kind "
            "and metadata.name"
        )
    obj = copy.deepcopy(given)
    obj.pop("status", None)
    metadata = {name: value for name, value in obj["metadata"].items() if name not in SERVER_METADATA}
    marks = {name: value for name, value in (metadata.pop("annotations", None) or {}).items() if name not in _OUR_MARKS}
    obj["metadata"] = {**metadata, "annotations": marks} if marks else metadata
    if obj["kind"] == "Secret" and obj["apiVersion"] == "v1" and (plain := obj.pop("stringData", None)):
        data = dict(obj.get("data") or {})
        data.update({name: base64.b64encode(str(value).encode()).decode() for name, value in plain.items()})
        obj["data"] = data
    if obj["kind"] == "Secret" and obj["apiVersion"] == "v1":
        _check_base64(obj)
    return obj


def _check_base64(secret: Object) -> None:
    """The server's own answer is an error of its own (500), which looks as if it might pass."""
    for name, value in (secret.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (TypeError, ValueError):  # binascii.Error is a ValueError
            raise ModelshipError(
                f"Secret {secret['metadata']['name']} is refused: data.{name} is not base64; give plain text in stringData"
            ) from None


def digest_of(obj: t.Any) -> str:
    """Return ``sha256:…`` of *obj* as JSON with sorted keys."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_bytes(text.encode())


def custom_kinds(objects: t.Iterable[Object]) -> dict[tuple[str, str], bool]:
    """Return what the CustomResourceDefinitions among *objects* add: (apiVersion, kind) -> whether it is namespaced."""
    kinds: dict[tuple[str, str], bool] = {}
    for obj in objects:
        if obj.get("kind") == "CustomResourceDefinition":
            spec = obj.get("spec") or {}
            kind = (spec.get("names") or {}).get("kind", "")
            for version in spec.get("versions") or []:
                if not version.get("served"):
                    continue
                kinds[f"{spec.get('group')}/{version.get('name')}", kind] = spec.get("scope") == "Namespaced"
    return kinds


def wave_of(obj: Object) -> int:
    """Return when *obj* is applied, waves one after the other; it is deleted in the opposite order.

    Namespaces and new kinds, what pods mount or are allowed by, who is allowed (the server reads a role when it is bound),
    what runs, what refers to it (and custom resources), and last the webhooks, which may refuse all others until what
    runs answers them.
    """
    kind = obj["kind"]
    if kind == "Namespace":
        return 0
    if kind == "CustomResourceDefinition":
        return 1
    if kind in _CONFIG:
        return 2
    if kind in _BINDINGS:
        return 3
    if kind in _WORKLOADS:
        return 4
    if kind.endswith(("WebhookConfiguration", "AdmissionPolicyBinding")):
        return 6
    return 5


def waves(objects: t.Iterable[Object], *, backwards: bool = False) -> list[list[Object]]:
    """Return *objects* in groups that can be written at once, in the order of :func:`wave_of`."""
    groups: dict[int, list[Object]] = {}
    for obj in objects:
        groups.setdefault(wave_of(obj), []).append(obj)
    return [groups[number] for number in sorted(groups, reverse=backwards)]
