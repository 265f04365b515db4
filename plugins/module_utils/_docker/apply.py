# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying a plan out, in an order in which a failure or a kill leaves what served before serving."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import itertools
import secrets
import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.declaration import Declaration
from .._endpoint.golden import load_release
from .._endpoint.verify import Request, failure_text, verify
from . import proxy as proxies
from .client import Docker
from .health import asking, ended, last_log_lines, wait_ready
from .observe import Container, Observed, proxy_name, token_of
from .plan import Plan
from .spec import DEPLOYMENT, PROXY, REHEARSAL, REPLICA, ROLE, Spec, container_config

_PROXY_DEADLINE_S = 15.0
#: A replica that gets no requests any more needs no longer than this to end by itself.
_IDLE_STOP_S = 3
#: Offset in the subnet of the first address to use; the Engine gives others the lowest ones.
_FIRST_ADDRESS = 16
#: How many addresses of a large subnet are considered.
_MOST_ADDRESSES = 1 << 20


class Run:
    """One run of a plan. Until the switch every failure is rolled back; after it only old containers are left to remove."""

    def __init__(
        self,
        docker: Docker,
        declaration: Declaration,
        options: proxies.ProxyOptions | None,
        observed: Observed,
        plan: Plan,
        progress: Progress,
    ) -> None:
        self.docker = docker
        self.declaration = declaration
        self.options = options
        self.observed = observed
        self.plan = plan
        self.progress = progress
        self._created: list[str] = []
        self._made: list[t.Callable[[], None]] = []
        self._stopped: list[Container] = []
        self._switched = False

    def perform(self) -> None:
        """Do it.

        :raises ModelshipError: it failed; new containers are gone again, and what served before does.
        """
        if self.plan.create:
            if self.declaration.verification is not None:
                load_release(
                    self.declaration.verification.release
                )  # a golden set that cannot be read costs nothing here
            self.docker.pull(self.declaration.image, self.progress)
        try:
            if self.options is not None:
                self._with_proxy(self.options)
            else:
                self._without_proxy()
        except BaseException as exc:
            if not self._switched:
                self._undo(exc)
            raise
        for container in self.plan.remove:
            self.progress.live(f"stopping {container.name}")
            self.docker.stop(container.ident, self._patience(container))
            self.docker.remove(container.ident)
        if self.options is None and self.observed.network is not None:
            self.docker.remove_network(proxies.network_name(self.declaration.name))
        if self.options is None and self.observed.volume is not None:
            self.docker.remove_volume(proxies.volume_name(self.declaration.name))

    def _patience(self, container: Container) -> int:
        """Seconds to end in: none of its requests are open any more where the proxy was told to drain it."""
        return _IDLE_STOP_S if container.role == REPLICA and self.options else self.declaration.drain_seconds + 1

    def _undo(self, exc: BaseException) -> None:
        """Roll back as much as can be; *exc* stays the reason of the failure, whatever else fails now."""
        back = self._stopped or self._fallback()
        steps: list[t.Callable[[], None]] = [
            *(functools.partial(self.docker.remove, ident) for ident in reversed(self._created)),
            *(functools.partial(self.docker.start, container.ident) for container in back),
            *reversed(self._made),
        ]
        if _attempt(exc, *steps) and isinstance(exc, ModelshipError) and self.observed.replicas:
            serving = ", ".join(item.name for item in [*self.plan.keep, *self.plan.remove] if item.running)
            if back:
                serving = ", ".join(item.name for item in back)
            _add(exc, f"{serving or 'nothing'} stays in service, the new container was removed")

    def _fallback(self) -> list[Container]:
        """A run killed between stopping the old container and trusting the new one left the old one stopped."""
        if self.options is not None or any(item.running for item in self.observed.replicas):
            return []
        stopped = [item for item in self.observed.replicas if item.status == "exited"]
        return stopped[-1:]

    # -- without a proxy: one container after the other ---------------------------------------------------------------

    def _without_proxy(self) -> None:
        serving = [item for item in self.plan.remove if item.running and item.role == REPLICA]
        proxy = self.observed.proxy
        rehearse = bool(self.plan.create and serving)
        if rehearse:
            self._rehearse()
        new = [self._create(name, None) for name in self.plan.create]
        for container in [*([proxy] if proxy else []), *serving]:
            self.progress.step(f"stopping {container.name}")
            self._stopped.append(container)
            self.docker.stop(container.ident, self.declaration.drain_seconds)
        for name, ident in zip(self.plan.create, new, strict=True):
            self.docker.start(ident)
            self._wait(ident, name, self.declaration.url, golden=not rehearse)
        if proxy is not None:
            self.docker.remove(proxy.ident)

    def _rehearse(self) -> None:
        """Start the new container without its port first, so that one that cannot run costs no downtime."""
        name = f"{self.declaration.name}-g{self.plan.generation}-rehearsal"
        self.progress.step(f"trying {name} beside the one that serves")
        spec: Spec = {**self.plan.spec, "published": None, "published_grpc": None, "network": "bridge"}
        ident = self._create(name, None, spec=spec, role=REHEARSAL)
        self.docker.start(ident)
        networks = self.docker.container(ident)["NetworkSettings"]["Networks"]
        address = networks["bridge"]["IPAddress"]
        self._wait(ident, name, self.declaration.replica_url(address), golden=True)
        self.docker.stop(ident, _IDLE_STOP_S)
        self.docker.remove(ident)
        self._created.remove(ident)

    # -- with a proxy: the new ones beside the old ones, then a switch ------------------------------------------------

    def _with_proxy(self, options: proxies.ProxyOptions) -> None:
        name = self.declaration.name
        if self.plan.proxy in ("create", "replace"):
            self.docker.pull(options.image, self.progress)
        labels = {DEPLOYMENT: name, ROLE: "network"}
        if self.plan.network or self.observed.network is None:
            self.observed.network = self.docker.create_network(proxies.network_name(name), labels)
            self._made.append(functools.partial(self.docker.remove_network, proxies.network_name(name)))
        servers = {item.name: item.address or "" for item in self.plan.keep}
        started = {}
        for replica, address in zip(self.plan.create, self._addresses(), strict=True):
            ident = self._create(replica, address)
            self.docker.start(ident)
            started[replica] = ident
            servers[replica] = address
        for replica, ident in started.items():
            self._wait(ident, replica, self.declaration.replica_url(servers[replica]), golden=True)
        config = proxies.render(self.declaration, options, servers)
        if self.plan.proxy in ("create", "replace"):
            self._new_proxy(config)
        else:
            self._reload(config)
        if self.plan.proxy == "rename" and self.observed.proxy is not None:
            self.docker.rename(self.observed.proxy.ident, proxy_name(name))

    def _addresses(self) -> list[str]:
        """Return free addresses of the network for the replicas to create.

        :raises ModelshipError: it has too few.
        """
        network = self.observed.network or {}
        pool = network["IPAM"]["Config"][0]
        taken = {item.address for item in self.observed.containers} | {pool.get("Gateway")}
        # also those of containers that others have connected to it
        taken |= {
            (item.get("IPv4Address") or "").partition("/")[0] for item in (network.get("Containers") or {}).values()
        }
        subnet, needed = ipaddress.ip_network(pool["Subnet"]), len(self.plan.create)

        def free(numbers: range) -> t.Iterator[str]:
            return (address for number in numbers if (address := str(subnet[number])) not in taken)

        last = min(subnet.num_addresses - 1, _MOST_ADDRESSES)  # without that of broadcasts
        first = min(_FIRST_ADDRESS, last)
        found = list(itertools.islice(itertools.chain(free(range(first, last)), free(range(1, first))), needed))
        if len(found) < needed:
            raise ModelshipError(
                f"network {network.get('Name')} ({subnet}) has {len(found)} free addresses, and {needed} new replicas need one "
                "each beside those that they replace: set fewer replicas, or larger default-address-pools in the Engine's "
                f"daemon.json and remove {self.declaration.name} first (state: absent)",
                kind="docker",
            )
        return found

    def _new_proxy(self, config: proxies.ProxyConfig) -> None:
        name, spec, old = self.declaration.name, self.plan.proxy_spec or {}, self.observed.proxy
        self.docker.create_volume(proxies.volume_name(name), {DEPLOYMENT: name, ROLE: "proxy"})
        if self.observed.volume is None:
            self._made.append(functools.partial(self.docker.remove_volume, proxies.volume_name(name)))
        temporary = f"{proxy_name(name)}-g{self.plan.generation}"
        token = secrets.token_hex(16)
        ident = self.docker.create(
            temporary,
            container_config(
                spec,
                name=name,
                role=PROXY,
                generation=self.plan.generation,
                secret_environment={proxies.TOKEN_VARIABLE: token},
            ),
        )
        self._created.append(ident)
        # The port is passed on: from containers that published it themselves, or from a proxy that serves no more.
        for container in self.plan.remove:
            if container.running and container.view and container.view["published"]:
                self._stopped.append(container)
                self.docker.stop(container.ident, self.declaration.drain_seconds)
        if old is not None and self.observed.running_config is None:
            self.docker.remove(old.ident)
            old = None
        before = self.observed.config
        self.docker.write(ident, proxies.CONFIG_FOLDER, proxies.packed(config.text))
        try:
            self.docker.start(ident)
            self._wait_proxy(
                ident, token, config, [host for host, _port in proxies.binds_of(before or "")] if old else ()
            )
        except BaseException as exc:
            if before and old is not None:  # a restart of the old one must find its own configuration
                own = proxies.packed(before)
                _attempt(exc, functools.partial(self.docker.write, old.ident, proxies.CONFIG_FOLDER, own))
            raise
        self._switched = True
        if old is not None:
            self.progress.step(f"draining {old.name}")
            self.docker.stop(old.ident, self.declaration.drain_seconds + 1)
            self.docker.remove(old.ident)
        self.docker.rename(ident, proxy_name(name))

    def _reload(self, config: proxies.ProxyConfig) -> None:
        proxy, before = self.observed.proxy, self.observed.config
        if proxy is None:
            raise AssertionError("a plan reloads only a proxy that exists")
        self.progress.step(f"switching {proxy.name} to {', '.join(sorted(proxies.servers_of(config.text)))}")
        self.docker.write(proxy.ident, proxies.CONFIG_FOLDER, proxies.packed(config.text))
        try:
            self.docker.signal(proxy.ident, "SIGUSR2")
            self._wait_proxy(proxy.ident, token_of(proxy), config)
        except BaseException as exc:
            own = proxies.packed(before or "")
            _attempt(
                exc,
                functools.partial(self.docker.write, proxy.ident, proxies.CONFIG_FOLDER, own),
                functools.partial(self.docker.signal, proxy.ident, "SIGUSR2"),
            )
            raise
        self._switched = True
        if self.plan.remove:
            self._drain(proxy)

    def _drain(self, proxy: Container) -> None:
        """Wait until the proxy's former worker has answered all it had begun."""
        start = time.monotonic()
        limit = self.declaration.drain_seconds + 1
        while (waited := time.monotonic() - start) < limit:
            if self.docker.children(proxy.ident, int(proxy.info["State"]["Pid"])) == 1:
                return
            self.progress.live(
                f"waiting for open connections of the old replicas, {waited:.0f} of at most {limit} s",
                at_most_every=1.0,
            )
            time.sleep(0.1)

    def _wait_proxy(self, ident: str, token: str, config: proxies.ProxyConfig, avoid: t.Collection[str] = ()) -> None:
        deadline = time.monotonic() + _PROXY_DEADLINE_S
        host, port = self.declaration.host_ip, self.declaration.port
        while proxies.running_config(host, port, token, avoid) != config.digest:
            how = ended(self.docker.container(ident))
            if how is not None or time.monotonic() >= deadline:
                log, told = last_log_lines(self.docker, ident)
                what = how or "did not accept its configuration"
                raise ModelshipError(f"the proxy {what}; {told}", kind="proxy", log=log)
            time.sleep(0.05)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _create(self, name: str, address: str | None, *, spec: Spec | None = None, role: str = REPLICA) -> str:
        self.progress.step(f"creating {name}")
        config = container_config(
            spec or self.plan.spec,
            name=self.declaration.name,
            role=role,
            generation=self.plan.generation,
            address=address,
        )
        ident = self.docker.create(name, config)
        self._created.append(ident)
        return ident

    def _wait(self, ident: str, name: str, url: str, *, golden: bool) -> None:
        wait_ready(self.docker, ident, name, url, self.declaration.health, self.progress)
        wanted = self.declaration.verification
        if golden and wanted is not None:
            release = load_release(wanted.release)
            with contextlib.closing(asking(url, wanted)) as client:
                verdict = verify(
                    client,
                    Request(
                        golden=release,
                        protocol=wanted.protocol,
                        requests=0,
                        ready_path=self.declaration.health.path,
                        wait_s=self.declaration.health.start_deadline,
                    ),
                    self.progress,
                )
            if not verdict["ok"]:
                raise ModelshipError(failure_text(verdict), kind="golden", verdict=verdict)
        self.progress.step(f"{name} is ready")


