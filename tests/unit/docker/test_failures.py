"""What is reported of a failure: its own reason, whatever else fails while it is looked into or rolled back."""

from __future__ import annotations

import ipaddress
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import Health
from ansible_collections.modelship.core.plugins.module_utils._deployment.image_pull import pull_advice
from ansible_collections.modelship.core.plugins.module_utils._docker import backend as backend_module
from ansible_collections.modelship.core.plugins.module_utils._docker.apply import Run
from ansible_collections.modelship.core.plugins.module_utils._docker.health import has_network, wait_ready
from ansible_collections.modelship.core.plugins.module_utils._docker.observe import Observed
from ansible_collections.modelship.core.plugins.module_utils._docker.plan import decide
from ansible_collections.modelship.core.plugins.module_utils._docker.spec import replica_spec

from .test_decisions import OPTION, OTHER, container, declared, running


def failing(words: str) -> t.Callable[..., t.Any]:
    def fail(*_arguments: object) -> t.NoReturn:
        raise ModelshipError(words, kind="docker")

    return fail


class Engine:
    """An Engine in which containers end at once, and in which what *broken* names fails too."""

    def __init__(self, *broken: str) -> None:
        self.done: list[tuple[str, str]] = []
        for name in broken:
            setattr(self, name, failing(f"{name} does not work"))

    def pull(self, reference: str, _progress: Progress) -> None:
        self.done.append(("pull", reference))

    def create(self, name: str, _config: dict[str, t.Any]) -> str:
        self.done.append(("create", name))
        return f"id-of-{name}"

    def start(self, ident: str) -> None:
        self.done.append(("start", ident))

    def stop(self, ident: str, _seconds: int) -> None:
        self.done.append(("stop", ident))

    def remove(self, ident: str) -> None:
        self.done.append(("remove", ident))

    def create_network(self, name: str, _labels: dict[str, str]) -> dict[str, t.Any]:
        self.done.append(("create_network", name))
        return {"Name": name, "IPAM": {"Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1"}]}}

    def remove_network(self, name: str) -> None:
        self.done.append(("remove_network", name))

    def container(self, _ident: str) -> dict[str, t.Any]:
        return {
            "State": {"Running": False, "ExitCode": 3},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": ""}}},
        }

    def logs(self, _ident: str) -> str:
        return "last words"


def fail(engine: Engine, *, proxied: bool = False, observed: Observed | None = None) -> ModelshipError:
    """Deploy another image than what is *observed*, which fails."""
    observed = observed or Observed()
    declaration, options = declared(image=OTHER), OPTION if proxied else None
    plan = decide(declaration, options, observed)
    with pytest.raises(ModelshipError) as caught:
        Run(t.cast(t.Any, engine), declaration, options, observed, plan, Progress()).perform()
    return caught.value


def test_a_log_that_cannot_be_read_does_not_hide_why_a_container_ended() -> None:
    error = fail(Engine("logs"))
    assert error.message == "container digits-g1-1 ended with exit code 3; its log cannot be read (logs does not work)"
    assert (error.kind, error.details) == ("unhealthy", {"log": []})


def test_a_rollback_that_fails_does_not_hide_the_failure_and_does_all_that_it_can() -> None:
    old = container(replica_spec(declared(), None), "digits-g1-1")
    old.view = {**(old.view or {}), "published": None}
    engine = Engine("remove")
    error = fail(engine, observed=Observed(replicas=[old], volume=None))
    assert error.kind == "unhealthy"
    assert error.message.startswith("container digits-g2-rehearsal ended with exit code 3; its log ends: last words; ")
    assert error.message.endswith("rolling back failed too: remove does not work")
    assert error.details == {"log": ["last words"]}


def test_a_rollback_starts_what_was_stopped_though_the_new_container_cannot_be_removed() -> None:
    old = container(replica_spec(declared(), None), "digits-g1-1")
    observed = Observed(replicas=[old])
    engine = Engine("remove")
    declaration = declared(image=OTHER)
    run = Run(t.cast(t.Any, engine), declaration, None, observed, decide(declaration, None, observed), Progress())
    run._created.append("new")
    run._stopped.append(old)
    error = ModelshipError("it does not run", kind="unhealthy")
    run._undo(error)
    assert ("start", "digits-g1-1") in engine.done
    assert error.message == "it does not run; rolling back failed too: remove does not work"


@pytest.mark.parametrize(
    ("subnet", "replicas", "first", "others"),
    [
        ("172.30.0.0/24", 1, "172.30.0.16", {}),
        ("172.30.0.0/28", 1, "172.30.0.2", {}),
        ("172.30.0.0/29", 5, "172.30.0.2", {}),
        ("172.30.0.0/29", 1, "172.30.0.3", {"x": {"IPv4Address": "172.30.0.2/29"}}),
        ("172.30.0.0/27", 28, "172.30.0.16", {}),
    ],
)
def test_replicas_get_addresses_in_networks_of_any_size(
    subnet: str, replicas: int, first: str, others: dict[str, t.Any]
) -> None:
    declaration = declared(replicas=replicas)
    network = {"IPAM": {"Config": [{"Subnet": subnet, "Gateway": "172.30.0.1"}]}, "Containers": others}
    observed = Observed(network=network)
    plan = decide(declaration, OPTION, observed)
    found = Run(t.cast(t.Any, Engine()), declaration, OPTION, observed, plan, Progress())._addresses()
    assert found[0] == first
    assert len(set(found)) == replicas
    assert not {"172.30.0.0", "172.30.0.1", *(item["IPv4Address"][:-3] for item in others.values())} & set(found)
    assert all(ipaddress.ip_address(item) in ipaddress.ip_network(subnet) for item in found)


