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


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_run_without_an_inventory_is_refused(name: str, tmp_path: Path) -> None:
    refused = run(tmp_path, name, {"all": {}})
    assert refused.returncode != 0
    assert "neither hosts in the group build_hosts nor in docker_hosts" in " ".join(refused.stdout.split())


@pytest.mark.parametrize(
    ("name", "group", "target", "allowed"),
    [
        ("site", "build_hosts", "docker", False),
        ("deploy", "build_hosts", "docker", False),
        ("deploy", "docker_hosts", "kubernetes", False),
        ("release", "build_hosts", "docker", True),
        ("deploy", "docker_hosts", "docker", True),
        ("deploy", "build_hosts", "kubernetes", True),
    ],
)
def test_a_run_that_would_deploy_to_no_host_is_refused(
    name: str, group: str, target: str, allowed: bool, tmp_path: Path
) -> None:
    hosts = {group: {"hosts": {"one": {"ansible_connection": "local", "modelship_target": target}}}}
    # a value that is refused next, so that no run gets further
    tried = run(tmp_path, name, hosts, "-e", "modelship_replicas=two")
    assert tried.returncode != 0
    assert ("There is no host to deploy to" in tried.stdout) is not allowed, tried.stdout
    assert ("modelship_replicas must be a whole number" in tried.stdout) is allowed
