# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells of a process (proc(5)), for telling it from a later one of the same number."""

from __future__ import annotations

#: Of what :func:`stat_fields` returns: the state, and the clock ticks from boot to the start.
STATE, START_TIME = 0, 19


def stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third (the state) on.

    The name in field 2 may hold anything, even spaces and brackets, so they are counted from the last bracket.

    :raises OSError: there is no such process, or no /proc.
    """
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()


def boot_id() -> str:
    """Return the kernel's random name of this boot.

    :raises OSError: there is no /proc.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
