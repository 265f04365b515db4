"""A pod's own service account as the way into the cluster: the collection's client, run inside of one."""

from __future__ import annotations

import base64
import io
import json
import time
import typing as t
import zipfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api

from .serving import ROOT, Serving

pytestmark = pytest.mark.integration

#: Ansible is not in the image, so what is tested is the client below the module; it needs only Python.
_SCRIPT = """
import json, sys
sys.path.insert(0, "/code/utils.zip")
from utils._core.errors import ModelshipError
from utils._kubernetes.access import load_access
from utils._kubernetes.client import Api
access = load_access({})
with Api(access) as api:
    made = api.apply({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
                      "metadata": {"name": "made-inside", "namespace": access.namespace}})
    try:
        api.list("v1", "Secret", access.namespace)
        refused = ""
    except ModelshipError as exc:
        refused = exc.message
print(json.dumps({"namespace": access.namespace, "source": access.source, "made": made["data"], "refused": refused}))
"""


def _utils() -> str:
    """The collection's module_utils as one importable archive, in base64."""
    packed = io.BytesIO()
    folder = ROOT / "plugins" / "module_utils"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("utils/__init__.py", "")
        for part in ("_core", "_http", "_kubernetes", "_deployment"):
            for path in sorted((folder / part).glob("*.py")):
                archive.write(path, f"utils/{Path(part) / path.name}")
    return base64.b64encode(packed.getvalue()).decode()


def _pod(image: str) -> dict[str, t.Any]:
    return {
        "serviceAccountName": "deployer",
        "restartPolicy": "Never",
        "volumes": [{"name": "code", "configMap": {"name": "code"}}],
        "containers": [
            {
                "name": "run",
                "image": image,
                "command": ["python3", "-c", _SCRIPT],
                "volumeMounts": [{"name": "code", "mountPath": "/code"}],
            }
        ],
    }


def test_a_pod_reaches_its_cluster_by_its_service_account(cluster: t.Any, serving: Serving) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"}
    objects: list[tuple[str, str, str, dict[str, t.Any]]] = [
        ("v1", "ServiceAccount", "deployer", {}),
        ("rbac.authorization.k8s.io/v1", "Role", "deployer", {"rules": rules}),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            "deployer",
            {"roleRef": role, "subjects": [{"kind": "ServiceAccount", "name": "deployer"}]},
        ),
        ("v1", "ConfigMap", "code", {"binaryData": {"utils.zip": _utils()}}),
        ("v1", "Pod", "run", {"spec": _pod(serving.first.image)}),
    ]
    with cluster.namespace() as namespace, Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as api:
        for version, kind, name, body in objects:
            metadata = {"name": name, "namespace": namespace}
            api.request("POST", api.path(version, kind, namespace), body={"metadata": metadata, **body})
        phase = ""
        deadline = time.monotonic() + 60
        while phase not in ("Succeeded", "Failed") and time.monotonic() < deadline:
            time.sleep(0.2)
            phase = ((api.get("v1", "Pod", namespace, "run") or {}).get("status") or {}).get("phase", "")
        told = api.text(f"/api/v1/namespaces/{namespace}/pods/run/log")
        assert phase == "Succeeded", told
        made = api.get("v1", "ConfigMap", namespace, "made-inside")
    found = json.loads(told.splitlines()[-1])
    assert found["namespace"] == namespace
    assert "service account" in found["source"]
    assert found["made"] == {"a": "1"}
    assert "secrets" in found["refused"]
    assert f"system:serviceaccount:{namespace}:deployer" in found["refused"]
    assert made is not None
    assert [entry["manager"] for entry in made["metadata"]["managedFields"]] == ["modelship"]
