# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment has in the Engine now."""

from __future__ import annotations

import dataclasses
import datetime
import re
import time

from .._core.errors import ModelshipError
from .._deployment.declaration import Declaration
from . import proxy as proxies
from .client import Docker, Info, NotFoundError, probe_name
from .health import probe
from .spec import DEPLOYMENT, GENERATION, PROXY, ROLE, SPEC, Spec, is_copy, live_view

_RETRIES = 3


@dataclasses.dataclass
class Container:
    """A container of ours. ``view``: its specification as it is live; ``address``: its own in its network."""

    ident: str
    name: str
    role: str
    generation: int
    status: str
    digest: str
    view: Spec | None
    address: str | None
    info: Info
    not_ready: str | None = None

    @property
    def running(self) -> bool:
        """Whether it runs and is not paused."""
        return self.status == "running"


@dataclasses.dataclass
class Observed:
    """All that belongs to a deployment, and what else is needed to decide.

    :param probe: the network that a run killed while it looked for a subnet has left.
    :param config: text of the proxy's configuration file, ``None`` where there is no proxy.
    :param running_config: digest that the running proxy tells, ``None`` where it does not answer.
    :param others: containers (short forms) that are not ours.
    """

    replicas: list[Container] = dataclasses.field(default_factory=list)
    proxy: Container | None = None
    leftovers: list[Container] = dataclasses.field(default_factory=list)
    network: Info | None = None
    probe: Info | None = None
    volume: Info | None = None
    config: str | None = None
    running_config: str | None = None
    others: list[Info] = dataclasses.field(default_factory=list)

    @property
    def containers(self) -> list[Container]:
        """All containers of the deployment."""
        return [*self.replicas, *([self.proxy] if self.proxy else []), *self.leftovers]

    @property
    def generation(self) -> int:
        """The highest generation there is; 0 for none."""
        return max((container.generation for container in self.containers), default=0)


def observe(docker: Docker, name: str, *, strict: bool = True) -> Observed:
    """Look at everything that belongs to the deployment *name*.

    :param strict: complain about what has one of our names and is somebody else's; else it is overlooked.
    :raises ModelshipError: in strict mode, a container, network or volume of one of our names is somebody else's.
    """
    found = Observed()
    spares: list[Container] = []
    for short in docker.containers():
        names = [item.lstrip("/") for item in short.get("Names") or []]
        info = None
        if (short.get("Labels") or {}).get(DEPLOYMENT) == name:
            try:
                info = docker.container(short["Id"])
            except NotFoundError:  # removed meanwhile
                continue
        if info is None or is_copy(info):
            if strict:
                _refuse_foreign(name, names)
            found.others.append(short)
            continue
        container = _container(info)
        if container.role == PROXY:
            spares.append(container)
        elif container.role == "replica":
            found.replicas.append(container)
        else:
            found.leftovers.append(container)
    # A run broken off while it replaced the proxy leaves two, or one under the name of its generation.
    spares.sort(key=lambda item: (item.name == proxy_name(name), item.running, item.generation))
    found.proxy = spares.pop() if spares else None
    found.leftovers += spares
    found.replicas.sort(key=lambda item: (item.generation, item.name))
    found.network = _ours("network", docker.network(proxies.network_name(name)), name, strict)
    found.probe = _ours("network", docker.network(probe_name(proxies.network_name(name))), name, strict=False)
    found.volume = _ours("volume", docker.volume(proxies.volume_name(name)), name, strict)
    if found.proxy is not None:
        archive = docker.read(found.proxy.ident, f"{proxies.CONFIG_FOLDER}/{proxies.CONFIG_FILE}")
        found.config = proxies.unpacked(archive) if archive else ""
        bind = proxies.bind_of(found.config)
        if bind is not None and found.proxy.running:
            token = token_of(found.proxy)
            found.running_config = proxies.running_config(*bind, token) or proxies.running_config(*bind, token)
    return found


def ask_ready(replica: Container, declaration: Declaration, url: str) -> None:
    """Set ``not_ready`` of a running *replica*; one that has just started, or is busy, gets some time to answer."""
    started = age(replica.info)
    deadline = time.monotonic() + max(0.0, declaration.health.start_deadline - started)
    for attempt in range(1, 10_000):
        replica.not_ready = probe(url, declaration.health)
        if replica.not_ready is None or (attempt >= _RETRIES and time.monotonic() >= deadline):
            return
        time.sleep(declaration.health.interval)


def replica_url(replica: Container, declaration: Declaration) -> str | None:
    """Return the URL of one replica itself: its address in the proxy's network, or its published port."""
    if replica.view is not None and replica.view["published"]:
        return declaration.url
    return declaration.replica_url(replica.address) if replica.address else None


def proxy_name(name: str) -> str:
    """Return the name of the proxy's container."""
    return f"{name}-proxy"


def token_of(proxy: Container) -> str:
    """Return the word to which a proxy answers itself."""
    prefix = f"{proxies.TOKEN_VARIABLE}="
    return next((item[len(prefix) :] for item in proxy.info["Config"].get("Env") or [] if item.startswith(prefix)), "")


def _container(info: Info) -> Container:
    labels = info["Config"].get("Labels") or {}
    view = live_view(info)
    networks = (info.get("NetworkSettings") or {}).get("Networks") or {}
    endpoint = networks.get(view["network"]) if view and view["network"] else None
    address = ((endpoint or {}).get("IPAMConfig") or {}).get("IPv4Address")
    generation = labels.get(GENERATION, "0")
    return Container(
        ident=info["Id"],
        name=info["Name"].lstrip("/"),
        role=labels.get(ROLE, ""),
        generation=int(generation) if generation.isdigit() else 0,
        status=info["State"]["Status"],
        digest=labels.get(SPEC, ""),
        view=view,
        address=address,
        info=info,
    )


def _refuse_foreign(name: str, names: list[str]) -> None:
    ours = re.compile(rf"{name}|{name}-g\d+-(\d+|rehearsal)|{name}-proxy(-g\d+)?")
    for item in names:
        if ours.fullmatch(item):
            raise ModelshipError(
                f"container {item} was not made by this deployment: remove or rename it, or choose another name; "
                "nothing was changed",
                kind="foreign",
            )


def _ours(kind: str, info: Info | None, name: str, strict: bool) -> Info | None:
    if info is not None and (info.get("Labels") or {}).get(DEPLOYMENT) != name:
        if not strict:
            return None
        raise ModelshipError(
            f"{kind} {info['Name']} was not made by this deployment: remove it, or choose another name; "
            "nothing was changed",
            kind="foreign",
        )
    return info


def age(info: Info) -> float:
    """Seconds since a container started; infinity where it never did."""
    text = info["State"].get("StartedAt", "")[:19]
    try:
        started = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    except ValueError:
        return float("inf")
    return (datetime.datetime.now(datetime.UTC) - started).total_seconds()
