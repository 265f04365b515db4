"""One deployment under test: declared as users do, run as a module or by ansible-playbook, looked at from outside."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.options import CONNECTION_OPTIONS
from ansible_collections.modelship.core.plugins.modules.deployment import deploy
from ansible_collections.modelship.core.plugins.modules.deployment_info import examine

from .serving import BIN, Built

Object = dict[str, t.Any]
NAME = "digits"

#: What a deployment can be made of, and the API server's other kinds that a run could leave something in.
KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "LimitRange"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    ("coordination.k8s.io/v1", "Lease"),
)
#: These come with every namespace.
_BY_ITSELF = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


@dataclasses.dataclass(frozen=True)
class Ran:
    """The end of one ansible-playbook run of one task: what it printed, and what the task returned."""

    output: str
    result: dict[str, t.Any]

    @property
    def text(self) -> str:
        """All that anybody gets to see of the run."""
        return self.output + json.dumps(self.result)


class Declared:
    """A deployment with its declaration, which :meth:`declare` changes for good.

    :param folder: for playbooks.
    :param collections: where the collection is installed.
    """

    def __init__(
        self, api: Api, kubeconfig: str, namespace: str, built: Built, folder: Path, collections: Path
    ) -> None:
        self.api = api
        self.namespace = namespace
        self._folder = folder
        self._collections = collections
        self.options: dict[str, t.Any] = {
            "name": NAME,
            "target": "kubernetes",
            "kubeconfig": kubeconfig,
            "namespace": namespace,
            "image": built.image,
            "replicas": 2,
            "drain_seconds": 2,
            "limits": {"memory": "256m", "cpus": 0.5},
            "health": {"start_deadline": 60, "interval": 1},
            "verify": {"release": built.path},
            "kubernetes": {"rollout": {"deadline": 90, "pre_stop_seconds": 3}},
        }

    def declare(self, **changes: t.Any) -> Declared:
        """Change the declaration; dicts are merged, ``None`` takes an option away."""
        self.options = _merged(self.options, changes)
        return self

    def run(self, *, check: bool = False, **changes: t.Any) -> Outcome:
        """Call the logic of the module ``deployment`` for the declaration with *changes*, which are not kept."""
        return deploy(self._parameters(changes), Context(check=check))

    def info(self, **changes: t.Any) -> dict[str, t.Any]:
        """Call the logic of the module ``deployment_info`` for the declaration with *changes*."""
        found = examine(self._parameters(changes), Context())
        assert not found.changed
        return t.cast("dict[str, t.Any]", found.result["deployment"])

    def play(self, *options: str, module: str = "deployment", **changes: t.Any) -> Ran:
        """Run one task of *module* with ansible-playbook *options*; the task may fail."""
        returned = self._folder / "returned.json"
        returned.unlink(missing_ok=True)
        tasks = [
            {
                "name": "Deploy",
                f"modelship.core.{module}": _merged(self.options, changes),
                "register": "done",
                "ignore_errors": True,
            },
            {
                "name": "Tell",
                "ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(returned), "mode": "0600"},
                "check_mode": False,
                "diff": False,
                "no_log": True,
            },
        ]
        book = self._folder / "book.yml"
        book.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        done = subprocess.run(
            [
                *(str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local"),
                *("-e", json.dumps({"ansible_python_interpreter": sys.executable}), *options, str(book)),
            ],
            capture_output=True,
            text=True,
            env={**kept, "ANSIBLE_COLLECTIONS_PATH": str(self._collections), "ANSIBLE_NOCOLOR": "1"},
            cwd="/",
        )
        output = done.stdout + done.stderr
        assert returned.exists(), output
        return Ran(output, json.loads(returned.read_text()))

    def get(self, version: str, kind: str, name: str = NAME) -> Object | None:
        """One live object of the namespace."""
        return self.api.get(version, kind, self.namespace, name)

    def pods(self) -> list[Object]:
        """The deployment's pods that are not on their way out, oldest first."""
        found, _version = self.api.list("v1", "Pod", self.namespace, labels=f"modelship.io/deployment={NAME}")
        owned = [pod for pod in found if pod["metadata"].get("ownerReferences")]
        staying = [pod for pod in owned if not pod["metadata"].get("deletionTimestamp")]
        return sorted(staying, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def objects(self, kinds: t.Iterable[tuple[str, str]] = KINDS) -> dict[str, Object]:
        """Everything of *kinds* in the namespace but what comes with it, by ``Kind/name``."""
        found: dict[str, Object] = {}
        for version, kind in kinds:
            for obj in self.api.list(version, kind, self.namespace)[0]:
                found[f"{kind}/{obj['metadata']['name']}"] = obj
        return {name: obj for name, obj in found.items() if name not in _BY_ITSELF}

    def patch(self, version: str, kind: str, body: t.Any, manager: str, *, name: str = NAME, sub: str = "") -> None:
        """Change an object as another program would."""
        path = self.api.path(version, kind, self.namespace, name) + sub
        self.api.request(
            "PATCH",
            path,
            query={"fieldManager": manager},
            body=body,
            content_type="application/strategic-merge-patch+json",
        )

    def wait(self, until: t.Callable[[], bool]) -> None:
        """Wait until something is so; fail if it never is."""
        deadline = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline, "it did not come to that within a minute"
            time.sleep(0.2)

    def addresses(self) -> list[tuple[str, int]]:
        """Address and node port of the Service on each worker node."""
        service = self.get("v1", "Service")
        assert service is not None
        port = service["spec"]["ports"][0]["nodePort"]
        nodes = self.api.list("v1", "Node", None)[0]
        return [
            (item["address"], port)
            for node in nodes
            for item in node["status"]["addresses"]
            if item["type"] == "InternalIP"
        ]

    def _parameters(self, changes: dict[str, t.Any]) -> dict[str, t.Any]:
        checked = ArgumentSpecValidator({**OPTIONS, **DOCKER_OPTIONS, **CONNECTION_OPTIONS}).validate(
            _merged(self.options, changes)
        )
        assert not checked.error_messages, checked.error_messages
        return dict(checked.validated_parameters)


#: Kinds whose status controllers write all the time.
_REPORTED = frozenset(("Deployment", "HorizontalPodAutoscaler", "Pod", "PodDisruptionBudget", "ReplicaSet"))


def versions(objects: dict[str, Object]) -> dict[str, str]:
    """What changes with any write: the resourceVersion; of what controllers report into, all but status and managers.

    What is being deleted is left out: it may be gone at any moment.
    """
    found = {}
    for name, obj in objects.items():
        if "deletionTimestamp" in obj["metadata"]:
            continue
        if name.partition("/")[0] in _REPORTED:
            metadata = {**obj["metadata"], "resourceVersion": None, "managedFields": None}
            found[name] = json.dumps({**obj, "metadata": metadata, "status": None}, sort_keys=True)
        else:
            found[name] = obj["metadata"]["resourceVersion"]
    return found


def appears_in(secret: str, text: str) -> bool:
    """Tell whether *secret* can be read in *text*, plainly or in base64."""
    return secret in text or base64.b64encode(secret.encode()).decode().rstrip("=") in text


def _merged(one: dict[str, t.Any], other: dict[str, t.Any]) -> dict[str, t.Any]:
    result = copy.deepcopy(one)
    for name, value in other.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = _merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
