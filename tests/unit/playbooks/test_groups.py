"""Which hosts the playbooks work on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = ["site", "provision", "release", "deploy", "destroy"]
HOSTS: dict[str, t.Any] = {
    "build_hosts": {"hosts": {"builder": None}},
    "docker_hosts": {"hosts": {"server1": None, "server2": None}},
    "databases": {"hosts": {"unrelated": None}},
}


def run(tmp_path: Path, name: str, inventory: dict[str, t.Any], *options: str) -> subprocess.CompletedProcess[str]:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(yaml.safe_dump(inventory))
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(hosts),
        f"modelship.core.{name}",
        *options,
    ]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, cwd=tmp_path)


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_only_hosts_of_the_groups_are_worked_on(name: str, tmp_path: Path) -> None:
    listed = run(tmp_path, name, HOSTS, "--list-hosts")
    assert listed.returncode == 0, listed.stderr
    plays = re.findall(
        r"play #\d+ \([^)]*\): (.*?)\tTAGS.*?hosts \(\d+\):\n((?:      \S+\n?)*)", listed.stdout, re.DOTALL
    )
    assert plays, listed.stdout
    for title, hosts in plays:
        # this one connects to none
        if title != "Check the groups of the inventory":
            assert set(hosts.split()) <= {"builder", "server1", "server2"}, title
        if title == "Release":
            assert hosts.split() == ["builder"]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_an_inventory_without_the_groups_is_refused(name: str, tmp_path: Path) -> None:
    refused = run(tmp_path, name, {"all": {"hosts": {"unrelated": {"ansible_host": "192.0.2.1"}}}})
    assert refused.returncode != 0
    assert "neither hosts in the group build_hosts nor in docker_hosts" in " ".join(refused.stdout.split())
    assert "UNREACHABLE" not in refused.stdout
