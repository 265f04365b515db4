# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's specification: a flat dict that can be declared, read back from a live container, and compared."""

from __future__ import annotations

import json
import typing as t

from .._core.content import canonical_json, sha256_bytes
from .._core.redaction import redact_mapping
from .._deployment.declaration import TLS_FOLDER, Declaration, capability
from .client import Info

#: Labels on everything that this collection makes in a Docker Engine for a deployment.
DEPLOYMENT = "io.modelship.deployment"
ROLE = "io.modelship.role"
GENERATION = "io.modelship.generation"
SPEC = "io.modelship.spec"
DECLARED = "io.modelship.declared"

REPLICA, REHEARSAL, PROXY = "replica", "rehearsal", "proxy"

Spec = dict[str, t.Any]


def replica_spec(declaration: Declaration, network: str | None) -> Spec:
    """Return the specification of one replica.

    :param network: the network on which a proxy reaches it; ``None`` publishes its ports on the host instead.
    """
    https, grpc, limits = declaration.https, declaration.grpc_port, declaration.limits
    return {
        "image": declaration.image,
        "command": None,
        "environment": declaration.container_environment,
        "user": declaration.user,
        "read_only": declaration.read_only,
        "cap_drop": sorted(declaration.cap_drop),
        "cap_add": [],
        "no_new_privileges": declaration.no_new_privileges,
        "tmpfs": sorted(declaration.tmpfs),
        "volumes": sorted([*declaration.volumes, *([f"{https.folder}:{TLS_FOLDER}:ro"] if https else [])]),
        "restart_policy": declaration.restart_policy,
        "memory": limits.memory or None,
        "cpus": limits.cpus or None,
        "pids": limits.pids or None,
        "stop_seconds": declaration.drain_seconds,
        "stop_signal": None,
        "labels": dict(declaration.labels),
        "port": declaration.container_port,
        "grpc_port": grpc,
        "network": network,
        "userns": None,
        "published": None if network else f"{declaration.host_ip}:{declaration.port}",
        "published_grpc": f"{declaration.host_ip}:{grpc}" if grpc and not network else None,
    }


def spec_digest(spec: Spec) -> str:
    """Return the digest of a specification, secrets included."""
    return sha256_bytes(canonical_json(spec))


def shown(spec: Spec) -> Spec:
    """Return *spec* as it may be seen: secrets in the environment are replaced by stand-ins."""
    return {**spec, "environment": redact_mapping(spec["environment"])}


def environment_of(info: Info) -> dict[str, str]:
    """Return the environment of a live container, its image's variables included."""
    return dict(item.partition("=")[::2] for item in info["Config"].get("Env") or [])


