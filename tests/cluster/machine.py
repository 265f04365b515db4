"""The nodes' operating system: Debian with systemd, containerd and the network plugins, as a docker image."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile

from . import settings
from .engine import ClusterError, docker, play, run, say

PACKAGES = (
    "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "dbus", "docker-registry", "iproute2",
    "iptables", "kmod", "procps", "systemd", "systemd-sysv",
)  # fmt: skip
_OPTIONS = (
    "--variant=minbase",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    # Only the registry's own container is to run it; the rest has nothing to do in a container.
    '--customize-hook=systemctl --root="$1" mask docker-registry.service apt-daily.timer apt-daily-upgrade.timer '
    "dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty.target console-getty.service systemd-logind.service",
)
_CHANGES = ('CMD ["/lib/systemd/systemd"]', "ENV container=docker")


def provide_tools() -> None:
    """Start a Docker Engine and install mmdebstrap where they are missing, with the collection's own role.

    :raises ClusterError: that failed.
    """
    try:
        docker("version")
        if shutil.which("mmdebstrap"):
            return
    except ClusterError:
        say("providing a Docker Engine")
    # The same home as that of `make stand`, so that there is one engine for both.
    play("tools.yml", {"modelship_home": str(settings.ROOT / ".cache" / "stand")})


def machine_image() -> str:
    """Return the name of the image, by content."""
    inputs = "\0".join((settings.SUITE, *PACKAGES, *_OPTIONS, *_CHANGES))
    return f"modelship-cluster-machine:{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"


def make_machine_image() -> None:
    """Make the image unless the Docker Engine has it; its archive stays in the cache for an engine that has lost it.

    :raises ClusterError: the packages cannot be had, or the disk is full.
    """
    image = machine_image()
    if docker("image", "ls", "--quiet", image).strip():
        return
    archive = settings.cache() / "machines" / f"{image.partition(':')[2]}.tar"
    if not archive.exists():
        say("making the nodes' operating system of Debian packages (once)")
        archive.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=archive.parent, prefix=".new-", suffix=".tar")
        os.close(handle)
        try:
            run("mmdebstrap", "--quiet", *_OPTIONS, f"--include={','.join(PACKAGES)}", settings.SUITE, temporary)
            os.rename(temporary, archive)
        except ClusterError:
            os.unlink(temporary)
            raise
    docker("import", *(word for change in _CHANGES for word in ("--change", change)), archive, image)
