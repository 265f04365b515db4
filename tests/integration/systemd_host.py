"""A host of its own for the tests of the roles: Debian with systemd and sshd in a container, reached over ssh.

Its packages come from a repository inside the image, so that no test needs a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import settings
from tests.cluster.containers import MACHINE_OPTIONS
from tests.cluster.engine import ClusterError, docker, run

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SUITE = "bookworm"
#: What a minimal server has.
PACKAGES = (
    "ca-certificates", "dbus", "iproute2", "iptables", "kmod", "openssh-server", "procps", "python3", "python3-apt",
    "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
#: What can be installed on it; each group by itself, since some exclude one another.
OFFERED = (
    ("docker.io", "docker-registry", "prometheus", "python3-docker", "python3-venv", "python3-yaml"),
    ("podman", "podman-docker"),
)
_APT = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qy --no-install-recommends --download-only install'
_INDEX = (
    'mkdir -p "$1/srv/packages" && mv "$1"/var/cache/apt/archives/*.deb "$1/srv/packages/" && cd "$1/srv/packages" && '
    'for deb in *.deb; do dpkg-deb -f "$deb"; echo "Filename: ./$deb"; echo "Size: $(stat -c %s "$deb")"; '
    'echo "SHA256: $(sha256sum "$deb" | cut -d" " -f1)"; echo; done >Packages && '
    'rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/apt/sources.list.d/* && '
    'echo "deb [trusted=yes] file:/srv/packages ./" >"$1/etc/apt/sources.list"'
)
_OPTIONS = (
    "--variant=minbase",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    '--customize-hook=systemctl --root="$1" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer '
    "e2scrub_all.timer fstrim.timer getty.target console-getty.service systemd-logind.service",
    '--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb',
    *(f"--customize-hook={_APT} {' '.join(group)}" for group in OFFERED),
    f"--customize-hook={_INDEX}",
)
_CHANGES = ('CMD ["/lib/systemd/systemd"]', "ENV container=docker")
_RECAP = re.compile(r"(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=(\d+)")


def host_image() -> str:
    """Name of the image; made unless the Docker Engine has it, from an archive in the user's cache directory.

    :raises ClusterError: no Docker Engine, no mmdebstrap, or no packages.
    """
    inputs = "\0".join((SUITE, *PACKAGES, *_OPTIONS, *_CHANGES))
    image = f"modelship-systemd-host:{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    if docker("image", "ls", "--quiet", image).strip():
        return image
    archive = settings.cache() / "machines" / f"{image.replace(':', '-')}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=archive.parent, prefix=".new-", suffix=".tar")
        os.close(handle)
        try:
            run("mmdebstrap", "--quiet", *_OPTIONS, f"--include={','.join(PACKAGES)}", SUITE, temporary)
            os.rename(temporary, archive)
        except BaseException:
            os.unlink(temporary)
            raise
    docker("import", *(word for change in _CHANGES for word in ("--change", change)), archive, image)
    return image


@dataclasses.dataclass(frozen=True)
class Run:
    """Result of one ansible-playbook run: whether it succeeded, the number of changed tasks per host, its output."""

    ok: bool
    changes: dict[str, int]
    text: str

    @property
    def changed(self) -> int:
        """Changed tasks on all hosts."""
        return sum(self.changes.values())


class SystemdHost:
    """One such host. The user ``ops`` may use sudo without a password."""

    def __init__(self, directory: Path, image: str) -> None:
        self.directory = directory
        self.name = f"ms-host-{uuid.uuid4().hex[:8]}"
        self.key = directory / "key"
        if not self.key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        docker("run", "--detach", "--name", self.name, f"--hostname={self.name}", *MACHINE_OPTIONS, image)
        try:
            self._prepare()
        except BaseException:
            self.remove()
            raise

    def _prepare(self) -> None:
        public = self.key.with_suffix(".pub").read_text().strip()
        self.shell(
            "useradd --create-home --shell /bin/bash ops && echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops && "
            f"install -d -o ops -m 700 ~ops/.ssh && echo '{public}' >~ops/.ssh/authorized_keys && "
            "apt-get -qq update"
        )
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self.address = docker("inspect", "--format", form, self.name).strip()
        deadline = time.monotonic() + 60
        while not re.search("running|degraded", self.shell("systemctl is-system-running || true")):
            if time.monotonic() > deadline:
                raise ClusterError(f"systemd in {self.name} did not start within 60 s")
            time.sleep(0.2)

    def shell(self, command: str) -> str:
        """Run a command as root on the host and return its output.

        :raises ClusterError: it failed.
        """
        return docker("exec", self.name, "bash", "-c", command)

    def active(self, unit: str) -> bool:
        """Whether a systemd unit is active."""
        return self.shell(f"systemctl is-active {unit} || true").strip() == "active"

    def exists(self, path: str) -> bool:
        """Whether a path exists on the host."""
        return self.shell(f"test -e {path} && echo yes || true").strip() == "yes"

    def pid(self, unit: str) -> str:
        """Main process of a systemd unit; ``0`` for none."""
        return self.shell(f"systemctl show --property=MainPID --value {unit}").strip()

    def write(self, path: str, data: bytes) -> None:
        """Write a file on the host."""
        docker("exec", "--interactive", self.name, "bash", "-c", f"mkdir -p $(dirname {path}); cat >{path}", data=data)

    def reboot(self) -> None:
        """Restart the host; what is in ``/run`` and ``/tmp`` is lost, as in a reboot."""
        docker("restart", self.name)
        deadline = time.monotonic() + 60
        while not re.search("running|degraded", self.shell("systemctl is-system-running || true")):
            if time.monotonic() > deadline:
                raise ClusterError(f"systemd in {self.name} did not start again within 60 s")
            time.sleep(0.2)

    def remove(self) -> None:
        """Remove the host."""
        docker("rm", "--force", "--volumes", self.name)

    @property
    def variables(self) -> dict[str, t.Any]:
        """Connection variables for an inventory."""
        return {
            "ansible_host": self.address,
            "ansible_user": "ops",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlMaster=no",
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def role(self, *roles: str, tasks_from: str = "main", **options: t.Any) -> Run:
        """Run roles of the collection on this host alone; see :func:`play`."""
        tasks = [
            {"ansible.builtin.import_role": {"name": f"modelship.core.{role}", "tasks_from": tasks_from}}
            for role in roles
        ]
        book = self.directory / "roles.yml"
        book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return play(self.directory, book, {"all": {"hosts": {self.name: self.variables}}}, **options)


def play(
    directory: Path,
    book: Path | str,
    inventory: dict[str, t.Any],
    *,
    check: bool = False,
    become: bool = True,
    tags: str = "",
    **variables: t.Any,
) -> Run:
    """Run a playbook (a path, or a name like ``modelship.core.site``) of this checkout on *inventory*."""
    hosts, values = directory / "hosts.yml", directory / "variables.json"
    hosts.write_text(yaml.safe_dump(inventory))
    values.write_text(json.dumps(variables))
    command = [str(BIN / "ansible-playbook"), "-i", str(hosts), "-e", f"@{values}", "--diff", str(book)]
    command += (["--check"] if check else []) + (["--become"] if become else []) + (["--tags", tags] if tags else [])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = kept | {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory, check=False)
    text = done.stdout + done.stderr
    changes = {name: int(changed) for name, changed, _failed in _RECAP.findall(text)}
    return Run(done.returncode == 0, changes, text)


@pytest.fixture(scope="session")
def systemd_image(docker_engine: str) -> str:
    """The hosts' image; without mmdebstrap or its packages the tests are skipped."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("NOT TESTED, no ssh client is installed here")
    try:
        return host_image()
    except ClusterError as exc:
        pytest.skip(f"NOT TESTED, there is no image of a host with systemd: {exc}")


@pytest.fixture
def systemd_host(systemd_image: str, tmp_path: Path) -> Iterator[SystemdHost]:
    """A fresh host with systemd."""
    made = SystemdHost(tmp_path, systemd_image)
    yield made
    made.remove()
