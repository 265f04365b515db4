# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy in front of the replicas: HAProxy in the host's network, so that replacing a replica loses no request.

Its configuration is a file in a volume, so that it comes back as it was when the host restarts. A changed one is taken
over by HAProxy's own reload (SIGUSR2 to the master): the new worker inherits the listening socket, the old one
answers what it has begun and tells idle connections to close at their next answer (C(idle-close-on-response)). See the
HAProxy configuration manual, "3.2. Performance tuning" and "master-worker".
"""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
import typing as t

from .._core.content import canonical_json, sha256_bytes
from .._core.errors import ModelshipError
from .._deployment.declaration import Declaration, Limits
from .._endpoint.http import Client
from .spec import Spec

CONFIG_FOLDER = "/etc/modelship-proxy"
CONFIG_FILE = "haproxy.cfg"
TOKEN_VARIABLE = "MODELSHIP_PROXY_TOKEN"  # noqa: S105 - the variable's name
_TOKEN_HEADER = "x-modelship-proxy"  # noqa: S105 - the header's name
_BIND = re.compile(r"^  bind (\S+):(\d+)$", re.MULTILINE)
_GRPC_BIND = re.compile(r"^  bind (\S+):(\d+) proto h2$", re.MULTILINE)
_CHECK = re.compile(r"^  http-check send meth GET uri (\S+) ", re.MULTILINE)
_SERVER = re.compile(r"^  server (\S+) ([0-9.]+):\d+$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class ProxyOptions:
    """Options of the proxy.

    :param image: by digest.
    :param timeout: seconds of silence after which a request is given up.
    :param limits: of its container, those in effect.
    """

    image: str
    timeout: int = 60
    limits: Limits = dataclasses.field(default_factory=Limits)


@dataclasses.dataclass(frozen=True)
class ProxyConfig:
    """A rendered configuration and the digest by which the running proxy tells which one it has."""

    text: str
    digest: str


def proxy_spec(options: ProxyOptions, declaration: Declaration) -> Spec:
    """Return the specification of the proxy's container."""
    privileged = min(declaration.published) < 1024
    return {
        "image": options.image,
        "command": ["haproxy", "-W", "-db", "-f", f"{CONFIG_FOLDER}/{CONFIG_FILE}"],
        "environment": {},
        # A low port needs a capability, which the kernel gives only to root.
        "user": "0:0" if privileged else "65532:65532",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["NET_BIND_SERVICE"] if privileged else [],
        "no_new_privileges": True,
        "tmpfs": [],
        "volumes": [f"{volume_name(declaration.name)}:{CONFIG_FOLDER}"],
        # Engines before 23 take any signal sent to a container, the reload's too, for a wish to have it stopped, and
        # then do not bring an unless-stopped one back after a crash or a restart of the host.
        "restart_policy": "always" if declaration.restart_policy == "unless-stopped" else declaration.restart_policy,
        "memory": options.limits.memory or None,
        "cpus": options.limits.cpus or None,
        "pids": options.limits.pids or None,
        "stop_seconds": declaration.drain_seconds + 1,
        "stop_signal": "SIGUSR1",  # finish what was begun, then end; SIGTERM would cut requests
        "labels": {},
        "port": None,  # the configuration says it, so that another one needs no other container
        "grpc_port": None,
        "network": "host",
        # An Engine with userns-remap shares the host's network only with containers in the host's user namespace.
        "userns": "host",
        "published": None,
        "published_grpc": None,
    }


def network_name(name: str) -> str:
    """Return the name of the network of the deployment *name*."""
    return f"modelship-{name}"


def volume_name(name: str) -> str:
    """Return the name of the volume with the proxy's configuration."""
    return f"modelship-{name}-proxy"


