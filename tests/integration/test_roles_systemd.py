"""The provisioning roles on a host with systemd, over ssh, as a user who may use sudo."""

from __future__ import annotations

import json
import re
import time
import typing as t

import pytest

from .systemd_host import SystemdHost, systemd_host, systemd_image

__all__ = ["systemd_host", "systemd_image"]

pytestmark = [pytest.mark.integration, pytest.mark.long]

HOME = "/var/lib/modelship"
DAEMON = "/etc/docker/daemon.json"


def message(text: str) -> str:
    """The output with its line breaks removed, since Ansible wraps long messages."""
    return re.sub(r"\s+", " ", text)


def install(host: SystemdHost, *packages: str) -> None:
    host.shell(
        f"DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends {' '.join(packages)} >/dev/null 2>&1"
    )


class TestDockerConfiguration:
    def restarts(self, host: SystemdHost, change: bool, **variables: t.Any) -> None:
        """Run the role in check mode and for real; the engine restarts once where something changed, and never else."""
        before = host.pid("docker")
        told = host.role("docker", check=True, **variables)
        assert told.ok, told.text
        assert (told.changed > 0) == change, told.text
        assert host.pid("docker") == before
        done = host.role("docker", **variables)
        assert done.ok, done.text
        assert (done.changed > 0) == change
        after = host.pid("docker")
        assert (after != before) == change
        again = host.role("docker", **variables)
        assert again.changed == 0, again.text
        assert host.pid("docker") == after

    def labels(self, host: SystemdHost) -> str:
        return host.shell("docker info --format '{{json .Labels}}' 2>/dev/null").strip()

    def test_a_change_after_the_first_start_restarts_the_engine_once(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        assert host.role("docker").ok
        self.restarts(host, False)
        self.restarts(host, True, docker_config={"labels": ["a=1"]})
        assert self.labels(host) == '["a=1"]'
        # a change by the role, and one by an administrator
        self.restarts(host, True, docker_config={"labels": ["a=2"]})
        assert self.labels(host) == '["a=2"]'
        settings = json.loads(host.shell(f"cat {DAEMON}"))
        host.write(DAEMON, json.dumps({**settings, "debug": True}).encode())
        self.restarts(host, True, docker_config={"labels": ["a=2"]})
        assert host.shell("docker info --format '{{.Debug}}' 2>/dev/null").strip() == "true"
        host.write(DAEMON, json.dumps({**settings, "debug": False}).encode())
        self.restarts(host, True)

        # what the engine refuses is taken back, and the engine runs again as before
        text = host.shell(f"cat {DAEMON}")
        refused = host.role("docker", docker_config={"no-such-key": 1})
        assert not refused.ok
        assert "directives don't match any configuration option: no-such-key" in message(refused.text)
        assert "the engine runs with it again" in message(refused.text)
        assert host.shell(f"cat {DAEMON}") == text
        assert self.labels(host) == '["a=2"]'
        assert host.role("docker").changed == 0
        # what cannot be read is refused before the engine is restarted
        pid = host.pid("docker")
        host.write(DAEMON, b'{"debug": tru')
        for check in (True, False):
            broken = host.role("docker", check=check)
            assert not broken.ok
            assert f"{DAEMON} is not a JSON object" in message(broken.text)
        assert host.pid("docker") == pid

    def test_an_adopted_engine_keeps_its_configuration_and_packages(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        assert host.role("docker", docker_config={"labels": ["a=1"]}).ok
        # as where the record was deleted by hand: now nobody knows who started the engine
        host.shell(f"rm {HOME}/docker/dockerd.json")
        pid, text = host.pid("docker"), host.shell(f"cat {DAEMON}")
        kept = host.role("docker", tasks_from="remove", docker_remove_packages=True)
        assert kept.ok, kept.text
        assert kept.changed == 0, kept.text
        assert "was not started by this role" in message(kept.text)
        assert host.shell(f"cat {DAEMON}") == text
        assert host.pid("docker") == pid
        assert host.exists("/usr/sbin/dockerd")


class TestPodman:
    def test_it_is_recognized_and_not_replaced_silently(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        install(host, "podman-docker")
        host.shell("systemctl disable --now podman.socket")
        for check in (True, False):
            refused = host.role("docker", check=check)
            assert not refused.ok
            assert "installing docker.io would remove podman-docker" in message(refused.text)
            assert "docker_allow_removals" in refused.text
        host.shell("systemctl start podman.socket")
        for check in (True, False):
            refused = host.role("docker", check=check)
            assert not refused.ok
            assert "Podman 4.3.1 answers at /var/run/docker.sock, not Docker Engine" in message(refused.text)
        assert host.exists("/usr/bin/podman")
        assert not host.exists(HOME)
        host.shell("systemctl stop podman.socket")
        told = host.role("docker", check=True, docker_allow_removals=True)
        assert told.ok, told.text
        assert "podman-docker would be removed" in message(told.text)
        assert host.role("docker", docker_allow_removals=True).ok
        assert host.active("docker")


class TestPrivileges:
    def test_without_become_the_first_line_says_what_is_needed(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        for role in ("docker", "registry", "monitoring", "builder"):
            options: dict[str, t.Any] = {"builder_python_modules": ["docker"]} if role == "builder" else {}
            for check in (True, False):
                refused = host.role(role, become=False, check=check, **options)
                assert not refused.ok
                assert re.search(
                    r"needs root to (install|start) .*: become: true; nothing was changed", message(refused.text)
                ), role
        assert not host.exists(HOME)
        # what root has started is no absence for others
        assert host.role("docker").ok
        refused = host.role("docker", become=False)
        assert not refused.ok
        assert "needs root (become: true)" in refused.text
        host.shell(f"chmod 644 {HOME}/docker/dockerd.json; mv {HOME} {HOME}.away")
        refused = host.role("docker", become=False)
        assert not refused.ok
        assert "permission denied on /var/run/docker.sock: needs root (become: true)" in message(refused.text)


class TestPython:
    def test_debians_interpreter_gets_the_docker_sdk(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        told = host.role("builder", check=True, builder_python_modules=["docker"])
        assert told.ok, told.text
        assert "python3-docker" in told.text
        assert host.role("docker").ok
        host.shell("/usr/bin/python3 -c 'import docker'")
        assert host.role("builder", builder_python_modules=["docker"]).changed == 0

    def test_another_interpreter_is_refused_before_anything_is_changed(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        # a copy, so that it is not Debian's own by its path
        host.shell("mkdir -p /opt/python && cp /usr/bin/python3.11 /opt/python/python3")
        refused = host.role("docker", ansible_python_interpreter="/opt/python/python3")
        assert not refused.ok
        assert "/opt/python/python3 has no Docker SDK" in message(refused.text)
        assert "/opt/python/python3 -m pip install docker" in message(refused.text)
        assert not host.exists(HOME)
        assert not host.exists("/usr/sbin/dockerd")


class TestUnitsOfPackages:
    def test_an_enabled_prometheus_is_refused_and_after_a_reboot_one_runs(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        install(host, "prometheus")
        advice = "systemctl disable --now prometheus.service"
        running = host.role("monitoring")
        assert not running.ok
        assert advice in running.text
        adopted = host.role("monitoring", monitoring_adopt=True)
        assert adopted.ok, adopted.text
        assert adopted.changed == 0
        assert "/targets/*.json" in adopted.text
        # stopped, but it would be back after the next boot
        host.shell("systemctl stop prometheus")
        for check in (True, False):
            refused = host.role("monitoring", check=check)
            assert not refused.ok
            assert advice in refused.text
        assert not host.exists(HOME)
        host.shell(advice)
        made = host.role("monitoring")
        assert made.ok, made.text
        host.reboot()
        assert host.active("modelship-prometheus")
        assert not host.active("prometheus")
        assert host.shell("systemctl is-system-running").strip() == "running"
        assert host.role("monitoring").changed == 0

    def test_what_runs_without_a_record_keeps_its_data(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        assert host.role("registry", "monitoring").ok
        for role, name in (("registry", "registry"), ("monitoring", "prometheus")):
            host.shell(f"rm {HOME}/{role}/{name}.json")
            kept = host.role(role, tasks_from="remove")
            assert kept.ok, kept.text
            assert kept.changed == 0, kept.text
            assert "left alone" in message(kept.text)
            assert host.exists(f"{HOME}/{role}/data")
            assert host.exists(f"{HOME}/{role}/etc")
            assert host.active(f"modelship-{name}")


class TestInterruptedInstallation:
    def test_a_killed_run_blocks_no_service_and_is_completed_by_the_next(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        # apt-get's hook ends apt-get and the module that called it, as a power failure would
        host.write("/kill", b"#!/bin/sh\nrm /kill; apt=$PPID; kill -9 $(ps -o ppid= -p $apt) $apt; sleep 5\n")
        hook = b'DPkg::Pre-Install-Pkgs {"test ! -e /kill || exec sh /kill";};\n'
        host.write("/etc/apt/apt.conf.d/00kill", hook)
        killed = host.role("registry")
        assert not killed.ok
        assert not host.exists("/kill")
        assert not host.exists("/usr/bin/docker-registry")
        # what it left behind forbids nothing
        assert host.exists("/usr/sbin/policy-rc.d")
        assert host.shell("/usr/sbin/policy-rc.d ssh start; echo $?").strip() == "0"
        made = host.role("registry")
        assert made.ok, made.text
        assert not host.exists("/usr/sbin/policy-rc.d")
        assert host.active("modelship-registry")
        assert host.role("registry").changed == 0
        # it counts as installed by the role
        assert host.role("registry", tasks_from="remove", registry_remove_packages=True).ok
        assert not host.exists("/usr/bin/docker-registry")

    def test_an_unpacked_package_is_configured(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        host.shell("cd /srv/packages && dpkg --unpack docker-registry_*.deb >/dev/null")
        made = host.role("registry")
        assert made.ok, made.text
        assert "ok installed" in host.shell("dpkg-query --show --showformat='${Status}' docker-registry")
        assert host.active("modelship-registry")
        assert "enabled" not in host.shell("systemctl is-enabled docker-registry || true").split()

    def test_a_policy_that_ansible_left_behind_is_reported(self, systemd_host: SystemdHost) -> None:
        host = systemd_host
        host.write("/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n")
        host.shell("chmod 755 /usr/sbin/policy-rc.d")
        made = host.role("builder", builder_python_modules=["docker"])
        assert made.ok, made.text
        assert "/usr/sbin/policy-rc.d keeps all services of packages from starting" in message(made.text)
        # it may be the administrator's
        assert host.exists("/usr/sbin/policy-rc.d")


def test_monitoring_keeps_the_targets_of_all_deployments(systemd_host: SystemdHost) -> None:
    host = systemd_host
    assert host.role("monitoring").ok
    for name, port in (("first", 1), ("second", 2)):
        target = [{"targets": [f"127.0.0.1:{port}"], "labels": {"deployment": name}}]
        host.write(f"{HOME}/monitoring/targets/{name}.json", json.dumps(target).encode())

    def watched() -> set[str]:
        script = "import json, urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/api/v1/targets').read().decode())"
        found = json.loads(host.shell(f'python3 -c "{script}"'))["data"]["activeTargets"]
        return {each["labels"].get("deployment", "") for each in found} - {""}

    deadline = time.monotonic() + 30
    while watched() != {"first", "second"} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert watched() == {"first", "second"}
    assert host.role("monitoring").changed == 0
    host.shell(f"rm {HOME}/monitoring/targets/first.json")
    while watched() != {"second"} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert watched() == {"second"}
    assert host.role("monitoring", tasks_from="remove").ok
    assert not host.exists(f"{HOME}/monitoring")
