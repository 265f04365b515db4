# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits of containers: the defaults, and what an Engine can enforce."""

from __future__ import annotations

import dataclasses

from .._core.errors import ModelshipError
from .._deployment.declaration import Limits
from .client import Info

#: Defaults of one worker of a replica: room for large models, and an end to a leak before the host is out of memory.
_WORKER = Limits(memory=2 << 30, pids=1024)
#: Defaults of the proxy: 8,000 connections with their buffers, and the threads of several workers during reloads.
_PROXY = Limits(memory=1 << 30, pids=1024)
#: The smallest limits that an Engine accepts.
_LEAST_MEMORY, _LEAST_CPUS = 6 << 20, 0.01
#: What Linux takes at most as pids.max of a control group (PID_MAX_LIMIT).
_MOST_PIDS = 1 << 22
#: Keys of the Engine's C(info) that are false where the host's cgroups do not have what a limit needs.
_NEEDS = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}


def replica_limits(given: Limits, workers: int, engine: Info) -> Limits:
    """Return the limits of one replica: those that are declared, else the defaults for so many *workers*.

    :param engine: C(info) of the Engine; a default that it cannot enforce is left out.
    :raises ModelshipError: a declared limit is less than Docker accepts, or the Engine cannot enforce it.
    """
    defaults = Limits(memory=(_WORKER.memory or 0) * workers, pids=min((_WORKER.pids or 0) * workers, _MOST_PIDS))
    return _effective(given, defaults, engine, "limits")


def proxy_limits(given: Limits, engine: Info) -> Limits:
    """Return the limits of the proxy; see :func:`replica_limits`."""
    return _effective(given, _PROXY, engine, "proxy.limits")


def _effective(given: Limits, defaults: Limits, engine: Info, option: str) -> Limits:
    if given.memory and given.memory < _LEAST_MEMORY:
        raise ModelshipError(
            f"{option}.memory {given.memory} bytes is refused: Docker accepts at least 6m, or 0 for none"
        )
    if given.cpus and given.cpus < _LEAST_CPUS:
        raise ModelshipError(
            f"{option}.cpus {given.cpus:g} is refused: Docker accepts at least 0.01, or 0 for no limit"
        )
    if given.pids and given.pids > _MOST_PIDS:
        raise ModelshipError(
            f"{option}.pids {given.pids} is refused: Linux has at most {_MOST_PIDS} processes, or 0 for no limit"
        )
    cores = engine.get("NCPU")
    if given.cpus and cores and given.cpus > cores:
        raise ModelshipError(f"{option}.cpus {given.cpus:g} is refused: the Engine's host has {cores} cores")
    found = {}
    for name, key in _NEEDS.items():
        supported = engine.get(key, True)
        declared = getattr(given, name)
        if declared and not supported:
            raise ModelshipError(
                f"{option}.{name} {declared:g} cannot be enforced: the Engine's host has no control group for it; enable "
                f"it (memory: the kernel parameter cgroup_enable=memory), or set {option}.{name} to 0",
                kind="environment",
            )
        value = getattr(defaults, name) if declared is None else declared
        found[name] = value or None if supported else None
    return dataclasses.replace(given, **found)
