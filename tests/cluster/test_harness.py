"""The test cluster's harness, as far as it needs no cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import settings
from tests.cluster.containers import Network, common_values, template
from tests.cluster.programs import Programs


def harness(*words: str, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.cluster`` where only the programs in *path* are installed."""
    environment = {
        "PATH": str(path),
        "HOME": str(path),
        "MODELSHIP_CLUSTER_NAME": "modelship-harness-test",
        **variables,
    }
    command = [sys.executable, "-m", "tests.cluster", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=settings.ROOT)


def test_a_cluster_of_the_user_is_used_and_nothing_built(tmp_path: Path) -> None:
    done = harness("up", path=tmp_path, KUBECONFIG="/etc/somewhere/config")
    assert done.returncode == 0
    assert "using the cluster of /etc/somewhere/config, building nothing" in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_go_it_says_so(tmp_path: Path) -> None:
    done = harness("up", path=tmp_path)
    assert done.returncode == 1
    assert "Go is not installed, so Kubernetes cannot be built: install Go, or set KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_words(tmp_path: Path) -> None:
    done = harness("sideways", path=tmp_path)
    assert done.returncode == 2
    assert "build|up|down|status" in done.stderr


def test_its_own_kubeconfig_is_no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(settings.state() / "kubeconfig"))
    assert settings.users_kubeconfig() == ""
    monkeypatch.setenv("KUBECONFIG", "/etc/somewhere/config")
    assert settings.users_kubeconfig() == "/etc/somewhere/config"


def test_templates_have_a_value_for_each_of_their_names() -> None:
    special = dict.fromkeys(("OWN_PODS", "ROUTES", "NODE", "ADDRESS", "TOKEN", "CA_HASH", "IGNORED"), "x")
    values = {**common_values(Network("192.0.2.0/24")), **special}
    names = [
        str(path.relative_to(settings.HERE))
        for place in ("files", "manifests")
        for path in (settings.HERE / place).iterdir()
    ]
    assert len(names) > 10
    for name in names:
        assert not re.findall(r"@[A-Z_]+@", template(name, values)), name


def test_addresses_are_apart() -> None:
    network = Network("192.0.2.0/24")
    addresses = [
        network.gateway,
        network.registry.partition(":")[0],
        *(network.address(node) for node in settings.NODES),
    ]
    assert len(set(addresses)) == len(settings.NODES) + 2


@pytest.mark.skipif(shutil.which("go") is None, reason="NO GO: the programs' names have the version of Go")
def test_programs_are_named_by_what_they_are_built_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "cluster"
    shutil.copytree(settings.HERE, copy)
    before = Programs().folders
    monkeypatch.setattr(settings, "HERE", copy)
    assert Programs().folders == before
    os.utime(copy / "go" / "etcd" / "go.sum", (1, 1))
    assert Programs().folders == before
    with (copy / "go" / "etcd" / "go.sum").open("a") as stream:
        stream.write("example.com/more v1.0.0 h1:x=\n")
    after = Programs().folders
    assert {name for name in before if before[name] != after[name]} == {"etcd"}
