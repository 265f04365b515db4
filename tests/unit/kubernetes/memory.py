"""As much of an API server as plans and rollouts ask for, in memory, with refusals as a test wants them."""

from __future__ import annotations

import copy
import itertools
import threading
import types
import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.discovery import Resource, built_in
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import (
    MANAGER,
    Key,
    Object,
    custom_kinds,
    key_of,
    labels_of,
)

NAMESPACE = "shop"
DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def refused(status: int, message: str, field: str = "") -> ApiError:
    """What the server answers; with *field* as validation does."""
    causes = [{"reason": "FieldValueInvalid", "field": field, "message": message}] if field else []
    return ApiError(message, status=status, causes=causes)


class Memory:
    """Objects that are applied, read and deleted; what is applied last is what is there, and it is ready at once.

    :param refuse: called with what is asked (``get``, ``list``, ``try``, ``apply``, ``delete``), kind and object (of a
        list: ``{}``); returns the refusal, or ``None``.
    """

    access = types.SimpleNamespace(server="https://api.test", name="the test server", namespace=NAMESPACE)

    def __init__(self, refuse: t.Callable[[str, str, Object], ApiError | None] = lambda *_asked: None) -> None:
        self.refuse = refuse
        self.objects: dict[Key, Object] = {}
        self.asked: list[tuple[str, str, str]] = []
        self._count = itertools.count(1)

    def written(self, *deeds: str) -> list[str]:
        """What was applied or deleted, in its order, as ``Kind name``."""
        return [f"{kind} {name}" for deed, kind, name in self.asked if deed in (deeds or ("apply", "delete"))]

    def add(self, obj: Object, **metadata: t.Any) -> Object:
        """Have *obj* there, as somebody else's."""
        made = copy.deepcopy(obj)
        made["metadata"] = {**self._metadata(), **made["metadata"], **metadata}
        if self.resource(obj["apiVersion"], obj["kind"]).namespaced:
            made["metadata"].setdefault("namespace", NAMESPACE)
        made.setdefault("status", _status(made))
        self.objects[key_of(made)] = made
        return made

    def resource(self, version: str, kind: str) -> Resource:
        known = built_in(version, kind)
        customs = custom_kinds(self.objects.values())
        if (version, kind) == DEFINITION:
            return Resource(version, kind, "customresourcedefinitions", False)
        if known is None and (version, kind) in customs:
            known = Resource(version, kind, f"{kind.lower()}s", customs[version, kind])
        if known is None:
            raise ModelshipError(f"the test server does not serve {kind} of {version}", kind="kubernetes")
        return known

    def serves(self, version: str, kind: str) -> bool:
        try:
            self.resource(version, kind)
        except ModelshipError:
            return False
        return True

    def get(self, version: str, kind: str, namespace: str | None, name: str) -> Object | None:
        key = Key(version.rpartition("/")[0], kind, namespace or "", name)
        found = self.objects.get(key)
        self._ask("get", kind, found or {"metadata": {"name": name}})
        return copy.deepcopy(found)

    def list(
        self, version: str, kind: str, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        self._ask("list", kind, {})
        wanted = dict(part.split("=") for part in labels.split(",") if part)
        name = fields.partition("metadata.name=")[2]
        found = [
            copy.deepcopy(obj)
            for key, obj in self.objects.items()
            if key[:2] == (version.rpartition("/")[0], kind)
            and namespace in (None, key.namespace)
            and name in ("", key.name)
            and wanted.items() <= labels_of(obj).items()
        ]
        return found, "1"

    def apply(self, obj: Object, *, force: bool = False, dry_run: bool = False) -> Object:  # noqa: ARG002 - as Api
        self._ask("try" if dry_run else "apply", obj["kind"], obj)
        key = key_of(obj)
        live = self.objects.get(key)
        made = copy.deepcopy(obj)
        if ((live or {}).get("spec") or {}).get("paused"):  # another manager's field, as a real server merges it
            made["spec"].setdefault("paused", True)
        entry = {"manager": MANAGER, "operation": "Apply", "apiVersion": obj["apiVersion"], "fieldsV1": _fields(obj)}
        own = live["metadata"] if live else self._metadata()
        own = {name: own[name] for name in ("uid", "resourceVersion")}
        made["metadata"] = {**made["metadata"], **own, "managedFields": [entry]}
        made["status"] = _status(made)
        if dry_run or made == live:
            return made
        made["metadata"]["resourceVersion"] = str(next(self._count))
        self.objects[key] = made
        return copy.deepcopy(made)

    def delete(self, obj: Object, *, propagation: str = "", dry_run: bool = False) -> bool:  # noqa: ARG002 - as Api
        if not dry_run:
            self._ask("delete", obj["kind"], obj)
            return self.objects.pop(key_of(obj), None) is not None
        return key_of(obj) in self.objects

    def request(self, method: str, path: str, **_options: t.Any) -> t.Any:
        """Discovery: the core kinds alone."""
        assert method == "GET", path
        if path == "/apis":
            return {"groups": []}
        kinds = {"ConfigMap": "configmaps", "Secret": "secrets", "Pod": "pods"}
        return {"resources": [{"kind": k, "name": n, "namespaced": True, "verbs": ["list"]} for k, n in kinds.items()]}

    def watch(self, *_path: str | None, stop: threading.Event, **_selectors: str) -> t.Iterator[tuple[str, Object]]:
        stop.wait(10)
        yield from ()

    def each(self, function: t.Callable[[t.Any], t.Any], items: t.Sequence[t.Any]) -> list[t.Any]:
        def one(item: t.Any) -> t.Any:
            try:
                return function(item)
            except ModelshipError as exc:
                return exc

        return [one(item) for item in items]

    def _ask(self, what: str, kind: str, obj: Object) -> None:
        self.asked.append((what, kind, (obj.get("metadata") or {}).get("name", "")))
        if (error := self.refuse(what, kind, obj)) is not None:
            raise error

    def _metadata(self) -> Object:
        return {"uid": f"uid-{next(self._count)}", "resourceVersion": str(next(self._count))}


def _fields(value: t.Any) -> Object:
    """Who applied *value* manages all of it."""
    return {f"f:{name}": _fields(item) for name, item in value.items()} if isinstance(value, dict) else {}


def _status(obj: Object) -> Object:
    if obj["kind"] == "Namespace":
        return {"phase": "Active"}
    if obj["kind"] == "PersistentVolumeClaim":
        return {"phase": "Bound"}
    if obj["kind"] == "CustomResourceDefinition":
        return {"conditions": [{"type": "Established", "status": "True"}]}
    if obj["kind"] != "Deployment":
        return {}
    count = obj["spec"].get("replicas", 1)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
    conditions = [{"type": kind, "status": "True"} for kind in ("Available", "Progressing")]
    return {"observedGeneration": 1, "conditions": conditions, **counts}


def namespace(name: str = NAMESPACE) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def workload(image: str = "digits:1", replicas: int = 1) -> Object:
    template = {"spec": {"containers": [{"name": "serving", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "digits"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "digits"}, "spec": spec}


def definition(*properties: str, served: bool = True) -> Object:
    """The kind Widget, whose spec has *properties*."""
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    version = {"name": "v1", "served": served, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Widget", "plural": "widgets"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": DEFINITION[0],
        "kind": DEFINITION[1],
        "metadata": {"name": "widgets.example.com"},
        "spec": spec,
    }


def widget(**spec: str) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}
