"""Secrets in a deployment's parameters that Ansible must not print."""

from __future__ import annotations

import json

from ansible_collections.modelship.core.plugins.module_utils._deployment.secrets import secret_values

KUBECONFIG = {"users": [{"name": "u", "user": {"token": "t0ken", "username": "ann"}}], "clusters": [{"name": "c"}]}


def test_of_variables_declared_secrets_and_inline_kubeconfigs() -> None:
    secret = {"kind": "Secret", "data": {"a": "YQ=="}, "stringData": {"b": "plain"}}
    other = {"kind": "ConfigMap", "data": {"a": "seen"}}
    parameters = {
        "environment": {"API_TOKEN": "xyz", "LOG_LEVEL": "info", "DB_PASSWORD": 42},
        "kubernetes": {"extra_resources": [secret, other]},
        "kubeconfig": KUBECONFIG,
    }
    assert secret_values(parameters) == {"xyz", "42", "YQ==", "plain", "t0ken"}
    assert secret_values({"kubeconfig": json.dumps(KUBECONFIG)}) == {"t0ken"}


def test_nothing_is_hidden_where_nothing_is_secret() -> None:
    assert secret_values({"kubeconfig": "/root/.kube/config", "environment": None, "kubernetes": None}) == set()
