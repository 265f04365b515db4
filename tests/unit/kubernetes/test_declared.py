"""What is declared for Kubernetes alone: defaults, reading, and refusals that name the option."""

from __future__ import annotations

import random
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from kubernetes.utils.quantity import parse_quantity

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import quantities
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions

from .manifest_cases import COMMON, EACH, IMAGE, maximal, parameters

SUBOPTIONS = OPTIONS["kubernetes"]["options"]
DEFAULTS = KubernetesOptions.from_parameters(parameters())


def read(**kubernetes: t.Any) -> KubernetesOptions:
    return KubernetesOptions.from_parameters(parameters(**kubernetes))


def test_the_cases_have_every_suboption() -> None:
    assert set(EACH) == set(SUBOPTIONS)


@pytest.mark.parametrize("option", sorted(EACH))
def test_each_suboption_is_read_and_changes_only_itself(option: str) -> None:
    changed = read(**{option: EACH[option]})
    assert {name for name in SUBOPTIONS if getattr(changed, name) != getattr(DEFAULTS, name)} == {option}


def test_without_the_argument_parser_the_defaults_are_the_same() -> None:
    """Ansible fills the defaults in before the module reads them; reading raw parameters must come to the same."""
    for kubernetes in ({}, *({name: value} for name, value in EACH.items()), EACH):
        raw = {"name": "digits", "image": IMAGE, "target": "kubernetes", "kubernetes": kubernetes}
        parsed = ArgumentSpecValidator(OPTIONS).validate(raw)
        assert parsed.error_messages == []
        assert KubernetesOptions.from_parameters(parsed.validated_parameters) == KubernetesOptions.from_parameters(raw)


def test_yaml_booleans_of_the_service_monitor_are_understood() -> None:
    for given, expected in ((True, True), (False, False), ("auto", None)):
        raw = {"name": "digits", "kubernetes": {"service_monitor": {"enabled": given}}}
        parsed = ArgumentSpecValidator(OPTIONS).validate(raw)
        assert parsed.error_messages == []
        assert KubernetesOptions.from_parameters(parsed.validated_parameters).service_monitor.enabled is expected


def test_sizes_are_bytes_and_texts_are_text() -> None:
    options = KubernetesOptions.from_parameters(maximal())
    assert [item.size for item in options.storage] == [1536 << 20, 10 << 30]
    assert options.requests.memory == 256 << 20
    assert options.node_selector == {"disk": "ssd", "fast": "true"}
    assert options.pod_annotations == {"example.com/scrape": "true"}
    assert (options.rollout.max_surge, options.rollout.max_unavailable) == ("25%", 1)


def test_autoscaling_without_a_metric_follows_the_processor() -> None:
    scaling = read(autoscaling={"max": 4}).autoscaling
    assert scaling is not None
    assert (scaling.cpu_percent, scaling.memory_percent, scaling.min) == (80, None, None)


def test_null_values_are_as_if_not_given() -> None:
    assert read(annotations={"example.com/a": None}, config_files=None, service=None) == DEFAULTS


