"""Docker Engines with other settings than the default: each a real one, beside the machine's own."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest

from .second_engine import PLAIN_REGISTRY, SecondEngine, second_engine

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def _engine(lab: t.Any, **settings: t.Any) -> t.Iterator[SecondEngine]:
    folder = Path(tempfile.mkdtemp(prefix="ms-engine-", dir="/tmp"))  # a socket's path must be short
    folder.chmod(0o711)  # remapped users must get at the images below
    try:
        with second_engine(folder, lab.configuration, **settings) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def remapped(lab: t.Any) -> t.Iterator[SecondEngine]:
    """An Engine whose containers are in user namespaces, and that keeps no logs."""
    with _engine(lab, **{"userns-remap": "nobody:nogroup", "log-driver": "none"}) as engine:
        yield engine


@pytest.fixture(scope="module")
def bridgeless(lab: t.Any) -> t.Iterator[SecondEngine]:
    """An Engine without the network bridge."""
    with _engine(lab, bridge="none") as engine:
        yield engine


def test_a_deployment_with_a_proxy_on_an_engine_with_user_namespaces(remapped: SecondEngine, deployment: t.Any) -> None:
    options = deployment.options(environment={"VERSION": "1"}, replicas=2)
    told = remapped.deploy(options)
    assert told.get("changed"), told
    ready = f"http://127.0.0.1:{deployment.port}/v2/health/ready"
    assert json.loads(remapped.get(ready))["version"] == "1"
    assert remapped.inspect(f"{deployment.name}-proxy")["HostConfig"]["UsernsMode"] == "host"
    assert remapped.inspect(f"{deployment.name}-g1-1")["HostConfig"]["UsernsMode"] == ""
    assert remapped.deploy(options)["changed"] is False
    again = remapped.deploy(deployment.options(environment={"VERSION": "2"}, replicas=2))
    assert again.get("changed"), again
    assert json.loads(remapped.get(ready))["version"] == "2"
    assert remapped.deploy(deployment.options(state="absent"))["changed"]
    assert remapped.docker("ps", "-aq") == ""


def test_a_low_port_on_an_engine_with_user_namespaces(remapped: SecondEngine, deployment: t.Any) -> None:
    told = remapped.deploy(deployment.options(environment={"VERSION": "1"}, port=81))
    assert told.get("changed"), told
    assert json.loads(remapped.get("http://127.0.0.1:81/v2/health/ready"))["version"] == "1"
    remapped.deploy(deployment.options(state="absent"))


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"MODE": "crash"}, "ended with exit code 1"), ({"MODE": "never"}, "is not ready after 2 s")],
)
@pytest.mark.parametrize("proxied", [True, False])
def test_a_log_that_nobody_keeps_does_not_hide_the_failure(
    remapped: SecondEngine, deployment: t.Any, plain: t.Any, proxied: bool, environment: dict[str, str], words: str
) -> None:
    tested = deployment if proxied else plain
    told = remapped.deploy(tested.options(environment=environment, health={"start_deadline": 2}))
    assert told["kind"] == "unhealthy"
    assert f"container {tested.name}-g1-1 {words}" in told["error"]
    assert "its log cannot be read (" in told["error"]
    assert told["details"] == {"log": []}
    assert remapped.docker("ps", "-aq") == ""
    assert remapped.docker("network", "ls", "-q", "--filter", "label=io.modelship.deployment") == ""


def test_an_engine_without_a_bridge_is_named_before_anything_is_created(
    bridgeless: SecondEngine, plain: t.Any, deployment: t.Any
) -> None:
    for given in ({"check": True, "image": ""}, {"check": True}, {}):
        check = bool(given.pop("check", False))
        told = bridgeless.deploy(plain.options(**given), check=check)
        assert told["kind"] == "docker"
        assert 'has no network bridge ("bridge": "none" in its daemon.json)' in told["error"]
        assert "set proxy.image" in told["error"]
    assert bridgeless.docker("images", "-q") == ""
    told = bridgeless.deploy(deployment.options(environment={"VERSION": "1"}))
    assert told.get("changed"), told
    assert json.loads(bridgeless.get(f"http://127.0.0.1:{deployment.port}/v2/health/ready"))["version"] == "1"
    bridgeless.deploy(deployment.options(state="absent"))


def test_a_deployment_in_the_smallest_networks_and_without_any(lab: t.Any, deployment: t.Any) -> None:
    """Two subnets of six addresses: the bridge's, and one that the deployment and then another network has."""
    with _engine(lab, **{"default-address-pools": [{"base": "10.213.0.0/28", "size": 29}]}) as engine:
        for version in ("1", "2"):
            told = engine.deploy(deployment.options(environment={"VERSION": version}, replicas=2))
            assert told.get("changed"), told
        told = engine.deploy(deployment.options(environment={"VERSION": "3"}, replicas=4))
        assert "(10.213.0.8/29) has 3 free addresses, and 4 new replicas need one each" in told["error"]
        assert "default-address-pools" in told["error"]
        ready = engine.get(f"http://127.0.0.1:{deployment.port}/v2/health/ready")
        assert json.loads(ready)["version"] == "2"
        engine.deploy(deployment.options(state="absent"))
        engine.docker("network", "create", "other")
        told = engine.deploy(deployment.options())
        assert "has no subnet left for another network" in told["error"]
        assert "docker network prune" in told["error"]
        assert engine.docker("ps", "-aq") == ""


def test_a_registry_that_speaks_plain_http_is_named_as_such_when_a_pull_fails(
    bridgeless: SecondEngine, deployment: t.Any
) -> None:
    registry = f"{PLAIN_REGISTRY}:5000"
    image = f"{registry}/{deployment.lab.image.partition('/')[2]}"
    told = bridgeless.deploy(deployment.options(image=image))
    assert told["kind"] == "registry"
    assert f"registry {registry} speaks plain HTTP, and TLS is expected" in told["error"]
    assert f'{{"insecure-registries": ["{registry}"]}}' in told["error"]
    assert "password" not in told["error"]
