"""The cluster's programs, built from pinned Go modules once and then taken from the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from . import settings
from .engine import ClusterError, run, say

_VERSION = "k8s.io/component-base/version"


@dataclasses.dataclass(frozen=True)
class Module:
    """A folder of ``go/`` with its own ``go.mod`` and ``go.sum``.

    :param packages: what is built, by the program's name.
    :param variables: string variables of packages that the linker sets.
    """

    name: str
    packages: dict[str, str]
    variables: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """The arguments of ``go build`` that decide what comes out."""
        linker = ["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())]
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(linker)]


_MAJOR, _MINOR = settings.KUBERNETES.removeprefix("v").split(".")[:2]
MODULES = (
    Module(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
            )
        },
        {f"{_VERSION}.gitVersion": settings.KUBERNETES, f"{_VERSION}.gitMajor": _MAJOR, f"{_VERSION}.gitMinor": _MINOR},
    ),
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module("coredns", {"coredns": "."}),
    Module("metrics-server", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}),
    Module("pause", {"pause": "."}),
)  # fmt: skip
#: Bytes that the first build wants for modules, objects and programs.
_ROOM = 9_000_000_000


class Programs:
    """The folders of the built programs, by module. Asking for the names runs no build."""

    def __init__(self) -> None:
        if shutil.which("go") is None:
            raise ClusterError("Go is not installed, so Kubernetes cannot be built: install Go, or set KUBECONFIG")
        environment = {key: value for key, value in os.environ.items() if key not in ("GOFLAGS", "GOWORK")}
        self._environment = environment | {"CGO_ENABLED": "0", "GOWORK": "off"}
        go = run("go", "env", "GOVERSION", "GOOS", "GOARCH", env=self._environment, cwd=settings.HERE).split()
        self.folders = {module.name: self._folder(module, go) for module in MODULES}

    def path(self, name: str) -> Path:
        """Where the program *name* is or will be."""
        return next(self.folders[module.name] / name for module in MODULES if name in module.packages)

    def build(self) -> None:
        """Build what is not in the cache.

        :raises ClusterError: Go failed, or the disk is full.
        """
        missing = [module for module in MODULES if not self.folders[module.name].is_dir()]
        if not missing:
            return
        root = settings.cache() / "programs"
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if free < _ROOM:
            raise ClusterError(
                f"{root} has {free / 1e9:.1f} GB left, the build wants {_ROOM / 1e9:.0f}: free some space"
            )
        for module in missing:
            self._build(module, root)

    def _folder(self, module: Module, go: list[str]) -> Path:
        digest = hashlib.sha256("\0".join([*go, *module.flags, *module.packages.values()]).encode())
        for path in sorted((settings.HERE / "go" / module.name).iterdir()):
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return settings.cache() / "programs" / f"{module.name}-{digest.hexdigest()[:16]}"

    def _build(self, module: Module, root: Path) -> None:
        say(f"building {', '.join(module.packages)} (once; the first time takes minutes)")
        began = time.monotonic()
        source = settings.HERE / "go" / module.name
        with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as folder:
            # A single program is named by us: go would call etcd "server".
            target = f"{folder}/" if len(module.packages) > 1 else f"{folder}/{next(iter(module.packages))}"
            run(
                "go", "build", *module.flags, "-o", target, *module.packages.values(), env=self._environment, cwd=source
            )
            os.chmod(folder, 0o755)
            os.rename(folder, self.folders[module.name])
            # TemporaryDirectory wants to remove something.
            os.mkdir(folder)
        say(f"built {module.name} in {time.monotonic() - began:.0f} s")
