# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live progress of the module of the same name."""

from __future__ import annotations

from ansible_collections.modelship.core.plugins.plugin_utils.live_action import ActionModule

__all__ = ["ActionModule"]
