"""Bringing the cluster up and down."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import re
import secrets
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import settings
from .containers import Network, common_values, containers, make_machine, make_registry, put, remove, template
from .engine import ClusterError, docker, run, say, until
from .images import Images
from .machine import machine_image, make_machine_image, provide_tools
from .programs import Programs
from .settings import CONTROL_PLANE, NODES, WORKERS, Node

#: On the control plane of a cluster that has once been whole.
_COMPLETE = "etc/kubernetes/complete"
#: kubeadm's checks of what a container cannot have, or shares with the host.
_IGNORED = ("SystemVerification", "Swap", "Mem", "NumCPU", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables")
_MANIFESTS = ("storage.yml", "metrics-server.yml")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one needs to use the cluster; also in ``.cache/cluster/facts.json``.

    :param registry: ``host:port`` of the registry, plain HTTP, the same from this machine and from the nodes.
    :param gateway: this machine's address as the nodes see it.
    :param nodes: ``{"name", "address", "container", "role"}`` of each node.
    :param kubectl: path of the ``kubectl`` of the cluster's version.
    """

    kubeconfig: str
    server: str
    registry: str
    gateway: str
    subnet: str
    kubernetes: str
    kubectl: str
    nodes: list[dict[str, str]]


class Cluster:
    """The test cluster of this checkout's inputs; making the object starts nothing.

    :raises ClusterError: Go is not installed.
    """

    def __init__(self) -> None:
        self.programs = Programs()
        self.images = Images(self.programs)
        inputs = hashlib.sha256(f"{self.images.key}\0{machine_image()}\0{settings.KUBERNETES}".encode())
        places = ("files", "manifests")
        for path in sorted(p for place in places for p in (settings.HERE / place).iterdir()):
            inputs.update(f"\0{path.name}\0".encode() + path.read_bytes())
        for name in ("cluster.py", "containers.py"):
            inputs.update((settings.HERE / name).read_bytes())
        #: Names all that the cluster is made of.
        self.key = inputs.hexdigest()[:16]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return settings.state() / "kubeconfig"

    def kubectl(self, *words: str, data: bytes | None = None, timeout: float = 60) -> str:
        """Run kubectl as the administrator and return its stdout; *timeout* in seconds.

        :raises ClusterError: it failed.
        """
        return run(self.programs.path("kubectl"), f"--kubeconfig={self.kubeconfig}", *words, data=data, timeout=timeout)

    def build(self) -> None:
        """Fill the cache with all that the cluster is made of.

        :raises ClusterError: it cannot be made.
        """
        with _locked():
            provide_tools()
            self._build()

    def up(self) -> bool:
        """Bring the cluster up, or find it up; tell whether anything had to be done.

        :raises ClusterError: it cannot be had.
        """
        with _locked():
            provide_tools()
            there = containers()
            whole = set(there.values()) == {self.key} and len(there) == len(NODES) + 1
            if whole and self._usable():
                say(f"is up; export KUBECONFIG={self.kubeconfig}")
                return False
            began = time.monotonic()
            if not (whole and self._revived()):
                self._make(bool(there))
            say(f"up after {time.monotonic() - began:.0f} s; export KUBECONFIG={self.kubeconfig}")
            return True

    def problems(self) -> list[str]:
        """What keeps the cluster from being usable, in plain words; empty if nothing does. Changes nothing."""
        network = Network.find()
        if network is None:
            return ["there is no cluster"]
        running = docker("ps", f"--filter=label={settings.LABEL}", "--format={{.Names}}").splitlines()
        stopped = {settings.REGISTRY, *(node.container for node in NODES)} - set(running)
        if stopped:
            return [f"{name} does not run" for name in sorted(stopped)]
        if not _answers(network.registry):
            return [f"the registry at {network.registry} does not answer"]
        if not self.kubeconfig.exists():
            return [f"{self.kubeconfig} does not exist"]
        try:
            nodes = json.loads(self.kubectl("get", "nodes", "--output=json", "--request-timeout=5s"))["items"]
            kinds = "deployments,daemonsets"
            system = json.loads(
                self.kubectl("get", kinds, "--namespace=kube-system", "--output=json", "--request-timeout=5s")
            )["items"]
            metrics = self.kubectl("get", "apiservice", "v1beta1.metrics.k8s.io", "--output=json")
        except ClusterError as exc:
            return [f"the API server does not answer: {str(exc).splitlines()[-1]}"]
        ready = {node["metadata"]["name"] for node in nodes if _condition(node, "Ready")}
        found = [f"node {node.name} is not ready" for node in NODES if node.name not in ready]
        names = {item["metadata"]["name"] for item in system if _rolled_out(item)}
        if not _condition(json.loads(metrics), "Available"):
            found.append("the metrics API does not answer")
        return found + [
            f"{name} is not ready" for name in ("coredns", "kube-proxy", "metrics-server") if name not in names
        ]

    def facts(self) -> Facts:
        """The facts of the running cluster.

        :raises ClusterError: there is none.
        """
        network = Network.find()
        if network is None:
            raise ClusterError("there is no cluster: `make cluster` makes it")
        return Facts(
            kubeconfig=str(self.kubeconfig),
            server=f"https://{network.address(CONTROL_PLANE)}:6443",
            registry=network.registry,
            gateway=network.gateway,
            subnet=network.subnet,
            kubernetes=settings.KUBERNETES,
            kubectl=str(self.programs.path("kubectl")),
            nodes=[
                {
                    "name": node.name,
                    "address": network.address(node),
                    "container": node.container,
                    "role": "control-plane" if node == CONTROL_PLANE else "worker",
                }
                for node in NODES
            ],
        )

    # an existing one

    def _usable(self) -> bool:
        """Look at the cluster; where it is well, write down how to use it from here."""
        with contextlib.suppress(ClusterError):
            self._write_down()
            return not self.problems()
        return False

    def _revived(self) -> bool:
        """Start what has stopped, wait, and tell whether that was all that was missing."""
        with contextlib.suppress(ClusterError):
            docker("start", settings.REGISTRY, *(node.container for node in NODES))
            docker("exec", CONTROL_PLANE.container, "test", "-e", f"/{_COMPLETE}")
            say("starting what had stopped")
            until("the recovery of the cluster", 60, self._usable)
            return True
        return False

    def _write_down(self) -> None:
        """Write kubeconfig and facts."""
        config = docker("exec", CONTROL_PLANE.container, "cat", "/etc/kubernetes/admin.conf")
        settings.state().mkdir(parents=True, exist_ok=True)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(config)
        (settings.state() / "facts.json").write_text(json.dumps(dataclasses.asdict(self.facts()), indent=2) + "\n")

    # a new one

    def _build(self) -> None:
        self.programs.build()
        self.images.build()
        make_machine_image()

    def _make(self, there: bool) -> None:
        self._build()
        if there:
            say("what is there is broken, or made of other inputs: making it anew")
        remove()
        network = Network.make()
        docker("volume", "create", f"--label={settings.LABEL}", settings.VOLUME)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            registry = pool.submit(self._make_registry, network)
            machines = [pool.submit(self._make_machine, node, network) for node in NODES]
            for each in (registry, *machines):
                each.result()
            say("machines run, images are in the registry")
            values = {
                **common_values(network),
                "TOKEN": f"{secrets.token_hex(3)}.{secrets.token_hex(8)}",
                "IGNORED": json.dumps(_IGNORED),
            }
            values["CA_HASH"] = self._init(network, values)
            self._write_down()
            joins = [pool.submit(self._join, node, network, values) for node in WORKERS]
            for name in _MANIFESTS:
                self.kubectl("apply", "--server-side", "-f", "-", data=template(f"manifests/{name}", values).encode())
            for each in joins:
                each.result()
        say("all nodes have joined")
        try:
            until("the cluster's readiness", 120, lambda: not self.problems(), 0.5)
        except ClusterError as exc:
            raise ClusterError(f"{exc}: {'; '.join(self.problems())}") from exc
        put(CONTROL_PLANE.container, {_COMPLETE: ""})

    def _make_registry(self, network: Network) -> None:
        make_registry(network, machine_image(), self.key)
        until("the registry's first answer", 30, lambda: _answers(network.registry), 0.05)
        self.images.push(network.registry)

    def _make_machine(self, node: Node, network: Network) -> None:
        make_machine(node, network, machine_image(), self.programs.folders["kubernetes"], self.key)

        def runs() -> bool:
            with contextlib.suppress(ClusterError):
                docker("exec", node.container, "ctr", "version")
                return True
            return False

        until(f"the start of containerd on {node.name}", 60, runs)

    def _init(self, network: Network, values: dict[str, str]) -> str:
        """Make the control plane; return the digest of its certificate authority's key."""
        own = {**values, "NODE": CONTROL_PLANE.name, "ADDRESS": network.address(CONTROL_PLANE)}
        put(
            CONTROL_PLANE.container, {"etc/kubernetes/kubeadm.yml": template("files/kubeadm-control-plane.yml.in", own)}
        )
        told = _kubeadm(CONTROL_PLANE, "init")
        say("the control plane runs")
        found = re.search(r"sha256:[0-9a-f]{64}", told)
        if found is None:
            raise ClusterError("kubeadm init did not say the digest of its certificate authority")
        return found.group(0)

    def _join(self, node: Node, network: Network, values: dict[str, str]) -> None:
        own = {**values, "NODE": node.name, "ADDRESS": network.address(node)}
        put(node.container, {"etc/kubernetes/kubeadm.yml": template("files/kubeadm-node.yml.in", own)})
        _kubeadm(node, "join")


def down() -> bool:
    """Remove the cluster; tell whether there was anything. The cache stays. Needs no Go.

    :raises ClusterError: no Docker Engine answers.
    """
    with _locked():
        shutil.rmtree(settings.state(), ignore_errors=True)
        return remove()


def _kubeadm(node: Node, verb: str) -> str:
    try:
        return docker("exec", node.container, "kubeadm", verb, "--config=/etc/kubernetes/kubeadm.yml", timeout=300)
    except ClusterError as exc:
        raise ClusterError(f"{exc}\nmore: docker exec {node.container} journalctl -u kubelet -u containerd") from exc


def _condition(item: dict[str, Any], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in item["status"].get("conditions") or [])


def _rolled_out(item: dict[str, Any]) -> bool:
    status = item["status"]
    if item["kind"] == "DaemonSet":
        return bool(status.get("numberReady", 0) >= len(NODES))
    return bool(status.get("readyReplicas", 0) >= item["spec"]["replicas"])


def _answers(registry: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One run at a time, also from other checkouts."""
    folder = settings.cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{settings.NAME}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that brings it up or down")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
