# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user declares for target kubernetes alone, read from the module's parameters and judged."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from .._core.errors import ModelshipError
from .._core.values import texts, variables
from .._deployment.declaration import parse_size
from . import checks
from .arguments import KUBERNETES_OPTIONS
from .objects import Object


class Service(t.NamedTuple):
    """The stable address inside the cluster."""

    type: str
    port: int
    node_port: int | None
    annotations: dict[str, str]


class ServiceAccount(t.NamedTuple):
    """Who the pods are to the API server; without a ``name`` one of our own is made."""

    name: str | None
    annotations: dict[str, str]
    automount: bool


class Storage(t.NamedTuple):
    """A PersistentVolumeClaim and where it is mounted; ``size`` in bytes."""

    name: str
    size: int
    mount_path: str
    storage_class: str | None
    access_modes: tuple[str, ...]
    keep: bool


class Requests(t.NamedTuple):
    """What the scheduler reserves for one replica: bytes and cores."""

    memory: int | None
    cpus: float | None


class Gpus(t.NamedTuple):
    """Whole accelerators of one replica, by the name of the device plugin's resource."""

    number: int
    resource: str


class Autoscaling(t.NamedTuple):
    """Bounds of the number of replicas (``min`` ``None``: the declared replicas), and what it follows.

    ``max`` ``None``: somebody else's autoscaler decides, and none is made.
    """

    min: int | None
    max: int | None
    cpu_percent: int | None
    memory_percent: int | None
    metrics: list[Object]


class Budget(t.NamedTuple):
    """How many replicas, or which percentage, a drain of nodes must leave, or may take; exactly one is given."""

    min_available: int | str | None
    max_unavailable: int | str | None


class Peers(t.NamedTuple):
    """Who may send requests to the pods, and what the pods may reach (``egress`` ``None``: anything)."""

    sources: list[Object]
    egress: list[Object] | None


class Ingress(t.NamedTuple):
    """The address outside of the cluster, by an ingress controller."""

    host: str
    path: str
    class_name: str | None
    tls_secret: str | None
    annotations: dict[str, str]


class HttpRoute(t.NamedTuple):
    """The address outside of the cluster, by Gateways (``parents``: name, namespace, section, port)."""

    parents: list[dict[str, t.Any]]
    hostnames: list[str]
    path: str


class Monitor(t.NamedTuple):
    """How the Prometheus Operator scrapes the pods; ``enabled`` ``None``: where it is installed."""

    enabled: bool | None
    path: str
    interval: str | None
    labels: dict[str, str]


class RolloutOptions(t.NamedTuple):
    """How one revision replaces another; times in seconds."""

    deadline: int
    max_surge: int | str
    max_unavailable: int | str
    pre_stop_seconds: int
    history: int


@dataclasses.dataclass(frozen=True)
class KubernetesOptions:
    """The options of target kubernetes; see the module C(deployment) for their meanings."""

    namespace: str | None
    create_namespace: bool
    namespace_labels: dict[str, str]
    service: Service
    service_account: ServiceAccount
    secrets: dict[str, str]
    config_files: dict[str, str]
    secret_files: dict[str, str]
    storage: tuple[Storage, ...]
    requests: Requests
    gpus: Gpus | None
    node_selector: dict[str, str]
    tolerations: list[Object]
    affinity: Object | None
    priority_class: str | None
    topology_spread: list[Object] | None
    runtime_class: str | None
    image_pull_secrets: list[str]
    node_lost_seconds: int
    liveness_path: str | None
    autoscaling: Autoscaling | None
    disruption_budget: Budget | None
    network_policy: Peers | None
    ingress: Ingress | None
    http_route: HttpRoute | None
    service_monitor: Monitor
    rollout: RolloutOptions
    pod_annotations: dict[str, str]
    annotations: dict[str, str]
    extra_resources: list[Object]
    force: bool
    wait: bool

    @classmethod
    def from_parameters(cls, parameters: t.Mapping[str, t.Any]) -> KubernetesOptions:
        """Read the module's *parameters*; what they leave out has the argument spec's default.

        :raises ModelshipError: a value cannot be right, or belongs to another target; the message names the option.
        """
        _refuse_other_targets(parameters)
        namespace = parameters.get("namespace")
        given = _filled(KUBERNETES_OPTIONS["kubernetes"]["options"], parameters.get("kubernetes") or {})
        if namespace is not None:
            checks.dns_label(namespace, "namespace")
        if given["liveness_path"]:
            checks.url_path(given["liveness_path"], "kubernetes.liveness_path")
        checks.within(given["node_lost_seconds"], "kubernetes.node_lost_seconds", 0)
        read = {name: given[name] for name in _AS_GIVEN}
        for name, how in _READERS.items():
            read[name] = None if given[name] is None else how(given[name], f"kubernetes.{name}")
        return cls(namespace=namespace, **read)


