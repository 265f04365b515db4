"""Deploys lists of objects as the module does, without waiting for pods, and looks at what that left."""

from __future__ import annotations

import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.apply import (
    Plan,
    carry_out,
    make_namespace,
    plan,
    prune,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.lease import Lease
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.managed import comparable
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import (
    Revision,
    load_record,
    save_record,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.remove import Removal, remove

Object = dict[str, t.Any]


class CountingApi(Api):
    """Counts requests, and the writes among them; *after_write* is called with each write's number."""

    def __init__(self, kubeconfig: str, after_write: t.Callable[[int], None] | None = None) -> None:
        super().__init__(load_access({"kubeconfig": kubeconfig}))
        self.requests = 0
        self.writes = 0
        self._after_write = after_write

    def _answer(self, request: t.Any, *, patient: bool = True) -> t.Any:
        self.requests += 1
        # the dry run of a deletion is told in its body
        dry = "dryRun=All" in request.path or b'"dryRun"' in request.body[:400]
        answer = super()._answer(request, patient=patient)
        if request.method != "GET" and not dry:
            self.writes += 1
            if self._after_write is not None:
                self._after_write(self.writes)
        return answer


class Deployer:
    """One deployment in a namespace of a real cluster."""

    def __init__(self, api: Api, namespace: str, name: str = "digits") -> None:
        self.api = api
        self.namespace = namespace
        self.name = name

    def plan(self, objects: list[Object], **options: t.Any) -> Plan:
        record = load_record(self.api, self.namespace, self.name)
        return plan(self.api, self.name, objects, record, namespace=self.namespace, **options)

    def deploy(self, objects: list[Object], *, force: bool = False) -> Plan:
        """Do what the module does, and return the first plan."""
        record = load_record(self.api, self.namespace, self.name)
        first = found = self.plan(objects, force=force)
        if found.changed or record.good is None or record.good.objects != found.desired:
            make_namespace(self.api, found)
            with Lease(self.api, self.namespace, self.name) as lease:
                record = load_record(self.api, self.namespace, self.name)
                found = self.plan(objects, force=force, previous=found)
                record = save_record(self.api, self.namespace, self.name, record.with_plan(found))
                carry_out(self.api, found, progress=Progress(), force=force, guard=lease.check)
                prune(self.api, found, Progress(), guard=lease.check)
                revision = Revision(found.desired, "image", "sha256:0", None, 1, "2026-01-01T00:00:00Z")
                save_record(self.api, self.namespace, self.name, record.with_good(revision, found))
        return first

    def remove(self, *, check: bool = False) -> Removal:
        return remove(self.api, self.name, self.namespace, None, Context(check=check))

    def get(self, kind: str, name: str, version: str = "v1") -> Object | None:
        return self.api.get(version, kind, self.namespace, name)

    def state(self, *kinds: tuple[str, str]) -> dict[str, Object]:
        """Everything of *kinds* in the namespace that does not come by itself, without what the server counts."""
        found = {}
        for version, kind in kinds:
            for obj in self.api.list(version, kind, self.namespace)[0]:
                if obj["metadata"]["name"] not in ("default", "kube-root-ca.crt"):
                    found[f"{kind}/{obj['metadata']['name']}"] = {**comparable(obj), "status": None}
        return found


KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("coordination.k8s.io/v1", "Lease"),
)


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def workload(name: str, image: str = "example.invalid/a:1", replicas: int | None = 0, **container: t.Any) -> Object:
    """A Deployment that runs no pod, with values that are not in the server's own form."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [
                {
                    "name": "serve",
                    "image": image,
                    "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                    "env": [{"name": "EMPTY", "value": ""}, {"name": "MODE", "value": "fast"}],
                    "ports": [{"containerPort": 8080}],
                    **container,
                }
            ]
        },
    }
    spec: Object = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