def _attempt(exc: BaseException, *steps: t.Callable[[], None]) -> bool:
    """Do all *steps* of a roll back; return whether all succeeded. What fails is added to *exc*, and hides it never."""
    failures = []
    for step in steps:
        try:
            step()
        except ModelshipError as second:
            failures.append(second.message)
    if failures:
        _add(exc, f"rolling back failed too: {'; '.join(failures)}")
    return not failures


def _add(exc: BaseException, words: str) -> None:
    if isinstance(exc, ModelshipError):
        exc.message += f"; {words}"
        exc.args = (exc.message,)
    else:
        exc.add_note(words)


def remove_all(docker: Docker, name: str, observed: Observed, progress: Progress) -> None:
    """Remove all that belongs to a deployment: the proxy first, so that nothing is routed to what goes."""
    proxy = observed.proxy
    for container in [*([proxy] if proxy else []), *observed.replicas, *observed.leftovers]:
        progress.step(f"removing {container.name}")
        own = container.info["Config"].get("StopTimeout")
        drained = proxy is not None and container is not proxy
        docker.stop(container.ident, _IDLE_STOP_S if drained else 10 if own is None else own)
        docker.remove(container.ident)
    for network in (observed.network, observed.probe):
        if network is not None:
            docker.remove_network(network["Name"])
    if observed.volume is not None:
        docker.remove_volume(proxies.volume_name(name))