def live_view(info: Info) -> Spec | None:
    """Return what a container of ours is now, as :func:`shown` gives it; ``None`` where its labels are unreadable.

    Taken from the live container, except what the Engine mixes with the image's own values (which variables and
    labels were declared, an image's own user and command): there the label tells what was declared.
    """
    config, host = info["Config"], info["HostConfig"]
    labels = config.get("Labels") or {}
    try:
        declared: Spec = json.loads(labels[DECLARED])
        environment = environment_of(info)
        kept = {name: environment[name] for name in declared["environment"] if name in environment}
        publish = declared["published"]
    except (KeyError, ValueError, TypeError):
        return None
    grpc = declared.get("grpc_port")
    networks = (info.get("NetworkSettings") or {}).get("Networks") or {}
    network = declared["network"] if declared["network"] in networks else host.get("NetworkMode")
    seconds = config.get("StopTimeout")
    return {
        "image": config["Image"],
        "command": None
        if declared["command"] is None
        else [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
        "environment": redact_mapping(kept),
        "user": None if declared["user"] is None else config.get("User"),
        "read_only": bool(host.get("ReadonlyRootfs")),
        "cap_drop": sorted(map(capability, host.get("CapDrop") or [])),
        "cap_add": sorted(map(capability, host.get("CapAdd") or [])),
        "no_new_privileges": "no-new-privileges" in " ".join(host.get("SecurityOpt") or []),
        "tmpfs": sorted(_joined(path, options) for path, options in (host.get("Tmpfs") or {}).items()),
        "volumes": sorted(host.get("Binds") or []),
        "restart_policy": (host.get("RestartPolicy") or {}).get("Name") or "no",
        "memory": host.get("Memory") or None,
        "cpus": host["NanoCpus"] / 1e9 if host.get("NanoCpus") else None,
        "pids": host["PidsLimit"] if (host.get("PidsLimit") or 0) > 0 else None,
        "stop_seconds": declared["stop_seconds"] if seconds is None else seconds,
        "stop_signal": None if declared["stop_signal"] is None else config.get("StopSignal"),
        "labels": {name: labels.get(name) for name in declared["labels"]},
        "port": declared["port"],
        "grpc_port": grpc,
        "network": None if publish else network,
        "userns": host.get("UsernsMode") or None,
        "published": _published(host, declared["port"]),
        "published_grpc": _published(host, grpc),
    }


def is_copy(info: Info) -> bool:
    """Return whether a container runs an image that somebody committed from a container of ours, and so has its labels only."""
    config = info["Config"]
    try:
        return bool(json.loads(config["Labels"][DECLARED])["image"] != config["Image"])
    except (KeyError, ValueError, TypeError):
        return False


def container_config(
    spec: Spec,
    *,
    name: str,
    role: str,
    generation: int,
    address: str | None = None,
    secret_environment: t.Mapping[str, str] | None = None,
) -> Info:
    """Return the Engine API configuration of a container made after *spec*.

    :param address: its fixed address in the spec's network.
    :param secret_environment: variables that are no part of the specification.
    """
    environment = {**spec["environment"], **(secret_environment or {})}
    host: Info = {
        "ReadonlyRootfs": spec["read_only"],
        "CapDrop": spec["cap_drop"],
        "CapAdd": spec["cap_add"],
        "SecurityOpt": ["no-new-privileges"] if spec["no_new_privileges"] else [],
        "Tmpfs": dict(item.partition(":")[::2] for item in spec["tmpfs"]),
        "Binds": spec["volumes"],
        "RestartPolicy": {"Name": spec["restart_policy"]},
    }
    if spec["memory"]:
        host["Memory"] = host["MemorySwap"] = spec["memory"]
    if spec["cpus"]:
        host["NanoCpus"] = round(spec["cpus"] * 1e9)
    if spec["pids"]:
        host["PidsLimit"] = spec["pids"]
    config: Info = {
        "Image": spec["image"],
        "Env": [f"{key}={value}" for key, value in sorted(environment.items())],
        "StopTimeout": spec["stop_seconds"],
        "Labels": {
            **spec["labels"],
            DEPLOYMENT: name,
            ROLE: role,
            GENERATION: str(generation),
            SPEC: spec_digest(spec),
            DECLARED: canonical_json(shown(spec)).decode().strip(),
        },
        "HostConfig": host,
    }
    for key, option in (("User", "user"), ("StopSignal", "stop_signal")):
        if spec[option] is not None:
            config[key] = spec[option]
    if spec["command"] is not None:
        config["Entrypoint"], config["Cmd"] = spec["command"][:1], spec["command"][1:]
    if spec["network"]:
        host["NetworkMode"] = spec["network"]
        if address:
            endpoint = {"IPAMConfig": {"IPv4Address": address}}
            config["NetworkingConfig"] = {"EndpointsConfig": {spec["network"]: endpoint}}
    if spec["userns"]:
        host["UsernsMode"] = spec["userns"]
    for key, published in (("port", "published"), ("grpc_port", "published_grpc")):
        if spec[published]:
            host_ip, _colon, host_port = spec[published].rpartition(":")
            port = f"{spec[key]}/tcp"
            config.setdefault("ExposedPorts", {})[port] = {}
            host.setdefault("PortBindings", {})[port] = [{"HostIp": host_ip, "HostPort": host_port}]
    return config


def _published(host: Info, port: int | None) -> str | None:
    bindings = (host.get("PortBindings") or {}).get(f"{port}/tcp") or []
    return f"{bindings[0].get('HostIp', '')}:{bindings[0].get('HostPort', '')}" if bindings else None


def _joined(path: str, options: str) -> str:
    return f"{path}:{options}" if options else path
