"""What the test cluster is made of: names, versions, ranges, folders."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

KUBERNETES = "v1.34.4"
ETCD = "3.6.5"
COREDNS = "v1.12.4"
METRICS_SERVER = "v0.9.0"
PAUSE = "3.10.1"

SUITE = "bookworm"

#: Ranges that Kubernetes hands out; each node has a part of the pods' of its own.
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"

#: Name of the docker network and beginning of the containers' names; a second cluster on a machine needs another one.
NAME = os.environ.get("MODELSHIP_CLUSTER_NAME") or "modelship-cluster"
#: On all that belongs to the cluster; its value names the inputs that it was made of.
LABEL = "io.modelship.cluster"
REGISTRY_PORT = 5000
#: Folder on each node of the volumes that the cluster provides. The controller manager's provisioner knows no other.
VOLUMES = "/tmp/hostpath_pv"  # noqa: S108


@dataclasses.dataclass(frozen=True)
class Node:
    """One machine of the cluster.

    :param number: from 1; decides the address and the pods' range.
    """

    name: str
    number: int

    @property
    def container(self) -> str:
        """The docker container that is this machine."""
        return f"{NAME}-{self.name}"

    @property
    def pods(self) -> str:
        """The range that this node's pods get their addresses from."""
        return f"10.244.{self.number}.0/24"


CONTROL_PLANE = Node("control-plane", 1)
WORKERS = (Node("worker-1", 2), Node("worker-2", 3))
NODES = (CONTROL_PLANE, *WORKERS)
REGISTRY = f"{NAME}-registry"
VOLUME = f"{NAME}-volumes"


def cache() -> Path:
    """Where the user's cache keeps programs and images of the cluster, named by content. Can be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modelship" / "cluster"


def state() -> Path:
    """Where this checkout keeps the kubeconfig and the facts of the running cluster."""
    return ROOT / ".cache" / NAME.removeprefix("modelship-")


def users_kubeconfig() -> str:
    """``KUBECONFIG`` where it names a cluster of the user's; empty where it is not set, or names this test cluster."""
    given = os.environ.get("KUBECONFIG", "")
    return "" if not given or Path(given).resolve() == (state() / "kubeconfig").resolve() else given
