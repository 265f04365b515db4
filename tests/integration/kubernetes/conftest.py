"""The cluster that the tests of target kubernetes stand on."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api

from . import serving as images


class Cluster:
    """A real API server, by the kubeconfig that reaches it."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig

    @property
    def registry(self) -> str:
        """The registry that the nodes pull from, plain HTTP; empty where it is not known."""
        facts = Path(self.kubeconfig).with_name("facts.json")
        return str(json.loads(facts.read_text())["registry"]) if facts.exists() else ""

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


@pytest.fixture(scope="session")
def serving(
    cluster: Cluster, installed: Path, trainer_python: str, tmp_path_factory: pytest.TempPathFactory
) -> images.Serving:
    """Two images that the cluster can pull, each with a release of its own."""
    if not cluster.registry:
        pytest.skip("NO REGISTRY that the cluster's nodes pull from is known")
    folder = tmp_path_factory.mktemp("serving")
    releases = images.write_releases(folder, trainer_python)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelship" / "cluster" / "oci"
    references = images.publish(folder, [path for path, _answers in releases], cluster.registry, installed, cache)
    return images.Serving(
        *(
            images.Built(reference, f"sha256:{path.name}", str(path), answers)
            for reference, (path, answers) in zip(references, releases, strict=True)
        )
    )
