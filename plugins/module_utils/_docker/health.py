# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a container is ready, and waiting until it is."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.declaration import Health, Verification
from .._endpoint.http import Client
from .client import Docker, Info

_LOOK_S = 3.0


def asking(url: str, verification: Verification | None = None, **options: t.Any) -> Client:
    """Return a client for a container of this host, with the credentials of *verification*.

    Its certificate is not compared with the address: a container is asked where the Engine says that it is, while the
    certificate names what its users call it.
    """
    if verification is not None:
        shown = verification.credentials
        options = {
            **options,
            "headers": {**options.get("headers", {}), **shown.headers},
            "client_cert": shown.client_cert,
            "client_key": shown.client_key,
        }
    return Client(url, validate_certs=False, **options)


def probe(url: str, health: Health) -> str | None:
    """Ask once; return ``None`` if the endpoint is ready, else why not."""
    client = asking(url, timeout=health.timeout, headers={"connection": "close"})
    try:
        answer = client.request("GET", health.path)
    except ModelshipError as exc:
        return exc.message
    finally:
        client.close()
    if 200 <= answer.status < 300:
        return None
    return f"{url}{health.path} answered {answer.status} with {answer.beginning()}"


def ended(info: Info) -> str | None:
    """Return how a container ended, in words; ``None`` while it runs as it was started."""
    state = info["State"]
    if state.get("OOMKilled"):
        return "was killed because it reached its memory limit (raise limits.memory, or run fewer workers)"
    if state.get("Running") and not state.get("Restarting"):
        # The Engine forgets the exit code when it starts a container again.
        return "ended and was started again" if info.get("RestartCount") else None
    reason = state.get("Error")
    return f"ended with exit code {state.get('ExitCode')}" + (f" ({reason})" if reason else "")


def has_network(info: Info) -> bool:
    """Return whether a running container can be reached at all: it has an address, or the host's network."""
    networks = (info.get("NetworkSettings") or {}).get("Networks") or {}
    return "host" in networks or any(
        item.get("IPAddress") or item.get("GlobalIPv6Address") for item in networks.values() if item
    )


def wait_ready(docker: Docker, ident: str, name: str, url: str, health: Health, progress: Progress) -> None:
    """Wait until a container just started is ready.

    :raises ModelshipError: it ended, or is not ready within ``health.start_deadline`` seconds; the message has the
        reason and the last lines of its log, ``log`` has more of them.
    """
    start = time.monotonic()
    while True:
        info = docker.container(ident)
        how = ended(info)
        if how is not None:
            raise _failed(docker, ident, f"container {name} {_exit_of(docker, ident, how)}")
        why = probe(url, health)
        if why is None:
            return
        if not has_network(info):
            raise _failed(
                docker,
                ident,
                f"container {name} has no network, so that nobody can reach it: look at the Engine's networks",
            )
        waited = time.monotonic() - start
        if waited >= health.start_deadline:
            raise _failed(docker, ident, f"container {name} is not ready after {health.start_deadline:g} s: {why}")
        progress.live(
            f"waiting for {name} to be ready, {waited:.0f} of at most {health.start_deadline:g} s: {why}",
            at_most_every=1.0,
        )
        time.sleep(health.interval)


def _exit_of(docker: Docker, ident: str, how: str) -> str:
    """Look a little longer at a container that is started again and again, to see its exit code."""
    deadline = time.monotonic() + _LOOK_S
    while "exit code" not in how and "limit" not in how and time.monotonic() < deadline:
        time.sleep(0.02)
        try:
            how = ended(docker.container(ident)) or how
        except ModelshipError:  # what is known already is reported
            break
    return how


def _failed(docker: Docker, ident: str, what: str) -> ModelshipError:
    log, told = last_log_lines(docker, ident)
    return ModelshipError(f"{what}; {told}", kind="unhealthy", log=log)


def last_log_lines(docker: Docker, ident: str) -> tuple[list[str], str]:
    """Return the last lines of a container's log, and the end of an error message that quotes them.

    A log that cannot be read never hides the failure for whose sake it is read: the message says so instead.
    """
    try:
        log = docker.logs(ident).splitlines()
    except ModelshipError as exc:
        return [], f"its log cannot be read ({exc.message})"
    return log, f"its log ends: {' | '.join(log[-5:]) or '(empty)'}"
