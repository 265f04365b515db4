"""What is declared reads back from a container as it was declared, so that a second run changes nothing."""

from __future__ import annotations

import math
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._docker import proxy as proxies
from ansible_collections.modelship.core.plugins.module_utils._docker.limits import proxy_limits, replica_limits
from ansible_collections.modelship.core.plugins.module_utils._docker.plan import unfit
from ansible_collections.modelship.core.plugins.module_utils._docker.spec import (
    container_config,
    live_view,
    replica_spec,
    shown,
)

from .options import OPTIONS_AS_TYPED
from .test_decisions import NETWORK, OPTION, container, declared, info


@settings(deadline=None, max_examples=300)
@given(OPTIONS_AS_TYPED, st.sampled_from([None, NETWORK]))
def test_every_option_reads_back_as_it_was_declared(options: dict[str, t.Any], network: str | None) -> None:
    declaration = declared(**options)
    for spec in (replica_spec(declaration, network), proxies.proxy_spec(OPTION, declaration)):
        config = container_config(spec, name="digits", role="replica", generation=1, address="172.30.0.16")
        assert live_view(info(config)) == shown(spec)
        assert unfit(container(spec, "digits-g1-1"), spec) == []


@given(st.floats(0.01, 4096, allow_nan=False))
def test_fractions_of_cores_read_back_as_they_were_declared(cpus: float) -> None:
    spec = replica_spec(declared(limits={"cpus": cpus}), None)
    config = container_config(spec, name="digits", role="replica", generation=1)
    assert config["HostConfig"]["NanoCpus"] == pytest.approx(cpus * 1e9, abs=0.51)
    view = live_view(info(config))
    assert view is not None
    assert view["cpus"] == spec["cpus"]


@pytest.mark.parametrize("cpus", [1.001, 0.1, 0.3, 1.1, 2.2, 1.0000000001])
def test_a_thousandth_of_a_core_is_no_difference(cpus: float) -> None:
    spec = replica_spec(declared(limits={"cpus": cpus}), None)
    assert unfit(container(spec, "digits-g1-1"), replica_spec(declared(limits={"cpus": cpus}), None)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"limits": {"memory": "1g"}}, {"limits": {"memory": "1024m"}}),
        ({"cap_drop": ["CAP_NET_RAW", "chown", "CHOWN"]}, {"cap_drop": ["NET_RAW", "CHOWN"]}),
        ({"tmpfs": ["/scratch/", "/run:"]}, {"tmpfs": ["/run", "/scratch"]}),
        ({"host_ip": "0:0:0:0:0:0:0:1"}, {"host_ip": "::1"}),
        ({"host_ip": "localhost"}, {"host_ip": "127.0.0.1"}),
        ({"host_ip": "::ffff:127.0.0.1"}, {"host_ip": "127.0.0.1"}),
        ({"user": ""}, {}),
        ({"volumes": ["/a:/b", "/a:/b"]}, {"volumes": ["/a:/b"]}),
        ({"environment": {"A": True, "N": None}}, {"environment": {"A": "true"}}),
        ({"labels": {"a": 1, "n": None}}, {"labels": {"a": "1"}}),
        ({"limits": {"memory": "0", "cpus": 0, "pids": 0}}, {"limits": {}}),
    ],
)
def test_two_ways_to_write_the_same_are_the_same(one: dict[str, t.Any], other: dict[str, t.Any]) -> None:
    assert replica_spec(declared(**one), None) == replica_spec(declared(**other), None)