def render(declaration: Declaration, options: ProxyOptions, servers: t.Mapping[str, str]) -> ProxyConfig:
    """Return HAProxy's configuration.

    :param servers: address by replica name.
    """
    health = declaration.health
    lines = [
        "# Written by modelship.core.deployment; changes are overwritten.",
        "global",
        "  maxconn 8000",
        # Where the file limit cannot be raised, fewer connections are better than none.
        "  no strict-limits",
        f"  hard-stop-after {max(declaration.drain_seconds, 1)}s",
        "  log stdout format raw daemon notice",
        "defaults",
        "  mode http",
        "  log global",
        "  option dontlognull",
        "  option forwardfor",
        "  option redispatch",
        "  retries 3",
        "  timeout connect 2s",
        "  timeout http-request 30s",
        "  timeout http-keep-alive 60s",
        f"  timeout queue {options.timeout}s",
        f"  timeout client {options.timeout}s",
        f"  timeout server {options.timeout}s",
        "  timeout tunnel 1h",
        "frontend public",
        f"  bind {declaration.host_ip}:{declaration.port}",
        "  option idle-close-on-response",
        f'  acl asks_proxy req.hdr({_TOKEN_HEADER}) -m str "${{{TOKEN_VARIABLE}}}"',
        "  http-request return status 200 content-type text/plain string @DIGEST@ if asks_proxy",
        "  default_backend replicas",
        "backend replicas",
        "  balance leastconn",
        "  option httpchk",
        f"  http-check send meth GET uri {health.path} ver HTTP/1.1 hdr Host {declaration.name}",
        "  http-check expect status 200-299",
        f"  timeout check {max(int(health.timeout * 1000), 100)}ms",
        "  default-server check inter 1s fall 3 rise 1",
    ]
    lines += [f"  server {name} {address}:{declaration.container_port}" for name, address in sorted(servers.items())]
    if declaration.grpc_port:
        lines += _grpc(declaration, servers)
    template = "\n".join(lines) + "\n"
    digest = sha256_bytes(canonical_json(template))
    return ProxyConfig(template.replace("@DIGEST@", digest), digest)


def _grpc(declaration: Declaration, servers: t.Mapping[str, str]) -> list[str]:
    """Return frontend and backend of gRPC: HTTP/2 without TLS on both sides. Health is that of the HTTP backend's servers."""
    port = declaration.grpc_port
    return [
        "frontend grpc",
        f"  bind {declaration.host_ip}:{port} proto h2",
        "  default_backend grpc_replicas",
        "backend grpc_replicas",
        "  balance leastconn",
        *(
            f"  server {name} {address}:{port} proto h2 track replicas/{name}"
            for name, address in sorted(servers.items())
        ),
    ]


def servers_of(text: str) -> dict[str, str]:
    """Return the address by replica name that a configuration routes to."""
    return dict(_SERVER.findall(text))


def bind_of(text: str) -> tuple[str, int] | None:
    """Return the address and port that a configuration listens on."""
    found = _BIND.search(text)
    return (found[1], int(found[2])) if found else None


def binds_of(text: str) -> list[tuple[str, int]]:
    """Return all addresses and ports that a configuration listens on, that of HTTP first."""
    return [(host, int(port)) for pattern in (_BIND, _GRPC_BIND) for host, port in pattern.findall(text)]


def check_path_of(text: str) -> str | None:
    """Return the path by which a configuration has replicas asked whether they are ready."""
    found = _CHECK.search(text)
    return found[1] if found else None


def packed(text: str) -> bytes:
    """Return a tar archive with the configuration file, readable by any user."""
    data = text.encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(CONFIG_FILE)
        member.size, member.mode = len(data), 0o644
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpacked(archive: bytes) -> str:
    """Return the file's text in a tar archive; empty where it holds none."""
    if not archive:
        return ""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                return stream.read().decode("utf-8", "replace")
    return ""


def running_config(host: str, port: int, token: str, avoid: t.Collection[str] = ()) -> str | None:
    """Ask the running proxy which configuration it has; ``None`` where it does not answer.

    :param avoid: addresses at which another proxy listens at the same port, which would answer instead of one that listens at
        all addresses.
    """
    own = {"0.0.0.0": ("127.0.0.1", "127.0.0.2"), "::": ("::1", "127.0.0.2")}.get(host, (host,))  # noqa: S104
    address = next((item for item in own if item not in avoid), own[0])
    address = f"[{address}]" if ":" in address else address
    client = Client(f"http://{address}:{port}", timeout=2.0, headers={_TOKEN_HEADER: token, "connection": "close"})
    try:
        answer = client.request("GET", "/")
    except ModelshipError:
        return None
    finally:
        client.close()
    text = answer.body[:100].decode("ascii", "replace").strip()
    return text if answer.status == 200 and text.startswith("sha256:") else None
