"""What a deployment's pods are given: environment, files, folders in memory, claims."""

from __future__ import annotations

import base64
import json

import pytest

from .manifest_cases import COMMON, EACH, Given, container, deployment, of_kind, parameters, pod, refusal, rendered

# --- configuration ------------------------------------------------------------------------------------------------


def variables(given: Given) -> dict[str, str]:
    """Return the environment as the container gets it, resolved through ConfigMap and Secret."""
    objects = {(obj["kind"], obj["metadata"]["name"]): obj for obj in rendered(given)}
    found = {}
    for item in container(given)["env"]:
        [(how, reference)] = item["valueFrom"].items()
        kind = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}[how]
        value = objects[kind, reference["name"]]["data"][reference["key"]]
        found[item["name"]] = base64.b64decode(value).decode() if kind == "Secret" else value
    return found


def files(given: Given) -> dict[str, str]:
    """Return the files as the container gets them."""
    objects = {(obj["kind"], obj["metadata"]["name"]): obj for obj in rendered(given)}
    volumes = {volume["name"]: volume for volume in pod(given)["volumes"]}
    found = {}
    for mount in container(given)["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            found[mount["mountPath"]] = objects["ConfigMap", volume["configMap"]["name"]]["data"][mount["subPath"]]
        elif "secret" in volume:
            text = objects["Secret", volume["secret"]["secretName"]]["data"][mount["subPath"]]
            found[mount["mountPath"]] = base64.b64decode(text).decode()
        else:
            continue
        assert mount["readOnly"] is True
    return found


def test_the_container_gets_its_environment() -> None:
    given = parameters({**COMMON, "https": None}, secrets=EACH["secrets"])
    assert variables(given) == {
        "MODELSHIP_PORT": "9000",
        "MODELSHIP_WORKERS": "2",
        "MODELSHIP_DRAIN_SECONDS": "20",
        "LOG_LEVEL": "debug",
        "MODELSHIP_GRPC_PORT": "8081",
        "DEBUG": "true",
        "DATABASE_PASSWORD": "p-9012",
        "API_KEY": "k-1234",
        "LICENCE": "l-5678",
    }


def test_the_container_gets_its_files_one_by_one() -> None:
    paths = {"/etc/app/app.yml": "a", "/etc/app_app.yml": "b", "/etc/app.app.yml": "c", "/etc/app,app.yml": "d"}
    given = parameters(config_files=paths, secret_files=EACH["secret_files"])
    assert files(given) == {**paths, **EACH["secret_files"]}


def test_secrets_are_nowhere_but_in_the_secret() -> None:
    given = parameters(COMMON, secrets=EACH["secrets"], secret_files=EACH["secret_files"])
    values = ["p-9012", *EACH["secrets"].values(), "BEGIN"]
    rest = json.dumps([obj for obj in rendered(given) if obj["kind"] != "Secret"])
    for value in values:
        assert value not in rest
        assert base64.b64encode(value.encode()).decode() not in rest
    assert "PASSWORD" not in json.dumps(of_kind(rendered(given), "ConfigMap"))


def config_names(given: Given) -> list[str]:
    return [obj["metadata"]["name"] for kind in ("ConfigMap", "Secret") for obj in of_kind(rendered(given), kind)]


def test_configuration_is_named_by_its_content_and_never_changes() -> None:
    given = {"environment": {"A": "1", "A_TOKEN": "2"}}
    names = config_names(parameters(given))
    assert [name[:-10] for name in names] == ["digits-config-", "digits-secret-"]
    for obj in rendered(parameters(given)):
        assert obj.get("immutable", True) is True
        assert obj["kind"] not in ("ConfigMap", "Secret") or obj["immutable"] is True
    assert config_names(parameters({**given, "labels": {"team": "a"}}, annotations={"a": "b"})) == names
    other_config = config_names(parameters({"environment": {"A": "2", "A_TOKEN": "2"}}))
    assert (other_config[0] != names[0], other_config[1] == names[1]) == (True, True)
    other_secret = config_names(parameters({"environment": {"A": "1", "A_TOKEN": "3"}}))
    assert (other_secret[0] == names[0], other_secret[1] != names[1]) == (True, True)
    # in another order it is the same
    assert config_names(parameters({"environment": {"A_TOKEN": "2", "A": "1"}})) == names


def test_a_variable_given_twice_is_refused() -> None:
    given = parameters({"environment": {"API_KEY": "a"}}, secrets={"API_KEY": "b"})
    assert refusal(given).message.startswith("'API_KEY' is given in environment and in kubernetes.secrets")


def test_more_than_an_object_can_hold_is_refused() -> None:
    fits = parameters(config_files={"/a": "x" * ((1 << 20) - 100)})
    assert len(files(fits)["/a"]) == (1 << 20) - 100
    error = refusal(parameters(config_files={"/a": "ä" * (1 << 19), "/b": "x"}))
    assert error.message.startswith("environment and kubernetes.config_files are 1048")
    assert "a ConfigMap holds 1048576" in error.message


# --- folders and storage ------------------------------------------------------------------------------------------


def test_tmpfs_is_memory() -> None:
    given = parameters({"tmpfs": COMMON["tmpfs"]})
    volumes = [volume["emptyDir"] for volume in pod(given)["volumes"]]
    assert volumes == [{"medium": "Memory", "sizeLimit": "64Mi"}, {"medium": "Memory"}]
    assert [mount["mountPath"] for mount in container(given)["volumeMounts"]] == ["/tmp", "/run"]  # noqa: S108
    assert "volumes" not in pod(parameters({"tmpfs": []}))


@pytest.mark.parametrize("tmpfs", ["/tmp:mode=1777", "tmp", "/tmp:size=much"])  # noqa: S108
def test_tmpfs_that_kubernetes_cannot_make_is_refused(tmpfs: str) -> None:
    assert refusal(parameters({"tmpfs": [tmpfs]})).message.startswith("tmpfs")


def test_claims_are_made_mounted_and_writable() -> None:
    given = parameters(storage=EACH["storage"])
    cache, shared = of_kind(rendered(given), "PersistentVolumeClaim")
    assert cache["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1536Mi"}}}
    assert shared["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert shared["spec"]["storageClassName"] == "nfs"
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod(given)["volumes"]]
    assert claims == [None, cache["metadata"]["name"], shared["metadata"]["name"]]
    assert pod(given)["securityContext"]["fsGroup"] == 65532
    assert pod({**given, "user": "1000:2000"})["securityContext"]["fsGroup"] == 2000
    assert "fsGroup" not in pod(parameters())["securityContext"]


