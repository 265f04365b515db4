# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials for an API server without TLS: refused before anything is sent, unless an option allows it."""

from __future__ import annotations

import os
import types
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint.credentials import Credentials
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.golden import PodClient

from .scripted_server import Pki, Scripted

ALLOWED = {"allow_credentials_over_http": True}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("K8S_AUTH_", "KUBE")) or "proxy" in name.lower()]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def plain() -> Iterator[Scripted]:
    server = Scripted(None)
    yield server
    server.stop()


def kubeconfig(server: str, user: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
    }


def marked(folder: Path) -> tuple[str, Path]:
    """A plugin that leaves a file behind when it runs, and that file."""
    program, mark = folder / "plugin", folder / "ran"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    return str(program), mark


@pytest.mark.parametrize(
    ("user", "named"),
    [
        ({"token": "t0ken"}, "the token of user 'me'"),
        ({"tokenFile": "/nowhere"}, "the token of the tokenFile of user 'me'"),
        ({"username": "ann", "password": "hunter22"}, "the password of user 'me'"),
        ({"exec": {"command": "<plugin>", "apiVersion": "client.authentication.k8s.io/v1"}}, "the exec plugin"),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": "x"}}}, "the auth-provider"),
        ({"client-certificate": "<cert>", "client-key": "<key>"}, "the client certificate"),
    ],
)
def test_no_credentials_of_a_kubeconfig_are_sent_without_tls(
    user: dict[str, t.Any], named: str, plain: Scripted, pki: Pki, tmp_path: Path
) -> None:
    program, mark = marked(tmp_path)
    filled = {"<plugin>": program, "<cert>": str(pki.client), "<key>": str(pki.client_key)}
    user = {key: filled.get(item, item) if isinstance(item, str) else item for key, item in user.items()}
    if "exec" in user:
        user["exec"]["command"] = program
    with pytest.raises(ModelshipError) as caught:
        load_access({"kubeconfig": kubeconfig(plain.url, user)})
    assert named in caught.value.message
    assert plain.url in caught.value.message
    assert "allow_credentials_over_http" in caught.value.message
    assert "t0ken" not in caught.value.message
    assert "hunter22" not in caught.value.message
    assert plain.seen == []
    assert not mark.exists()


@pytest.mark.parametrize("where", ["option", "environment"])
def test_a_token_given_beside_the_address_is_not_sent_without_tls(
    where: str, plain: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv("K8S_AUTH_API_KEY", "t0ken")
    options = {"api_server": plain.url, **({"api_token": "t0ken"} if where == "option" else {})}
    with pytest.raises(ModelshipError, match=r"the token of option api_token would be sent to http://.* without TLS"):
        load_access(options)
    assert plain.seen == []


def test_an_option_allows_it_explicitly(plain: Scripted) -> None:
    with Api(load_access({"api_server": plain.url, "api_token": "t0ken", **ALLOWED})) as api:
        api.request("GET", "/api/v1/x")
    assert plain.seen[0].headers["authorization"] == "Bearer t0ken"


def test_kubectl_proxy_without_credentials_needs_no_option(plain: Scripted) -> None:
    for options in ({"api_server": plain.url}, {"kubeconfig": kubeconfig(plain.url, {})}):
        with Api(load_access(options)) as api:
            assert api.request("GET", "/api/v1/x") == {"kind": "Nothing"}
    assert ["authorization" in seen.headers for seen in plain.seen] == [False, False]


@pytest.mark.parametrize(
    ("server", "refused"),
    [
        ("http://127.0.0.1:8001", False),
        ("http://[::1]:8001", False),
        ("http://localhost:8001", False),
        ("https://api.example", False),
        ("http://api.example", True),
        ("http://127.example.com:8001", True),
    ],
)
def test_credentials_of_pods_cross_no_network_without_tls(server: str, refused: bool) -> None:
    pod = {"metadata": {"namespace": "shop", "name": "p"}, "spec": {"containers": [{"name": "serving"}]}}
    api: t.Any = types.SimpleNamespace(access=load_access({"api_server": server}))
    if refused:
        with pytest.raises(ModelshipError, match="the credentials of option verify would be sent to http://"):
            PodClient(api, pod, Credentials(api_key="k3y"))
    else:
        PodClient(api, pod, Credentials(api_key="k3y"))
    PodClient(api, pod, Credentials())
