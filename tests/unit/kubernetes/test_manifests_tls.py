"""Pods that speak TLS: their certificate, and everybody who asks them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint.credentials import Credentials
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.endpoint import inside, reachable
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.golden import PodClient
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.serving import proxy_path, ready_path_of

from .manifest_cases import NAMESPACE, container, deployment, only, parameters, pod, refusal, rendered

TLS = {"https": {"secret": "digits-tls"}}


def variables(given: dict[str, t.Any]) -> dict[str, str]:
    return dict(only(rendered(given), "ConfigMap")["data"])


def test_the_whole_secret_is_mounted_so_that_a_renewed_certificate_arrives() -> None:
    given = parameters(TLS)
    assert {"name": "tls", "secret": {"secretName": "digits-tls"}} in pod(given)["volumes"]
    [mount] = [item for item in container(given)["volumeMounts"] if item["name"] == "tls"]
    assert mount == {"name": "tls", "mountPath": "/run/modelship/tls", "readOnly": True}
    found = variables(given)
    assert found["MODELSHIP_TLS_CERT"] == "/run/modelship/tls/tls.crt"
    assert found["MODELSHIP_TLS_KEY"] == "/run/modelship/tls/tls.key"
    assert "MODELSHIP_TLS_CLIENT_CA" not in found
    both = variables(parameters({"https": {"secret": "digits-tls", "client_ca": True}}))
    assert both["MODELSHIP_TLS_CLIENT_CA"] == "/run/modelship/tls/ca.crt"


def test_everybody_asks_by_https() -> None:
    given = parameters(TLS)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(given)[name]["httpGet"]["scheme"] == "HTTPS"
    objects = rendered(given)
    assert only(objects, "Service")["spec"]["ports"][0]["appProtocol"] == "https"
    [endpoint] = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    service = inside(objects, "digits")
    assert service is not None
    assert service["url"].startswith(f"https://digits.{NAMESPACE}.svc:")


def test_without_it_nothing_speaks_of_tls() -> None:
    objects = rendered(parameters())
    assert "https" not in str(objects).lower()
    assert only(objects, "Service")["spec"]["ports"][0]["appProtocol"] == "http"


def test_a_certificate_of_ones_own_files_counts_as_well() -> None:
    given = parameters(
        {"environment": {"MODELSHIP_TLS_CERT": "/etc/own/c.pem", "MODELSHIP_TLS_KEY": "/etc/own/k.pem"}},
        secret_files={"/etc/own/c.pem": "c", "/etc/own/k.pem": "k"},
    )
    assert container(given)["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert all(item["name"] != "tls" for item in pod(given)["volumes"])


def test_golden_answers_are_asked_as_the_pod_is_probed() -> None:
    metadata = {"namespace": NAMESPACE, "name": "digits-1"}
    for common, name in ((TLS, "https:digits-1"), ({}, "digits-1")):
        made = {"metadata": metadata, "spec": pod(parameters(common))}
        assert proxy_path(made) == f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy"
        assert ready_path_of(made["spec"]) == "/v2/health/ready"


class _Recorded:
    """Takes what would be sent to the API server."""

    access = load_access({"api_server": "https://api.test"})

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def raw(self, _method: str, _path: str, **how: t.Any) -> tuple[int, dict[str, str], bytes]:
        self.headers = how["headers"]
        return 200, {}, b"{}"


@pytest.mark.parametrize("credentials", [Credentials(api_key="k"), Credentials(bearer="k")])
def test_credentials_pass_the_api_server_which_keeps_authorization_for_itself(credentials: Credentials) -> None:
    api = _Recorded()
    made = {"metadata": {"namespace": NAMESPACE, "name": "p"}, "spec": pod(parameters())}
    PodClient(t.cast(t.Any, api), made, credentials).request("GET", "/v2")
    assert api.headers["x-api-key"] == "k"
    assert "authorization" not in api.headers
    with pytest.raises(ModelshipError, match="shows no certificate"):
        PodClient(t.cast(t.Any, api), made, Credentials(client_cert="/c"))


class _Cluster:
    def list(self, *_what: t.Any, **_how: t.Any) -> tuple[list[t.Any], str]:
        return [
            {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
        ], ""


def test_the_address_from_outside_is_https() -> None:
    objects = rendered(parameters(TLS, service={"type": "NodePort", "node_port": 30080}))
    assert reachable(t.cast(t.Any, _Cluster()), objects, "digits") == "https://192.0.2.7:30080"


@pytest.mark.parametrize(
    ("common", "words"),
    [
        ({"https": {"folder": "/etc/tls"}}, "https.folder is not for target kubernetes"),
        ({"https": {"client_ca": True}}, "https.secret is missing"),
        (
            {"https": {"secret": "s", "client_ca": True}, "verify": {"release": "/r"}},
            "verify cannot be used with https.client_ca",
        ),
    ],
)
def test_what_cannot_be_is_refused(common: dict[str, t.Any], words: str) -> None:
    assert words in refusal(parameters(common)).message


def test_the_deployment_carries_no_certificate_itself() -> None:
    assert "BEGIN" not in str(deployment(parameters(TLS)))
