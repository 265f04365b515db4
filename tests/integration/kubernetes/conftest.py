"""The cluster that the tests of target kubernetes stand on."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api


class Cluster:
    """A real API server, by the kubeconfig that reaches it."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """Make a namespace, yield its name, and delete it with all that is in it."""
        name = f"ms-test-{uuid.uuid4().hex[:8]}"
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        with Api(load_access({"kubeconfig": self.kubeconfig})) as api:
            api.request("POST", "/api/v1/namespaces", body=space)
            try:
                yield name
            finally:
                api.delete(space)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        pytest.skip("KUBECONFIG names no cluster")
    try:
        with Api(load_access({"kubeconfig": kubeconfig})) as api:
            api.request("GET", "/version")
    except ModelshipError as exc:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {exc.message}")
    return Cluster(kubeconfig)
