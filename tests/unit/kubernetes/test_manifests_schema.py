"""Every object that a declaration can render to is valid in every maintained Kubernetes release, and in Pod Security's eyes."""

from __future__ import annotations

import functools
import json
import random
import typing as t

import jsonschema
import kubernetes_validate
import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object
from tests.cluster.definitions import FILES, definition
from tests.cluster.engine import ClusterError

from .manifest_cases import COMMON, EACH, maximal, only, parameters, rendered
from .pod_security import restricted_violations

_OLDEST = ["1.33", "1.34"]
RELEASES = sorted(
    {*_OLDEST, *(version.rpartition(".")[0] for version in kubernetes_validate.utils.all_versions()[-3:])}
)
#: Kinds of which the releases ship no schema, because they are installed by others.
CUSTOM = sorted(FILES)


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> t.Iterator[None]:
    utils = kubernetes_validate.utils
    original = utils.schema_contents
    utils.schema_contents = functools.cache(original)
    yield
    utils.schema_contents = original


def combinations(number: int) -> list[dict[str, t.Any]]:
    """Return *number* declarations, each of about half of all options, always the same ones."""
    chance = random.Random(4711)  # noqa: S311 - no secret
    some = [
        parameters(
            {name: value for name, value in COMMON.items() if chance.random() < 0.5},
            **{name: value for name, value in EACH.items() if chance.random() < 0.5},
        )
        for _number in range(number)
    ]
    for given in some:
        # refused without: a share of nothing, or a rollout that ends before its pods start
        if (given["kubernetes"] or {}).get("autoscaling"):
            given["limits"] = given["limits"] or COMMON["limits"]
            given["replicas"] = 1
    return some


def alone() -> list[dict[str, t.Any]]:
    """Return declarations with one option each."""
    scalable = {"limits": COMMON["limits"]}
    return [
        *(parameters({name: value}) for name, value in COMMON.items()),
        *(parameters(scalable if name == "autoscaling" else {}, **{name: value}) for name, value in EACH.items()),
    ]


def different(declarations: t.Iterable[dict[str, t.Any]]) -> list[Object]:
    """Return the objects of *declarations*, those that are equal only once."""
    return list({json.dumps(obj, sort_keys=True): obj for given in declarations for obj in rendered(given)}.values())


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", ["minimal", "maximal", "alone", "combined"])
def test_objects_are_valid(release: str, case: str) -> None:
    declarations = {"minimal": [parameters()], "maximal": [maximal()], "alone": alone(), "combined": combinations(60)}
    objects = [obj for obj in different(declarations[case]) if obj["kind"] not in CUSTOM]
    assert len(objects) >= {"minimal": 5, "maximal": 14, "alone": 50, "combined": 180}[case]
    for obj in objects:
        assert kubernetes_validate.validate(obj, release, strict=True) == release


def closed(schema: t.Any) -> t.Any:
    """Return *schema* as a server applies it to what is written: no other fields than it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: closed(item) for name, item in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


@pytest.mark.parametrize("kind", CUSTOM)
def test_objects_of_kinds_that_others_install_are_valid(kind: str) -> None:
    try:
        versions = definition(kind)["spec"]["versions"]
    except ClusterError as exc:
        pytest.skip(f"NOT TESTED: the definition of {kind} cannot be had: {exc}")
    schema = closed(next(each for each in versions if each["name"] == "v1")["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft7Validator(schema)
    objects = [obj for obj in different([maximal(), *alone(), *combinations(60)]) if obj["kind"] == kind]
    assert len(objects) >= 5
    for obj in objects:
        validator.validate(obj)
    wrong = {**objects[0], "spec": {**objects[0]["spec"], "parents": []}}
    assert not validator.is_valid(wrong)


def test_the_schemas_would_refuse_a_wrong_object() -> None:
    deployment = only(rendered(parameters()), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    for release in RELEASES:
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, release, strict=True)


def test_no_field_is_without_a_value() -> None:
    def nulls(value: t.Any) -> bool:
        if isinstance(value, dict):
            return any(nulls(item) for item in value.values())
        return any(map(nulls, value)) if isinstance(value, list) else value is None

    for obj in different([parameters(), maximal(), *alone(), *combinations(60)]):
        assert not nulls(obj), obj


def test_pods_are_restricted() -> None:
    for given in [parameters(), maximal(), *alone(), *combinations(60)]:
        pod = only(rendered(given), "Deployment")["spec"]["template"]["spec"]
        assert restricted_violations(pod) == []
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is given["read_only"]


@pytest.mark.parametrize(
    ("control", "change"),
    [
        ("host namespaces", {"spec": {"hostNetwork": True}}),
        ("HostProcess", {"container": {"windowsOptions": {"hostProcess": True}}}),
        ("privileged", {"container": {"privileged": True}}),
        ("capabilities", {"container": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}),
        ("capabilities", {"container": {"capabilities": {"drop": ["NET_RAW"]}}}),
        ("volume types", {"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}}),
        ("host ports", {"plain": {"ports": [{"containerPort": 80, "hostPort": 80}]}}),
        ("probe hosts", {"plain": {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}}),
        ("AppArmor", {"container": {"appArmorProfile": {"type": "Unconfined"}}}),
        ("SELinux", {"container": {"seLinuxOptions": {"type": "spc_t"}}}),
        ("/proc mount", {"container": {"procMount": "Unmasked"}}),
        ("seccomp", {"container": {"seccompProfile": {"type": "Unconfined"}}}),
        ("sysctls", {"pod": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        ("privilege escalation", {"container": {"allowPrivilegeEscalation": True}}),
        ("non-root", {"pod": {"runAsNonRoot": False}}),
        ("root user", {"pod": {"runAsUser": 0}}),
    ],
)
def test_the_checker_sees_each_control(control: str, change: dict[str, t.Any]) -> None:
    pod = only(rendered(parameters()), "Deployment")["spec"]["template"]["spec"]
    pod.update(change.get("spec", {}))
    pod["securityContext"].update(change.get("pod", {}))
    pod["containers"][0].update(change.get("plain", {}))
    pod["containers"][0]["securityContext"].update(change.get("container", {}))
    assert [found.partition(":")[0] for found in restricted_violations(pod)] == [control]
