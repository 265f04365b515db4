"""The fixture ``cluster`` for tests on a real Kubernetes: the user's own by KUBECONFIG, else the test cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import settings
from .cluster import Cluster, Facts, down
from .engine import ClusterError, run
from .faults import Faults


@dataclasses.dataclass(frozen=True)
class RunningCluster:
    """A cluster to test on.

    :param registry: ``host:port`` of a registry that takes images over plain HTTP and that the nodes pull from under the same
        name; empty where a cluster of the user's has none (``MODELSHIP_CLUSTER_REGISTRY`` names it).
    :param facts: ``None`` for a cluster of the user's.
    """

    kubeconfig: str
    kubectl_path: str
    registry: str
    facts: Facts | None = None
    own: Cluster | None = None

    def kubectl(self, *words: str, data: str | None = None, timeout: float = 60) -> str:
        """Run kubectl and return its stdout; *data* is its stdin, *timeout* in seconds.

        :raises ClusterError: it failed.
        """
        given = None if data is None else data.encode()
        return run(self.kubectl_path, f"--kubeconfig={self.kubeconfig}", *words, data=given, timeout=timeout)

    def get(self, *words: str) -> Any:
        """What ``kubectl get … --output=json`` says."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """Make a namespace, yield its name, and delete it with all that is in it, without waiting."""
        name = f"ms-test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    @property
    def faults(self) -> Faults:
        """Ways to break the cluster; a test that asks for them is skipped on a cluster of the user's."""
        if self.own is None:
            pytest.skip("NOT TESTED: only the test cluster may be broken, and KUBECONFIG names another one")
        return Faults(self.own)

    def require_registry(self) -> str:
        """The registry; a test that asks for it is skipped where there is none."""
        if not self.registry:
            pytest.skip(
                "NOT TESTED: MODELSHIP_CLUSTER_REGISTRY must name a registry that the nodes of KUBECONFIG's use"
            )
        return self.registry


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """A Kubernetes cluster. What was brought up for the tests is taken down after them."""
    if given := settings.users_kubeconfig():
        # kubectl and the clients read several files of one variable; the first one has the current context.
        yield _of_the_user(Path(given.split(os.pathsep)[0]))
        return
    _skip_without_tools()
    own = Cluster()
    brought_up = own.up()
    try:
        facts = own.facts()
        yield RunningCluster(str(own.kubeconfig), facts.kubectl, facts.registry, facts, own)
    finally:
        if brought_up:
            down()


def _of_the_user(kubeconfig: Path) -> RunningCluster:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT TESTED: KUBECONFIG is set, but kubectl is not installed")
    found = RunningCluster(str(kubeconfig), kubectl, os.environ.get("MODELSHIP_CLUSTER_REGISTRY", ""))
    try:
        found.kubectl("get", "--raw=/readyz", "--request-timeout=10s")
    except ClusterError as exc:
        pytest.fail(f"KUBECONFIG={kubeconfig} names a cluster that does not answer: {exc}")
    return found


def _skip_without_tools() -> None:
    if shutil.which("go") is None:
        pytest.skip("NO KUBERNETES: Go is not installed to build one, and KUBECONFIG names none")
    asked = subprocess.run(["docker", "version", "--format={{.Server.Version}}"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"NO KUBERNETES: KUBECONFIG names none, and no Docker Engine runs here: {asked.stderr.strip()}")
