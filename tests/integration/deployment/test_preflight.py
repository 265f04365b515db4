"""What is checked before there is an image, and what a live container tells of its options, on a real Docker Engine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.files import lock_directory
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare
from ansible_collections.modelship.core.plugins.module_utils._docker.backend import DockerBackend
from ansible_collections.modelship.core.plugins.module_utils._docker.limits import replica_limits
from ansible_collections.modelship.core.plugins.module_utils._docker.spec import (
    container_config,
    live_view,
    replica_spec,
    shown,
)
from tests.unit.docker.options import OPTIONS_AS_TYPED

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("image", ["", "given"])
@pytest.mark.parametrize("proxied", [True, False])
def test_a_taken_port_is_named_with_the_deployment_that_holds_it_before_there_is_an_image(
    deployment: t.Any, plain: t.Any, proxied: bool, image: str
) -> None:
    holder, other = (deployment, plain) if proxied else (plain, deployment)
    holder.run()
    container = f"{holder.name}-proxy" if proxied else f"{holder.name}-g1-1"
    given: dict[str, t.Any] = {"image": other.lab.image if image else "", "port": holder.port}
    if not proxied:
        given["proxy"] = {"image": other.lab.proxy if image else ""}
    with pytest.raises(ModelshipError) as caught:
        other.run(check=True, **given)
    assert caught.value.kind == "port"
    assert caught.value.message == (
        f"port {holder.port} on 127.0.0.1 is taken by the deployment {holder.name} (container {container}): choose another "
        f"port, or remove {holder.name} first (state: absent); nothing was changed"
    )
    assert other.names() == []
    assert holder.run(check=True, image="").changed  # its own port is not taken


def test_another_process_at_the_port_is_named_before_there_is_an_image(plain: t.Any) -> None:
    with socket.create_server(("127.0.0.1", plain.port)):
        with pytest.raises(ModelshipError, match=rf"taken by .*\(process {os.getpid()}\)"):
            plain.run(check=True, image="")
        with pytest.raises(ModelshipError, match=rf"taken by .*\(process {os.getpid()}\)"):  # without an Engine too
            plain.run(check=True, image="", docker_host="unix:///nonexistent/docker.sock")
    told = plain.run(check=True, image="", docker_host="unix:///nonexistent/docker.sock").result["deployment"]
    assert "no Docker Engine answers at unix:///nonexistent/docker.sock" in told["unreachable"]
    assert plain.run(check=True, image="").result["deployment"]["unreachable"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED, only root can become another user")
def test_an_engine_without_permission_is_reported_as_such(plain: t.Any) -> None:
    script = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError\n"
        "from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context\n"
        "from ansible_collections.modelship.core.plugins.module_utils._oci.docker_build import build_image\n"
        "from ansible_collections.modelship.core.plugins.modules.deployment import deploy\n"
        "def call(logic, parameters):\n"
        "    try:\n"
        "        logic(parameters, Context(check=True))\n"
        "    except ModelshipError as exc:\n"
        "        print(exc.kind, exc.message)\n"
        "deploy({**json.loads(sys.argv[2]), 'image': ''}, Context(check=True))  # imports all that is needed\n"
        "os.seteuid(65534)\n"
        "for changes in json.loads(sys.argv[3]):\n"
        "    call(deploy, {**json.loads(sys.argv[2]), **changes})\n"
        "call(build_image, {'docker': {'context': sys.argv[4]}, 'dest': sys.argv[4], 'name': 'x'})\n"
    )
    changes = json.dumps([{"image": ""}, {}, {"state": "absent"}])
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        Path(folder, "Dockerfile").write_text("FROM scratch\n")
        command = [sys.executable, "-c", script, str(ROOT / ".build"), json.dumps(plain.options()), changes, folder]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = "permission permission denied on unix:///var/run/docker.sock: run as root (become: true)"
    assert [line[: len(expected)] for line in told] == [expected] * 4


def test_absent_leaves_no_lock_file(plain: t.Any) -> None:
    plain.run()
    plain.run(state="absent")
    left = [name for folder in ("/run/lock", "/run", tempfile.gettempdir()) for name in os.listdir(folder)]
    assert [name for name in left if plain.name in name] == []
    folder = lock_directory()
    assert [name for name in os.listdir(folder) if plain.name in name] == []


def test_containers_have_limits_by_default_and_0_takes_them_away(deployment: t.Any) -> None:
    deployment.run(workers=2)
    limits = {name: deployment.inspect(name)["HostConfig"] for name in deployment.names()}
    assert {name: (host["Memory"], host["PidsLimit"]) for name, host in limits.items()} == {
        f"{deployment.name}-g1-1": (4 << 30, 2048),
        f"{deployment.name}-proxy": (1 << 30, 1024),
    }
    none: dict[str, t.Any] = {
        "limits": {"memory": "0", "pids": 0},
        "proxy": {"image": deployment.lab.proxy, "limits": {"memory": "0", "pids": 0}},
    }
    assert "memory: 1073741824 -> none" in deployment.run(**none).message
    for name in deployment.names():
        host = deployment.inspect(name)["HostConfig"]
        assert not host["Memory"]
        assert not host["PidsLimit"] or host["PidsLimit"] < 0
    assert not deployment.run(**none).changed


def test_a_thousandth_of_a_core_is_not_a_change(plain: t.Any) -> None:
    options = {"limits": {"cpus": 1.001}}
    plain.run(**options)
    assert plain.inspect(f"{plain.name}-g1-1")["HostConfig"]["NanoCpus"] == 1_001_000_000
    assert not plain.run(**options).changed


def test_every_option_reads_back_from_the_engine_as_it_was_declared(plain: t.Any) -> None:
    """Containers are only created, not started: for each the Engine tells what it made of the configuration."""
    docker = DockerBackend(plain.options()).docker
    engine = docker.info()
    plain.run()  # pulls the image

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(OPTIONS_AS_TYPED)
    def check(options: dict[str, t.Any]) -> None:
        declaration = declare(plain.options(**options))
        limits = replica_limits(declaration.limits, 1, engine)
        spec = {**replica_spec(declaration, None), "memory": limits.memory, "cpus": limits.cpus, "pids": limits.pids}
        ident = docker.create(f"{plain.name}-created", container_config(spec, name=plain.name, role="x", generation=1))
        try:
            assert live_view(docker.container(ident)) == shown(spec)
        finally:
            docker.remove(ident)

    try:
        check()
    finally:
        docker.remove_volume("ms-test-data")
