# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live progress of the module of the same name, which is packed without collecting garbage."""

from __future__ import annotations

import gc
import typing as t

from ansible_collections.modelship.core.plugins.plugin_utils import live_action


class ActionModule(live_action.ActionModule):
    """Runs the module, whose many files are parsed to find their imports.

    Each collection of garbage on the way walks through all that ansible-playbook holds, and finds none: a quarter of the time.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the task's module; its progress events are shown as they come."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().run(tmp, task_vars)
        finally:
            if collects:
                gc.enable()
