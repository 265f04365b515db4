# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs: processes told apart by more than their number, and who listens on a port. Source: proc(5)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import time
import typing as t

from .._core.process import START_TIME, STATE, boot_id, stat_fields

#: The state LISTEN in /proc/net/tcp (include/net/tcp_states.h).
_LISTEN = "0A"


@dataclasses.dataclass(frozen=True)
class Identity:
    """One process for good: numbers are reused, the number with its start time since one boot is not.

    :param pid: process number.
    :param start_time: clock ticks from boot to its start (field 22 of /proc/PID/stat).
    :param boot_id: the kernel's random name of this boot.
    """

    pid: int
    start_time: int
    boot_id: str


def identity(pid: int) -> Identity | None:
    """Return who *pid* is now, or ``None`` where no such process lives (a zombie does not live)."""
    try:
        fields = stat_fields(pid)
        boot = boot_id()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[STATE] in (b"Z", b"X"):
        return None
    return Identity(pid=pid, start_time=int(fields[START_TIME]), boot_id=boot)


def lives(who: Identity) -> bool:
    """Tell whether exactly this process still runs."""
    return identity(who.pid) == who


def send(who: Identity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; return whether it was there to take it.

    :raises PermissionError: it belongs to another user.
    """
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel or a sandbox without pidfd: the window for a reused number is then not quite closed
        if lives(who):
            with contextlib.suppress(ProcessLookupError):
                os.kill(who.pid, number)
                return True
        return False
    try:
        # The handle is held before the look, so what was looked at is what gets the signal.
        if not lives(who):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(who: Identity, seconds: float) -> bool:
    """Wait until the process has ended; return ``False`` if it still lives after *seconds*."""
    end = time.monotonic() + seconds
    while lives(who):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def executable_replaced(pid: int) -> bool:
    """Tell whether the file that *pid* runs was replaced on disk since it started, as a package upgrade does."""
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


def describe(pid: int) -> str:
    """Return ``name (pid N)`` of a process."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return f"{stream.read().strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}"


def unit(pid: int) -> str | None:
    """Return the system service of systemd that *pid* belongs to, by its control group; ``None`` for no service."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if found := re.search(r"/system\.slice/(?:.*/)?([^/]+\.service)$", line.strip()):
                return found[1]
    return None


def listener(port: int) -> int | None:
    """Return the process that listens on TCP *port*, or ``None`` where none does or it cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            folder = f"/proc/{pid}/fd"
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    if os.readlink(f"{folder}/{name}") in inodes:
                        return int(pid)
    return None


def _listening_inodes(port: int) -> t.Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as stream:
            next(stream, None)
            for line in stream:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def connects(host: str, port: int, seconds: float = 2.0) -> bool:
    """Tell whether something accepts TCP connections at *host*:*port*."""
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError:
        return False
    return True
