"""What is decided about a deployment, without an Engine."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import socket
import sys
import typing as t
import urllib.parse
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.masking import encodings
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import (
    Declaration,
    declare,
    parse_size,
)
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._deployment.targets import backend
from ansible_collections.modelship.core.plugins.module_utils._docker import ports
from ansible_collections.modelship.core.plugins.module_utils._docker import proxy as proxies
from ansible_collections.modelship.core.plugins.module_utils._docker.health import ended
from ansible_collections.modelship.core.plugins.module_utils._docker.observe import Container, Observed
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._docker.plan import Plan, decide, unfit
from ansible_collections.modelship.core.plugins.module_utils._docker.spec import (
    PROXY,
    container_config,
    live_view,
    replica_spec,
    shown,
    spec_digest,
)
from ansible_collections.modelship.core.plugins.modules.deployment import deploy

IMAGE = "r.example/digits@sha256:" + "1" * 64
OTHER = "r.example/digits@sha256:" + "2" * 64
OPTION = proxies.ProxyOptions(image="r.example/haproxy@sha256:" + "3" * 64)
NETWORK = "modelship-digits"


def declared(**options: t.Any) -> Declaration:
    checked = ArgumentSpecValidator(OPTIONS).validate({"name": "digits", "image": IMAGE, **options})
    assert not checked.error_messages
    return declare(checked.validated_parameters)


def info(config: dict[str, t.Any], status: str = "running") -> dict[str, t.Any]:
    """What the Engine tells of a container made with *config* (Engine API 1.41)."""
    networks = (config.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    host = dict(config["HostConfig"])
    return {
        "Id": "0" * 64,
        "Config": {**config, "Env": [*config["Env"], "PATH=/usr/bin"]},
        "HostConfig": host,
        "State": {"Status": status, "Running": status == "running"},
        "NetworkSettings": {"Networks": networks},
    }


def container(spec: dict[str, t.Any], name: str, role: str = "replica", **changes: t.Any) -> Container:
    address = changes.pop("address", "172.30.0.16")
    made = info(container_config(spec, name="digits", role=role, generation=1, address=address))
    values = {
        "ident": name,
        "name": name,
        "role": role,
        "generation": 1,
        "status": "running",
        "digest": spec_digest(spec),
        "view": live_view(made),
        "address": address,
        "info": made,
    }
    return Container(**{**values, **changes})


def running(declaration: Declaration, **changes: t.Any) -> Observed:
    """A deployment behind a proxy that is as it should be."""
    replicas = [
        container(replica_spec(declaration, NETWORK), f"digits-g1-{n + 1}", address=f"172.30.0.{16 + n}")
        for n in range(declaration.replicas)
    ]
    config = proxies.render(declaration, OPTION, {item.name: item.address or "" for item in replicas})
    observed = Observed(
        replicas=replicas,
        proxy=container(proxies.proxy_spec(OPTION, declaration), "digits-proxy", PROXY),
        network={"Name": NETWORK},
        config=config.text,
        running_config=config.digest,
    )
    return dataclasses.replace(observed, **changes)


def test_what_a_container_is_made_of_reads_back_the_same() -> None:
    declaration = declared(
        environment={"A": "b", "API_TOKEN": "hush"},
        limits={"memory": "1.5g", "cpus": 0.5, "pids": 50},
        volumes=["data:/data:ro"],
        tmpfs=["/scratch", "/run:size=1m"],
        user="1:1",
        labels={"team": "x"},
        port=80,
    )
    for spec in (
        replica_spec(declaration, NETWORK),
        replica_spec(declaration, None),
        proxies.proxy_spec(OPTION, declaration),
    ):
        config = container_config(spec, name="digits", role="replica", generation=1, address="172.30.0.16")
        assert live_view(info(config)) == shown(spec)
        assert "hush" not in json.dumps(config["Labels"])


def test_the_digest_tells_every_difference_secrets_too() -> None:
    specs = [
        replica_spec(declared(**options), NETWORK)
        for options in ({}, {"image": OTHER}, {"workers": 2}, {"user": "1"}, {"environment": {"TOKEN": "a"}})
    ] + [replica_spec(declared(environment={"TOKEN": "b"}), NETWORK), replica_spec(declared(), None)]
    assert len({spec_digest(spec) for spec in specs}) == len(specs)
    assert spec_digest(replica_spec(declared(replicas=3), NETWORK)) == spec_digest(replica_spec(declared(), NETWORK))


def test_nothing_to_do() -> None:
    plan = decide(declared(), OPTION, running(declared()))
    assert not plan.changed
    assert plan.reasons == []
    assert not plan.difference


def test_first_time() -> None:
    plan = decide(declared(replicas=2), OPTION, Observed())
    assert plan.create == ["digits-g1-1", "digits-g1-2"]
    assert (plan.network, plan.proxy, plan.reload) == (True, "create", False)


def test_a_proxy_that_is_declared_for_the_first_time_is_not_reported_as_gone() -> None:
    observed = Observed(replicas=[container(replica_spec(declared(), None), "digits-g1-1")])
    reasons = "; ".join(decide(declared(), OPTION, observed).reasons)
    assert "a proxy is declared now" in reasons
    assert "gone" not in reasons
    reasons = "; ".join(decide(declared(), OPTION, running(declared(), proxy=None, network=None)).reasons)
    assert "the proxy is gone" in reasons
    assert "network modelship-digits is gone" in reasons


def test_another_image_replaces_all() -> None:
    plan = decide(declared(image=OTHER), OPTION, running(declared()))
    assert plan.create == ["digits-g2-1"]
    assert [item.name for item in plan.remove] == ["digits-g1-1"]
    assert (plan.proxy, plan.reload) == ("", True)
    assert plan.reasons == ["digits-g1-1 differs (image: sha256:111111111111 -> sha256:222222222222)"]
    assert plan.difference.names == ["containers", "image"]


def test_scaling_keeps_what_fits() -> None:
    up = decide(declared(replicas=3), OPTION, running(declared(replicas=1)))
    assert (len(up.keep), up.create, up.remove) == (1, ["digits-g2-1", "digits-g2-2"], [])
    down = decide(declared(replicas=1), OPTION, running(declared(replicas=3)))
    assert (len(down.keep), down.create, len(down.remove), down.reload) == (1, [], 2, True)


def _changed(observed: Observed, **changes: t.Any) -> Observed:
    observed.replicas[0] = dataclasses.replace(observed.replicas[0], **changes)
    return observed


DRIFTS: dict[str, tuple[t.Callable[[Observed], Observed], str]] = {
    "removed": (lambda o: dataclasses.replace(o, replicas=[]), "0 of 1 replicas"),
    "stopped": (lambda o: _changed(o, status="exited"), "is exited"),
    "paused": (lambda o: _changed(o, status="paused"), "is paused"),
    "not ready": (lambda o: _changed(o, not_ready="it answered 503"), "answered 503"),
    "no labels": (lambda o: _changed(o, view=None), "no readable labels"),
    "digest": (lambda o: _changed(o, digest="sha256:0"), "specification changed"),
    "disconnected": (lambda o: _changed(o, address=None), "in no network"),
    "network": (lambda o: dataclasses.replace(o, network=None), "network modelship-digits is gone"),
    "proxy gone": (lambda o: dataclasses.replace(o, proxy=None, config=None), "the proxy is gone"),
    "proxy silent": (lambda o: dataclasses.replace(o, running_config=None), "does not answer"),
    "configuration": (lambda o: dataclasses.replace(o, config="# nothing"), "configuration differs"),
    "not reloaded": (lambda o: dataclasses.replace(o, running_config="sha256:0"), "configuration differs"),
    "leftover": (lambda o: dataclasses.replace(o, leftovers=[o.replicas[0]]), "left over"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_its_reason_told(drift: str) -> None:
    spoil, why = DRIFTS[drift]
    plan = decide(declared(), OPTION, spoil(running(declared())))
    assert plan.changed
    assert any(why in reason for reason in plan.reasons)


def test_a_removed_variable_is_a_difference() -> None:
    spec = replica_spec(declared(environment={"A": "1", "B": "2"}), NETWORK)
    old = container(spec, "digits-g1-1")
    assert unfit(old, replica_spec(declared(environment={"A": "1"}), NETWORK)) == [
        "digits-g1-1 differs (environment: B)"
    ]


def test_a_proxy_left_by_a_killed_run_takes_its_name() -> None:
    observed = running(declared())
    assert observed.proxy is not None
    observed.proxy.name = "digits-proxy-g2"
    plan: Plan = decide(declared(), OPTION, observed)
    assert plan.proxy == "rename"


def test_what_a_killed_run_made_is_used_not_made_again() -> None:
    declaration = declared(image=OTHER)
    observed = running(declared())
    observed.replicas.append(container(replica_spec(declaration, NETWORK), "digits-g2-1", address="172.30.0.17"))
    plan = decide(declaration, OPTION, observed)
    assert plan.create == []
    assert [item.name for item in plan.keep] == ["digits-g2-1"]
    assert plan.reload


def test_configuration_names_servers_and_port() -> None:
    config = proxies.render(declared(port=1234), OPTION, {"b": "172.30.0.17", "a": "172.30.0.16"})
    assert proxies.servers_of(config.text) == {"a": "172.30.0.16", "b": "172.30.0.17"}
    assert proxies.bind_of(config.text) == ("127.0.0.1", 1234)
    assert config.digest in config.text
    assert config.digest != proxies.render(declared(), OPTION, {"a": "172.30.0.16"}).digest
    assert proxies.unpacked(proxies.packed(config.text)) == config.text


def test_a_low_port_needs_root_and_one_capability() -> None:
    spec = proxies.proxy_spec(OPTION, declared(port=80))
    assert (spec["user"], spec["cap_drop"], spec["cap_add"]) == ("0:0", ["ALL"], ["NET_BIND_SERVICE"])
    assert proxies.proxy_spec(OPTION, declared(port=8080))["cap_add"] == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"Running": True}, None),
        ({"Running": False, "ExitCode": 3}, "exit code 3"),
        ({"Running": True, "Restarting": True, "ExitCode": 1}, "exit code 1"),
        ({"Running": False, "OOMKilled": True, "ExitCode": 137}, "memory limit"),
        ({"Running": False, "ExitCode": 127, "Error": "no such file"}, "no such file"),
    ],
)
def test_how_a_container_ended(state: dict[str, t.Any], words: str | None) -> None:
    assert "started again" in str(ended({"State": {"Running": True}, "RestartCount": 1}))
    told = ended({"State": state})
    assert told is None if words is None else words in str(told)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "digits:latest"}, "not named by its digest"),
        ({"image": "digits"}, "not named by its digest"),
        ({"image": "digits@sha256:123"}, "is not a digest"),
        ({"name": "Digits"}, "name 'Digits' is refused"),
        ({"replicas": 0}, "replicas 0"),
        ({"port": 70000}, "is no port"),
        ({"limits": {"memory": "much"}}, r"limits\.memory 'much'"),
        ({"health": {"path": "ready"}}, "must begin with /"),
        ({"labels": {"io.modelship.role": "x"}}, "is reserved"),
    ],
)
def test_bad_values_are_named(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        declared(**options)


def test_sizes() -> None:
    assert [parse_size(text, "x") for text in ("512m", "2g", "1.5GiB", "100", "1k")] == [
        512 << 20,
        2 << 30,
        3 << 29,
        100,
        1024,
    ]


def _deploy(*, check: bool, **options: t.Any) -> Outcome:
    checked = ArgumentSpecValidator({**OPTIONS, **DOCKER_OPTIONS}).validate({"name": "digits", **options})
    assert not checked.error_messages
    return deploy(dict(checked.validated_parameters), Context(check=check))


@pytest.mark.parametrize("options", [{"image": ""}, {"image": IMAGE, "proxy": {"image": ""}}])
def test_an_image_that_is_not_built_yet_is_told_plainly_in_check_mode(options: dict[str, t.Any]) -> None:
    outcome = _deploy(check=True, **options)
    assert outcome.changed
    assert "cannot be known before" in outcome.message
    assert outcome.result["deployment"]["url"] == "http://127.0.0.1:5000"
    with pytest.raises(ModelshipError, match="image is missing"):
        _deploy(check=False, **options)


@pytest.mark.parametrize("image", ["", IMAGE])
@pytest.mark.parametrize("host", ["/var/run/docker.sock", "moon", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "fd://"])
def test_what_is_not_the_address_of_an_engine_is_refused(host: str, image: str) -> None:
    pytest.importorskip("docker")
    with pytest.raises(ModelshipError, match=f"docker_host '{host}' is not the address of a Docker Engine") as caught:
        _deploy(check=True, image=image, docker_host=host)
    assert caught.value.kind == "input"


@pytest.mark.parametrize("image", ["", IMAGE])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ca_path": "/missing/ca.pem"}, "ca_path /missing/ca.pem cannot be read: No such file or directory"),
        (
            {"client_cert": "/missing/cert.pem", "client_key": "/missing/key.pem"},
            "client_cert /missing/cert.pem cannot be",
        ),
        ({"client_cert": "/missing/cert.pem"}, "client_cert needs client_key"),
        ({"client_key": "/missing/key.pem"}, "client_key needs client_cert"),
        ({"timeout": 0}, "timeout 0 is refused"),
        ({"timeout": -1}, "timeout -1 is refused"),
        ({"timeout": 10**10}, "timeout 10000000000 is refused"),
    ],
)
def test_a_wrong_option_of_the_connection_is_not_reported_as_an_engine_that_does_not_answer(
    options: dict[str, t.Any], words: str, image: str
) -> None:
    pytest.importorskip("docker")
    with pytest.raises(ModelshipError, match=words) as caught:
        _deploy(check=True, image=image, docker_host="tcp://127.0.0.1:9", **options)
    assert caught.value.kind == "input"


def test_no_engine_and_no_sdk_are_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("docker")
    for host in (f"unix://{tmp_path}/docker.sock", "tcp://127.0.0.1:9"):
        with pytest.raises(ModelshipError, match="no Docker Engine answers at") as failure:
            _deploy(check=True, image=IMAGE, docker_host=host)
        assert host in failure.value.message
        assert "\n" not in failure.value.message
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ModelshipError, match=re.escape(f"cannot be imported by {sys.executable}")):
        _deploy(check=True, image=IMAGE)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ModelshipError, match="target 'moon'"):
        backend({"target": "moon"})


def test_a_published_port_is_named_by_its_container() -> None:
    other = {"Names": ["/shop"], "Ports": [{"IP": "0.0.0.0", "PublicPort": 5000}]}
    with pytest.raises(ModelshipError, match="taken by the container shop"):
        ports.check_free("127.0.0.1", 5000, [other])
    with pytest.raises(ModelshipError, match="no address of this host"):
        ports.check_free("192.0.2.1", 5000, [])


@pytest.mark.parametrize(
    ("held", "wanted", "proxied", "free"),
    [
        ("0.0.0.0", "::1", False, True),
        ("0.0.0.0", "::", False, True),
        ("0.0.0.0", "::", True, False),
        ("127.0.0.1", "::", True, False),
        ("::", "127.0.0.1", True, True),
        ("::", "::1", False, False),
        ("::1", "127.0.0.1", False, True),
        ("", "::1", False, False),
    ],
)
def test_ipv4_and_ipv6_are_ports_of_their_own_unless_a_proxy_listens_at_all_addresses(
    held: str, wanted: str, proxied: bool, free: bool
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    other = {"Names": ["/shop"], "Ports": [{"IP": held, "PublicPort": port}]}
    if free:
        ports.check_free(wanted, port, [other], proxied=proxied)
    else:
        with pytest.raises(ModelshipError, match="taken by the container shop"):
            ports.check_free(wanted, port, [other], proxied=proxied)


def test_an_ipv4_socket_takes_the_port_of_all_addresses_from_a_proxy_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ports.check_free("::", port, [])
        with pytest.raises(ModelshipError, match="is taken by"):
            ports.check_free("::", port, [], proxied=True)
        with pytest.raises(ModelshipError, match="is taken by"):
            ports.check_free("0.0.0.0", port, [], own=["::1"])
        ports.check_free("0.0.0.0", port, [], own=["127.0.0.1"])


def test_an_ended_connection_does_not_take_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _address = server.accept()
        accepted.close()  # this side waits (TIME_WAIT) on the server's port
        client.recv(1)
        client.close()
    ports.check_free("127.0.0.1", port, [])
    assert ports.listener(port) is None


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_a_folder_with_the_certificate_is_mounted_and_containers_are_asked_by_https() -> None:
    declaration = declared(https={"folder": "/etc/digits/tls", "client_ca": True}, volumes=["/a:/b"])
    spec = replica_spec(declaration, None)
    assert spec["volumes"] == ["/a:/b", "/etc/digits/tls:/run/modelship/tls:ro"]
    assert spec["environment"]["MODELSHIP_TLS_CERT"] == "/run/modelship/tls/tls.crt"
    assert spec["environment"]["MODELSHIP_TLS_CLIENT_CA"] == "/run/modelship/tls/ca.crt"
    assert declaration.url == "https://127.0.0.1:5000"
    assert declaration.replica_url("172.17.0.5") == "https://172.17.0.5:8080"
    assert live_view(info(container_config(spec, name="digits", role="replica", generation=1))) == shown(spec)
    assert unfit(container(replica_spec(declared(), None), "digits-g1-1"), spec)


def test_a_certificate_of_ones_own_counts_as_well() -> None:
    assert declared(environment={"MODELSHIP_TLS_CERT": "/own.pem"}).url.startswith("https://")
    assert declared(https=None).url.startswith("http://")


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"secret": "s", "folder": "/f"}, "https.secret is not for target docker"),
        ({"client_ca": True}, "https.folder is missing"),
        ({"folder": "relative"}, "must be an absolute path"),
    ],
)
def test_tls_that_cannot_be_is_refused(tls: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        declared(https=tls)


@pytest.mark.parametrize("how", [{"https": {"folder": "/f"}}, {"environment": {"MODELSHIP_TLS_CERT": "/own.pem"}}])
def test_a_proxy_cannot_stand_before_containers_that_speak_tls(how: dict[str, t.Any]) -> None:
    with pytest.raises(ModelshipError, match="cannot be used with proxy"):
        declared(proxy={"image": OPTION.image}, **how)


def test_a_diff_shows_neither_the_old_nor_the_new_value_of_a_rotated_secret() -> None:
    old, new = "0ld-p@ss/word", "n3w-p@ss/word"

    def with_secret(secret: str) -> Declaration:
        encoded = base64.b64encode(f"app:{secret}".encode()).decode()
        environment = {
            "DB_PASSWORD": secret,
            "DATABASE_URL": f"postgres://app:{secret}@db",
            "GREETING": f"hello {secret}",
            "QUERY": f"?x={urllib.parse.quote(secret, safe='')}",
            "HEADERS": f"x: 1, y: Basic {encoded}",
        }
        return declared(environment=environment, labels={"note": f"was {secret}"})

    plan = decide(with_secret(new), OPTION, running(with_secret(old)))
    shown = plan.difference.as_result()
    told = json.dumps([shown, plan.reasons])
    assert [form for secret in (old, new) for form in encodings(secret) if form in told] == []
    for side in ("before", "after"):
        assert '"GREETING": "hello <redacted ' in shown[side]
        assert '"note": "was <redacted ' in shown[side]
