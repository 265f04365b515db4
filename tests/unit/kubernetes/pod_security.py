"""The controls of Pod Security's levels baseline and restricted, as the Pod Security Standards list them."""

from __future__ import annotations

import itertools
import typing as t

Object = dict[str, t.Any]

_VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)
_SELINUX = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
_SECCOMP = frozenset(("RuntimeDefault", "Localhost"))


def restricted_violations(pod: Object) -> list[str]:
    """Return what level restricted refuses in the pod spec *pod*, as ``control: what``."""
    return [
        f"{control}: {what}" for control, what in itertools.chain(_of_pod(pod), *map(_of_container, _containers(pod)))
    ]


def _containers(pod: Object) -> t.Iterator[tuple[Object, Object]]:
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(field) or []:
            yield pod, container


def _of_pod(pod: Object) -> t.Iterator[tuple[str, str]]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield "host namespaces", field
    for volume in pod.get("volumes") or []:
        if kinds := set(volume) - {"name"} - _VOLUMES:
            yield "volume types", ", ".join(kinds)
    context = pod.get("securityContext") or {}
    for sysctl in context.get("sysctls") or []:
        if sysctl["name"] not in _SYSCTLS:
            yield "sysctls", sysctl["name"]
    yield from _of_context("pod", context)


def _of_container(both: tuple[Object, Object]) -> t.Iterator[tuple[str, str]]:
    pod, container = both
    name = container["name"]
    shared, own = pod.get("securityContext") or {}, container.get("securityContext") or {}
    yield from _of_context(name, own)
    if own.get("privileged"):
        yield "privileged", name
    if own.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation", name
    capabilities = own.get("capabilities") or {}
    added = set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}
    if "ALL" not in (capabilities.get("drop") or []) or added:
        yield "capabilities", name
    if own.get("procMount", "Default") != "Default":
        yield "/proc mount", name
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "host ports", name
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for action in ("httpGet", "tcpSocket"):
            if ((container.get(probe) or {}).get(action) or {}).get("host"):
                yield "probe hosts", f"{name} {probe}"
    for hook in (container.get("lifecycle") or {}).values():
        if any((hook.get(action) or {}).get("host") for action in ("httpGet", "tcpSocket")):
            yield "probe hosts", f"{name} lifecycle"
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield "non-root", name
    if own.get("runAsUser", shared.get("runAsUser")) == 0 and shared.get("runAsUser") != 0:
        yield "root user", name
    seccomp = own.get("seccompProfile", shared.get("seccompProfile")) or {}
    if seccomp.get("type") not in _SECCOMP:
        yield "seccomp", name


def _of_context(where: str, context: Object) -> t.Iterator[tuple[str, str]]:
    """Yield what a pod's and a container's security context are judged by alike."""
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "HostProcess", where
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in _SECCOMP:
        yield "AppArmor", where
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX or selinux.get("user") or selinux.get("role"):
        yield "SELinux", where
    if where == "pod" and context.get("runAsUser") == 0:
        yield "root user", where
