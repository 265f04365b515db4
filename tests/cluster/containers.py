"""The docker network, the machines and the registry of the cluster."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import tarfile
from pathlib import Path

from . import settings
from .engine import ClusterError, docker
from .settings import NODES, Node

#: What a container needs that runs systemd as PID 1 and containers of its own, also where the host lacks CAP_SYS_RESOURCE
#: and ``--privileged`` is refused therefore.
MACHINE_OPTIONS = (
    "--stop-signal=SIGRTMIN+3",
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--cgroupns=host",
    "--device=/dev/kmsg",
    # kube-proxy is privileged, and no container may be given more than its machine has.
    "--device-cgroup-rule=a *:* rwm",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--volume=/var",
)


class Network:
    """The cluster's docker network and the fixed addresses in it."""

    def __init__(self, subnet: str) -> None:
        self._hosts = ipaddress.ip_network(subnet)
        self.subnet = subnet
        self.gateway = str(self._hosts[1])
        self.registry = f"{self._hosts[2]}:{settings.REGISTRY_PORT}"

    def address(self, node: Node) -> str:
        """The address of *node*."""
        return str(self._hosts[2 + node.number])

    @classmethod
    def find(cls) -> Network | None:
        """The network if it is there."""
        label = f"--filter=label={settings.LABEL}"
        if settings.NAME not in docker("network", "ls", label, "--format={{.Name}}").splitlines():
            return None
        config = "{{range .IPAM.Config}}{{.Subnet}}{{end}}"
        return cls(docker("network", "inspect", "--format", config, settings.NAME).strip())

    @classmethod
    def make(cls) -> Network:
        """Make the network. Docker chooses the range, so that it is a free one; fixed addresses need it to be a named one."""
        label = f"--label={settings.LABEL}"
        docker("network", "create", label, settings.NAME)
        found = cls.find()
        docker("network", "rm", settings.NAME)
        if found is None:
            raise AssertionError
        docker("network", "create", label, f"--subnet={found.subnet}", settings.NAME)
        return found


