# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a running module's progress file, and deciding who is watching."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import typing as t

#: How often the progress file is read, in seconds.
INTERVAL = 0.5


def somebody_watches() -> bool:
    """Tell whether a person watches a terminal.

    A worker process has no terminal of its own (ansible-core 2.19 detaches it), so the parent's standard output is
    asked. ``MODELSHIP_PROGRESS=live`` or ``=steps`` decides instead where it is set.
    """
    wanted = os.environ.get("MODELSHIP_PROGRESS")
    if wanted:
        return wanted == "live"
    for process in ("self", str(os.getppid())):
        try:
            if os.readlink(f"/proc/{process}/fd/1").startswith(("/dev/pts/", "/dev/tty")):
                return True
        except OSError:
            continue
    return False


def end_with_parent() -> None:
    """Have the kernel end this worker (SIGTERM) when ansible-playbook itself is killed (Linux, ``PR_SET_PDEATHSIG``).

    ansible-core 2.19 gives each worker a session of its own, so nothing else would end a training whose run is gone; the
    worker passes the signal on to its process group.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


class Follower:
    """Reads progress events from a growing file and hands their texts on, whole lines only.

    :param read: returns what the file holds from a byte offset on (empty where there is nothing yet).
    :param show: is called with each text.
    :param live: whether events meant for a person watching are shown too.
    """

    def __init__(self, read: t.Callable[[int], bytes], show: t.Callable[[str], None], *, live: bool) -> None:
        self._read = read
        self._show = show
        self._live = live
        self._offset = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.poll()

    def poll(self) -> None:
        """Show what has come since the last call. Progress is a courtesy: a failed read never fails the task."""
        try:
            data = self._read(self._offset)
        except Exception:  # noqa: BLE001 - connection plugins raise what they like
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                text, live = str(event["text"]), bool(event["live"])
            except (ValueError, KeyError, TypeError):
                continue
            if self._live or not live:
                self._show(text)

    def _follow(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.poll()