ENGINE = {"NCPU": 4, "MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True}


def test_containers_have_limits_by_default() -> None:
    declaration = declared()
    limits = replica_limits(declaration.limits, 3, ENGINE)
    assert (limits.memory, limits.pids, limits.cpus) == (3 * (2 << 30), 3 * 1024, None)
    proxy = proxy_limits(declaration.limits, ENGINE)
    assert (proxy.memory, proxy.pids, proxy.cpus) == (1 << 30, 1024, None)


def test_limits_are_overridden_and_0_is_none() -> None:
    given = declared(limits={"memory": "64m", "pids": 7, "cpus": 0.5}).limits
    assert replica_limits(given, 3, ENGINE) == given
    none = declared(limits={"memory": "0", "pids": 0, "cpus": 0}).limits
    limits = replica_limits(none, 3, ENGINE)
    assert (limits.memory, limits.pids, limits.cpus) == (None, None, None)


def test_a_limit_that_the_engine_cannot_enforce_is_refused_and_as_a_default_left_out() -> None:
    engine = {**ENGINE, "MemoryLimit": False, "PidsLimit": False}
    limits = replica_limits(declared().limits, 1, engine)
    assert (limits.memory, limits.pids) == (None, None)
    for limit in ({"memory": "1g"}, {"pids": 5}):
        with pytest.raises(ModelshipError, match=r"limits\.(memory|pids) .* cannot be enforced") as caught:
            replica_limits(declared(limits=limit).limits, 1, engine)
        assert caught.value.kind == "environment"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory": "1m"}, "limits.memory 1048576 bytes is refused"),
        ({"cpus": 0.001}, "limits.cpus 0.001 is refused"),
        ({"cpus": 1e-10}, "limits.cpus 1e-10 is refused"),
        ({"pids": 5_000_000}, "limits.pids 5000000 is refused"),
        ({"cpus": 9}, "limits.cpus 9 is refused: the Engine's host has 4 cores"),
    ],
)
def test_a_limit_that_docker_refuses_is_named_before_anything_is_created(limits: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        replica_limits(declared(limits=limits).limits, 1, ENGINE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"environment": {"A=B": "c"}}, "environment: 'A=…' cannot be the name of a variable"),
        ({"environment": {"": "c"}}, "environment: '' cannot be the name of a variable"),
        ({"environment": {"1A": "c"}}, "environment: '1A' cannot be the name of a variable"),
        ({"environment": {"A B": "c"}}, "environment: 'A B' cannot be the name of a variable"),
        ({"environment": {"A": [1, "two"]}}, r"environment\.A is a list"),
        ({"environment": {"A": {"a": True}}}, r"environment\.A is a mapping"),
        ({"environment": {"A": "b\0c"}}, r"environment\.A has a null character"),
        ({"labels": {"a": ["b"]}}, r"labels\.a is a list"),
        ({"labels": {"a=b": "c"}}, "labels: 'a=b' cannot be the name of a label"),
        ({"host_ip": "somewhere"}, "host_ip 'somewhere' is not an IP address"),
        ({"host_ip": "fe80::1%eth0"}, "host_ip 'fe80::1%eth0' has a zone"),
        ({"host_ip": "224.0.0.1"}, "host_ip 224.0.0.1 is not the address of one host"),
        ({"host_ip": "ff02::1"}, "host_ip ff02::1 is not the address of one host"),
        ({"host_ip": "255.255.255.255"}, "host_ip 255.255.255.255 is not the address of one host"),
        ({"user": "a\udcff"}, "user has half of a surrogate pair"),
        ({"volumes": ["/a\0b:/x"]}, "volumes has a null character"),
        ({"tmpfs": ["/a\udcff"]}, "tmpfs has half of a surrogate pair"),
        ({"host_ip": ""}, "host_ip '' is not an IP address"),
        ({"tmpfs": ["tmp"]}, "tmpfs 'tmp' must begin with the absolute path"),
        ({"tmpfs": ["/scratch", "/scratch:size=1m"]}, "'/scratch' is mounted twice"),
        ({"limits": {"memory": "0.5"}}, r"limits\.memory '0.5' is refused"),
        ({"limits": {"memory": "9999999t"}}, r"limits\.memory '9999999t' is refused"),
        ({"limits": {"cpus": -1}}, r"limits\.cpus -1 is refused"),
        ({"limits": {"cpus": math.nan}}, r"limits\.cpus nan is refused"),
        ({"limits": {"pids": -1}}, r"limits\.pids -1 is refused"),
        ({"health": {"interval": -1}}, r"health\.interval -1 is refused"),
        ({"health": {"timeout": 0}}, r"health\.timeout 0 is refused"),
        ({"health": {"start_deadline": math.inf}}, r"health\.start_deadline inf is refused"),
        ({"health": {"path": "/a b"}}, "health.path '/a b' has a character"),
        ({"health": {"path": "/a\n  http-request deny"}}, "health.path .* has a character"),
        ({"health": {"path": "/a#b"}}, "health.path '/a#b' has a character"),
        ({"environment": {"MODELSHIP_GRPC_PORT": "many"}}, "MODELSHIP_GRPC_PORT 'many' is not a port"),
        ({"environment": {"MODELSHIP_GRPC_PORT": "٩٠٠٠"}}, "MODELSHIP_GRPC_PORT '.*' is not a port"),
        ({"environment": {"A": "\udcff"}}, r"environment\.A has half of a surrogate pair"),
        ({"drain_seconds": 2_147_484}, "drain_seconds 2147484 is refused: it must be at most 2147483 seconds"),
        ({"health": {"timeout": 1e9}}, r"health\.timeout 1000000000 is refused: it must be at most"),
        ({"environment": {"MODELSHIP_GRPC_PORT": 70000}}, "MODELSHIP_GRPC_PORT '70000' is not a port"),
        ({"environment": {"MODELSHIP_GRPC_PORT": 8080}}, "MODELSHIP_GRPC_PORT and container_port are both 8080"),
        ({"environment": {"MODELSHIP_GRPC_PORT": 5000}}, "MODELSHIP_GRPC_PORT and port are both 5000"),
    ],
)
def test_a_value_that_could_not_be_read_back_or_not_be_used_is_refused(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        declared(**options)


def test_a_refused_value_is_not_repeated_because_it_may_be_secret() -> None:
    with pytest.raises(ModelshipError) as caught:
        declared(environment={"API_TOKEN": ["hush-hush"]})
    assert "hush" not in caught.value.message
