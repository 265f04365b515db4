"""What the integration tests stand on: a Docker Engine, and ansible-playbook on the installed collection."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.fixture import cluster

__all__ = ["cluster", "docker_engine", "installed", "trainer_python"]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclasses.dataclass(frozen=True)
class Play:
    """The end of one ansible-playbook run."""

    rc: int
    output: str

    @property
    def recap(self) -> dict[str, int]:
        """``{"ok": 12, "changed": 0, …}`` of the only host."""
        line = self.output.rsplit("PLAY RECAP", 1)[-1]
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


class Playbooks:
    """Runs playbooks of the collection in an environment of their own: variables, free ports, a temporary home."""

    def __init__(self, collections: Path, variables: dict[str, object], inventory: str = "local") -> None:
        self.collections = collections
        self.variables = variables
        self.inventory = inventory

    def run(self, playbook: str, *options: str, **variables: object) -> Play:
        """Run ``ansible-playbook modelship.core.<playbook>`` on this machine; *variables* override the environment's."""
        finished = subprocess.run(
            self.command(playbook, *options, **variables), capture_output=True, text=True, env=self.environment, cwd="/"
        )
        return Play(finished.returncode, finished.stdout + finished.stderr)

    def command(self, playbook: str, *options: str, **variables: object) -> list[str]:
        """The command line that :meth:`run` runs."""
        return [
            str(BIN / "ansible-playbook"),
            f"modelship.core.{playbook}",
            *("-i", str(self.collections / "ansible_collections/modelship/core/inventories" / self.inventory)),
            *("-e", json.dumps({**self.variables, **variables})),
            *options,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user who has only installed the collection."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return kept | {"ANSIBLE_COLLECTIONS_PATH": str(self.collections), "ANSIBLE_NOCOLOR": "1"}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection built and installed into an empty folder, as a user gets it from Galaxy."""
    folder = tmp_path_factory.mktemp("galaxy")
    galaxy = str(BIN / "ansible-galaxy")
    subprocess.run(
        [galaxy, "collection", "build", "--output-path", str(folder), str(ROOT)], check=True, capture_output=True
    )
    archive = next(folder.glob("modelship-core-*.tar.gz"))
    target = folder / "collections"
    # forced: the checkout's own configuration would make it count as installed already
    subprocess.run(
        [galaxy, "collection", "install", "--force", str(archive), "-p", str(target)], check=True, capture_output=True
    )
    return target


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """A Docker Engine: the one that runs here, or the one that ``make stand`` started with the role ``docker``."""
    asked = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    if asked.returncode != 0:
        pytest.skip(f"NOT TESTED, no Docker Engine runs here: {asked.stderr.strip()}")
    return asked.stdout.strip()


@pytest.fixture(scope="session")
def trainer_python() -> str:
    """The trainer's interpreter, which ``make test`` makes with the role ``trainer``."""
    python = os.environ.get("MODELSHIP_TRAINER_PYTHON", "")
    if not python or not shutil.which(python):
        pytest.skip("NO TRAINER: set MODELSHIP_TRAINER_PYTHON to an interpreter with the trainer's requirements")
    return python
