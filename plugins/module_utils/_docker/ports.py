# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ports of this host are free, and which deployment, container or process holds one that is not."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import typing as t

from .._core.errors import ModelshipError
from . import proxy as proxies
from .client import Docker, Info
from .spec import DEPLOYMENT, PROXY, ROLE

_LISTEN = "0A"


def check_free(
    host_ip: str,
    port: int,
    containers: t.Iterable[Info],
    docker: Docker | None = None,
    *,
    proxied: bool = False,
    own: t.Iterable[str] = (),
) -> None:
    """Make sure that *port* can be listened on at *host_ip*.

    :param containers: short forms, asked because a port published without a userland proxy has no listening process.
    :param docker: asked for the proxies' configurations, because a proxy is in the host's network and publishes nothing.
    :param proxied: whether a proxy is to listen. At C(::) it takes IPv4 addresses too, which a published port does not.
    :param own: addresses at which the deployment itself listens on *port*, and which it gives up for *host_ip*.
    :raises ModelshipError: kind C(port): it is taken (the message names the deployment, container or process that holds
        it, where that can be found). Kind C(input): the address is not one of this host's.
    """
    containers, dual = list(containers), proxied and host_ip == "::"
    for container in containers:
        for published in container.get("Ports") or []:
            if published.get("PublicPort") == port and _overlap(published.get("IP", ""), host_ip, dual=dual):
                raise _taken(host_ip, port, container)
    if any(_overlap(address, host_ip, dual=True) for address in own):
        return  # the deployment's own socket would be found
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without it, connections that ended a moment ago would count as somebody listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        try:
            probe.bind((host_ip, port))
            probe.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                proxy = _proxy_at(host_ip, port, containers, docker, dual) if docker else None
                raise _taken(host_ip, port, proxy or listener(port) or "another process") from exc
            if exc.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
                raise ModelshipError(f"host_ip {host_ip} is no address of this host: use one, or 127.0.0.1") from exc
            if exc.errno != errno.EACCES:  # a low port and no root: the Engine may listen there all the same
                raise ModelshipError(f"cannot listen on {host_ip}:{port}: {exc.strerror or exc}") from exc


def listener(port: int, proc: str = "/proc") -> str | None:
    """Return who listens on TCP *port*: name and process id, or ``None`` where that cannot be found."""
    inodes = _listening_inodes(port, proc)
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            handles = os.listdir(f"{proc}/{pid}/fd")
            if any(_target(f"{proc}/{pid}/fd/{handle}") in inodes for handle in handles):
                with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as stream:
                    return f"{stream.read().strip()} (process {pid})"
        except OSError:  # the process ended, or is another user's
            continue
    return None


def _listening_inodes(port: int, proc: str) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}", encoding="ascii") as stream:
                rows = stream.read().splitlines()[1:]
        except OSError:
            continue
        for row in map(str.split, rows):
            if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{row[9]}]")
    return inodes


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _overlap(one: str, other: str, *, dual: bool) -> bool:
    """Return whether two sockets at one port would conflict; C(dual): one at C(::) takes IPv4 addresses too."""
    if not one or not other:
        return True
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first.version == second.version:
        return first == second or first.is_unspecified or second.is_unspecified
    return dual and "::" in (one, other)


def _proxy_at(host_ip: str, port: int, containers: t.Iterable[Info], docker: Docker, dual: bool) -> Info | None:
    """Return the container (short form) of the deployment's proxy that listens there."""
    for container in containers:
        if (container.get("Labels") or {}).get(ROLE) != PROXY or container.get("State") != "running":
            continue
        try:
            archive = docker.read(container["Id"], f"{proxies.CONFIG_FOLDER}/{proxies.CONFIG_FILE}")
        except ModelshipError:  # it ended meanwhile; that the port is taken is reported anyway
            continue
        if any(
            port == bound and _overlap(host, host_ip, dual=dual or host == "::")
            for host, bound in proxies.binds_of(proxies.unpacked(archive or b""))
        ):
            return container
    return None


def _taken(host_ip: str, port: int, by: Info | str) -> ModelshipError:
    advice = "stop it, or choose another port"
    if not isinstance(by, str):
        name = (by.get("Names") or ["/?"])[0].lstrip("/")
        deployment = (by.get("Labels") or {}).get(DEPLOYMENT)
        by = f"the deployment {deployment} (container {name})" if deployment else f"the container {name}"
        if deployment:
            advice = f"choose another port, or remove {deployment} first (state: absent)"
    return ModelshipError(f"port {port} on {host_ip} is taken by {by}: {advice}; nothing was changed", kind="port")
