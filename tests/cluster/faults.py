"""What goes wrong in a cluster, made to happen on the test cluster and taken back."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

from .cluster import Cluster
from .engine import ClusterError, docker, until
from .settings import CONTROL_PLANE, NODES

_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_ASIDE = "/etc/kubernetes/kube-apiserver.yaml"
#: Ends every process of a name, again where the kubelet was quicker; done when there has been none for a second.
_KILL = """
quiet=0
while [ $quiet -lt 5 ]; do
  if pids=$(pidof "$1"); then kill -KILL $pids; quiet=0; else quiet=$((quiet + 1)); fi
  sleep 0.2
done
"""
#: Moves the manifest "$1" to "$2" with a mark by which it is another pod.
_RETURN = r"""
sed -i -e '/^    started-anew:/d' -e "s/^  annotations:$/&\n    started-anew: '$(date +%s%N)'/" "$1" && mv "$1" "$2"
"""
_IS_SLOW = "/run/etcd-is-slow"
_SLOW = f"""
while [ -e {_IS_SLOW} ]; do
  kill -STOP $(pidof etcd); sleep "$1"; kill -CONT $(pidof etcd); sleep "$2"
done
"""


class Faults:
    """Faults of *cluster*; each ends with its ``with`` block, also when the block fails.

    All raise :class:`ClusterError` where the cluster does not recover.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @contextlib.contextmanager
    def api_server_stopped(self) -> Iterator[None]:
        """Nothing listens on the API server's port: connections are refused, running ones are cut."""
        self.stop_api_server()
        try:
            yield
        finally:
            self.start_api_server()

    def stop_api_server(self) -> None:
        """Kill the API server, and keep the kubelet from starting it again."""
        _on_control_plane("mv", _MANIFEST, _ASIDE)
        _on_control_plane("sh", "-c", _KILL, "sh", "kube-apiserver")

    def start_api_server(self) -> None:
        """Let the kubelet start the API server again, and wait until it is ready."""
        # Another pod to the kubelet: the same one it would start only after a pause, as one that crashed.
        _on_control_plane("sh", "-c", _RETURN, "sh", _ASIDE, _MANIFEST)
        until("the API server's readiness", 120, self._api_is_ready)

    @contextlib.contextmanager
    def api_server_hanging(self) -> Iterator[None]:
        """The API server takes connections and answers nothing. After about 80 s the kubelet would start it anew."""
        with self._frozen("kube-apiserver"):
            yield
        until("the API server's readiness", 120, self._api_is_ready)

    @contextlib.contextmanager
    def etcd_hanging(self) -> Iterator[None]:
        """etcd stands still: reads may come from caches, writes end after the API server's time limit, some 30 s."""
        with self._frozen("etcd"):
            yield
        until("the API server's readiness", 120, self._api_is_ready)

    @contextlib.contextmanager
    def etcd_slow(self, still: float = 0.4, running: float = 0.1) -> Iterator[None]:
        """etcd alternates between standing *still* and *running*, for so many seconds each."""
        _on_control_plane("touch", _IS_SLOW)
        command = ["docker", "exec", CONTROL_PLANE.container, "sh", "-c", _SLOW, "sh", str(still), str(running)]
        with subprocess.Popen(command) as process:
            try:
                yield
            finally:
                _on_control_plane("rm", _IS_SLOW)
                process.wait(30)
            until("the API server's readiness", 120, self._api_is_ready)

    @contextlib.contextmanager
    def node_lost(self, name: str) -> Iterator[None]:
        """The machine *name* loses power; it gets it back at the end, with its disk as it was.

        The cluster calls it not ready after 30 s and moves its pods 10 s later.
        """
        container = _container(name)
        docker("kill", container)
        try:
            yield
        finally:
            docker("start", container)
            until(f"the recovery of {name}", 120, lambda: self._node_is_ready(name) and not self._cluster.problems())

    @contextlib.contextmanager
    def _frozen(self, program: str) -> Iterator[None]:
        _on_control_plane("sh", "-c", f"kill -STOP $(pidof {program})")
        try:
            yield
        finally:
            _on_control_plane("sh", "-c", f"kill -CONT $(pidof {program})")

    def _api_is_ready(self) -> bool:
        with contextlib.suppress(ClusterError):
            return self._cluster.kubectl("get", "--raw=/readyz", "--request-timeout=5s") == "ok"
        return False

    def _node_is_ready(self, name: str) -> bool:
        with contextlib.suppress(ClusterError):
            node = json.loads(self._cluster.kubectl("get", "node", name, "--output=json", "--request-timeout=5s"))
            lease = json.loads(
                self._cluster.kubectl("get", "lease", name, "--namespace=kube-node-lease", "--output=json")
            )
            conditions = {each["type"]: each for each in node["status"]["conditions"]}
            # Just after the start the condition may still be the one from before the loss.
            boot = docker("exec", _container(name), "stat", "--format=%y", "/run/containerd").split(".")[0]
            renewed = lease["spec"]["renewTime"].replace("T", " ").split(".")[0]
            return bool(conditions["Ready"]["status"] == "True" and renewed >= boot)
        return False


def _container(name: str) -> str:
    return next(node.container for node in NODES if node.name == name)


def _on_control_plane(*words: str) -> None:
    docker("exec", CONTROL_PLANE.container, *words)
