"""What ``debian_packages`` decides without installing anything; real installations are in the integration tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._host import packages

OPTIONS = {
    "packages": [],
    "allow_removals": False,
    "removals_variable": None,
    "start_services": False,
    "recommends": False,
    "cache_valid_time": 3600,
    "lock_timeout": 1,
}


def ask(policy: Path) -> int:
    """Ask a policy script whether a service may start; 101 is no."""
    return subprocess.run(["sh", str(policy), "docker", "start"], check=False).returncode


def test_services_are_forbidden_only_while_the_run_lives(tmp_path: Path) -> None:
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    with packages._services_stopped(str(policy), str(saved)):
        assert ask(policy) == 101
        left = policy.read_text()
    assert not policy.exists()
    # the same text of a process that has ended, or whose number another one has now
    policy.write_text(left.replace(f"/proc/{os.getpid()}/", "/proc/999999999/"))
    assert ask(policy) == 0
    policy.write_text(left.replace(f"/proc/{os.getpid()}/", "/proc/1/"))
    assert ask(policy) == 0


def test_a_policy_of_the_administrator_holds_and_is_restored(tmp_path: Path) -> None:
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    own = "#!/bin/sh\nexit 104\n"
    policy.write_text(own)
    policy.chmod(0o755)
    with packages._services_stopped(str(policy), str(saved)):
        assert ask(policy) == 101
        left = policy.read_text()
    assert policy.read_text() == own
    # a run that was killed: the administrator's holds meanwhile, and the next run restores it
    saved.write_text(own)
    saved.chmod(0o755)
    policy.write_text(left.replace(f"/proc/{os.getpid()}/", "/proc/999999999/"))
    assert ask(policy) == 104
    with packages._services_stopped(str(policy), str(saved)):
        assert ask(policy) == 101
    assert policy.read_text() == own
    assert not saved.exists()


def test_removals_are_named_and_refused_unless_allowed() -> None:
    plan = packages.Plan(install=["docker.io"], remove=["podman-docker"])
    with pytest.raises(ModelshipError, match=r"docker.io would remove podman-docker: allow that with allow_removals"):
        packages._check_removals(plan, ["docker.io"], OPTIONS)
    with pytest.raises(ModelshipError, match="allow that with docker_allow_removals"):
        packages._check_removals(plan, ["docker.io"], {**OPTIONS, "removals_variable": "docker_allow_removals"})
    packages._check_removals(plan, ["docker.io"], {**OPTIONS, "allow_removals": True})
    packages._check_removals(None, ["docker.io"], OPTIONS)


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="not Debian")
@pytest.mark.parametrize("check", [True, False])
def test_installed_packages_are_left_alone(check: bool) -> None:
    outcome = packages.install_packages({**OPTIONS, "packages": ["dpkg"]}, Context(check=check))
    assert not outcome.changed
    assert outcome.result == {"installed": [], "removed": []}


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="not Debian")
def test_an_unfinished_package_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_states", lambda _names: {"dpkg": "half-configured"})
    outcome = packages.install_packages({**OPTIONS, "packages": ["dpkg"]}, Context(check=True))
    assert outcome.changed
    assert "dpkg" in outcome.result["installed"]


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="not Debian")
def test_without_root_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        ModelshipError, match=r"^needs root to install no-such-package: become: true; nothing was changed$"
    ):
        packages.install_packages({**OPTIONS, "packages": ["no-such-package"]}, Context(check=True))