def test_a_claim_to_keep_says_so() -> None:
    cache, shared = of_kind(rendered(parameters(storage=EACH["storage"])), "PersistentVolumeClaim")
    assert cache["metadata"]["annotations"] == {"modelship.io/keep": "true"}
    assert "annotations" not in shared["metadata"]


def test_a_claim_for_one_node_keeps_the_pods_on_it() -> None:
    once, many = EACH["storage"]
    rule = pod(parameters(storage=[many, once]))["affinity"]["podAffinity"]
    [term] = rule["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term == {
        "labelSelector": deployment(parameters())["spec"]["selector"],
        "topologyKey": "kubernetes.io/hostname",
    }
    assert "affinity" not in pod(parameters(storage=[many]))
    assert pod(parameters(storage=[once], affinity=EACH["affinity"]))["affinity"] == EACH["affinity"]


@pytest.mark.parametrize(
    "given",
    [
        parameters({"tmpfs": ["/cache"]}, storage=EACH["storage"]),
        parameters(config_files={"/a": ""}, secret_files={"/a": ""}),
        parameters({"tmpfs": ["/tmp", "/tmp/"]}),  # noqa: S108
    ],
)
def test_two_things_at_one_path_are_refused(given: Given) -> None:
    assert "is mounted twice" in refusal(given).message