def _refuse_other_targets(parameters: t.Mapping[str, t.Any]) -> None:
    """Refuse what would have no effect; the defaults of host_ip, port and restart_policy say nothing, and are let be."""
    limits = parameters.get("limits") or {}
    refused = {
        "proxy": (parameters.get("proxy"), "the Service stands in front of the pods"),
        "volumes": (
            parameters.get("volumes"),
            "use kubernetes.storage, kubernetes.config_files or kubernetes.secret_files",
        ),
        "cap_drop": (
            list(parameters.get("cap_drop", ["ALL"])) != ["ALL"],
            "pods never have capabilities (Pod Security restricted)",
        ),
        "no_new_privileges": (
            not parameters.get("no_new_privileges", True),
            "pods never gain privileges (Pod Security restricted)",
        ),
        "limits.pids": (limits.get("pids"), "the kubelet bounds the processes of a pod (podPidsLimit)"),
    }
    for option, (given, instead) in refused.items():
        if given:
            raise ModelshipError(f"{option} belongs to target docker: {instead}")
    name = parameters.get("name") or ""
    if name[:1].isdigit():
        raise ModelshipError(f"name '{name}' is refused: the name of a Kubernetes Service must begin with a letter")


def _filled(options: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return *given* with the defaults of the argument spec *options*, as AnsibleModule does where the parent is given."""
    values: dict[str, t.Any] = {}
    for name, spec in options.items():
        value = given.get(name)
        if value is None:
            value = {} if spec.get("apply_defaults") else copy.deepcopy(spec.get("default"))
        if value is not None and "options" in spec:
            inner = spec["options"]
            value = [_filled(inner, item) for item in value] if spec["type"] == "list" else _filled(inner, value)
        values[name] = value
    return values


def _service(given: dict[str, t.Any], option: str) -> Service:
    checks.within(given["port"], f"{option}.port", 1, 65535)
    if given["node_port"] is not None:
        checks.within(given["node_port"], f"{option}.node_port", 1, 65535)
        if given["type"] == "ClusterIP":
            raise ModelshipError(
                f"{option}.node_port {given['node_port']} needs {option}.type NodePort or LoadBalancer"
            )
    return Service(**_annotated(given, option))


def _service_account(given: dict[str, t.Any], option: str) -> ServiceAccount:
    if given["name"] and given["annotations"]:
        raise ModelshipError(
            f"{option}.annotations are for the deployment's own account: "
            f"leave out {option}.name '{given['name']}', which is not made by this module"
        )
    return ServiceAccount(**_annotated(given, option))


def _files(given: dict[str, t.Any], option: str) -> dict[str, str]:
    return {checks.mount_path(path, option): text for path, text in texts(given, option).items()}


def _storages(given: list[dict[str, t.Any]], option: str) -> tuple[Storage, ...]:
    storages: list[Storage] = []
    for index, item in enumerate(given):
        where = f"{option}[{index}]"
        checks.dns_label(item["name"], f"{where}.name", 40)
        if item["name"] in (other.name for other in storages):
            raise ModelshipError(f"{where}.name '{item['name']}' is given twice")
        if not item["access_modes"]:
            raise ModelshipError(f"{where}.access_modes is empty: leave it out for ReadWriteOnce")
        read = {
            "size": _size(item["size"], f"{where}.size"),
            "mount_path": checks.mount_path(item["mount_path"], f"{where}.mount_path"),
            "access_modes": tuple(item["access_modes"]),
        }
        storages.append(Storage(**{**item, **read}))
    return tuple(storages)


def _requests(given: dict[str, t.Any], option: str) -> Requests:
    memory = None if given["memory"] is None else _size(given["memory"], f"{option}.memory")
    return Requests(memory=memory, cpus=checks.cores(given["cpus"], f"{option}.cpus"))


def _gpus(given: dict[str, t.Any], option: str) -> Gpus:
    checks.within(given["count"], f"{option}.count", 1)
    if "/" not in given["resource"]:
        raise ModelshipError(f"{option}.resource '{given['resource']}' is no device plugin's: write nvidia.com/gpu")
    return Gpus(number=given["count"], resource=given["resource"])


def _autoscaling(given: dict[str, t.Any], option: str) -> Autoscaling:
    external = given.pop("external")
    if external and (ours := [name for name, value in given.items() if value not in (None, [])]):
        raise ModelshipError(
            f"{option}.{ours[0]} is for an autoscaler of the deployment's own: leave it out, or {option}.external"
        )
    if external:
        return Autoscaling(**given)
    if given["max"] is None:
        raise ModelshipError(f"{option}.max is missing: give it, or {option}.external where another autoscaler decides")
    for name in ("max", "min", "cpu_percent", "memory_percent"):
        if given[name] is not None:
            checks.within(given[name], f"{option}.{name}", 1)
    if given["cpu_percent"] is None and given["memory_percent"] is None and not given["metrics"]:
        given = {**given, "cpu_percent": 80}
    return Autoscaling(**given)


def _budget(given: dict[str, t.Any], option: str) -> Budget:
    read = {name: None if value is None else checks.number(value, f"{option}.{name}") for name, value in given.items()}
    if (read["min_available"] is None) == (read["max_unavailable"] is None):
        raise ModelshipError(f"{option} needs one of min_available and max_unavailable, and only one")
    return Budget(**read)


def _peers(given: dict[str, t.Any], _option: str) -> Peers:
    return Peers(sources=given["from"], egress=given["egress"])


def _ingress(given: dict[str, t.Any], option: str) -> Ingress:
    checks.url_path(given["path"], f"{option}.path")
    class_name = given.pop("class")
    return Ingress(class_name=class_name, **_annotated(given, option))


def _http_route(given: dict[str, t.Any], option: str) -> HttpRoute:
    checks.url_path(given["path"], f"{option}.path")
    if not given["parents"]:
        raise ModelshipError(f"{option}.parents is empty: name the Gateway that the route belongs to")
    return HttpRoute(**given)


def _monitor(given: dict[str, t.Any], option: str) -> Monitor:
    return Monitor(
        enabled={"auto": None, "true": True, "false": False}[given["enabled"]],
        path=checks.url_path(given["path"], f"{option}.path"),
        interval=checks.interval(given["interval"], f"{option}.interval"),
        labels=checks.label_texts(given["labels"], f"{option}.labels", own=True),
    )


def _rollout(given: dict[str, t.Any], option: str) -> RolloutOptions:
    least = {"deadline": 1, "pre_stop_seconds": 0, "history": 0}
    read: dict[str, t.Any] = {name: checks.within(given[name], f"{option}.{name}", low) for name, low in least.items()}
    for name in ("max_surge", "max_unavailable"):
        read[name] = checks.number(given[name], f"{option}.{name}")
    if read["max_surge"] in (0, "0%") and read["max_unavailable"] in (0, "0%"):
        raise ModelshipError(f"{option}.max_surge and {option}.max_unavailable are both 0: nothing could be replaced")
    return RolloutOptions(**read)


def _annotated(given: dict[str, t.Any], option: str) -> dict[str, t.Any]:
    return {**given, "annotations": checks.annotation_texts(given["annotations"], f"{option}.annotations")}


def _size(text: str, option: str) -> int:
    return checks.within(parse_size(text, option), option, 1)


_AS_GIVEN = (
    "create_namespace",
    "tolerations",
    "affinity",
    "priority_class",
    "topology_spread",
    "runtime_class",
    "image_pull_secrets",
    "node_lost_seconds",
    "liveness_path",
    "extra_resources",
    "force",
    "wait",
)

#: How the other options are read, called with the value and the option's name.
_READERS: dict[str, t.Callable[[t.Any, str], t.Any]] = {
    "namespace_labels": checks.label_texts,
    "service": _service,
    "service_account": _service_account,
    "secrets": variables,
    "config_files": _files,
    "secret_files": _files,
    "storage": _storages,
    "requests": _requests,
    "gpus": _gpus,
    "node_selector": checks.label_texts,
    "autoscaling": _autoscaling,
    "disruption_budget": _budget,
    "network_policy": _peers,
    "ingress": _ingress,
    "http_route": _http_route,
    "service_monitor": _monitor,
    "rollout": _rollout,
    "pod_annotations": checks.annotation_texts,
    "annotations": checks.annotation_texts,
}
