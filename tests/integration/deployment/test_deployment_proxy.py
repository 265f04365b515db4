"""Deployments behind a proxy, on a real Docker Engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.files import locked_by_name
from ansible_collections.modelship.core.plugins.module_utils._docker.backend import DockerBackend

from .conftest import free_port

pytestmark = pytest.mark.integration


def test_first_deploy_second_run_and_absent(deployment: t.Any) -> None:
    planned = deployment.run(check=True, environment={"VERSION": "1"})
    assert planned.changed
    assert deployment.names() == []
    first = deployment.run(environment={"VERSION": "1"})
    assert first.changed
    assert first.difference.as_result() == planned.difference.as_result()
    assert deployment.version() == "1"
    shown = first.result["deployment"]
    assert shown["url"] == f"http://127.0.0.1:{deployment.port}"
    assert shown["digest"] == deployment.lab.image.rpartition("@")[2]
    assert [item["health"] for item in shown["replicas"]] == ["ready"]
    assert deployment.names() == [f"{deployment.name}-g1-1", f"{deployment.name}-proxy"]
    second = deployment.run(environment={"VERSION": "1"})
    assert not second.changed
    assert not second.difference
    assert not deployment.run(check=True, environment={"VERSION": "1"}).changed

    assert deployment.run(check=True, state="absent").changed
    assert len(deployment.names()) == 2
    assert deployment.run(state="absent").changed
    assert deployment.names() == []
    label = {"label": f"io.modelship.deployment={deployment.name}"}
    assert deployment.lab.api.networks(filters=label) == []
    assert not deployment.lab.api.volumes(filters=label)["Volumes"]
    assert not deployment.run(state="absent").changed


def test_containers_are_confined(deployment: t.Any) -> None:
    deployment.run(limits={"memory": "256m", "cpus": 1.5, "pids": 100}, workers=2)
    for name in deployment.names():
        info = deployment.inspect(name)
        assert info["HostConfig"]["ReadonlyRootfs"]
        assert info["HostConfig"]["CapDrop"] == ["ALL"]
        assert info["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
        assert not info["HostConfig"]["Privileged"]
        assert info["Config"]["User"] == "65532:65532"
    replica = deployment.inspect(f"{deployment.name}-g1-1")
    assert replica["HostConfig"]["Memory"] == 256 << 20
    assert replica["HostConfig"]["NanoCpus"] == 1_500_000_000
    assert replica["HostConfig"]["PidsLimit"] == 100
    assert "MODELSHIP_WORKERS=2" in replica["Config"]["Env"]
    assert not deployment.run(limits={"memory": "256m", "cpus": 1.5, "pids": 100}, workers=2).changed


def test_replacement_and_scaling_under_load_lose_nothing(deployment: t.Any, load: t.Any) -> None:
    deployment.run(environment={"VERSION": "1"})
    with load(deployment.port) as running:
        time.sleep(0.5)
        outcome = deployment.run(environment={"VERSION": "2"})
        time.sleep(0.3)
        deployment.run(environment={"VERSION": "2"}, replicas=3)
        deployment.run(environment={"VERSION": "3"}, replicas=2)
        time.sleep(0.3)
    assert running.losses == []
    assert set(running.answers) == {"1", "2", "3"}
    assert outcome.result["deployment"]["previous"] == {"image": deployment.lab.image}
    assert deployment.names() == [*(f"{deployment.name}-g4-{n}" for n in (1, 2)), f"{deployment.name}-proxy"]


def test_slow_requests_finish_in_the_old_container(deployment: t.Any, load: t.Any) -> None:
    deployment.run(environment={"VERSION": "1", "DELAY": "1"})
    with load(deployment.port) as running:
        time.sleep(0.5)
        deployment.run(environment={"VERSION": "2", "DELAY": "0"})
    assert running.losses == []
    assert running.answers["1"] >= 8


def test_replacing_the_proxy_under_load_loses_nothing(deployment: t.Any, load: t.Any) -> None:
    deployment.run()
    before = deployment.inspect(f"{deployment.name}-proxy")["Id"]
    with load(deployment.port) as running:
        time.sleep(0.3)
        outcome = deployment.run(restart_policy="on-failure")
        time.sleep(0.3)
    assert outcome.changed
    assert running.losses == []
    assert deployment.inspect(f"{deployment.name}-proxy")["Id"] != before
    assert not deployment.run(restart_policy="on-failure").changed


def test_the_engine_brings_all_back_after_a_crash(deployment: t.Any) -> None:
    deployment.run(environment={"VERSION": "1"})
    deployment.run(environment={"VERSION": "2"})  # the proxy was reloaded: Engines may take that for a wish to stop it
    for name in deployment.names():
        os.kill(deployment.inspect(name)["State"]["Pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert deployment.version() == "2"
            break
        except OSError:
            assert time.monotonic() < deadline, deployment.lab.containers(deployment.name)
            time.sleep(0.1)
    assert not deployment.run(environment={"VERSION": "2"}).changed


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MODE": "crash"}, ["exit code 1", "no model here"]),
        ({"MODE": "never"}, ["is not ready after", "503"]),
    ],
)
def test_what_does_not_get_ready_leaves_the_old_in_service(
    deployment: t.Any, load: t.Any, environment: dict[str, str], words: list[str]
) -> None:
    deployment.run(environment={"VERSION": "1"})
    before = deployment.names()
    with load(deployment.port) as running, pytest.raises(ModelshipError) as failure:
        deployment.run(environment=environment, health={"start_deadline": 2})
    for word in [*words, "stays in service"]:
        assert word in failure.value.message
    assert "log" in failure.value.details
    assert running.losses == []
    assert deployment.names() == before
    assert deployment.version() == "1"
    assert not deployment.run(environment={"VERSION": "1"}).changed


def test_wrong_golden_answers_get_no_traffic(deployment: t.Any, release: Path) -> None:
    verify = {"release": str(release)}
    deployment.run(environment={"VERSION": "1"}, verify=verify)
    with pytest.raises(ModelshipError, match="another class") as failure:
        deployment.run(environment={"VERSION": "2", "SHIFT": "1"}, verify=verify)
    assert failure.value.kind == "golden"
    assert deployment.version() == "1"


def _kill(deployment: t.Any) -> None:
    deployment.lab.api.kill(f"{deployment.name}-g1-1")
    deployment.lab.api.stop(f"{deployment.name}-g1-1", timeout=0)


def _disconnect(deployment: t.Any) -> None:
    network = f"modelship-{deployment.name}"
    deployment.lab.api.disconnect_container_from_network(f"{deployment.name}-g1-1", network)
    deployment.lab.api.remove_network(network)


def _overwrite(deployment: t.Any) -> None:
    mounts = deployment.inspect(f"{deployment.name}-proxy")["Mounts"]
    path = Path(mounts[0]["Source"]) / "haproxy.cfg"
    path.write_text(path.read_text().replace("retries 3", "retries 9"))


DRIFTS: dict[str, tuple[t.Callable[[t.Any], object], str]] = {
    "removed": (lambda d: d.lab.api.remove_container(f"{d.name}-g1-1", force=True), "0 of 1 replicas"),
    "stopped": (_kill, "is exited"),
    "paused": (lambda d: d.lab.api.pause(f"{d.name}-g1-1"), "is paused"),
    "limits": (lambda d: d.lab.api.update_container(f"{d.name}-g1-1", mem_limit="64m", memswap_limit="64m"), "memory"),
    "proxy gone": (lambda d: d.lab.api.remove_container(f"{d.name}-proxy", force=True), "the proxy is gone"),
    "proxy stopped": (lambda d: d.lab.api.stop(f"{d.name}-proxy", timeout=1), "proxy is exited"),
    "proxy paused": (lambda d: d.lab.api.pause(f"{d.name}-proxy"), "proxy is paused"),
    "proxy configuration": (_overwrite, "configuration differs"),
    "network gone": (_disconnect, "network"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_repaired(deployment: t.Any, drift: str) -> None:
    deployment.run(environment={"VERSION": "1"})
    spoil, why = DRIFTS[drift]
    spoil(deployment)
    planned = deployment.run(check=True, environment={"VERSION": "1"})
    assert planned.changed
    assert why in planned.message
    assert deployment.run(environment={"VERSION": "1"}).changed
    assert deployment.version() == "1"
    assert len(deployment.names()) == 2
    assert not deployment.run(environment={"VERSION": "1"}).changed


def test_a_replica_that_is_not_ready_any_more_is_replaced(deployment: t.Any) -> None:
    options = {"environment": {"MODE": "fading", "VERSION": "1"}, "health": {"start_deadline": 1}}
    deployment.run(**options)
    time.sleep(1.5)
    created = deployment.lab.api.exec_create(f"{deployment.name}-g1-1", ["python3", "-c", "open('/tmp/fade', 'w')"])
    deployment.lab.api.exec_start(created)
    outcome = deployment.run(**options)
    assert "is not ready" in outcome.message
    assert deployment.names() == [f"{deployment.name}-g2-1", f"{deployment.name}-proxy"]
    assert deployment.version() == "1"


def test_another_port_without_a_new_container(deployment: t.Any) -> None:
    deployment.run()
    before = [deployment.inspect(name)["Id"] for name in deployment.names()]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    deployment.run(port=other)
    deployment.port = other
    assert [deployment.inspect(name)["Id"] for name in deployment.names()] == before
    assert deployment.version() is None
    assert not deployment.run(port=other).changed


def test_a_taken_port_is_named_with_its_owner_before_anything_is_touched(deployment: t.Any) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", deployment.port))
        owner.listen()
        for check in (True, False):
            with pytest.raises(ModelshipError, match=rf"port {deployment.port} .*process {os.getpid()}\)"):
                deployment.run(check=check)
    assert deployment.names() == []


def test_foreign_things_are_refused(deployment: t.Any) -> None:
    api = deployment.lab.api
    for name in (deployment.name, f"{deployment.name}-g1-1", f"{deployment.name}-proxy"):
        foreign = api.create_container(deployment.lab.image, name=name)["Id"]
        try:
            with pytest.raises(ModelshipError, match="was not made by this deployment"):
                deployment.run()
            assert not deployment.run(state="absent").changed
            assert api.inspect_container(name)["Id"] == foreign
        finally:
            api.remove_container(foreign)


def test_a_container_of_an_image_committed_from_a_replica_is_left_alone(deployment: t.Any) -> None:
    api = deployment.lab.api
    deployment.run(environment={"VERSION": "1"})
    copy = api.commit(f"{deployment.name}-g1-1", repository=f"{deployment.name}-copy", tag="x")["Id"]
    foreign = api.create_container(f"{deployment.name}-copy:x")["Id"]
    try:
        api.start(foreign)
        assert not deployment.run(environment={"VERSION": "1"}).changed
        deployment.run(environment={"VERSION": "2"})
        deployment.run(state="absent")
        assert api.inspect_container(foreign)["State"]["Running"]
    finally:
        api.remove_container(foreign, force=True)
        api.remove_image(copy)


@pytest.mark.parametrize("change", ["absent", "no proxy"])
def test_a_network_with_containers_of_others_is_named_before_anything_is_removed(
    deployment: t.Any, change: str
) -> None:
    api = deployment.lab.api
    deployment.run()
    before = deployment.names()
    network = f"modelship-{deployment.name}"
    foreign = api.create_container(deployment.lab.image, host_config=api.create_host_config(network_mode=network))["Id"]
    changes: dict[str, t.Any] = {"state": "absent"} if change == "absent" else {"proxy": None}
    try:
        api.start(foreign)
        name = api.inspect_container(foreign)["Name"].lstrip("/")
        for check in (True, False):
            with pytest.raises(ModelshipError, match=rf"docker network disconnect {network} {name}\)") as caught:
                deployment.run(check=check, **changes)
            assert caught.value.kind == "foreign"
        assert deployment.names() == before
        assert deployment.run(replicas=2).changed  # what keeps the network is not hindered
    finally:
        api.remove_container(foreign, force=True)
    assert deployment.run(**changes).changed
    assert not api.networks(names=[f"^{network}$"])


def test_a_deployment_whose_name_ends_in_probe_is_beside_the_one_without_it(deployment: t.Any) -> None:
    name = deployment.name
    deployment.run(name=f"{name}-probe", port=free_port())
    try:
        assert deployment.run().changed
        assert not deployment.run(check=True).changed
    finally:
        deployment.run(name=f"{name}-probe", state="absent")


def test_a_network_of_a_killed_run_is_removed_with_the_deployment(deployment: t.Any) -> None:
    api = deployment.lab.api
    name = f"modelship-{deployment.name}.probe"
    labels = {"io.modelship.deployment": deployment.name, "io.modelship.role": "network"}
    api.create_network(name, driver="bridge", labels=labels)
    assert deployment.run(state="absent").changed
    assert not api.networks(names=[name])
    assert not deployment.run(state="absent").changed


@pytest.mark.parametrize("proxied", [True, False])
def test_another_address_of_the_host_at_the_same_port(proxied: bool, deployment: t.Any, plain: t.Any) -> None:
    tested = deployment if proxied else plain
    tested.run(environment={"VERSION": "1"})
    for address in ("0.0.0.0", "127.0.0.1"):
        assert tested.run(check=True, environment={"VERSION": "1"}, host_ip=address).changed
        assert tested.run(environment={"VERSION": "1"}, host_ip=address).changed
        assert tested.version() == "1"
        assert not tested.run(environment={"VERSION": "1"}, host_ip=address).changed


def test_another_address_together_with_another_proxy(deployment: t.Any) -> None:
    deployment.run(environment={"VERSION": "1"})
    for number, address in enumerate(("0.0.0.0", "::", "127.0.0.1", "0.0.0.0"), start=2):
        proxy = {"image": deployment.lab.proxy, "limits": {"memory": f"{number}00m"}}
        options = {"environment": {"VERSION": str(number)}, "host_ip": address, "proxy": proxy}
        assert deployment.run(**options).changed
        assert deployment.version() == str(number)
        assert not deployment.run(**options).changed


def test_a_second_run_at_the_same_time_says_so(deployment: t.Any) -> None:
    backend = DockerBackend(deployment.options())
    with locked_by_name(backend.lock_name(deployment.name)), pytest.raises(ModelshipError, match="another run"):
        deployment.run()
    assert deployment.names() == []


def test_a_killed_run_leaves_the_old_serving_and_the_next_cleans_up(deployment: t.Any, load: t.Any) -> None:
    deployment.run(environment={"VERSION": "1"})
    served = {"1"}
    with load(deployment.port) as running:
        for attempt, delay in enumerate((0.3, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0), start=2):
            process = deployment.process(environment={"VERSION": str(attempt)})
            time.sleep(delay)
            process.kill()
            process.wait()
            served.add(str(attempt))
            assert deployment.version() in served
    assert running.losses == []
    deployment.run(environment={"VERSION": "last"})
    assert deployment.version() == "last"
    assert len(deployment.names()) == 2
    assert not deployment.run(environment={"VERSION": "last"}).changed


def test_an_image_that_cannot_be_pulled_is_one_clear_line(deployment: t.Any) -> None:
    missing = f"{deployment.lab.registry}/nothing@sha256:{'0' * 64}"
    with pytest.raises(ModelshipError, match="cannot be pulled") as failure:
        deployment.run(image=missing)
    assert "\n" not in failure.value.message
    with pytest.raises(ModelshipError, match="cannot be pulled"):
        deployment.run(image=f"127.0.0.1:9/nothing@sha256:{'0' * 64}")
    assert deployment.names() == []


def test_secrets_are_not_shown(deployment: t.Any) -> None:
    outcome = deployment.run(environment={"API_TOKEN": "hush-hush"})
    assert "hush-hush" not in json.dumps([outcome.difference.as_result(), outcome.result, outcome.message])
    changed = deployment.run(check=True, environment={"API_TOKEN": "another"})
    assert "environment: API_TOKEN" in changed.message
    assert "another" not in json.dumps([changed.difference.as_result(), changed.message])
