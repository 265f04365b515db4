# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a long module and shows its progress while it runs.

Each long module has an action plugin of its name that is this one; the module itself runs as always.
"""

from __future__ import annotations

import copy
import os
import shlex
import typing as t

from ansible import release
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.modelship.core.plugins.plugin_utils.live import Follower, end_with_parent, somebody_watches

#: Return values of a failure that its message already shows as a table, by ``error_kind``.
_IN_THE_MESSAGE = {
    "gate": ("evaluation", "gates", "release", "report", "table"),
    "golden": ("verdict",),
    "verify": ("verdict", "verified"),
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Any long module of the collection, with live progress."""

    _supports_check_mode = True
    _supports_async = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the task's module; its progress events are shown as they come."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._task.async_val:
            # nobody waits for an async task, so nobody reads its progress
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=True))
            return result
        end_with_parent()
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        path = self._connection._shell.join_path(self._connection._shell.tmpdir, "progress")
        arguments["_progress"] = path
        host = (task_vars or {}).get("inventory_hostname", "")
        with Follower(self._reader(path), lambda text: self._show(host, text), live=somebody_watches()):
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        self._shorten(result)
        return result

    def _shorten(self, result: dict[str, t.Any]) -> None:
        """Keep a failure's table readable: callbacks print the whole result, and the table must be its last lines.

        Return values that repeat the table are left out where no task can read them: without a rescue or always section,
        ``ignore_errors`` or ``until``. With ``-v`` they stay.
        """
        repeated = _IN_THE_MESSAGE.get(str(result.get("error_kind"))) if result.get("failed") else None
        if not repeated:
            return
        if _core_version() < (2, 19):  # later versions print the message as an error, before the result
            Display().display(str(result["msg"]), color="red")
        if Display().verbosity == 0 and not self._failure_is_read():
            for name in repeated:
                result.pop(name, None)

    def _failure_is_read(self) -> bool:
        """Whether later tasks, or the task's own conditions, can read the failed result."""
        task = self._task
        if task.ignore_errors or task.failed_when or task.until:
            return True
        parent = task._parent
        while parent is not None:
            if getattr(parent, "rescue", None) or getattr(parent, "always", None):
                return True
            parent = getattr(parent, "_parent", None)
        return False

    def _reader(self, path: str) -> t.Callable[[int], bytes]:
        if self._connection.transport in ("local", "ansible.builtin.local"):

            def read_local(offset: int) -> bytes:
                if not os.path.exists(path):
                    return b""
                with open(path, "rb") as stream:
                    stream.seek(offset)
                    return stream.read()

            return read_local

        # a copy, because the task's own connection object is in use by the thread that runs the module
        connection = copy.copy(self._connection)

        def read_remote(offset: int) -> bytes:
            command = f"tail -c +{offset + 1} {shlex.quote(path)} 2>/dev/null || true"
            _rc, out, _err = connection.exec_command(command, in_data=None, sudoable=False)
            return t.cast(bytes, out)

        return read_remote

    @staticmethod
    def _show(host: str, text: str) -> None:
        Display().display(f"{host}: {text}" if host not in ("", "localhost") else f"  {text}", color="bright gray")


def _core_version() -> tuple[int, ...]:
    return tuple(int(part) for part in release.__version__.split(".")[:2])