def test_a_network_with_too_few_addresses_is_named() -> None:
    declaration = declared(replicas=6)
    observed = Observed(network=Engine().create_network("modelship-digits", {}))
    assert observed.network
    observed.network["IPAM"]["Config"][0]["Subnet"] = "172.30.0.0/29"
    run = Run(t.cast(t.Any, Engine()), declaration, OPTION, observed, decide(declaration, OPTION, observed), Progress())
    with pytest.raises(
        ModelshipError, match=r"modelship-digits \(172.30.0.0/29\) has 5 free addresses, and 6 new replicas"
    ):
        run._addresses()


def test_a_golden_set_that_cannot_be_read_is_reported_before_anything_is_pulled_or_created(tmp_path: Path) -> None:
    declaration, engine = declared(verify={"release": str(tmp_path / "no-release")}), Engine()
    plan = decide(declaration, None, Observed())
    with pytest.raises(ModelshipError, match=r"no-release/release\.json: No such file"):
        Run(t.cast(t.Any, engine), declaration, None, Observed(), plan, Progress()).perform()
    assert engine.done == []


def test_a_first_deployment_that_fails_leaves_no_network() -> None:
    engine = Engine()
    fail(engine, proxied=True)
    assert engine.done[-2:] == [("remove", "id-of-digits-g1-1"), ("remove_network", "modelship-digits")]
    kept = Engine()
    observed = running(declared())
    observed.network = kept.create_network("modelship-digits", {})
    fail(kept, proxied=True, observed=observed)
    assert "remove_network" not in [what for what, _name in kept.done]


@pytest.mark.parametrize(
    ("networks", "reachable"),
    [
        ({}, False),
        ({"none": {"IPAddress": ""}}, False),
        ({"host": {"IPAddress": ""}}, True),
        ({"bridge": {"IPAddress": "172.17.0.2"}}, True),
        ({"six": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}, True),
    ],
)
def test_a_container_without_a_network_is_told_from_one_that_does_not_answer(
    networks: dict[str, t.Any], reachable: bool
) -> None:
    info = {"State": {"Running": True}, "NetworkSettings": {"Networks": networks}}
    assert has_network(info) is reachable
    engine = Engine()
    engine.container = lambda _ident: info  # type: ignore[method-assign]
    with pytest.raises(ModelshipError) as caught:
        wait_ready(t.cast(t.Any, engine), "x", "x", "http://127.0.0.1:9", Health(start_deadline=0.1), Progress())
    assert ("has no network" in caught.value.message) is not reachable


def test_a_proxy_on_a_rootless_engine_is_refused_before_anything_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rootless:
        host = "unix:///run/user/1000/docker.sock"

        def __init__(self, _parameters: object) -> None: ...

        def info(self) -> dict[str, t.Any]:
            return {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}

    monkeypatch.setattr(backend_module, "Docker", Rootless)
    backend = backend_module.DockerBackend({"proxy": {"image": OPTION.image}})
    with pytest.raises(ModelshipError, match=r"rootless Engine at unix:///run/user/1000/docker\.sock") as caught:
        backend.apply(declared(), Context())
    assert caught.value.kind == "docker"


_WAYS = {"insecure": "in {host}'s settings", "trust": "in certs.d/{host}", "credentials": "user and password"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            'Get "https://r.example:5000/v2/": http: server gave HTTP response to HTTPS client',
            "registry r.example:5000 speaks plain HTTP, and TLS is expected: give the registry a certificate (TLS), or allow "
            "plain HTTP where the image is pulled, in r.example:5000's settings",
        ),
        (
            "x509: certificate signed by unknown authority",
            "is not trusted where the image is pulled: in certs.d/r.example:5000",
        ),
        ("dial tcp: lookup r.example: no such host", "the name of registry r.example:5000 cannot be resolved"),
        ("dial tcp 192.0.2.1:5000: connect: connection refused", "registry r.example:5000 cannot be reached"),
        (
            "pull access denied for x, repository does not exist",
            "rejects the credentials, or the image does not exist there",
        ),
        ("no basic auth credentials", "check user and password"),
        ("manifest for x not found: manifest unknown", "does not have the image: push it there first"),
        ("no matching manifest for linux/arm64/v8", "build the image for the platform"),
        ("write /var/lib/docker/tmp: no space left on device", "free some space"),
        ("something else", "check that registry r.example:5000 is running"),
    ],
)
def test_the_advice_on_a_failed_pull_fits_its_reason(reason: str, words: str) -> None:
    assert words in pull_advice("r.example:5000/digits@sha256:0", reason, **_WAYS)


def test_an_image_without_a_host_is_docker_hubs() -> None:
    assert "registry docker.io " in pull_advice("library/x@sha256:0", "manifest unknown", **_WAYS)
    assert "registry docker.io " in pull_advice("x@sha256:0", "manifest unknown", **_WAYS)