def template(name: str, values: dict[str, str]) -> str:
    """Return the file *name* of this folder with each ``@KEY@`` replaced."""
    text = (settings.HERE / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def common_values(network: Network) -> dict[str, str]:
    """What the templates say alike on all nodes."""
    return {
        "REGISTRY": network.registry,
        "PORT": str(settings.REGISTRY_PORT),
        "PODS": settings.PODS,
        "SERVICES": settings.SERVICES,
        "VOLUMES": settings.VOLUMES,
        "NAME": settings.NAME,
        "KUBERNETES": settings.KUBERNETES,
        "ETCD": settings.ETCD,
        "COREDNS": settings.COREDNS,
        "METRICS_SERVER": settings.METRICS_SERVER,
        "PAUSE": settings.PAUSE,
        "CONTROL_PLANE": network.address(settings.CONTROL_PLANE),
    }


def make_registry(network: Network, image: str, key: str) -> None:
    """Run the registry."""
    docker(
        "create", "--name", settings.REGISTRY, "--hostname=registry", f"--label={settings.LABEL}={key}",
        f"--network={settings.NAME}", f"--ip={network.registry.partition(':')[0]}", "--volume=/var/lib/registry",
        "--stop-signal=SIGTERM", image, "docker-registry", "serve", "/etc/registry.yml",
    )  # fmt: skip
    put(settings.REGISTRY, {"etc/registry.yml": template("files/registry.yml.in", common_values(network))})
    docker("start", settings.REGISTRY)


def make_machine(node: Node, network: Network, image: str, programs: Path, key: str) -> None:
    """Run the machine of *node*, with all files in place but those that need the cluster to exist."""
    docker(
        "create", "--name", node.container, f"--hostname={node.name}", f"--label={settings.LABEL}={key}",
        f"--network={settings.NAME}", f"--ip={network.address(node)}", *MACHINE_OPTIONS,
        f"--volume={settings.VOLUME}:{settings.VOLUMES}", f"--volume={programs}:/usr/local/bin:ro", image,
    )  # fmt: skip
    units = ["containerd.service", "kubelet.service", "modelship-network.service"]
    if node == settings.CONTROL_PLANE:
        units.append("modelship-volumes.path")
    wanted = {f"etc/systemd/system/multi-user.target.wants/{unit}": f"../{unit}" for unit in units}
    put(node.container, _files(node, network), wanted)
    docker("start", node.container)


def _files(node: Node, network: Network) -> dict[str, str]:
    routes = [f"ip route replace {other.pods} via {network.address(other)}" for other in NODES if other != node]
    values = {**common_values(network), "OWN_PODS": node.pods, "ROUTES": "\n".join(routes)}
    places = {
        "etc/cni/net.d/10-pods.conflist": "cni.json",
        "etc/containerd/config.toml": "containerd.toml",
        "etc/systemd/system/containerd.service": "containerd.service",
        "etc/systemd/system/kubelet.service": "kubelet.service",
        "etc/systemd/system/modelship-network.service": "network.service",
        "etc/systemd/system/modelship-volumes.path": "volumes.path",
        "etc/systemd/system/modelship-volumes.service": "volumes.service",
        "usr/local/sbin/modelship-kubelet": "kubelet.sh",
        "usr/local/sbin/modelship-network": "network.sh",
    }
    files = {place: template(f"files/{name}", values) for place, name in places.items()}
    # Both: of an image that is missing at the host, the server's own answer is what is told.
    origin = f"http://{network.registry}"
    files[f"etc/containerd/certs.d/{network.registry}/hosts.toml"] = f'server = "{origin}"\n[host."{origin}"]\n'
    files["etc/kubernetes/resolv.conf"] = _resolvers(network)
    return files


def _resolvers(network: Network) -> str:
    """What CoreDNS asks for names outside: the host's servers. Docker's own, at 127.0.0.11, would be the pod itself."""
    lines = Path("/etc/resolv.conf").read_text().splitlines() if Path("/etc/resolv.conf").exists() else []
    servers = [words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and len(words) > 1]
    usable = [server for server in servers if not server.startswith("127.") and server != "::1"]
    # With none at all CoreDNS does not start; from the gateway comes at least a refusal.
    return "".join(f"nameserver {server}\n" for server in usable[:3] or [network.gateway])


def put(container: str, files: dict[str, str], links: dict[str, str] | None = None) -> None:
    """Write text files (path without leading slash) and symbolic links into a container, running or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(text.encode())
            info.mode = 0o755 if text.startswith("#!") else 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
        for path, target in (links or {}).items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    docker("cp", "-", f"{container}:/", data=stream.getvalue())


def containers() -> dict[str, str]:
    """The cluster's containers that there are: what each was made of, by name."""
    names = {settings.REGISTRY, *(node.container for node in NODES)}
    form = '{{.Names}}\t{{.Label "' + settings.LABEL + '"}}'
    lines = docker("ps", "--all", f"--filter=label={settings.LABEL}", f"--format={form}").splitlines()
    found = dict(line.split("\t") for line in lines)
    return {name: key for name, key in found.items() if name in names}


def remove() -> bool:
    """Remove the containers, their volumes and the network; tell whether there was anything."""
    there = list(containers())
    if there:
        known = docker("inspect", "--format={{.Id}} {{.Image}}", *there).split()
        docker("rm", "--force", "--volumes", *there)
        _remove_groups(known[0::2], known[1])
    label = f"--filter=label={settings.LABEL}"
    volume = settings.VOLUME in docker("volume", "ls", label, "--format={{.Name}}").splitlines()
    if volume:
        docker("volume", "rm", settings.VOLUME)
    network = Network.find()
    if network is not None:
        docker("network", "rm", settings.NAME)
    return bool(there or volume or network)


#: In each hierarchy, also those that the host has not mounted (the nodes' systemd had): groups whose path has such a name.
_TIDY = """
for hierarchy in $(cut -d: -f2 /proc/self/cgroup); do
  mount -t cgroup -o "$hierarchy" none /mnt 2>/dev/null || continue
  for id; do find /mnt -depth -type d -path "*$id*" -exec rmdir {} +; done
  umount /mnt
done
"""


def _remove_groups(ids: list[str], image: str) -> None:
    """Remove the cgroups that kubelets made below their containers' and that Docker does not know."""
    # Empty groups do no harm: where the host does not allow this, they stay until it starts anew.
    with contextlib.suppress(ClusterError):
        docker(
            "run", "--rm", "--network=none", "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined", "--cgroupns=host", image, "sh", "-c", _TIDY, "sh", *ids,
        )  # fmt: skip
