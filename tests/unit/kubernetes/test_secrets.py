"""Secrets in a deployment's parameters: kept out of what Ansible prints, and the rest of the result left whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._deployment.secrets import conceal
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.secrets import redacted, secrets_in

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
USER = {
    "token": "t0ken-of-ann",
    "username": "ann",
    "auth-provider": {"config": {"access-token": "access-1", "client-secret": "client-1", "client-id": "seen-1"}},
    "exec": {
        "command": "aws",
        "env": [{"name": "AWS_PROFILE", "value": "seen-2"}, {"name": "AWS_SECRET_ACCESS_KEY", "value": "aws-secret-1"}],
        "args": ["get-token", "--client-secret=argument-1", "--password", "argument-2", "--cluster-id", "seen-3"],
    },
}
KUBECONFIG = {
    "users": [{"name": "u", "user": USER}],
    "clusters": [{"name": "c", "cluster": {"server": "https://c", "proxy-url": "http://ann:proxy%2d1@proxy:3128"}}],
}
OF_KUBECONFIG = {
    "t0ken-of-ann",
    "access-1",
    "client-1",
    "aws-secret-1",
    "argument-1",
    "argument-2",
    "proxy%2d1",
    "proxy-1",
}
WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x"},
    "spec": {"template": {"spec": {"containers": [{"env": [{"name": "API_KEY", "value": "of-an-extra"}]}]}}},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s"},
    "data": {"a": "ZGVjb2RlZA==", "b": "MQ=="},
    "stringData": {"c": "plain-text", "d": "z"},
}
CONFIG = {"kind": "ConfigMap", "data": {"a": "seen-4"}}
SHORT = {"MAX_TOKENS": 1, "PIN_TOKEN": 4711, "API_TOKEN": "xyz", "DB_PASSWORD": "correct horse", "LOG_LEVEL": "info"}


def test_of_variables_extra_resources_proxies_and_inline_kubeconfigs() -> None:
    parameters = {
        "name": "digits",
        "environment": SHORT,
        "kubernetes": {
            "secrets": {"RETRIES": 3, "LICENCE": "licence-1", "SAME": "digits"},
            "secret_files": {"/a": "content of a", "/b": "7"},
            "extra_resources": [SECRET, CONFIG, WORKLOAD],
        },
        "api_proxy": "http://ann:hunter22@proxy:3128",
        "kubeconfig": KUBECONFIG,
    }
    shown, values = conceal(parameters)
    assert values == {
        *OF_KUBECONFIG,
        *("correct horse", "licence-1", "content of a", "hunter22"),
        *("ZGVjb2RlZA==", "decoded", "plain-text", "of-an-extra"),
    }
    text = json.dumps(shown)
    hidden = [*values, "4711", "xyz", '"7"', "MQ==", '"z"', "seen-2", "seen-3"]
    assert [value for value in hidden if value in text] == []
    assert all(seen in text for seen in ("seen-1", "seen-4", '"MAX_TOKENS": 1', "info", "http://ann:", "https://c"))
    assert '"RETRIES": "VALUE' in text
    assert list(shown) == list(parameters)
    assert parameters["environment"] is SHORT


def test_of_labels_annotations_and_files_that_are_not_secret_as_a_whole() -> None:
    url = "postgres://app:in-a-file@db/digits"
    parameters = {
        "labels": {"note": "postgres://app:in-a-label@db", "team": "seen-5"},
        "environment": {"DATABASE_URL": "postgres://app:of-a-url@db", "PLACE": "seen-6", "MYSQL_PWD": "of-mysql"},
        "kubernetes": {
            "config_files": {"/etc/db.ini": f"# seen-7\nurl = {url}\npassword = in-an-ini-file\n"},
            "annotations": {"example.com/api-key": "of-an-annotation", "example.com/team": "seen-8"},
            "extra_resources": [None, {"kind": "ConfigMap", "data": {"SIGNING_KEY": "of-a-config-map", "URL": url}}],
        },
    }
    shown, values = conceal(parameters)
    secrets = {
        "in-a-label",
        "of-a-url",
        "of-mysql",
        "in-a-file",
        "in-an-ini-file",
        "of-an-annotation",
        "of-a-config-map",
    }
    assert secrets <= values
    text = json.dumps(shown)
    assert [secret for secret in secrets if secret in text] == []
    assert [seen for seen in ("seen-5", "seen-6", "seen-7", "seen-8", "postgres://app:VALUE") if seen not in text] == []


def test_an_inline_kubeconfig_may_come_as_text() -> None:
    assert conceal({"kubeconfig": json.dumps(KUBECONFIG)}).values == OF_KUBECONFIG
    for text in ("{broken", "users:\n- user: {token: abc}\n"):
        assert "abc" not in json.dumps(conceal({"kubeconfig": text}).shown)
        assert "broken" not in json.dumps(conceal({"kubeconfig": text}).shown)


def test_nothing_is_hidden_where_nothing_is_secret() -> None:
    parameters = {
        "kubeconfig": "/root/.kube/config",
        "environment": None,
        "kubernetes": None,
        "api_proxy": "http://proxy:3128",
    }
    assert conceal(parameters) == (parameters, set())


def test_options_that_are_refused_in_a_moment_are_hidden_whole() -> None:
    wrong = {"environment": "A=b", "kubernetes": "c", "api_proxy": 5, "kubeconfig": 6}
    assert conceal({**wrong, "kubernetes": {"secrets": ["d"], "extra_resources": "e"}}).values == set()
    assert "A=b" not in json.dumps(conceal(wrong).shown)


def _run(module: str, options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Run a module as Ansible does, in check mode."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "plugins" / "modules" / f"{module}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": True}}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".build")},
    )
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


@pytest.mark.parametrize("target", ["docker", "kubernetes"])
def test_short_secrets_are_not_shown_and_leave_the_result_whole(target: str) -> None:
    options = {
        "name": "digits",
        "namespace": "vision-1",
        "target": target,
        "image": "",
        "environment": SHORT,
        "kubernetes": {"secrets": {"RETRIES": 3, "LETTER": "s"}, "extra_resources": [SECRET]},
    }
    found = _run("deployment", options)
    assert found["deployment"]["reasons"] == ["image cannot be known before the image is built and pushed"]
    assert found["deployment"].get("namespace", "vision-1") == "vision-1"
    assert found["deployment"]["url"] in (None, "http://127.0.0.1:5000")
    told = json.dumps(found["invocation"])
    assert [
        value for value in ("4711", "xyz", "correct horse", "plain-text", '"RETRIES": 3', "MQ==") if value in told
    ] == []
    assert found["invocation"]["module_args"]["environment"]["MAX_TOKENS"] == 1


def test_neither_a_failure_nor_a_refused_option_shows_a_secret() -> None:
    options = {
        "name": "digits",
        "target": "kubernetes",
        "api_server": "http://127.0.0.1:1",
        "image": f"registry/digits@{DIGEST}",
        "environment": {"PIN_TOKEN": "4711"},
        "kubernetes": {"secrets": {"A": "hunter22", "B": "1"}},
    }
    failed = _run("deployment", options)
    assert "http://127.0.0.1:1 " in failed["msg"]
    refused = _run("deployment_info", {**options, "workers": "many"})
    assert "workers" in refused["msg"]
    for found in (failed, refused):
        assert found["invocation"]["module_args"]["image"].endswith(DIGEST)
        assert "4711" not in json.dumps(found)
        assert "hunter22" not in json.dumps(found)


def test_all_that_is_below_a_secret_field_of_a_custom_resource_is_hidden_and_masked_elsewhere() -> None:
    obj = {
        "kind": "Database",
        "metadata": {"name": "db"},
        "spec": {
            "auth": {"password": "hunter-1"},
            "credentials": {"user": "ann", "value": "hunter-2", "expirationSeconds": 3600},
            "secretKeys": ["hunter-3"],
            "args": ["--password", "hunter-4", "--verbose"],
            "password": 123456789,
        },
    }
    assert redacted(obj, lambda _secret: "#")["spec"] == {
        "auth": {"password": "#"},
        "credentials": {"user": "ann", "value": "#", "expirationSeconds": 3600},
        "secretKeys": ["#"],
        "args": ["--password", "#", "--verbose"],
        "password": "#",
    }
    assert secrets_in(obj) == {"hunter-1", "hunter-2", "hunter-3", "hunter-4", "123456789"}


def test_references_to_secrets_are_shown() -> None:
    spec = {
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "tls", "defaultMode": 256, "items": [{"key": "k", "path": "p"}]}},
            {
                "name": "t",
                "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "t"}}]},
            },
        ],
        "authorization": {"type": "Bearer", "credentials": {"name": "c", "key": "k"}},
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    }
    assert redacted(spec) == spec
    assert secrets_in(spec) == set()


def test_passwords_in_addresses_and_misspelled_options_are_hidden() -> None:
    found = conceal(
        {
            "target": "docker",
            "api_server": "https://ann:hunter-21@api.test",
            "docker_host": "tcp://ann:hunter-22@engine.test:2376",
            "enviroment": {"DB_PASSWORD": "hunter-23", "LEVEL": "info"},
            "kubernetes": {"secret": {"X": "hunter-24"}, "tolerations": [{"key": "gpu"}]},
        }
    )
    assert found.values == {"hunter-21", "hunter-22", "hunter-23", "hunter-24"}
    assert "hunter" not in json.dumps(found.shown)
    assert found.shown["enviroment"]["LEVEL"] == "info"
    assert found.shown["kubernetes"]["tolerations"] == [{"key": "gpu"}]
