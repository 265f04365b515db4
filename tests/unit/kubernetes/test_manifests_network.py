"""How a deployment is reached, and what else is declared with it."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.filter.core import from_yaml_all

from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import DEPLOYMENT, Object

from .manifest_cases import EACH, NAMESPACE, container, deployment, of_kind, only, parameters, refusal, rendered

# --- how it is reached --------------------------------------------------------------------------------------------


def test_the_service_leads_to_the_serving_port() -> None:
    [port] = only(rendered(parameters()), "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    assert container(parameters({"container_port": 9000}))["ports"] == [
        {"name": "http", "containerPort": 9000, "protocol": "TCP"}
    ]
    service = only(rendered(parameters(service=EACH["service"])), "Service")
    assert (service["spec"]["type"], service["spec"]["ports"][0]["nodePort"]) == ("NodePort", 30080)
    assert service["metadata"]["annotations"] == {"example.com/team": "vision"}


def test_grpc_has_a_port_of_its_own_where_it_is_on() -> None:
    given = parameters({"environment": {"MODELSHIP_GRPC_PORT": "8081"}}, network_policy=EACH["network_policy"])
    objects = rendered(given)
    http, grpc = only(objects, "Service")["spec"]["ports"]
    assert (http["name"], http["port"]) == ("http", 80)
    assert (grpc["name"], grpc["port"], grpc["targetPort"]) == ("grpc", 8081, "grpc")
    assert grpc["appProtocol"] == "kubernetes.io/h2c"
    assert [port["containerPort"] for port in container(given)["ports"]] == [8080, 8081]
    assert [port["port"] for port in only(objects, "NetworkPolicy")["spec"]["ingress"][0]["ports"]] == [8080, 8081]
    off = rendered(parameters({"environment": {"MODELSHIP_GRPC_PORT": "0"}}))
    assert len(only(off, "Service")["spec"]["ports"]) == 1


def test_only_declared_peers_reach_the_serving_port() -> None:
    assert of_kind(rendered(parameters()), "NetworkPolicy") == []
    peers = EACH["network_policy"]["from"]
    spec = only(rendered(parameters({"container_port": 9000}, network_policy={"from": peers})), "NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"from": peers, "ports": [{"port": 9000, "protocol": "TCP"}]}]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"] == deployment(parameters())["spec"]["selector"]


def test_no_peers_are_nobody_and_not_everybody() -> None:
    spec = only(rendered(parameters(network_policy={"from": [], "egress": []})), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    assert "egress" not in spec


def test_an_ingress_leads_to_the_service() -> None:
    ingress = only(rendered(parameters(ingress=EACH["ingress"])), "Ingress")
    assert ingress["spec"] == {
        "ingressClassName": "nginx",
        "rules": [
            {
                "host": "digits.example.com",
                "http": {
                    "paths": [
                        {
                            "path": "/digits",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "digits", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ],
        "tls": [{"hosts": ["digits.example.com"], "secretName": "digits-tls"}],
    }
    assert ingress["metadata"]["annotations"] == EACH["ingress"]["annotations"]
    assert set(only(rendered(parameters(ingress={"host": "a.example"})), "Ingress")["spec"]) == {"rules"}


def test_an_http_route_belongs_to_its_gateways() -> None:
    spec = only(rendered(parameters(http_route=EACH["http_route"], service={"port": 8000})), "HTTPRoute")["spec"]
    assert spec == {
        "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https", "port": 443}],
        "hostnames": ["digits.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/digits"}}],
                "backendRefs": [{"name": "digits", "port": 8000}],
            }
        ],
    }
    error = refusal(parameters(http_route=EACH["http_route"]), served=False)
    assert "kubernetes.http_route is declared, but the cluster does not serve HTTPRoute" in error.message
    assert error.kind == "kubernetes"


def test_prometheus_finds_the_service_where_its_operator_is() -> None:
    objects = rendered(parameters())
    spec = only(objects, "ServiceMonitor")["spec"]
    assert only(objects, "Service")["metadata"]["labels"].items() >= spec["selector"]["matchLabels"].items()
    assert spec["endpoints"] == [{"port": "http", "path": "/metrics"}]
    assert only(objects, "Service")["spec"]["ports"][0]["name"] == "http"
    assert of_kind(rendered(parameters(), served=False), "ServiceMonitor") == []
    assert of_kind(rendered(parameters(service_monitor={"enabled": "false"})), "ServiceMonitor") == []
    assert (
        "does not serve ServiceMonitor"
        in refusal(parameters(service_monitor={"enabled": "true"}), served=False).message
    )
    wanted = only(rendered(parameters(service_monitor=EACH["service_monitor"])), "ServiceMonitor")
    assert wanted["metadata"]["labels"]["release"] == "prometheus"
    assert wanted["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s"}]


# --- anything else ------------------------------------------------------------------------------------------------


def extra(kind: str = "ConfigMap", name: str = "extra", api_version: str = "v1", **rest: t.Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def extras_of(*resources: t.Any) -> list[Object]:
    return rendered(parameters(extra_resources=list(resources)))[-len(resources) :]


def test_extra_resources_get_the_namespace_and_the_label() -> None:
    there = {**extra(name="there"), "metadata": {"name": "there", "namespace": "other", "labels": {"a": "b"}}}
    role = {**extra("ClusterRole", api_version="rbac.authorization.k8s.io/v1")}
    role["metadata"] = {"name": "extra", "namespace": "shop"}
    here, other, cluster = extras_of(extra(), there, role)
    assert here["metadata"] == {"name": "extra", "namespace": NAMESPACE, "labels": {DEPLOYMENT: "digits"}}
    assert other["metadata"] == {"name": "there", "namespace": "other", "labels": {"a": "b", DEPLOYMENT: "digits"}}
    assert cluster["metadata"] == {"name": "extra", "labels": {DEPLOYMENT: "digits"}}


def test_kinds_that_the_extra_resources_bring_along_are_known() -> None:
    def definition(kind: str, scope: str) -> Object:
        spec = {
            "group": "example.com",
            "scope": scope,
            "names": {"kind": kind},
            "versions": [{"name": "v1", "served": True}],
        }
        return extra("CustomResourceDefinition", f"{kind.lower()}s.example.com", "apiextensions.k8s.io/v1", spec=spec)

    resources = [definition("Wide", "Cluster"), definition("Near", "Namespaced")]
    resources += [extra(kind, kind.lower(), "example.com/v1") for kind in ("Wide", "Near")]
    *_definitions, wide, near = extras_of(*resources)
    assert "namespace" not in wide["metadata"]
    assert near["metadata"]["namespace"] == NAMESPACE


def test_a_kind_that_comes_along_is_served() -> None:
    spec = {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "ServiceMonitor"},
        "versions": [{"name": "v1", "served": True}],
    }
    definition = extra("CustomResourceDefinition", "servicemonitors", "apiextensions.k8s.io/v1", spec=spec)
    assert only(rendered(parameters(extra_resources=[definition]), served=False), "ServiceMonitor")


def test_nulls_of_extra_resources_are_left_out() -> None:
    [found] = extras_of({**extra(data={"a": "1", "b": None}), "immutable": None})
    assert found["data"] == {"a": "1"}
    assert "immutable" not in found


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ([extra(), "ConfigMap"], "kubernetes.extra_resources[1] is not a Kubernetes object but of type str"),
        ([{"kind": "ConfigMap", "metadata": {"name": "a"}}], "kubernetes.extra_resources[0] has no apiVersion"),
        ([extra(), {"apiVersion": "v1", "metadata": {"name": "a"}}], "kubernetes.extra_resources[1] has no kind"),
        ([{"apiVersion": "v1", "kind": "Pod", "metadata": {}}], "kubernetes.extra_resources[0] has no metadata.name"),
        ([{"apiVersion": "v1", "kind": "Pod"}], "kubernetes.extra_resources[0] has no metadata.name"),
        ([extra("List", items=[])], "kubernetes.extra_resources[0] is a List: give its items"),
        (
            [{"apiVersion": "v1", "kind": "List", "items": []}],
            "kubernetes.extra_resources[0] is a List: give its items",
        ),
        (
            [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 5}}],
            "kubernetes.extra_resources[0].metadata.name is of type int, not text: write it in quotes",
        ),
        (
            [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": ["a"]}}],
            "kubernetes.extra_resources[0].metadata.labels is of type list: give a mapping of texts",
        ),
        (
            [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": {"b": 1}}}],
            "kubernetes.extra_resources[0].metadata.annotations.b is of type int, not text: write it in quotes",
        ),
        (
            [extra(), extra("Secret"), extra()],
            "kubernetes.extra_resources[2] is refused: ConfigMap shop/extra is among the extra resources (index 0)",
        ),
        (
            [extra("Service", "digits")],
            "kubernetes.extra_resources[0] is refused: Service shop/digits is among the deployment's own objects",
        ),
    ],
)
def test_extra_resources_that_cannot_be_are_refused_by_their_index(resources: list[t.Any], message: str) -> None:
    assert refusal(parameters(extra_resources=resources)).message.startswith(message)


SEVERAL_DOCUMENTS = """\
---
# only a comment
---
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
---

---
apiVersion: v1
kind: ConfigMap
metadata: {name: second}
---
"""


def test_empty_documents_of_a_yaml_file_are_skipped() -> None:
    """From the text of a file to the objects, through Ansible's own filter and validation."""
    given = list(from_yaml_all(SEVERAL_DOCUMENTS))
    assert given.count(None) == 3
    checked = ArgumentSpecValidator(OPTIONS).validate(
        {"name": "digits", "target": "kubernetes", "kubernetes": {"extra_resources": given}}
    )
    assert checked.error_messages == []
    resources = checked.validated_parameters["kubernetes"]["extra_resources"]
    found = of_kind(rendered(parameters(extra_resources=resources)), "ConfigMap")
    assert [obj["metadata"]["name"] for obj in found if "first" in str(obj) or "second" in str(obj)] == [
        "first",
        "second",
    ]
    assert rendered(parameters(extra_resources=[None])) == rendered(parameters())


def test_what_is_refused_of_several_documents_has_the_index_that_the_user_counts() -> None:
    error = refusal(parameters(extra_resources=[None, extra(), None, extra()]))
    assert error.message.startswith("kubernetes.extra_resources[3] is refused")
    assert "(index 1)" in error.message