@pytest.mark.parametrize(
    ("common", "message"),
    [
        ({"volumes": ["/data:/data"]}, "volumes belongs to target docker: use kubernetes.storage"),
        ({"proxy": {"image": IMAGE}}, "proxy belongs to target docker"),
        ({"cap_drop": ["NET_RAW"]}, "cap_drop belongs to target docker"),
        ({"no_new_privileges": False}, "no_new_privileges belongs to target docker"),
        ({"limits": {"pids": 100}}, "limits.pids belongs to target docker"),
        ({"name": "3d"}, "name '3d' is refused: the name of a Kubernetes Service must begin with a letter"),
        ({"namespace": "My_Shop"}, "namespace 'My_Shop' is refused"),
    ],
)
def test_what_a_pod_cannot_have_is_refused(common: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        KubernetesOptions.from_parameters(parameters(common))
    assert caught.value.message.startswith(message)
    assert caught.value.kind == "input"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("service", {"port": 0}, "kubernetes.service.port 0 is refused: it must be 1 to 65535"),
        ("service", {"node_port": 30000}, "kubernetes.service.node_port 30000 needs kubernetes.service.type NodePort"),
        (
            "service",
            {"annotations": {"modelship.io/x": "y"}},
            "kubernetes.service.annotations: 'modelship.io/x' is set by",
        ),
        ("service_account", {"name": "a", "annotations": {"b": "c"}}, "kubernetes.service_account.annotations are for"),
        ("secrets", {"1A": "x"}, "kubernetes.secrets: '1A' cannot be the name of a variable"),
        ("config_files", {"etc/a": "x"}, "kubernetes.config_files: 'etc/a' can be no mount"),
        ("config_files", {"/": "x"}, "kubernetes.config_files: '/' can be no mount"),
        ("secret_files", {"/a/../b": "x"}, "kubernetes.secret_files: '/a/../b' can be no mount"),
        ("storage", [{"name": "A", "size": "1g", "mount_path": "/a"}], "kubernetes.storage[0].name 'A' is refused"),
        ("storage", [{"name": "a", "size": "big", "mount_path": "/a"}], "kubernetes.storage[0].size 'big' is no size"),
        ("storage", [{"name": "a", "size": "0", "mount_path": "/a"}], "kubernetes.storage[0].size 0 is refused"),
        (
            "storage",
            [{"name": "a", "size": "1g", "mount_path": "a"}],
            "kubernetes.storage[0].mount_path: 'a' can be no",
        ),
        (
            "storage",
            [{"name": "a", "size": "1g", "mount_path": "/a"}, {"name": "a", "size": "1g", "mount_path": "/b"}],
            "kubernetes.storage[1].name 'a' is given twice",
        ),
        (
            "storage",
            [{"name": "a", "size": "1g", "mount_path": "/a", "access_modes": []}],
            "kubernetes.storage[0].access_modes is empty",
        ),
        ("requests", {"cpus": 0.0001}, "kubernetes.requests.cpus 0.0001 is refused"),
        ("requests", {"memory": "lots"}, "kubernetes.requests.memory 'lots' is no size"),
        ("gpus", {"count": 0}, "kubernetes.gpus.count 0 is refused"),
        ("gpus", {"count": 1, "resource": "gpu"}, "kubernetes.gpus.resource 'gpu' is no device plugin's"),
        ("node_selector", {"disk": "fast ssd"}, "kubernetes.node_selector: 'fast ssd' can be no value of label disk"),
        ("namespace_labels", {"-a": "b"}, "kubernetes.namespace_labels: '-a' can be no label's name"),
        ("node_lost_seconds", -1, "kubernetes.node_lost_seconds -1 is refused"),
        ("liveness_path", "live", "kubernetes.liveness_path 'live' must begin with /"),
        ("autoscaling", {"max": 0}, "kubernetes.autoscaling.max 0 is refused"),
        ("autoscaling", {"min": 2}, "kubernetes.autoscaling.max is missing"),
        (
            "autoscaling",
            {"external": True, "max": 2},
            "kubernetes.autoscaling.max is for an autoscaler of the deployment's own",
        ),
        ("autoscaling", {"max": 2, "cpu_percent": 0}, "kubernetes.autoscaling.cpu_percent 0 is refused"),
        ("disruption_budget", {}, "kubernetes.disruption_budget needs one of min_available and max_unavailable"),
        (
            "disruption_budget",
            {"min_available": "1", "max_unavailable": "1"},
            "kubernetes.disruption_budget needs one of",
        ),
        (
            "disruption_budget",
            {"min_available": "half"},
            "kubernetes.disruption_budget.min_available 'half' is neither",
        ),
        (
            "disruption_budget",
            {"min_available": "101%"},
            "kubernetes.disruption_budget.min_available '101%' is neither",
        ),
        ("ingress", {"host": "a.example", "path": "b"}, "kubernetes.ingress.path 'b' must begin with /"),
        ("http_route", {"parents": []}, "kubernetes.http_route.parents is empty"),
        ("http_route", {"parents": [{"name": "a"}], "path": "b"}, "kubernetes.http_route.path 'b' must begin with /"),
        ("service_monitor", {"interval": "often"}, "kubernetes.service_monitor.interval 'often' is no duration"),
        ("service_monitor", {"labels": {"app.kubernetes.io/name": "x"}}, "kubernetes.service_monitor.labels: 'app.kub"),
        ("rollout", {"deadline": 0}, "kubernetes.rollout.deadline 0 is refused"),
        (
            "rollout",
            {"max_surge": "0"},
            "kubernetes.rollout.max_surge and kubernetes.rollout.max_unavailable are both 0",
        ),
        ("rollout", {"max_surge": "-1"}, "kubernetes.rollout.max_surge '-1' is neither"),
        ("rollout", {"pre_stop_seconds": -1}, "kubernetes.rollout.pre_stop_seconds -1 is refused"),
        ("annotations", {"modelship.io/applied": "x"}, "kubernetes.annotations: 'modelship.io/applied' is set by"),
        ("pod_annotations", {"a b": "x"}, "kubernetes.pod_annotations: 'a b' can be no annotation's name"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(option: str, value: t.Any, message: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        read(**{option: value})
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


def test_the_common_options_of_the_cases_are_no_defaults() -> None:
    assert {name: OPTIONS[name].get("default") for name in COMMON if OPTIONS[name].get("default") == COMMON[name]} == {}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1000, "1k"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1500, "1500"),
        (512 << 20, "512Mi"),
        (1 << 30, "1Gi"),
        (1536 << 20, "1536Mi"),
        (1_000_000_000, "1G"),
        (1_024_000, "1000Ki"),
        (1 << 60, "1Ei"),
        (1 << 70, "1024Ei"),
    ],
)
def test_memory_is_written_as_the_server_does(size: int, text: str) -> None:
    assert quantities.memory(size) == text


@pytest.mark.parametrize(
    ("cpus", "text"),
    [(1, "1"), (2.0, "2"), (1.5, "1500m"), (0.1, "100m"), (0.001, "1m"), (1000, "1k"), (0.29, "290m"), (1100, "1100")],
)
def test_cores_are_written_as_the_server_does(cpus: float, text: str) -> None:
    assert quantities.cores(cpus) == text


def test_quantities_keep_their_value_and_are_as_short_as_can_be() -> None:
    numbers = random.Random(3)  # noqa: S311 - no secret
    for power in range(0, 48, 2):
        for size in (numbers.randrange(1, 5000) << power, numbers.randrange(1, 5000) * 10 ** (power // 4)):
            text = quantities.memory(size)
            assert parse_quantity(text) == size
            digits = int(text.rstrip("kKMGTPEi"))
            assert digits % (1024 if text.endswith("i") else 1000)
        thousandths = numbers.randrange(1, 10**6)
        assert parse_quantity(quantities.cores(thousandths / 1000)) * 1000 == thousandths
